"""Anyone's environment."""

import threading
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor

from innerloop.config import InputError, check_count, check_range
from innerloop.tasks.worlds.stepped import SteppedWorld, actions_of
from innerloop.tasks.worlds.worlds import WorldTasks

CHANNELS = ("options.", "make.", "reward.")


class Environments(SteppedWorld):
    """Environments of gymnasium by name, one for each rollout at hand.

    parameters: names of what differs between tasks: an attribute of the environment, "make.NAME", an argument of gymnasium.make,
    "options.NAME", an option of reset, or "reward.NAME", which `reward` alone is told. reward: a function of (environment, task, reward,
    info) in the place of the reward.
    """

    def __init__(self, name: str, parameters: Sequence[str], horizon: int | None, reward: str | None) -> None:
        self.name, self.parameters = name, list(parameters)
        self.reward = named(reward) if reward else None
        self._own = threading.local()  # of each thread
        env = self.make({})
        self.actions, self.low, self.high = actions_of(name, env.action_space)
        shape = getattr(env.observation_space, "shape", None)
        if not shape or len(shape) != 1:
            raise InputError(
                f"{name} (task.env) has observations of {env.observation_space}; a policy takes vectors: wrap it, and register that"
            )
        self.observations = shape[0]
        limit = getattr(env.spec, "max_episode_steps", None) if horizon is None else horizon
        if limit is None:
            raise InputError(f"{name} (task.env) has no time limit; set task.horizon")
        check_count("task.horizon", limit)
        self.horizon = limit
        for parameter in self.parameters:
            if not parameter.startswith(CHANNELS) and not hasattr(env.unwrapped, parameter):
                raise InputError(
                    f"task.parameters.{parameter}: {name} has no attribute of that name; make.{parameter} is an argument of "
                    f"gymnasium.make, options.{parameter} an option of reset"
                )
            if not parameter.startswith(CHANNELS):
                try:
                    setattr(env.unwrapped, parameter, getattr(env.unwrapped, parameter))
                except AttributeError as error:  # as one that is computed
                    raise InputError(f"task.parameters.{parameter}: {name} does not let it be set; name what it is made from") from error

    def make(self, arguments: Mapping[str, float]) -> Any:
        """Raises InputError where there is no such environment, or the package is missing."""
        try:
            import gymnasium
        except ImportError as error:
            raise InputError(f"task=gymnasium needs its package ({error}); pip install 'innerloop[gymnasium]'") from error
        try:
            return gymnasium.make(self.name, **arguments)  # type: ignore[arg-type]
        except Exception as error:  # of whatever package the environment is of
            raise InputError(f"task.env={self.name} cannot be made: {' '.join(str(error).split())[:200]}") from error

    def split(self, values: Sequence[float]) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Attributes, arguments and options."""
        of: dict[str, dict[str, float]] = {"": {}, "make.": {}, "options.": {}, "reward.": {}}
        for parameter, value in zip(self.parameters, values, strict=True):
            channel = next((channel for channel in CHANNELS if parameter.startswith(channel)), "")
            of[channel][parameter.removeprefix(channel)] = value
        return of[""], of["make."], of["options."]

    def environments(self, task: Tensor, count: int) -> list[tuple[Any, list[float], dict[str, float]]]:
        """One for each rollout, set to its task, with the task's values and options: those of before, where nothing has to be made anew."""
        pool: dict[Any, list[Any]] = vars(self._own).setdefault("pool", {})
        used: dict[Any, int] = {}
        found = []
        for values in task.tolist():
            attributes, arguments, options = self.split(values)
            key = tuple(arguments.items())
            for _ in range(count):
                place = used[key] = used.get(key, 0) + 1
                there = pool.setdefault(key, [])
                if len(there) < place:
                    there.append(self.make(arguments))
                for name, value in attributes.items():
                    setattr(there[place - 1].unwrapped, name, value)
                found.append((there[place - 1], values, options))
        for key in [key for key in pool if key not in used]:
            del pool[key]  # made for tasks that are over
        return found

    def reward_of(self, env: Any, values: list[float], reward: float, info: dict[str, Any]) -> float:
        try:
            return self.reward(env, dict(zip(self.parameters, values, strict=True)), reward, info) if self.reward else reward
        except KeyError as error:
            raise InputError(f"task.reward asks for {error}, which neither {self.name} nor task.parameters has; take another") from error

    def check_parameters(self, ranges: Sequence[tuple[float, float]]) -> None:
        """Raises InputError for a parameter whose two ends give the same rollout under the same actions: a misspelt option, say."""
        low, high = np.array(ranges, dtype=float).T
        for index, parameter in enumerate(self.parameters):
            both = torch.tensor(np.stack([low, low]), dtype=torch.float32)
            both[1, index] = high[index]

            def same(x: Tensor) -> Tensor:
                return torch.zeros(*x.shape[:2], self.actions.parameters)

            found = self.roll_out(same, both, torch.zeros(2, dtype=torch.long), 1, 0)
            alike = [torch.equal(part[0], part[1]) for part in (found.observations, found.rewards, found.there)]
            if all(alike) and low[index] != high[index]:
                raise InputError(
                    f"task.parameters.{parameter} changes nothing in {self.name}: {low[index]:g} and {high[index]:g} gave the same "
                    "rollout; look at its name, or take it out"
                )


def named(path: str) -> Any:
    """Raises InputError where it cannot be imported."""
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"task.reward={path} cannot be imported ({error}); name a function, as module.function") from error


class Gymnasium(WorldTasks):
    """Environments of one name, whose `parameters` are drawn from their ranges: {gravity: [5, 15]}. See Environments."""

    def __init__(
        self, env: str | None, parameters: dict[str, Sequence[float]] | None, horizon: int | None, reward: str | None, **common: Any,
    ) -> None:  # fmt: skip
        if not env or not parameters:
            raise InputError("task=gymnasium needs task.env=NAME and 'task.parameters={NAME: [low, high]}': what differs between tasks")
        ranges = [check_range(f"task.parameters.{name}", given) for name, given in parameters.items()]
        world = Environments(env, list(parameters), horizon, reward)
        world.check_parameters(ranges)
        named_ranges = [(f"parameters.{name}", given) for name, given in parameters.items()]
        super().__init__(world, named_ranges, **common)
