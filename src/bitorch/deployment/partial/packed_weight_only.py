"""Linear layers with low-bit weights beside floats, on bitorch_runtime inside any PyTorch model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...layers import QLinear
from ...layers.weight_sources import refresh
from ...model_copy import copied
from ...operators.packed_programs import runtime
from ...operators.weight_only import packed_weight_only
from ..asked_arithmetic import Reason
from ..weight_only import weight_only
from .packed_base import NotPackableError, check_as_it_stands, check_dtype

if TYPE_CHECKING:
    from typing_extensions import Self


class PackedWeightOnlyLinear(nn.Module):
    """A `QLinear` with float inputs for inference: x is multiplied with the packed weight by bitorch_runtime.

    Equal to the layer in eval mode but for the order of float32 sums. The result has no gradient. Runs on CPUs, under
    torch.compile and torch.export too. `.to(dtype)` changes the dtype of the result; scales and bias stay float32.

    Args:
        layer: a QLinear whose input quantizer leaves its input as it is, in eval mode. It stays as it is; later changes
            of its weight do not reach this one.

    Raises:
        ValueError: the layer cannot be packed; the message says why. ImportError: bitorch_runtime is not installed.
    """

    packed_weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: QLinear) -> None:
        super().__init__()
        check_as_it_stands(layer)
        found = weight_only(layer)
        if isinstance(found, Reason):
            raise NotPackableError(str(found))
        check_dtype(layer)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight_bits, self._weight_grid = found.bits, found.grid
        self.input_quantization = copied(layer.input_quantization).requires_grad_(False)  # for its state_dict
        self.output_dtype = layer.weight.dtype
        with torch.inference_mode(False), torch.no_grad():
            refresh(layer, "bias")
            packed = runtime().pack_weights(found.codes.to(torch.int16).numpy(), found.bits, found.grid)
            self.register_buffer("packed_weight", torch.from_numpy(packed))
            self.register_buffer("scale", found.scale.clone())
            self.register_buffer("bias", None if layer.bias is None else layer.bias.float().clone())
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set training or eval mode, which changes nothing."""
        self.training = mode
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = {name: getattr(self, name) for name in ("scale", "bias")}
        self.output_dtype = fn(torch.zeros(1, dtype=self.output_dtype, device=self.scale.device)).dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            changed = getattr(self, name)
            if value is not None and changed.dtype != value.dtype:
                self._buffers[name] = value.to(changed.device)
        return self

    def forward(self, input: Tensor) -> Tensor:
        """Return y, shape [..., out_features], for x of shape [..., in_features] and any floating dtype."""
        if input.dim() == 0 or input.shape[-1] != self.in_features or not input.is_floating_point():
            raise ValueError(
                f"PackedWeightOnlyLinear: the input must be floats of the shape [..., {self.in_features}], got "
                f"{input.dtype} {tuple(input.shape)}"
            )
        if input.device.type not in ("cpu", "meta"):
            raise ValueError(f"PackedWeightOnlyLinear runs on CPUs, but its input is on {input.device}; use .cpu()")
        x = input.float()
        y = packed_weight_only(x, self.packed_weight, self.scale, self.bias, self.weight_bits, self._weight_grid)
        return y.to(self.output_dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, weight_bits={self.weight_bits}, groups={self.scale.shape[1]}, "
            f"bias={self.bias is not None}"
        )
