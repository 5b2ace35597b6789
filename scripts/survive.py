"""Kills runs at random moments, lets them go on, and compares them with runs that were left alone: python scripts/survive.py [--kills 50]

Each trial starts one of the runs below in a directory of its own, kills it with SIGKILL (all its processes) at a random moment or, every
third time, as it writes a checkpoint, and gives the same command again, up to three times; the last one is left to finish. Weights,
optimizer, logged metrics and results.json must then be those of the undisturbed run, bit for bit, but for times and memory. Exit code 1 if
one is not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
OUTER_STEPS, VAL_EVERY = 120, 10
SHORT = [
    f"outer_steps={OUTER_STEPS}",
    f"val_every={VAL_EVERY}",
    "val_episodes=5",
    "test_episodes=10",
    "trainer.log_every_n_steps=7",
    "eval_adaptation_steps=2",
]
SHORT += ["meta_batch_size=4", "scheduler=cosine"]
IMAGES = ["task=glyphs", "task.queries=2", "model.filters=8", "threads=2"]
RUNS = {
    "maml": [],
    "maml, dropout": ["model.dropout=0.2"],
    "maml, 2 workers": ["num_workers=2"],
    "maml, loop, conv4 on 2 threads": IMAGES,
    "maml, learn2learn": ["engine=learn2learn"],
    "maml, policies": ["task=compass", "task.horizon=10"],
    "trust region, policies": ["task=cartpole", "task.horizon=10", "optimizer=trust_region"],
    "rl2": ["task=bandit", "algo=rl2"],
    "maml, 10 steps at once": ["steps_at_once=10", "optimizer.fused=true"],
    "reptile": ["algo=reptile", "algo.inner_lr=0.01"],
    "reptile, dropout, 2 workers": ["algo=reptile", "algo.inner_lr=0.01", "model.dropout=0.2", "num_workers=2"],
    "protonet": ["algo=protonet", *IMAGES],
    "maml, dropout, 2 processes": ["trainer=ddp", "model.dropout=0.2"],
}
TIMES = ("train_seconds", "eval_seconds", "tasks_per_second", "peak_memory_mb")


def start(run: list[str], directory: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "train.py"), *SHORT, *run, f"hydra.run.dir={directory}"]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(run: list[str], directory: Path) -> float:
    """Seconds of its training. Raises RuntimeError where it fails."""
    if start(run, directory).wait():
        raise RuntimeError((directory / "log.txt").read_text()[-2000:])
    return json.loads((directory / "results.json").read_text())["train_seconds"]


def kill(process: subprocess.Popen[bytes], directory: Path, checkpoints: int, seconds: float, writing: bool) -> str:
    """Kills so many seconds after so many checkpoints were there, or as soon after that as one is being written. Returns what it hit."""
    folder = directory / "checkpoints"

    def newest() -> int:
        return max((int(path.stem[5:]) for path in folder.glob("step-*.ckpt")), default=0)

    while process.poll() is None and newest() < checkpoints * VAL_EVERY:
        time.sleep(0.001)
    time.sleep(seconds if checkpoints else 4 * seconds)
    while writing and process.poll() is None and not any(folder.glob(".*.ckpt.*")):
        pass
    over = process.poll() is not None
    if not over:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    half_written = any(folder.glob(".*.ckpt.*"))
    return "finished first" if over else f"{'writing after' if half_written else 'after'} step {newest()}"


def outcome(directory: Path) -> dict[str, Any]:
    """All that must not depend on interruptions."""
    results = json.loads((directory / "results.json").read_text())
    for key in TIMES:
        del results[key]
    results["command"] = results["command"].replace(str(directory), "")
    last = torch.load(sorted((directory / "checkpoints").glob("step-*.ckpt"))[-1], weights_only=True)
    best = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    return {
        "results.json": results, "metrics.csv": (directory / "csv" / "metrics.csv").read_text(), "best weights": best["state_dict"],
        "last weights": last["state_dict"], "optimizer": last["optimizer_states"], "scheduler": last["lr_schedulers"],
    }  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--runs", type=lambda text: text.split(";"), default=list(RUNS), help="only these, separated by ;")
    options = parser.parse_args()
    if unknown := set(options.runs) - set(RUNS):
        sys.exit(f"Error: --runs has no {', '.join(sorted(unknown))}; choose from {'; '.join(RUNS)}")
    moments, killed, survived, trials = random.Random(options.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        alone = {name: Path(folder) / f"alone-{i}" for i, name in enumerate(options.runs)}
        interval = {name: finish(RUNS[name], directory) * VAL_EVERY / OUTER_STEPS for name, directory in alone.items()}
        while killed < options.kills:
            name = options.runs[trials % len(options.runs)]
            directory, hits = Path(folder) / f"trial-{trials}", []
            for _ in range(min(moments.randint(1, 3), options.kills - killed)):
                checkpoints, writing = moments.randrange(OUTER_STEPS // VAL_EVERY), killed % 3 == 2
                hits.append(kill(start(RUNS[name], directory), directory, checkpoints, moments.uniform(0, interval[name]), writing))
                killed += hits[-1] != "finished first"
            finish(RUNS[name], directory)
            wanted, got = outcome(alone[name]), outcome(directory)
            differing = [key for key in wanted if not same(wanted[key], got[key])]
            trials, survived = trials + 1, survived + (not differing)
            print(
                f"{killed:3} {name}: killed {', '.join(hits)}: {'differs in ' + ', '.join(differing) if differing else 'the same'}",
                flush=True,
            )
    print(f"{killed} kills in {trials} runs; {survived} of {trials} ended as if left alone")
    sys.exit(survived < trials)


if __name__ == "__main__":
    main()
