"""Nothing that a run was trained on is tested on, however the data and the split are spelt."""

import csv
import os
import shutil

import pytest

from innerloop.config import InputError
from innerloop.runs.experiment import run
from innerloop.runs.rescore import rescore
from tests.conftest import OMNIGLOT, TINY, compose_run
from tests.tiny_data import image_files, table, texts, wav_files, write_csv, write_tree

SMALL = ["task.ways=2", "task.queries=1", "task.shots=1", *TINY]


def swapped(split, to):
    """The CSV of a split with train and test exchanged."""
    with open(split, newline="") as file:
        rows = [(row["class"], {"train": "test", "test": "train"}.get(row["split"], row["split"])) for row in csv.DictReader(file)]
    return write_csv(to, [("class", "split"), *rows])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on images, and the split of its data with train and test exchanged."""
    folder = tmp_path_factory.mktemp("images")
    root = write_tree(folder / "data", image_files())
    run(compose_run("task=images", f"task.root={root}", "task.size=8", "model.filters=4", "model.pool=stride", *SMALL), folder / "run")
    swapped(root / "data_split0.csv", folder / "swapped.csv")
    return folder


def rescore_swapped(folder, root):
    return rescore(folder / "run", [f"task.split={folder / 'swapped.csv'}", f"task.root={root}"])


TRAINED_ON = "'class..' would be tested on, and .* was trained on it"


def test_the_same_place_in_other_words(trained, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(trained / "data")
    monkeypatch.chdir(trained)
    for root in ("data", "./data/../data", tmp_path / "link", os.path.relpath(trained / "data")):
        with pytest.raises(InputError, match=TRAINED_ON):
            rescore_swapped(trained, root)


def test_a_copy_of_the_data_elsewhere(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "copy")
    with pytest.raises(InputError, match=TRAINED_ON):
        rescore_swapped(trained, tmp_path / "copy")


def test_renamed_classes_of_a_copy(trained, tmp_path):
    """By content, whatever they are called."""
    files = {name.replace("class", "other"): content for name, content in image_files().items()}
    root = write_tree(tmp_path / "renamed", files)
    split = (trained / "swapped.csv").read_text().replace("class0", "other0").replace("class1", "other1")
    (tmp_path / "split.csv").write_text(split)
    with pytest.raises(InputError, match="'other..' would be tested on, and .* was trained on it"):
        rescore(trained / "run", [f"task.root={root}", f"task.split={tmp_path / 'split.csv'}"])


def test_other_images_of_classes_of_these_names_are_let_through(trained, tmp_path):
    files = {name: content for name, content in zip(image_files(), list(image_files(40).values())[80:], strict=False)}
    root = write_tree(tmp_path / "others", files)
    assert rescore(trained / "run", [f"task.root={root}", f"task.split={trained / 'swapped.csv'}"])[0]["episodes"] == 4


@pytest.mark.parametrize("kind", ["texts", "tables", "sounds"])
def test_every_kind_of_classes(kind, tmp_path):
    if kind == "sounds":
        root = write_tree(tmp_path / "waves", wav_files())
        lists = {"train": "[ann,bob,cem,dan]", "val": "[eva]", "test": "[fay]"}
        task = ["task=spoken", f"task.root={root}", "task.seconds=0.1", "task.mels=8", "model.filters=4", "model.pool=stride"]
        task += [f"task.split.{part}={names}" for part, names in lists.items()]
        other = ["task.split.train=[fay,bob,cem,dan]", "task.split.test=[ann]"]
    else:
        path = write_csv(tmp_path / "data.csv", texts() if kind == "texts" else table())
        task = [f"task={'text_csv' if kind == 'texts' else 'tabular_csv'}", f"task.path={path}"]
        other = [f"task.split={tmp_path / 'swapped.csv'}"]
    run(compose_run(*task, *SMALL), tmp_path / "run")
    if kind != "sounds":
        swapped(tmp_path / "data_split0.csv", tmp_path / "swapped.csv")
    with pytest.raises(InputError, match="would be tested on, and .* was trained on it"):
        rescore(tmp_path / "run", other)
    if kind == "tables":  # their rows are scaled by the split, so that the name and the place have to tell
        (tmp_path / "link.csv").symlink_to(path)
        with pytest.raises(InputError, match="would be tested on, and .* was trained on it"):
            rescore(tmp_path / "run", [*other, f"task.path={tmp_path / 'link.csv'}"])


@pytest.mark.skipif(not OMNIGLOT.is_dir(), reason="no Omniglot")
def test_omniglot_by_another_published_split(tmp_path):
    run(compose_run("task=omniglot", f"task.root={OMNIGLOT}", "model.filters=4", "threads=1", *SMALL), tmp_path / "run")
    for split in ("maml", "reptile", "background"):
        with pytest.raises(InputError, match="'[A-Z].*/character.*' would be tested on"):
            rescore(tmp_path / "run", [f"task.split={split}"])
    assert rescore(tmp_path / "run", ["task.rotate_test=false"])[0]["episodes"] == 4


@pytest.mark.skipif(not OMNIGLOT.with_name("mnist").is_dir(), reason="no MNIST")
def test_what_a_run_had_in_both_splits_is_let_through(tmp_path):
    root = OMNIGLOT.with_name("mnist")
    run(compose_run("task=mnist", f"task.root={root}", "model.filters=4", "threads=1", *SMALL), tmp_path / "run")
    assert rescore(tmp_path / "run", ["task.shots=2"])[0]["shots"] == 2


def test_classes_that_begin_alike_are_let_through(tmp_path):
    """By their first lines classes of training and test look the same: they were so in the run itself."""
    rows = [(f"text {i} of {c * min(i, 1)}", f"class{c}") for c in range(12) for i in range(4)]
    path = write_csv(tmp_path / "texts.csv", [("text", "class"), *rows])
    run(compose_run("task=text_csv", f"task.path={path}", "model.layers=1", "threads=1", *SMALL), tmp_path / "run")
    assert rescore(tmp_path / "run", [])[0]["episodes"] == 4
