"""A network's first block in one pass: the same as torch's own operations, up to the third derivative."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from innerloop.models import conv4
from innerloop.models.conv4 import ConvBlock
from innerloop.models.first_block import first_block

INPUTS = [pytest.param(1, id="grey"), pytest.param(3, id="colour")]
EPS = 1e-5


def images(inputs: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Sizes that neither a window nor what is taken at once divides."""
    return torch.rand(3, inputs, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def weights(inputs: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Scales of both signs; a shift that keeps a whole channel below zero."""
    weight = torch.randn(4, inputs, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gamma, beta = torch.tensor([1.0, -2.0, 0.5, 1.0]), torch.tensor([0.0, 0.3, -0.2, -9.0])
    return [v.to(dtype).requires_grad_() for v in (weight, gamma, beta)]


def plain(x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    y = functional.conv2d(x, weight, None, 1, 1)
    y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), correction=0, keepdim=True) + eps).sqrt()  # batch_norm has no third
    return functional.max_pool2d(functional.relu(y * gamma.view(-1, 1, 1) + beta.view(-1, 1, 1)), 2)


def derived(function, x: Tensor, tensors: list[Tensor]) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """The result, its gradients, and those of a function of the ones before, to the third."""
    values = [function(x, *tensors, EPS)]
    for _ in range(3):
        values += torch.autograd.grad(sum(v.square().mean() for v in values[-3:]), tensors, create_graph=True)
    return values


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_is_torchs_own(inputs: int, dtype: torch.dtype, tolerance: float) -> None:
    wanted = derived(plain, images(inputs), weights(inputs))
    for value, want in zip(derived(first_block, images(inputs, dtype), weights(inputs, dtype)), wanted, strict=True):
        assert value.dtype == dtype
        assert (value - want).abs().max() <= tolerance * max(want.abs().max().item(), 1)


@pytest.mark.parametrize("inputs", INPUTS)
def test_finite_differences(inputs: int) -> None:
    def function(*tensors: Tensor) -> Tensor:
        return first_block(images(inputs), *tensors, EPS)

    assert gradcheck(function, weights(inputs))
    assert gradgradcheck(function, weights(inputs))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """A filter that sees one pixel, beyond no edge."""
    weight, gamma, beta = (v.detach() for v in weights(1))
    weight = weight * (torch.arange(9) == 4).view(3, 3)
    near, far = (first_block(images(1) + offset, weight, gamma, beta, EPS) for offset in (0, 2**20))
    assert (near - far).abs().max() < 1e-7  # 2^20 leaves float64 1e-10 of the images
    x = 100 + images(1) / 100
    wanted, got = plain(x, *weights(1), EPS), first_block(x.float(), *weights(1, torch.float32), EPS)
    assert (wanted - got).abs().max() < 1e-4  # beyond an edge of zeros


def test_images_of_one_value_or_of_none() -> None:
    """Without any variance a channel is its shift; a NaN stays one; no images have no gradient, and no warning."""
    weight, gamma, beta = (v.detach() for v in weights(1))
    x = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    assert torch.equal(first_block(x, weight, gamma, beta, EPS)[0, :, 0, 0], beta.clamp(min=0))
    assert first_block(x + torch.nan, weight, gamma, beta, EPS).isnan().all()
    gradients = torch.autograd.grad(first_block(x[:0], *(given := weights(1)), EPS).sum(), given)
    assert not any(gradient.any() for gradient in gradients)


def test_a_network_begins_with_it_where_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same results either way; not a deeper block, nor where the images' gradient is asked for, nor none."""
    taken = []
    monkeypatch.setattr(conv4, "first_block", lambda *given: taken.append(given) or first_block(*given))
    grey, deep, stride = (
        ConvBlock(*sizes).double() for sizes in ((1, 4, "batch", "max"), (4, 4, "batch", "max"), (1, 4, "batch", "stride"))
    )
    x = images(1)
    z = grey(x)
    assert len(taken) == 1
    deep(torch.randn(2, 4, 8, 8, dtype=torch.float64))
    stride(x)
    with torch.no_grad():
        torch.testing.assert_close(grey(x), z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grey(x.clone().requires_grad_()), z, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nn.Sequential(*grey)(x), z, rtol=1e-12, atol=1e-12)
    for wrong in (x.float(), x.long()):
        with pytest.raises(RuntimeError, match="type"):
            grey(wrong)
    assert len(taken) == 1
