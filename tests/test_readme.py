"""What the README shows works as it is written."""

import re
import shlex

import pytest
import yaml
from hydra.utils import get_class

from innerloop.experiment import run
from tests.conftest import ROOT, TINY, compose_run

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_readme_is_short_and_names_the_two_commands():
    assert len(README.splitlines()) < 200
    assert "make demo" in README and "make test" in README


def test_files_and_pictures_it_points_to_exist():
    names = re.findall(r"`((?:src/innerloop|notebooks)/[\w/]+\.\w+)`", README) + re.findall(r"!\[.*?\]\((.*?)\)", README)
    shown_as_new = {"src/innerloop/algorithms/signsgd.py", "src/innerloop/tasks/sawtooth.py"}
    assert len(names) > 3
    assert [name for name in names if name not in shown_as_new and not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("command", re.findall(r"^ +(?:python )(train\.py .*?)(?: +#.*)?$", README, re.MULTILINE))
def test_its_commands_compose(command):
    overrides = [argument for argument in shlex.split(command)[1:] if argument not in ("-m", "--help")]
    cfg = compose_run(*(override.split(",")[0] for override in overrides))
    assert all(get_class(cfg[group]._target_).__module__.startswith("innerloop.") for group in ("algo", "task", "model"))


def test_the_new_algorithm_and_the_new_task_run(tmp_path, monkeypatch):
    """Written to files and YAMLs as shown, the two train together."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "readme_example").mkdir()
    for name, code in zip(("signsgd", "sawtooth"), blocks("python"), strict=True):
        (tmp_path / "readme_example" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    algo, task = (yaml.safe_load(block) for block in blocks("yaml"))
    for node, group in ((algo, "algorithms"), (task, "tasks")):
        node["_target_"] = node["_target_"].replace(f"innerloop.{group}", "readme_example")
    cfg = compose_run(*TINY)
    cfg.algo, cfg.task = algo, task
    results = run(cfg, tmp_path / "run")
    assert (results["algo"], results["task"]) == ("signmaml", "sawtooth")
