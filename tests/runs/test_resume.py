"""An interrupted run goes on to the same bits; damage is named and costs one generation; other settings and other code are refused."""

import errno
import json
import logging
import math
import os
import shutil

import pytest
import survive
import torch
from filelock import FileLock

from innerloop.config import InputError
from innerloop.runs import experiment, settings
from innerloop.runs.experiment import run
from innerloop.training.checkpoint import read
from innerloop.training.learner import MetaLearner
from tests.conftest import compose_run

SHORT = ["outer_steps=40", "val_every=10", "val_episodes=5", "test_episodes=10", "trainer.log_every_n_steps=7", "eval_adaptation_steps=2"]
SHORT += ["meta_batch_size=4", "scheduler=cosine", "threads=1"]


class Killed(Exception):
    """Stands for SIGKILL, which scripts/survive.py sends."""


def interrupted(overrides, directory, step):
    """A run that ended in the middle of outer step `step`."""
    original = MetaLearner.training_step

    def training_step(self, episodes, batch_index):
        if self.global_step >= step:
            raise Killed
        return original(self, episodes, batch_index)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MetaLearner, "training_step", training_step)
        run(compose_run(*overrides), directory)


def differing(one, other):
    wanted, got = survive.outcome(one), survive.outcome(other)
    return [key for key in wanted if not survive.same(wanted[key], got[key])]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run that nothing disturbed."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    run(compose_run(*SHORT), directory)
    return directory


@pytest.fixture
def stopped(tmp_path):
    """The same, ended in outer step 33: checkpoints of 20 and 30."""
    interrupted(SHORT, tmp_path / "stopped", 33)
    assert sorted(path.name for path in (tmp_path / "stopped" / "checkpoints").glob("*")) == [
        "best.ckpt", "step-00000020.ckpt", "step-00000030.ckpt",
    ]  # fmt: skip
    return tmp_path / "stopped"


OWN = {
    "gradient accumulation": ["+trainer.accumulate_grad_batches=2"],
    "double precision, frozen weights": ["task=tabular", "algo=metaoptnet", "trainer.precision=64-true"],
}
WITHIN = ("maml", "reptile")  # of which others have a part more
RUNS = OWN | {name: overrides for name, overrides in survive.RUNS.items() if "processes" not in name and name not in WITHIN}


SLOW = ("trust region, policies", "rl2")  # others of policies, and of memories in tests/tasks/test_worlds.py, are quick


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RUNS])
def test_goes_on_to_the_same_bits(name, tmp_path):
    overrides = [*SHORT, *RUNS[name]]
    run(compose_run(*overrides), tmp_path / "alone")
    for step in (3, 13, 30 if name not in OWN else 17):  # before the first checkpoint, and twice after one
        interrupted(overrides, tmp_path / "run", step)
    run(compose_run(*overrides), tmp_path / "run")
    assert differing(tmp_path / "alone", tmp_path / "run") == []


