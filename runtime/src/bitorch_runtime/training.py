"""Steps of training on integers: a low-bit convolution or linear layer forward, and backward from a few-bit gradient.

Arrays are NumPy's, C-contiguous, pixels before channels: x [N, H, W, C], weight codes [O, KH, KW, C], y
[N, OH, OW, O]. (A channels_last tensor of PyTorch, permuted to (0, 2, 3, 1), is one of these without a copy.) The
numbers are defined to the bit, and depend neither on the kernels nor on the number of threads. fl rounds to float32,
and every sum D is of integers:

- forward: q = round(clip(x, 0, 1)·(2^bits − 1)), half to even; y = fl(fl(D)·fl(scale_x·scale_w)), D = Σ q·c; then
  + bias.
- the gradient: per sample, m = max|g| (0 where it is below 2^-120), n = 2^gradient_bits − 1,
  i = floor(fl(fl(g·fl(n/(2m))) + d·2^-16)), clamped to −(n+1)/2 … (n−1)/2; its code is 2i + 1, its value (2i + 1)·s,
  s = fl(m/n). d is the noise of `noise`.
- of x: fl(fl(D)·fl(s·scale_w)), D = Σ code·c; 0 where x is not within 0 … 1, if the quantizer clips gradients.
- of the weight's values: fl(scale_x·A), A = fma(fl(D_s), s, A) over the samples in their order, D_s = Σ code·q. Where y
  has one pixel that all of x is below, and so in linear layers: A = fma(q, fl(code·s), A).
- of the bias: A = fma(fl(D_s), s, A), D_s = Σ code.

A sample with a NaN or an infinity in its gradient has s = NaN, and so has what depends on it. Codes cannot hold a NaN
of x: forward returns None, and the caller computes this call in floats.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import check_array, check_bits, check_bool, check_choice, check_integer, check_pair

Floats = NDArray[np.float32]
Codes = NDArray[np.int8] | NDArray[np.int16]
PORTABLE = "portable"
#: Instructions of the fast kernels.
NEEDED = ("avx2", "fma", "popcnt", "bmi", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")
#: Two numbers of 32 bits, with a sign or without.
Key = tuple[int, int]


class Forward(NamedTuple):
    """What a layer gives: y, and what its backward needs of x, in a layout of the functions' own."""

    y: Floats
    saved: NDArray[np.uint8] | None


class Gradients(NamedTuple):
    """Gradients of x, of the weight's values (codes times scale) and of the bias; None where not asked for."""

    x: Floats | None
    weight: Floats | None
    bias: Floats | None


def kernels() -> tuple[str, ...]:
    """Return the names of the kernels that this CPU can run, slowest first.

    "portable" is for checking: it is far slower than floats. "avx512" needs AVX-512 with VNNI; "avx512-vpopcntdq" is
    the same with forwards on planes of bits, where few bits make them faster: see `forward_method`.
    """
    return tuple(_native.training_kernels())


def kernel() -> str:
    """Return the name of the kernels that run by default: the fastest that ``BITORCH_KERNEL`` allows."""
    return _native.training_kernel("")


def obstacles() -> tuple[str, ...]:
    """Return what keeps training from running on fast kernels here, a sentence each; () where nothing does."""
    if kernel() != PORTABLE:
        return ()
    if len(kernels()) > 1:
        return (f"BITORCH_KERNEL={os.environ.get('BITORCH_KERNEL')} leaves only portable kernels for training",)
    flags = _native.cpu_flags()
    lacking = [flag for flag in NEEDED if flag not in flags]
    return (f"training on integers needs AVX-512 with VNNI; this CPU lacks {', '.join(lacking)}",)


def set_executor(address: int | None) -> None:
    """Compute on the threads of another library from now on, as two pools at work wait for each other.

    Args:
        address: of libgomp's `GOMP_parallel`, or a function like it: `void (void (*body)(void *), void *context,
            unsigned threads, unsigned flags)` calls the body on that many threads at once and returns when all are
            done. It is called as it is: a wrong address ends the process. None: the runtime's own threads.

    Raises:
        TypeError, ValueError: no address.
    """
    _native.training_executor(0 if address is None else check_integer("address", address, 1, 2**64 - 1))


