"""Model-agnostic meta-learning."""

from innerloop.algorithms.base import GradientBased
from innerloop.engine.forward import Weights


class MAML(GradientBased):
    """MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400): learn the initialisation from which a few gradient steps do well.

    Inner loop, on each task's support set:     fast <- fast - inner_lr * grad L_support(fast), from fast = slow
    Outer loop, on the query sets:              slow <- slow - outer_lr * grad_slow mean L_query(fast(slow))

    The outer gradient runs through the inner steps (second order). With first_order=True the inner gradient counts as a constant.
    The arguments are GradientBased's.
    """

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        return {name: weight - self.inner_lr_at(at) * directions[name] for name, weight in weights.items()}
