"""Steps of training on integers behind a BatchNorm: y becomes codes in one pass, and their gradient that of y.

Between two low-bit layers stand a BatchNorm of the batch's statistics, a max-pooling over windows of 2×2 if you like,
and a quantizer of 0 … 1, often behind a ReLU. What a step keeps of them is y, the codes and a bit for each. Layouts,
threads and kernels are those of `bitorch_runtime.training`; so is what follows the codes. Numbers are defined to the
bit:

- `moments`: mean and biased variance of each channel. Runs of 128 pixels are summed as floats, in two passes; runs are
  added as doubles.
- `affine`: with doubles r = 1/√(variance + eps), scale = fl(gamma·r), shift = fl(beta − mean·scale).
- `conv2d`: v = fma(y, scale, shift), then the largest of each window, then codes round(clip(v, 0, 1)·(2^bits − 1)),
  half to even. A gradient passes where 0 ≤ v ≤ 1, and with `positive` where 0 < v ≤ 1. A NaN is a code of 0, through
  which none passes.
- `backward`: with m = fl(mean), the sums S = Σ g and P = Σ g·(y − m), of windows with the y that won: 128 pixels of a
  sample, or one row of windows, as floats, the latter by fma, then doubles, samples in order. With doubles
  P' = P − (mean − m)·S, M pixels of y and k = gamma·r:
  dgamma = fl(r·P'), dbeta = fl(S), dy = fma(fl(k), g, fma(fl(−k·r²·P'/M), y − m, fl(−k·S/M + k·r²·P'/M·(mean − m)))).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import check_array, check_bits, check_bool, check_pair
from bitorch_runtime.training import Codes, Floats, check_kernel, check_out, check_threads, of_shape
from bitorch_runtime.training_geometry import check_weight, conv_geometry, saved_bytes

Doubles = NDArray[np.float64]


class Affine(NamedTuple):
    """What normalizes: y·scale + shift of each channel, float32 [C]; and r = 1/√(variance + eps), float64 [C]."""

    scale: Floats
    shift: Floats
    inverse: Doubles


class NormForward(NamedTuple):
    """What a layer behind a BatchNorm gives.

    Attributes:
        y: the layer's sums, scaled.
        saved: what `training.conv2d_backward` needs, of x of the pooled shape, with clips=True; None without `save`.
        winners: uint8 [N, H // 2, W // 2, C], which of each window is the largest; None without `save` or `pool`.
    """

    y: Floats
    saved: NDArray[np.uint8] | None
    winners: NDArray[np.uint8] | None


class NormGradients(NamedTuple):
    """Gradients of y, of gamma and of beta."""

    y: Floats
    gamma: Floats
    beta: Floats


def moments(y: Floats, *, threads: int | None = None, kernel: str | None = None) -> tuple[Doubles, Doubles]:
    """Return mean and biased variance of each channel, float64 [C], of y, float32 [N, …, C].

    Raises:
        TypeError, ValueError: no such array, or one without pixels or channels.
    """
    shape = check_array("y", y, ["float32"]).shape
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"y: the shape is {shape}, but must be [N, …, C] with numbers in it")
    return _native.training_moments(check_kernel(kernel), y, shape[-1], check_threads(threads))


def affine(mean: Doubles, variance: Doubles, gamma: Floats | None, beta: Floats | None, eps: float) -> Affine:
    """Return what normalizes by these statistics, float64 [C]; gamma and beta, float32 [C], are 1 and 0 where None."""
    inverse = 1 / np.sqrt(variance + eps)
    scale = (inverse if gamma is None else gamma * inverse).astype(np.float32)
    shift = (0 if beta is None else beta) - mean * scale
    return Affine(scale, shift.astype(np.float32), inverse)


def pooled(shape: tuple[int, ...], pool: bool) -> tuple[int, int, int, int]:
    """Return the shape of what the layer gets of y [N, H, W, C].

    Raises:
        ValueError: another number of axes, no pixels, or none that are pooled.
    """
    if len(shape) != 4 or 0 in shape[1:]:
        raise ValueError(f"y: the shape is {shape}, but must be [N, H, W, C] with pixels and channels")
    if pool and min(shape[1:3]) < 2:
        raise ValueError(f"y: {shape[1]}×{shape[2]} pixels have no window of 2×2")
    by = 2 if pool else 1
    return shape[0], shape[1] // by, shape[2] // by, shape[3]


def conv2d(
    y: Floats,
    norm: Affine,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    bits: int,
    positive: bool,
    pool: bool = False,
    bias: Floats | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    save: bool = True,
    out: tuple[Floats | None, NDArray[np.uint8] | None, NDArray[np.uint8] | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> NormForward:
    """Normalize y, pool, quantize, and convolve the codes with those of the weight.

    Args:
        y: float32 [N, H, W, C], what the BatchNorm gets.
        norm: what `affine` returned.
        positive: whether a ReLU stands before the quantizer, so that no gradient passes at 0.
        pool: whether a max-pooling over windows of 2×2, two apart, stands between; odd last rows and columns have none.
        out: memory for y, saved and winners, as `training.conv2d` says of the first two.
        weight, scale_x, scale_w, bits, bias, stride, padding, save, threads, kernel: as `training.conv2d`.

    Raises:
        TypeError, ValueError: what does not fit, with the rule; sums that could leave int32.
    """
    shape = pooled(check_array("y", y, ["float32"]).shape, check_bool("pool", pool))
    geometry = conv_geometry(shape, check_weight(weight, 4), stride, padding)
    outputs, channels = geometry.weight[0], shape[3]
    _check_numbers(norm, channels, {"scale_w": scale_w, "bias": bias}, outputs)
    keeps = check_bool("save", save)
    size = saved_bytes(shape, geometry.weight, check_pair("stride", stride, 1), check_pair("padding", padding, 0))
    memory = check_out(
        out, [(True, "float32", geometry.y), (keeps, "uint8", (size,)), (keeps and pool, "uint8", shape)]
    )
    result, saved, winners = _native.training_norm_forward(
        check_kernel(kernel),
        geometry.is_linear,
        geometry.numbers,
        list(y.shape),
        pool,
        check_bool("positive", positive),
        y,
        norm.scale,
        norm.shift,
        check_bits("bits", bits),
        weight,
        np.atleast_1d(np.float32(scale_x) * np.asarray(scale_w, np.float32)),
        bias,
        keeps,
        memory,
        check_threads(threads),
    )
    return NormForward(of_shape(result, geometry.y), saved, winners)


def _check_numbers(norm: Affine, channels: int, of_outputs: Mapping[str, object], outputs: int) -> None:
    """Check what there is one number of for each channel, where it is an array."""
    for name in ("scale", "shift"):
        check_array(f"norm.{name}", getattr(norm, name), ["float32"], (channels,))
    for name, numbers in of_outputs.items():
        if numbers is not None and not np.isscalar(numbers):
            check_array(name, numbers, ["float32"], (outputs,))


def backward(
    g: Floats,
    y: Floats,
    winners: NDArray[np.uint8] | None,
    mean: Doubles,
    norm: Affine,
    gamma: Floats | None,
    *,
    out: tuple[Floats | None, Floats | None, Floats | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> NormGradients:
    """Return the gradients of a BatchNorm by the batch's statistics, and of the pooling behind it.

    Args:
        g: float32 [N, OH, OW, C], what `training.conv2d_backward` returned for x: 0 where no gradient passes.
        y: float32 [N, H, W, C].
        winners: what `conv2d` returned; None without pooling.
        mean, norm, gamma: what `affine` took and returned.
        out: memory for the gradients of y, gamma and beta. Without pooling, that of y may be g itself.
        threads, kernel: as `training.conv2d`.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    pool = winners is not None
    shape = pooled(check_array("y", y, ["float32"]).shape, pool)
    check_array("g", g, ["float32"], shape)
    if winners is not None:
        check_array("winners", winners, ["uint8"], shape)
    of_channels = (shape[3],)
    check_array("mean", mean, ["float64"], of_channels)
    check_array("norm.inverse", norm.inverse, ["float64"], of_channels)
    if gamma is not None:
        check_array("gamma", gamma, ["float32"], of_channels)
    memory = check_out(
        out, [(True, "float32", y.shape), (True, "float32", of_channels), (True, "float32", of_channels)]
    )
    results = _native.training_norm_backward(
        check_kernel(kernel),
        list(y.shape),
        pool,
        g,
        y,
        winners,
        mean,
        norm.inverse,
        gamma,
        memory,
        check_threads(threads),
    )
    return NormGradients(*results)