def noise(samples: int, numbers: int, key: Key) -> NDArray[np.int16]:
    """Return the noise d of a gradient, int16 [samples, numbers], odd, in units of 2^-16 of a step.

    Word w is a hash of w and the key. Of the blocks of 32 numbers that a sample is cut into, the first 16 numbers take
    the low halves of 16 words, the others the high halves; numbers are counted in the order rows, columns, channels.
    This is plain NumPy, for checking: the kernels compute the same as they go.

    Raises:
        TypeError, ValueError: no two numbers of 32 bits; sizes that are negative.
    """
    first, second = check_key(key)
    blocks = -(-check_integer("numbers", numbers, 0, 2**40) // 32)
    words = np.arange(check_integer("samples", samples, 0, 2**40) * blocks * 16).astype(np.uint32)
    words ^= np.uint32(first)
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x7FEB352D)
    words = words ^ np.uint32(second) ^ words >> np.uint32(15)
    words *= np.uint32(0x846CA68B)
    words ^= words >> np.uint32(16)
    words |= np.uint32(0x00010001)
    halves = np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)]).astype(np.uint16).view(np.int16)
    blocked = halves.reshape(2, samples * blocks, 16).swapaxes(0, 1).reshape(samples, blocks * 32)
    drawn: NDArray[np.int16] = blocked[:, :numbers]
    return drawn


def gradient_codes(
    g: Floats, bits: int, key: Key | None, *, threads: int | None = None, kernel: str | None = None
) -> tuple[NDArray[np.int8], Floats]:
    """Quantize the gradient of each sample.

    Args:
        g: float32 [N, …].
        bits: 1 … 8.
        key: of the noise; None: no noise, i = round(fl(fl(g·fl(n/(2m))) + n/2)) − (n+1)/2, half to even.
        threads: 1 … 256; None as many as `get_num_threads` says.
        kernel: one of `kernels()`; None the fastest.

    Returns:
        i, int8 of g's shape, and s, float32 [N]: the values are (2i + 1)·s. Where s is NaN, i is 0.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    check_array("g", g, ["float32"])
    if g.ndim == 0:
        raise ValueError("g: it has no axis; the first must be the batch")
    return _native.training_codes(
        check_kernel(kernel), g, check_bits("bits", bits), check_optional_key(key), check_threads(threads)
    )


def forward_method(
    x_shape: Sequence[int],
    weight: Codes,
    *,
    bits: int,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    kernel: str | None = None,
) -> str:
    """Return how a forward multiplies: "bytes", or "popcount" on planes of bits; the numbers are the same.

    Planes need odd weight codes and kernels that have them, and pay with few bits and enough channels.

    Args:
        x_shape: [N, H, W, C] with a weight of four axes, as `conv2d` takes it; [N, …, C] with one of two, as `linear`.
        weight: the codes; their values count, not only their shape.
        bits: of the codes of x, 1 … 8.
        stride, padding: of a convolution.
        kernel: one of `kernels()`; None the fastest.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    if np.ndim(weight) == 2:
        geometry = linear_geometry(shape, check_weight(weight, 2))
    else:
        geometry = conv_geometry(shape, check_weight(weight, 4), stride, padding)
    planes = _native.training_forward_planes(
        check_kernel(kernel), geometry.is_linear, geometry.numbers, check_bits("bits", bits), weight
    )
    return "popcount" if planes else "bytes"


def conv2d(
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    bits: int,
    bias: Floats | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    clips: bool = True,
    save: bool = True,
    threads: int | None = None,
    kernel: str | None = None,
) -> Forward | None:
    """Quantize x and convolve its codes with those of the weight.

    Args:
        x: float32 [N, H, W, C].
        weight: codes [O, KH, KW, C]: int8, or int16 for odd codes up to ±255.
        scale_x: the value of one code of x, 1/(2^bits − 1) as a rule.
        scale_w: the value of one code of the weight, or float32 [O], one for each output channel.
        bits: of the codes of x, 1 … 8.
        bias: float32 [O].
        stride, padding: an int, or (vertical, horizontal); padded zeros are codes of 0.
        clips: whether the gradient of x is 0 outside 0 … 1; backward must be told the same.
        save: False where there is no backward.
        threads, kernel: as `gradient_codes`.

    Returns:
        y, float32 [N, OH, OW, O], and what `conv2d_backward` needs; None where x holds a NaN.

    Raises:
        TypeError, ValueError: what does not fit, with the rule; sums that could leave int32.
    """
    geometry = conv_geometry(check_array("x", x, ["float32"]).shape, check_weight(weight, 4), stride, padding)
    return _forward(geometry, x, weight, scale_x, scale_w, bits, bias, clips, save, threads, kernel)


