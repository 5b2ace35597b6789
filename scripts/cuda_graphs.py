"""What a CUDA graph saves: python scripts/cuda_graphs.py [--device cuda] [--seconds 1] [SETTINGS ...]

Milliseconds of one outer gradient under overrides of train.py, first with each operation launched from Python, then as one graph
(engine.compile=true on a GPU), of the same meta-batch. On a CPU, where there are no such graphs, torch.compile stands for it. A table on
the screen; nothing is trained.
"""

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from innerloop.config import register
from innerloop.project import CONF
from innerloop.runs.build import build_run
from innerloop.training.captured import capture_outer_gradient
from innerloop.training.compiled import compile_outer_gradient
from innerloop.training.outer_gradient import outer_gradient

SETTINGS = [
    "experiment=omniglot_maml_article", "experiment=omniglot_maml_article algo=fomaml", "experiment=omniglot_reptile_article",
    "experiment=omniglot_protonet_article", "task=sinusoid algo=maml",
]  # fmt: skip


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTINGS", default=SETTINGS, help='such as "task=glyphs algo=fomaml"')
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1.0, help="that each is run for")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU; --device cpu times torch.compile")
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device
    table = Table("settings", "launched, ms", "graph, ms", "ratio", title=f"an outer gradient on {name}, engine=vmap")
    for settings in arguments.settings:
        launched, graph = measure(settings, arguments.device, arguments.seconds)
        table.add_row(settings, f"{launched:.2f}", f"{graph:.2f}", f"{launched / graph:.1f}")
    Console(width=120).print(table)


def measure(settings: str, device: str, seconds: float) -> tuple[float, float]:
    """Milliseconds without and with the graph."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            cfg = compose("train", overrides=["engine=vmap", "engine.compile=false", *settings.split()])
        except HydraException as error:
            raise SystemExit(f"{settings}: {str(error).splitlines()[0]}") from None
    run = build_run(cfg)
    learner = run.learner.to(device).train()
    algorithm, episodes = learner.algorithm, learner.beside_weights(run.data.train_episodes.meta_batch(range(cfg.meta_batch_size)))
    make: Any = capture_outer_gradient if device == "cuda" else compile_outer_gradient
    graph = make(algorithm, episodes)
    if graph is None:
        raise SystemExit(f"{settings}: no graph")
    return milliseconds(lambda: outer_gradient(algorithm, episodes), seconds), milliseconds(lambda: graph(episodes), seconds)


def milliseconds(step: Callable[[], Any], seconds: float) -> float:
    """Of a step, on average, after one to warm up."""
    waited, steps = wait(step), 0
    until = waited + seconds
    while (now := wait(step)) < until:
        steps += 1
    return 1000 * (now - waited) / (steps + 1)


def wait(step: Callable[[], Any]) -> float:
    """The time when it is done."""
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
