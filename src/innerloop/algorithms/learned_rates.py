"""MAML that learns its step sizes."""

from typing import Any

from torch import Tensor, nn

from innerloop.algorithms.maml import MAML
from innerloop.config import check_choice, check_flag, check_positive
from innerloop.engine.forward import Engine, Weights
from innerloop.objective import Objective


class LearnedRates(MAML):
    """MAML whose step sizes are learned with the initialisation: for each step (per_step) or all, and for each weight (Meta-SGD, Li et al.
    2017), each layer (LSLR of MAML++, Antoniou et al. 2019, arXiv 1810.09502; weight and bias count as two) or one for all (alpha-MAML).

    per: weight | layer | one. inner_lr: where all step sizes start; they may turn negative. Steps beyond those learned take the last.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, per: str, per_step: bool,
        **options: Any,
    ) -> None:  # fmt: skip
        check_choice("algo.per", per, ("weight", "layer", "one"))
        self.of_each_row = per == "weight"
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        check_positive("algo.inner_lr", inner_lr)
        check_flag("algo.per_step", per_step)
        self.per = per
        self.steps_learned = max(adaptation_steps, 1) if per_step else 1
        weights = list(self.slow_weights().values())
        shapes = [weight.shape if per == "weight" else () for weight in (weights[:1] if per == "one" else weights)]
        self.rates = nn.ParameterList(weights[0].new_full((self.steps_learned, *shape), self.inner_lr) for shape in shapes)

    def rate(self, index: int, at: int) -> Tensor:
        """Of a weight, by its place among slow_weights(), at a step."""
        row: Tensor = self.rates[0 if self.per == "one" else index][min(at, self.steps_learned - 1)]
        return row

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        return {name: weight - self.rate(index, at) * directions[name] for index, (name, weight) in enumerate(weights.items())}
