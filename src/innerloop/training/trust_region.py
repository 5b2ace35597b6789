"""The outer step of trust-region policy optimisation."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from innerloop.config import check_count, check_positive

Closure = Callable[[], tuple[Tensor, Tensor]]
SHORTER = 0.8  # a step that is refused, in parts of the one before


class TrustRegion(Optimizer):
    """TRPO (Schulman et al. 2015, arXiv 1502.05477), the outer optimizer of MAML's article: along the natural gradient, as far as the
    divergence from the policies that made the rollouts is `lr`; shorter and shorter until the loss falls and the divergence is within `lr`.

    `step(closure)` asks for (loss, divergence) with their graphs, anew at each length that it tries. cg_steps: of conjugate gradients, on
    the second derivative of the divergence, through the inner loop. damping: added to that. tries: lengths, before it stays where it is.
    """

    def __init__(self, params: Iterable[Parameter], lr: float, cg_steps: int, damping: float, tries: int) -> None:
        check_positive("optimizer.lr", lr)
        check_positive("optimizer.damping", damping)
        check_count("optimizer.cg_steps", cg_steps)
        check_count("optimizer.tries", tries)
        super().__init__(params, {"lr": lr})
        self.cg_steps, self.damping, self.tries = cg_steps, damping, tries

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]
        """Returns the loss before the step."""
        weights: list[Parameter] = [weight for group in self.param_groups for weight in group["params"]]
        radius = self.param_groups[0]["lr"]
        with torch.enable_grad():
            loss, divergence = closure()
            gradient = flat(torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True), weights)
            slopes = flat(torch.autograd.grad(divergence, weights, create_graph=True, allow_unused=True), weights)

        def curvature(v: Tensor) -> Tensor:
            with torch.enable_grad():
                along = torch.autograd.grad(slopes @ v, weights, retain_graph=True, allow_unused=True)
            return flat(along, weights) + self.damping * v

        direction = solve(curvature, gradient, self.cg_steps)
        length = (2 * radius / (direction @ curvature(direction)).clamp(min=1e-12)).sqrt()
        start = [weight.clone() for weight in weights]
        for attempt in range(self.tries):
            change = torch.split(-(SHORTER**attempt) * length * direction, [weight.numel() for weight in weights])
            for weight, before, part in zip(weights, start, change, strict=True):
                weight.copy_(before + part.view_as(before))
            with torch.enable_grad():  # for the inner loop
                new_loss, new_divergence = closure()
            if new_loss < loss and new_divergence <= radius:
                return loss
        for weight, before in zip(weights, start, strict=True):
            weight.copy_(before)
        return loss


def flat(gradients: Iterable[Any], weights: list[Parameter]) -> Tensor:
    """As one vector; zero for what was not used."""
    return torch.cat([torch.zeros_like(w).flatten() if g is None else g.flatten() for g, w in zip(gradients, weights, strict=True)])


def solve(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """product(x) = b by conjugate gradients, from 0."""
    x, r, p = torch.zeros_like(b), b, b
    squares = r @ r
    for _ in range(steps):
        if squares < 1e-20:
            break
        turned = product(p)
        rate = squares / (p @ turned)
        x, r = x + rate * p, r - rate * turned
        after = r @ r
        p, squares = r + after / squares * p, after
    return x
