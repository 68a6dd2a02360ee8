"""What a program computes, in plain NumPy: the definition that the compiled kernels are tested against.

Everything here is written to be read. Integers are int64 and exact; floats are float32, and each `*`, `+` and `/` on
them rounds once, in XXpool's window is zero, −0 may be 0 and 0 may be −0.

Tensors are [batch, *rows, channels], of any number of row axes: images [batch, height, width, channels], signals
[batch, length, channels], tokens [batch, tokens, features]. A feature vector is an image of one pixel, [batch, 1, 1,
features]. Row axes of 1 in front of all others say nothing. Only windows (convolutions, pools, padding) know how many
row axes there are, one or two; below, x of these is [B, H, W, C], and one row axis is an image of one row.
Codes of k bits are the integers 0 … n, n = 2^k − 1. Weight codes of k bits are the odd integers −n, −n+2, … n, or on
the signed grid −2^(k−1) … 2^(k−1) − 1.
Padding is (top, left, bottom, right); kernel_size, stride and dilation are (vertical, horizontal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Operation: TypeAlias = Mapping[str, Any]


def levels(bits: int) -> int:
    """n = 2^bits − 1, the largest code."""
    return (1 << bits) - 1


# Packed weights


def code_line(bits: int, grid: str) -> tuple[int, int]:
    """(step, lowest) of a grid, "odd" or "signed": the stored m, 0 ≤ m ≤ n, is the weight code step·m + lowest."""
    return {"odd": (2, -levels(bits)), "signed": (1, -(1 << (bits - 1)))}[grid]


def pack_weights(codes: NDArray[Any], bits: int, grid: str = "odd") -> NDArray[np.uint8]:
    """Pack weight codes in the canonical order.

    Weight code c is stored as m, 0 ≤ m ≤ n: as (c + n)/2, or on the signed grid as c + 2^(bits − 1). Weight k of a row
    occupies the bits k·bits … (k+1)·bits − 1 of the row, least significant bit first; bit b of a row is bit b % 8 of
    byte b // 8. A row starts at a byte, and the bits that fill up its last byte are zero.

    Args:
        codes: weight codes, [out_channels, …], the last index fastest; of a convolution
            [out_channels, kernel_h, kernel_w, in_channels/groups].

    Returns:
        uint8 [out_channels, ceil(weights per channel · bits / 8)].
    """
    step, lowest = code_line(bits, grid)
    m = (codes.reshape(len(codes), -1).astype(np.int64) - lowest) // step
    row = (m[:, :, np.newaxis] >> np.arange(bits)) & 1  # [out_channels, weights, bits]
    return np.packbits(row.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")


def unpack_weights(packed: NDArray[np.uint8], bits: int, shape: Sequence[int], grid: str = "odd") -> Integers:
    """Return the weight codes behind packed weights, see `pack_weights`.

    Args:
        packed: uint8 [out_channels, row_bytes].
        shape: of one channel's weights, (kernel_h, kernel_w, in_channels/groups) or (in_features,).
        grid: "odd" or "signed".

    Returns:
        int64 [out_channels, *shape].
    """
    count = int(np.prod(shape))
    row = np.unpackbits(packed, axis=1, bitorder="little")[:, : count * bits]
    m = row.reshape(len(packed), count, bits).astype(np.int64) @ (2 ** np.arange(bits, dtype=np.int64))
    step, lowest = code_line(bits, grid)
    return (step * m + lowest).reshape(len(packed), *shape)


# Row axes


def without_leading_ones(rows: Sequence[int]) -> list[int]:
    """Row axes without those of 1 in front of all others."""
    return [size for i, size in enumerate(rows) if any(other != 1 for other in rows[: i + 1])]


def with_rows(x: NDArray[Any], count: int) -> NDArray[Any]:
    """[B, *rows, C] with as many row axes, by axes of 1 put in front of all others or left out there."""
    rows = without_leading_ones(x.shape[1:-1])
    return x.reshape(len(x), *[1] * (count - len(rows)), *rows, x.shape[-1])


def take(x: NDArray[Any], axis: int, indices: NDArray[np.int32]) -> NDArray[Any]:
    """Places along a row axis of [B, *rows, C]: −1 is the last one."""
    return np.take(with_rows(x, max(-axis, x.ndim - 2)), indices, axis=axis - 1)


def reshape(x: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """[B, *rows, C] to the axes [C', *rows'], the numbers in the order of rows first, channels last."""
    return x.reshape(len(x), *(shape[1:] if len(shape) > 1 else (1, 1)), shape[0])


def permute(x: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
    """[B, *rows, C] with other axes: of [C, *rows], axis i is axis axes[i] of x."""
    channels_first = np.moveaxis(with_rows(x, len(axes) - 1), -1, 1)
    return np.moveaxis(channels_first.transpose(0, *(axis + 1 for axis in axes)), 1, -1)


def concat(parts: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
    """Tensors [B, *rows, C] one behind the other: along channels for 0, along the last row axis for −1, and so on."""
    count = max(-axis, parts[0].ndim - 2)
    return np.concatenate([with_rows(part, count) for part in parts], axis=-1 if axis == 0 else axis - 1)


def as_one_row(x: NDArray[Any]) -> NDArray[Any]:
    """[B, *rows, C] as [B, 1, P, C], all places of the rows one behind the other."""
    return x.reshape(len(x), 1, int(np.prod(x.shape[1:-1])), x.shape[-1])


# Windows


def as_image(x: NDArray[Any], axes: int) -> NDArray[Any]:
    """[B, *rows, C] as [B, H, W, C], for a window along so many axes: one row of a signal."""
    return with_rows(with_rows(x, axes), 2)


def as_signal(x: NDArray[Any], axes: int) -> NDArray[Any]:
    """The reverse of `as_image`, of what a window along so many axes gives."""
    return x[:, 0] if axes == 1 else x


def two_axes(operation: Operation) -> dict[str, Any]:
    """The window of an operation, as two axes have it where it is one along one axis."""
    keys = ("kernel_size", "stride", "padding", "dilation")
    window = {key: list(operation[key]) for key in keys if key in operation}
    for key, numbers in window.items():
        if key == "padding":
            window[key] = [0, numbers[0], 0, numbers[1]] if len(numbers) == 2 else numbers
        else:
            window[key] = [1, *numbers] if len(numbers) == 1 else numbers
    return window


def output_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """floor((size + before + after − dilation·(kernel − 1) − 1) / stride) + 1, of one axis."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def windows(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    fill: float = 0,
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (i, j, pixels) for each tap of a kernel: what that tap sees at every position of the output.

    Args:
        x: [B, H, W, C].
        fill: what the borders hold.

    Yields:
        tap row, tap column and pixels, [B, Ho, Wo, C].
    """
    top, left, bottom, right = padding
    height = output_size(x.shape[1], kernel_size[0], stride[0], top, bottom, dilation[0])
    width = output_size(x.shape[2], kernel_size[1], stride[1], left, right, dilation[1])
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            y, x0 = i * dilation[0], j * dilation[1]
            rows = slice(y, y + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(x0, x0 + (width - 1) * stride[1] + 1, stride[1])
            yield i, j, padded[:, rows, columns]


# Convolutions


def _product(pixels: NDArray[Any], weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Σ_c weight[n, c]·pixels[…, c] within each group: [B, H, W, C] and [N, C/groups] give [B, H, W, N]."""
    grouped_pixels = pixels.reshape(*pixels.shape[:3], groups, weight.shape[1])
    grouped_weight = weight.reshape(groups, len(weight) // groups, weight.shape[1])
    product: NDArray[Any] = np.einsum("bhwgc,gnc->bhwgn", grouped_pixels, grouped_weight)
    return product.reshape(*pixels.shape[:3], len(weight))


def conv2d_codes(
    codes: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    sign_activations: bool = False,
    zero_point: int = 0,
) -> Integers:
    """D = Σ c·q, or Σ c·(q − zero_point), exactly.

    Args:
        codes: q, [B, H, W, C].
        weight: weight codes c, [N, kernel_h, kernel_w, C/groups].
        sign_activations: codes 0 and 1 mean −1 and +1. Borders contribute 0 all the same.
        zero_point: the code that means 0. Borders contribute 0, whatever it is.

    Returns:
        int64 [B, Ho, Wo, N].
    """
    q = codes.astype(np.int64)
    c = weight.astype(np.int64)
    values = 2 * q - 1 if sign_activations else q - zero_point
    taps = windows(values, c.shape[1:3], stride, padding, dilation)
    d: Integers = reduce(np.add, (_product(pixels, c[:, i, j], groups) for i, j, pixels in taps))
    return d


def conv2d_float(
    x: NDArray[Any],
    weight: NDArray[Any],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Floats:
    """Σ w·x, summed in float64 and rounded once: x [B, H, W, C], weight [N, kernel_h, kernel_w, C/groups]."""
    w = weight.astype(np.float64)
    taps = windows(x.astype(np.float64), w.shape[1:3], stride, padding, dilation)
    total: NDArray[np.float64] = reduce(np.add, (_product(pixels, w[:, i, j], groups) for i, j, pixels in taps))
    return total.astype(np.float32)


# What follows a convolution


def relu(y: Floats) -> Floats:
    """max(y, 0); NaN stays NaN, and −0 stays −0, as in PyTorch."""
    return at_least(y, 0)


def at_least(y: Floats, low: float) -> Floats:
    """low where y < low, else y: unlike np.maximum it says which zero leaves where −0 meets 0."""
    limited: Floats = np.where(y < np.float32(low), np.float32(low), y)
    return limited


def at_most(y: Floats, high: float) -> Floats:
    """high where y > high, else y."""
    limited: Floats = np.where(y > np.float32(high), np.float32(high), y)
    return limited


def fused_multiply_add(x: Floats, multiply: Floats, offset: Floats) -> Floats:
    """x·multiply + offset, rounded to float32 once.

    The product is exact in float64. Their sum may not be: what it lost (Knuth's two-sum) decides its last bit, which is
    odd unless the sum is exact. Such a sum is never taken for one in the middle of two float32 numbers when it is not
    there, so rounding it again gives what rounding once would.
    """
    product = x.astype(np.float64) * multiply
    addend = np.broadcast_to(offset.astype(np.float64), product.shape)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    inexact = (lost != 0) & np.isfinite(total)
    even = total.view(np.int64) % 2 == 0
    odd = np.where(inexact & even, np.nextafter(total, np.copysign(np.inf, lost)), total)
    return odd.astype(np.float32)


def float_stage(
    x: NDArray[Any],
    multiply: Floats | None,
    offset: Floats | None,
    residual: Floats | None = None,
    rectify: bool = False,
    norm: tuple[Floats, Floats] | None = None,
) -> Floats:
    """y = float32(x)·multiply + offset, then norm, then + residual, then max(y, 0); every step rounds to float32.

    Args:
        x: D or float sums, [B, H, W, N].
        multiply, offset: float32 [N], both or neither.
        residual: float32, shape of x.
        norm: norm_multiply and norm_offset, float32 [N]: y·norm_multiply + norm_offset is a single step.
    """
    y = x.astype(np.float32)
    if multiply is not None and offset is not None:
        y = y * multiply
        y = y + offset
    if norm is not None:
        y = fused_multiply_add(y, *norm)
    if residual is not None:
        y = y + residual
    return relu(y) if rectify else y


def apply_thresholds(
    x: NDArray[Any], thresholds: NDArray[Any], descending: NDArray[np.bool_] | None = None
) -> Integers:
    """Codes by comparison: q = number of j with x ≥ thresholds[c, j], or x ≤ thresholds[c, j] where descending[c].

    Args:
        x: D or y, [B, H, W, C]. NaN gives code 0.
        thresholds: [C, n], int32 for D, float32 for y. No x reaches one that is NaN.
        descending: bool [C]; None means ascending everywhere.
    """
    falls = np.zeros(x.shape[-1], np.bool_) if descending is None else descending.astype(np.bool_)
    codes = np.zeros(x.shape, np.int64)
    for threshold in thresholds.T:
        codes += np.where(falls, x <= threshold, x >= threshold)
    return codes


def unit_quantize(y: Floats, bits: int) -> Integers:
    """q = round(n·clip(y, 0, 1)), half to even. NaN gives code 0."""
    position: Floats = np.rint(np.float32(levels(bits)) * np.clip(y, np.float32(0), np.float32(1)))
    return np.where(np.isnan(position), 0, position).astype(np.int64)


# Other layers


def table_entries(codes: Integers, table: NDArray[Any]) -> NDArray[Any]:
    """table[q], or table[c, q] for a table of [C, levels]: codes [B, H, W, C]."""
    entries: NDArray[Any] = table[codes] if table.ndim == 1 else table[np.arange(len(table)), codes]
    return entries


def lookup(codes: Integers, table: NDArray[np.uint8]) -> Integers:
    """`table_entries` of a table of codes."""
    return table_entries(codes, table).astype(np.int64)


def dequantize(codes: Integers, bits: int, sign: bool = False, scale: float | None = None) -> Floats:
    """q/n; with a scale q·scale; with `sign` 2q − 1 in place of q, and nothing to divide by."""
    q: Floats = (2 * codes - 1 if sign else codes).astype(np.float32)
    if scale is not None:
        q = q * np.float32(scale)
    elif not sign:
        q = q / np.float32(levels(bits))
    return q


def max_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
) -> NDArray[Any]:
    """Maximum over windows of codes or floats, [B, H, W, C]. Borders are −inf, or code 0; NaN wins.

    Which zero leaves a window whose maximum is zero, and that holds −0 and 0, is not defined.
    """
    fill = -np.inf if x.dtype == np.float32 else 0
    taps = [pixels for _, _, pixels in windows(x, kernel_size, stride, padding, dilation, fill)]
    largest: NDArray[Any] = np.maximum.reduce(taps)
    return largest


def avg_pool(
    x: NDArray[Any],
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    count_include_pad: bool = True,
    scale: float | None = None,
) -> Floats:
    """Mean over windows: float32(Σ q)·scale / count for codes, Σ x / count for floats.

    Floats are added one after the other, from 0 on, row by row from the top left.

    Args:
        x: codes or float32, [B, H, W, C].
        count_include_pad: True divides by the size of the window, False by the number of its pixels inside the image.
        scale: what one code is worth; of no use to floats.
    """
    total: NDArray[Any] = reduce(np.add, (pixels for _, _, pixels in windows(x, kernel_size, stride, padding)))
    inside = np.ones((1, *x.shape[1:3], 1), np.int64)
    fill = 1 if count_include_pad else 0
    taps = windows(inside, kernel_size, stride, padding, fill=fill)
    count: Integers = reduce(np.add, (pixels for _, _, pixels in taps))
    values: Floats = total.astype(np.float32)
    if scale is not None:
        values = np.multiply(values, np.float32(scale))
    return np.divide(values, count.astype(np.float32))


def global_avg_pool(x: NDArray[Any], scale: float | None = None) -> Floats:
    """`avg_pool` over all rows: [B, *rows, C] gives [B, 1, 1, C]."""
    image = as_one_row(x)
    return avg_pool(image, image.shape[1:3], scale=scale)


def adaptive_avg_pool(x: Floats, output_size: Sequence[int]) -> Floats:
    """Mean over windows that cover an image [B, H, W, C] evenly: [B, *output_size, C].

    Pixel i of h takes the rows ⌊i·H/h⌋ … ⌈(i + 1)·H/h⌉ − 1, and likewise for columns. Values are added one after the
    other, from 0 on, row by row from the top left, and divided by the number of rows, then by that of columns.
    """
    rows, columns = (
        [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        for size, count in zip(x.shape[1:3], output_size, strict=True)
    )
    y = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]), np.float32)
    for i, j in np.ndindex(len(rows), len(columns)):
        for row in rows[i]:
            for column in columns[j]:
                y[:, i, j] += x[:, row, column]
        y[:, i, j] = y[:, i, j] / np.float32(len(rows[i])) / np.float32(len(columns[j]))
    return y


