"""The product of two activations on integer codes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ..quantizations import Quantization
from .config import config, resolve_quantization
from .exact_matmul import scaled_matmul
from .input_quantizer import before_quantizer, gives_its_quantizers_values, quantizer_of
from .qactivation import QActivation
from .watched import codes_behind, is_watched


class CodePair(NamedTuple):
    """What a QMatmul multiplies, exactly: integers, what one is worth, and their largest."""

    left: Tensor
    right: Tensor
    left_scale: Tensor
    right_scale: Tensor
    max_codes: tuple[int, int]


class QMatmul(nn.Module):
    """torch.matmul of two activations, each with a quantizer of its own, computed on their integer codes.

    With codes q and r of the operands, worth s and t each,

        y = (Σ q·r)·(s·t·scale)

    the sum is exact, and the rest rounds once: what the deployed network computes. Gradients go straight through, as
    those of the quantizers. Where a quantizer has no fixed grid (32 bits), or with exact=False, the values are
    multiplied.

    Args:
        left_quantization: of the left operand: a name, or a Quantization instance; None takes
            `layers.config.config.input_quantization`.
        right_quantization: of the right one.
        exact: False multiplies values, which autocast may lower in precision.

    Raises:
        ValueError: an unknown name, or a quantizer with a step for each row. TypeError: what is no Quantization.
    """

    def __init__(
        self,
        left_quantization: Quantization | str | None = None,
        right_quantization: Quantization | str | None = None,
        *,
        exact: bool = True,
    ) -> None:
        super().__init__()
        left = resolve_quantization(left_quantization, config.input_quantization, "left_quantization")
        right = resolve_quantization(right_quantization, config.input_quantization, "right_quantization")
        for name, quantizer in (("left_quantization", left), ("right_quantization", right)):
            if quantizer.is_by_row:
                raise ValueError(
                    f"{name}={quantizer} has a step for each row of the last axis, and a product of matrices has one "
                    "for each operand; use InputCalibrated or InputLSQ"
                )
        self.left, self.right = QActivation(left, 0.0), QActivation(right, 0.0)
        self.exact = exact

    @property
    def left_quantization(self) -> Quantization:
        """The quantizer of the left operand."""
        return quantizer_of(self.left)

    @property
    def right_quantization(self) -> Quantization:
        """The quantizer of the right operand."""
        return quantizer_of(self.right)

    def max_codes(self) -> tuple[int, int] | None:
        """Return the largest absolute codes of both; None where the product is one of values."""
        if not self.exact or not all(map(gives_its_quantizers_values, (self.left, self.right))):
            return None
        left, right = self.left_quantization.exact_max_code, self.right_quantization.exact_max_code
        return None if left is None or right is None else (left, right)

    def operands(self, left: Tensor, right: Tensor) -> CodePair | None:
        """Return what is multiplied, on integers; None where it is values."""
        max_codes = self.max_codes()
        if max_codes is None:
            return None
        codes = [_codes(self.left, left), _codes(self.right, right)]
        q, r = codes
        if q is None or r is None:
            return None
        scales = self.left_quantization.scale(left), self.right_quantization.scale(right)
        return CodePair(q, r.to(q.dtype), scales[0].to(q.dtype), scales[1].to(q.dtype), max_codes)

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        """Return scale times the product of left [..., M, K] and right [..., K, N], quantized.

        Raises:
            ValueError: K products do not fit in exact sums.
        """
        pair = self.operands(left, right)
        if pair is None:
            values: Tensor = self.left(left) @ self.right(right) * scale
            return values
        y = scaled_matmul(pair.left, pair.right, pair.left_scale, pair.right_scale, scale, pair.max_codes)
        return y.to(left.dtype)

    def extra_repr(self) -> str:
        return f"exact={self.exact}"


def _codes(activation: QActivation, x: Tensor) -> Tensor | None:
    """The codes of an operand; None where a hook on its quantizer gives it other values."""
    quantizer = quantizer_of(activation)
    if is_watched(activation, quantizer):
        return codes_behind(activation(x), quantizer, x)
    return quantizer.codes(before_quantizer(activation, x))
