"""What a node's settings mean, computed in plain NumPy, apart from what PyTorch computes in its place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitorch.deployment.graph.graph import Node
from capture_oracle_functions import FUNCTIONS

Array = NDArray[Any]
_PAIRS: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": lambda one, other, condition: np.where(condition != 0, one, other),
}
_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def value_of(node: Node, *inputs: Tensor) -> Tensor:
    """Compute a node from its kind and settings: float32 [batch, *shape]. Sums of floats are in float64."""
    if node.kind == "constant":
        value: Tensor = node.settings["value"]
        return value.unsqueeze(0)
    arrays = [x.detach().numpy() for x in inputs]
    if node.kind in _PAIRS:
        rank = max(x.ndim for x in arrays)
        arrays = [x.reshape(*x.shape[:2], *[1] * (rank - x.ndim), *x.shape[2:]) if x.ndim > 1 else x for x in arrays]
        return torch.from_numpy(np.ascontiguousarray(_PAIRS[node.kind](*arrays), dtype=np.float32))
    result = _value(node.kind, dict(node.settings), node.shape, *arrays)
    return torch.from_numpy(np.ascontiguousarray(result, dtype=np.float32))


def _value(kind: str, settings: dict[str, Any], shape: tuple[int, ...], x: Array, *others: Array) -> Any:
    one, six = np.float32(1), np.float32(6)
    match kind:
        case "identity":
            return x.reshape(len(x), *shape)
        case "flatten":
            return (np.moveaxis(x, 1, -1) if settings["channels_last"] else x).reshape(len(x), -1)
        case "take":
            return x.take(list(settings["indices"]), axis=settings["axis"] + 1)
        case "permute":
            return x.transpose(0, *(axis + 1 for axis in settings["axes"]))
        case "reshape":
            return np.moveaxis(np.moveaxis(x, 1, -1).reshape(len(x), *shape[1:], shape[0]), -1, 1)
        case "relu":
            return np.maximum(x, np.float32(0))
        case "clamp":
            x = x if settings["low"] is None else np.maximum(x, np.float32(settings["low"]))
            return x if settings["high"] is None else np.minimum(x, np.float32(settings["high"]))
        case "leaky_relu":
            return np.where(x > 0, x, x * _channels(settings["slope"], x))
        case "hardswish":
            return x * np.clip(x + np.float32(3), np.float32(0), six) / six
        case "hardsigmoid":
            return np.clip(x + np.float32(3), np.float32(0), six) / six
        case "sigmoid":
            return one / (one + np.exp(-x.astype(np.float64)))
        case "tanh":
            return np.tanh(x.astype(np.float64))
        case "elu":
            below = _channels(settings["alpha"], x).astype(np.float64) * np.expm1(np.minimum(x, 0).astype(np.float64))
            return np.where(x > 0, x, below)
        case "silu":
            return x / (one + np.exp(-x.astype(np.float64)))
        case "gelu":
            return x * 0.5 * np.vectorize(math.erfc)(-x.astype(np.float64) * math.sqrt(0.5))
        case "gelu_tanh":
            wide = x.astype(np.float64)
            return wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))) / 2
        case _ if kind in FUNCTIONS:
            return FUNCTIONS[kind](x.astype(np.float64), settings)
        case "plus":
            return x + _channels(settings["constant"], x)
        case "times":
            return x * _channels(settings["constant"], x)
        case "divide":
            return x / _channels(settings["constant"], x)
        case "batch_norm":
            multiply, offset = (_channels(settings[key], x).astype(np.longdouble) for key in ("multiply", "offset"))
            return (x.astype(np.longdouble) * multiply + offset).astype(np.float32)
        case "concat":
            return np.concatenate([x, *others], axis=1 + settings["axis"])
        case "select":
            return x[:, list(settings["channels"])]
        case "softmax":
            return _softmax(x, log=settings["log"])
        case "matmul":
            return _matmul(x, others[0], settings)
        case "attention":
            return _attention(x, *others, **settings)
        case "pad":
            return _pad(x, settings)
        case "linear":
            sums = np.moveaxis(x, 1, -1).astype(np.float64) @ _numpy(settings["weight"]).T
            return _plus_bias(np.moveaxis(sums, -1, 1), settings["bias"])
        case "conv":
            return _convolution(x, settings)
        case "nearest":
            return _nearest(x, settings["output_size"])
        case "resize":
            return _resize(x, settings)
        case "adaptive_max_pool":
            return _adaptive_max_pool(x, settings["output_size"])
        case "max_pool":
            return _max_pool(x, settings)
        case "avg_pool":
            return _avg_pool(x, settings)
        case "adaptive_avg_pool":
            return _adaptive_avg_pool(x, settings["output_size"])
        case "normalize":
            return _normalized(x.astype(np.float64), settings)
        case "reduce" | "extreme" | "place":
            return _reduced(x, settings)
        case "global_avg_pool":
            return x.reshape(*x.shape[:2], -1).astype(np.float64).mean(2).reshape(len(x), *shape)
    raise AssertionError(f"no such kind: {kind}")


def _normalized(x: Array, settings: dict[str, Any]) -> Array:
    """Over the channels of each group, and over the last row axes, of x [batch, C, *rows]."""
    first = x.ndim - settings["rows"]  # of the axes that belong to a set
    groups = x.reshape(len(x), settings["groups"], -1, *x.shape[2:])
    axes = (2, *range(first + 1, groups.ndim))
    mean = groups.mean(axes, keepdims=True) if settings["by"] == "deviation" else 0.0
    sizes = {
        "deviation": np.sqrt(((groups - mean) ** 2).mean(axes, keepdims=True) + settings["eps"]),
        "root_mean_square": np.sqrt((groups**2).mean(axes, keepdims=True) + settings["eps"]),
        "norm": np.maximum(np.sqrt((groups**2).sum(axes, keepdims=True)), settings["eps"]),
    }
    y: Array = ((groups - mean) / sizes[settings["by"]]).reshape(x.shape)
    for key, combined in (("weight", np.multiply), ("bias", np.add)):
        if settings[key] is not None:
            numbers = _numpy(settings[key])
            places = x.shape[first:] if numbers.ndim == 2 else (1,) * settings["rows"]
            shown = np.moveaxis(numbers.reshape(*places, x.shape[1]), -1, 0)
            y = combined(y, shown.reshape(x.shape[1], *[1] * (first - 2), *places))
    return y


def _reduced(x: Array, settings: dict[str, Any]) -> Array:
    axes, function = tuple(axis + 1 for axis in settings["axes"]), settings["reduction"]
    if function in ("argmax", "argmin"):
        return np.array(getattr(np, function)(x, axes[0], keepdims=True))
    if function == "norm":
        return np.array(np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True)))
    further = {"ddof": settings["correction"]} if function in ("var", "std") else {}
    wide = x if function in ("amax", "amin") else x.astype(np.float64)
    return np.array(getattr(np, function)(wide, axes, keepdims=True, **further))


def _numpy(values: Tensor) -> Array:
    array: Array = values.detach().numpy()
    return array


def _channels(values: Tensor, x: Array) -> Array:
    assert values.dtype == torch.float32
    assert values.shape == (x.shape[1],)
    return _numpy(values).reshape(1, -1, *[1] * (x.ndim - 2))


def _softmax(x: Array, *, log: bool) -> Any:
    x = x.astype(np.float64) - x.max(1, keepdims=True)
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    return logs if log else np.exp(logs)


def _matrices(x: Array, *, transposed: bool = False) -> Array:
    """[batch, *rows, M, K] of [batch, K, *rows, M], in float64."""
    last = np.moveaxis(x, 1, -1).astype(np.float64)
    return last.swapaxes(-1, -2) if transposed else last


def _matmul(x: Array, other: Array, settings: dict[str, Any]) -> Array:
    one, two = (_matrices(y, transposed=bool(t)) for y, t in zip((x, other), settings["transposed"], strict=True))
    return np.moveaxis(one @ two * settings["scale"], -1, 1)


def _attention(q: Array, k: Array, v: Array, bias: Array | None = None, *, scale: float, causal: bool) -> Array:
    query, keys, values = map(_matrices, (q, k, v))
    if query.ndim > 3:
        keys, values = (x.repeat(query.shape[-3] // x.shape[-3], axis=-3) for x in (keys, values))
    scores = query @ keys.swapaxes(-1, -2) * scale
    scores = scores if bias is None else scores + _matrices(bias)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.moveaxis(weights / weights.sum(-1, keepdims=True) @ values, -1, 1)


def _widths(x: Array, padding: tuple[int, ...], channels: tuple[int, int] = (0, 0)) -> list[tuple[int, int]]:
    pairs = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)]
    assert len(pairs) == x.ndim - 2
    return [(0, 0), channels, *pairs]


def _pad(x: Array, settings: dict[str, Any]) -> Array:
    widths = _widths(x, settings["padding"], settings["channels"])
    if settings["mode"] == "constant":
        return np.pad(x, widths, constant_values=np.float32(settings["value"]))
    return np.pad(x, widths, mode=_MODES[settings["mode"]])


def _nearest(x: Array, output_size: tuple[int, ...]) -> Array:
    for axis, count in enumerate(output_size, 2):
        x = x.take(np.arange(count) * x.shape[axis] // count, axis)
    return x


def _resize(x: Array, settings: dict[str, Any]) -> Array:
    """Linear: along each axis in float64, each place between two pixels."""
    assert settings["mode"] == "linear"
    x = x.astype(np.float64)
    for axis, count in enumerate(settings["output_size"], 2):
        size = x.shape[axis]
        scale = count / size if settings["scale"] is None else float(settings["scale"][axis - 2])
        at = np.clip((np.arange(count) + 0.5) / scale - 0.5, 0, size - 1)
        if settings["align_corners"]:
            at = np.arange(count) * (size - 1) / max(count - 1, 1)
        first = np.floor(at).astype(int)
        part = (at - first).reshape(-1, *[1] * (x.ndim - axis - 1))
        x = x.take(first, axis) * (1 - part) + x.take(np.minimum(first + 1, size - 1), axis) * part
    return x.astype(np.float32)


def _adaptive_max_pool(x: Array, output_size: tuple[int, ...]) -> Array:
    for axis, count in enumerate(output_size, 2):
        edges = [(i * x.shape[axis] // count, -(-(i + 1) * x.shape[axis] // count)) for i in range(count)]
        x = np.stack([x.take(range(*edge), axis).max(axis) for edge in edges], axis)
    return x


def _windows(x: Array, settings: dict[str, Any], fill: float) -> Array:
    """Return [batch, C, *output, *kernel] of a padded x."""
    x = np.pad(x, _widths(x, settings["padding"]), constant_values=fill)
    dimensions = len(settings["kernel_size"])
    dilation = settings.get("dilation", (1,) * dimensions)
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, settings["kernel_size"], strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(range(2, 2 + dimensions)))
    steps = tuple(slice(None, None, step) for step in settings["stride"])
    taps = tuple(slice(None, None, d) for d in dilation)
    index = (slice(None), slice(None), *steps, *taps)
    return windows[index]


def _convolution(x: Array, settings: dict[str, Any]) -> Array:
    weight, groups = _numpy(settings["weight"]).astype(np.float64), settings["groups"]
    dimensions = len(settings["kernel_size"])
    assert weight.shape[2:] == settings["kernel_size"]
    windows = _windows(x.astype(np.float64), settings, 0)
    outputs = []
    for part, kernel in zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True):
        # [batch, C/groups, *output, *kernel] with [N/groups, C/groups, *kernel]
        axes = [1, *range(2 + dimensions, 2 + 2 * dimensions)]
        outputs.append(np.moveaxis(np.tensordot(part, kernel, (axes, [1, *range(2, 2 + dimensions)])), -1, 1))
    return _plus_bias(np.concatenate(outputs, 1), settings["bias"])


def _plus_bias(y: Array, bias: Tensor | None) -> Array:
    return y if bias is None else y + _channels(bias, y)


def _max_pool(x: Array, settings: dict[str, Any]) -> Array:
    windows = _windows(x, settings, -np.inf)
    result: Array = windows.reshape(*windows.shape[: x.ndim], -1).max(-1)
    return result


def _adaptive_avg_pool(x: Array, output_size: tuple[int, ...]) -> Array:
    """Values of a window one after the other, row by row, then a division for each axis."""
    result = np.zeros((*x.shape[:2], *output_size), np.float32)
    whole = (slice(None), slice(None))
    for at in np.ndindex(output_size):
        spans = [
            range(math.floor(i * size / count), math.ceil((i + 1) * size / count))
            for i, size, count in zip(at, x.shape[2:], output_size, strict=True)
        ]
        for pixel in itertools.product(*spans):
            result[whole + at] += x[whole + pixel]
        for span in spans:
            result[whole + at] /= np.float32(len(span))
    return result


def _avg_pool(x: Array, settings: dict[str, Any]) -> Array:
    """Taps in a row, rows one after the other, and one division."""
    windows = _windows(x, settings, 0)
    inside = _windows(np.ones_like(x), {**settings}, 1 if settings["count_include_pad"] else 0)
    windows, inside = (w.reshape(*w.shape[: x.ndim], -1) for w in (windows, inside))
    total = np.zeros(windows.shape[:-1], np.float32)
    for tap in range(windows.shape[-1]):
        total = total + windows[..., tap]
    result: Array = total / inside.sum(-1)
    return result
