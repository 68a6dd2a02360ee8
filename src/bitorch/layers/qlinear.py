"""Linear layer with quantized weight, input and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizations import Quantization
from .extensions.layer_recipe import LayerRecipe
from .group_sums import grouped_linear
from .integer_kernels import Kernels
from .integer_product import form_of, integer_linear
from .low_bit import Codes, IntegerOperands, ReadWeight, Values
from .products import Rounding, scaled_linear
from .register import QLinearImplementation as QLinearImplementation
from .register import q_linear_registry
from .registered import Registered, arguments_by_name
from .watched import is_watched


@q_linear_registry.of
class QLinear(Registered, nn.Linear):
    """y = x_q·w_qᵀ + b, computed on the integer codes and scaled once: D·(s_x·s_w) + b.

    Where the weight has a scale for each group of inputs, each group's sum is: Σ_g D_g·(s_x·s_w,g) + b, see
    `bitorch.layers.group_sums`.

    A drop-in for nn.Linear with the same parameters and state_dict keys. In backward the gradient passes the gradient
    quantizer first, then the product, then each quantizer's own gradient.

    Args:
        in_features, out_features, bias, device, dtype: as nn.Linear.
        input_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        gradient_cancellation_threshold: see QActivation.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        gradient_quantization: Quantization instance such as GradientDoReFa(6), applied to the gradient of the output.
        exact: True computes in float32 also under autocast, so that the output equals the integer reference bit for
            bit. False computes on the values in whatever precision autocast asks for.
        kernels: "auto", "float" or "integer", see QConv2d.

    Raises:
        ValueError: an unknown name, more inputs than exact sums allow, or kernels="integer" where something is in the
            way. TypeError: what is no Quantization.
    """

    _float_class = nn.Linear
    _sums_rows = True
    _required_arguments = ("in_features", "out_features")
    _other_arguments = {"bias": True, "device": None, "dtype": None}  # noqa: RUF012 - a ClassVar of Registered

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        input_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_quantization: Quantization | None = None,
        exact: bool = True,
        kernels: Kernels = "auto",
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device, dtype=dtype)
        self._set_quantization(
            input_quantization=input_quantization,
            weight_quantization=weight_quantization,
            gradient_quantization=gradient_quantization,
            gradient_cancellation_threshold=gradient_cancellation_threshold,
            exact=exact,
            kernels=kernels,
        )

    @staticmethod
    def get_args_as_kwargs(recipe: LayerRecipe) -> dict[str, Any]:
        """Return a recipe's arguments by name, and the quantizers of its layer: the same objects.

        Raises:
            IndexError: in_features or out_features is missing.
        """
        layer = recipe.layer
        return {
            **arguments_by_name(recipe, QLinear),
            "input_quantization": layer.input_quantization,
            "gradient_cancellation_threshold": layer.gradient_cancellation_threshold,
            "weight_quantization": layer.weight_quantization,
        }

    def _product(self, x: Tensor, read: ReadWeight | None = None) -> Tensor:
        """Return y, with the gradient quantizer attached; without batch axis x is one sample."""
        is_sample = x.dim() == 1
        integers = self._integer_operands(x.unsqueeze(0) if is_sample else x, read)
        if integers is not None:
            y = self._multiply_integers(integers)
            return y.squeeze(0) if is_sample else y
        operands = self._operands(x, read)
        if isinstance(operands, Values):
            return self._quantize_gradient(F.linear(*operands, self.bias), is_sample=is_sample)
        rounding = self._rounding()
        if rounding is None:
            y = self._multiply_codes(operands, None)
            return self._quantize_gradient(y, is_sample=is_sample)
        if is_sample:
            operands = operands._replace(input=operands.input.unsqueeze(0))
        y = self._multiply_codes(operands, rounding)
        return y.squeeze(0) if is_sample else y

    def _multiply_codes(self, operands: Codes, rounding: Rounding | None) -> Tensor:
        size = self._group_size()
        if size is None:
            return scaled_linear(*operands, self.bias, rounding).to(self.weight.dtype)
        return grouped_linear(*operands, size, self.bias, rounding).to(self.weight.dtype)

    def _multiply_integers(self, operands: IntegerOperands) -> Tensor:
        if operands.gradient is not None:
            return integer_linear(operands, self.bias, self._gradient_quantizer()).to(self.weight.dtype)
        rounding = self._rounding()
        sums = form_of(operands, None).sums
        y = scaled_linear(*operands.codes(), self.bias, rounding, sums).to(self.weight.dtype)
        return y if rounding is not None else self._quantize_gradient(y)

    def _geometry_obstacle(self) -> str | None:
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Return y, shape [..., out_features], for x of shape [..., in_features]; without batch axis one sample."""
        return self._product(input)

    def reading_once(self) -> Callable[[Tensor], Tensor]:
        """Return `forward`, for many calls that follow each other, of inputs [batch, in_features].

        The weight is quantized once, now. Where there are hooks, on the layer or on its quantizers, it is the layer.
        """
        if is_watched(self) or self._is_watched() or "forward" in self.__dict__:
            return self
        read = self._read_weight()
        return lambda x: self._product(x, read)


#: BITorch's name of the class behind its QLinear factory.
QLinearBase = QLinear
