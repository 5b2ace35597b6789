"""What becomes of a model under each algorithm: the table in docs/models.md. `python scripts/any_model.py`, half a minute."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from innerloop.algorithms.centroid import Centroid
from innerloop.algorithms.joint import Joint
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.metasgd import MetaSGD
from innerloop.algorithms.protonet import ProtoNet
from innerloop.algorithms.reptile import Reptile
from innerloop.config import InputError
from innerloop.engine import forward as engines
from innerloop.episode import Episode, Examples
from innerloop.models.any_module import make_ready
from innerloop.models.timm_models import Timm
from innerloop.models.torchvision_models import Torchvision
from innerloop.objective import CLASSIFICATION
from innerloop.runs.dry_run import check_model

WAYS, CLASSES = 3, 7
SEQUENCE, TOKENS, IMAGE = (5, 4), (5,), (3, 32, 32)


class Network(nn.Module):
    """A body and a linear head. then: from what the body returns to features (n, width)."""

    def __init__(self, body: nn.Module, width: int, then: Callable[[Any], Tensor] = lambda features: features) -> None:
        super().__init__()
        self.body, self.head, self.then = body, nn.Linear(width, WAYS), then

    def forward(self, x: Tensor) -> Any:
        return self.head(self.then(self.body(x)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0].mean(1)


class Tied(nn.Module):
    """One layer under two names, as the embedding and the head of many language models."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh())
        self.body[3].weight = self.body[1].weight
        self.head = nn.Linear(20, WAYS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class WithBuffer(nn.Module):
    """Positions that are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.linspace(-1, 1, 5).unsqueeze(-1))
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh()), nn.Linear(6, WAYS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x + self.positions))


class ReturnsMore(WithBuffer):
    """kind: tuple, or a dict with logits."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        return (self.head(features), features) if self.kind is tuple else {"features": features, "logits": self.head(features)}


class Mute(nn.Module):
    """Without the names body and head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, WAYS))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Squeezed(Mute):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


def encoder(dropout: float) -> Network:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=dropout, batch_first=True)
    return Network(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), 4, lambda features: features.mean(1))


def recurrent(kind: str) -> Network:
    return Network(getattr(nn, kind)(4, 6, batch_first=True), 6, lambda result: result[0][:, -1])


def flat(*layers: nn.Module) -> Network:
    return Network(nn.Sequential(nn.Flatten(), *layers), 6)


def own(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: Torchvision(IMAGE, WAYS, name, None, "own", 0, None, settings)


# name: (shape of one input, what builds the model)
MODELS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "`nn.TransformerEncoder`": (SEQUENCE, lambda: encoder(0.0)),
    "`nn.TransformerEncoder` with dropout": (SEQUENCE, lambda: encoder(0.1)),
    "`nn.MultiheadAttention`": (SEQUENCE, lambda: Network(Attention(), 4)),
    "`nn.LSTM`": (SEQUENCE, lambda: recurrent("LSTM")),
    "`nn.GRU`": (SEQUENCE, lambda: recurrent("GRU")),
    "`nn.EmbeddingBag`": (TOKENS, lambda: Network(nn.EmbeddingBag(10, 6), 6)),
    "`nn.Embedding`, averaged": (TOKENS, lambda: Network(nn.Embedding(10, 6), 6, lambda features: features.mean(1))),
    "in-place ReLU": (SEQUENCE, lambda: flat(nn.Linear(20, 6), nn.ReLU(inplace=True))),
    "`nn.BatchNorm1d`, running statistics": (SEQUENCE, lambda: flat(nn.Linear(20, 6), nn.BatchNorm1d(6), nn.Tanh())),
    "tied weights": (SEQUENCE, Tied),
    "buffers": (SEQUENCE, WithBuffer),
    "returns a tuple": (SEQUENCE, lambda: ReturnsMore(tuple)),
    "returns a dict": (SEQUENCE, lambda: ReturnsMore(dict)),
    "lazy layers": (SEQUENCE, lambda: flat(nn.LazyLinear(6), nn.Tanh())),
    "`parametrizations.weight_norm`": (SEQUENCE, lambda: flat(parametrizations.weight_norm(nn.Linear(20, 6)), nn.Tanh())),
    "the old `weight_norm`": (SEQUENCE, lambda: flat(nn.utils.weight_norm(nn.Linear(20, 6)), nn.Tanh())),
    "`spectral_norm`": (SEQUENCE, lambda: flat(parametrizations.spectral_norm(nn.Linear(20, 6)), nn.Tanh())),
    "no `body` and `head`": (SEQUENCE, Mute),
    "a last axis too few": (SEQUENCE, Squeezed),
    "torchvision resnet18": (IMAGE, own("resnet18")),
    "torchvision mobilenet_v2": (IMAGE, own("mobilenet_v2")),
    "torchvision mobilenet_v3_small": (IMAGE, own("mobilenet_v3_small")),
    "torchvision vit_b_16, 2 layers": (IMAGE, lambda: shallow_vit()),
    "timm resnet18": (IMAGE, lambda: Timm(IMAGE, WAYS, "resnet18", None, 0, None, None)),
    "timm vit_tiny_patch16_224, 2 layers": (IMAGE, lambda: Timm(IMAGE, WAYS, "vit_tiny_patch16_224", None, 0, None, {"depth": 2})),
}


def shallow_vit() -> nn.Module:
    model = Torchvision(IMAGE, WAYS, "vit_b_16", None, "own", 0, None, None)
    model.body.encoder.layers = model.body.encoder.layers[:2]  # type: ignore[union-attr, index, operator]
    return model


ALGORITHMS: dict[str, Callable[[nn.Module, Any], Any]] = {
    "MAML": lambda model, engine: MAML(model, CLASSIFICATION, engine, 0.1, 2, False),
    "first order": lambda model, engine: MAML(model, CLASSIFICATION, engine, 0.1, 2, True),
    "Meta-SGD": lambda model, engine: MetaSGD(model, CLASSIFICATION, engine, 0.1, 2),
    "Reptile": lambda model, engine: Reptile(model, CLASSIFICATION, engine, 0.1, 2, "sgd", None, None),
    "ProtoNet": lambda model, engine: ProtoNet(model, CLASSIFICATION, engine, WAYS, WAYS),
    "joint": lambda model, engine: Joint(model, CLASSIFICATION, engine, CLASSES, 0.1),
    "centroid": lambda model, engine: Centroid(model, CLASSIFICATION, engine, WAYS, WAYS, CLASSES),
}


def episodes(shape: tuple[int, ...], tasks: int = 2, per_class: int = 2) -> Episode:
    generator = torch.Generator().manual_seed(0)

    def examples() -> Examples:
        size = (tasks, WAYS * per_class, *shape)
        tokens = shape == TOKENS
        x = (
            torch.randint(1, 10, size, generator=generator)
            if tokens
            else torch.randn(size, generator=generator).to(torch.get_default_dtype())
        )
        return Examples(x, torch.arange(WAYS).repeat(tasks, per_class))

    return Episode(examples(), examples())


def ready(name: str, algorithm: str, engine: str) -> tuple[Any, Episode]:
    """The algorithm over a fresh model, as a run would build it, and a meta-batch. Raises InputError where it is refused."""
    shape, make = MODELS[name]
    torch.manual_seed(0)
    model, drawn = make(), episodes(shape)
    make_ready(model, drawn.support.x[0, :2], "episode")
    built = ALGORITHMS[algorithm](model, getattr(engines, engine))
    check_model(built, Episode(*(Examples(part.x[:1], part.y[:1]) for part in drawn)), WAYS)
    return built, drawn


def outcome(name: str, algorithm: str, engine: str) -> str:
    """The engine that it runs under, or the sentence that refuses it."""
    try:
        return str(ready(name, algorithm, engine)[0].engine.__name__)
    except InputError as error:
        return str(error)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    logging.getLogger("innerloop").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # the old weight_norm's own
    refusals: dict[str, int] = {}
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}\n")
    print("|", " | ".join(["model", *ALGORITHMS]), "|")
    print("|---" * (1 + len(ALGORITHMS)) + "|")
    for name in MODELS:
        cells = []
        for algorithm in ALGORITHMS:
            found = outcome(name, algorithm, "vmap")
            if outcome(name, algorithm, "loop") != ("loop" if found in ("vmap", "loop") else found):
                sys.exit(f"{name} under {algorithm}: the two engines disagree")
            number = refusals.setdefault(found, len(refusals) + 1) if found not in ("vmap", "loop") else 0
            cells.append(f"no ({number})" if number else "yes" if found == "vmap" else "loop")
        print("|", " | ".join([name, *cells]), "|", flush=True)
    print()
    for sentence, number in refusals.items():
        print(f"{number}. {sentence}")


if __name__ == "__main__":
    main()
