"""Steps of training on integers: a low-bit convolution or linear layer forward, and backward from a few-bit gradient.

Arrays are NumPy's, C-contiguous, pixels before channels: x [N, H, W, C], weight codes [O, KH, KW, C], y
[N, OH, OW, O]. (A channels_last tensor of PyTorch, permuted to (0, 2, 3, 1), is one of these without a copy.) The
numbers are defined to the bit, and depend neither on the kernels nor on the number of threads. fl rounds to float32,
and every sum D is of integers:

- forward: q = round(clip(x, 0, 1)·(2^bits − 1)), half to even, or q = x where x holds codes;
  y = fl(fl(D)·fl(scale_x·scale_w)), D = Σ q·c; then + bias.
- the gradient: per sample, m = max|g| (0 where it is below 2^-120), n = 2^gradient_bits − 1,
  i = floor(fl(fl(g·fl(n/(2m))) + d·2^-16)), clamped to −(n+1)/2 … (n−1)/2; its code is 2i + 1, its value (2i + 1)·s,
  s = fl(m/n). d is the noise of `noise`.
- the gradient on the signed grid, which has a zero: n = 2^(gradient_bits − 1) − 1,
  i = round(fl(fl(g·fl(n/m)) + d·2^-16)), half to even, clamped to −n … n; its code is i, its value i·s, s = fl(m/n).
- of x: fl(fl(D)·fl(s·scale_w)), D = Σ code·c; 0 where x is not within 0 … 1, if the quantizer clips gradients.
- of the weight's values: fl(scale_x·A), A = fma(fl(D_s), s, A) over the samples in their order, D_s = Σ code·q. Where y
  has one pixel that all of x is below, without groups, and so in linear layers: A = fma(q, fl(code·s), A).
- of the bias: A = fma(fl(D_s), s, A), D_s = Σ code.

A sample with a NaN or an infinity in its gradient has s = NaN, and so has what depends on it. Codes cannot hold a NaN
of x: forward takes it for a code of 0 outside 0 … 1, and says so, that the caller may compute this y in floats.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import _native
from bitorch_runtime.arguments import check_array, check_bits, check_bool, check_choice, check_integer
from bitorch_runtime.training_geometry import Geometry, check_weight, conv_geometry, linear_geometry
from bitorch_runtime.training_geometry import saved_bytes as saved_bytes

Floats = NDArray[np.float32]
Codes = NDArray[np.int8] | NDArray[np.int16]
Array = NDArray[Any]
PORTABLE = "portable"
#: Instructions of the fast kernels, at least.
NEEDED = ("avx2", "fma", "popcnt", "bmi", "bmi2")
#: Two numbers of 32 bits, with a sign or without.
Key = tuple[int, int]
#: Of a gradient's levels: odd multiples of half a step, or integers.
Grid = Literal["odd", "signed"]


class Forward(NamedTuple):
    """What a layer gives.

    Attributes:
        y: the sums, scaled.
        saved: what backward needs of x, uint8 [`saved_bytes`], in a layout of the functions' own; None without `save`.
        holds_nan: whether x holds a NaN. Everything is as if its code were 0, and no gradient passed there if the
            quantizer clips gradients; backward may be called as ever.
    """

    y: Floats
    saved: NDArray[np.uint8] | None
    holds_nan: bool


class Gradients(NamedTuple):
    """Gradients of x, of the weight's values (codes times scale) and of the bias; None where not asked for."""

    x: Floats | None
    weight: Floats | None
    bias: Floats | None


def kernels() -> tuple[str, ...]:
    """Return the names of the kernels that this CPU can run, slowest first.

    "portable" is for checking: it is far slower than floats. "avx2" multiplies bytes in 16 bits, the faster the fewer
    bits there are. "avx512" needs AVX-512 with VNNI, and is as fast for all bits; "avx512-vpopcntdq" is the same with
    forwards on planes of bits, where few bits make them faster: see `forward_method`.
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
    return (f"training on integers needs AVX2; this CPU lacks {', '.join(lacking)}",)


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
    g: Floats, bits: int, key: Key | None, *, grid: Grid = "odd", threads: int | None = None, kernel: str | None = None
) -> tuple[NDArray[np.int8], Floats]:
    """Quantize the gradient of each sample.

    Args:
        g: float32 [N, …].
        bits: 1 … 8; 2 … 8 on the signed grid.
        key: of the noise; None: no noise, i = round(fl(fl(g·fl(n/(2m))) + n/2)) − (n+1)/2, half to even, or on the
            signed grid i = round(fl(g·fl(n/m))).
        grid: "odd", DoReFa's levels, none of which is 0; or "signed", integers.
        threads: 1 … 256; None as many as `get_num_threads` says.
        kernel: one of `kernels()`; None the fastest.

    Returns:
        i, int8 of g's shape, and s, float32 [N]: the values are (2i + 1)·s, or i·s on the signed grid. Where s is NaN,
        i is 0.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    check_array("g", g, ["float32"])
    if g.ndim == 0:
        raise ValueError("g: it has no axis; the first must be the batch")
    form = check_gradient("bits", bits, grid, key)
    return _native.training_codes(check_kernel(kernel), g, form.bits, form.has_zero, form.key, check_threads(threads))


