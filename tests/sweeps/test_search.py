"""A search with Optuna ends hopeless trials early, and goes on where it was interrupted."""

import json

import optuna
import pytest
from filelock import FileLock
from optuna.trial import TrialState

from innerloop.reports.jobs import sweep_rows
from innerloop.sweeps.search import errors_below
from tests.command_line import call
from tests.conftest import TINY


def search(directory, trials, *overrides, **keywords):
    settings = ["callbacks.prune.pruner.n_startup_trials=2", "callbacks.prune.pruner.n_warmup_steps=0", f"hydra.sweeper.n_trials={trials}"]
    budget = [*TINY, "outer_steps=4", f"hydra.sweep.dir={directory}"]
    return call("train.py", "sweep=search_maml", *settings, *budget, *overrides, **keywords)


def study_in(directory):
    return optuna.load_study("search", f"sqlite:///{directory}/search.db")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    directory = tmp_path_factory.mktemp("search")
    stdout, stderr = search(directory, 6)
    assert stderr == ""
    return directory, stdout


def test_hopeless_trials_end_early(searched):
    """By the rule of the pruner: worse, after a validation, than the median of the trials before it."""
    directory, stdout = searched
    rows, trials = sweep_rows(directory), study_in(directory).trials
    pruned = [row for row in rows if row["remark"].startswith("pruned: val/loss is ")]
    assert len(rows) == 6 and 1 <= len(pruned) <= 4
    assert f"{6 - len(pruned)} finished, 0 failed, {len(pruned)} pruned" in stdout
    for row in pruned:
        assert not (directory / row["job"] / "results.json").exists()
    for number, trial in enumerate(trials):
        earlier = [t.intermediate_values[2] for t in trials[:number]]
        hopeless = number >= 2 and trial.intermediate_values[2] > sorted(earlier)[len(earlier) // 2] * (1 + 1e-9)
        assert not hopeless or len(trial.intermediate_values) == 1
        assert trial.value == pytest.approx(min(trial.intermediate_values.values()))


def test_a_trial_is_worth_its_validation_loss(searched):
    directory, _ = searched
    values = [trial.value for trial in study_in(directory).trials]
    for path in directory.glob("*/results.json"):
        assert json.loads(path.read_text())["val_loss"] in values
    shown = {"algo.inner_lr", "algo.adaptation_steps", "optimizer.lr"}
    assert shown <= set(sweep_rows(directory)[0])  # all that was searched, though one of them would tell the jobs apart


def test_an_interrupted_search_goes_on(tmp_path):
    """What a killed one leaves: a trial that runs for ever. It is run again, with its values, and counts."""
    search(tmp_path, 2)
    study, first = study_in(tmp_path), {path.name for path in tmp_path.glob("maml*")}
    lost = study.ask()
    values = {name: lost._suggest(name, d) for name, d in study.trials[0].distributions.items()}
    stdout, _ = search(tmp_path, 4)
    trials = study_in(tmp_path).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] + [TrialState.COMPLETE] * 2
    assert trials[3].params == values and trials[4].params not in [trial.params for trial in trials[:4]]
    assert len({path.name for path in tmp_path.glob("maml*")} - first) == 2
    again, _ = search(tmp_path, 4)
    assert "Launching" not in again and "Best value" in again


def test_a_failed_trial_is_run_again(tmp_path):
    """It is as bad as can be, but does not count; one that diverged does."""
    search(tmp_path, 2, "task.shots=0", code=1)
    assert [trial.value for trial in study_in(tmp_path).trials] == [float("inf")] * 2
    _, stderr = search(tmp_path, 2, code=1)
    assert "holds a search with other settings (task.shots=0 there and 10 here); set hydra.sweep.dir" in stderr
    failed = [trial.params for trial in study_in(tmp_path).trials]
    search(tmp_path, 2, "task.shots=0", code=1)
    assert [trial.params for trial in study_in(tmp_path).trials] == failed * 2
    for path in tmp_path.glob("*/error.txt"):
        path.rename(path.with_name("diverged.txt"))
    assert "Launching" not in search(tmp_path, 2, "task.shots=0", code=1)[0]


def test_failed_jobs_are_found_however_deep_they_lie(tmp_path):
    """algo=zoo/maml has its jobs in zoo/."""
    for job in ("maml-0", "zoo/maml-1"):
        (tmp_path / job / ".hydra").mkdir(parents=True)
        (tmp_path / job / ".hydra" / "overrides.yaml").write_text(f"- algo.inner_lr={job[-1]}\n")
        (tmp_path / job / "error.txt").touch()
    assert sorted(map(sorted, errors_below(tmp_path))) == [["algo.inner_lr=0"], ["algo.inner_lr=1"]]


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["hydra.sweeper.storage=null"], "hydra.sweeper.storage must be set for a search to go on with"),
        (["hydra.sweeper.study_name=null"], "hydra.sweeper.study_name must be set"),
        (["hydra.sweeper.direction=maximize"], "hydra.sweeper.direction=maximize must be minimize"),
        (["hydra.sweeper.direction=[minimize,maximize]"], "must be minimize: a job is worth its lowest validation loss"),
        (["hydra.sweeper.sampler._target_=optuna.samplers.GridSampler"], "a grid needs no search: give the values"),
        (
            ["algo.adaptation_steps=choice(1,2)"],
            "holds a search with other settings (searched.command=[] there and ['algo.adaptation_steps=choice(1,2)'] here)",
        ),
        (["seed=7"], "holds a search with other settings (seed=0 there and 7 here)"),
    ],
)
def test_what_could_not_go_on_is_refused(overrides, sentence, searched):
    before = len(study_in(searched[0]).trials)
    _, stderr = search(searched[0], 9, *overrides, code=1)
    assert stderr.startswith("Error: ") and sentence in stderr and stderr.count("\n") == 1
    assert len(study_in(searched[0]).trials) == before


def test_a_single_run_is_no_trial(tmp_path):
    call("train.py", "sweep=search_maml", "hydra.mode=RUN", *TINY, f"hydra.run.dir={tmp_path}")
    assert not (tmp_path / "search.db").exists()


def test_a_second_search_in_the_same_directory_is_refused(searched):
    directory, _ = searched
    with FileLock(directory / ".search.lock"):
        _, stderr = search(directory, 7, code=1)
    assert stderr.startswith("Error: another search is running in") and stderr.count("\n") == 1
