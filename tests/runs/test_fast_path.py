"""Whether compiling pays is decided by the settings, and said."""

import csv
import logging

import pytest
import torch

from innerloop.config import InputError
from innerloop.runs import fast_path
from innerloop.runs.build import build_run
from innerloop.runs.experiment import load_run, run
from tests.conftest import TINY, compose_run

LONG = ["outer_steps=16000", "meta_batch_size=25"]


@pytest.mark.parametrize(
    "settings, pays",
    [
        (LONG, True),
        (["outer_steps=15999", "meta_batch_size=25"], False),
        (["outer_steps=8000", "meta_batch_size=25", "+trainer.accumulate_grad_batches=2"], True),
        ([*LONG, "engine.compile=false"], False),
        (["outer_steps=2", "engine.compile=true"], True),
        ([*LONG, "engine=loop"], False),
        ([*LONG, "trainer=ddp"], False),
        ([*LONG, "trainer=debug"], False),
        ([*LONG, "trainer.precision=bf16-mixed"], False),
        ([*LONG, "algo.checkpoint_inner=true"], False),
        ([*LONG, "task.shots=[5,10]"], False),
        ([*LONG, "model.hidden=[500,500]"], False),
        ([*LONG, "task=glyphs", "engine=vmap", "model.filters=4"], False),
        ([*LONG, "task=compass"], False),
        ([*LONG, "callbacks=ema"], False),
        ([*LONG, "task=tabular", "algo=protonet"], True),
    ],
)
def test_it_pays_in_many_steps_of_small_networks(settings, pays):
    assert build_run(compose_run(*settings)).learner.shares.execution.compile is pays


