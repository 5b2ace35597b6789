"""What an algorithm is, and the inner loop that the gradient-based ones share."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from itertools import repeat
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from innerloop.algorithms.inner_optimizer import LEARNED, State, inner_optimizer_of
from innerloop.config import InputError, check_choice, check_count, check_flag, check_positive
from innerloop.engine.forward import Engine, Weights
from innerloop.episode import Episode, Examples
from innerloop.models.any_module import without_head
from innerloop.objective import CLASSIFICATION, Objective

Adapted = TypeVar("Adapted")
Patterns = str | list[str]


class Algorithm(nn.Module, ABC, Generic[Adapted]):
    """A way to learn from the support set, and what to optimise so that it learns well.

    All methods take a meta-batch: every tensor has a leading task axis. Its parameters are what the outer loop trains.
    `Adapted` is what adaptation gives: fast weights, prototypes, ... It is returned, never stored on self.

    __init__ gets model, objective and engine, what the YAML says, and, where it has an argument of that name, what the tasks are like
    (runs/build.py, OF_TASKS): ways, train_ways, train_classes, ...

    What the rest of the project has to know of an algorithm is said by these attributes of its class:

    learns: there is an outer loop; False, it is evaluated as it is.
    baseline: it is what meta-learning has to beat; comparisons warn where it is not beaten.
    any_ways: it tells any number of classes apart, whatever the model's width: those that its attributes `ways` and, in training,
    `train_ways` say. None: as many as the model has outputs. varied: it is to take them from the meta-batch at hand (`told`).
    by_class: its training episodes are labelled by class, 0 to train_classes - 1, not by way.
    answers_jointly: its answer to a query depends on the other queries, so that its score is transductive.
    acts: it adapts a policy by gradient steps on the rollouts that its weights made.
    head_only: no step changes what is below the model's head, so that it runs once an episode: `at_hand`, then `predict_at_hand`.
    """

    learns = True
    baseline = False
    any_ways = False
    by_class = False
    answers_jointly = False
    acts = False
    head_only = False
    ways: int | None = None
    train_ways: int | None = None
    varied = False

    def __init__(self, model: nn.Module, objective: Objective, engine: Engine) -> None:
        super().__init__()
        self.model, self.objective, self.engine = model, objective, engine

    @property
    def adapts_body(self) -> bool:
        """Whether tasks have weights of their own below the model's head."""
        return any(not name.startswith("head.") for name in self.slow_weights())

    @property
    def ways_at_hand(self) -> int | None:
        """Classes in the episodes that it is given now."""
        return self.train_ways if self.training else self.ways

    def told(self, episodes: Episode) -> None:
        """Takes the number of classes in a meta-batch for its own, where it is not always the same."""
        if self.varied and not episodes.support.y.is_floating_point():
            self.ways = self.train_ways = int(episodes.support.y.max()) + 1

    def members(self, y: Tensor, like: Tensor) -> Tensor:
        """Which class each label (tasks, n) is: (tasks, n, ways) of 0 and 1, in the type of `like`."""
        return (y.unsqueeze(-1) == torch.arange(self.ways_at_hand or 0, device=y.device)).to(like.dtype)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that the outer loop trains; those without requires_grad stay as they are."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def only_trains(self, name: str) -> bool:
        """Whether only training uses the parameter of that name: evaluation may then be on other classes or ways."""
        return False

    def anneal(self, done: float) -> None:
        """Called before each meta-batch of training, with the fraction of training that is done. What it changes must be the values of an
        `nn.Parameter(requires_grad=False)`, which the copies on other threads share; `only_trains` names it."""

    def counts(self) -> dict[str, int]:
        """How many numbers there are, the outer loop trains, and each task has of its own."""
        sizes = [sum(p.numel() for p in parameters) for parameters in (self.parameters(), self.trained(), self.slow_weights().values())]
        return dict(zip(("in all", "meta-learned", "adapted"), sizes, strict=True))

    def slow_weights(self) -> dict[str, nn.Parameter]:
        """The initialisation of the fast weights, by name; none where there is no inner loop over weights."""
        return {}

    @abstractmethod
    def adapt(self, support: Examples) -> Adapted:
        """The inner loop on all tasks at once. Keeps the graph back to the parameters where gradients are enabled, none under no_grad."""

    @abstractmethod
    def predict(self, adapted: Adapted, x: Tensor) -> Tensor:
        """x (tasks, n, ...) -> predictions (tasks, n, outputs)."""

    def at_hand(self, x: Tensor) -> Tensor:
        """What predict_at_hand takes of the inputs of an episode, made once: with `head_only`, the features before the head."""
        return x

    def predict_at_hand(self, adapted: Adapted, x: Tensor) -> Tensor:
        """Predictions of what at_hand gave."""
        return self.predict(adapted, x)

    def look(self, adapted: Adapted, part: Examples, at: int | None) -> Examples:
        """The examples of inner step `at`, None for the query set: `part` itself, but for a policy, which makes its own."""
        look = self.objective.look
        return look(partial(self.predict, adapted), part, at) if look else part

    def recorded(self, episodes: Episode) -> Episode:
        """The episodes with all that the learner made itself in the place of what it is made from: support sets (tasks, steps, n, ...)."""
        return episodes

    def outer_loss(self, predictions: Tensor, y: Tensor) -> Tensor:
        """Of each task (tasks,), on its query set."""
        return (self.objective.outer_loss or self.objective.loss)(predictions, y)

    def trajectory(self, support: Examples, steps: int) -> Iterator[Adapted]:
        """What adaptation gives after 0, 1, ..., steps inner steps; a single item where there are no steps to count."""
        yield self.adapt(support)

    def notes(self) -> dict[str, Tensor]:
        """Numbers of the last meta-batch that training logs as train/NAME."""
        return {}

    def more(self, adapted: Adapted, query: Examples) -> dict[str, Tensor]:
        """What else evidence.csv has of a query set, by name, beside what the objective measures: each (tasks,)."""
        return {}

    def network(self, adapted: Adapted) -> nn.Module:
        """What adaptation made of a meta-batch of one task, as a network of its own: x (n, ...) -> predictions (n, outputs).

        Raises InputError where there is none.
        """
        raise InputError(f"{type(self).__name__} has no network of its own after adaptation; use one that has, such as MAML or ProtoNet")

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """The outer loss of each task (tasks,), and the predictions on its query set (tasks, n, outputs)."""
        predictions = self.predict(self.adapt(episodes.support), episodes.query.x)
        return self.outer_loss(predictions, episodes.query.y), predictions


