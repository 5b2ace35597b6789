"""Model-agnostic meta-learning."""

from torch import nn

from innerloop.algorithms.base import GradientBased, Patterns
from innerloop.config import check_flag
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Examples
from innerloop.objective import Objective


class MAML(GradientBased):
    """MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400): learn the initialisation from which a few gradient steps do well.

    Inner loop, on each task's support set:     fast <- fast - inner_lr * grad L_support(fast), from fast = slow
    Outer loop, on the query sets:              slow <- slow - outer_lr * grad_slow mean L_query(fast(slow))

    The outer gradient runs through the inner steps (second order). With first_order=True the inner gradient counts as a constant.
    adapted, meta_learned: patterns of the weights, see GradientBased.
    checkpoint_inner: keep only the fast weights of each inner step in memory, and take the steps again for the outer gradient.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, first_order: bool,
        checkpoint_inner: bool = False, adapted: Patterns = "*", meta_learned: Patterns = "*", head: str = "own",
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, adapted, meta_learned, head)
        check_flag("algo.first_order", first_order)
        check_flag("algo.checkpoint_inner", checkpoint_inner)
        self.first_order, self.checkpoint_inner = first_order, checkpoint_inner

    def step(self, weights: Weights, support: Examples, at: int) -> Weights:
        gradients = self.support_gradients(weights, support, create_graph=not self.first_order)
        return {name: weight - self.inner_lr * gradients[name] for name, weight in weights.items()}
