"""Families of small problems on rows of numbers, made up or from a CSV file."""

import json

import numpy as np
import pytest

from innerloop.config import InputError
from innerloop.runs.experiment import run
from innerloop.tasks.tables.tabular import Tabular
from innerloop.tasks.tables.tabular_csv import TabularCsv
from tests.conftest import TINY, compose_run
from tests.tiny_data import table, write_csv

COUNTS = {"ways": 2, "shots": 2, "queries": 3, "train_ways": 2, "train_shots": 2, "train_queries": 3}


def made_up(**changes):
    return Tabular(**{"features": 10, "informative": 3, "family_seed": 0} | COUNTS | changes)


def test_problems_use_the_same_few_directions():
    """Class means differ in as many directions as are informative, the same in all problems; other seeds have others."""
    found = []
    for seed in (0, 0, 1):
        classes = made_up(family_seed=seed).classes("train")
        means = np.stack([classes.inputs[rows].mean(0) for rows in classes.members]).reshape(-1, 2, 10)
        spread, axes = np.linalg.svd(means[:, 0] - means[:, 1])[1:]
        assert spread[2] > 3 * spread[3]
        found.append(axes[:3])
    assert np.allclose(found[0], found[1])
    assert np.linalg.svd(found[0] @ found[2].T)[1].min() < 0.9  # 1 if they were the same
    inputs = made_up().classes("train").inputs
    assert inputs.dtype == np.float32 and np.sqrt(np.square(inputs).mean()) == pytest.approx(1, abs=0.02)


def test_an_episode_is_of_one_problem_and_no_problem_is_in_two_splits():
    tasks = made_up(ways=3, train_ways=3)
    splits = {split: {tuple(row) for row in tasks.classes(split).inputs.tolist()} for split in ("train", "val", "test")}
    assert not splits["train"] & splits["val"] and not splits["val"] & splits["test"] and len(splits["test"]) == 200 * 3 * 50
    classes, episodes = tasks.classes("val"), tasks.distribution("val")
    where = {tuple(classes.inputs[row].tolist()): classes.groups[c] for c, rows in enumerate(classes.members) for row in rows}
    for i in range(5):
        episode = episodes.sample(np.random.default_rng(i))
        assert len({where[tuple(row)] for part in episode for row in part.x.tolist()}) == 1
        assert episode.query.y.bincount().tolist() == [3, 3, 3]


def test_recall_and_f1_are_among_the_results(tmp_path):
    results = run(compose_run("task=tabular", "algo=nearest_mean", *TINY, "test_episodes=100"), tmp_path)
    assert {"loss", "macro_f1", "recall", "calibration_error"} <= results["measures"].keys()
    assert results["measures"]["recall"]["value"] == pytest.approx(results["value"])  # as many queries of each class
    assert 0 < results["measures"]["macro_f1"]["value"] <= results["value"] and 0.55 < results["value"] < 0.8
    assert results["measures"]["macro_f1"]["step"] == results["curve"][-1]["step"]


def from_csv(path, **changes):
    return TabularCsv(str(path), **{"columns": None, "split": None, "split_seed": 0} | COUNTS | changes)


def test_a_csv_file_becomes_problems(tmp_path):
    rows = table()
    path = write_csv(tmp_path / "table.csv", rows)
    tasks = from_csv(path)
    assert tasks.input_shape == (3,) and {s: len(p) for s, p in tasks.parts.items()} == {"train": 13, "val": 3, "test": 4}
    trained = np.concatenate([tasks.classes("train").inputs[m] for m in tasks.classes("train").members])
    assert trained.mean(0) == pytest.approx(np.zeros(3), abs=1e-5) and trained.std(0) == pytest.approx(np.ones(3), abs=1e-5)
    classes = tasks.classes("test")
    assert set(classes.groups) == set(tasks.parts["test"]) and len(classes.names) == 8
    assert all(name.rpartition("/")[0] == group for name, group in zip(classes.names, classes.groups, strict=True))
    first = np.array([row[2:] for row in rows[1:] if f"{row[0]}/{row[1]}" == classes.names[0]], float)
    here = classes.inputs[classes.members[0]]
    assert np.corrcoef(first[:, 0], here[:, 0])[0, 1] == pytest.approx(1, abs=1e-5)
    assert from_csv(path).parts == tasks.parts  # drawn once


def test_a_column_that_never_changes_does_no_harm(tmp_path):
    rows = [(*row, "f9" if i == 0 else 7) for i, row in enumerate(table())]
    inputs = from_csv(write_csv(tmp_path / "table.csv", rows)).classes("test").inputs
    assert np.isfinite(inputs).all() and (inputs[:, 3] == 0).all()


