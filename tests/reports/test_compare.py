"""Paired comparisons: the truth is found as often as it should be, seeds and episodes are told apart, other episodes are refused."""

import io
import json
import re
import shutil

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from innerloop.config import InputError
from innerloop.reports.compare import by_seed, compare, comparison_table, scored_below
from innerloop.reports.table import sweep_table
from innerloop.runs.experiment import run
from tests.command_line import call
from tests.conftest import TINY, compose_run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compared")
    call("train.py", "-m", *TINY, "test_episodes=40", "algo=joint,scratch,maml", "seed=0,1", f"hydra.sweep.dir={directory}")
    return directory


def test_a_sweep_is_compared_with_its_first_run(sweep):
    stdout, _ = call("-m", "innerloop", "compare", str(sweep))
    assert "mse on sinusoid, 40 test episodes, beside algo=joint: " in stdout
    for name in ("maml", "scratch"):  # of these networks / of these algorithms
        assert re.search(rf"algo={name}, 2 seeds .* p [=<] [\d.]+ +[\d.]+ +[+-][\d.]+ ± [\d.]+ / [\d.]+", stdout)
    title, compared = compare([next(sweep.glob("scratch*")), sweep], step=1)  # the run that is named twice counts once
    assert "beside algo=scratch" in title and [one.name for one in compared] == ["algo=joint", "algo=maml"]
    assert [one.seeds for one in compared] == [2, 2]


def test_tables_fit_a_terminal_of_80_columns(sweep):
    """No number is broken or cut."""
    compared = comparison_table(*compare([sweep]))
    for table, numbers, rows in ((sweep_table(sweep), r" \d\.\d{4} ± \d\.\d{4}", 6), (compared, r"[+-]\d\.\d{4} ± [\d.]+ / [\d.]+$", 2)):
        console = Console(width=80, file=io.StringIO())
        console.print(table)
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
        assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
        assert sum(bool(re.search(numbers, line)) for line in lines) == rows


def copied(run, to, seed=0, **changes):
    """The run as it would be had it been started elsewhere, by other code, or otherwise."""
    shutil.copytree(run, to)
    results = json.loads((to / "results.json").read_text())
    config = OmegaConf.create(results["config"])
    for key, value in changes.pop("config", {}).items():
        OmegaConf.update(config, key, value, force_add=True)
    results |= {"seed": seed, "config": OmegaConf.to_container(config) | {"seed": seed}, **changes}
    (to / "results.json").write_text(json.dumps(results))
    return to


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("one")
    run(compose_run(*TINY), directory / "run")
    return directory / "run"


def names_and_seeds(*paths):
    return {name: list(group) for name, group in by_seed([run for path in paths for run in scored_below(path)]).items()}


def test_runs_of_changed_code_are_two_contenders(one_run, tmp_path):
    old, new = (copied(one_run, tmp_path / commit, commit=f"{commit}00112233") for commit in ("aaaaaaa", "bbbbbbb"))
    assert names_and_seeds(old, new) == {"commit=aaaaaaa": [0], "commit=bbbbbbb": [0]}
    assert [one.name for one in compare([old, new])[1]] == ["commit=bbbbbbb"]
    seeded = copied(one_run, tmp_path / "seed1", seed=1, commit="bbbbbbb00112233")
    assert names_and_seeds(old, new, seeded) == {"commit=aaaaaaa": [0], "commit=bbbbbbb": [0, 1]}
    torches = [
        copied(one_run, tmp_path / v, versions=json.loads((old / "results.json").read_text())["versions"] | {"torch": v}) for v in "78"
    ]
    assert names_and_seeds(*torches) == {"version.torch=7": [0], "version.torch=8": [0]}
    projects = [copied(one_run, tmp_path / p, project=p) for p in ("mine", "changed")]
    assert names_and_seeds(*projects) == {"project=mine": [0], "project=changed": [0]}


def test_contenders_of_one_name_are_all_there(one_run, tmp_path):
    """A class of a project may be called as one of ours."""
    other = copied(one_run, tmp_path / "other", config={"algo._target_": "mine.MAML"})
    assert [*names_and_seeds(one_run, other).values()] == [[0], [0]]
    workers = copied(one_run, tmp_path / "workers", commit="bbbbbbb00112233", config={"num_workers": 2})
    assert [*names_and_seeds(one_run, workers).values()] == [[0], [0]]


def test_two_results_of_one_seed_are_told_apart_by_their_paths(one_run, tmp_path):
    a, b = copied(one_run, tmp_path / "a" / "run"), copied(one_run, tmp_path / "b" / "run")
    more = copied(one_run, tmp_path / "b" / "run1", seed=1)
    assert names_and_seeds(a, b, more) == {str(a.parent): [0], str(b.parent): [0, 1]}
    assert names_and_seeds(a, copied(one_run, tmp_path / "a" / "again")) == {str(a): [0], str(tmp_path / "a" / "again"): [0]}
    assert names_and_seeds(a, a, tmp_path / "a" / ".." / "a" / "run") == {str(a): [0]}


def test_what_decides_no_number_does_not_part_seeds(one_run, tmp_path):
    settings = {"callbacks.progress.refresh_rate": 5, "logger": {}, "num_workers": 2, "trainer.log_every_n_steps": 7}
    other = copied(one_run, tmp_path / "other", seed=1, config=settings)
    assert list(names_and_seeds(one_run, other).values()) == [[0, 1]]


def test_evidence_that_was_cut_is_refused(one_run, tmp_path):
    cut = copied(one_run, tmp_path / "cut")
    lines = (cut / "evidence.csv").read_text().splitlines()
    (cut / "evidence.csv").write_text("\n".join(lines[:-3]) + "\n")  # an episode's three steps
    with pytest.raises(InputError, match="evidence.csv does not have the 4 episodes of its results; score the run again"):
        compare([one_run, cut])


def test_what_cannot_be_compared_is_refused(sweep, tmp_path):
    run = next(sweep.glob("maml*"))
    call("-m", "innerloop", "eval", str(run), "task.shots=3")
    evaluation = next(run.glob("evaluations/*.json"))
    with pytest.raises(InputError, match=r"not scored on the same test episodes \(task.shots=3 there and 10 here\); score one"):
        compare([run, evaluation])
    with pytest.raises(InputError, match="nothing to compare with the first run"):
        compare([run])
    with pytest.raises(InputError, match="was not scored after 9 adaptation steps, but after 0, 1, 2"):
        compare([sweep], step=9)
    call("-m", "innerloop", "eval", str(run), "scored_steps=[2]")  # after its last step alone, of two
    with pytest.raises(InputError, match="was not scored after 1 adaptation steps, but after 2"):
        compare([run, run / "evaluations" / "scored_steps=_2_.json"], step=1)
    with pytest.raises(InputError, match="typo.json is not there; innerloop eval writes such files"):
        compare([run, run / "evaluations" / "typo.json"])
    (tmp_path / "error.txt").write_text("failed")
    with pytest.raises(InputError, match="no run below .* is finished"):
        compare([tmp_path])
    (evaluation.with_suffix(".csv")).unlink()
    _, stderr = call("-m", "innerloop", "compare", str(run), str(evaluation), code=1)
    assert stderr.startswith("Error: ") and f"`innerloop eval {run}` scores the run again" in stderr
