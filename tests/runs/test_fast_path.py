"""Whether compiling pays is decided by the settings, and said."""

import logging

import pytest

from innerloop.runs import fast_path
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
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
        ([*LONG, "task=tabular", "algo=protonet"], True),
    ],
)
def test_it_pays_in_many_steps_of_small_networks(settings, pays):
    assert build_run(compose_run(*settings)).learner.shares.execution.compile is pays


def test_a_run_that_is_compiled_says_so(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "innerloop")
    monkeypatch.setattr(fast_path, "TASKS", 4)
    for settings, times in (([], 1), (["engine.compile=false"], 0)):
        caplog.clear()
        run(compose_run(*TINY, *settings), tmp_path / str(times))
        said = [record.getMessage() for record in caplog.records if record.name.startswith("innerloop")]
        assert said.count("engine.compile=true, since it pays in so many steps of so small a network (false: without)") == times
