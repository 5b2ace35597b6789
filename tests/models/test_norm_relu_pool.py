"""Batch norm, ReLU and max-pool in one pass: the same as torch's three modules, once and twice differentiated."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from innerloop.models.norm_relu_pool import norm_relu_pool

WINDOWS = [pytest.param(1, id="no pooling"), pytest.param(2, id="2x2")]
EPS = 1e-5


def inputs(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Sizes that 2 does not divide; scales of both signs; a shift that keeps a whole channel below zero."""
    generator = torch.Generator().manual_seed(0)
    y = 3 + torch.randn(3, 4, 5, 7, generator=generator, dtype=torch.float64)
    gamma, beta = torch.tensor([1.0, -2.0, 0.5, 1.0]), torch.tensor([0.0, 0.3, -0.2, -9.0])
    return [v.to(dtype).requires_grad_() for v in (y, gamma, beta)]


def plain(y: Tensor, gamma: Tensor, beta: Tensor, eps: float, window: int) -> Tensor:
    return functional.max_pool2d(functional.relu(functional.batch_norm(y, None, None, gamma, beta, True, 0.1, eps)), window)


def twice(function, window: int, tensors: list[Tensor]) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """The result, its gradients, and the gradients of a function of those."""
    z = function(*tensors, EPS, window)
    once = torch.autograd.grad(z.square().sum(), tensors, create_graph=True)
    return [z, *once, *torch.autograd.grad(sum(g.square().sum() for g in once), tensors)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_is_torchs_own(window: int, dtype: torch.dtype, tolerance: float) -> None:
    wanted = twice(plain, window, inputs())
    for value, want in zip(twice(norm_relu_pool, window, inputs(dtype)), wanted, strict=True):
        assert value.dtype == dtype
        assert (value - want).abs().max() <= tolerance * max(want.abs().max().item(), 1)


@pytest.mark.parametrize("window", WINDOWS)
def test_finite_differences(window: int) -> None:
    def function(*tensors: Tensor) -> Tensor:
        return norm_relu_pool(*tensors, EPS, window)

    assert gradcheck(function, inputs())
    assert gradgradcheck(function, inputs())


@pytest.mark.parametrize("asked", [[0], [1], [0, 1, 2]], ids=["y", "gamma", "all"])
def test_a_third_derivative_is_refused_and_not_left_out(asked: list[int]) -> None:
    tensors = inputs()
    of = [tensors[i] for i in asked]
    value = norm_relu_pool(*tensors, EPS, 2).pow(3).sum()
    for _ in range(2):
        value = sum(g.square().sum() for g in torch.autograd.grad(value, of, create_graph=True))
    with pytest.raises(RuntimeError, match="3rd"):
        torch.autograd.grad(value, of)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    y, gamma, beta = inputs(torch.float32)
    near, far = (norm_relu_pool(y.detach() + offset, gamma, beta, EPS, 2) for offset in (0, 1024))
    assert (near - far).abs().max() < 1e-3  # 1024 leaves float32 1e-4 of y


def test_a_nan_stays_one() -> None:
    y, gamma, beta = inputs()
    z = norm_relu_pool(torch.where(torch.arange(4).view(1, 4, 1, 1) == 1, torch.nan, y), gamma, beta, EPS, 2)
    assert z.isnan().flatten(2).all(2).any(0).tolist() == [False, True, False, False]
