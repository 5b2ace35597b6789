"""MAML++."""

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.learned_rates import LearnedRates
from innerloop.config import InputError, check_count, check_flag
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Episode, Examples
from innerloop.objective import Objective

LEAST = 0.03  # of a step's weight while there are several, in parts of an equal share (the authors' code)


class MAMLpp(LearnedRates):
    """MAML++ (Antoniou, Edwards, Storkey 2019, arXiv 1810.09502), each part by a switch: a rate for each layer and step (`per`,
    `per_step`), a query loss after every step (`multi_step`), whose weight moves to the last step over that part of training, and norm
    layers with a scale and shift for each step that are learned and not adapted (`per_step_norm`). Their schedule is scheduler=cosine.

    The paper's running statistics for each step are left out: in the authors' code they are never read.
    multi_step: from 0, the last step's loss alone, to 1. The rest as in LearnedRates.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, per: str, per_step: bool,
        multi_step: float, per_step_norm: bool, **options: Any,
    ) -> None:  # fmt: skip
        check_count("algo.adaptation_steps", adaptation_steps)
        check_flag("algo.per_step_norm", per_step_norm)
        if not isinstance(multi_step, int | float) or not 0 <= multi_step <= 1:
            raise InputError(f"algo.multi_step must be a part of training, from 0 to 1, got {multi_step!r}")
        norms = affine_of(model) if per_step_norm else []
        rows = {name: model.get_parameter(name).detach().expand(adaptation_steps, -1).clone() for name in norms}
        for name in norms:
            model.get_parameter(name).requires_grad_(False)
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, per, per_step, **options)
        self.norms, self.multi_step = norms, multi_step
        self.head_only = self.head_only and not norms
        self.tables = nn.ParameterList(rows.values())
        self.importance = nn.Parameter(torch.zeros(adaptation_steps), requires_grad=False)  # of each step's query loss
        self.anneal(0.0)

    def only_trains(self, name: str) -> bool:
        return name == "importance"

    @torch.no_grad()
    def anneal(self, done: float) -> None:
        steps = self.adaptation_steps
        left = 1 - done / self.multi_step if self.multi_step > done else 0.0
        self.importance.fill_(max(left, LEAST) / steps if left else 0.0)
        self.importance[-1] = 1 - self.importance[:-1].sum()

    def affine(self, at: int, tasks: int) -> Weights:
        """Of the norm layers, at a step."""
        row = min(at, self.adaptation_steps - 1)
        return {name: table[row].expand(tasks, -1) for name, table in zip(self.norms, self.tables, strict=True)}

    def initial_weights(self, support: Examples) -> Weights:
        return super().initial_weights(support) | self.affine(0, len(support.x))

    def support_gradients(self, weights: Weights, support: Examples, at: int) -> Weights:
        return super().support_gradients(weights | self.affine(at, len(support.x)), support, at)

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        fast = {name: weights[name] for name in self.slow_weights()}
        tasks = len(next(iter(fast.values())))
        return super().step(fast, directions, at) | self.affine(at, tasks)

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        support, query = episodes
        total = torch.zeros(len(support.x), device=support.x.device)
        for taken, weights in enumerate(self.trajectory(support, self.adaptation_steps)):
            if taken:
                predictions = self.predict(weights, query.x)
                total = total + self.importance[taken - 1] * self.outer_loss(predictions, query.y)
        return total, predictions


def affine_of(model: nn.Module) -> list[str]:
    """The names of the norm layers' scales and shifts. Raises InputError where there are none."""
    layers = {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm)}
    names = [name for name, _ in model.named_parameters() if name.rpartition(".")[0] in layers]
    if not names:
        raise InputError(
            f"algo.per_step_norm=true needs norm layers with scale and shift, and {type(model).__name__} has none; set it to false"
        )
    return names
