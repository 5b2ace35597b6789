"""A network that says something of every place in an image."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.config import InputError, check_choice, check_count
from innerloop.models.conv4 import ConvBlock


class Dense(nn.Module):
    """body: the four blocks of model=conv4, of which the first ones halve the image; head: a 1x1 convolution to `outputs`.

    x (n, channels, size, size) -> (n, places, outputs), row by row. places: how many the task has, the cells of the halved image, or its
    pixels: the image is halved twice then, and the answers are interpolated. base: weights of a run that `model.base` names, of
    model=conv4 with the same filters and norm: its body is taken. Raises InputError where there is none, or the places do not fit.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, places: int | None, filters: int, norm: Literal["batch", "group", "none"],
        base: dict[str, Tensor] | None,
    ) -> None:  # fmt: skip
        super().__init__()
        check_count("model.filters", filters)
        check_choice("model.norm", norm, ("batch", "group", "none"))
        if places is None:
            raise InputError("model=dense answers for places in images, which this task does not ask for; use model=conv4, or task=scenes")
        sides = [input_shape[-1] // 2**halvings for halvings in range(5)]
        self.upsample = places == sides[0] ** 2
        if places not in [side**2 for side in sides]:
            cells = round(places**0.5)
            raise InputError(f"model=dense halves {sides[0]} pixels to {sides[1:]} cells, not {cells}; set task.grid to one of them")
        halvings = 2 if self.upsample else [side**2 for side in sides].index(places)
        channels = [input_shape[0], filters, filters, filters, filters]
        pools = ["max" if block < halvings else "none" for block in range(4)]
        self.body = nn.Sequential(*(ConvBlock(i, o, norm, pool) for i, o, pool in zip(channels, channels[1:], pools, strict=False)))
        self.head = nn.Conv2d(filters, outputs, 1)
        if base:
            self._begin_with({name.removeprefix("body."): value for name, value in base.items() if name.startswith("body.")})

    def _begin_with(self, body: dict[str, Tensor]) -> None:
        try:
            self.body.load_state_dict(body)
        except RuntimeError as error:
            raise InputError(f"model.base has no body for this network: {' '.join(str(error).split())[:300]}") from error

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x))
        if self.upsample:
            found = F.interpolate(found, x.shape[-2:], mode="bilinear")
        return found.flatten(2).transpose(1, 2)
