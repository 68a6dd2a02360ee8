"""Rules for functions that look at windows of an image, signal or volume: convolutions, pools; and linear layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....layers.exact_transposed import swap_channels
from ..problems import PARTIAL, Refusal
from ..reader import Reader

_Size = int | Sequence[int]
Pairs = Sequence[tuple[int, int]]


def conv(dimensions: int) -> Any:
    """Return the rule of conv1d, conv2d or conv3d."""

    def rule(
        call: Reader,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
    ) -> str:
        x = call.read(input)
        lead = leading_axes(call, x, dimensions)
        weight, fixed = _fixed(call, weight, bias)
        weight = with_leading_axes(weight, lead)
        kernel, dilations = tuple(weight.shape[2:]), _led(lead, 1, dilation, dimensions)
        if not isinstance(padding, str):
            padding = _led(lead, 0, padding, dimensions)
        return call.add(
            "conv",
            x,
            weight=weight,
            bias=fixed,
            kernel_size=kernel,
            stride=_led(lead, 1, stride, dimensions),
            padding=flat(_conv_borders(padding, kernel, dilations)),
            dilation=dilations,
            groups=int(groups),
        )

    return rule


def conv_transpose(dimensions: int) -> Any:
    """Return the rule of conv_transpose1d, 2d or 3d."""

    def rule(
        call: Reader,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        dilation: _Size = 1,
    ) -> str:
        x = call.read(input)
        lead = leading_axes(call, x, dimensions)
        weight, fixed = _fixed(call, weight, bias)
        weight = with_leading_axes(swap_channels(weight, int(groups)), lead)
        return call.add(
            "conv",
            x,
            weight=weight,
            bias=fixed,
            kernel_size=tuple(weight.shape[2:]),
            stride=_led(lead, 1, stride, dimensions),
            padding=_led(lead, 0, padding, dimensions),
            output_padding=_led(lead, 0, output_padding, dimensions),
            dilation=_led(lead, 1, dilation, dimensions),
            groups=int(groups),
        )

    return rule


def _conv_borders(padding: _Size | str, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Pairs:
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    assert not isinstance(padding, str)  # PyTorch has accepted it
    return [(p, p) for p in sizes(padding, len(kernel))]


def flat(borders: Pairs) -> tuple[int, ...]:
    """The setting "padding": before and after each dimension."""
    return tuple(width for border in borders for width in border)


def linear(call: Reader, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    """The rule of F.linear: of features, [batch, F], or of the last axis, [batch, *rows, F]."""
    channels = features_axis(input, "a linear layer")
    x = call.read(input, channels)
    weight, fixed = _fixed(call, weight, bias)
    return call.add("linear", x, channels_at=channels, weight=weight, bias=fixed)


def max_pool(dimensions: int) -> Any:
    """Return the rule of max_pool1d, 2d or 3d."""

    def rule(
        call: Reader,
        input: Tensor,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> str:
        x = call.read(input)
        lead = leading_axes(call, x, dimensions)
        kernel, dilations = (_led(lead, 1, s, dimensions) for s in (kernel_size, dilation))
        paddings, strides = _led(lead, 0, padding, dimensions), _strides(stride, kernel, lead)
        extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        beyond = _beyond(call, x, extents, strides, paddings)
        borders = flat([(p, p + more) for p, more in zip(paddings, beyond, strict=True)])
        if any(map(_sees_nothing, call.shape(x)[1:], call.result.shape[2:], kernel, strides, paddings, dilations)):
            raise Refusal(
                "one of its windows lies wholly in padding, where PyTorch gives -inf",
                f"Use less padding or dilation, or larger images, {PARTIAL}",
            )
        return call.add("max_pool", x, kernel_size=kernel, stride=strides, padding=borders, dilation=dilations)

    return rule


def _sees_nothing(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    """Say whether one of the windows along an axis has no pixel in it."""
    starts = range(-padding, -padding + count * stride, stride)
    return any(not any(0 <= start + dilation * i < size for i in range(kernel)) for start in starts)


def avg_pool(dimensions: int) -> Any:
    """Return the rule of avg_pool1d, 2d or 3d."""

    def rule(
        call: Reader,
        input: Tensor,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> str:
        x = call.read(input)
        lead = leading_axes(call, x, dimensions)
        kernel, paddings = _led(lead, 1, kernel_size, dimensions), _led(lead, 0, padding, dimensions)
        strides = _strides(stride, kernel, lead)
        beyond = _beyond(call, x, kernel, strides, paddings)
        optional: dict[str, Any] = {"beyond": beyond} if any(beyond) else {}
        if divisor_override is not None:
            optional["divisor"] = int(divisor_override)
        borders = flat([(p, p) for p in paddings])
        return call.add(
            "avg_pool",
            x,
            kernel_size=kernel,
            stride=strides,
            padding=borders,
            count_include_pad=bool(count_include_pad),
            **optional,
        )

    return rule


def _strides(stride: _Size | None, kernel: tuple[int, ...], lead: int) -> tuple[int, ...]:
    is_default = stride is None or (not isinstance(stride, int) and len(stride) == 0)
    return kernel if stride is None or is_default else _led(lead, 1, stride, len(kernel) - lead)


def _beyond(
    call: Reader, x: str, extents: Sequence[int], strides: Sequence[int], paddings: Sequence[int]
) -> tuple[int, ...]:
    """Return how far the last windows reach beyond the padded image, which only ceil_mode lets them."""
    image, result = call.shape(x)[1:], call.result.shape[2:]
    return tuple(
        max(0, (count - 1) * step + extent - (size + 2 * p))
        for count, step, extent, size, p in zip(result, strides, extents, image, paddings, strict=True)
    )


_ADAPTIVE: tuple[Any, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


def adaptive_avg_pool(dimensions: int) -> Any:
    """Return the rule of adaptive_avg_pool1d, 2d or 3d."""

    def rule(call: Reader, input: Tensor, output_size: Any) -> str:
        x = call.read(input)
        lead = leading_axes(call, x, dimensions)
        if tuple(call.result.shape) == tuple(input.shape):
            return call.add("identity", x)
        if math.prod(call.result.shape[2:]) == 1:
            return call.add("global_avg_pool", x)
        if not call.as_called(input).is_contiguous():
            raise Refusal(
                "adaptive average pooling of an image that is not contiguous rounds in a way of its own",
                "Call x.contiguous() before it, or leave channels_last out",
            )
        size = tuple(call.result.shape[2:])
        if lead > 0:
            return call.add("adaptive_avg_pool", x, output_size=size)
        pool = _ADAPTIVE[dimensions - 1]
        return call.add("adaptive_avg_pool", x, function=lambda v: pool(v.contiguous(), size), output_size=size)

    return rule


def adaptive_max_pool(dimensions: int) -> Any:
    """Return the rule of adaptive_max_pool1d, 2d or 3d."""

    def rule(call: Reader, input: Tensor, output_size: Any, return_indices: bool = False) -> str:
        x = call.read(input)
        leading_axes(call, x, dimensions)
        image, result = call.shape(x)[1:], call.result.shape[2:]
        if any(size % count for size, count in zip(image, result, strict=True)):
            return call.add("adaptive_max_pool", x, output_size=tuple(result))
        kernel = tuple(size // count for size, count in zip(image, result, strict=True))
        ones, none = (1,) * len(kernel), (0,) * 2 * len(kernel)
        return call.add("max_pool", x, kernel_size=kernel, stride=kernel, padding=none, dilation=ones)

    return rule


def mean(
    call: Reader,
    input: Tensor,
    dim: _Size | None = None,
    keepdim: bool = False,
    *,
    axis: _Size | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """The rule of torch.mean over all pixels, or over pixels that were put into one row before."""
    channels = _channels_beside(input, dim if axis is None else axis)
    assert channels is not None  # `leaves_channels` has said so
    if channels == 1:
        x, function = call.read_pixels(input)
        return call.add("global_avg_pool", x, function=function)
    return call.add("global_avg_pool", call.read(input, channels), channels_at=channels if keepdim else 1)


def leaves_channels(x: Tensor, dims: _Size | None) -> bool:
    """Whether a reduction over `dims` leaves the batch and one more axis: then it is one over all pixels."""
    return _channels_beside(x, dims) is not None


def _channels_beside(x: Tensor, dims: _Size | None) -> int | None:
    """The one axis beside the batch that a reduction over `dims` leaves, None if it is another number of them."""
    over = set() if dims is None else {d % x.dim() for d in ((dims,) if isinstance(dims, int) else dims)}
    left = set(range(x.dim())) - over
    return max(left) if len(over) > 0 and 0 in left and len(left) == 2 else None


def amax(call: Reader, input: Tensor, dim: _Size = (), keepdim: bool = False) -> str:
    """The rule of torch.amax over all pixels."""
    channels = _channels_beside(input, dim)
    assert channels is not None  # `leaves_channels` has said so
    x = call.read(input, channels)
    image = call.shape(x)[1:]
    ones = (1,) * len(image)
    axes = tuple(range(2, input.dim()))
    pooled = call.add(
        "max_pool",
        x,
        function=lambda v: torch.amax(v, axes, keepdim=True),
        shape=(call.shape(x)[0], *ones),
        step="" if keepdim else "max",
        channels_at=channels,
        kernel_size=image,
        stride=image,
        padding=(0,) * 2 * len(image),
        dilation=ones,
    )
    return pooled if keepdim else call.add("flatten", pooled, function=lambda v: v.flatten(1), channels_last=False)


def sizes(value: _Size, dimensions: int) -> tuple[int, ...]:
    """Return one number per dimension, from one for all or one each."""
    if isinstance(value, int):
        return (int(value),) * dimensions
    numbers = tuple(map(int, value))
    return numbers * dimensions if len(numbers) == 1 else numbers


#: That a window has in the runtime.
_MOST_DIMENSIONS = 3
_IMAGES = ("[batch, channels, length]", "[batch, channels, height, width]", "[batch, channels, depth, height, width]")


def leading_axes(call: Reader, x: str, dimensions: int) -> int:
    """Return how many row axes a node has in front of those of a window: places of the batch that are part of an image.

    Raises:
        Refusal: it is no image of so many dimensions, or has too many of these axes.
    """
    shape = call.shape(x)
    lead = len(shape) - 1 - dimensions
    if lead != 0 and (call.call.folds is None or lead < 0):
        what = f"it takes {_IMAGES[dimensions - 1]}, but gets {['batch', *shape]}"
        raise Refusal(what, "Give images, with a batch dimension")
    if lead + dimensions > _MOST_DIMENSIONS:
        raise Refusal(
            f"its batch is part of an axis of images of {dimensions} dimensions, {['batch', *shape]}",
            f"Keep the batch an axis of its own in front of it, {PARTIAL}",
        )
    return lead


def with_leading_axes(weight: Tensor, lead: int) -> Tensor:
    """Return a weight [C_out, C_in/groups, *kernel] whose kernel has as many axes of one place in front."""
    return weight.reshape(*weight.shape[:2], *(1,) * lead, *weight.shape[2:])


def _led(lead: int, filler: int, value: _Size, dimensions: int) -> tuple[int, ...]:
    """`sizes`, behind as many numbers for the leading axes."""
    return (*(filler,) * lead, *sizes(value, dimensions))


def features_axis(x: Tensor, what: str) -> int:
    """Return the axis of the features of [batch, *rows, features]: the last one."""
    if x.dim() < 2:
        raise Refusal(f"{what} takes [batch, features], but gets {list(x.shape)}", f"Keep the batch, {PARTIAL}")
    return x.dim() - 1


def check_constant(call: Reader, argument: str, value: Tensor | None) -> None:
    if call.varies(value):
        raise Refusal(
            f"its {argument} depends on the image", f"Use a {argument} that is fixed after training, {PARTIAL}"
        )


def _fixed(call: Reader, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a layer, without gradients.

    Raises:
        Refusal: one of them depends on the image.
    """
    check_constant(call, "weight", weight)
    check_constant(call, "bias", bias)
    return weight.detach(), None if bias is None else bias.detach()
