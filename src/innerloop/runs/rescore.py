"""Scoring a finished run again, as it was or under other conditions."""

import hashlib
import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from innerloop.config import InputError, register
from innerloop.project import CONF, searched
from innerloop.runs.build import build_trainer
from innerloop.runs.experiment import load_checkpoint, test
from innerloop.runs.folder import check_finished, read_results
from innerloop.runs.results import Training
from innerloop.runs.settings import settle_paths
from innerloop.runs.trust import trusted_config


def rescore(run: Path, overrides: list[str], trust: bool = False) -> tuple[dict[str, Any], Path]:
    """Tests the run's best checkpoint under its own configuration with `overrides` on top: values (task.shots=1) or groups (task=glyphs).

    Returns the results and the file below RUN/evaluations that holds them. Raises InputError for a bad run or override, and when the
    checkpoint does not fit (another number of ways under a model with a head for each way). trust: as for load_run.
    """
    cfg = override(trusted_config(run, trust), overrides)
    check_finished(run)
    settle_paths(cfg)
    built = load_checkpoint(cfg, run)
    path = evaluation_file(run, overrides)
    return test(built, build_trainer(cfg), path, Training(read_results(run / "results.json")["outer_steps"], None, None)), path


def choice(group: str, text: str) -> DictConfig:
    """What `python train.py TEXT` would have in a group. Also at the end of a sweep, where Hydra is at work already."""
    register()
    at_work = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", overrides=[*searched(), text])[group]
    finally:
        Singleton.set_state(at_work)


def evaluation_file(run: Path, overrides: list[str]) -> Path:
    """Where a run's score under these conditions lies."""
    name = " ".join(overrides) or "as_trained"
    plain = re.sub(r"[^\w.=,-]+", "_", name)
    if len(plain) > 150:  # file systems have a longest name; no two conditions must share one
        plain = f"{plain[:140]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return run / "evaluations" / f"{plain}.json"


def override(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration with values replaced, and whole groups by their choice under conf/."""
    register()
    OmegaConf.set_struct(cfg, True)
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            raise InputError(f"override '{text}' has no '='; write key=value, as for train.py")
        try:
            if key in cfg and OmegaConf.is_dict(cfg[key]):
                cfg[key] = choice(key, text)
            else:
                cfg.merge_with_dotlist([text])
        except (OmegaConfBaseException, HydraException, YAMLError) as error:
            raise InputError(f"override '{text}' does not fit the run: {' '.join(str(error).split())}") from error
    return cfg
