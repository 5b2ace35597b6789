"""Minutes from the command to 95 % on Omniglot, 5-way 1-shot, beside learn2learn's example: scripts/minutes_to_95.py [...]

One contender after the other, each with the machine for itself; start-up, drawing of tasks and validation count. learn2learn's is its
examples/vision/maml_omniglot.py: 32 tasks an outer step and as many for validation, one step of 0.5, Adam at 0.003; but with its
convolutional network: with a fully connected one, as in the example, Finn et al. 2017 report 89.7 %. It is there when the last 20 outer
steps have 95 % on their validation tasks together (3,200 answers); innerloop, when a validation has, on 640 tasks (3,200 answers), every
50 outer steps.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("INNERLOOP_DATA", "data")).absolute() / "omniglot"
TASK = ["task=omniglot", "task.split=maml", "task.shots=1", "task.queries=1", "val_episodes=640", "val_every=50", "eval_batch_size=32"]
MAML = [
    "algo=maml", "algo.inner_lr=0.5", "algo.adaptation_steps=1", "eval_adaptation_steps=1", "model=conv4", "model.pool=stride",
    "model.pool_head=mean", "optimizer=adam", "optimizer.lr=0.003", "meta_batch_size=32", "outer_steps=60000",
]  # fmt: skip
CONTENDERS = {
    "learn2learn's example": [sys.executable, __file__, "--learn2learn"],
    "innerloop, the same": [sys.executable, str(ROOT / "train.py"), *TASK, *MAML],
    "innerloop, ProtoNet": [sys.executable, str(ROOT / "train.py"), "experiment=omniglot_5w1s_protonet", *TASK],
    "innerloop, ridge head": [sys.executable, str(ROOT / "train.py"), "experiment=omniglot_5w1s_ridge", *TASK],
}


def learn2learn(folder: str) -> None:
    """Prints a line of JSON after each outer step: validation accuracy and tasks so far."""
    import learn2learn as l2l
    import torch
    from torch.nn.functional import cross_entropy
    from torchvision.datasets import Omniglot

    torch.manual_seed(0)
    for name in Omniglot.zips_md5:  # archives of a mirror have other checksums
        Omniglot.zips_md5[name] = hashlib.md5((Path(folder) / Omniglot.folder / f"{name}.zip").read_bytes()).hexdigest()
    shapes = {"train_ways": 5, "train_samples": 2, "test_ways": 5, "test_samples": 2}
    tasks = l2l.vision.benchmarks.get_tasksets("omniglot", num_tasks=20000, root=folder, **shapes)
    maml = l2l.algorithms.MAML(l2l.vision.models.OmniglotCNN(5), lr=0.5, first_order=False)
    optimizer = torch.optim.Adam(maml.parameters(), 0.003)

    def adapted(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        learner = maml.clone()
        learner.adapt(cross_entropy(learner(x[::2]), y[::2]))
        predictions = learner(x[1::2])
        return cross_entropy(predictions, y[1::2]), (predictions.argmax(1) == y[1::2]).float().mean()

    for step in range(1, 60001):
        optimizer.zero_grad()
        right = 0.0
        for _ in range(32):
            (adapted(*tasks.train.sample())[0] / 32).backward()
            right += adapted(*tasks.validation.sample())[1].item() / 32
        optimizer.step()
        print(json.dumps({"tasks": 32 * step, "accuracy": right}), flush=True)


def points(lines: Iterator[str]) -> Iterator[tuple[int, float]]:
    """Tasks trained on, and accuracy, as they are printed."""
    last: deque[float] = deque(maxlen=20)
    tasks_a_step = None
    for line in lines:
        if line.startswith("{"):
            found = json.loads(line)
            last.append(found["accuracy"])
            if len(last) == last.maxlen:
                yield found["tasks"], sum(last) / len(last)
        if about := re.search(r"outer steps of (\d+) tasks", line):
            tasks_a_step = int(about[1])
        if tasks_a_step and (validation := re.match(r"outer step (\d+)/.*val/accuracy ([\d.]+)", line)):
            yield int(validation[1]) * tasks_a_step, float(validation[2])


def time_to(accuracy: float, command: list[str]) -> tuple[float, int, float]:
    """Seconds, tasks and the accuracy that was reached."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdout
        try:
            for tasks, reached in points(process.stdout):
                if reached >= accuracy:
                    return time.perf_counter() - started, tasks, reached
        finally:
            process.terminate()
    raise RuntimeError(f"{' '.join(command)} ended below {accuracy}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", type=float, default=0.95)
    parser.add_argument("--turns", type=int, default=1, help="times that each contender has its turn")
    parser.add_argument("--contenders", type=lambda text: text.split(";"), default=list(CONTENDERS), help="only these, separated by ;")
    parser.add_argument("--learn2learn", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.learn2learn:
        return learn2learn(options.learn2learn)
    print(f"| | minutes to {options.accuracy:.0%} | tasks | accuracy then |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "omniglot-py"  # as torchvision has it
        there.mkdir()
        for name in ("images_background.zip", "images_evaluation.zip"):
            (there / name).symlink_to(DATA / name)
            zipfile.ZipFile(DATA / name).extractall(there)
        for turn in range(options.turns):
            for name in options.contenders:
                more = [folder] if name.startswith("learn2learn") else [f"seed={turn}", f"hydra.run.dir={folder}/{turn}/{name.split()[-1]}"]
                seconds, tasks, reached = time_to(options.accuracy, CONTENDERS[name] + more)
                print(f"| {name} | {seconds / 60:.1f} | {tasks:,} | {reached:.3f} |", flush=True)


if __name__ == "__main__":
    main()
