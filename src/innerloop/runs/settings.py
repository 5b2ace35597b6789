"""The settings of a run: as it saved them, and whether two runs have the same."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from innerloop.config import NOT_THE_NUMBERS, InputError, RunConfig, differences, without
from innerloop.project import code_of_project
from innerloop.runs.folder import check_version
from innerloop.runs.provenance import commit, versions


def load_config(output_dir: Path) -> DictConfig:
    """The configuration that a run was started with."""
    path = output_dir / "config.yaml"
    if not path.is_file():
        raise InputError(f"{output_dir} is not the output directory of a run: it has no config.yaml")
    try:
        saved = OmegaConf.load(path)
        check_version(path, saved if isinstance(saved, DictConfig) else {})
        cfg: Any = OmegaConf.merge(RunConfig, saved)  # type: ignore[arg-type]
        if missing := sorted(OmegaConf.missing_keys(cfg)):
            raise InputError(f"{path} is damaged: it has no {', '.join(missing)}; run the job again")
        return with_output_dir(cfg, str(output_dir))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (YAMLError, ValueError, OmegaConfBaseException) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def with_output_dir(cfg: DictConfig, path: str | None) -> DictConfig:
    """The configuration with its place set, or taken out: two runs of it then have equal results."""
    return OmegaConf.merge(cfg, {"output_dir": path})  # type: ignore[return-value]


PATHS = (
    "episodes", "task.root", "task.path", "task.table", "task.tokenizer", "task.seen", "task.heard",
    "model.base", "model.path", "model.weights", "backbone.path", "backbone.weights",
)  # fmt: skip


def settle_paths(cfg: DictConfig) -> None:
    """Where files are, as seen from here and with what INNERLOOP_DATA says now: the run stays with its data, from wherever it is scored."""
    for key in PATHS:
        value = OmegaConf.select(cfg, key)
        if isinstance(value, str):
            OmegaConf.update(cfg, key, settled(value))
        elif OmegaConf.is_list(value) and all(isinstance(place, str) for place in value):
            OmegaConf.update(cfg, key, [*map(settled, value)])
    split = OmegaConf.select(cfg, "task.split")
    if isinstance(split, str) and Path(split).expanduser().is_file():  # a published one has a name, which a folder may have too
        OmegaConf.update(cfg, "task.split", settled(split))


def settled(place: str) -> str:
    path = Path(place).expanduser()
    return str(path.absolute()) if path.exists() else place


def origin_of(cfg: DictConfig) -> dict[str, Any]:
    """What decides the numbers of a run: its settings and the code."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    code = {"commit": commit(), "project": code_of_project(), **versions()}
    return {"settings": without(settings, NOT_THE_NUMBERS), "code": code}


def check_same_run(directory: Path, origin: dict[str, Any], force: bool) -> None:
    """Raises InputError where the directory holds a run with other settings, unless `force`."""
    old = [directory / "results.json", *directory.glob("checkpoints/*.ckpt")]
    if not (directory / "config.yaml").exists():
        if found := next((path for path in old if path.exists()), None):
            raise InputError(f"{directory} holds {found.name} but no config.yaml of a run; set hydra.run.dir to another directory")
        return
    old_config = load_config(directory)
    settle_paths(old_config)
    settings = origin_of(old_config)["settings"]
    if (other := differences(settings, origin["settings"])) and not force and any(path.exists() for path in old):
        raise InputError(
            f"{directory} holds a run with other settings ({other}); set hydra.run.dir to another directory, delete it, or go on with "
            "the new settings by resume=force"
        )