def class_head(model: nn.Module, classes: int) -> nn.Linear:
    """A last layer for all classes of the training split, in the place of the model's `head`. Raises InputError where it has none."""
    if not isinstance(getattr(model, "head", None), nn.Linear):
        raise InputError(
            f"a baseline that classifies needs a model whose last layer is linear and called `head`; {type(model).__name__} has none"
        )
    return nn.Linear(model.head.in_features, classes)  # type: ignore[union-attr, arg-type]


def one_row(model: nn.Module, objective: Objective, head: str) -> int:
    """Gives the model's `head` one row for all classes: the mean of those it had (tied), or zero. Returns how many it had.

    Raises InputError where it has none.
    """
    layer = getattr(model, "head", None)
    if objective is not CLASSIFICATION or not isinstance(layer, nn.Linear):
        raise InputError(f"algo.head={head} is for classes told apart by a linear layer called `head`; use algo.head=own")
    outputs, layer.out_features = layer.out_features, 1
    for rows in layer.parameters():
        rows.data = rows.detach().mean(0, keepdim=True) if head == "tied" else torch.zeros_like(rows[:1])
    return outputs


def drop_head(model: nn.Module, algo: str) -> None:
    """Leaves the features before the last layer. Raises InputError where there is none called so."""
    if not hasattr(model, "head"):
        raise InputError(f"algo={algo} replaces the last layer, `head`, and {type(model).__name__} has none; name it so")
    model.head = nn.Identity()


