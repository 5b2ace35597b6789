"""Memory and speed of an outer step by algorithm and size of a transformer: python scripts/large_models.py [--quick] [--device cuda]

Decoders on synthetic languages, 4 tasks of 2 + 2 windows of 64 tokens, three inner steps, engine=vmap, Adam: what train.py does with these
settings. Each row is a process of its own, on one thread; the speed is the median of three steps after two to warm up. Peak is what all
tensors take at the highest (on a GPU, as torch's allocator says; on a CPU, what the process occupies more than before the model was there),
beside what estimate=true says beforehand. Prints a table and writes the rows to --output.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cost import resident

CONF = Path(__file__).resolve().parents[1] / "conf"
SIZES = {"1 M": (160, 4), "6 M": (320, 5)}  # width, layers
BIG = {"19 M": (512, 6), "113 M": (1024, 9)}  # on a GPU
LORA = ["model.lora_rank=4", "algo.adapted=*.lora_*", "algo.meta_learned=*.lora_*"]
ROWS = {
    "MAML, all weights": ["algo=maml"],
    "FOMAML, all weights": ["algo=fomaml"],
    "Reptile, all weights": ["algo=reptile"],
    "ANIL on the head, all weights": ["algo=anil"],
    "MAML, LoRA": ["algo=maml", *LORA],
    "FOMAML, LoRA": ["algo=fomaml", *LORA],
    "Reptile, LoRA": ["algo=reptile", *LORA[:2]],
    "ANIL on the head, LoRA learned": ["algo=anil", LORA[0], "algo.meta_learned=[*.lora_*,head.*]"],
    "MAML, all weights, bf16-mixed": ["algo=maml", "trainer.precision=bf16-mixed"],
    "MAML, all weights, inner steps taken again": ["algo=maml", "algo.checkpoint_inner=true"],
    "MAML, all weights, task by task": ["algo=maml", "engine.chunk_size=1"],
    "MAML, all weights, all three": ["algo=maml", "trainer.precision=bf16-mixed", "algo.checkpoint_inner=true", "engine.chunk_size=1"],
}
COMMON = ["task=grammars", "task.shots=2", "task.queries=2", "meta_batch_size=4", "optimizer=adam", "scheduler=constant", "threads=1"]
COMMON += ["algo.adaptation_steps=3", "estimate=true"]  # which tries no episode on the CPU first


def measure(overrides: list[str], device: str, rounds: int) -> dict[str, float]:
    """Of one row, in this process."""
    import torch
    from hydra import compose, initialize_config_dir

    from innerloop.config import register
    from innerloop.episode import Episode, Examples
    from innerloop.runs.build import Run, build_run
    from innerloop.runs.estimate import estimate

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        small, cfg = (compose("train", [*overrides, *more]) for more in (["model.width=16", "model.layers=1", "model.heads=2"], []))

    def outer_steps(run: Run) -> Any:
        learner, config = run.learner.to(device).train(), run.cfg
        optimizer = learner.optimizer(params=learner.algorithm.trained())
        episodes = run.data.train_episodes.meta_batch(range(config.meta_batch_size))
        episodes = Episode(*(Examples(*(tensor.to(device) for tensor in part)) for part in episodes))
        while True:
            with torch.autocast(device, torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed"):
                loss, _ = learner.shares.outer_loss(episodes)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if device == "cuda":
                torch.cuda.synchronize()
            yield

    expected = estimate(build_run(cfg)).peak / 2**20
    next(outer_steps(build_run(small)))  # loads what torch loads at first use
    before = resident("VmRSS")
    run = build_run(cfg)
    steps = outer_steps(run)
    next(steps)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    next(steps)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else resident("VmHWM") - before
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        next(steps)
        seconds.append(time.perf_counter() - started)
    tokens = cfg.meta_batch_size * (cfg.task.shots + cfg.task.queries) * cfg.task.length
    counts = run.learner.algorithm.counts()
    found = {"meta_learned": counts["meta-learned"], "adapted": counts["adapted"], "peak_mb": peak, "seconds": sorted(seconds)}
    return found | {"tokens_per_second": tokens / sorted(seconds)[len(seconds) // 2], "estimate_mb": expected}


def row(name: str, size: str, shape: tuple[int, int], device: str, rounds: int) -> dict[str, Any]:
    """Of one row, in a process of its own that gives memory back when it is freed."""
    overrides = [*ROWS[name], *COMMON, f"model.width={shape[0]}", f"model.layers={shape[1]}"]
    command = [sys.executable, __file__, "--row", json.dumps(overrides), "--device", device, "--rounds", str(rounds)]
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings)
    if done.returncode:
        sys.exit(f"{name}, {size}: {done.stderr}")
    return {"row": name, "size": size} | json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("large_models.json"))
    parser.add_argument("--quick", action="store_true", help="the smallest size and four rows, one round")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: also models of 19 M and 113 M weights")
    parser.add_argument("--sizes", type=lambda text: text.split(","), help=f"of {', '.join(SIZES | BIG)}; separated by ,")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.device, options.rounds)))
        return
    sizes = dict(list(SIZES.items())[:1]) if options.quick else SIZES | (BIG if options.device == "cuda" else {})
    if options.sizes:
        if unknown := set(options.sizes) - set(SIZES | BIG):
            sys.exit(f"Error: --sizes has no {', '.join(sorted(unknown))}; choose from {', '.join(SIZES | BIG)}")
        sizes = {size: (SIZES | BIG)[size] for size in options.sizes}
    names, rows = list(ROWS)[:: 3 if options.quick else 1], []
    print("| weights | setting | meta-learned | of each task | peak, MB | estimate=true, MB | tokens/s |\n|---|---|---|---|---|---|---|")
    for size, shape in sizes.items():
        for name in names:
            rows.append(found := row(name, size, shape, options.device, 1 if options.quick else options.rounds))
            print(
                f"| {size} | {name} | {found['meta_learned']:,} | {found['adapted']:,} | {found['peak_mb']:,.0f} | "
                f"{found['estimate_mb']:,.0f} | {found['tokens_per_second']:,.0f} |",
                flush=True,
            )
    options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
