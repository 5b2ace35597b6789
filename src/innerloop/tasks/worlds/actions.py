"""What a policy may do, and how likely each action is."""

import math
from typing import Protocol

import torch
from torch import Tensor

LEAST_LOG_STD = math.log(1e-6)


class Actions(Protocol):
    """numbers: standard normal numbers that an action takes. size: numbers of an action. parameters: of its distribution, which is all that
    a policy says. encoded: numbers of an action as a network is shown it. Tensors are (..., size), (..., parameters)."""

    numbers: int
    size: int
    parameters: int
    encoded: int

    def sample(self, parameters: Tensor, numbers: Tensor) -> Tensor: ...

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest action."""
        ...

    def encode(self, action: Tensor) -> Tensor: ...

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Of the whole action, summed over its numbers: (...)."""
        ...

    def divergence(self, old: Tensor, new: Tensor) -> Tensor:
        """KL(old, new): (...)."""
        ...


class Continuous:
    """Normally distributed: parameters are the means and the logarithms of the deviations, one of each for each number."""

    def __init__(self, size: int) -> None:
        self.numbers = self.size = self.encoded = size
        self.parameters = 2 * size

    def parts(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = parameters.chunk(2, -1)
        return mean, log_std.clamp(min=LEAST_LOG_STD)

    def sample(self, parameters: Tensor, numbers: Tensor) -> Tensor:
        mean, log_std = self.parts(parameters)
        return mean + log_std.exp() * numbers

    def mode(self, parameters: Tensor) -> Tensor:
        return self.parts(parameters)[0]

    def encode(self, action: Tensor) -> Tensor:
        return action

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        mean, log_std = self.parts(parameters)
        return (-((action - mean) / log_std.exp()).square() / 2 - log_std - math.log(2 * math.pi) / 2).sum(-1)

    def divergence(self, old: Tensor, new: Tensor) -> Tensor:
        (mean, log_std), (other, other_log_std) = self.parts(old), self.parts(new)
        ratio = ((2 * log_std).exp() + (mean - other).square()) / (2 * (2 * other_log_std).exp())
        return (other_log_std - log_std + ratio - 0.5).sum(-1)


class Discrete:
    """One of `count`: parameters are logits, an action is its number as a float."""

    numbers = size = 1

    def __init__(self, count: int) -> None:
        self.parameters = self.encoded = count

    def sample(self, parameters: Tensor, numbers: Tensor) -> Tensor:
        below = torch.special.ndtr(numbers) > parameters.softmax(-1).cumsum(-1)
        return below.sum(-1, keepdim=True).clamp(max=self.parameters - 1).to(parameters.dtype)

    def mode(self, parameters: Tensor) -> Tensor:
        return parameters.argmax(-1, keepdim=True).to(parameters.dtype)

    def encode(self, action: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(action[..., 0].long(), self.parameters).to(action.dtype)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        return parameters.log_softmax(-1).gather(-1, action.long()).squeeze(-1)

    def divergence(self, old: Tensor, new: Tensor) -> Tensor:
        logs, others = old.log_softmax(-1), new.log_softmax(-1)
        return (logs.exp() * (logs - others)).sum(-1)
