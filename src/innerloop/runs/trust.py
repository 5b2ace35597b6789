"""Which classes a saved configuration may name: to score a run that somebody else made must not run code of their choice."""

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torchvision.transforms.v2 import Transform
from yaml import YAMLError

from innerloop.algorithms.base import Algorithm
from innerloop.config import InputError
from innerloop.project import confs
from innerloop.runs.settings import load_config
from innerloop.tasks.base import Tasks
from innerloop.training.shares import Execution

KINDS = (Algorithm, Tasks, nn.Module, Execution, lightning.Callback, torch.optim.Optimizer, LRScheduler, Logger, Transform)
PACKAGES = ("innerloop", "torch.optim", "lightning.pytorch.callbacks", "lightning.pytorch.loggers", "torchvision.transforms.v2", "__main__")
GET_FUNCTION = "hydra.utils.get_method"
INTERPOLATION = re.compile(r"\$\{(?!oc\.env:INNERLOOP_DATA)[^{}]*:")  # calls a resolver: others read the environment, or files


def trusted_config(run: Path, trust: bool) -> DictConfig:
    """The configuration of a run, to build it from. Raises InputError where it names what it should not, unless `trust`."""
    cfg = load_config(run)
    if trust:
        enter_project_of(run)
    check_trusted(run / "config.yaml", OmegaConf.to_container(cfg, resolve=False), trust)
    return cfg


def enter_project_of(run: Path) -> None:
    """Makes the modules of the project that a run was trained in importable, as Hydra wrote it down."""
    with contextlib.suppress(OSError, OmegaConfBaseException, YAMLError, AttributeError):
        folder = str(OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.runtime.cwd)
        if folder not in sys.path:
            sys.path.append(folder)


def check_trusted(path: Path, settings: Any, trust: bool) -> None:
    """Raises InputError where the settings in a file name what they should not, unless `trust`."""
    if strange := None if trust else next(unknown_in(settings), None):
        raise InputError(
            f"{path} asks for {strange}, which is neither of innerloop's own kinds nor in the conf/ of the project that you stand in; "
            "stand there, or look at it, and add --trust if it may run"
        )


def unknown_in(node: Any) -> Iterator[str]:
    """What a configuration asks for that may be anyone's code, or would read what is none of its business."""
    if isinstance(node, str) and INTERPOLATION.search(node):
        yield node
    if isinstance(node, list):
        for value in node:
            yield from unknown_in(value)
    if isinstance(node, dict):
        if "_target_" in node and not is_known(node):
            yield " ".join(str(node[key]) for key in ("_target_", "path", "_args_") if key in node)
        for value in node.values():
            yield from unknown_in(value)


def is_known(node: dict[Any, Any]) -> bool:
    """Whether the user's own conf/ names what a node calls, or it is a class of ours, or of a library's that does no harm."""
    target = str(node["_target_"])
    if target == GET_FUNCTION:
        return str(node.get("path")).startswith("innerloop.engine.forward.")
    if target in named_in_conf():
        return True
    if not target.startswith(tuple(f"{package}." for package in PACKAGES)):
        return False
    try:
        found = resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        return True  # it is not there: a sentence of its own will say so
    return isinstance(found, type) and issubclass(found, KINDS) and found.__module__.startswith(PACKAGES)


def named_in_conf() -> set[str]:
    """What the YAMLs of conf/ build."""
    return {
        name
        for conf in confs()
        for path in conf.rglob("*.yaml")
        if not path.name.startswith(".")  # as an editor's
        for name in re.findall(r"_target_:\s*([\w.]+)", path.read_text(encoding="utf-8", errors="replace"))
    }
