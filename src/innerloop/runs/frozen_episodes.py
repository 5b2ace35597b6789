"""Test episodes in a file, so that others score the very same ones, whatever code and data they have."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError
from innerloop.episode import Episode, Examples
from innerloop.files import write_whole
from innerloop.runs.evidence import checksum, ids_and_targets
from innerloop.tasks.base import Tasks
from innerloop.training.data import Episodes

PARTS = ("support_x", "support_y", "query_x", "query_y")


class FrozenEpisodes:
    """The first `count` episodes of a file that `write_episodes` wrote.

    sizes: support and query examples of each. one_by_one: they are not those of all.
    Raises InputError for a file that is missing or damaged, has fewer, or does not fit the task.
    """

    def __init__(self, path: str | Path, count: int, tasks: Tasks) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays, written = [file[part] for part in PARTS], str(file["checksum"])
                sizes = file["sizes"] if "sizes" in file else None
        except Exception as error:  # whatever damaged bytes lead to
            raise InputError(f"the episodes in {path} cannot be read ({str(error).splitlines()[0]}); get the file again") from error
        tensors = [floats(torch.from_numpy(array)) for array in arrays]
        self.one_by_one, self._ends = sizes is not None, None if sizes is None else np.cumsum(sizes, 0)
        self.episodes = episode_of(tensors)
        self._count = len(arrays[0] if sizes is None else sizes)
        if checksum(ids_and_targets(self, self._count)[0]) != written:
            raise InputError(f"the episodes in {path} are not those that were written into it; get the file again")
        if self._count < count:
            raise InputError(f"{path} has {self._count} episodes and test_episodes={count} asks for more; set test_episodes")
        self._count = count
        self._check(path, tasks)

    def _check(self, path: str | Path, tasks: Tasks) -> None:
        support, query = self.meta_batch(range(1))
        if bool(tasks.varied) != self.one_by_one:
            kinds = {True: "of many shapes", False: "of one shape"}
            raise InputError(
                f"the episodes in {path} are {kinds[self.one_by_one]}, and this task's {kinds[not self.one_by_one]}; set task.ways and "
                "task.shots as there"
            )
        if tasks.objective.look:  # (task, seed) in the place of examples
            one = tasks.distribution("val").sample(np.random.default_rng(0))
            if one.support.x.shape != support.x.shape[1:]:
                raise InputError(f"the episodes in {path} are not of this family of environments; take those of a run on it")
            return
        per_class = tasks.ways or 1
        there = (tuple(support.x.shape[2:]), support.x.shape[1], query.x.shape[1])
        here = (tuple(tasks.input_shape), tasks.shots * per_class, tasks.queries * per_class + tasks.strangers)
        if self.one_by_one:
            here = (here[0], *there[1:])
        if there != here:
            words = [f"inputs {shape}, {shots} support and {queries} query examples" for shape, shots, queries in (there, here)]
            raise InputError(f"the episodes in {path} have {words[0]}, and this task has {words[1]}; set them as there")

    def __len__(self) -> int:
        return self._count

    def meta_batch(self, indices: range) -> Episode:
        """The episodes `indices`, with a leading task axis; a single one where their shapes differ."""
        if self._ends is not None:
            (index,) = indices
            ends, starts = self._ends[index], self._ends[index - 1] if index else (0, 0)
            return Episode(*(Examples(*(v[None, s:e] for v in part)) for part, s, e in zip(self.episodes, starts, ends, strict=True)))
        rows = slice(indices.start, indices.stop, indices.step)
        return Episode(*(Examples(part.x[rows], part.y[rows]) for part in self.episodes))


def write_episodes(path: Path, episodes: Episodes, count: int) -> str:
    """Writes the first `count` episodes, images as bytes; returns their checksum, which is that of results.json."""
    more: dict[str, np.ndarray] = {}
    if episodes.one_by_one:  # all examples in a row, and how many each episode has
        single = [episodes.meta_batch(range(i, i + 1)) for i in range(count)]
        more["sizes"] = np.array([[part.x.shape[1] for part in episode] for episode in single])
        parts = zip(*single, strict=True)
        whole = Episode(*(Examples(*(torch.cat([v[0] for v in of], 0) for of in zip(*part, strict=True))) for part in parts))
    else:
        whole = episodes.meta_batch(range(count))
    text = checksum(ids_and_targets(episodes, count)[0])
    arrays = [tensor.numpy() for part in whole for tensor in (small(part.x), part.y)]
    content = io.BytesIO()
    np.savez_compressed(content, checksum=text, **dict(zip(PARTS, arrays, strict=True)), **more)  # type: ignore[arg-type]
    write_whole(path, content.getvalue())
    return text


def episode_of(parts: list[Tensor]) -> Episode:
    support_x, support_y, query_x, query_y = parts
    return Episode(Examples(support_x, support_y), Examples(query_x, query_y))


def small(x: Tensor) -> Tensor:
    """As bytes where that loses nothing: pixels that were divided by 255."""
    if not x.is_floating_point():
        return x
    pixels = (x * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels if torch.equal(floats(pixels), x) else x


def floats(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype is torch.uint8 else x
