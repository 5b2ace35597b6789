"""iMAML as its authors' code computes it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.algorithms.imaml import IMAML
from innerloop.algorithms.maml import MAML
from innerloop.engine.forward import Weights
from innerloop.episode import Examples

DAMPING, SHIFT = 1.0, 10.0


class IMAMLReleased(IMAML):
    """For comparisons with iMAML's published figures alone: what was released with them, which is not what the paper derives.

    The inner loop has no pull towards the initialisation, but for one step of it at the end of training's; evaluation has none at all. The
    system that is solved is ((1 + damping) I + H / (strength + 10)) v = grad L_query, with damping 1: near the first-order gradient.
    """

    def support_gradients(self, weights: Weights, support: Examples, at: int) -> Weights:
        return MAML.support_gradients(self, weights, support, at)

    def adapt(self, support: Examples) -> Weights:
        with torch.no_grad():
            *_, weights = self.trajectory(support, self.adaptation_steps)
            if not self.training:
                return weights
            start, rate = self.initial_weights(support), self.inner_lr_at(self.adaptation_steps - 1)
            weights = {name: weight - rate * self.strength * (weight - start[name]) for name, weight in weights.items()}
        return self.stationary(weights, support)

    def system(self, fast: Sequence[Tensor], gradients: Sequence[Tensor], slow: Sequence[Tensor]) -> list[Tensor]:
        return [(1 + DAMPING) * w + g / (self.strength + SHIFT) - s for w, g, s in zip(fast, gradients, slow, strict=True)]
