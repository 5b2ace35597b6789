"""Few-shot classification episodes from a table of labelled examples: images, sounds, texts, rows of numbers."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError
from innerloop.episode import Episode, Examples

STRANGER = -1  # the label of a query that is of none of the episode's classes
CONCENTRATION = 2.0  # of the Dirichlet distribution that unbalanced queries come from


class Classes(NamedTuple):
    """Examples and what they are of.

    inputs: (n, ...) uint8 for images, float32, or int64 for tokens. members: for each class, the rows of `inputs` that show it.
    names: of each class. quarter_turns: for each class, by how many times 90 degrees its images are turned (a turned character is a class
    of its own). groups: for each class the group that it is in; all classes of an episode are of one group (a speaker's words). origins: of
    each row of `inputs`, the number of what it was made from; None: one each.
    """

    inputs: np.ndarray
    members: Sequence[np.ndarray]
    names: Sequence[str]
    quarter_turns: Sequence[int] | None = None
    groups: Sequence[str] | None = None
    origins: np.ndarray | None = None


class Shape(NamedTuple):
    """Of an episode: classes, and support and query examples of each."""

    ways: int
    shots: int
    queries: int


class ClassEpisodes:
    """Draws `ways` classes, then `shots` support and `queries` query examples of each, all different.

    ways and shots may be ranges (low, high), of which `shape` draws; as attributes they are the most.

    Way labels are the order of the draw, so they are redrawn in every episode; examples come in random order. Images become float32 in
    [0, 1], other inputs stay as they are. augment: changes a float image (channels, height, width) at random, by torch's generator.
    by_class: the same episodes labelled by class, 0 to len(members) - 1, for baselines that learn the classes themselves.
    balanced: `queries` examples of each class; false, ways * queries in all, spread over the classes by a Dirichlet distribution of
    concentration 2 (Veilleux et al. 2021, arXiv 2204.11181), as far as each class has so many: for what would use that test sets are
    balanced.
    strangers: so many more queries at the end of the query set, of other classes (of the same group), labelled -1.
    Raises InputError when there are fewer classes than ways, or no other ones for strangers, or a class has fewer examples than
    shots + queries.
    """

    def __init__(
        self, classes: Classes, ways: int | tuple[int, int], shots: int | tuple[int, int], queries: int,
        augment: Sequence[Callable[[Tensor], Any]] = (), by_class: bool = False,
        balanced: bool = True, strangers: int = 0,
    ) -> None:  # fmt: skip
        self.inputs, self.members, self.names = classes.inputs, classes.members, classes.names
        self._spans = [value if isinstance(value, tuple) else (value, value) for value in (ways, shots)]
        self.varies = any(low < high for low, high in self._spans)
        (_, self.ways), (_, self.shots) = self._spans
        self.queries, self.augment, self.by_class = queries, augment, by_class
        self.balanced, self.strangers = balanced, strangers
        self.quarter_turns = classes.quarter_turns
        self.origins = classes.origins
        groups = classes.groups or [""] * len(classes.members)
        self.group_of = np.unique(groups, return_inverse=True)[1]  # a number for each class
        ends = np.cumsum(np.bincount(self.group_of))
        self._by_group = np.split(np.argsort(self.group_of, kind="stable"), ends[:-1])  # the classes of each group, in order
        check_classes(classes, groups, self.ways, self.shots + queries, strangers)

    def shape(self, rng: np.random.Generator) -> Shape:
        ways, shots = (low if low == high else int(rng.integers(low, high + 1)) for low, high in self._spans)
        return Shape(ways, shots, self.queries)

    def sample(self, rng: np.random.Generator, shape: Shape | None = None) -> Episode:
        ways, shots, queries = shape or self.shape(rng)
        candidates = self._by_group[rng.integers(len(self._by_group)) if len(self._by_group) > 1 else 0]
        classes = rng.choice(candidates, ways, replace=False)
        counts = [queries] * ways if self.balanced else self._unbalanced(rng, classes, shots)
        drawn = [rng.choice(self.members[c], shots + count, replace=False) for c, count in zip(classes, counts, strict=True)]
        return self.with_strangers(rng, self.episode(rng, classes, drawn, shots), candidates, classes)

    def with_strangers(self, rng: np.random.Generator, episode: Episode, candidates: np.ndarray, classes: np.ndarray) -> Episode:
        """An episode of some of the candidate classes, followed by queries of the others; the rest of it is as without them."""
        if not self.strangers:
            return episode
        others = np.setdiff1d(candidates, classes)
        drawn = rng.choice(others, self.strangers, replace=len(others) < self.strangers)
        x = tensor_of(np.concatenate([self._shown(c, rng.choice(self.members[c], 1)) for c in drawn]))
        (known, labels), y = episode.query, torch.full((self.strangers,), STRANGER)
        return Episode(episode.support, Examples(torch.cat([known, x]), torch.cat([labels, y])))

    def _shown(self, of: int, rows: np.ndarray) -> np.ndarray:
        """Examples of a class, turned where its images are."""
        inputs = self.inputs[rows]
        return inputs if self.quarter_turns is None else np.rot90(inputs, self.quarter_turns[of], axes=(-2, -1))

    def _unbalanced(self, rng: np.random.Generator, classes: np.ndarray, shots: int) -> np.ndarray:
        """How many queries each class has: one after the other falls to a class that has examples left."""
        ways = len(classes)
        shares, counts = rng.dirichlet(np.full(ways, CONCENTRATION)), np.zeros(ways, int)
        left = np.array([len(self.members[c]) - shots for c in classes])
        for _ in range(ways * self.queries):
            chances = shares * (counts < left)
            counts[rng.choice(ways, p=chances / chances.sum())] += 1
        return counts

    def episode(self, rng: np.random.Generator, classes: np.ndarray, rows: Sequence[np.ndarray], shots: int | np.ndarray) -> Episode:
        """Of given classes and, for each, the rows of its examples, the shots (of all, or of each) first; `rng` shuffles them."""
        of_each = np.broadcast_to(shots, len(classes)).tolist()
        drawn = [self._shown(c, r) for c, r in zip(classes, rows, strict=True)]
        support = np.concatenate([inputs[:count] for inputs, count in zip(drawn, of_each, strict=True)])
        query = np.concatenate([inputs[count:] for inputs, count in zip(drawn, of_each, strict=True)])
        labels = classes if self.by_class else np.arange(len(classes))
        queries = [len(inputs) - count for inputs, count in zip(drawn, of_each, strict=True)]
        parts = [self._examples(rng, support, labels, of_each), self._examples(rng, query, labels, queries)]
        return Episode(*(self._augmented(rng, part) for part in parts))

    def _examples(self, rng: np.random.Generator, inputs: np.ndarray, labels: np.ndarray, per_class: list[int]) -> Examples:
        order = rng.permutation(len(inputs))
        return Examples(tensor_of(inputs[order]), torch.from_numpy(np.repeat(labels, per_class)[order]))

    def _augmented(self, rng: np.random.Generator, examples: Examples) -> Examples:
        if not self.augment:
            return examples
        x = list(examples.x)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own generator; an episode is a function of `rng` alone
            torch.default_generator.manual_seed(int(rng.integers(2**31)))  # torch.manual_seed would set those of all GPUs too
            for change in self.augment:
                x = [change(image) for image in x]
        if other := next((image.shape for image in x if image.shape != examples.x.shape[1:]), None):
            given, wanted = (" x ".join(map(str, shape)) for shape in (other, examples.x.shape[1:]))
            raise InputError(f"task.augment makes images of {given}, and the task's are {wanted}; set the size of what it does")
        return Examples(torch.stack(x), examples.y)


def tensor_of(inputs: np.ndarray) -> Tensor:
    """Images as float32 in [0, 1], other inputs as they are."""
    x = torch.from_numpy(np.ascontiguousarray(inputs))
    return x.float() / 255 if x.dtype is torch.uint8 else x


def check_classes(classes: Classes, groups: Sequence[str], ways: int, needed: int, strangers: int = 0) -> None:
    """Raises InputError where an episode of `ways` classes with `needed` examples each, and strangers to them, cannot be drawn."""
    sizes = Counter(groups) or {"": 0}
    for group, there in sorted(sizes.items()):
        if ways > there:
            of_group = f" of '{group}'" if group else ""
            raise InputError(
                f"task.ways={ways} asks for more than the {there} classes there are{of_group}; "
                "lower task.ways (or task.train_ways), or give the split more"
            )
        if strangers and ways == there:
            raise InputError(
                f"task.strangers={strangers} are of other classes than the episode's, and task.ways={ways} takes all; lower it"
            )
    small = sorted((len(rows), name) for name, rows in zip(classes.names, classes.members, strict=True) if len(rows) < needed)
    if small:
        examples, smallest = small[0]
        others = f" and {len(small) - 1} more ({', '.join([name for _, name in small[1:4]] + ['...'] * (len(small) > 4))})"
        raise InputError(
            f"class '{smallest}'{others if len(small) > 1 else ''} has {examples} examples "
            f"but an episode needs shots + queries = {needed}; "
            "lower task.shots or task.queries (or task.train_shots, task.train_queries)"
        )
