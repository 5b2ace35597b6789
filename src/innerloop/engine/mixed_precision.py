"""Mixed precision under vmap."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

PRODUCTS = {
    F.linear, F.bilinear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.scaled_dot_product_attention, torch.matmul, torch.mm,
    torch.bmm, torch.addmm, torch.baddbmm, torch.einsum, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm,
}  # fmt: skip
SUMS = {
    F.softmax, F.log_softmax, F.layer_norm, F.group_norm, F.batch_norm, F.rms_norm, F.cross_entropy, F.mse_loss, torch.softmax,
    torch.log_softmax, Tensor.softmax, Tensor.log_softmax,
}  # fmt: skip


class MixedPrecision(TorchFunctionMode):
    """Matrix products and convolutions in `dtype`, normalisation and softmax in float32: what torch.autocast does where weights are not
    mapped. Mapped ones it reaches in part only: a linear layer comes out in float32, a convolution is not reached (pytorch#192617)."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        dtype = self.dtype if function in PRODUCTS else torch.float32 if function in SUMS else None

        def cast(value: Any) -> Any:
            casts = isinstance(value, Tensor) and value.dtype in (torch.float32, torch.bfloat16, torch.float16)
            return value.to(dtype) if casts else value

        if dtype is not None:
            args, kwargs = tree_map(cast, (args, kwargs))
        return function(*args, **(kwargs or {}))
