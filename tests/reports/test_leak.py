"""The leak meter: what a score owes to the other queries."""

import pytest

from innerloop.config import InputError
from innerloop.reports.leak import leak
from innerloop.runs.experiment import run
from tests.command_line import call
from tests.conftest import TINY, compose_run


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_only_batch_norm_leaks(norm, tmp_path):
    run(compose_run("task=glyphs", "model.filters=8", f"model.norm={norm}", *TINY), tmp_path)
    title, (support, alone) = leak(tmp_path, ["test_episodes=20", "task.queries=4"])
    assert "beside transductive=True" in title
    assert [support.name, alone.name] == ["transductive=support", "transductive=False"]
    changed = [one.networks > 0 for one in (support, alone)]
    assert changed == [norm == "batch"] * 2


def test_it_is_printed(tmp_path):
    run(compose_run("task=glyphs", "model.filters=4", *TINY), tmp_path)
    stdout, _ = call("-m", "innerloop", "leak", str(tmp_path), "task.queries=2")
    assert "transductive=support" in stdout and "transductive=False" in stdout
    with pytest.raises(InputError, match="transductive must be true, false, support or training, got 'some'"):
        run(compose_run("transductive=some", *TINY), tmp_path / "other")
    with pytest.raises(InputError, match="transductive=support does not go with engine=learn2learn; use engine=loop"):
        run(compose_run("transductive=support", "engine=learn2learn", *TINY), tmp_path / "other")
