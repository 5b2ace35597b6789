"""Test episodes in a file: whoever reads them scores the same tasks."""

import json
import re

import numpy as np
import pytest
import torch

from innerloop.config import InputError
from innerloop.runs.build import build_run
from innerloop.runs.experiment import run
from innerloop.runs.frozen_episodes import write_episodes
from tests.command_line import call
from tests.conftest import TINY, compose_run

GLYPHS = ("task=glyphs", "model.filters=4", *TINY)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A run, and its four test episodes in a file."""
    directory = tmp_path_factory.mktemp("frozen")
    run(compose_run(*GLYPHS), directory / "run")
    stdout, _ = call("-m", "innerloop", "episodes", str(directory / "run"), str(directory / "test.npz"))
    return directory / "run", directory / "test.npz", stdout


@pytest.mark.parametrize("overrides", [GLYPHS, TINY], ids=["images", "points"])
def test_what_is_read_is_what_was_written(overrides, tmp_path):
    drawn = build_run(compose_run(*overrides)).data.test_episodes
    write_episodes(tmp_path / "test.npz", drawn, 4)
    read = build_run(compose_run(*overrides, f"episodes={tmp_path / 'test.npz'}", "test_episodes=3")).data.test_episodes
    assert len(read) == 3
    for indices in (range(3), range(1, 3), range(0, 3, 2)):
        for ours, theirs in zip(read.meta_batch(indices), drawn.meta_batch(indices), strict=True):
            assert torch.equal(ours.x, theirs.x) and torch.equal(ours.y, theirs.y)


def test_other_seeds_and_data_are_scored_on_them(frozen, tmp_path):
    """Also where the task would have drawn others."""
    directory, file, stdout = frozen
    first = json.loads((directory / "results.json").read_text())
    assert f"checksum {first['episodes_checksum']}" in stdout
    results = run(compose_run(*GLYPHS, f"episodes={file}", "seed=5", "task.train_ways=5"), tmp_path)
    assert results["episodes_checksum"] == first["episodes_checksum"]
    assert "algo" in json.loads((tmp_path / "results.json").read_text())
    call("-m", "innerloop", "compare", str(directory), str(tmp_path))


def test_strangers_are_scored_from_a_file_and_kept_out_of_disjoint_episodes(tmp_path):
    open_set = (*GLYPHS, "task.strangers=3")
    first = run(compose_run(*open_set), tmp_path / "run")
    call("-m", "innerloop", "episodes", str(tmp_path / "run"), str(tmp_path / "test.npz"))
    again = run(compose_run(*open_set, f"episodes={tmp_path / 'test.npz'}"), tmp_path / "again")
    assert again["measures"] == first["measures"] and 0 <= first["measures"]["auroc"]["value"] <= 1
    call("-m", "innerloop", "report", str(tmp_path / "run"))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "auroc" in page and sum(known := [*map(int, re.findall(r"<td>\d+\.\d</td><td>\d+\.\d</td><td>(\d+)</td>", page))]) == 4 * 75, (
        known
    )
    varied = run(compose_run(*open_set, "task.ways=[3,5]", "task.shots=[1,2]", "algo=nearest_mean"), tmp_path / "varied")
    assert 0 <= varied["measures"]["auroc"]["value"] <= 1
    with pytest.raises(InputError, match="disjoint=true draws no strangers; leave out task.strangers"):
        build_run(compose_run(*open_set, "disjoint=true"))


def test_images_take_a_byte_a_pixel(frozen):
    with np.load(frozen[1]) as file:
        assert file["query_x"].dtype == np.uint8


def test_what_does_not_fit_is_refused(frozen, tmp_path):
    _, file, _ = frozen
    for overrides, sentence in (
        (["task.shots=2"], r"have inputs \(1, 28, 28\), 5 support and 75 query examples, and this task has .*, 10 support and 75"),
        (["test_episodes=5"], "has 4 episodes and test_episodes=5 asks for more; set test_episodes"),
    ):
        with pytest.raises(InputError, match=sentence):
            build_run(compose_run(*GLYPHS, f"episodes={file}", *overrides))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("flipped", "empty", "missing"):
        with pytest.raises(InputError, match="the episodes in .* cannot be read .*; get the file again"):
            build_run(compose_run(*GLYPHS, f"episodes={tmp_path / name}.npz"))
    with np.load(file) as whole:
        arrays = dict(whole)
    np.savez(tmp_path / "edited.npz", **arrays | {"query_y": arrays["query_y"][:, ::-1]})
    with pytest.raises(InputError, match="are not those that were written into it"):
        build_run(compose_run(*GLYPHS, f"episodes={tmp_path / 'edited.npz'}"))
