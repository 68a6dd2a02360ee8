"""Parts of random operations: thresholds, stages, what codes mean, and what leaves a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitorch_runtime import reference
from case_builder import CHANNELS, Array, Builder, Known

INT32 = np.iinfo(np.int32)
#: By the number of axes.
KERNELS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((1,), (2,), (3,), (3,), (5,), (7,)),
    2: ((1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (1, 5), (7, 1), (2, 3)),
    3: ((1, 1, 1), (2, 2, 2), (3, 3, 3), (3, 3, 3), (3, 1, 1), (1, 3, 3), (2, 1, 3), (1, 2, 1)),
}


def _sample(b: Builder, x: Array, channels: int, count: int) -> Array:
    """Values of x [.., C] and near it, [C, count], unsorted: where thresholds make a difference."""
    flat = x.reshape(-1, channels)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if len(flat) == 0:
        return b.rng.integers(-20, 20, (channels, count)).astype(x.dtype)
    rows = b.rng.integers(0, len(flat), (channels, count))
    return flat[rows, np.arange(channels)[:, np.newaxis]]


def _sorted(thresholds: Array, descending: Array | None) -> Array:
    """Sorted along the levels: upwards, downwards where descending."""
    rows = np.sort(thresholds, axis=1)
    return rows if descending is None else np.where(descending[:, np.newaxis].astype(bool), rows[:, ::-1], rows)


def _int_thresholds(b: Builder, d: Array, count: int, descending: Array | None) -> Array:
    """int32 [N, n] thresholds of D [.., N]."""
    channels = d.shape[-1]
    style = b.choose(("sample", "sample", "near", "affine", "affine", "extreme", "wide"))
    if style == "affine":
        # What a staircase round(n·(slope·D + offset)) gives: evenly spaced, constant where the slope is zero.
        slope = b.rng.choice([0.0, 0.3, 1.0, 2.5, 17.0], (channels, 1))
        middle = _sample(b, d, channels, 1)
        steps = np.ceil(middle + slope * (np.arange(count) - count / 2))
        constant = np.where(b.rng.random((channels, 1)) < 0.5, INT32.min, INT32.max)
        thresholds = np.where(slope == 0, constant, steps).astype(np.int64)
    elif style == "wide":
        thresholds = b.rng.integers(INT32.min, INT32.max, (channels, count), endpoint=True)
    else:
        thresholds = _sample(b, d, channels, count)
        if style == "near":
            thresholds = thresholds + b.rng.integers(-2, 3, thresholds.shape)
        if style == "extreme":
            extremes = np.array([INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max])
            thresholds = np.where(
                b.rng.random(thresholds.shape) < 0.5, b.rng.choice(extremes, thresholds.shape), thresholds
            )
    return _sorted(np.clip(thresholds, INT32.min, INT32.max), descending).astype(np.int32)


def _float_thresholds(b: Builder, y: Array, count: int, descending: Array | None) -> Array:
    """float32 [C, n] thresholds of y [.., C], the last ones perhaps NaN, which nothing reaches."""
    thresholds = _sample(b, y, y.shape[-1], count).astype(np.float32)
    style = b.choose(("sample", "sample", "near", "extreme", "never"))
    if style == "near":
        thresholds = np.nextafter(thresholds, b.rng.choice(np.array([-np.inf, np.inf], np.float32), thresholds.shape))
    if style == "extreme":
        extremes = np.array([-np.inf, np.inf, -0.0, 0.0, 1e-45, -3e38], np.float32)
        thresholds = np.where(
            b.rng.random(thresholds.shape) < 0.3, b.rng.choice(extremes, thresholds.shape), thresholds
        )
    rows = _sorted(thresholds, descending).astype(np.float32)
    if style == "never":
        rows[np.arange(count) >= b.rng.integers(0, count + 1, (len(rows), 1))] = np.nan
    return rows


def code_stage(b: Builder, y: Array | None, d: Array | None) -> dict[str, Any]:
    """The keys that make codes of D [.., N] or y [.., N], whichever are there."""
    options = [name for name, x in (("int", d), ("float", y), ("unit", y)) if x is not None]
    style = b.choose(options)
    bits = int(b.choose((1, 2, 2, 3, 4, 5, 6, 7, 8)))
    if style == "unit":
        return {"bits": bits}
    x: Array = d if style == "int" else y  # type: ignore[assignment]  # it was an option
    descending = None
    if b.chance(0.5):
        descending = b.rng.random(x.shape[-1]) < b.choose((0.0, 0.5, 1.0))
    draw = _int_thresholds if style == "int" else _float_thresholds
    keys: dict[str, Any] = {"bits": bits}
    keys["thresholds"] = b.array("thresholds", draw(b, x, reference.levels(bits), descending))
    if descending is not None:
        keys["descending"] = b.array("descending", descending)
    return keys


def float_keys(b: Builder, sums: Array) -> dict[str, Any]:
    """multiply and offset that bring sums [.., N] to about [-1, 2], negative and zero slopes among them."""
    channels = sums.shape[-1]
    spread = float(np.std(sums[np.isfinite(sums)], dtype=np.float64)) if np.isfinite(sums).any() else 1.0
    slope = b.rng.normal(0, 1 / max(spread, 1e-3), (channels,))
    slope[b.rng.random(channels) < 0.05] = 0
    offset = b.rng.normal(0.5, 0.5, (channels,))
    return {
        "multiply": b.array("multiply", slope.astype(np.float32)),
        "offset": b.array("offset", offset.astype(np.float32)),
    }


def norm_keys(b: Builder, channels: int, exact: bool) -> dict[str, Any]:
    """norm_multiply and norm_offset [N] that leave numbers about [-1, 2] there; special values where they are exact."""
    slope, offset = b.rng.normal(0, 1, channels), b.rng.normal(0.5, 0.5, channels)
    if exact and b.chance(0.2):
        slope[b.rng.integers(channels)] = b.choose((0.0, -0.0, np.inf, np.nan, 1e-40, 3e38))
        offset[b.rng.integers(channels)] = b.choose((0.0, -0.0, -np.inf, np.nan, 1e-45, -3e38))
    return {
        "norm_multiply": b.array("norm_multiply", slope.astype(np.float32)),
        "norm_offset": b.array("norm_offset", offset.astype(np.float32)),
    }


def any_residual(b: Builder, shape: tuple[int, ...], new: float = 0.0) -> str | None:
    """An earlier float tensor of that shape, [B, *rows, C], if there is one; of an image else, perhaps, an input."""
    options = [name for name in b.names(codes=False, axes=len(shape) - 2) if b.tensors[name].values.shape == shape]
    if not options and len(shape) == 4 and b.chance(new):
        options = [b.float_input([shape[3], *shape[1:3]])]
    return b.choose(options) if options else None


def finish_layer(b: Builder, operation: dict[str, Any], sums: Array, known: Known, low_bit: bool) -> None:
    """Choose what follows the sums [B, Ho, Wo, N] of a convolution or linear layer, and append it."""
    operation = dict(operation)
    exact, stage = known.exact, b.chance(0.6)
    with np.errstate(all="ignore"):
        if stage:
            operation |= float_keys(b, sums)
        y = None
        if stage or not low_bit:
            if b.chance(0.35):
                operation |= norm_keys(b, sums.shape[-1], exact)
            residual = any_residual(b, sums.shape, new=0.3) if b.chance(0.6) else None
            if residual is not None:
                operation["residual"] = residual
                exact = exact and b.known[residual].exact
            if b.chance(0.4):
                operation["relu"] = True
            y = reference.apply_float_stage(operation, b.tensors, b.arrays, sums)
    # Inexact y never become codes; D always may.
    codes_y = y if exact else None
    kinds = [kind for kind, there in (("int32", low_bit), ("float32", y is not None)) if there]
    if low_bit or codes_y is not None:
        kinds.append("codes")
    leaving = [kind for kind in kinds if b.chance(0.4)]
    staged = {"residual", "relu", "multiply", "norm_multiply"} & operation.keys()
    if "float32" not in leaving and staged and b.chance(0.7):
        leaving.append("float32")
    if not leaving:
        leaving = ["codes" if "codes" in kinds and b.chance(0.7) else b.choose(kinds)]
    defined = {}
    if "codes" in leaving:
        operation |= code_stage(b, codes_y, sums if low_bit else None)
    for number, kind in enumerate(leaving):
        operation[kind] = f"t{len(b.known) + number}"
        if kind == "codes":
            defined[kind] = Known(operation["bits"])
        else:
            defined[kind] = Known(None, kind == "int32", kind == "int32" or exact)
    b.add(operation, **defined)


def any_groups(b: Builder, channels: int) -> int:
    """How many groups the channels of an image are in, mostly one."""
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    return 1 if b.chance(0.65) else int(b.choose((channels, b.choose(divisors))))


def any_geometry(b: Builder, rows: Sequence[int], channels: int) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and groups that fit an image with these axes of rows."""
    axes = len(rows)
    kernel = [int(k) for k in b.choose(KERNELS[axes])]
    dilation = [int(b.choose((1, 1, 1, 2, 3))) for _ in kernel]
    stride = [int(b.choose((1, 1, 1, 2, 3))) for _ in kernel]
    style = b.choose(("none", "same", "same", "random", "random", "wide"))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if style == "none":
        padding = [0] * 2 * axes
    elif style == "same":
        padding = [*(r // 2 for r in reach), *(r - r // 2 for r in reach)]
    elif style == "random":
        padding = [int(b.rng.integers(0, 4)) for _ in range(2 * axes)]
    else:
        padding = [int(b.rng.integers(0, r + 3)) for r in (*reach, *reach)]
    for axis, size in enumerate(rows):
        missing = reach[axis] + 1 - size - padding[axis] - padding[axis + axes]
        padding[axis + axes] += max(missing, 0)
    window = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return {**window, "groups": any_groups(b, channels)}


def any_transposed_geometry(b: Builder, rows: Sequence[int], channels: int) -> dict[str, Any]:
    """Likewise, of a transposed convolution."""
    kernel = [int(b.choose((1, 2, 2, 3, 4))) for _ in rows]
    joined = b.chance(0.3)  # each pixel then makes outputs of its own
    stride = kernel if joined else [int(b.choose((1, 2, 2, 3))) for _ in rows]
    dilation = [1 if joined else int(b.choose((1, 1, 1, 2))) for _ in rows]
    more = [int(b.rng.integers(0, max(s, d))) if b.chance(0.5) else 0 for s, d in zip(stride, dilation, strict=True)]
    ends = zip(rows, kernel, stride, dilation, more, strict=True)
    whole = [(size - 1) * s + d * (k - 1) + 1 + extra for size, k, s, d, extra in ends]
    cut = [0 if joined and b.chance(0.7) else int(b.rng.integers(0, min((w - 1) // 2, 3) + 1)) for w in whole]
    window = {"kernel_size": kernel, "stride": stride, "padding": cut, "output_padding": more, "dilation": dilation}
    return {**window, "groups": any_groups(b, channels)}


def any_out_channels(b: Builder, groups: int, macs_per_channel: int) -> int:
    """A number of output channels that the groups divide and the budget allows."""
    if groups > 1:
        multiples = [groups * m for m in (1, 1, 1, 2, 3, 5, 8, 9, 16, 33) if m == 1 or groups * m <= 200]
        wanted = int(b.choose(multiples))
    else:
        wanted = int(b.choose(CHANNELS))
    affordable = b.most_macs // max(macs_per_channel, 1)
    return max(groups, min(wanted, affordable) // groups * groups)


def any_weight_codes(b: Builder, shape: Sequence[int], bits: int, grid: str) -> Array:
    n = reference.levels(bits)
    style = b.choose(("uniform", "uniform", "uniform", "max", "min", "ends"))
    m = b.rng.integers(0, n + 1, shape)
    if style == "max":
        m[:] = n
    elif style == "min":
        m[:] = 0
    elif style == "ends":
        m = np.where(m > n // 2, n, 0)
    step, lowest = reference.code_line(bits, grid)
    return step * m + lowest


def meaning_keys(b: Builder, bits: int) -> dict[str, Any]:
    """What codes of weights and of `bits`-bit activations stand for: ``weight_grid?``, and signs or a zero point."""
    keys: dict[str, Any] = {}
    if b.chance(0.5):
        keys["weight_grid"] = "signed" if b.chance(0.8) else "odd"
    n = reference.levels(bits)
    style = b.choose(("none", "none", "sign" if bits == 1 else "none", "zero", "zero", "zero"))
    if style == "sign" or b.chance(0.1):
        keys["sign_activations"] = style == "sign"
    if style == "zero":
        keys["zero_point"] = int(b.choose((0, 1, (n + 1) // 2, n, b.rng.integers(0, n + 1))))
    return keys


def meaning_arguments(operation: dict[str, Any]) -> dict[str, Any]:
    """Those of `meaning_keys` that `reference.conv2d_codes` takes."""
    return {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}


def code_results(b: Builder, operation: dict[str, Any], y: Array, exact: bool) -> None:
    """Let y leave an add or affine as floats, as codes, or as both."""
    leaving = ["float32", "codes"] if exact and b.chance(0.3) else ["codes" if exact and b.chance(0.4) else "float32"]
    defined = {}
    if "codes" in leaving:
        operation |= code_stage(b, y, None)
        defined["codes"] = Known(operation["bits"])
    if "float32" in leaving:
        defined["float32"] = Known(exact=exact)
    for number, kind in enumerate(leaving):
        operation[kind] = f"t{len(b.known) + number}"
    b.add(operation, **{kind: defined[kind] for kind in leaving})


def is_tame(b: Builder, *names: str) -> bool:
    """Whether tensors are exact, or so small that a smooth function of them stays within the tolerance."""
    exact = all(b.known[name].exact for name in names)
    return exact or all(bool(np.all(np.abs(b.tensors[name].values) <= 16)) for name in names)  # no NaN then
