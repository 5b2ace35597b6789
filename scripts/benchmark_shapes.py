"""Examples a second of episodes of any shape, beside those of one shape of the same mean size:

    python scripts/benchmark_shapes.py [--rounds 3] [--steps 10 90] [SETTING ...]

Glyphs, conv4, MAML of one step with a tied head, meta-batches of 8; task.ways=[5,20] task.shots=[1,5] beside task.ways=12 task.shots=3,
in turns. Each is trained with few and with more outer steps; the difference is what steps take, without start, validation or tests.
SETTING: more of what train.py takes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from innerloop.tasks.class_episodes import ClassEpisodes
from innerloop.tasks.images.glyphs import Glyphs
from innerloop.training.data import TRAIN, EpisodeDataset

ROOT = Path(__file__).parents[1]
QUERIES, META_BATCH = 5, 8
SHAPES = {"of any shape": ((5, 20), (1, 5)), "of one shape": (12, 3)}
BASE = [
    "task=glyphs",
    f"task.queries={QUERIES}",
    f"meta_batch_size={META_BATCH}",
    "val_every=10000",
    "val_episodes=2",
    "test_episodes=2",
    "algo.head=tied",
]


def seconds(settings: list[str], steps: int) -> float:
    """Of training, as the run says."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["train.py", *BASE, *settings, f"outer_steps={steps}", f"hydra.run.dir={folder}", "logger=none"]
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr.strip().splitlines()[-1])
        return float(json.loads((Path(folder) / "results.json").read_text())["train_seconds"])


def examples(ways: int | tuple[int, int], shots: int | tuple[int, int], few: int, more: int) -> int:
    """Between the two numbers of outer steps, as seed 0 draws them."""
    counts = {"ways": 2, "shots": 1, "queries": 1, "train_ways": 2, "train_shots": 1, "train_queries": 1}
    episodes = ClassEpisodes(Glyphs(**counts).classes("train"), ways, shots, QUERIES)
    drawn = EpisodeDataset(episodes, more * META_BATCH, (TRAIN, 0), META_BATCH)
    return sum(len(part.x) for i in range(few * META_BATCH, more * META_BATCH) for part in drawn[i])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns")
    parser.add_argument("--steps", type=int, nargs=2, default=(10, 90), help="outer steps, few and more")
    args, given = parser.parse_known_args()
    (few, more), rates = args.steps, dict[str, list[float]]()
    for _ in range(args.rounds):
        for name, (ways, shots) in SHAPES.items():
            settings = [
                f"task.{key}={list(v) if isinstance(v, tuple) else v}".replace(" ", "") for key, v in (("ways", ways), ("shots", shots))
            ]
            took = seconds([*settings, *given], more) - seconds([*settings, *given], few)
            rates.setdefault(name, []).append(examples(ways, shots, few, more) / took)
            print(f"{name}: {rates[name][-1]:.0f} examples/s", flush=True)
    ratios = np.divide(*rates.values())
    print(f"any shape / one shape: {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    main()