def forward_method(
    x_shape: Sequence[int],
    weight: Codes,
    *,
    bits: int,
    low: int | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    kernel: str | None = None,
) -> str:
    """Return how a forward multiplies: "bytes", or "popcount" on planes of bits; the numbers are the same.

    Planes need odd weight codes and kernels that have them, and pay with few bits and enough channels.

    Args:
        x_shape: [N, H, W, C] with a weight of four axes, as `conv2d` takes it; [N, …, C] with one of two, as `linear`.
        weight: the codes; their values count, not only their shape.
        bits, low: of the codes of x, as `conv2d` takes them.
        stride, padding, groups: of a convolution; with groups there are no planes.
        kernel: one of `kernels()`; None the fastest.

    Raises:
        TypeError, ValueError: what does not fit, with the rule.
    """
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    if np.ndim(weight) == 2:
        geometry = linear_geometry(shape, check_weight(weight, 2))
    else:
        geometry = conv_geometry(shape, check_weight(weight, 4), stride, padding, groups)
    form = check_input(bits, low, clips=False)
    planes = _native.training_forward_planes(
        check_kernel(kernel), geometry.is_linear, geometry.numbers, form.bits, form.low, weight
    )
    return "popcount" if planes else "bytes"


def conv2d(
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    bits: int,
    low: int | None = None,
    bias: Floats | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    clips: bool = True,
    save: bool = True,
    out: tuple[Floats | None, NDArray[np.uint8] | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> Forward:
    """Quantize x, unless it holds codes, and convolve its codes with those of the weight.

    Args:
        x: float32 [N, H, W, C]: numbers, or the integers of `low`.
        weight: codes [O, KH, KW, C / groups]: int8, or int16 for odd codes up to ±255.
        scale_x: the value of one code of x, 1/(2^bits − 1) as a rule.
        scale_w: the value of one code of the weight, or float32 [O], one for each output channel.
        bits: of the codes of x, 1 … 8.
        low: None: x is quantized, as above. −255 … 0: x holds codes already, integers low … low + 2^bits − 1; signs ±1
            have low=−1 and bits=2. What is not one of them is taken for the nearest; a quantizer of the caller's has
            to see to the gradient outside its range, and `clips` must be False.
        bias: float32 [O].
        stride, padding: an int, or (vertical, horizontal); padded zeros are codes of 0.
        groups: of channels, as PyTorch has them. Products of few channels are slow: from 16 in a group on, they are
            faster than floats.
        clips: whether the gradient of x is 0 outside 0 … 1; False with `low`. Backward must be told the same.
        save: False where there is no backward.
        out: memory for y, float32 [N, OH, OW, O], and for what is saved, uint8 [`saved_bytes`]: C-contiguous and
            writable arrays, apart from each other and from what is read. What is None is made here.
        threads, kernel: as `gradient_codes`.

    Returns:
        y, float32 [N, OH, OW, O], and what `conv2d_backward` needs: the arrays of `out`, where there are some.

    Raises:
        TypeError, ValueError: what does not fit, with the rule; sums that could leave int32.
    """
    geometry = conv_geometry(check_array("x", x, ["float32"]).shape, check_weight(weight, 4), stride, padding, groups)
    return _forward(
        geometry, x, weight, scale_x, scale_w, check_input(bits, low, clips), bias, save, out, threads, kernel
    )


def conv2d_backward(
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    x_shape: Sequence[int],
    bits: int,
    low: int | None = None,
    gradient_bits: int,
    key: Key | None,
    grid: Grid = "odd",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    clips: bool = True,
    needs: tuple[bool, bool, bool] = (True, True, True),
    out: tuple[Floats | None, Floats | None, Floats | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> Gradients:
    """Quantize the gradient of y, and compute from its codes what `needs` asks for.

    Args:
        g: float32 [N, OH, OW, O].
        saved: what `conv2d` returned for x of `x_shape`, with the same `weight`, `bits`, `low`, `stride`,
            `padding`, `groups` and `clips`.
        scale_w: one number, or without a gradient of x also float32 [O], which does not matter then: the gradient of x
            is no sum of integers where each output channel has a scale of its own.
        gradient_bits, key, grid: as `bits`, `key` and `grid` of `gradient_codes`.
        needs: of x, of the weight's values, of the bias.
        out: memory for these, as that of `conv2d`; None for what is not asked for.

    Returns:
        Gradients of float32: [N, H, W, C], [O, KH, KW, C / groups] and [O].

    Raises:
        TypeError, ValueError: as `conv2d`.
    """
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    geometry = conv_geometry(shape, check_weight(weight, 4), stride, padding, groups)
    return _backward(
        geometry,
        g,
        saved,
        weight,
        scale_x,
        scale_w,
        check_input(bits, low, clips),
        check_gradient("gradient_bits", gradient_bits, grid, key),
        needs,
        out,
        threads,
        kernel,
    )


def linear(
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    bits: int,
    low: int | None = None,
    bias: Floats | None = None,
    clips: bool = True,
    save: bool = True,
    out: tuple[Floats | None, NDArray[np.uint8] | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> Forward:
    """Quantize x [N, …, C] and multiply its codes by those of the weight [O, C]: y [N, …, O].

    The axes between are tokens of one sample. Arguments, results and errors as `conv2d`.
    """
    geometry = linear_geometry(check_array("x", x, ["float32"]).shape, check_weight(weight, 2))
    return _forward(
        geometry, x, weight, scale_x, scale_w, check_input(bits, low, clips), bias, save, out, threads, kernel
    )


def linear_backward(
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    *,
    x_shape: Sequence[int],
    bits: int,
    low: int | None = None,
    gradient_bits: int,
    key: Key | None,
    grid: Grid = "odd",
    clips: bool = True,
    needs: tuple[bool, bool, bool] = (True, True, True),
    out: tuple[Floats | None, Floats | None, Floats | None] | None = None,
    threads: int | None = None,
    kernel: str | None = None,
) -> Gradients:
    """The backward of `linear`; arguments, results and errors as `conv2d_backward`."""
    shape = tuple(check_integer("x_shape", extent, 0, 2**40) for extent in x_shape)
    geometry = linear_geometry(shape, check_weight(weight, 2))
    return _backward(
        geometry,
        g,
        saved,
        weight,
        scale_x,
        scale_w,
        check_input(bits, low, clips),
        check_gradient("gradient_bits", gradient_bits, grid, key),
        needs,
        out,
        threads,
        kernel,
    )


def _forward(
    geometry: Geometry,
    x: Floats,
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    form: Input,
    bias: Floats | None,
    save: bool,
    out: Sequence[Array | None] | None,
    threads: int | None,
    kernel: str | None,
) -> Forward:
    outputs = geometry.weight[0]
    if isinstance(scale_w, np.ndarray):
        check_array("scale_w", scale_w, ["float32"], (outputs,))
    scale = np.atleast_1d(np.float32(scale_x) * np.asarray(scale_w, np.float32))
    if bias is not None:
        check_array("bias", bias, ["float32"], (outputs,))
    size = geometry.saved_bytes(form.clips)
    memory = check_out(out, [(True, "float32", geometry.y), (check_bool("save", save), "uint8", (size,))])
    y, kept, holds_nan = _native.training_forward(
        check_kernel(kernel),
        geometry.is_linear,
        geometry.numbers,
        x,
        form.bits,
        form.low,
        weight,
        scale,
        bias,
        save,
        form.clips,
        memory,
        check_threads(threads),
    )
    return Forward(of_shape(y, geometry.y), kept, holds_nan)


def _backward(
    geometry: Geometry,
    g: Floats,
    saved: NDArray[np.uint8],
    weight: Codes,
    scale_x: float,
    scale_w: float | Floats,
    form: Input,
    gradient: Gradient,
    needs: tuple[bool, bool, bool],
    out: Sequence[Array | None] | None,
    threads: int | None,
    kernel: str | None,
) -> Gradients:
    check_array("g", g, ["float32"], geometry.y)
    check_array("saved", saved, ["uint8"])
    if len(needs) != 3:
        raise ValueError(f"needs={needs!r}: must be three bools, for x, the weight and the bias")
    asked = [check_bool("needs", need) for need in needs]
    scale = check_one_scale(scale_w, geometry.weight[0], asked[0])
    shapes = (geometry.x, geometry.weight, geometry.weight[:1])
    memory = check_out(out, [(need, "float32", shape) for need, shape in zip(asked, shapes, strict=True)])
    results = _native.training_backward(
        check_kernel(kernel),
        geometry.is_linear,
        geometry.numbers,
        g,
        gradient.bits,
        gradient.has_zero,
        gradient.key,
        weight,
        scale,
        saved,
        form.clips,
        form.bits,
        form.low,
        float(scale_x),
        asked,
        memory,
        check_threads(threads),
    )
    x, of_weight, of_bias = (
        None if result is None else of_shape(result, shape) for result, shape in zip(results, shapes, strict=True)
    )
    return Gradients(x, of_weight, of_bias)


def check_one_scale(scale_w: float | Floats, outputs: int, has_grad_x: bool) -> float:
    """Return the scale that the gradient of x takes, or 0 where there is none."""
    if not isinstance(scale_w, np.ndarray) or scale_w.ndim == 0:
        return float(scale_w)
    check_array("scale_w", scale_w, ["float32"], (outputs,))
    if has_grad_x:
        raise ValueError(
            f"scale_w: an array of {scale_w.shape}, but must be one number: with a scale for each output channel "
            "the gradient of x is no sum of integers; compute it in floats, with needs[0]=False here"
        )
    return 0.0


def of_shape(array: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the array, or the same numbers in another shape."""
    return array if array.shape == shape else array.reshape(shape)


def check_out(
    out: Sequence[Array | None] | None, results: Sequence[tuple[bool, str, tuple[int, ...]]]
) -> tuple[Array | None, ...]:
    """Return the caller's memory for each result that is (asked for, dtype, shape)."""
    if out is None:
        return (None,) * len(results)
    if not isinstance(out, (tuple, list)) or len(out) != len(results):
        raise TypeError(f"out: must be a tuple of {len(results)} arrays or Nones, or None")
    for i, (array, (asked, dtype, shape)) in enumerate(zip(out, results, strict=True)):
        if array is None:
            continue
        if not asked:
            raise ValueError(f"out[{i}]: an array was given for what is not asked for; give None")
        flags = check_array(f"out[{i}]", array, [dtype], shape).flags
        if not (flags.c_contiguous and flags.writeable):
            raise ValueError(f"out[{i}]: must be C-contiguous and writable; use numpy.empty")
    return tuple(out)


class Input(NamedTuple):
    """What x holds: numbers that are quantized, or codes from `low` on."""

    bits: int
    low: int | None
    clips: bool


def check_input(bits: int, low: int | None, clips: bool) -> Input:
    """Return what x holds; codes have no range that a gradient could be outside of."""
    form = Input(
        check_bits("bits", bits),
        None if low is None else check_integer("low", low, -255, 0),
        check_bool("clips", clips),
    )
    if low is not None and form.clips:
        raise ValueError(f"clips=True: x holds codes from low={low} on, which no quantizer clips; give clips=False")
    return form


def check_key(key: object) -> Key:
    """Return two numbers of 32 bits, without a sign."""
    if not isinstance(key, (tuple, list)) or len(key) != 2:
        raise TypeError(f"key={key!r}: must be two ints, each from -2^31 to 2^32 - 1")
    first, second = (check_integer("key", half, -(2**31), 2**32 - 1) % 2**32 for half in key)
    return first, second


class Gradient(NamedTuple):
    """How C++ is to quantize a gradient; without a key there is no noise."""

    bits: int
    has_zero: bool
    key: list[int] | None


def check_gradient(name: str, bits: int, grid: Grid, key: object) -> Gradient:
    """Return how a gradient is quantized; `name` is that of the bits."""
    signed = check_choice("grid", grid, ("odd", "signed")) == "signed"
    if check_bits(name, bits) == 1 and signed:
        raise ValueError(f'{name}=1: must be an int from 2 to 8 with grid="signed", where 1 bit leaves zero alone')
    return Gradient(bits, signed, None if key is None else list(check_key(key)))


def check_threads(threads: int | None) -> int:
    """Return a number of threads; None is as many as programs use."""
    return _native.get_num_threads() if threads is None else check_integer("threads", threads, 1, 256)


def check_kernel(kernel: Any) -> str:
    """Return the name of kernels that run here, or "" for the fastest."""
    return "" if kernel is None else check_choice("kernel", kernel, kernels())
