"""Sweeps find their jobs again, whatever the order of overrides; a job that fails is recorded and does not end the sweep."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest

from innerloop.config import InputError
from innerloop.reports.jobs import sweep_rows
from innerloop.runs.folder import claimed
from innerloop.sweeps.callbacks import run_key
from tests.command_line import call, start
from tests.conftest import TINY, compose_run


def results_of(directory):
    return {path: path.stat().st_mtime_ns for path in directory.glob("*/results.json")}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Two seeds times three step sizes, one of which is refused and one diverges; what was printed."""
    directory = tmp_path_factory.mktemp("swept")
    stdout, stderr = call("train.py", "-m", *TINY, "algo.inner_lr=0.01,-1,1e30", "seed=0,1", f"hydra.sweep.dir={directory}", code=1)
    return directory, stdout, stderr


def test_failed_jobs_are_recorded_and_the_others_go_on(swept):
    directory, stdout, stderr = swept
    assert "2 finished, 2 failed, 2 diverged" in stdout and "seeds, ± std" in stdout
    assert stderr.count("Error: algo.inner_lr must be a number > 0, got -1") == 2
    errors = sorted(path.read_text() for path in directory.glob("*/error.txt"))
    assert errors == ["algo.inner_lr must be a number > 0, got -1\n"] * 2
    diverged = [path.read_text() for path in directory.glob("*/diverged.txt")]
    assert len(diverged) == 2 and all("the loss is" in text and "algo.inner_lr=1e+30" in text for text in diverged)


def test_what_wandb_writes_is_no_job(swept):
    directory = swept[0]
    before = len(sweep_rows(directory))
    folder = next(directory.glob("*/results.json")).parent / "wandb" / "run-1" / "files"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("wandb_version: 1")
    assert len(sweep_rows(directory)) == before


def test_a_run_may_be_in_any_folder(swept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(next(swept[0].glob("*/results.json")).parent, "files")
    assert len(sweep_rows(Path("files"))) == 1


def test_only_what_is_not_finished_runs_again(swept):
    directory, _, _ = swept
    before = results_of(directory)
    assert len(before) == 2
    # in another order, failed jobs among them, and one that is new
    arguments = [f"hydra.sweep.dir={directory}", "seed=2,1,0", *reversed(TINY), "algo.inner_lr=1e30,0.01"]
    stdout, stderr = call("train.py", "-m", *arguments, code=1)
    after = results_of(directory)
    assert len(after) == 3 and after.items() > before.items()
    assert stdout.count("holds the results of this run already") == 2
    assert stderr.count("Error: the loss is") == 3
    assert "3 finished, 2 failed, 3 diverged" in stdout


def test_an_interrupted_job_goes_on(swept, tmp_path):
    arguments = ["train.py", "-m", *TINY, "outer_steps=4", f"hydra.sweep.dir={tmp_path}"]
    call(*arguments)
    (results,) = results_of(tmp_path)
    whole = json.loads(results.read_text())
    results.unlink()
    (results.parent / "checkpoints" / "step-00000004.ckpt").unlink()
    assert sweep_rows(tmp_path)[0]["remark"] == "interrupted, 2 outer steps saved"
    with claimed(results.parent):
        assert sweep_rows(tmp_path)[0]["remark"] == "running, 2 outer steps saved"
    assert "going on after outer step 2" in call(*arguments)[0]
    assert json.loads(results.read_text())["curve"] == whole["curve"]


def test_the_table_sorts_and_is_written_for_other_programs(swept, tmp_path):
    directory, _, _ = swept
    call("-m", "innerloop", "table", str(directory), "--sort=-value", "--csv", str(tmp_path / "table.csv"))
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["value"]) for row in rows if row["value"]]
    assert values == sorted(values, reverse=True) and len(values) >= 2
    assert {row["algo.inner_lr"] for row in rows if not row["value"]} == {"-1", "1e+30"}
    assert {row["remark"].partition(":")[0] for row in rows if not row["value"]} == {"failed", "diverged"}
    assert {row["seeds"] for row in rows if row["value"]} == {str(len(values))}
    with pytest.raises(InputError, match="the table has no column valeu; sort by one of job, algo.inner_lr"):
        sweep_rows(directory, "valeu")