def pad(
    x: NDArray[Any], padding: Sequence[int], mode: str, value: float = 0, channels: Sequence[int] = (0, 0)
) -> NDArray[Any]:
    """Pixels around an image [B, H, W, C], and channels before and after.

    Args:
        mode: "constant" (`value`), "reflect" (the border itself is not repeated), "replicate" or "circular".
    """
    top, left, bottom, right = padding
    width = ((0, 0), (top, bottom), (left, right), (channels[0], channels[1]))
    if mode == "constant":
        return np.pad(x, width, constant_values=value)
    if mode == "reflect":
        return np.pad(x, width, "reflect")
    return np.pad(x, width, "edge" if mode == "replicate" else "wrap")


def flatten(x: NDArray[Any], order: str) -> NDArray[Any]:
    """[B, *rows, C] to [B, 1, 1, F], the features in the order "chw" (PyTorch's: channels first) or "hwc" (last)."""
    ordered = np.moveaxis(x, -1, 1) if order == "chw" else x
    return ordered.reshape(len(x), 1, 1, int(np.prod(x.shape[1:])))


# Activation functions


def leaky_relu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : x·slope, a slope per channel."""
    y: Floats = np.where(x > 0, x, x * slope)
    return y


def _float(digits: str) -> np.float32:
    """The float32 of hexadecimal digits."""
    value: np.float32 = np.float32(float.fromhex(digits))
    return value


def _split_exponential(t: Floats, bias: int = 127, low: Floats | None = None) -> tuple[Floats, Floats]:
    """(scale, tail) of e^t·2^(bias − 127) = scale·(1 + tail), the scale a power of two; what overflows is arbitrary.

    With `low`, small beside t, it is e^(t + low).
    """
    f = np.float32
    shift = _float("0x1.8p23") + f(bias)  # added to a small number, it leaves the nearest integer in the low bits
    shifted = (t if low is None else t + low) * _float("0x1.715476p+0") + shift
    k = shifted - shift
    r = t - k * _float("0x1.62e4p-1") - k * _float("0x1.7f7d1cp-20")
    r = r if low is None else r + low
    p = r * _float("0x1.6d6dbap-10") + _float("0x1.123ac2p-7")
    for coefficient in ("0x1.5554ccp-5", "0x1.555490p-3", "0x1p-1"):
        p = p * r + _float(coefficient)
    scale = (shifted.view(np.uint32) << np.uint32(23)).view(np.float32)
    return scale, r * r * p + r


def _over_one_plus_exp_of_minus(x: Floats, numerator: Floats) -> Floats:
    """numerator / (1 + e^−x), for x < 0 with 2^−32 times the denominator, so that it is finite."""
    f = np.float32
    negative = x < 0
    factor = np.where(negative, f(2.0**-32), f(1))
    t = -x
    below, above = _split_exponential(t, 127), _split_exponential(t, 127 - 32)
    scale, tail = (np.where(negative, large, small) for small, large in zip(below, above, strict=True))
    power = scale + scale * tail
    power = np.where(t > 110, f(np.inf), power)
    power = np.where(t < -87, f(0), power)
    y: Floats = numerator / (factor + power) * factor
    return y


def elu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : slope·(e^x − 1), a slope per channel."""
    f = np.float32
    t = np.where(x < -40, f(-40), x)
    t = np.where(t > 0, f(0), t)
    scale, tail = _split_exponential(t)
    y: Floats = np.where(x > 0, x, ((scale - f(1)) + scale * tail) * slope)
    return y


