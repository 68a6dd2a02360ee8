"""Convolutions of floats whose input has few channels, as a net's first layer on images, forward and backward.

Libraries of matrix products fill their vectors with input channels, of which images have three. These kernels fill them
with output channels, as they go over the numbers of a window. Layouts, threads and kernels are those of
`bitorch_runtime.training`. Numbers are defined to the bit, and depend neither on the kernels nor on the threads:

- `conv2d`: y = bias (or 0), then y = fma(x, w, y) over rows, columns and channels of the window, in this order; x is 0
  in the padding.
- `weight_gradient`: for each sample and each row of y, a sum by fma from 0 on, s = fma(x, g, s), over its pixels; rows
  are added as floats, samples as doubles, all in their order. The gradient of the bias is the same with x = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import check_array, check_bool, check_choice, check_pair
from bitorch_runtime.training import check_out, check_threads
from bitorch_runtime.training_geometry import conv_geometry

Floats = NDArray[np.float32]


class WeightGradients(NamedTuple):
    """Gradients of the weight, float32 [KH, KW, C, O], and of the bias, float32 [O], or None."""

    weight: Floats
    bias: Floats | None


def conv2d(
    x: Floats,
    weight: Floats,
    bias: Floats | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    out: Floats | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> Floats:
    """Return y, float32 [N, OH, OW, O].

    Args:
        x: float32 [N, H, W, C].
        weight: float32 [KH, KW, C, O]; note the order of its axes.
        bias: float32 [O], or None for zeros.
        stride, padding: of rows and columns, or one number for both.
        out: memory for y.
        threads: how many at once; None for all of the runtime's.
        kernel: one of `bitorch_runtime.cpu().kernels`; None for those in use.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    shape = check_array("weight", weight, ["float32"]).shape
    geometry, y = _geometry(x, shape, stride, padding)
    if bias is not None:
        check_array("bias", bias, ["float32"], shape[3:])
    memory = None if out is None else check_out((out,), [(True, "float32", y)])[0]
    return _native.few_channels_forward(
        _check_kernel(kernel), geometry, x, weight, bias, memory, check_threads(threads)
    ).reshape(y)


def weight_gradient(
    x: Floats,
    g: Floats,
    kernel_size: int | tuple[int, int],
    *,
    has_bias: bool,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    out: tuple[Floats | None, Floats | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> WeightGradients:
    """Return the gradients of weight and bias.

    Args:
        x: float32 [N, H, W, C], as forward got it.
        g: float32 [N, OH, OW, O], the gradient of y.
        kernel_size: rows and columns of the weight.
        has_bias: whether there is a gradient of a bias.
        out: memory for the gradients of weight and bias.
        stride, padding, threads, kernel: as `conv2d`.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    check_array("x", x, ["float32"])
    channels = check_array("g", g, ["float32"]).shape
    if len(channels) != 4 or x.ndim != 4:
        raise ValueError(
            f"g, x: their shapes are {channels} and {x.shape}, but must be [N, OH, OW, O] and [N, H, W, C]"
        )
    weight = (*check_pair("kernel_size", kernel_size, 1), x.shape[3], channels[3])
    geometry, y = _geometry(x, weight, stride, padding)
    check_array("g", g, ["float32"], y)
    has = check_bool("has_bias", has_bias)
    memory = check_out(out, [(True, "float32", weight), (has, "float32", weight[3:])])
    gradients = _native.few_channels_backward(
        _check_kernel(kernel), geometry, x, g, has, memory, check_threads(threads)
    )
    return WeightGradients(gradients[0].reshape(weight), gradients[1])


def _geometry(
    x: Floats, weight: tuple[int, ...], stride: int | tuple[int, int], padding: int | tuple[int, int]
) -> tuple[list[int], tuple[int, ...]]:
    """Return what the functions in C++ take, and the shape of y."""
    check_array("x", x, ["float32"])
    if len(weight) != 4 or 0 in weight:
        raise ValueError(f"weight: the shape is {weight}, but must be [KH, KW, C, O] with numbers in it")
    geometry = conv_geometry(x.shape, (weight[3], *weight[:3]), stride, padding)
    return geometry.numbers, geometry.y


def _check_kernel(kernel: str | None) -> str:
    return "" if kernel is None else check_choice("kernel", kernel, _native.available_kernels())
