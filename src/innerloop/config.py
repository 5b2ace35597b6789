"""The typed skeleton of a run, and how bad input is refused. Imports neither torch nor lightning: `train.py --help` stays quick."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING

# Settings that decide no number of a run: where it is, how it goes on, what it is called, and what changes speed, memory or the screen.
PLACES = ("output_dir", "resume", "tags", "print_config")
NOT_THE_NUMBERS = (
    *PLACES, "target", "num_workers", "eval_batch_size", "logger", "callbacks.progress", "trainer.log_every_n_steps", "steps_at_once",
)  # fmt: skip


class InputError(ValueError):
    """Something the user can mend. Its text is one sentence: what, where, what to do. Shown without a traceback, exit code 1."""


class Diverged(InputError):
    """The loss is no number any more. To try again changes nothing."""


def check_positive(name: str, value: float) -> None:
    """Refuses what is not a number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise InputError(f"{name} must be a number > 0, got {value!r}")


def check_count(name: str, value: int, least: int = 1, most: int | None = None) -> None:
    """Refuses what is not a whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise InputError(f"{name} must be a whole number >= {least}{'' if most is None else f' and <= {most}'}, got {value!r}")


def check_flag(name: str, value: bool) -> None:
    """Refuses what is neither true nor false (YAML takes `no` for a word here)."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")


def check_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Returns (low, high). Refuses what is not two numbers with low <= high."""
    numbers = list(value) if isinstance(value, Sequence) else []
    if len(numbers) != 2 or not all(isinstance(number, int | float) for number in numbers) or numbers[0] > numbers[1]:
        raise InputError(f"{name} must be [low, high] with low <= high, got {value!r}")
    return numbers[0], numbers[1]


def check_span(name: str, value: int | Sequence[int], least: int = 1) -> tuple[int, int]:
    """Returns (low, high), a single number twice. Refuses what is neither a whole number >= least nor two of them with low <= high."""
    if not isinstance(value, Sequence):
        check_count(name, value, least)
        return value, value
    numbers: list[Any] = list(value)
    whole = len(numbers) == 2 and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not whole or not least <= numbers[0] <= numbers[1]:
        raise InputError(f"{name} must be a whole number >= {least}, or a range [low, high] of such, got {value!r}")
    return numbers[0], numbers[1]


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses what is not one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@dataclass
class RunConfig:
    """What every run has. The groups (algo, task, ...) are open sets of YAML files under conf/, each naming its class by `_target_`."""

    algo: Any = MISSING
    task: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    engine: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = field(default_factory=dict)
    logger: Any = field(default_factory=dict)
    backbone: Any = None  # timm | torchvision | hf: a frozen network, whose features of images (hf: or texts) a task then has for inputs

    seed: int = 0  # of the initial weights and the training episodes; those of validation and test are the same for all
    outer_steps: int = 5000  # updates of the outer loop
    meta_batch_size: int = 25  # episodes in one outer step, over all devices
    eval_adaptation_steps: int = 10  # K: the metric is reported after 0..K inner steps
    # inner steps after which test episodes are scored, besides the last, as [0,1,5]; null: 0 to 10 and every tenth, or, where each query
    # takes a forward pass of its own (transductive=false), the last alone
    scored_steps: Any = None
    eval_batch_size: int = 25  # episodes evaluated at once; changes speed and memory, not results
    val_episodes: int = 100  # of each validation, by which the best weights are selected
    test_episodes: int = 600  # on which the result rests
    episodes: str | None = None  # a file of test episodes (innerloop episodes RUN FILE) to be scored on instead of drawn ones
    disjoint: bool = False  # test episodes share no image, as many as there are images for: an interval for other images, not episodes
    val_every: int = 500  # outer steps between validations
    # batch norm's statistics for a query: of all queries (true), of the support set (support), of the support set and it (false), or of 100
    # training episodes (training), for learners that adapt a head at most
    transductive: bool | str = True
    # val/loss, by which weights are selected, searches pruned and sweeps' jobs valued: after the last adaptation step (last), or averaged
    # over the adaptation curve (curve), for what adapts fast
    select_by: str = "last"
    target: float | None = None  # of the metric: results.json says after how many inner steps, examples and milliseconds it is reached
    reuse: int = 1  # outer steps of the optimizer on each meta-batch: for policies, whose rollouts cost more than a step (PPO takes 5)
    # outer steps inside one Lightning step: the same numbers, less of Lightning's time; one device, no clipping. null: 10 for networks of
    # at most 100,000 weights with engine=vmap on a CPU, in runs of 1,000 steps or more; else 1
    steps_at_once: int | None = None
    num_workers: int = 0  # processes that draw episodes
    threads: int | None = 1  # over tasks, each with a share of the meta-batch; 1 is fastest for small nets, null takes all cores
    estimate: bool = False  # say what an outer step takes of memory and operations, from its shapes, and stop
    resume: str = "auto"  # auto: an interrupted run goes on if its settings and code are the same; force: whatever they are
    tags: list[str] = field(default_factory=list)  # words of yours, as [paper,baseline]: kept in results.json, shown in the report
    print_config: bool = False  # show these settings as a tree before anything starts
    output_dir: str | None = None  # where the run writes; set it by hydra.run.dir=DIR


OWN = tuple(field.name for field in fields(RunConfig))  # the names at the top of a configuration


def register() -> None:
    """Makes RunConfig the schema that conf/train.yaml starts from."""
    from hydra.core.config_store import ConfigStore  # here, so that what trains knows nothing of Hydra

    ConfigStore.instance().store(name="run_config", node=RunConfig)


def suggestion(name: str, names: Iterable[str]) -> str:
    """The nearest name there is, as a question; nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def short_name(target: str) -> str:
    """What tables call a class, as the command line does: "innerloop.algorithms.nearest_mean.NearestMean" -> "nearest_mean"."""
    *_, module, name = ["", *target.split(".")]
    return module if module.replace("_", "") == name.lower() else name.lower()


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"algo": {"inner_lr": 0.1}} -> {"algo.inner_lr": 0.1}."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {key: value for k, v in config.items() for key, value in flat(v, f"{prefix}.{k}" if prefix else str(k)).items()}


def without(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The settings, flat, but for those of these names and what is below them."""
    return {key: value for key, value in flat(dict(settings)).items() if not any(f"{key}.".startswith(f"{name}.") for name in names)}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The values that differ between two settings, in words; empty if none does."""
    old, new = flat(dict(there)), flat(dict(here))
    parts = [
        f"{key}={old.get(key, 'nothing')} there and {new.get(key, 'nothing')} here"
        for key in sorted(old.keys() | new.keys())
        if key not in old or key not in new or old[key] != new[key]
    ]
    return ", ".join(parts[:4]) + (f", and {len(parts) - 4} more" if len(parts) > 4 else "")
