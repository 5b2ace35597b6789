"""The data type that everything passes around."""

from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """Inputs and their targets.

    x: (n, ...) float. y: (n,) int64 way labels, or (n, outputs) float for regression. With a leading task axis in a meta-batch.
    """

    x: Tensor
    y: Tensor


class Episode(NamedTuple):
    """One task: a support set to adapt on and a query set to score on. A meta-batch is an Episode with a leading task axis."""

    support: Examples
    query: Examples
