"""The jobs below a folder: their settings, results and ends, and what tells them apart."""

import contextlib
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from innerloop.config import PLACES, InputError, short_name, without
from innerloop.runs.folder import DIVERGED_FILE, ENDS, ERROR_FILE, PRUNED_FILE, Results, in_use, read_results


class Job(NamedTuple):
    """A job of a sweep: its folder as seen from the sweep's, settings, results if it is finished, and what there is to say if it is not."""

    name: str
    settings: dict[str, Any]
    results: Results | None
    remark: str
    overridden: set[str]  # the settings that its command line named


def jobs_below(directory: Path) -> list[Job]:
    """All jobs, finished or not, in the order of their settings. Raises InputError when there is none."""
    found = (path.parent for name in ("results.json", "config.yaml", *ENDS) for path in directory.rglob(name))
    folders = {folder for folder in found if folder.name != ".hydra" and not folder.match("wandb/*/files")}  # which W&B fills
    if not folders:
        raise InputError(f"there is no run below {directory}; give the directory of a sweep or of a run")
    jobs = [job_in(folder, str(folder.relative_to(directory))) for folder in sorted(folders)]
    keys = differing(jobs)
    return sorted(jobs, key=lambda job: [order(job.settings.get(key)) for key in keys])


def job_in(folder: Path, name: str) -> Job:
    overridden = overridden_in(folder)
    if (folder / "results.json").exists():
        results = read_results(folder / "results.json")
        return Job(name, settings_of(results["config"]), results, "", overridden)
    settings, running = saved_settings(folder), in_use(folder)
    for end, file in (("failed", ERROR_FILE), ("diverged", DIVERGED_FILE), ("pruned", PRUNED_FILE)):
        if (folder / file).exists() and not running:
            return Job(name, settings, None, f"{end}: {(folder / file).read_text().strip()}", overridden)
    steps = max((int(path.stem[5:]) for path in folder.glob("checkpoints/step-*.ckpt") if path.stem[5:].isdigit()), default=0)
    return Job(name, settings, None, f"{'running' if running else 'interrupted'}, {steps} outer steps saved", overridden)


def saved_settings(folder: Path) -> dict[str, Any]:
    """Of a job without results: what it saved, or else Hydra; nothing where neither can be read."""
    for path in (folder / "config.yaml", folder / ".hydra" / "config.yaml"):
        with contextlib.suppress(OSError, YAMLError, OmegaConfBaseException):
            config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
            if isinstance(config, dict) and config:
                return settings_of(config)
    return {}


def overridden_in(folder: Path) -> set[str]:
    with contextlib.suppress(OSError, YAMLError, OmegaConfBaseException):
        return {str(text).partition("=")[0].lstrip("+") for text in OmegaConf.load(folder / ".hydra" / "overrides.yaml")}
    return set()


def settings_of(config: dict[Any, Any]) -> dict[str, Any]:
    """Flat, without what says nothing of the numbers."""
    return without(config, PLACES)


def order(value: Any) -> tuple[bool, float, str]:
    """To sort by: numbers by size, then text, then what is not there."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None, value if number else float("inf"), str(value)


def sweep_rows(directory: Path, sort: str | None = None) -> list[dict[str, Any]]:
    """A row for each job: the settings that tell the jobs apart, result, interval, and mean and standard deviation over seeds.

    sort: a column, with a minus in front from high to low. Raises InputError for one that is not there.
    """
    jobs = jobs_below(directory)
    keys = differing(jobs)
    groups = over_seeds(jobs, [key for key in keys if key != "seed"])
    rows = []
    for job in jobs:
        values = groups[job.name]
        name = directory.absolute().name if job.name == "." else job.name
        spread = statistics.stdev(values) if len(values) > 1 else None
        result = {key: (job.results or {}).get(key) for key in ("metric", "value", "ci95", "val_loss")}
        rows.append(
            {
                "job": name,
                **{heading(key): cell(key, job.settings.get(key)) for key in keys},
                **result,
            }
            | {"mean": statistics.mean(values) if values else None, "std": spread, "seeds": len(values), "remark": job.remark}
        )
    if sort:
        column = sort.removeprefix("-")
        if column not in rows[0]:
            raise InputError(f"the table has no column {column}; sort by one of {', '.join(rows[0])}")
        there = sorted((row for row in rows if row[column] is not None), key=lambda row: order(row[column]), reverse=sort.startswith("-"))
        rows = there + [row for row in rows if row[column] is None]
    return rows


def heading(key: str) -> str:
    """The group of a choice: algo._target_ -> algo."""
    return key.removesuffix("._target_").removesuffix(".path")


def cell(key: str, value: Any) -> Any:
    """A class by its name, all else as it is."""
    return short_name(str(value)) if is_choice(key) and value is not None else value


def is_choice(key: str) -> bool:
    """Whether a key names the class or function that a group was set to."""
    return key.endswith(("._target_", "engine.forward.path"))


def differing(jobs: list[Job]) -> list[str]:
    """The keys that tell the jobs apart: those of their command lines that differ, and the fewest others, one being shown where jobs differ
    in it that agree in all shown before it.

    The choices of groups come first, since they bring many keys along, then what command lines named, then the short names; the seed last.
    """
    settings, overridden = [job.settings for job in jobs], {key for job in jobs for key in job.overridden}
    keys = dict.fromkeys(key for setting in settings for key in setting)
    shown: list[str] = []
    for key in sorted(keys, key=lambda key: (key == "seed", not is_choice(key), key not in overridden, key.count("."))):
        alike = defaultdict(set)
        for setting in settings:
            alike[key in overridden or tuple(repr(setting.get(k)) for k in shown)].add(repr(setting.get(key)))
        if any(len(values) > 1 for values in alike.values()):
            shown.append(key)
    return shown


def over_seeds(jobs: list[Job], keys: list[str]) -> dict[str, list[float]]:
    """For each job, the values of the jobs that differ from it in their seed alone, one for each seed; diverged ones are left out."""
    groups: dict[Any, dict[int, float]] = defaultdict(dict)
    place = {job.name: tuple(repr(job.settings.get(key)) for key in keys) for job in jobs}
    for job in jobs:
        if job.results and job.results["value"] is not None:
            groups[place[job.name]][job.results["seed"]] = job.results["value"]
    return {job.name: list(groups[place[job.name]].values()) for job in jobs}
