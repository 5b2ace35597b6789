"""A network's first block in one pass: the same as torch's four modules, once and twice differentiated."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from innerloop.models import conv4
from innerloop.models.conv4 import ConvBlock
from innerloop.models.first_block import first_block

# inputs, stride, window; a width of 7 is no multiple of what is taken at once
SHAPES = [pytest.param(1, 1, 2, id="grey, 2x2"), pytest.param(3, 1, 2, id="colour, 2x2"), pytest.param(3, 2, 1, id="colour, stride 2")]
EPS = 1e-5


def images(inputs: int, dtype: torch.dtype) -> Tensor:
    return torch.rand(3, inputs, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def weights(inputs: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Scales of both signs; a shift that keeps a whole channel below zero."""
    weight = torch.randn(4, inputs, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gamma, beta = torch.tensor([1.0, -2.0, 0.5, 1.0]), torch.tensor([0.0, 0.3, -0.2, -9.0])
    return [v.to(dtype).requires_grad_() for v in (weight, gamma, beta)]


def plain(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float, stride: int, window: int) -> Tensor:
    y = functional.batch_norm(functional.conv2d(x, weight, None, stride, 1), None, None, gamma, beta, True, 0.1, eps)
    return functional.max_pool2d(functional.relu(y), window)


def twice(function, x: Tensor, tensors: list[Tensor], *shape: int) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """The result, its gradients, and the gradients of a function of those."""
    z = function(x, *tensors, EPS, *shape)
    once = torch.autograd.grad(z.square().sum(), tensors, create_graph=True)
    return [z, *once, *torch.autograd.grad(sum(g.square().sum() for g in once), tensors)]


@pytest.mark.parametrize(("inputs", "stride", "window"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_is_torchs_own(inputs: int, stride: int, window: int, dtype: torch.dtype, tolerance: float) -> None:
    wanted = twice(plain, images(inputs, torch.float64), weights(inputs), stride, window)
    for value, want in zip(twice(first_block, images(inputs, dtype), weights(inputs, dtype), stride, window), wanted, strict=True):
        assert value.dtype == dtype
        assert (value - want).abs().max() <= tolerance * max(want.abs().max().item(), 1)


@pytest.mark.parametrize(("inputs", "stride", "window"), SHAPES)
def test_finite_differences(inputs: int, stride: int, window: int) -> None:
    def function(*tensors: Tensor) -> Tensor:
        return first_block(images(inputs, torch.float64), *tensors, EPS, stride, window)

    assert gradcheck(function, weights(inputs))
    assert gradgradcheck(function, weights(inputs))


def test_pale_images_cost_no_digits() -> None:
    """Of values between 100 and 100.01, beyond an edge of zeros: float32 leaves 1e-5 of them."""
    x = 100 + images(1, torch.float64) / 100
    wanted, got = (first_block(x.to(dtype), *weights(1, dtype), EPS, 1, 2) for dtype in (torch.float64, torch.float32))
    assert (wanted - got).abs().max() < 1e-4


def test_images_of_one_value_and_a_nan() -> None:
    """Without any variance a channel is its shift; a NaN stays one."""
    weight, gamma, beta = (v.detach() for v in weights(1))
    x = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    assert torch.equal(first_block(x, weight, gamma, beta, EPS, 1, 2)[0, :, 0, 0], beta.clamp(min=0))
    assert first_block(x + torch.nan, weight, gamma, beta, EPS, 1, 2).isnan().all()


def test_a_block_of_a_network_takes_it_where_nothing_asks_for_the_images_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same results either way; a deeper block does not."""
    taken = []
    monkeypatch.setattr(conv4, "first_block", lambda *given: taken.append(given) or first_block(*given))
    grey, deep = ConvBlock(1, 4, "batch", "max").double(), ConvBlock(4, 4, "batch", "max").double()
    x = images(1, torch.float64)
    z = grey(x)
    deep(torch.randn(2, 4, 8, 8, dtype=torch.float64))
    assert len(taken) == 1
    torch.testing.assert_close(grey(x.clone().requires_grad_()), z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nn.Sequential(*grey)(x), z, rtol=1e-12, atol=1e-12)
    assert len(taken) == 1
