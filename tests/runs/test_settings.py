"""What is read from the folder of a run."""

import json

import pytest

from innerloop.config import NOT_THE_NUMBERS, InputError, short_name, without
from innerloop.runs.folder import read_results
from innerloop.runs.settings import load_config, origin_of, settle_paths
from tests.conftest import compose_run


def test_a_run_of_version_0_1_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("engine:\n  _target_: innerloop.execution.Execution\nseed: 1\n")
    (tmp_path / "results.json").write_text(json.dumps({"config": {"engine": {"_target_": "innerloop.execution.Execution"}}, "value": 1}))
    for read in (lambda: load_config(tmp_path), lambda: read_results(tmp_path / "results.json")):
        with pytest.raises(InputError, match="is of innerloop 0.1, whose runs version 0.2 does not read; run it again"):
            read()


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": {}, "value": 1}', "{"])
def test_results_that_are_none_are_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match="results.json is damaged"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize(
    "setting", ["num_workers=2", "eval_batch_size=7", "+callbacks.progress.refresh_rate=3", "trainer.log_every_n_steps=9"]
)
def test_what_decides_no_number_makes_no_other_run(setting):
    assert origin_of(compose_run(setting)) == origin_of(compose_run())


def test_a_run_keeps_its_files_from_wherever_it_is_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("test.npz", "split.csv"):
        (tmp_path / name).touch()
    cfg = compose_run("task=omniglot", "task.split=split.csv", "episodes=test.npz")
    settle_paths(cfg)
    assert (cfg.task.split, cfg.episodes) == (str(tmp_path / "split.csv"), str(tmp_path / "test.npz"))
    (tmp_path / "vinyals").mkdir()  # a folder of that name is no file
    named = compose_run("task=omniglot", "task.split=vinyals")
    settle_paths(named)
    assert named.task.split == "vinyals"


def test_what_is_left_out_is_left_out_by_whole_names():
    settings = {"output_dir": 1, "output_dir_of": 2, "logger": {"csv": {"name": 3}}, "trainer": {"log_every_n_steps": 4, "devices": 5}}
    assert without(settings, NOT_THE_NUMBERS) == {"output_dir_of": 2, "trainer.devices": 5}


def test_tables_call_a_class_what_the_command_line_does():
    names = [
        "innerloop.algorithms.nearest_mean.NearestMean",
        "innerloop.algorithms.metasgd.MetaSGD",
        "my_models.LSTM",
        "torch.optim.Adam",
        "Mine",
    ]
    assert [short_name(name) for name in names] == ["nearest_mean", "metasgd", "lstm", "adam", "mine"]
