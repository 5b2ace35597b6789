"""innerloop beside learn2learn, higher, TorchOpt and JAX: python scripts/benchmark.py [--quick] [--device cuda] [--output FILE] [...]

Each contender runs in a process of its own (benchmark_contenders.py). Before any time is taken, its outer gradient in float64 must equal
learn2learn's to 1e-9. Then the contenders take turns, one block of steps each, round after round, so that a slow minute of the machine hits
all of them; a ratio is taken within a round, and its median and range over the rounds are shown. higher, TorchOpt and JAX take part where
they are installed (uv pip install higher torchopt jax). Writes a JSON file, and prints its tables.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_contenders import ROOT, WORKLOADS, contenders

TOLERANCE = 1e-9
QUICK = ["W1", "W2"]
LOOP = ["outer_steps=1000000", "val_every=1000000", "~callbacks.checkpoint"]


class Process:
    """A contender, waiting for its turn."""

    def __init__(self, command: list[str], log: Path) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # JAX leaves others room on a GPU
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("w"), text=True, env=environment
        )

    def read(self) -> dict[str, Any]:
        """The next JSON line that it prints; what else it prints is passed over."""
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self._process.args[1:])} ended early: {self.log.read_text().strip().splitlines()[-1:]}")  # type: ignore

    def turn(self) -> dict[str, Any]:
        assert self._process.stdin
        print("go", file=self._process.stdin, flush=True)
        return self.read()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def gradient_error(folder: Path, name: str, reference: str) -> float:
    """Largest difference between two outer gradients, relative to the largest entry of the reference's."""
    with np.load(folder / f"{name}.npz") as got, np.load(folder / f"{reference}.npz") as wanted:
        scale = max(np.abs(wanted[key]).max() for key in wanted)
        return float(max(np.abs(got[key] - wanted[key]).max() for key in wanted) / scale)