def test_a_sweep_of_another_project_is_refused(tmp_path):
    (tmp_path / "multirun.yaml").write_text("model: resnet\n")
    stdout, stderr = call("train.py", "-m", *TINY, f"hydra.sweep.dir={tmp_path}", code=1)
    assert stdout == "" and stderr.startswith("Error: ") and "holds a sweep of another project" in stderr
    assert len(list(tmp_path.iterdir())) == 1


def test_the_key_of_a_job_is_that_of_its_settings():
    key = run_key(compose_run("seed=1", "algo.inner_lr=0.02"))
    assert key == run_key(compose_run("algo.inner_lr=0.02", "seed=1", "resume=force")) and len(key) == 8
    assert key != run_key(compose_run("algo.inner_lr=0.02"))


@pytest.mark.slow
def test_jobs_of_several_devices_beside_each_other(tmp_path):
    """A launcher's worker is another program than train.py, which the processes of its further devices have to be."""
    several = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra/launcher=joblib", "seed=0,1"]
    stdout, _ = start("train.py", "-m", f"--config-dir={tmp_path}", *TINY, *several, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert "2 finished, 0 failed" in stdout


def test_a_job_is_worth_its_validation_loss_and_infinitely_bad_where_it_fails(swept, tmp_path, monkeypatch):
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from innerloop.sweeps import job

    def value(*overrides):
        directory = tmp_path / "-".join(overrides)
        hydra = OmegaConf.create({
            "runtime": {"output_dir": str(directory), "config_sources": []},
            "mode": "MULTIRUN", "run": {"dir": "x"}, "overrides": {"task": list(overrides)},
            "launcher": {"_target_": "BasicLauncher"},
        })  # fmt: skip
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra))
        directory.mkdir()
        return job.run_job(compose_run(*TINY, *overrides))

    monkeypatch.setattr(job, "RunMode", type("Mode", (), {"MULTIRUN": "MULTIRUN"}))
    good = value("seed=0")
    assert good == json.loads((tmp_path / "seed=0" / "results.json").read_text())["val_loss"] and math.isfinite(good)
    assert value("algo.inner_lr=-1") == value("algo.inner_lr=1e30") == math.inf


@pytest.mark.slow
def test_several_devices_job_after_job(tmp_path):
    """Each job starts its own second process, in its own directory, and gives what one process gives."""
    common = [*TINY, "meta_batch_size=4", "test_episodes=7", "trainer=ddp", "trainer.accelerator=cpu"]
    stdout, stderr = start("train.py", "-m", *common, "trainer.devices=1,2", "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert "4 finished, 0 failed" in stdout
    assert stdout.count("maml on sinusoid, 7 test episodes") == 4  # one process of each job speaks
    assert len(list(tmp_path.iterdir())) == 5  # and multirun.yaml
    values = {(row["trainer.devices"], row["seed"]): row["value"] for row in sweep_rows(tmp_path)}
    for seed in (0, 1):
        assert values[2, seed] == pytest.approx(values[1, seed], rel=1e-5)


def test_the_table_takes_what_it_finds(swept, tmp_path):
    """Brackets in a sentence, files that cannot be read, another job's process."""
    for name in ("bracket", "damaged", "busy"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / "bracket" / "error.txt").write_text("must be [low, high] [/x]")
    (tmp_path / "damaged" / "config.yaml").write_text("{")
    (tmp_path / "damaged" / "checkpoints" / "step-final.ckpt").write_text("")
    (tmp_path / "busy" / "error.txt").write_text("of an earlier try")
    (tmp_path / "busy" / "config.yaml").write_text("seed: 1")
    with claimed(tmp_path / "busy"):
        stdout, _ = call("-m", "innerloop", "table", str(tmp_path))
    assert "0 finished, 1 failed, 2 unfinished" in " ".join(stdout.split())
    assert "failed: must be [low, high] [/x]" in stdout and "running, 0 outer steps saved" in stdout
    _, stderr = call("-m", "innerloop", "table", str(tmp_path), "--csv", str(tmp_path / "nowhere" / "table.csv"), code=1)
    assert "cannot write" in stderr and stderr.count("\n") == 1


def test_a_job_that_is_running_elsewhere_is_not_marked_as_failed(tmp_path):
    arguments = ["train.py", "-m", *TINY, f"hydra.sweep.dir={tmp_path}"]
    call(*arguments)
    (results,) = results_of(tmp_path)
    with claimed(results.parent):
        assert "another process is running in" in call(*arguments)[1]
    assert not list(tmp_path.rglob("error.txt"))
