"""MNIST's digits, and what was learned elsewhere tried on them."""

import gzip

import numpy as np
import pytest

from innerloop.config import InputError
from innerloop.reports.cross_domain import cross_domain, is_own, matrix
from innerloop.runs.experiment import run
from innerloop.runs.rescore import choice, evaluation_file, rescore
from innerloop.tasks.images import mnist
from innerloop.tasks.images.mnist import Mnist
from tests.command_line import call
from tests.conftest import DATA, TINY, compose_run

MNIST = DATA / "mnist"
COUNTS = {"ways": 10, "shots": 1, "queries": 2, "train_ways": 10, "train_shots": 1, "train_queries": 2}
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST at {MNIST}; set INNERLOOP_DATA")
GLYPHS = ("task=glyphs", "task.ways=3", "task.queries=2", "model.filters=4", "engine=vmap")


@needs_mnist
def test_digits_are_the_classes_of_every_split():
    tasks = Mnist(str(MNIST), **COUNTS)
    sizes = {split: sum(map(len, tasks.classes(split).members)) for split in ("train", "val", "test")}
    assert sizes == {"train": 50_000, "val": 10_000, "test": 10_000}
    rows = {split: set(np.concatenate(tasks.classes(split).members).tolist()) for split in sizes}
    assert not rows["train"] & rows["val"] and min(rows["test"]) == 60_000
    classes = tasks.classes("test")
    means = [classes.inputs[rows].mean(0)[0] for rows in classes.members]
    assert means[1].sum() == min(mean.sum() for mean in means)  # ones have the least ink, and ink is 255
    assert means[0][14, 14] < 30 < means[1][14, 14] and classes.names[3] == "3"


@pytest.fixture
def damaged(tmp_path):
    """A set of files that is not MNIST's."""
    for name in mnist.PLAIN:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"not an idx file"))
    return tmp_path


def test_files_that_are_not_whole(damaged, monkeypatch):
    with pytest.raises(InputError, match="train-images-idx3-ubyte.gz is damaged, or not MNIST's; delete it and start again"):
        Mnist(str(damaged), **COUNTS)
    (damaged / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="train-images-idx3-ubyte.gz is damaged"):
        Mnist(str(damaged), **COUNTS)
    (damaged / "train-images-idx3-ubyte.gz").unlink()
    monkeypatch.setattr(mnist, "BASE_URL", "http://127.0.0.1:9/")  # nothing listens there
    with pytest.raises(InputError, match="could not download http://127.0.0.1:9/train-images-idx3-ubyte.gz .ConnectionError.; put MNIST"):
        Mnist(str(damaged), **COUNTS)


def test_runs_are_tried_on_other_tasks_at_other_shots(tmp_path):
    """A trained one on every task, an untrained one on its own; scores that are there are not made again."""
    for algo in ("maml", "scratch"):
        run(compose_run(*TINY, *GLYPHS, f"algo={algo}"), tmp_path / algo)
    runs = [tmp_path / "maml", tmp_path / "scratch"]
    found = cross_domain(runs, ["glyphs"], [1, 2])
    assert list(found) == [1, 2] and list(found[1]) == ["maml trained on glyphs, seed 0", "scratch, untrained, seed 0"]
    for shots in (1, 2):
        results = found[shots]["maml trained on glyphs, seed 0"]["glyphs"]
        assert (results["ways"], results["shots"], results["queries"]) == (3, shots, 2)
    again = rescore(tmp_path / "maml", ["task.shots=2"])[0]
    assert again["curve"] == found[2]["maml trained on glyphs, seed 0"]["glyphs"]["curve"]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("evaluations/*.json")}
    cross_domain(runs, ["glyphs"], [1, 2])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("evaluations/*.json")} == files
    table = matrix(found[1], ["glyphs", "mnist"], 1)
    assert table.row_count == 2 and "3-way 1-shot, 4 test episodes" in table.title
    run(compose_run(*TINY, *GLYPHS, "algo=maml", "algo.inner_lr=0.2"), tmp_path / "larger")
    assert list(cross_domain([*runs, tmp_path / "larger"], ["glyphs"], [1])[1]) == [
        "maml trained on glyphs, seed 0, maml", "scratch, untrained, seed 0", "maml trained on glyphs, seed 0, larger"
    ]  # fmt: skip
    with pytest.raises(InputError, match="maml on task=sinusoid: "):
        cross_domain(runs[:1], ["sinusoid"], [1])


def test_a_task_of_the_same_class_is_another_task(tmp_path):
    """spoken and spoken_words are built by one class; text_csv is what it is, whatever its class is called."""
    words, texts = ({"config": {"task": choice("task", f"task={name}")}} for name in ("spoken_words", "text_csv"))
    assert not is_own("spoken", words | {"task": "spoken"}) and is_own("text_csv", texts | {"task": "text_csv"})
    run(compose_run(*TINY), tmp_path / "sinusoid")
    with pytest.raises(InputError, match="is of a task without classes, sinusoid; leave it out"):
        cross_domain([tmp_path / "sinusoid"], ["glyphs"], [1])


@needs_mnist
def test_a_sweep_ends_with_the_matrix(tmp_path):
    overrides = [*TINY, *GLYPHS[1:], f"task.root={MNIST}", "hydra.sweeper.params={task:mnist,algo:maml}"]
    overrides += ["hydra.callbacks.matrix.tasks=[mnist]", "hydra.callbacks.matrix.shots=[1]", f"hydra.sweep.dir={tmp_path}"]
    stdout, stderr = call("train.py", "sweep=cross_domain", "task=mnist", *overrides)
    stdout = " ".join(stdout.split())  # a title is as wide as its table
    assert stderr == "" and "on other tasks: 3-way 1-shot, 4 test episodes" in stdout and "maml trained on mnist, seed 0" in stdout


def test_long_conditions_have_files_of_their_own(tmp_path):
    names = {evaluation_file(tmp_path, ["task.root=" + "x" * 200, f"task.shots={shots}"]).name for shots in (1, 2)}
    assert len(names) == 2 and max(map(len, names)) < 200