def test_numbers_that_were_equal_in_training_are_not_blown_up(tmp_path):
    """Their deviation is 1e-17, not 0."""
    path = write_csv(tmp_path / "table.csv", table())
    trained = from_csv(path).parts["train"]
    rows = [(*row, "f9" if i == 0 else 0.1 if row[0] in trained else 0.2) for i, row in enumerate(table())]
    inputs = from_csv(write_csv(path, rows)).classes("test").inputs
    assert np.abs(inputs).max() < 10


def test_any_text_names_a_class(tmp_path):
    rows = [(row[0], {"c0": "n/a", "c1": "a/b/c"}.get(row[1], row[1]), *row[2:]) for row in table()]
    tasks = from_csv(write_csv(tmp_path / "table.csv", rows))
    assert len(tasks.classes("test").names) == 8 and set(tasks.classes("test").groups) == set(tasks.parts["test"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:5], (*rows[5][:3], "nan", rows[5][4]), *rows[6:]], "line 6 of .* has nan in the column f1, which is no"),
        (lambda rows: [*rows[:5], (*rows[5][:3], "", rows[5][4]), *rows[6:]], "line 6 of .* has nothing in the column f1"),
        (lambda rows: [*rows[:5], (*rows[5][:3], "1e200", rows[5][4]), *rows[6:]], "line 6 of .* has 1e200 in the column f1, which"),
        (lambda rows: [("", *rows[0]), *((i, *row) for i, row in enumerate(rows[1:]))], "column 1 of .* has no name of its own"),
        (lambda rows: [(*rows[0][:-1], "f1"), *rows[1:]], "column 5 of .* has no name of its own"),
        (lambda rows: [*rows[:5], rows[5][:3], *rows[6:]], "line 6 of .* has fewer cells than its first line"),
        (lambda rows: [*rows[:5], (*rows[5], 3), *rows[6:]], "line 6 of .* has more cells than its first line; put text with commas"),
        (lambda rows: [*rows[:5], (rows[5][0], " ", *rows[5][2:]), *rows[6:]], "the class in line 6 of .* has no text"),
        (lambda rows: [*rows[:5], (*rows[5][:2], "red", *rows[5][3:]), *rows[6:]], "line 6 of .* has red in the column f0"),
        (lambda rows: [("task", "label", *rows[0][2:]), *rows[1:]], "must have the columns task, class and one for each feature"),
        (lambda rows: [row[:2] for row in rows], "has no columns but task and class; it needs one for each feature"),
        (lambda rows: [], "must have the columns task, class and one for each feature"),
        (lambda rows: [row for row in rows if row[:2] != ("problem3", "c1")], "more than the 1 classes there are of 'problem3'"),
        (lambda rows: [r for i, r in enumerate(rows) if r[0] != "problem3" or i % 6 < 3], "'problem3/c.*examples but an episode needs"),
    ],
)  # fmt: skip
def test_bad_tables(change, message, tmp_path):
    with pytest.raises(InputError, match=message) as refused:
        tasks = from_csv(write_csv(tmp_path / "table.csv", change(table())))
        for split in ("train", "val", "test"):
            tasks.distribution(split)
    assert "\n" not in str(refused.value)


def test_other_bad_input(tmp_path):
    with pytest.raises(InputError, match="no data of its own; set task.path to a CSV file"):
        TabularCsv(None, None, None, 0, **COUNTS)
    (tmp_path / "latin.csv").write_bytes("task,class,größe\na,b,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="latin.csv cannot be read as a CSV file in UTF-8"):
        from_csv(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="task.informative must be a whole number >= 1 and <= 10, got 11"):
        made_up(informative=11)


def test_a_trained_run_is_scored_on_the_file_again(tmp_path):
    path = write_csv(tmp_path / "table.csv", table(each=20))
    run(compose_run("task=tabular_csv", f"task.path={path}", "task.shots=2", "task.queries=3", *TINY), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["task"] == "tabular_csv" and results["config"]["task"]["path"] == str(path)


def test_columns_may_have_names_of_their_own(tmp_path):
    """Also where one of ours is a feature there."""
    rows = table()
    theirs = [("patient", "diagnosis", "class", *rows[0][3:]), *rows[1:]]
    path = write_csv(tmp_path / "theirs.csv", theirs)
    tasks = from_csv(path, columns={"task": "patient", "class": "diagnosis"})
    plain = from_csv(write_csv(tmp_path / "ours.csv", rows))
    np.testing.assert_array_equal(tasks.rows, plain.rows)
    assert tasks.members == plain.members
    with pytest.raises(
        InputError, match="must have the columns task, .*; it has patient, diagnosis, class, f1, f2, and task.columns says what"
    ):
        from_csv(path)
    with pytest.raises(InputError, match="task.columns.label is none of task, class; say what these are called in the file"):
        from_csv(path, columns={"label": "diagnosis"})
    with pytest.raises(InputError, match="task.columns names one column twice: task is class, class is class"):
        from_csv(path, columns={"task": "class"})
