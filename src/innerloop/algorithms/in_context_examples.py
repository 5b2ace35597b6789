"""A transformer that reads the support set."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm, drop_head
from innerloop.config import InputError, check_count
from innerloop.engine.forward import Engine, output_of
from innerloop.episode import Examples
from innerloop.models.attention import Block
from innerloop.objective import CLASSIFICATION, LANGUAGE, Objective


class InContextExamples(Algorithm[tuple[Tensor, Tensor | None]]):
    """In-context learning from examples of any kind (as TNP-D, Nguyen and Grover 2022, arXiv 2207.04179): no inner loop. Each example is a
    token, its features with its target; each query is one without. Queries attend to the examples and to themselves, not to each other.

    A class is coded by its place in the order in which classes appear among the examples, which is random: how classes are numbered changes
    nothing. The model's head is dropped; its features enter through a linear layer. width, heads, layers: of the transformer.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, engine: Engine, input_shape: tuple[int, ...], outputs: int, vocabulary: int | None,
        width: int, heads: int, layers: int,
    ) -> None:  # fmt: skip
        super().__init__(model, objective, engine)
        for name, value in (("width", width), ("heads", heads), ("layers", layers)):
            check_count(f"algo.{name}", value)
        if width % heads:
            raise InputError(f"algo.width={width} is no multiple of algo.heads={heads}; change one of them")
        if objective is LANGUAGE:
            raise InputError(
                "algo=in_context_examples predicts classes and numbers, and this task has text to go on with; use algo=in_context"
            )
        drop_head(model, "in_context_examples")
        with torch.no_grad():
            x = torch.zeros(1, 2, *input_shape, dtype=torch.long if vocabulary else torch.get_default_dtype())
            features = engine(model, {}, x).flatten(2).shape[-1]
        self.outputs = outputs
        self.inputs, self.targets = nn.Linear(features, width), nn.Linear(outputs, width, bias=False)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def embed(self, x: Tensor) -> Tensor:
        """x (tasks, n, ...) -> (tasks, n, width)."""
        embedded: Tensor = self.inputs(self.engine(self.model, {}, x).flatten(2))
        return embedded

    def adapt(self, support: Examples) -> tuple[Tensor, Tensor | None]:
        """The examples' tokens (tasks, n, width); of classes, each one's place (tasks, outputs)."""
        y, places = support.y, None
        x = self.embed(support.x)
        if self.objective is CLASSIFICATION:
            members = y.unsqueeze(-1) == torch.arange(self.outputs, device=y.device)
            position = torch.arange(y.shape[1], device=y.device).unsqueeze(-1)
            places = torch.where(members, position, y.shape[1]).amin(1).argsort(-1).argsort(-1)  # by where each class first appears
            y = nn.functional.one_hot(places.gather(1, y), self.outputs).to(x.dtype)
        return x + self.targets(y), places

    def predict(self, adapted: tuple[Tensor, Tensor | None], x: Tensor) -> Tensor:
        return self.read(*adapted, self.embed(x))

    def read(self, tokens: Tensor, places: Tensor | None, embedded: Tensor) -> Tensor:
        """Predictions for queries (tasks, n, width) beside the examples' tokens."""
        shown, asked = tokens.shape[1], embedded.shape[1]
        sees = torch.eye(shown + asked, dtype=torch.bool, device=tokens.device)
        sees[:, :shown] = True
        tokens = torch.cat([tokens, embedded + self.unknown], 1)
        for block in self.blocks:
            tokens = block(tokens, sees)
        predictions: Tensor = self.out(tokens[:, shown:])
        return predictions if places is None else predictions.gather(-1, places.unsqueeze(1).expand_as(predictions))

    def network(self, adapted: Any) -> nn.Module:
        return Reader(self, *adapted)


class Reader(nn.Module):
    """`predict` for one support set."""

    def __init__(self, learner: InContextExamples, tokens: Tensor, places: Tensor | None) -> None:
        super().__init__()
        self.learner = copy.deepcopy(learner)
        self.register_buffer("tokens", tokens.detach())
        self.register_buffer("places", places)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.learner.inputs(output_of(self.learner.model(x)).flatten(1))
        return self.learner.read(self.tokens, self.places, embedded[None])[0]  # type: ignore[arg-type]
