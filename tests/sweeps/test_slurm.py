"""Sweeps on a real Slurm cluster; `make test-slurm` starts one of one node. What is refused before submission is in test_launchers.py."""

import json
import subprocess
import sys
import time

import pytest
import torch

from innerloop.reports.jobs import sweep_rows
from innerloop.sweeps.slurm import accounting
from tests.conftest import ROOT, TINY

pytestmark = pytest.mark.skipif(not accounting(), reason="no Slurm cluster here; `make test-slurm` starts one")
LONG = ("outer_steps=6000", "val_every=100", "val_episodes=10", "test_episodes=20")  # half a minute
ON_SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1")


def start(directory, *overrides):
    command = [sys.executable, "train.py", "-m", *overrides, f"hydra.sweep.dir={directory}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process, within=300):
    """What was printed, and the exit code. A sweep that waits for ever is ended."""
    try:
        return process.communicate(timeout=within)[0], process.returncode
    finally:
        process.kill()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return found


def slurm(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def jobs(*options):
    return slurm("squeue", "--noheader", "--array", "--format=%i", *options).split()


def waits_for_its_turn():
    """A job that is queued again begins after two minutes."""
    return "BeginTime" in slurm("squeue", "--noheader", "--format=%r")


def begin_now():
    slurm("scontrol", "update", f"jobid={jobs()[0]}", "StartTime=now")


def outcome(directory):
    """Of the job of each seed: its scores and the bits of its weights."""
    found = {}
    for path in directory.glob("*/results.json"):
        results = json.loads(path.read_text())
        weights = torch.load(path.parent / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        found[results["seed"]] = results["curve"], {name: value.tolist() for name, value in weights.items()}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    assert ended(start(directory, *LONG))[1] == 0
    return outcome(directory)


def test_an_array_of_four_gives_what_one_machine_gives(tmp_path):
    assert ended(start(tmp_path / "here", *TINY, "seed=0,1,2,3"))[1] == 0
    printed, code = ended(start(tmp_path / "slurm", *TINY, "seed=0,1,2,3", *ON_SLURM))
    assert code == 0 and "4 finished, 0 failed" in printed
    assert outcome(tmp_path / "slurm") == outcome(tmp_path / "here")
    assert len({path.name.partition("_")[0] for path in (tmp_path / "slurm" / ".submitit").iterdir() if path.is_dir()}) == 1  # array


def test_a_preempted_job_is_queued_again_and_ends_with_the_same_bits(tmp_path, undisturbed):
    sweep = start(tmp_path, *LONG, *ON_SLURM)
    wait_for(lambda: list(tmp_path.glob("*/checkpoints/step-*.ckpt")))
    slurm("scancel", "--signal=USR2", *jobs())
    wait_for(waits_for_its_turn)
    begin_now()
    printed, code = ended(sweep)
    assert code == 0 and "1 finished, 0 failed" in printed
    assert "going on after outer step" in next(tmp_path.glob(".submitit/*/*_log.out")).read_text()
    assert outcome(tmp_path) == undisturbed


def test_a_killed_job_is_reported_and_the_others_go_on(tmp_path):
    sweep = start(tmp_path, *LONG, "seed=0,1,2", *ON_SLURM)
    wait_for(lambda: len({path.parent for path in tmp_path.glob("*/checkpoints/step-*.ckpt")}) == 2)  # two cores, the third job waits
    slurm("scancel", jobs("--states=RUNNING")[0], jobs("--states=PENDING")[0])
    printed, code = ended(sweep)
    assert code == 1 and "1 finished, 2 failed" in printed
    remarks = [row["remark"] for row in sweep_rows(tmp_path) if row["remark"]]
    assert len(remarks) == 2 and all(remark.startswith("failed: job ") and "CANCELLED" in remark for remark in remarks)


def test_a_run_longer_than_its_allotments_is_finished(tmp_path):
    """Two minutes each, of which Slurm leaves it half a minute or more."""
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=45")
    sweep, requeued = start(tmp_path, *LONG, "outer_steps=12000", *limits, *ON_SLURM), 0
    while requeued < 3 and wait_for(lambda: sweep.poll() is not None or waits_for_its_turn(), 200) and sweep.poll() is None:
        begin_now()
        requeued += 1
    printed, code = ended(sweep)
    assert requeued >= 1
    assert code == 0 and "1 finished, 0 failed" in printed
    assert "going on after outer step" in next(tmp_path.glob(".submitit/*/*_log.out")).read_text()
    assert json.loads(next(tmp_path.glob("*/results.json")).read_text())["outer_steps"] == 12000


def test_slurm_starts_a_process_for_each_device(tmp_path):
    common = (*TINY, "meta_batch_size=4", "trainer=ddp", "trainer.accelerator=cpu")
    assert ended(start(tmp_path / "here", *common, "trainer.devices=1"))[1] == 0
    printed, code = ended(start(tmp_path / "slurm", *common, "trainer.devices=2", *ON_SLURM))
    assert code == 0 and "1 finished, 0 failed" in printed, printed
    here, there = (outcome(tmp_path / place)[0][0] for place in ("here", "slurm"))
    assert [p["value"] for p in there] == pytest.approx([p["value"] for p in here], rel=1e-5)
