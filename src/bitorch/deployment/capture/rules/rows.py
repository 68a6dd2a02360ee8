"""Low-bit layers and quantizers whose input has a step for each row: divided by it before, multiplied behind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....layers.exact import over_outputs
from ....layers.group_sums import scaled_groups
from ....layers.products import scaled_linear
from ....quantizations.arithmetic import Arithmetic, stored_codes
from ....quantizations.levels import LEAST_OF_ROW, divide
from ..reader import Reader
from .low_bit_settings import quantizer_settings


def linear_of_rows(call: Reader, x: str, channels: int, arithmetic: Arithmetic, settings: dict[str, Any]) -> str:
    """Add y = (Σ c·q·scale)·s + bias, with q the rounded x/s and s the step of a row.

    Args:
        x: the node of the layer's input.
        channels: which axis of the call's result the node's channels are.
        settings: of a `low_bit` node of the layer.
    """
    step = _row_step(call, x, channels, arithmetic)
    u = call.add("div", x, step, function=torch.div, shape=call.shape(x), step="rows", channels_at=channels)
    bias = settings["bias"]
    product = settings | {"bias": None}
    sums = call.add(
        "low_bit", u, function=_product(arithmetic, product), shape=call.shape_along(channels), step="product",
        channels_at=channels, **product,
    )  # fmt: skip
    if bias is None:
        return _times_steps(call, sums, step, channels)
    y = _times_steps(call, sums, step, channels, "scaled")
    return call.add(
        "plus", y, function=lambda y: y + over_outputs(bias, y.dim() - 2), channels_at=channels, constant=bias
    )


def quantizer_of_rows(call: Reader, x: str, channels: int, arithmetic: Arithmetic) -> str:
    """Add s·round(x/s), s the step of a row."""
    step = _row_step(call, x, channels, arithmetic)
    u = call.add("div", x, step, function=torch.div, shape=call.shape(x), step="rows", channels_at=channels)
    plain = quantizer_settings(arithmetic)
    rounded = call.add(
        "quantizer", u, function=lambda u: _codes(arithmetic, u), shape=call.shape(x), step="codes",
        channels_at=channels, **plain,
    )  # fmt: skip
    return _times_steps(call, rounded, step, channels)


def _row_step(call: Reader, x: str, channels: int, arithmetic: Arithmetic) -> str:
    """Add `row_step` of each row, [1, *rows]."""
    largest, largest_float = arithmetic.zero_point - 1, torch.finfo(torch.float32).max
    shape = call.shape(x)
    steps: dict[str, Any] = {"channels_at": channels}
    magnitude = call.add("abs", x, function=torch.abs, shape=shape, step="magnitude", **steps)
    one = (1, *shape[1:])
    most = call.add(
        "extreme", magnitude, function=lambda v: v.amax(1, keepdim=True), shape=one, step="largest",
        reduction="amax", axes=(0,), **steps,
    )  # fmt: skip
    bounded = call.add(
        "clamp", most, function=lambda v: v.clamp(LEAST_OF_ROW, largest_float), shape=one, step="bounded",
        low=LEAST_OF_ROW, high=largest_float, **steps,
    )  # fmt: skip
    constant = torch.full((1,), float(largest))
    return call.add(
        "divide", bounded, function=lambda v: divide(v, largest), shape=one, step="step", constant=constant, **steps
    )


def _times_steps(call: Reader, y: str, step: str, channels: int, name: str = "") -> str:
    return call.add("mul", y, step, function=torch.mul, shape=call.shape(y), step=name, channels_at=channels)


def _product(arithmetic: Arithmetic, settings: dict[str, Any]) -> Any:
    weight, scale, largest = settings["weight"], settings["scale"], settings["largest"]
    is_grouped = scale.dim() > 1
    of_weight = scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, 1)
    one = torch.ones(())

    def product(u: Tensor) -> Tensor:  # [batch, F, *rows]
        codes = _codes(arithmetic, u).movedim(1, -1).to(weight.dtype)
        if is_grouped:
            return scaled_groups(codes, weight, scale, largest).movedim(-1, 1)
        return scaled_linear(codes, weight, one, of_weight, largest).movedim(-1, 1)

    return product


def _codes(arithmetic: Arithmetic, u: Tensor) -> Tensor:
    return stored_codes(arithmetic.form, u, arithmetic.bits, arithmetic.zero_point) - arithmetic.zero_point
