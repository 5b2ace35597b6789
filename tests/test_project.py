"""A project of one's own, on an installed innerloop: no fork."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from innerloop import project
from innerloop.config import InputError
from tests.command_line import ENVIRONMENT, call
from tests.conftest import ROOT

TINY = ("task=mine", "outer_steps=4", "val_every=2", "meta_batch_size=2", "val_episodes=4", "test_episodes=4")


@pytest.fixture
def own(tmp_path):
    """In a folder with a blank in its name."""
    folder = tmp_path / "my project"
    stdout, _ = call("-m", "innerloop", "new", folder)
    assert f"next: cd '{folder}' && innerloop train task=mine" in stdout
    return folder


def innerloop(*arguments, cwd, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "innerloop", *map(str, arguments)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_it_trains_and_is_scored(own, tmp_path, monkeypatch):
    innerloop("train", *TINY, "hydra.run.dir=outputs/one", cwd=own)
    results = json.loads((own / "outputs" / "one" / "results.json").read_text())
    assert results["task"] == "sawtooth" and results["command"].startswith("innerloop train task=mine") and len(results["project"]) == 16
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's
    stdout, _ = call("-m", "innerloop", "eval", "outputs/one", "task=mine", "task.shots=5", cwd=own)
    assert "evaluations/task=mine_task.shots=5.json" in stdout
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.delitem(sys.modules, "mine")
    _, stderr = call("-m", "innerloop", "eval", own / "outputs" / "one", code=1, cwd=tmp_path / "elsewhere")
    assert "asks for mine.Sawtooth, which is neither" in stderr and "stand there, or look at it, and add --trust" in stderr
    call("-m", "innerloop", "report", own / "outputs" / "one", cwd=tmp_path / "elsewhere")
    call("-m", "innerloop", "eval", own / "outputs" / "one", "--trust", cwd=tmp_path / "elsewhere")
    monkeypatch.delitem(sys.modules, "mine")
    (own / "mine.py").write_text((own / "mine.py").read_text().replace("(x + shift)", "(x - shift)"))
    (own / "outputs" / "one" / "results.json").unlink()
    _, stderr = innerloop("train", *TINY, "hydra.run.dir=outputs/one", cwd=own, code=1)  # as with changed code of ours
    assert "project" in stderr and "resume=force" in stderr


def test_its_choices_are_listed_and_typos_are_found(own):
    stdout, _ = innerloop("train", "--help", "task=mine", cwd=own)
    assert ", mine, " in stdout and "experiment: bandit_rl2, first, " in stdout and "# Saw teeth." in stdout and "shots: 10" in stdout
    assert "task=mime is no choice, did you mean mine?" in innerloop("train", "task=mime", cwd=own, code=1)[1]
    (own / "conf" / "task" / "sinusoid.yaml").write_text("_target_: mine.Sawtooth\n")
    assert "sinusoid.yaml has the name of a choice of innerloop's own" in innerloop("train", *TINY, cwd=own, code=1)[1]


def test_new_overwrites_nothing(own):
    before = (own / "mine.py").read_text()
    assert "is there already; name an empty folder" in call("-m", "innerloop", "new", own, code=1)[1]
    assert (own / "mine.py").read_text() == before


@pytest.mark.slow
def test_its_own_test_its_sweeps_and_its_devices(own):
    subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=own, check=True, capture_output=True)
    for launcher in ("joblib", "submitit_local"):
        innerloop("train", "-m", *TINY, "seed=0,1", f"hydra/launcher={launcher}", f"hydra.sweep.dir=outputs/{launcher}", cwd=own)
        assert len(list((own / "outputs" / launcher).rglob("results.json"))) == 2
    innerloop("train", *TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=outputs/two", cwd=own)
    assert (own / "outputs" / "two" / "results.json").is_file()


@pytest.mark.slow
def test_the_wheel_has_everything(tmp_path):
    """Built as it is published; from its files alone, with no clone in sight, a project trains."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    files = {
        str(path.relative_to(ROOT / "src"))
        for pattern in ("*.py", "*.yaml", "*.csv", "*.html")
        for path in (ROOT / "src" / "innerloop").rglob(pattern)
    }
    assert files <= names
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def python(*arguments, cwd=tmp_path):
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=True).stdout

    assert python("-c", "import innerloop; print(innerloop.__file__)").startswith(str(tmp_path / "installed"))
    python("-m", "innerloop", "new", "p")
    assert "results.json" in python("-m", "innerloop", "train", *TINY, cwd=tmp_path / "p")


def test_a_clone_on_a_file_system_without_links_trains(tmp_path, monkeypatch):
    """There the link `conf` is a file with the name of the folder in it; nothing reads it."""
    assert (ROOT / "conf").is_symlink() and (ROOT / "conf").resolve() == project.CONF
    (tmp_path / "conf").write_text("src/innerloop/conf")
    monkeypatch.chdir(tmp_path)
    assert project.project() is None and project.confs() == [project.CONF]
    call("train.py", *TINY[1:], f"hydra.run.dir={tmp_path / 'run'}")


def test_the_clone_is_no_project_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert project.project() is None and project.code_of_project() is None
    project.check_names()


def test_the_code_of_a_project_is_its_modules_and_settings(own, monkeypatch):
    monkeypatch.chdir(own)
    first = project.code_of_project()
    (own / "notes.md").write_text("x")
    (own / "test_more.py").write_text("x")
    assert project.code_of_project() == first
    (own / "conf" / "task" / "mine.yaml").write_text("_target_: mine.Sawtooth\nshots: 3\nqueries: 3\n")
    assert project.code_of_project() != first
    (own / "conf" / "task" / "sinusoid.yaml").write_text("")
    with pytest.raises(InputError, match="has the name of a choice of innerloop's own"):
        project.check_names()
