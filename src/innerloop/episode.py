"""The data type that everything passes around."""

from typing import NamedTuple

from torch import Tensor

PADDING = 0  # the token that fills short texts up


class Examples(NamedTuple):
    """Inputs and their targets.

    x: (n, ...) float, or int64 tokens. y: (n,) int64 way labels, or (n, outputs) float for regression. In a meta-batch both begin with a
    task axis.
    """

    x: Tensor
    y: Tensor


class Episode(NamedTuple):
    """One task: a support set to adapt on and a query set to score on. A meta-batch is an Episode with a leading task axis."""

    support: Examples
    query: Examples