@pytest.mark.parametrize(
    "settings, engine, captured",
    [
        (["task=glyphs"], "vmap", True),
        (["task=glyphs", "outer_steps=199", "val_every=199"], "vmap", False),
        (["task=glyphs", "model.filters=500"], "vmap", False),
        (["task=glyphs", "engine=loop"], "loop", False),
        (["task=glyphs", "trainer.precision=bf16-mixed"], "vmap", False),
        (["task=glyphs", "trainer.accelerator=cpu"], "loop", False),
        (["outer_steps=200"], "vmap", True),
    ],
)
def test_a_gpu_takes_all_tasks_at_once_in_a_graph(settings, engine, captured, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    learner = build_run(compose_run("trainer=gpu", *settings)).learner
    assert learner.algorithm.engine.__name__ == engine and learner.shares.execution.compile is captured


def test_a_run_that_is_compiled_says_so(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "innerloop")
    monkeypatch.setattr(fast_path, "TASKS", 2)
    once = ["outer_steps=1", "val_every=1"]  # the first meta-batch is never compiled
    for settings, times in ((once, 1), ([*once, "engine.compile=false"], 0)):
        caplog.clear()
        run(compose_run(*TINY, *settings), tmp_path / str(times))
        said = [record.getMessage() for record in caplog.records if record.name.startswith("innerloop")]
        assert said.count("engine.compile=true, since it pays in so many steps of so small a network (false: without)") == times


@pytest.mark.parametrize(
    "settings, steps",
    [
        ([], 10),
        (["outer_steps=990"], 1),
        (["outer_steps=5005", "val_every=5005"], 1),
        (["val_every=505", "outer_steps=5050"], 1),
        (["steps_at_once=5"], 5),
        (["steps_at_once=1"], 1),
        (["trainer.log_every_n_steps=5"], 1),
        (["trainer.gradient_clip_val=1.0"], 1),
        (["+trainer.accumulate_grad_batches=2"], 1),
        (["trainer=ddp"], 1),
        (["reuse=2"], 1),
        (["engine=loop"], 1),
        (["model.hidden=[500,500]"], 1),
        (["callbacks=early_stopping"], 10),
        (["callbacks=ema"], 1),
        (["+trainer.max_time=00:01:00:00"], 10),
        (["+trainer.limit_train_batches=200"], 1),
        (["+trainer.max_steps=105"], 1),
        (["trainer=ddp", "trainer.devices=1", "trainer.accelerator=cpu"], 1),
        (["task=compass"], 1),
        (["task.shots=[5,10]"], 1),
        (["task=glyphs", "engine=vmap", "model.filters=4"], 1),
    ],
)
def test_several_steps_are_taken_at_once_where_only_the_time_changes(settings, steps):
    built = build_run(compose_run(*settings))
    assert built.learner.steps_at_once == built.data.steps_at_once == steps


def test_the_numbers_are_those_of_one_step_at_a_time(tmp_path):
    common = [*TINY, "outer_steps=1000", "val_every=500", "meta_batch_size=2", "scheduler=cosine"]
    asked, unasked = (run(compose_run(*common, *more), tmp_path / str(len(more))) for more in (["steps_at_once=1"], []))
    assert asked["curve"] == unasked["curve"] and asked["outer_steps"] == unasked["outer_steps"] == 1000
    logs = [list(csv.DictReader((tmp_path / str(place) / "csv" / "metrics.csv").read_text().splitlines())) for place in (1, 0)]
    assert [row.pop("epoch") for row in logs[0]] and logs[0] == logs[1]


def test_the_fused_optimizer_comes_with_the_compiled_step(monkeypatch):
    monkeypatch.setattr(fast_path, "TASKS", 4)
    for settings, fused in (
        [[], True],
        [["optimizer.fused=false"], False],
        [["engine.compile=false"], None],
        [["engine.compile=true"], None],
    ):
        learner = build_run(compose_run(*TINY, *settings)).learner
        assert learner.optimizer(params=learner.parameters()).defaults["fused"] is fused
    learner = build_run(compose_run(*TINY, "optimizer=sgd")).learner
    assert learner.optimizer(params=learner.parameters()).defaults["lr"] > 0


def test_a_run_goes_on_in_the_steps_that_it_took(tmp_path):
    """One that was too short to take several, made longer; and one whose log is to be finer than it was."""
    short = [*TINY, "outer_steps=990", "val_every=110", "meta_batch_size=1"]
    run(compose_run(*short), tmp_path / "short")
    longer = [*short, "outer_steps=1100", "resume=force"]
    with pytest.raises(InputError, match="took 1 outer steps at once, and cannot go on with 10; set steps_at_once=1"):
        run(compose_run(*longer, "steps_at_once=10"), tmp_path / "short")
    assert run(compose_run(*longer), tmp_path / "short")["outer_steps"] == 1100

    long = [*TINY, "outer_steps=1000", "val_every=500", "meta_batch_size=1"]
    wanted = run(compose_run(*long), tmp_path / "long")
    for file in (tmp_path / "long" / "results.json", tmp_path / "long" / "checkpoints" / "step-00001000.ckpt"):
        file.unlink()
    assert run(compose_run(*long, "trainer.log_every_n_steps=25"), tmp_path / "long")["curve"] == wanted["curve"]


def test_checkpoints_of_an_older_version_say_it_in_their_settings(tmp_path):
    settings = [*TINY, "outer_steps=40", "val_every=20", "steps_at_once=10"]
    run(compose_run(*settings), tmp_path)
    for path in (tmp_path / "checkpoints").glob("step-*.ckpt"):
        content = torch.load(path, weights_only=False)
        content["innerloop"]["origin"]["settings"]["steps_at_once"] = content.pop("steps_at_once")
        torch.save(content, path)
    longer = [*TINY, "outer_steps=80", "val_every=20", "resume=force"]
    results = run(compose_run(*longer), tmp_path)
    assert results["outer_steps"] == 80 and load_run(tmp_path).learner is not None


@pytest.mark.parametrize("preset", ["sinusoid_cavia", "sinusoid_metacurvature"])
def test_long_presets_are_on_it(preset):
    learner = build_run(compose_run(f"experiment={preset}")).learner
    assert learner.steps_at_once == 10 and learner.shares.execution.compile
    assert learner.optimizer(params=learner.parameters()).defaults["fused"]
