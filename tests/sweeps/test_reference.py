"""What every setting means, in --help and docs/settings.md."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.fixture
def settings(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import settings

    return settings


def test_every_setting_is_explained_and_the_page_is_fresh(settings):
    assert settings.unexplained() == []
    assert settings.page() == (ROOT / "docs" / "settings.md").read_text(), "run `make docs`"


def test_what_no_comment_explains_is_named(settings, tmp_path, monkeypatch):
    for group in settings.GROUPS:
        (tmp_path / group).mkdir()
    (tmp_path / "algo" / "maml.yaml").write_text("# MAML.\n_target_: A\nrate: 0.1 # of steps\ndeep: # all of it\n  one: 1\nmute: {a: 1}\n")
    (tmp_path / "task" / "lines.yaml").write_text("# @package _global_\ntask:\n  _target_: B\n  shots: 1 # examples\n")
    monkeypatch.setattr(settings, "CONF", tmp_path)
    assert settings.unexplained() == ["algo.mute.a in algo/maml.yaml", "task/lines.yaml"]


def help_of(*overrides, columns):
    return subprocess.run(
        [sys.executable, "train.py", "--help", *overrides],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": str(columns)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_help_explains_what_the_command_has():
    """Its own values, in the words of its own choice."""
    lines = help_of("algo=reptile", "task=text_folder", "algo.inner_lr=0.7", columns=100).partition("== Values")[2].splitlines()
    assert "  inner_lr: 0.7                 # step size of the inner loop" in lines
    assert "  queries: 4                    # query windows" in lines
    assert max(map(len, lines)) <= 100
    names = re.findall(r"^(\w+):(?! *$)", "\n".join(lines), re.MULTILINE)
    assert {"seed", "outer_steps", "transductive", "output_dir"} <= set(names)
