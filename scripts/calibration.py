"""How sure finished runs are of their answers on test episodes, before and after their temperature: scripts/calibration.py RUN..."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from innerloop.objective import calibration_error
from innerloop.runs.experiment import load_run
from innerloop.runs.learner_file import read_learner
from innerloop.training.temperature import answers_to


def main() -> None:
    print("| run | temperature | calibration error before | after | accuracy | of the surest 80 % |\n|---|---|---|---|---|---|")
    for path in map(Path, sys.argv[1:]):
        before, after, right, surest = measures_of(*answers_of(path), float(read_learner(path).about["temperature"]))
        print(f"| {path.name} | {read_learner(path).about['temperature']:.2f} | {before:.3f} | {after:.3f} | {right:.1f} | {surest:.1f} |")


def answers_of(run: Path) -> tuple[Tensor, Tensor]:
    """Logits (n, ways) and labels (n,) of all queries of its test episodes, each answered by the support set alone."""
    built = load_run(run)
    logits, labels = [], []
    for start in range(0, len(built.data.test_episodes), 25):
        episodes = built.data.test_episodes.meta_batch(range(start, min(start + 25, len(built.data.test_episodes))))
        logits.append(answers_to(built.learner.algorithm, episodes, built.cfg.eval_adaptation_steps).flatten(0, 1))
        labels.append(episodes.query.y.flatten())
    return torch.cat(logits), torch.cat(labels)


def measures_of(logits: Tensor, y: Tensor, temperature: float) -> tuple[float, float, float, float]:
    """Expected calibration error before and after, and the accuracy in % of all, and of the surest four fifths."""
    before, after = (calibration_error(some[None], y[None]).item() for some in (logits, logits / temperature))
    sure, answer = (logits / temperature).softmax(1).max(1)
    right = (answer == y).float()
    kept = sure.argsort(descending=True)[: round(0.8 * len(y))]
    return before, after, 100 * right.mean().item(), 100 * right[kept].mean().item()


if __name__ == "__main__":
    main()
