"""The rule of QMatmul: a product of two activations' codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....layers import QMatmul
from ....layers.exact_matmul import matmul_scale
from ....quantizations import Quantization
from ....quantizations.arithmetic import Arithmetic
from ...asked_arithmetic import arithmetic_of
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .asked import computed
from .low_bit_settings import quantizer_settings
from .matrices import add_product, check_operands, constant_or_matrix


def check(module: QMatmul) -> None:
    """Refuse a product that is not one of codes, or whose quantizers the runtime cannot compute."""
    if not module.exact:
        raise Refusal("it multiplies values, with exact=False", f"Make it with exact=True, {PARTIAL}")
    for quantizer in _quantizers(module):
        if quantizer.exact_max_code is None:
            raise Refusal(
                f"{type(quantizer).__name__} {quantizer.why_no_codes}, so it has no codes to multiply",
                f"Use a quantizer with codes, {PARTIAL}",
            )
        _of_all_channels(quantizer)


def rule(call: Reader, module: QMatmul, left: Tensor, right: Tensor, scale: float = 1.0) -> str:
    """Add the product of two tensors [batch, *rows, M, K] and [batch, *rows, K, N]."""
    check_operands(left, right)
    settings: dict[str, Any] = {}
    with torch.no_grad():
        pair = module.operands(left, right)
        if pair is None:
            raise Refusal(
                "a forward hook changes what one of its quantizers takes or gives",
                f"Remove the hook, or do what it does in a module, {PARTIAL}",
            )
    for side, quantizer in zip(("left", "right"), _quantizers(module), strict=True):
        own = quantizer_settings(_of_all_channels(quantizer))
        settings |= {f"{side}_{key}": value for key, value in own.items()}
    transposed = tuple(int(call.innermost_axis(x) == x.dim() - 2) for x in (left, right))
    operands = [constant_or_matrix(call, x, turned=bool(t)) for x, t in zip((left, right), transposed, strict=True)]
    return add_product(
        call,
        "low_bit_matmul",
        operands,
        transposed=transposed,
        largest=pair.max_codes,
        scale=matmul_scale(pair.left_scale, pair.right_scale, scale),
        **settings,
    )


def _quantizers(module: QMatmul) -> tuple[Quantization, Quantization]:
    return module.left_quantization, module.right_quantization


def _of_all_channels(quantizer: Quantization) -> Arithmetic:
    arithmetic = computed(arithmetic_of(quantizer))
    if any(numbers is not None and numbers.dim() > 0 for numbers in (arithmetic.divide, arithmetic.plus)):
        raise Refusal(
            f"{quantizer} has numbers for each channel, of which a product of matrices has none",
            f"Use one range for all, {PARTIAL}",
        )
    return arithmetic
