"""A model is tried out before training, and nothing of the training changes by it."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.algorithms.maml import MAML
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.objective import CLASSIFICATION, REGRESSION
from innerloop.runs.dry_run import check_model
from tests.conftest import classification_episodes


class Restless(nn.Module):
    """Draws from every generator, counts its calls and keeps running statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.head(self.body(x)) + random.random() + np.random.rand()


def test_nothing_of_the_training_changes():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    algorithm = MAML(Restless(), CLASSIFICATION, engines.loop, 0.1, 2, False).train()
    state = {name: value.clone() for name, value in algorithm.state_dict().items()}
    drawn = [torch.get_rng_state(), random.getstate(), np.random.get_state()]
    check_model(algorithm, classification_episodes(1, (4,)), 3)
    assert all(torch.equal(value, state[name]) for name, value in algorithm.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn[0]) and random.getstate() == drawn[1]
    assert np.array_equal(np.random.get_state()[1], drawn[2][1]) and np.random.get_state()[2:] == drawn[2][2:]
    assert algorithm.training and all(parameter.grad is None for parameter in algorithm.parameters())


def test_a_squeezed_regression_is_not_broadcast():
    """10 predictions (n,) beside 10 targets (n, 1) would make 100 differences, and a loss that no one asked for."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    part = Examples(torch.rand(1, 10, 1), torch.rand(1, 10, 1))
    with pytest.raises(
        InputError, match=r"Sequential gives \(2,\) numbers for 2 examples, and this task asks for \(2, 1\); change its last"
    ):
        check_model(MAML(model, REGRESSION, engines.vmap, 0.1, 1, False), Episode(part, part), 1)


def test_what_only_fails_in_training_is_found_too():
    class Trained(nn.Linear):
        def forward(self, x):
            if self.training:
                raise RuntimeError("no kernel for this")
            return super().forward(x)

    with pytest.raises(InputError, match="Trained cannot take this task .no kernel for this.; change its settings, or use another model"):
        check_model(MAML(Trained(4, 3), CLASSIFICATION, engines.vmap, 0.1, 1, False), classification_episodes(1, (4,)), 3)