def hardsigmoid(x: Floats) -> Floats:
    """clip(x + 3, 0, 6) / 6; NaN stays NaN."""
    y: Floats = np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
    return y


def hardswish(x: Floats) -> Floats:
    """x·clip(x + 3, 0, 6) / 6, multiplied first."""
    y: Floats = x * np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
    return y


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^−x)."""
    return _over_one_plus_exp_of_minus(x, np.ones_like(x))


def tanh(x: Floats) -> Floats:
    """tanh(x): 1 − 2/(e^2|x| + 1) from 0.625 on, an odd polynomial below, and the sign of x."""
    f = np.float32
    a = np.abs(x)
    t = np.where(a + a > 20, f(20), a + a)
    scale, tail = _split_exponential(t)
    far = f(1) - f(2) / (scale + scale * tail + f(1))
    square = a * a
    p = square * _float("-0x1.768fbep-8") + _float("0x1.52503ap-6")
    for coefficient in ("-0x1.b84338p-5", "0x1.110760p-3", "-0x1.555534p-2"):
        p = p * square + _float(coefficient)
    y: Floats = np.copysign(np.where(a < f(0.625), a * square * p + a, far), x)
    return y


def silu(x: Floats) -> Floats:
    """x / (1 + e^−x)."""
    return _over_one_plus_exp_of_minus(x, x)


def _upper_half(x: Floats) -> Floats:
    """x without the lower half of its digits: its square is exact."""
    half: Floats = (x.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    return half


def _polynomial(x: Floats, *coefficients: str) -> Floats:
    """By Horner, the highest power first, each step rounded."""
    p = x * _float(coefficients[0]) + _float(coefficients[1])
    for coefficient in coefficients[2:]:
        p = p * x + _float(coefficient)
    return p


def _gelu_far(a: Floats) -> Floats:
    """a·(1 − Φ(a)) = e^(−a²/2)·(1 − s(a))/√2π, s = n/d."""
    scale, high = _float("0x1.988454p-2"), _upper_half(a)
    power, tail = _split_exponential(
        high * high * _float("-0x1p-1"), 127 + 32, (a - high) * (a + high) * _float("-0x1p-1")
    )
    n = _polynomial(a, "0x1.95c664p-6", "0x1.6230f8p-3", "0x1.31fbb6p-1", "0x1.000cf8p+0")
    d = _polynomial(a, "0x1.95cddap-6", "0x1.61f7b8p-3", "0x1.594074p-1", "0x1.7d9708p+0", "0x1.da2a14p+0", "0x1p+0")
    s = n / d
    w = tail - (s + s * tail)
    return (w * scale + scale) * power * _float("0x1p-32")


def gelu(x: Floats) -> Floats:
    """x·Φ(x) = max(x, 0) − h(|x|), h(a) = a·(1 − Φ(a)): in three parts, to 0.5, to 0.885 and beyond."""
    f = np.float32
    a = np.where(np.abs(x) > f(14.5), f(14.5), np.abs(x))  # from there on h is 0
    square = a * a
    p = _polynomial(square, "-0x1.264caap-10", "0x1.4667d2p-7", "-0x1.105744p-4", "0x1.988452p-2")
    near = a * f(0.5) - square * p
    middle = _polynomial(
        a - _float("0x1.7ep-1"),
        *("0x1.524506p-10", "-0x1.7686d6p-6", "0x1.5710d6p-8", "0x1.08d7e0p-3"),
        *("-0x1.be6120p-3", "0x1.43e624p-9", "0x1.5c162ep-3"),
    )
    h = np.where(a < f(0.885), np.where(a < f(0.5), near, middle), _gelu_far(a))
    y: Floats = np.where(x > 0, x, x * f(0)) - h
    return y


def gelu_tanh(x: Floats) -> Floats:
    """x·(1 + tanh(z/2))/2 = x/(1 + e^−z), z = √(8/π)·(x + 0.044715·x³), in two parts, so that e^z is as exact as x."""
    f, one, three = np.float32, _float("0x1.98846p+0"), _float("0x1.244p-4")
    a = np.where(np.abs(x) > f(11), f(11), np.abs(x))
    high = _upper_half(a)
    rest = a - high
    square, square_low = high * high, rest * (a + high)
    square_high = (square.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    product = square_high * three
    factor = product + one
    low = (square + square_low) * _float("0x1.3ca936p-18") + (square_low * three + _float("-0x1.985794p-21"))
    factor_low = (product - (factor - one)) + (square - square_high) * three + low
    factor_high = _upper_half(factor)
    z = high * factor_high
    z_low = high * (factor - factor_high) + (rest * factor + a * factor_low)
    negative = x < 0
    t, t_low = (np.where(negative, part, -part) for part in (z, z_low))
    below, above = _split_exponential(t, 127, t_low), _split_exponential(t, 127 - 32, t_low)
    scale, tail = (np.where(negative, large, small) for small, large in zip(below, above, strict=True))
    power = scale + scale * tail
    power = np.where(a > np.where(negative, f(10.85), f(9.5)), np.where(negative, f(np.inf), f(0)), power)
    factor = np.where(negative, f(2.0**-32), f(1))
    y: Floats = x / (factor + power) * factor
    return y


def softmax(x: Floats, log: bool = False) -> Floats:
    """e^x / Σ e^x over the channels of each pixel, or its natural logarithm."""
    shifted = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    y: Floats = (shifted - np.log(total) if log else np.exp(shifted) / total).astype(np.float32)
    return y


# Programs


@dataclass(frozen=True)
class Tensor:
    """A tensor of a program: [B, *rows, C] float32, or int64 for codes (which have bits) and for int32 tensors."""

    values: NDArray[Any]
    bits: int | None = None

    @property
    def code_scale(self) -> float | None:
        """What one code is worth unless told otherwise: 1/n, None for floats."""
        return None if self.bits is None else 1 / levels(self.bits)


Tensors: TypeAlias = Mapping[str, Tensor]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Apply: TypeAlias = Callable[[Operation, Tensors, Arrays], dict[str, Tensor]]


def read_input(operation: Operation, array: NDArray[Any]) -> Tensor:
    """Turn the array given for an input into a tensor.

    Raises:
        ValueError: another shape or dtype than the operation says, or codes above 2^bits − 1.
    """
    shape, name = operation["shape"], operation["output"]
    nhwc = len(shape) > 1 and operation["order"] == "nhwc"
    expected = [*shape[1:], shape[0]] if nhwc else list(shape)
    outside = list(operation.get("array_shape", expected))
    if list(array.shape[1:]) != outside or array.ndim == 0:
        wanted = ", ".join(map(str, ["batch", *outside]))
        raise ValueError(f"input {name!r} must be of shape [{wanted}], got {list(array.shape)}")
    array = array.reshape(len(array), *expected)
    if array.dtype != operation["dtype"]:
        raise ValueError(f"input {name!r} must be of dtype {operation['dtype']}, got {array.dtype}")
    if len(shape) == 1:
        array = array[:, np.newaxis, np.newaxis, :]
    elif not nhwc:
        array = np.moveaxis(array, 1, -1)
    if operation["dtype"] == "float32":
        return Tensor(array)
    bits = operation["bits"]
    if array.size > 0 and array.max() > levels(bits):
        raise ValueError(f"input {name!r} holds the code {array.max()}; {bits}-bit codes go up to {levels(bits)}")
    return Tensor(array.astype(np.int64), bits)


def _codes(operation: Operation, arrays: Arrays, y: Floats | None, d: Integers | None) -> Tensor:
    """The tensor of codes that an operation leaves: by thresholds of D or of y, or the unit quantizer of y."""
    bits = operation["bits"]
    if "thresholds" not in operation:
        assert y is not None
        return Tensor(unit_quantize(y, bits), bits)
    thresholds = arrays[operation["thresholds"]]
    descending = arrays[operation["descending"]] if "descending" in operation else None
    x = d if thresholds.dtype == np.int32 else y
    assert x is not None
    return Tensor(apply_thresholds(x, thresholds, descending), bits)


def apply_float_stage(operation: Operation, tensors: Tensors, arrays: Arrays, x: NDArray[Any]) -> Floats:
    """Return the `float_stage` of D or float sums that an operation describes, float32 [B, H, W, N]."""
    multiply, offset = (arrays[operation[key]] if key in operation else None for key in ("multiply", "offset"))
    residual = tensors[operation["residual"]].values.reshape(x.shape) if "residual" in operation else None
    norm = None
    if "norm_multiply" in operation:
        norm = arrays[operation["norm_multiply"]], arrays[operation["norm_offset"]]
    return float_stage(x, multiply, offset, residual, operation.get("relu", False), norm)


def _convolve(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """conv2d, linear, conv2d_float and linear_float; a linear layer is a 1×1 convolution of all rows."""
    given = tensors[operation["input"]].values
    axes = len(operation.get("kernel_size", ()))
    x = as_image(given, axes) if axes > 0 else as_one_row(given)
    geometry = two_axes(operation)
    kernel = tuple(geometry.pop("kernel_size", (1, 1)))
    groups = operation.get("groups", 1)
    geometry |= {"groups": groups}
    weight = arrays[operation["weight"]]
    d: Integers | None = None
    y: Floats | None = None
    if operation["op"] in ("conv2d", "linear"):
        shape, grid = (*kernel, x.shape[3] // groups), operation.get("weight_grid", "odd")
        codes = unpack_weights(weight, operation["weight_bits"], shape, grid)
        meaning = {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}
        d = conv2d_codes(x, codes, **meaning, **geometry)
    else:
        y = conv2d_float(x, weight.reshape(len(weight), *kernel, x.shape[3] // groups), **geometry)
    sums: NDArray[Any] = d if d is not None else y  # type: ignore[assignment]  # one of them is there
    sums = as_signal(sums, axes) if axes > 0 else sums.reshape(*given.shape[:-1], sums.shape[-1])
    d, y = (sums, None) if d is not None else (None, sums)
    if y is not None or "multiply" in operation:
        y = apply_float_stage(operation, tensors, arrays, sums)
    return _leaving(operation, arrays, y, d)


def _leaving(operation: Operation, arrays: Arrays, y: Floats | None, d: Integers | None = None) -> dict[str, Tensor]:
    """The tensors that leave an operation, by name."""
    outputs = {}
    if "int32" in operation:
        assert d is not None
        outputs[operation["int32"]] = Tensor(d)
    if "float32" in operation:
        assert y is not None
        outputs[operation["float32"]] = Tensor(y)
    if "codes" in operation:
        outputs[operation["codes"]] = _codes(operation, arrays, y, d)
    return outputs


def _add(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    a, b = (tensors[name].values for name in operation["inputs"])
    total: Floats = a + b.reshape(a.shape)
    return _leaving(operation, arrays, relu(total) if operation.get("relu", False) else total)


def _affine(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """y = x / divide, the float stage of it, clamped; NaN stays NaN."""
    y = tensors[operation["input"]].values
    if "divide" in operation:
        y = y / arrays[operation["divide"]]
    y = apply_float_stage(operation, tensors, arrays, y)
    if "low" in operation:
        y = at_least(y, operation["low"])
    if "high" in operation:
        y = at_most(y, operation["high"])
    return _leaving(operation, arrays, y)


def _mul(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    a, b = (tensors[name].values for name in operation["inputs"])
    return {operation["output"]: Tensor((a * with_rows(b, a.ndim - 2)).reshape(a.shape))}


def _concat(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    parts = [tensors[name] for name in operation["inputs"]]
    values = concat([part.values for part in parts], operation.get("axis", 0))
    return {operation["output"]: Tensor(values, parts[0].bits)}


def _quantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return _codes(operation, arrays, x.values, None)


def _dequantize(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    if "table" in operation:
        return Tensor(table_entries(x.values, arrays[operation["table"]]))
    assert x.bits is not None
    return Tensor(dequantize(x.values, x.bits, operation.get("sign", False), operation.get("scale")))


def _lookup(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(lookup(x.values, arrays[operation["table"]]), operation["bits"])


_FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "hardswish": hardswish,
    "hardsigmoid": hardsigmoid,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


def _activation(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    function = operation["function"]
    with_slopes = {"leaky_relu": leaky_relu, "elu": elu}
    if function in with_slopes:
        return Tensor(with_slopes[function](x.values, arrays[operation["slope"]]))
    return Tensor(_FUNCTIONS[function](x.values))


def _softmax(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(softmax(x.values, operation.get("log", False)))


def _max_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    axes = len(operation["kernel_size"])
    return Tensor(as_signal(max_pool(as_image(x.values, axes), **two_axes(operation)), axes), x.bits)


def _avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    scale, count_padding = operation.get("scale", x.code_scale), operation["count_include_pad"]
    axes = len(operation["kernel_size"])
    image, window = as_image(x.values, axes), two_axes(operation)
    return Tensor(as_signal(avg_pool(image, **window, count_include_pad=count_padding, scale=scale), axes))


def _global_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(global_avg_pool(x.values, operation.get("scale", x.code_scale)))


def _adaptive_avg_pool(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    size = operation["output_size"]
    means = adaptive_avg_pool(as_image(x.values, len(size)), size if len(size) == 2 else [1, *size])
    return Tensor(as_signal(means, len(size)))


def _flatten(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(flatten(x.values, operation["order"]), x.bits)


def _select(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(x.values[..., arrays[operation["channels"]]], x.bits)


def _take(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(take(x.values, operation["axis"], arrays[operation["indices"]]), x.bits)


def _reshape(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(reshape(x.values, operation["shape"]), x.bits)


def _permute(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    return Tensor(permute(x.values, operation["axes"]), x.bits)


def _pad(operation: Operation, x: Tensor, arrays: Arrays) -> Tensor:
    keys = {key: operation[key] for key in ("value", "channels") if key in operation}
    padding = operation["padding"]
    if not any(padding):  # of any number of row axes
        padded = pad(as_one_row(x.values), (0, 0, 0, 0), operation["mode"], **keys)
        return Tensor(padded.reshape(*x.values.shape[:-1], padded.shape[-1]), x.bits)
    axes = len(padding) // 2
    around = padding if axes == 2 else [0, padding[0], 0, padding[1]]
    return Tensor(as_signal(pad(as_image(x.values, axes), around, operation["mode"], **keys), axes), x.bits)


def _one(compute: Callable[[Operation, Tensor, Arrays], Tensor]) -> Apply:
    """An operation that makes its "output" of its "input"."""

    def apply_one(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
        return {operation["output"]: compute(operation, tensors[operation["input"]], arrays)}

    return apply_one


#: How each operation is applied; "input" and "output" are what `run` begins and ends with.
APPLY: Mapping[str, Apply] = MappingProxyType(
    {
        **dict.fromkeys(("conv2d", "linear", "conv2d_float", "linear_float"), _convolve),
        "add": _add,
        "affine": _affine,
        "mul": _mul,
        "concat": _concat,
        "quantize": _one(_quantize),
        "dequantize": _one(_dequantize),
        "lookup": _one(_lookup),
        "activation": _one(_activation),
        "softmax": _one(_softmax),
        "max_pool": _one(_max_pool),
        "avg_pool": _one(_avg_pool),
        "global_avg_pool": _one(_global_avg_pool),
        "adaptive_avg_pool": _one(_adaptive_avg_pool),
        "flatten": _one(_flatten),
        "select": _one(_select),
        "pad": _one(_pad),
        "take": _one(_take),
        "reshape": _one(_reshape),
        "permute": _one(_permute),
    }
)


def apply(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
    """Apply one operation, any but "input" and "output".

    Args:
        operation: its description, for example {"op": "flatten", "input": "x", "output": "y", "order": "chw"}.
        tensors: all that are defined so far, by name.
        arrays: the program's arrays, by name.

    Returns:
        the tensors that the operation defines, by name.

    Raises:
        ValueError: there is no such operation.
    """
    if operation["op"] not in APPLY:
        raise ValueError(f"there is no operation {operation['op']!r}")
    with np.errstate(all="ignore"):  # inf and NaN are values like any other
        return APPLY[operation["op"]](operation, tensors, arrays)


def write_output(operation: Operation, tensor: Tensor) -> NDArray[Any]:
    """The array that an output gives: float32, int32, or uint8 for codes.

    Its shape is [B, C, *rows], [B, *rows, C], or [B, F], or what the key "array_shape" makes of it.
    """
    values = tensor.values
    if tensor.bits is not None:
        values = values.astype(np.uint8)
    elif values.dtype == np.int64:
        values = values.astype(np.int32)
    if all(size == 1 for size in values.shape[1:-1]):
        values = values.reshape(len(values), values.shape[-1])
    elif operation["order"] != "nhwc":
        values = np.moveaxis(values, -1, 1)
    return values.reshape(len(values), *operation.get("array_shape", values.shape[1:]))


def run(
    operations: Sequence[Operation],
    arrays: Mapping[str, NDArray[Any]],
    *inputs: NDArray[Any],
    **named: NDArray[Any],
) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Run a whole program.

    Args:
        operations, arrays: as `bitorch_runtime.Program` takes them. Taken to be valid: it is Program that checks.
        inputs, named: one array per "input" operation, in their order or by tensor name.

    Returns:
        the output's array; for several outputs a dict of arrays by tensor name.

    Raises:
        ValueError: an unknown operation, an input array that does not fit, or inputs of different batches.
        TypeError: too many or too few inputs.
    """
    names = [operation["output"] for operation in operations if operation["op"] == "input"]
    given = dict(zip(names, inputs, strict=False)) | named
    if len(inputs) + len(named) != len(names) or given.keys() != set(names):
        raise TypeError(
            f"the program takes the inputs {names}, got {len(inputs)} by position and {list(named)} by name"
        )
    tensors = {
        operation["output"]: read_input(operation, given[operation["output"]])
        for operation in operations
        if operation["op"] == "input"
    }
    batches = {name: len(tensor.values) for name, tensor in tensors.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(f"the inputs have different batches: {batches}")
    outputs: dict[str, NDArray[Any]] = {}
    for operation in operations:
        if operation["op"] == "input":
            continue
        if operation["op"] == "output":
            outputs[operation["input"]] = write_output(operation, tensors[operation["input"]])
        else:
            tensors |= apply(operation, tensors, arrays)
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs
