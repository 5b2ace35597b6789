"""engine=learn2learn: the same algorithms run by learn2learn's own learners, one task after the other.

The classes take the constructor arguments of ours, hold the same parameters under the same names and give the same numbers; what they
replace is the inner loop. `Adapted` is a list of learn2learn's clones, one for each task, which the inner loop updates in place: use
an item of `trajectory` before asking for the next.
(learn2learn: Arnold et al. 2020, arXiv 2008.12284.)
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.anil import ANIL
from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.fomaml import FOMAML
from innerloop.algorithms.inner_optimizer import BETA2, MOMENTUM, Adam, InnerOptimizer, Momentum, State
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.algorithms.reptile import KeptSquares, Reptile
from innerloop.config import InputError
from innerloop.engine.forward import Weights, output_of
from innerloop.episode import Episode, Examples
from innerloop.models.any_module import without_head

try:
    with contextlib.redirect_stderr(io.StringIO()):  # gym, which it imports, prints a notice of its own end
        import learn2learn as l2l
except ImportError as error:
    raise InputError(f"engine=learn2learn needs its package ({error}); `make install` compiles it, or use engine=loop") from error


class Learn2LearnLoop:
    """The inner loop over learn2learn's clones. `self` is also one of our gradient-based algorithms."""

    def learner(self: Any) -> nn.Module:
        """A fresh learn2learn clone, with `adapt(loss)`."""
        raise NotImplementedError

    def run(self: Any, learner: nn.Module, x: Tensor) -> Tensor:
        """Predictions of one task (n, outputs)."""
        return output_of(learner(x))

    def trajectory(self: Any, support: Examples, steps: int) -> Iterator[Any]:
        keep_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            learners = [self.learner() for _ in support.x]
        yield learners
        for at in range(steps):
            batch = self.look(learners, support, at)
            with torch.enable_grad():
                for learner, x, y in zip(learners, *batch, strict=True):
                    if not keep_graph:
                        l2l.detach_module(learner, keep_requires_grad=True)
                    learner.adapt(self.objective.loss(self.run(learner, x)[None], y[None])[0])
            yield learners

    @torch.no_grad()
    def recorded(self: Any, episodes: Episode) -> Episode:
        if self.objective.look is None:
            return episodes
        seen = []
        for at, learners in enumerate(self.trajectory(episodes.support, self.adaptation_steps)):
            if at < self.adaptation_steps:
                seen.append(self.look(learners, episodes.support, at))
        support = Examples(*(torch.stack(parts, 1) for parts in zip(*seen, strict=True))) if seen else episodes.support
        return Episode(support, self.look(learners, episodes.query, None))

    def predict(self: Any, adapted: Any, x: Tensor) -> Tensor:
        return torch.stack([self.run(learner, task_x) for learner, task_x in zip(adapted, x, strict=True)])


class Learn2LearnMAML(Learn2LearnLoop, MAML):
    def learner(self) -> nn.Module:
        return l2l.algorithms.MAML(self.model, lr=self.inner_lr, first_order=self.first_order).clone()


class Learn2LearnFOMAML(Learn2LearnMAML, FOMAML):
    pass


class Learn2LearnANIL(Learn2LearnLoop, ANIL):
    def learner(self: Any) -> nn.Module:
        return l2l.algorithms.MAML(self.model.head, lr=self.inner_lr, first_order=self.first_order).clone()

    def run(self: Any, learner: nn.Module, x: Tensor) -> Tensor:
        return learner(output_of(without_head(self.model)(x)))


class Learn2LearnMetaSGD(Learn2LearnLoop, MetaSGD):
    def learner(self) -> nn.Module:
        return l2l.algorithms.MetaSGD(self.model, first_order=self.first_order, lrs=self.step_sizes).clone()


class Learn2LearnReptile(Reptile):
    """learn2learn has no Reptile class; as in its examples, plain torch.optim on clones of the module."""

    def inner_loop(self, support: Examples, steps: int) -> Iterator[tuple[Weights, State]]:
        with torch.enable_grad():
            learners = [l2l.clone_module(self.model) for _ in support.x]
        for learner in learners:
            l2l.detach_module(learner, keep_requires_grad=True)
        optimizers = [self.optimizer(learner) for learner in learners]
        yield self.stacked(learners), {}
        for batch in self.batches(support, steps):
            with torch.enable_grad():
                for learner, optimizer, x, y in zip(learners, optimizers, *batch, strict=True):
                    optimizer.zero_grad()
                    self.objective.loss(output_of(learner(x))[None], y[None])[0].backward()
                    optimizer.step()
            yield self.stacked(learners), {}

    def optimizer(self, learner: nn.Module) -> torch.optim.Optimizer:
        chosen = self.inner_optimizer
        if isinstance(chosen, Adam):
            return torch.optim.Adam(learner.parameters(), lr=self.inner_lr, betas=(chosen.beta1, BETA2), eps=chosen.epsilon)
        return torch.optim.SGD(learner.parameters(), lr=self.inner_lr, momentum=MOMENTUM * isinstance(chosen, Momentum))

    def stacked(self, learners: list[nn.Module]) -> Weights:
        parameters = [dict(learner.named_parameters()) for learner in learners]
        return {name: torch.stack([p[name].detach() for p in parameters]) for name in parameters[0]}


def check_all_weights(algorithm: Any) -> None:
    """Raises InputError where some weights are not to be adapted or learned: learn2learn's learners clone whole modules."""
    names = {name for name, weight in algorithm.model.named_parameters() if weight.requires_grad}
    adapted = {name for name in names if name.startswith("head.")} if isinstance(algorithm, ANIL) else names
    if adapted != set(algorithm.slow_weights()) or len(names) < len(list(algorithm.model.parameters())):
        raise InputError("engine=learn2learn has no part for algo.adapted and algo.meta_learned; use engine=vmap or engine=loop")
    if isinstance(algorithm, Reptile) and algorithm.objective.look:
        raise InputError("engine=learn2learn has no Reptile for policies; use engine=vmap or engine=loop")
    if isinstance(algorithm, ANIL) and not getattr(algorithm.model, "ends_in_head", True):
        raise InputError("engine=learn2learn runs ANIL on models that end in their `head`, which this one does not; use engine=vmap")
    if getattr(algorithm, "head", "own") != "own":
        raise InputError("engine=learn2learn has no part for algo.head; use engine=vmap or engine=loop")
    if len(algorithm.inner_lrs) > 1:
        raise InputError("engine=learn2learn has no part for a list of algo.inner_lr; use engine=vmap or engine=loop")
    if isinstance(algorithm.inner_optimizer, KeptSquares) or (
        not isinstance(algorithm, Reptile) and type(algorithm.inner_optimizer) is not InnerOptimizer
    ):
        raise InputError("engine=learn2learn has no part for algo.inner_optimizer; use engine=vmap or engine=loop")


LEARNERS: dict[type[Algorithm], type[Algorithm]] = {
    MAML: Learn2LearnMAML,
    FOMAML: Learn2LearnFOMAML,
    ANIL: Learn2LearnANIL,
    MetaSGD: Learn2LearnMetaSGD,
    Reptile: Learn2LearnReptile,
}


def learn2learn_class(algorithm: type[Algorithm]) -> type[Algorithm]:
    """The class above that runs `algorithm`. Raises InputError for those that learn2learn has nothing for."""
    if algorithm not in LEARNERS:
        can = ", ".join(name.__name__.lower() for name in LEARNERS)
        raise InputError(f"engine=learn2learn runs {can}, not algo={algorithm.__name__.lower()}; use engine=vmap or engine=loop")
    return LEARNERS[algorithm]
