"""A small language model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.config import InputError, check_count
from innerloop.models.attention import Block
from innerloop.models.lora import add_lora


class Decoder(nn.Module):
    """Tokens (n, length) -> features (n, length, width), each of the tokens up to its own. prompt (prompt, width): vectors before all."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int, prompt: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, rotary=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        if prompt:
            self.prompt = nn.Parameter(torch.randn(prompt, width))

    def forward(self, x: Tensor) -> Tensor:
        y, prompt = self.tokens(x), 0
        if hasattr(self, "prompt"):
            prompt = len(self.prompt)
            y = torch.cat([self.prompt.expand(len(x), -1, -1), y], 1)
        sees = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            y = block(y, sees)
        return self.norm(y[:, prompt:])


class Transformer(nn.Module):
    """body: a Decoder of `layers` blocks of `width` with `heads`; head: linear to the vocabulary. x (n, length) int64 tokens ->
    (n, length, outputs), logits of the token after each.

    base: weights to begin with, of a finished run that `model.base` names. lora_rank: of matrices beside each linear layer of the blocks
    (Hu et al. 2021, arXiv 2106.09685), which add nothing to begin with; their names have lora_ in them. prompt: vectors before the tokens
    (Lester et al. 2021, arXiv 2104.08691), "body.prompt". 0: none of them. Raises InputError for widths that do not fit, and a base of
    another shape.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, vocabulary: int | None, width: int, heads: int, layers: int,
        base: dict[str, Tensor] | None, lora_rank: int, prompt: int,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, value in (("width", width), ("heads", heads), ("layers", layers)):
            check_count(f"model.{name}", value)
        for name, value in (("lora_rank", lora_rank), ("prompt", prompt)):
            check_count(f"model.{name}", value, least=0)
        if width % (2 * heads):
            raise InputError(f"model.width={width} is no even multiple of model.heads={heads}; change one of them")
        if vocabulary != outputs:
            raise InputError("model=transformer predicts tokens, which is not what this task asks for; use another model")
        self.body = Decoder(outputs, width, heads, layers, prompt)
        self.head = nn.Linear(width, outputs)
        if base:
            self._begin_with(base)
        if lora_rank:
            add_lora(self, lora_rank, ["mix", "out", "up", "down"])

    def _begin_with(self, base: dict[str, Tensor]) -> None:
        try:
            missing, unknown = self.load_state_dict(base, strict=False)
        except RuntimeError as error:
            raise InputError(f"model.base has a model of another shape: {' '.join(str(error).split())[:300]}") from error
        wanted = [name for name in missing if name != "body.prompt"]
        if wanted or unknown:
            other = f"no {wanted[0]}" if wanted else f"{unknown[0]} too"
            raise InputError(f"model.base has {other}; its model must be this one, with all of its weights learned")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