def test_killed_while_it_is_tested(alone, tmp_path):
    shutil.copytree(alone, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    run(compose_run(*SHORT), tmp_path / "run")
    assert differing(alone, tmp_path / "run") == []


def test_a_run_that_stopped_early_is_not_trained_on(tmp_path):
    early = "+callbacks.early={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, patience: 1, min_delta: 100}"
    overrides = [*SHORT, early]
    whole = run(compose_run(*overrides), tmp_path / "run")
    assert whole["outer_steps"] < 40
    for lost in (
        "results.json",
        f"checkpoints/step-{whole['outer_steps']:08d}.ckpt",
    ):  # killed as it was tested, or before its last validation
        (tmp_path / "run" / "results.json").unlink(missing_ok=True)
        (tmp_path / "run" / lost).unlink(missing_ok=True)
        again = run(compose_run(*overrides), tmp_path / "run")
        assert (again["outer_steps"], again["curve"], again["val_loss"]) == (whole["outer_steps"], whole["curve"], whole["val_loss"])


def test_another_directory_does_not_matter(stopped, alone, tmp_path):
    stopped.rename(tmp_path / "moved")
    run(compose_run(*SHORT), tmp_path / "moved")
    assert differing(alone, tmp_path / "moved") == []


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_program(path):
    torch.save({"state_dict": {}, "global_step": 30}, path)


REASONS = {truncate: "damaged", empty: "damaged", flip_a_bit: "damaged", of_another_program: "not written by a run of innerloop"}


@pytest.mark.parametrize("damage", REASONS, ids=lambda damage: damage.__name__)
def test_a_bad_checkpoint_is_named_and_the_one_before_it_used(damage, stopped, alone, caplog):
    path = stopped / "checkpoints" / "step-00000030.ckpt"
    damage(path)
    with caplog.at_level(logging.INFO):
        run(compose_run(*SHORT), stopped)
    assert f"{path} " in caplog.text and REASONS[damage] in caplog.text
    assert "going on after outer step 20" in caplog.text
    assert differing(alone, stopped) == []


def test_a_checkpoint_of_other_settings_is_refused_and_stays(stopped):
    """As where resume=force was killed before its first checkpoint, and is not there the second time."""
    path = stopped / "checkpoints" / "step-00000030.ckpt"
    state = torch.load(path, weights_only=True)
    state["innerloop"]["origin"]["settings"]["optimizer.lr"] = 0.5
    torch.save(state, path)
    with pytest.raises(InputError, match=r"step-00000030.ckpt is of a run with other settings \(optimizer.lr=0.5 there .* resume=force"):
        run(compose_run(*SHORT), stopped)
    assert path.exists()


def test_results_name_the_machines_that_a_run_was_on(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "hardware", lambda: "a GPU, 16 cores")
    interrupted(SHORT, tmp_path, 23)
    interrupted(SHORT, tmp_path, 33)
    monkeypatch.setattr(experiment, "hardware", lambda: "a CPU, 2 cores")
    assert run(compose_run(*SHORT), tmp_path)["hardware"] == "a GPU, 16 cores, then a CPU, 2 cores"


def test_missing_checkpoints(stopped, alone, caplog):
    (stopped / "checkpoints" / "step-00000030.ckpt").unlink()
    with caplog.at_level(logging.INFO):
        run(compose_run(*SHORT), stopped)
    assert "going on after outer step 20" in caplog.text
    assert differing(alone, stopped) == []


def test_without_its_best_weights_a_run_starts_anew(stopped, alone, caplog):
    empty(stopped / "checkpoints" / "best.ckpt")
    run(compose_run(*SHORT), stopped)
    assert "best.ckpt is damaged" in caplog.text
    assert differing(alone, stopped) == []


def test_every_bit_counts(alone):
    """Any byte of a checkpoint may be turned over: it is refused, or holds the same as before."""
    path = alone / "checkpoints" / "step-00000040.ckpt"
    whole, copy = path.read_bytes(), path.with_name("copy")
    for place in range(0, len(whole), 997):
        copy.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            assert survive.same(read(copy), read(path))
        except InputError as error:
            assert "copy is damaged" in str(error)
    copy.unlink()


def test_a_full_disk_ends_the_run_in_one_sentence_and_loses_nothing(alone, tmp_path, monkeypatch):
    overrides, directory, written = SHORT, tmp_path / "run", []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) == 11:  # config.yaml, best and step 10, best and step 20, each and its folder, and then
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="cannot write .*ckpt: No space left on device; nothing that was there"),
    ):
        patch.setattr(os, "fsync", fsync)
        run(compose_run(*overrides), directory)
    assert not list((directory / "checkpoints").glob(".*"))
    assert read(directory / "checkpoints" / "step-00000020.ckpt")["global_step"] == 20
    run(compose_run(*overrides), directory)
    assert differing(alone, directory) == []