class HeadAlone(nn.Module):
    """A model's last layer under its own name."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        predictions: Tensor = self.head(features)
        return predictions


def matching(setting: str, patterns: Patterns, model: nn.Module) -> list[str]:
    """The names of the model's weights that a pattern fits; one that begins with ! takes its own away. Raises InputError for one that fits
    none."""
    first = {weight: name for name, weight in model.named_parameters()}
    names = {name: first[weight] for name, weight in model.named_parameters(remove_duplicate=False)}  # tied weights have several
    found: list[str] = []
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(wanted, list) or not wanted or not all(isinstance(pattern, str) for pattern in wanted):
        raise InputError(f"{setting} must be a pattern of weights' names or a list of some, got {patterns!r}")
    for pattern in wanted:
        fitting = [own for name, own in names.items() if fnmatch(name, pattern.removeprefix("!"))]
        if not fitting:
            some = ", ".join([*list(names)[:3], *list(names)[-2:]] if len(names) > 5 else names)
            raise InputError(f"{setting}={pattern} fits no weight of {type(model).__name__}, which has such as {some}; name some of them")
        found = [name for name in found if name not in fitting] if pattern.startswith("!") else found + fitting
    return found


class GradientBased(Algorithm[Weights]):
    """Adapts by gradient steps on the support loss. The fast weights are stacked: name -> (tasks, *shape).

    inner_lr: step size, or a list of those of the first steps; the last is that of all later ones.
    adapted: pattern, or patterns, of the model's weights that the inner loop changes: "*", "head.*", "*.lora_*". meta_learned: of those
    that the outer loop trains. The two may overlap or not; what is in neither is frozen, and costs no gradient and no optimizer state.
    What the model itself froze (requires_grad=False) is in neither. head: where the last layer begins in each task: as it was learned
    (own), with one learned row for all classes (tied, Ye and Chao 2022, arXiv 2106.16245: how classes are numbered changes nothing),
    or at zero (zero, Kao et al. 2022, arXiv 2106.15367); the last two take any number of classes. first_order: inner gradients count as
    constants. checkpoint_inner: keep only the fast weights of each inner step in memory, and take the steps again for the outer gradient.
    inner_optimizer: what makes the direction of a step from its gradient (inner_optimizer.py). A subclass defines `step`; and
    initial_weights or support_loss where they depend on the support set.
    """

    inner_optimizers = LEARNED  # that it can be asked for
    acts = True
    of_each_row = False  # it has numbers for each row of the head, whose number then is that of the model's outputs

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, inner_lr: float | list[float], adaptation_steps: int,
        first_order: bool = False,
        checkpoint_inner: bool = False, adapted: Patterns = "*", meta_learned: Patterns = "*", head: str = "own",
        inner_optimizer: str = "sgd",
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine)
        self.inner_lrs: list[float] = inner_lr if isinstance(inner_lr, list) else [inner_lr]
        for rate in self.inner_lrs or [float("nan")]:
            check_positive("algo.inner_lr", rate)
        check_choice("algo.head", head, ("own", "tied", "zero"))
        check_choice("algo.inner_optimizer", inner_optimizer, self.inner_optimizers)
        check_count("algo.adaptation_steps", adaptation_steps, least=0)
        check_flag("algo.first_order", first_order)
        check_flag("algo.checkpoint_inner", checkpoint_inner)
        self.inner_lr, self.adaptation_steps = self.inner_lrs[0], adaptation_steps
        self.first_order, self.checkpoint_inner = first_order, checkpoint_inner
        self.inner_optimizer = inner_optimizer_of(inner_optimizer)
        self.head, self.any_ways = head, self.any_ways or head != "own"
        if head != "own" and self.of_each_row:
            raise InputError(f"algo.head={head} is one row for all classes, and {type(self).__name__} learns numbers for each; use own")
        if head != "own":
            self._outputs = one_row(model, objective, head)
        frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
        self._adapted = set(matching("algo.adapted", adapted, model)) - frozen
        if not self._adapted:
            raise InputError(f"algo.adapted={adapted} fits only weights that {type(model).__name__} has frozen; name others")
        for name in {name for name, _ in model.named_parameters()} - set(matching("algo.meta_learned", meta_learned, model)):
            model.get_parameter(name).requires_grad_(False)
        self.head_only = getattr(model, "ends_in_head", False) and all(name.startswith("head.") for name in self._adapted)
        self.head_only = self.head_only and objective.look is None and type(self).predict is GradientBased.predict
        self._rows = [] if head == "own" else [name for name, _ in model.named_parameters() if name in ("head.weight", "head.bias")]
        if not self._adapted.issuperset(self._rows):
            raise InputError(f"algo.head={head} is for a layer `head` that each task adapts, and algo.adapted={adapted} leaves it out")
        for name in self._rows if head == "zero" else []:
            model.get_parameter(name).requires_grad_(False)

    def slow_weights(self) -> dict[str, nn.Parameter]:
        return {name: weight for name, weight in self.model.named_parameters() if name in self._adapted}

    def initial_weights(self, support: Examples) -> Weights:
        """Where each task begins: here the same initialisation for all, but for the head's choice."""
        weights = {name: weight.expand(len(support.x), *weight.shape) for name, weight in self.slow_weights().items()}
        for name in self._rows:  # of one row; one for each class
            weights[name] = weights[name].expand(-1, self.ways_at_hand or self._outputs, *weights[name].shape[2:])
        return weights

    def at_hand(self, x: Tensor) -> Tensor:
        return self.engine(without_head(self.model), {}, x) if self.head_only else x

    def predict_at_hand(self, adapted: Weights, x: Tensor) -> Tensor:
        return self.engine(HeadAlone(self.model.head) if self.head_only else self.model, adapted, x)  # type: ignore[arg-type]

    def support_loss(self, weights: Weights, support: Examples) -> Tensor:
        """What an inner step descends, of each task: (tasks,). support: its inputs as at_hand gives them."""
        return self.objective.loss(self.predict_at_hand(weights, support.x), support.y)

    def support_gradients(self, weights: Weights, support: Examples, at: int) -> Weights:
        """Each task's own gradient at step `at`. Tasks are independent, so one backward of the summed loss gives them all.

        Where gradients are disabled (evaluation) it cuts the fast weights off their past, so that no graph outlives a step. Those that
        are not meta-learned have no past at their first step.
        """
        outer_gradients = torch.is_grad_enabled()
        cut_off = {name for name, weight in weights.items() if not outer_gradients or not weight.requires_grad}
        weights = {name: weight.detach().requires_grad_() if name in cut_off else weight for name, weight in weights.items()}
        with torch.enable_grad():
            loss = self.support_loss(weights, support).sum()
            gradients = torch.autograd.grad(  # zero for what the model does not use
                loss, list(weights.values()), create_graph=outer_gradients and not self.first_order, materialize_grads=True
            )
        return dict(zip(weights, gradients, strict=True))

    def step(self, weights: Weights, directions: Weights, at: int) -> Weights:
        """Inner step number `at` (0, 1, ...), from the fast weights `weights` along the directions that the inner optimizer gives: under
        sgd, the gradients of the support loss."""
        raise NotImplementedError(f"{type(self).__name__} defines neither `step` nor `trajectory`")

    def inner_lr_at(self, at: int) -> float:
        return self.inner_lrs[min(at, len(self.inner_lrs) - 1)]

    def batches(self, support: Examples, steps: int) -> Iterator[Examples]:
        """The examples of each inner step: here all."""
        return repeat(support, steps)

    def _take_step(self, weights: Weights, state: State, batch: Examples, at: int) -> tuple[Weights, State]:
        directions, state = self.inner_optimizer(self.support_gradients(weights, batch, at), state, at)
        return self.step(weights, directions, at), state

    def inner_loop(self, support: Examples, steps: int) -> Iterator[tuple[Weights, State]]:
        """The fast weights, and the inner optimizer's state, after 0, 1, ..., steps inner steps.

        With checkpoint_inner, only they are kept for the outer gradient, and each step is taken again when it is needed: memory for one
        step's activations instead of all steps', for about half as much time again.
        """
        weights = self.initial_weights(support)
        state = self.inner_optimizer.begin(weights)
        yield weights, state
        if steps:
            support = support._replace(x=self.at_hand(support.x))
        for at, batch in enumerate(self.batches(support, steps)):
            batch = self.look(weights, batch, at)
            if self.checkpoint_inner and torch.is_grad_enabled():
                weights, state = checkpoint(self._take_step, weights, state, batch, at, use_reentrant=False)
            else:
                weights, state = self._take_step(weights, state, batch, at)
            yield weights, state

    def trajectory(self, support: Examples, steps: int) -> Iterator[Weights]:
        for weights, _ in self.inner_loop(support, steps):
            yield weights

    def adapt(self, support: Examples) -> Weights:
        *_, weights = self.trajectory(support, self.adaptation_steps)
        return weights

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        if self.objective.inner_terms is None:
            return super().forward(episodes)
        (support, query), made = episodes, []
        for at, weights in enumerate(self.trajectory(support, self.adaptation_steps)):
            if at < self.adaptation_steps:
                batch = self.look(weights, support, at)
                made.append((self.predict(weights, batch.x), batch.y))
        predictions = self.predict(weights, query.x)
        losses, scores = self.outer_loss(predictions, query.y), self.objective.score(predictions.detach(), query.y)
        others = (scores.sum() - scores) / max(len(scores) - 1, 1)  # a baseline without bias, however few tasks a share has
        for inner_predictions, y in made:
            losses = losses + self.objective.inner_terms(inner_predictions, y, scores - others)
        return losses, predictions

    @torch.no_grad()
    def recorded(self, episodes: Episode) -> Episode:
        if self.objective.look is None:
            return episodes
        weights = self.initial_weights(episodes.support)
        state, seen = self.inner_optimizer.begin(weights), []
        for at in range(self.adaptation_steps):
            seen.append(self.look(weights, episodes.support, at))
            weights, state = self._take_step(weights, state, seen[-1], at)
        support = Examples(*(torch.stack(parts, 1) for parts in zip(*seen, strict=True))) if seen else episodes.support
        return Episode(support, self.look(weights, episodes.query, None))

    def predict(self, adapted: Weights, x: Tensor) -> Tensor:
        return self.engine(self.model, adapted, x)

    def network(self, adapted: Weights) -> nn.Module:
        network = copy.deepcopy(self.model)
        for name, weight in adapted.items():
            network.get_parameter(name).data = weight[0].detach().clone()
        return network
