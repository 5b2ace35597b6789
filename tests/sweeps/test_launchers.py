"""What launchers are set to, what is refused before anything starts, and that each job of a local sweep has GPUs of its own."""

import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from innerloop.config import InputError, register
from innerloop.sweeps.gpus import claim_free
from innerloop.sweeps.launchers import check_launcher, gpus_asked, jobs_at_once, number_of, preset_launchers
from innerloop.sweeps.slurm import check_slurm
from tests.command_line import start
from tests.conftest import ROOT, TINY


def sweep_config(*overrides):
    """What Hydra knows when `python train.py -m OVERRIDES` is about to start jobs, with the sweep's values left out."""
    register()
    preset_launchers(ROOT / "conf" / "hydra" / "launcher_presets")
    swept = [o for o in overrides if "," in o and "[" not in o]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[o for o in overrides if o not in swept], return_hydra_config=True)
    OmegaConf.set_readonly(cfg, False)
    cfg.hydra.overrides.task = [o for o in overrides if not o.startswith("hydra")]
    return cfg


@pytest.fixture
def a_cluster(monkeypatch):
    """A login node."""
    monkeypatch.setattr("innerloop.sweeps.slurm.shutil.which", lambda name: name)
    monkeypatch.setattr("innerloop.sweeps.slurm.accounting", lambda: True)


def test_slurm_is_asked_for_a_process_and_a_gpu_for_each_device(a_cluster):
    devices = ("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2")
    for accelerator, gpus in (("gpu", 4), ("auto", 4), ("cpu", None)):
        cfg = sweep_config("hydra/launcher=submitit_slurm", *devices, f"trainer.accelerator={accelerator}")
        check_slurm(cfg)
        launcher = cfg.hydra.launcher
        assert (launcher.tasks_per_node, launcher.nodes, launcher.gpus_per_node) == (4, 2, gpus)
        assert launcher.max_num_timeout > 0  # a job that runs out of time goes on


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["hydra.launcher.tasks_per_node=2"], "hydra.launcher.tasks_per_node=2 must be trainer.devices=1: set trainer.devices alone"),
        (["hydra.launcher.nodes=2"], "hydra.launcher.nodes=2 must be trainer.num_nodes=1"),
        (["hydra.launcher.timeout_min=3"], "timeout_min=3 leaves no time to train before hydra.launcher.signal_delay_s=120"),
        (["trainer=gpu", "hydra.launcher.gpus_per_node=0"], "hydra.launcher.gpus_per_node=0 is too few for trainer.devices=1"),
        (["trainer=ddp", "trainer.devices=auto"], "trainer.devices=auto does not say how many processes Slurm is to start"),
        (["trainer=ddp", "trainer.devices=1,2"], "trainer.devices cannot be swept on Slurm"),
        (["trainer=cpu,gpu"], "trainer cannot be swept on Slurm"),
    ],
)
def test_what_slurm_cannot_do_is_refused(a_cluster, overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        check_slurm(sweep_config("hydra/launcher=submitit_slurm", *overrides))


def test_a_machine_without_slurm_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs sbatch, which is not here; start the sweep on a login node"):
        check_launcher(sweep_config("hydra/launcher=submitit_slurm"))


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["hydra/launcher=ray", "trainer=ddp"], "trainer.accelerator=auto leaves open whether a cluster is to give each job GPUs"),
        (["hydra/launcher=ray", "trainer=gpu", "trainer.devices=auto"], "trainer.devices=auto leaves open how many devices"),
        (
            ["hydra/launcher=joblib", "trainer=gpu", "trainer.devices=[1]"],
            "jobs side by side choose from CUDA_VISIBLE_DEVICES; give a number",
        ),
        (["hydra/launcher=joblib", "trainer=gpu", "trainer.devices=-1"], "trainer.devices=-1 leaves open how many devices"),
    ],
)
def test_what_leaves_devices_open_is_refused(overrides, sentence, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("INNERLOOP_GPUS", raising=False)
    with pytest.raises(InputError, match=sentence.replace("[", r"\[")):
        check_launcher(sweep_config(*overrides))


def test_jobs_at_once_on_this_machine(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert jobs_at_once("cpu", 1) == -1  # joblib's word for all cores
    assert (jobs_at_once("gpu", 1), jobs_at_once("gpu", 3), jobs_at_once("auto", [0, 1])) == (8, 2, 4)
    assert gpus_asked("gpu", 3) == 3 and gpus_asked("cpu", 3) is None
    for devices in ("auto", -1, 0):
        with pytest.raises(InputError, match=f"trainer.devices={devices} leaves open how many devices"):
            number_of(devices)


CLAIM = """
import logging, os, sys
from innerloop.sweeps.gpus import claim_gpus
logging.basicConfig(level="INFO")
claim_gpus(int(sys.argv[1]))
claim_gpus(int(sys.argv[1]))  # of its next job
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def claiming(number, tmp_path):
    """Of those that the user chose, whatever submitit then says."""
    environment = {**os.environ, "INNERLOOP_GPUS": "3,5,7", "CUDA_VISIBLE_DEVICES": "0,1,2", "TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", CLAIM, str(number)], env=environment, text=True, **pipes)


def test_each_process_has_gpus_of_its_own_and_waits_for_them(tmp_path):
    first, second, too_many = (claiming(number, tmp_path) for number in (2, 1, 4))
    assert "trainer.devices=4 asks for more GPUs than the 3" in too_many.communicate()[1]
    theirs = [first.stdout.readline().strip(), second.stdout.readline().strip()]
    assert sorted(",".join(theirs).split(",")) == ["3", "5", "7"] and len(theirs[1]) == 1
    third = claiming(2, tmp_path)
    assert third.stderr.readline().endswith("waiting for 2 of the GPUs 3,5,7, which other jobs have\n")
    first.communicate()  # ends, as its input does
    assert third.stdout.readline().strip() == theirs[0]
    second.communicate(), third.communicate()


def test_a_folder_of_somebody_else_is_no_place_to_choose_gpus(tmp_path, monkeypatch):
    """What stands there could lead anywhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"innerloop-gpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="where jobs say which GPUs they have, is not yours; delete it, or set TMPDIR"):
        claim_free(["0"], 1)
    assert not list((tmp_path / "elsewhere").iterdir())


def results_of(directory):
    return {path: path.stat().st_mtime_ns for path in directory.glob("*/results.json")}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_other_launchers_give_the_same_jobs(launcher, tmp_path):
    """Processes of their own find the same folders, and a job that is finished there is not run again."""
    arguments = ["train.py", "-m", *TINY, "seed=0,1", f"hydra.sweep.dir={tmp_path}"]
    stdout, stderr = start(*arguments, f"hydra/launcher={launcher}")
    assert "2 finished, 0 failed" in stdout and "UserWarning" not in stderr
    before = results_of(tmp_path)
    assert len(before) == 2
    assert start(*arguments)[0].count("holds the results of this run already") == 2
    assert results_of(tmp_path) == before