def rounds_of(processes: dict[str, Process], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """One turn each, round after round."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in processes}
    for _ in range(rounds):
        for name, process in processes.items():
            taken[name].append(process.turn())
    return taken


def rows_of(taken: dict[str, list[dict[str, Any]]], tasks: int, flops: float, peak: float) -> list[dict[str, Any]]:
    """A row for each contender; the first is the one that ratios refer to."""
    reference, *_ = taken
    rows = []
    for name, turns in taken.items():
        seconds = [turn["seconds"] for turn in turns]
        ratios = [turn["seconds"] / own for turn, own in zip(taken[reference], seconds, strict=True)]
        rows.append({
            "contender": name, "tasks_per_second": tasks / statistics.median(seconds), "ratio": statistics.median(ratios),
            "ratio_low": min(ratios), "ratio_high": max(ratios), "peak_mb": turns[-1]["peak_mb"],
            "fraction_of_peak": flops / statistics.median(seconds) / 1e9 / peak,
        })  # fmt: skip
    return rows


def run_workload(name: str, chosen: list[str], rounds: int, peak: float, device: str) -> list[dict[str, Any]]:
    """Gradients first; who is wrong is named and not timed."""
    processes, about = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            # on a CPU one after another, since each takes all cores
            for together in [[contender] for contender in chosen] if device == "cpu" else [chosen]:
                for contender in together:
                    command = [str(ROOT / "scripts" / "benchmark_contenders.py"), name, contender, folder, device]
                    processes[contender] = Process(command, Path(folder) / f"{contender}.log")
                for contender in together:
                    try:
                        about[contender] = processes[contender].read()
                    except RuntimeError as error:
                        if contender == chosen[0]:
                            raise
                        print(f"{name}: {contender} is left out: {error}")
                        processes.pop(contender).end()
            reference, *others = processes
            errors = {contender: gradient_error(Path(folder), contender, reference) for contender in others}
            wrong = {contender: error for contender, error in errors.items() if not error < TOLERANCE}
            for contender, error in wrong.items():
                print(f"{name}: {contender} is left out, its outer gradient is off by {error:.1e}")
                processes.pop(contender).end()
            if name == "W1" and device == "cpu" and chosen[-1].startswith("vmap, compiled"):
                single = ["engine.compile=false", "steps_at_once=1"]
                processes["vmap: training with Lightning, a step at a time"] = training(single, Path(folder) / "single")
                processes["vmap: training with Lightning"] = training(["engine.compile=false"], Path(folder) / "short")
                processes["a long run, unasked: training with Lightning"] = training([], Path(folder) / "long")
            rows = rows_of(rounds_of(processes, rounds), WORKLOADS[name].tasks, about[reference]["flops"], peak)
        finally:
            for process in processes.values():
                process.end()
    return [row | {"gradient_error": errors.get(row["contender"])} for row in rows]


def training(overrides: list[str], folder: Path) -> Process:
    """`python train.py` on sinusoids as a user runs it, data, logging and progress bar included, stopping for its turns."""
    process = Process(
        [str(ROOT / "scripts" / "benchmark_training.py"), f"hydra.run.dir={folder}", *LOOP, *overrides], Path(f"{folder}.log")
    )
    process.read()
    return process


def measured_peak(device: str) -> float:
    """GFLOP/s of float32 convolutions on all cores, or the GPU: 64 to 64 channels, 3x3, 200 images of 14x14, channels last."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    x, weight = torch.randn(200, 64, 14, 14, device=device), torch.randn(64, 64, 3, 3, device=device)
    x, weight = (v.contiguous(memory_format=torch.channels_last) for v in (x, weight))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        torch.nn.functional.conv2d(x, weight, padding=1)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 200 * 14 * 14 * 9 * 64 * 64 * 2 / min(times) / 1e9


def start_up(turns: int) -> dict[str, float]:
    """Seconds, the least of `turns`: help, one outer step with its test, and a sweep's second job (two jobs less one)."""
    with tempfile.TemporaryDirectory() as folder:
        one = ["outer_steps=1", "val_episodes=2", "test_episodes=2"]
        commands = {
            "train.py --help": ["--help"],
            "train.py, one outer step": [f"hydra.run.dir={folder}/run", *one],
            "sweep of one job": ["-m", f"hydra.sweep.dir={folder}/one", *one],
            "sweep of two jobs": ["-m", f"hydra.sweep.dir={folder}/two", *one, "seed=0,1"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(turns):
            for name, command in commands.items():
                started = time.perf_counter()
                fresh = [part.replace(folder, f"{folder}/{turn}") for part in command]
                subprocess.run([sys.executable, str(ROOT / "train.py"), *fresh], check=True, capture_output=True, cwd=folder)
                seconds[name].append(time.perf_counter() - started)
    best = {name: min(values) for name, values in seconds.items()}
    best["second job of a sweep"] = best.pop("sweep of two jobs") - best.pop("sweep of one job")
    return best


def machine(device: str) -> dict[str, Any]:
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    gpu = {} if device == "cpu" else {"gpu": torch.cuda.get_device_name()}
    return gpu | {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__, "commit": commit}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| contender | tasks/s | ratio to the first (range) | peak MB | of peak | gradient error |", "|---|---|---|---|---|---|"]
    for row in rows:
        error = "-" if row["gradient_error"] is None else f"{row['gradient_error']:.0e}"
        ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        share = f"{100 * row['fraction_of_peak']:.1f} %"
        speed = f"{row['tasks_per_second']:,.{0 if row['tasks_per_second'] > 100 else 1}f}"
        lines.append(f"| {row['contender']} | {speed} | {ratio} | {row['peak_mb']} | {share} | {error} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="W1 and W2 without the other libraries and start-up times, 2 rounds: under 3 minutes"
    )
    parser.add_argument("--workloads", type=lambda text: text.split(","), help=f"of {', '.join(WORKLOADS)}; all if left out")
    parser.add_argument("--contenders", type=lambda text: text.split(";"), help="only these, the first one learn2learn; separated by ;")
    parser.add_argument("--rounds", type=int, help="turns of each contender: 9, or 2 with --quick")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: without threads, training loop and start-up")
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"))
    options = parser.parse_args()
    names = options.workloads or (QUICK if options.quick else list(WORKLOADS))
    if unknown := set(names) - set(WORKLOADS):
        sys.exit(f"Error: --workloads has no {', '.join(sorted(unknown))}; choose from {', '.join(WORKLOADS)}")
    rounds = options.rounds or (2 if options.quick else 9)
    peak = measured_peak(options.device)
    results: dict[str, Any] = {"machine": machine(options.device), "peak_gflops": peak, "rounds": rounds, "workloads": {}}
    print(f"{results['machine']}; peak {peak:.0f} GFLOP/s (convolution); {rounds} rounds")
    for name in names:
        rows = run_workload(name, options.contenders or contenders(name, not options.quick, options.device), rounds, peak, options.device)
        results["workloads"][name] = {"about": WORKLOADS[name].about, "tasks": WORKLOADS[name].tasks, "rows": rows}
        print(f"\n**{name}**: {WORKLOADS[name].about}; {WORKLOADS[name].tasks} tasks a step\n\n{table(rows)}", flush=True)
        options.output.write_text(json.dumps(results, indent=1))
    results["start_up_seconds"] = start_up(3) if "W1" in names and options.device == "cpu" and not options.quick else {}
    options.output.write_text(json.dumps(results, indent=1))
    for name, seconds in results["start_up_seconds"].items():
        print(f"{name}: {seconds:.1f} s")
    print(f"results: {options.output}")


if __name__ == "__main__":
    main()
