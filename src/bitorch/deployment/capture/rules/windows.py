"""Rules for functions that look at windows of an image: convolutions, pools, padding; and linear layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..builder import Reader
from ..problems import PARTIAL, Refusal
from .elementwise import float32
from .remedies import instead_of_maximum, instead_of_mean

_Size = int | Sequence[int]
_Pairs = Sequence[tuple[int, int]]


def conv(dimensions: int) -> Any:
    """Return the rule of conv1d or conv2d."""

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
        _check_image(call, x, dimensions)
        _check_constant(call, "weight", weight)
        _check_constant(call, "bias", bias)
        kernel, dilations = tuple(weight.shape[2:]), sizes(dilation, dimensions)
        return call.add(
            "conv",
            x,
            weight=weight.detach(),
            bias=None if bias is None else bias.detach(),
            kernel_size=kernel,
            stride=sizes(stride, dimensions),
            padding=_flat(_conv_borders(padding, kernel, dilations)),
            dilation=dilations,
            groups=int(groups),
        )

    return rule


def _conv_borders(padding: _Size | str, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> _Pairs:
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    assert not isinstance(padding, str)  # PyTorch has accepted it
    return [(p, p) for p in sizes(padding, len(kernel))]


def _flat(borders: _Pairs) -> tuple[int, ...]:
    """The setting "padding": before and after each dimension."""
    return tuple(width for border in borders for width in border)


def linear(call: Reader, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    """The rule of F.linear."""
    x = call.read(input)
    check_features(call, x, "a linear layer")
    _check_constant(call, "weight", weight)
    _check_constant(call, "bias", bias)
    return call.add("linear", x, weight=weight.detach(), bias=None if bias is None else bias.detach())


def max_pool(dimensions: int) -> Any:
    """Return the rule of max_pool1d or 2d."""

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
        _check_image(call, x, dimensions)
        kernel, paddings, dilations = (sizes(s, dimensions) for s in (kernel_size, padding, dilation))
        strides = _strides(stride, kernel)
        extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        beyond = _beyond(call, x, extents, strides, paddings)
        borders = _flat([(p, p + more) for p, more in zip(paddings, beyond, strict=True)])
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
    """Return the rule of avg_pool1d or 2d."""

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
        _check_image(call, x, dimensions)
        if divisor_override is not None:
            raise Refusal("its average divides by a number of its own", "Leave divisor_override out")
        kernel, paddings = sizes(kernel_size, dimensions), sizes(padding, dimensions)
        strides = _strides(stride, kernel)
        if any(_beyond(call, x, kernel, strides, paddings)):
            raise Refusal("ceil_mode=True lets windows of an average reach beyond the image", "Leave ceil_mode out")
        borders = _flat([(p, p) for p in paddings])
        return call.add(
            "avg_pool",
            x,
            kernel_size=kernel,
            stride=strides,
            padding=borders,
            count_include_pad=bool(count_include_pad),
        )

    return rule


def _strides(stride: _Size | None, kernel: tuple[int, ...]) -> tuple[int, ...]:
    is_default = stride is None or (not isinstance(stride, int) and len(stride) == 0)
    return kernel if stride is None or is_default else sizes(stride, len(kernel))


def _beyond(
    call: Reader, x: str, extents: Sequence[int], strides: Sequence[int], paddings: Sequence[int]
) -> tuple[int, ...]:
    """Return how far the last windows reach beyond the padded image, which only ceil_mode lets them."""
    image, result = call.shape(x)[1:], call.result.shape[2:]
    return tuple(
        max(0, (count - 1) * step + extent - (size + 2 * p))
        for count, step, extent, size, p in zip(result, strides, extents, image, paddings, strict=True)
    )


def adaptive_avg_pool(dimensions: int) -> Any:
    """Return the rule of adaptive_avg_pool1d or 2d."""

    def rule(call: Reader, input: Tensor, output_size: Any) -> str:
        x = call.read(input)
        _check_image(call, x, dimensions)
        if tuple(call.result.shape) == tuple(input.shape):
            return call.add("identity", x)
        if math.prod(call.result.shape[2:]) == 1:
            return call.add("global_avg_pool", x)
        if not input.is_contiguous():
            raise Refusal(
                "adaptive average pooling of an image that is not contiguous rounds in a way of its own",
                "Call x.contiguous() before it, or leave channels_last out",
            )
        size = tuple(call.result.shape[2:])
        pool: Any = F.adaptive_avg_pool1d if dimensions == 1 else F.adaptive_avg_pool2d
        return call.add("adaptive_avg_pool", x, function=lambda v: pool(v.contiguous(), size), output_size=size)

    return rule


def adaptive_max_pool(dimensions: int) -> Any:
    """Return the rule of adaptive_max_pool1d or 2d."""

    def rule(call: Reader, input: Tensor, output_size: Any, return_indices: bool = False) -> str:
        x = call.read(input)
        _check_image(call, x, dimensions)
        image, result = call.shape(x)[1:], call.result.shape[2:]
        if any(size % count for size, count in zip(image, result, strict=True)):
            raise Refusal(
                "adaptive max pooling whose windows differ in size cannot be deployed",
                f"Use F.max_pool{dimensions}d with a kernel_size, or an output size that divides the image, {PARTIAL}",
            )
        kernel = tuple(size // count for size, count in zip(image, result, strict=True))
        ones, none = (1,) * dimensions, (0,) * 2 * dimensions
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
    """The rule of torch.mean: over all pixels, or over pixels that were put into one row before."""
    x, function = call.read_pixels(input)
    dims = dim if axis is None else axis
    over = set() if dims is None else {d % input.dim() for d in ((dims,) if isinstance(dims, int) else dims)}
    if over != set(range(2, input.dim())) or not over:
        raise Refusal("a mean over other dimensions than all pixels cannot be deployed", instead_of_mean(input, over))
    return call.add("global_avg_pool", x, function=function)


def amax(call: Reader, input: Tensor, dim: _Size = (), keepdim: bool = False) -> str:
    """The rule of torch.amax over all pixels."""
    x = call.read(input)
    image = call.shape(x)[1:]
    over = {d % input.dim() for d in ((dim,) if isinstance(dim, int) else dim)}
    if not image or over != set(range(2, input.dim())):
        raise Refusal("a maximum over other dimensions than all pixels cannot be deployed", instead_of_maximum(input))
    channels, ones = call.shape(x)[0], (1,) * len(image)
    axes = tuple(over)
    pooled = call.add(
        "max_pool",
        x,
        function=lambda v: torch.amax(v, axes, keepdim=True),
        shape=(channels, *ones),
        step="" if keepdim else "max",
        kernel_size=image,
        stride=image,
        padding=(0,) * 2 * len(image),
        dilation=ones,
    )
    return pooled if keepdim else call.add("flatten", pooled, function=lambda v: v.flatten(1))


def pad(call: Reader, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> str:
    """The rule of F.pad."""
    x = call.read(input)
    pairs = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    pairs = [*reversed(pairs)]  # outermost dimension first
    pairs = [*[(0, 0)] * (input.dim() - len(pairs)), *pairs]
    if any(width < 0 for pair in pairs for width in pair):
        raise Refusal(
            f"F.pad with negative widths {list(pad)} cuts the image",
            f"Cut the images before the network, or pad less in front, {PARTIAL}",
        )
    if any(pairs[0]):
        raise Refusal("it pads the batch", "Pad channels, rows or columns only")
    if mode != "constant" and any(pairs[1]):
        raise Refusal(f"padding of channels in mode {mode!r} cannot be deployed", f'Use mode="constant", {PARTIAL}')
    if not any(width for pair in pairs for width in pair):
        return call.add("identity", x)
    fill = 0.0 if value is None else _fill(value)
    return call.add("pad", x, padding=_flat(pairs[2:]), channels=pairs[1], mode=mode, value=fill)


def _fill(value: float) -> float:
    """Return what a border is filled with, as float32."""
    number = float32(value)
    if not math.isfinite(number):
        raise Refusal(f"it pads with {number}, which no file can hold", "Pad with a finite number")
    return number


def cat(call: Reader, tensors: Sequence[Tensor], dim: int = 0, **other: Any) -> str:
    """The rule of torch.cat, along channels; constants must be all one number, and stand at the ends."""
    dim = other.get("axis", dim)
    if dim % call.result.dim() != 1:
        raise Refusal(
            "it concatenates along another dimension than the channels",
            "Pad each with zeros to the whole size and add them: F.pad(a, (0, n)) + F.pad(b, (m, 0)) is "
            f"torch.cat([a, b], -1), {PARTIAL}",
        )
    tensors = [t for t in tensors if t.numel() > 0 or t.dim() != 1]  # PyTorch skips empty vectors
    varying = [i for i, t in enumerate(tensors) if call.varies(t)]
    ends = tensors[: varying[0]], tensors[varying[-1] + 1 :]
    inner = tensors[varying[0] : varying[-1] + 1]
    if len(varying) < len(inner):
        raise Refusal("it concatenates with constants in the middle", f"Put them first or last, {PARTIAL}")
    names = [call.read(t) for t in inner]
    is_padded = any(len(end) > 0 for end in ends)
    joined = names[0]
    if len(names) > 1:
        channels = sum(t.shape[1] for t in inner)
        joined = call.add(
            "concat",
            *names,
            function=lambda *values: torch.cat(values, 1),
            shape=(channels, *call.result.shape[2:]),
            step="inner" if is_padded else "",
        )
    return _pad_with_constants(call, joined, ends) if is_padded else joined


def stack(call: Reader, tensors: Sequence[Tensor], dim: int = 0, **other: Any) -> str:
    """The rule of torch.stack: of one number each, [batch], to [batch, features]."""
    if dim % 2 != 1:
        raise Refusal("it stacks along the batch", "Use torch.stack(numbers, 1)")
    if not all(call.varies(t) for t in tensors):
        raise Refusal("it stacks constants beside what depends on the image", f"Use F.pad, {PARTIAL}")
    numbers = [
        call.add("identity", call.read(t), function=lambda v: v.unsqueeze(1), shape=(1,), step="column")
        for t in tensors
    ]
    return call.add("concat", *numbers, function=lambda *values: torch.cat(values, 1))


def _pad_with_constants(call: Reader, x: str, ends: tuple[Sequence[Tensor], Sequence[Tensor]]) -> str:
    values = torch.cat([t.detach().flatten() for end in ends for t in end])
    if not bool((values == values[0]).all() | values.isnan().any()):
        raise Refusal("it concatenates with constants that are not all one number", f"Use zeros, {PARTIAL}")
    value = _fill(float(values[0]))
    before, after = (sum(t.shape[1] for t in end) for end in ends)
    spatial = len(call.shape(x)) - 1
    widths = [*[0, 0] * spatial, before, after]
    return call.add(
        "pad",
        x,
        function=lambda v: torch.nn.functional.pad(v, widths, value=value),
        padding=(0,) * 2 * spatial,
        channels=(before, after),
        mode="constant",
        value=value,
    )


def sizes(value: _Size, dimensions: int) -> tuple[int, ...]:
    """Return one number per dimension, from one for all or one each."""
    if isinstance(value, int):
        return (int(value),) * dimensions
    numbers = tuple(map(int, value))
    return numbers * dimensions if len(numbers) == 1 else numbers


def _check_image(call: Reader, x: str, dimensions: int) -> None:
    shape = call.shape(x)
    if len(shape) != dimensions + 1:
        wanted = "[batch, channels, height, width]" if dimensions == 2 else "[batch, channels, length]"
        raise Refusal(f"it takes {wanted}, but gets {['batch', *shape]}", "Give images, with a batch dimension")


def check_features(call: Reader, x: str, what: str) -> None:
    """Refuse anything but [batch, features]."""
    shape = call.shape(x)
    if len(shape) != 1:
        raise Refusal(
            f"{what} on {['batch', *shape]} is applied at several places of an image",
            f"Flatten first (x.flatten(1)), or use a convolution with a kernel of 1 on channels, {PARTIAL}",
        )


def _check_constant(call: Reader, argument: str, value: Tensor | None) -> None:
    if call.varies(value):
        raise Refusal(
            f"its {argument} depends on the image", f"Use a {argument} that is fixed after training, {PARTIAL}"
        )