def conv2d_backward(
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float,
    *,
    x_shape: Sequence[int],
    bits: int,
    gradient_bits: int,
    key: Key | None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    clips: bool = True,
    needs: tuple[bool, bool, bool] = (True, True, True),
    threads: int | None = None,
    kernel: str | None = None,
) -> Gradients:
    """Quantize the gradient of y, and compute from its codes what `needs` asks for.

    Args:
        g: float32 [N, OH, OW, O].
        saved: what `conv2d` returned for x of `x_shape`, with the same `weight`, `bits`, `stride`, `padding` and
            `clips`.
        scale_w: one number: the gradient of x is no sum of integers where each output channel has a scale of its own.
            Without a gradient of x it does not matter.
        gradient_bits: 1 … 8.
        key: as `gradient_codes`.
        needs: of x, of the weight's values, of the bias.

    Returns:
        Gradients of float32: [N, H, W, C], [O, KH, KW, C] and [O].

    Raises:
        TypeError, ValueError: as `conv2d`.
    """
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    geometry = conv_geometry(shape, check_weight(weight, 4), stride, padding)
    return _backward(
        geometry, g, saved, weight, scale_x, scale_w, bits, gradient_bits, key, clips, needs, threads, kernel
    )


def linear(
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    bits: int,
    bias: Floats | None = None,
    clips: bool = True,
    save: bool = True,
    threads: int | None = None,
    kernel: str | None = None,
) -> Forward | None:
    """Quantize x [N, …, C] and multiply its codes by those of the weight [O, C]: y [N, …, O].

    The axes between are tokens of one sample. Arguments, results and errors as `conv2d`.
    """
    geometry = linear_geometry(check_array("x", x, ["float32"]).shape, check_weight(weight, 2))
    return _forward(geometry, x, weight, scale_x, scale_w, bits, bias, clips, save, threads, kernel)


def linear_backward(
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float,
    *,
    x_shape: Sequence[int],
    bits: int,
    gradient_bits: int,
    key: Key | None,
    clips: bool = True,
    needs: tuple[bool, bool, bool] = (True, True, True),
    threads: int | None = None,
    kernel: str | None = None,
) -> Gradients:
    """The backward of `linear`; arguments, results and errors as `conv2d_backward`."""
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    geometry = linear_geometry(shape, check_weight(weight, 2))
    return _backward(
        geometry, g, saved, weight, scale_x, scale_w, bits, gradient_bits, key, clips, needs, threads, kernel
    )


class Geometry(NamedTuple):
    """What the functions in C++ take, and the shapes around it."""

    is_linear: bool
    #: Batch; rows, columns, channels of x; output channels; rows, columns of kernel, stride and padding.
    numbers: list[int]
    x: tuple[int, ...]
    y: tuple[int, ...]
    weight: tuple[int, ...]


