"""Trains MAML and its two baselines on sinusoids, then shows how each adapts to one that it has not seen. About a minute on a laptop."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

import innerloop
from innerloop.config import register
from innerloop.reports.report import write_report
from innerloop.runs.experiment import load_checkpoint, run
from innerloop.runs.settings import load_config

ROOT = Path(__file__).parents[1]
OUTPUT = Path("outputs/demo")
ALGORITHMS = {"scratch": "from scratch", "joint": "joint training", "maml": "MAML"}
STEPS = (0, 1, 5, 10)


def main() -> None:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = {algo: compose("train", overrides=[f"algo={algo}"]) for algo in ALGORITHMS}
    shutil.rmtree(OUTPUT, ignore_errors=True)  # of an earlier demo
    curves = {}
    for algo, cfg in configs.items():
        print(f"{ALGORITHMS[algo]}: {'evaluated as it is' if algo == 'scratch' else f'{cfg.outer_steps} outer steps'}")
        curves[algo] = {point["step"]: point for point in run(cfg, OUTPUT / algo)["curve"]}
    Console().print(mse_table(curves))
    draw(OUTPUT / "sinusoid.png")
    print(f"picture: {OUTPUT / 'sinusoid.png'}")
    write_report([OUTPUT], OUTPUT / "report.html")
    print(f"report:  {OUTPUT / 'report.html'}")
    print(f"use it:  innerloop.load('{OUTPUT / 'maml'}'): {use()}")
    print(f"runs:    {OUTPUT}/{{{','.join(ALGORITHMS)}}} (results.json, checkpoints, logs: tensorboard --logdir {OUTPUT})")


def use() -> str:
    """Fits the run to a sinusoid of the user's own: ten points in, any others out."""
    x, new = np.linspace(-5, 5, 10), np.linspace(-4.5, 4.5, 100)
    learner = innerloop.load(OUTPUT / "maml").fit(x, 3 * np.sin(x - 1))
    error = np.mean((learner.predict(new) - 3 * np.sin(new - 1)) ** 2)
    return f".fit(x, y) to ten points of 3 sin(x - 1), .predict(new): mean squared error {error:.2f} at 100 others"


def mse_table(curves: dict) -> Table:
    """MSE over 600 unseen sinusoids, with 95 % intervals."""
    table = Table(title="Mean squared error on 600 unseen sinusoids, 10 support points, ± 95 % CI", title_justify="left")
    for column in ("adaptation steps", *map(str, STEPS)):
        table.add_column(column)
    for algo, curve in curves.items():
        table.add_row(ALGORITHMS[algo], *(f"{curve[step]['value']:.2f} ± {curve[step]['ci95']:.2f}" for step in STEPS))
    return table


def draw(path: Path) -> None:
    """One unseen sinusoid, its support points, and what MAML and the jointly trained network make of them."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for axis, algo in zip(axes, ("maml", "joint"), strict=True):
        draw_adaptation(axis, algo)
        axis.set(title=ALGORITHMS[algo], xlabel="x")
    axes[0].set_ylabel("y")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_adaptation(axis: plt.Axes, algo: str) -> None:
    cfg = load_config(OUTPUT / algo)
    cfg.task.queries = 200  # points enough for a curve
    run = load_checkpoint(cfg, OUTPUT / algo)
    support, query = run.data.test_episodes.meta_batch(range(1))
    order = query.x[0, :, 0].argsort()
    x = query.x[0, order]
    axis.plot(x, query.y[0, order], color="0.6", linewidth=5, alpha=0.5, label="the sinusoid")
    with torch.no_grad():
        for step, adapted in enumerate(run.learner.algorithm.trajectory(support, max(STEPS))):
            if step in STEPS:
                color = plt.colormaps["viridis"](STEPS.index(step) / len(STEPS))
                label = "before adaptation" if step == 0 else f"after {step} step{'s' * (step > 1)}"
                prediction = run.learner.algorithm.predict(adapted, x[None])[0]
                axis.plot(x, prediction, color=color, linestyle=":" if step == 0 else "-", label=label)
    axis.plot(support.x[0], support.y[0], "o", color="black", markersize=5, label="support points")


if __name__ == "__main__":
    main()
