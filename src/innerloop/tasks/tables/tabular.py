"""Small classification problems on rows of numbers, drawn from one family."""

from functools import cache
from typing import Any

import numpy as np

from innerloop.config import check_count
from innerloop.tasks.base import Split
from innerloop.tasks.class_episodes import Classes
from innerloop.tasks.class_tasks import ClassTasks

PROBLEMS: dict[Split, int] = {"train": 1000, "val": 100, "test": 200}
EXAMPLES = 50  # of each class of a problem
CLUSTERS = 2  # of each class, so that no line parts two classes
SPREAD = 0.5  # of a cluster, whose centre is drawn with deviation 1
NOISE = 1.5  # deviation of what tells nothing


class Tabular(ClassTasks):
    """Problems of `ways` classes on rows of `features` numbers, of which all problems of the family use the same few directions.

    The rows (features,) are a rotation of `informative` numbers, in which each class has two clusters of its own in every problem, and of
    noise that is larger than they are: what carries over from problem to problem is where to look. family_seed: another seed, another
    rotation and other problems. The problems of train, val and test (1000, 100, 200; 50 rows a class) differ; an episode is of one.
    """

    def __init__(
        self, features: int, informative: int, family_seed: int, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(**shape)
        check_count("task.features", features)
        check_count("task.informative", informative, most=features)
        check_count("task.family_seed", family_seed, least=0)
        self.input_shape = (features,)
        self.informative, self.family_seed = informative, family_seed

    def classes(self, split: Split) -> Classes:
        ways = self.train_ways if split == "train" else self.ways
        assert ways
        inputs = draw_problems(split, self.input_shape[0], self.informative, ways, self.family_seed)
        problems = [f"problem{number:04}" for number in range(PROBLEMS[split]) for _ in range(ways)]
        names = [f"{problem}/class{i % ways}" for i, problem in enumerate(problems)]
        return Classes(inputs, list(np.arange(len(inputs)).reshape(-1, EXAMPLES)), names, groups=problems)


@cache
def draw_problems(split: Split, features: int, informative: int, ways: int, seed: int) -> np.ndarray:
    """Rows (problems * ways * EXAMPLES, features) float32, problem after problem, class after class; of variance 1 on average."""
    rotation = np.linalg.qr(np.random.default_rng([seed, 0]).standard_normal((features, features)))[0]
    rng = np.random.default_rng([seed, 1 + list(PROBLEMS).index(split), ways])
    centres = rng.standard_normal((PROBLEMS[split] * ways, CLUSTERS, informative))
    cluster = rng.integers(CLUSTERS, size=(len(centres), EXAMPLES))
    signal = np.take_along_axis(centres, cluster[..., None], axis=1)
    signal = (signal + SPREAD * rng.standard_normal(signal.shape)).reshape(-1, informative)
    noise = NOISE * rng.standard_normal((len(signal), features - informative))
    rows = np.concatenate([signal, noise], 1) @ rotation.T
    scale = np.sqrt((informative * (1 + SPREAD**2) + (features - informative) * NOISE**2) / features)
    rows = (rows / scale).astype(np.float32)
    rows.flags.writeable = False  # shared by every Tabular of this process
    return rows