def conv_geometry(
    x: tuple[int, ...], weight: tuple[int, ...], stride: int | tuple[int, int], padding: int | tuple[int, int]
) -> Geometry:
    """Return the geometry of a convolution; one whose kernel covers x is linear."""
    if len(x) != 4:
        raise ValueError(f"x: the shape is {x}, but must be [N, H, W, C]")
    steps, pads = check_pair("stride", stride, 1), check_pair("padding", padding, 0)
    if weight[3] != x[3]:
        raise ValueError(f"weight: the codes are for {weight[3]} input channels, but x has {x[3]}")
    out = [(x[i] + 2 * pads[i - 1] - weight[i]) // steps[i - 1] + 1 for i in (1, 2)]
    if min(out) < 1:
        raise ValueError(f"weight: a kernel of {weight[1:3]} is larger than x of {x[1:3]} with a padding of {pads}")
    y = (x[0], *out, weight[0])
    if pads == (0, 0) and weight[1:3] == x[1:3]:
        return Geometry(True, one_pixel(x[0], 1, prod(x[1:]), weight[0]), x, y, weight)
    return Geometry(False, [*x, weight[0], *weight[1:3], *steps, *pads], x, y, weight)


def linear_geometry(x: tuple[int, ...], weight: tuple[int, ...]) -> Geometry:
    """Return the geometry of a linear layer; one with tokens is a convolution with a kernel of one pixel."""
    if len(x) < 2:
        raise ValueError(f"x: the shape is {x}, but must be [N, …, C]")
    if weight[1] != x[-1]:
        raise ValueError(f"weight: the codes are for {weight[1]} inputs, but x has {x[-1]}")
    tokens = prod(x[1:-1])
    return Geometry(tokens == 1, one_pixel(x[0], tokens, x[-1], weight[0]), x, (*x[:-1], weight[0]), weight)


def one_pixel(batch: int, tokens: int, channels: int, outputs: int) -> list[int]:
    """Return the numbers of a convolution with a kernel of one pixel."""
    return [batch, 1, tokens, channels, outputs, 1, 1, 1, 1, 0, 0]


def _forward(
    geometry: Geometry,
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    bits: int,
    bias: Floats | None,
    clips: bool,
    save: bool,
    threads: int | None,
    kernel: str | None,
) -> Forward | None:
    outputs = geometry.weight[0]
    if isinstance(scale_w, np.ndarray):
        check_array("scale_w", scale_w, ["float32"], (outputs,))
    scale = np.atleast_1d(np.float32(scale_x) * np.asarray(scale_w, np.float32))
    if bias is not None:
        check_array("bias", bias, ["float32"], (outputs,))
    result = _native.training_forward(
        check_kernel(kernel),
        geometry.is_linear,
        geometry.numbers,
        x,
        check_bits("bits", bits),
        weight,
        scale,
        bias,
        check_bool("save", save),
        check_bool("clips", clips),
        check_threads(threads),
    )
    return None if result is None else Forward(result[0].reshape(geometry.y), result[1])


def _backward(
    geometry: Geometry,
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float,
    bits: int,
    gradient_bits: int,
    key: Key | None,
    clips: bool,
    needs: tuple[bool, bool, bool],
    threads: int | None,
    kernel: str | None,
) -> Gradients:
    check_array("g", g, ["float32"], geometry.y)
    check_array("saved", saved, ["uint8"])
    if len(needs) != 3:
        raise ValueError(f"needs={needs!r}: must be three bools, for x, the weight and the bias")
    if np.ndim(scale_w) != 0:
        raise ValueError(
            f"scale_w: an array of {np.shape(scale_w)}, but must be one number: with a scale for each output channel "
            "the gradient of x is no sum of integers; compute it in floats"
        )
    results = _native.training_backward(
        check_kernel(kernel),
        geometry.is_linear,
        geometry.numbers,
        g,
        check_bits("gradient_bits", gradient_bits),
        check_optional_key(key),
        weight,
        float(scale_w),
        saved,
        check_bool("clips", clips),
        check_bits("bits", bits),
        float(scale_x),
        [check_bool("needs", need) for need in needs],
        check_threads(threads),
    )
    x, of_weight, of_bias = results
    return Gradients(
        None if x is None else x.reshape(geometry.x),
        None if of_weight is None else of_weight.reshape(geometry.weight),
        of_bias,
    )


def check_weight(weight: Codes, axes: int) -> tuple[int, ...]:
    """Return the shape of weight codes of that many axes."""
    shape: tuple[int, ...] = check_array("weight", weight, ["int8", "int16"]).shape
    if len(shape) != axes:
        raise ValueError(f"weight: the shape is {shape}, but must have {axes} axes")
    return shape


def check_key(key: object) -> Key:
    """Return two numbers of 32 bits, without a sign."""
    if not isinstance(key, (tuple, list)) or len(key) != 2:
        raise TypeError(f"key={key!r}: must be two ints, each from -2^31 to 2^32 - 1")
    first, second = (check_integer("key", half, -(2**31), 2**32 - 1) % 2**32 for half in key)
    return first, second


def check_optional_key(key: object) -> list[int] | None:
    """Return the key as C++ takes it, or None for no noise."""
    return None if key is None else list(check_key(key))


def check_threads(threads: int | None) -> int:
    """Return a number of threads; None is as many as programs use."""
    return _native.get_num_threads() if threads is None else check_integer("threads", threads, 1, 256)


def check_kernel(kernel: Any) -> str:
    """Return the name of kernels that run here, or "" for the fastest."""
    return "" if kernel is None else check_choice("kernel", kernel, kernels())
