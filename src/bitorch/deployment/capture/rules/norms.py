"""Rules for normalisations: layer, group, instance and RMS norm, and vectors of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader
from . import elementwise
from .windows import check_constant

_NO_WEIGHTS: dict[str, Any] = {"weight": None, "bias": None}


def layer_norm(
    call: Reader,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> str:
    """The rule of F.layer_norm: of the channels at each place, or of several axes at the end of the shape."""
    return _of_last_axes(call, input, len(normalized_shape), {"weight": weight, "bias": bias}, "deviation", eps)


def rms_norm(
    call: Reader,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> str:
    """The rule of F.rms_norm. Without eps it is the last digit of a float32 number 1."""
    smallest = float(torch.finfo(torch.float32).eps) if eps is None else eps
    weights = {"weight": weight, "bias": None}
    return _of_last_axes(call, input, len(normalized_shape), weights, "root_mean_square", smallest)


def _of_last_axes(call: Reader, x: Tensor, count: int, weights: dict[str, Tensor | None], by: str, eps: float) -> str:
    """Normalise the last axes of a tensor: all but the batch in any order of memory, else the last one as channels."""
    if count >= x.dim():
        raise Refusal(
            f"it normalises all {count} axes of {list(x.shape)}, the batch among them",
            f"Leave the batch out: normalise {list(x.shape[1:])} at most, {PARTIAL}",
        )
    whole = count == x.dim() - 1 > 1
    channels = call.channel_axis(x) if whole else x.dim() - 1
    name = call.read(x, channels)
    first = channels - (x.dim() - count)  # of the weight's axes, that of the channels
    arrays: dict[str, Any] = {key: _by_place(call, key, value, first) for key, value in weights.items()}
    return call.add("normalize", name, channels_at=channels, by=by, rows=count - 1, groups=1, eps=float(eps), **arrays)


def _by_place(call: Reader, key: str, value: Tensor | None, channels: int) -> Tensor | None:
    """Weights of several axes, of which one is the channels, as [places, C]; those of one axis as they are."""
    check_constant(call, key, value)
    if value is None:
        return None
    last = value.detach().movedim(channels, -1)
    return last.reshape(-1, last.shape[-1]).clone() if last.dim() > 1 else last.clone()


def group_norm(
    call: Reader,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> str:
    """The rule of F.group_norm: of groups of channels, at all places."""
    return _of_groups(call, input, int(num_groups), weight, bias, eps)


def instance_norm(
    call: Reader,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> str:
    """The rule of F.instance_norm: of each channel, at all places; with running statistics it is a batch norm."""
    if not use_input_stats:
        return elementwise.batch_norm(call, input, running_mean, running_var, weight, bias, False, momentum, eps)
    return _of_groups(call, input, input.shape[1], weight, bias, eps)


def _of_groups(call: Reader, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> str:
    name = call.read(x)
    arrays: dict[str, Any] = {
        key: _by_place(call, key, value, 0) for key, value in {"weight": weight, "bias": bias}.items()
    }
    return call.add(
        "normalize", name, by="deviation", rows=call.as_called(x).dim() - 2, groups=groups, eps=float(eps), **arrays
    )


def normalize(
    call: Reader, input: Tensor, p: float = 2.0, dim: Any = None, eps: float = 1e-12, out: Tensor | None = None
) -> str:
    """The rule of F.normalize: vectors along one axis, the second one unless told otherwise, get length 1."""
    folds = call.call.folds
    second = 1 if folds is None else folds.result.axis_of(1)
    axes = [second] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if p != 2:
        raise Refusal(f"it divides by a norm of p={p}", f"Use p=2, {PARTIAL}")
    if len(axes) != 1 or axes[0] % input.dim() == 0:
        raise Refusal(
            f"it normalises along dim={dim} of {list(input.shape)}", f"Use one dimension, not the batch, {PARTIAL}"
        )
    channels = axes[0] % input.dim()
    name = call.read(input, channels)
    return call.add("normalize", name, channels_at=channels, by="norm", rows=0, groups=1, eps=float(eps), **_NO_WEIGHTS)
