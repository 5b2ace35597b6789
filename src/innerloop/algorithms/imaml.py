"""MAML with implicit gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from innerloop.algorithms.inner_optimizer import FIXED
from innerloop.algorithms.maml import MAML
from innerloop.config import check_count, check_positive
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Examples
from innerloop.objective import Objective

Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class IMAML(MAML):
    """iMAML (Rajeswaran et al. 2019, arXiv 1909.04630): the outer gradient of where the inner loop ends, not of how it came there.

    The inner loop minimises L_support(fast) + strength / 2 |fast - slow|^2 by gradient steps. Where it has, the outer gradient is
    (I + H / strength)^-1 grad L_query(fast), H being the support loss's Hessian: solved by cg_steps of conjugate gradients for each task,
    in memory that does not grow with the steps. Weights that are shared and not adapted get theirs through the same solution.

    train/residual says how far the inner loop is from where that holds, in parts of the support gradient: near 0 is well, near 1 is not.
    train/stopped: the part of tasks whose curvature was not positive, and whose conjugate gradients stopped there. (The authors' code
    solves another system, with one proximal step at the end.)
    """

    inner_optimizers = FIXED
    acts = False

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float, adaptation_steps: int, strength: float,
        cg_steps: int, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine, inner_lr, adaptation_steps, **options)
        check_positive("algo.strength", strength)
        check_count("algo.cg_steps", cg_steps, least=0)
        self.strength, self.cg_steps = strength, cg_steps
        self.residual = nn.Parameter(torch.zeros(()), requires_grad=False)  # shared with the copies on other threads
        self.stopped = nn.Parameter(torch.zeros(()), requires_grad=False)

    def only_trains(self, name: str) -> bool:
        return name in ("residual", "stopped")

    def notes(self) -> dict[str, Tensor]:
        return {"residual": self.residual, "stopped": self.stopped}

    def support_gradients(self, weights: Weights, support: Examples, at: int) -> Weights:
        gradients, start = super().support_gradients(weights, support, at), self.initial_weights(support)
        return {name: gradient + self.strength * (weights[name] - start[name]) for name, gradient in gradients.items()}

    def adapt(self, support: Examples) -> Weights:
        with torch.no_grad():
            *_, weights = self.trajectory(support, self.adaptation_steps)
        return self.stationary(weights, support) if torch.is_grad_enabled() else weights

    def stationary(self, weights: Weights, support: Examples) -> Weights:
        """The same weights, with the outer gradient that they have as the minimum."""
        start = self.initial_weights(support)
        support = support._replace(x=self.at_hand(support.x))
        fast = [weight.detach().requires_grad_() for weight in weights.values()]
        loss = self.support_loss(dict(zip(weights, fast, strict=True)), support).sum()
        gradients = torch.autograd.grad(loss, fast, create_graph=True, materialize_grads=True)
        slow = [start[name] for name in weights]
        left = [self.strength * (w - s) + g for w, g, s in zip(fast, gradients, slow, strict=True)]
        self.residual.data.copy_((dot(left, left) / dot(gradients, gradients)).sqrt().mean().detach())
        system = self.system(fast, gradients, slow)

        def product(v: Sequence[Tensor]) -> Sequence[Tensor]:
            return torch.autograd.grad(system, fast, v, retain_graph=True)

        return dict(zip(weights, Stationary.apply(self, product, *fast, *system), strict=True))

    def system(self, fast: Sequence[Tensor], gradients: Sequence[Tensor], slow: Sequence[Tensor]) -> list[Tensor]:
        """What is zero at the minimum, its derivative by `slow` being -1."""
        return [w + g / self.strength - s for w, g, s in zip(fast, gradients, slow, strict=True)]


class Stationary(Function):
    """fast, as the place where `residual(fast, other weights)` is zero: d fast = -(d residual / d fast)^-1 d residual."""

    @staticmethod
    def forward(ctx: Any, algorithm: IMAML, product: Product, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.algorithm, ctx.product, ctx.count = algorithm, product, len(tensors) // 2
        return tuple(fast.clone() for fast in tensors[: ctx.count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        solution, alive = conjugate_gradients(ctx.product, gradients, ctx.algorithm.cg_steps)
        ctx.algorithm.stopped.data.copy_((~alive).to(gradients[0].dtype).mean())
        return None, None, *[None] * ctx.count, *(-v for v in solution)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Of each task, over all its weights: (tasks,)."""
    return torch.stack([(x * y).reshape(len(x), -1).sum(1) for x, y in zip(a, b, strict=True)]).sum(0)


def along(scale: Tensor, a: Sequence[Tensor]) -> list[Tensor]:
    return [scale.view(-1, *[1] * (x.dim() - 1)) * x for x in a]


def conjugate_gradients(product: Product, b: Sequence[Tensor], steps: int) -> tuple[list[Tensor], Tensor]:
    """Solves product(x) = b for each task, from x = b, which alone is the first-order gradient; and which tasks went through all steps: the
    others met a curvature that is not positive, and stopped."""
    x = list(b)
    r = [one - two for one, two in zip(b, product(x), strict=True)]
    p, squares = r, dot(r, r)
    alive = torch.ones_like(squares, dtype=torch.bool)
    for _ in range(steps):
        turned = product(p)
        curvature = dot(p, turned)
        alive = alive & ((curvature > 0) | (squares == 0))
        moving = alive & (squares > 0)
        rate = torch.where(moving, squares / torch.where(moving, curvature, 1), 0)
        x = [one + two for one, two in zip(x, along(rate, p), strict=True)]
        r = [one - two for one, two in zip(r, along(rate, turned), strict=True)]
        after = dot(r, r)
        p = [one + two for one, two in zip(r, along(torch.where(moving, after / torch.where(moving, squares, 1), 0), p), strict=True)]
        squares = after
    return x, alive
