"""Meta-World: a robot arm that manipulates objects (Yu et al. 2019, arXiv 1910.10897)."""

import threading
from typing import Any

import numpy as np
from torch import Tensor

from innerloop.config import InputError, check_choice, check_count
from innerloop.episode import Episode
from innerloop.tasks.base import Split
from innerloop.tasks.worlds.stepped import SteppedWorld, actions_of
from innerloop.tasks.worlds.worlds import WorldTasks

BENCHMARKS = ("ML1", "ML10", "ML25", "ML45")
GOALS_SEED = 0  # so that all runs have the same goals


class Arms(SteppedWorld):
    """The tasks of a benchmark, those of training first: a task is its number. Goals are not shown.

    An environment of Meta-World takes 0.1 s to make and 20 MB; they are kept, so many of a kind as rollouts at once needed.
    """

    succeeds = True

    def __init__(self, benchmark: str, env: str | None, reward_version: str | None, horizon: int) -> None:
        """Raises InputError for what Meta-World does not have, or where the package is missing."""
        check_choice("task.benchmark", benchmark, BENCHMARKS)
        check_choice("task.reward_version", str(reward_version), ("v1", "v2"))
        check_count("task.horizon", horizon)
        if (benchmark == "ML1") != (env is not None):
            raise InputError("task.env=NAME (reach-v3, say) is for task.benchmark=ML1, and it must be there; the others have their own")
        try:
            import metaworld
        except ImportError as error:
            raise InputError(f"task=meta_world needs its package ({error}); pip install 'innerloop[metaworld]'") from error
        if env is not None and env not in metaworld.ML1.ENV_NAMES:
            raise InputError(f"task.env={env} is not in Meta-World; it has {', '.join(metaworld.ML1.ENV_NAMES)}")
        found = metaworld.ML1(env, seed=GOALS_SEED) if env is not None else getattr(metaworld, benchmark)(seed=GOALS_SEED)
        self.name, self.reward_version = env or benchmark, reward_version
        self.kinds = {**found.train_classes, **found.test_classes}
        self.tasks, self.trained = [*found.train_tasks, *found.test_tasks], len(found.train_tasks)
        self._own = threading.local()  # of each thread
        first = self.make(self.tasks[0].env_name)
        if horizon > first.max_path_length:
            raise InputError(f"task.horizon={horizon} is above the {first.max_path_length} steps that Meta-World goes on for")
        first.set_task(self.tasks[0])  # which hides the goal
        self.actions, self.low, self.high = actions_of(self.name, first.action_space)
        self.observations, self.horizon = first.observation_space.shape[0], horizon

    def make(self, kind: str) -> Any:
        return self.kinds[kind](reward_function_version=self.reward_version)

    def environments(self, task: Tensor, count: int) -> list[tuple[Any, list[float], dict[str, float]]]:
        pool: dict[str, list[Any]] = vars(self._own).setdefault("pool", {})
        used: dict[str, int] = {}
        found: list[tuple[Any, list[float], dict[str, float]]] = []
        for values in task.tolist():
            here = self.tasks[int(values[0])]
            there = pool.setdefault(here.env_name, [])
            for _ in range(count):
                place = used[here.env_name] = used.get(here.env_name, 0) + 1
                if len(there) < place:
                    there.append(self.make(here.env_name))
                there[place - 1].set_task(here)
                found.append((there[place - 1], values, {}))
        return found


class MetaWorld(WorldTasks):
    """A benchmark of Meta-World: ML1 (one kind of manipulation, unseen goals), ML10, ML25, ML45 (unseen kinds). Validation is on tasks of
    training with other random numbers, since the benchmark has no others."""

    def __init__(self, benchmark: str, env: str | None, reward_version: str | None, horizon: int, **common: Any) -> None:
        self.arms = Arms(benchmark, env, reward_version, horizon)
        super().__init__(self.arms, [("task", (0, len(self.arms.tasks)))], **common)

    def distribution(self, split: Split) -> Any:
        arms = self.arms
        return Numbered(self, *((arms.trained, len(arms.tasks)) if split == "test" else (0, arms.trained)))


class Numbered:
    """Draws of the tasks from number `start` on, before `end`."""

    def __init__(self, tasks: WorldTasks, start: int, end: int) -> None:
        self.tasks, self.start, self.end = tasks, start, end

    def sample(self, rng: np.random.Generator) -> Episode:
        return self.tasks.episode(rng.integers(self.start, self.end, size=1), rng)
