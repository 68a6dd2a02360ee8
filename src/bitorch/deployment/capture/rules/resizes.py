"""The rule of F.interpolate where it blends pixels; by the nearest pixel it is a movement."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .windows import adaptive_avg_pool

_MODES = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def interpolate(
    call: Reader,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:
    """The rule of F.interpolate, which has accepted the arguments."""
    if antialias:
        raise Refusal(
            "antialias=True makes images smaller with windows of its own",
            f"Leave antialias out, or use F.avg_pool2d or adaptive_avg_pool2d, {PARTIAL}",
        )
    x = call.read(input)
    output_size = tuple(call.result.shape[2:])
    if mode == "area":
        rule: Any = adaptive_avg_pool(call.as_called(input).dim() - 2)
        name: str = rule(call, input, output_size)
        return name
    if call.as_called(input).dim() != input.dim():
        raise Refusal("its batch is part of an axis", f"Keep the batch an axis of its own in front of it, {PARTIAL}")
    given = scale_factor is not None and not recompute_scale_factor
    factors = scale_factor if isinstance(scale_factor, tuple | list) else [scale_factor] * len(output_size)
    return call.add(
        "resize",
        x,
        output_size=output_size,
        mode=_MODES[mode],
        align_corners=bool(align_corners),
        scale=torch.tensor([float(factor) for factor in factors], dtype=torch.float64) if given else None,
    )