def test_a_finished_run_is_left_as_it_is(alone, monkeypatch, caplog):
    before = {path: path.read_bytes() for path in alone.rglob("*") if path.is_file()}
    assert run(compose_run(*SHORT), alone) == json.loads((alone / "results.json").read_text())
    assert {path: path.read_bytes() for path in alone.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(settings, "commit", lambda: "another")
    with caplog.at_level(logging.INFO):
        run(compose_run(*SHORT), alone)
    assert "holds the results of this run already, of other code (commit=" in caplog.text


@pytest.mark.parametrize("which", ["stopped", "alone"])
def test_other_settings_are_refused_unless_forced(which, request, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(request.getfixturevalue(which), directory)
    with pytest.raises(
        InputError, match=r"holds a run with other settings \(algo.inner_lr=0.01 there and 0.02 here, outer_steps=40 there and 60 here, "
    ):
        run(compose_run(*SHORT, "algo.inner_lr=0.02", "outer_steps=60"), directory)
    results = run(compose_run(*SHORT, "algo.inner_lr=0.02", "outer_steps=60", "optimizer.lr=0.002", "resume=force"), directory)
    assert (results["outer_steps"], results["config"]["algo"]["inner_lr"]) == (60, 0.02)
    state = read(directory / "checkpoints" / "step-00000050.ckpt")
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.002 * (1 + math.cos(math.pi * 50 / 60)) / 2)
    assert state["optimizer_states"][0]["state"][0]["step"] == 50  # its moments went on


def test_the_best_weights_by_another_measure_are_found_anew(stopped):
    """On harder tasks no loss is below what the easier ones had."""
    before = read(stopped / "checkpoints" / "step-00000030.ckpt")["innerloop"]["best_loss"]
    results = run(compose_run(*SHORT, "task.amplitude=[4.0,5.0]", "resume=force"), stopped)
    assert results["val_loss"] > before and read(stopped / "checkpoints" / "best.ckpt")["global_step"] == 40


def test_a_stopper_gets_its_new_patience(tmp_path):
    def overrides(patience):
        stop = f"_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, patience: {patience}, min_delta: 100"
        return [*SHORT, "outer_steps=60", f"+callbacks.early={{{stop}}}"]

    assert run(compose_run(*overrides(1)), tmp_path)["outer_steps"] == 20
    assert run(compose_run(*overrides(2), "resume=force"), tmp_path)["outer_steps"] == 50


def test_other_code_is_refused_unless_forced(stopped, monkeypatch):
    monkeypatch.setattr(settings, "commit", lambda: "another")
    with pytest.raises(InputError, match="step-00000030.ckpt was written by other code .commit=.* there and another here"):
        run(compose_run(*SHORT), stopped)
    assert run(compose_run(*SHORT, "resume=force"), stopped)["outer_steps"] == 40


def test_a_directory_in_use_is_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process is running in"):
        run(compose_run(*SHORT), tmp_path)


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="holds results.json but no config.yaml of a run"):
        run(compose_run(*SHORT), tmp_path)
    assert (tmp_path / "results.json").read_text() == "{}"


def test_resume_takes_two_words(tmp_path):
    with pytest.raises(InputError, match="resume must be one of auto, force, got 'never'"):
        run(compose_run(*SHORT, "resume=never"), tmp_path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("steps_at_once=10", "took 1 outer steps at once, and cannot go on with 10; set steps_at_once=1"),
        ("optimizer=sgd", "is of a training with optimizer=torch.optim.Adam, which cannot go on with optimizer=torch.optim.SGD"),
        ("outer_steps=20", "is past outer_steps=20; ask for more"),
    ],
)
def test_what_force_cannot_do_is_refused(override, sentence, stopped):
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*SHORT, override, "resume=force"), stopped)


def test_what_does_not_go_with_the_steps_that_a_run_took_is_said_at_once(tmp_path):
    run(compose_run(*SHORT, "outer_steps=20", "steps_at_once=10"), tmp_path)
    sentence = "took 10 outer steps at once, and what goes on does too: steps_at_once=10 does without gradient clipping.*; or take another"
    with pytest.raises(InputError, match=sentence):
        run(compose_run(*SHORT, "trainer.gradient_clip_val=1", "resume=force"), tmp_path)


def test_a_forced_run_that_is_killed_leaves_no_older_results(alone, tmp_path):
    shutil.copytree(alone, tmp_path / "run")
    longer = [*SHORT, "outer_steps=60"]
    interrupted([*longer, "resume=force"], tmp_path / "run", 53)
    assert not (tmp_path / "run" / "results.json").exists()
    assert run(compose_run(*longer), tmp_path / "run")["outer_steps"] == 60


def test_a_users_own_files_and_callbacks_do_not_matter(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    spoiled = [*SHORT, "optimizer.lr=0.5", "val_episodes=20"]
    plain = run(compose_run(*spoiled), tmp_path / "plain")
    added = [
        "+callbacks.mine._target_=lightning.pytorch.callbacks.ModelCheckpoint",
        f"logger.csv.save_dir={tmp_path}",
        "logger.csv.version=logs",
    ]
    results = run(compose_run(*spoiled, *added), tmp_path / "run")
    assert (results["curve"], results["val_loss"]) == (plain["curve"], plain["val_loss"])
    assert (tmp_path / "logs" / "notes.txt").read_text() == "mine" and (tmp_path / "logs" / "metrics.csv").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_results_are_named(content, alone, tmp_path):
    shutil.copytree(alone, tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text(content)
    with pytest.raises(InputError, match="results.json is damaged"):
        run(compose_run(*SHORT), tmp_path / "run")
