"""Random layers: of vectors, and of windows along one to three axes of rows, transposed or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bitorch_runtime import reference
from bitorch_runtime.reference.convolutions import conv_transpose_codes, conv_transpose_float
from case_builder import Array, Builder, Known
from case_stages import (
    any_geometry,
    any_out_channels,
    any_transposed_geometry,
    any_weight_codes,
    finish_layer,
    meaning_arguments,
    meaning_keys,
)


def _geometry_for(b: Builder, op: str, x: Array) -> tuple[dict[str, Any], dict[str, Any], int]:
    """(keys of the description, arguments of the reference, multiply-adds per output channel)."""
    rows, channels = x.shape[1:-1], x.shape[-1]
    if op.startswith("linear"):
        geometry: dict[str, Any] = {"kernel_size": [1, 1], "groups": 1}
        return {}, geometry, b.batch * channels
    transposed = op.startswith("conv_transpose")
    geometry = (any_transposed_geometry if transposed else any_geometry)(b, rows, channels)
    kernel, padding, axes = geometry["kernel_size"], geometry["padding"], len(rows)
    pixels = math.prod(rows)  # of which each is multiplied with all taps
    if not transposed:
        around = zip(padding[:axes], padding[axes:], geometry["dilation"], strict=True)
        sides = zip(rows, kernel, geometry["stride"], around, strict=True)
        pixels = math.prod(reference.output_size(size, k, step, *border) for size, k, step, border in sides)
    return geometry, geometry, b.batch * pixels * math.prod(kernel) * channels // geometry["groups"]


def low_bit_layer(b: Builder, op: str, name: str, weight_bits: int | None = None, axes: int = 2) -> None:
    """Append a conv2d, conv_transpose or linear of the codes `name`, with a window along so many axes."""
    bits = b.known[name].bits
    assert bits is not None
    x = reference.with_rows(b.tensors[name].values, axes)
    keys, geometry, macs = _geometry_for(b, op, x)
    kernel, groups = geometry["kernel_size"], geometry["groups"]
    outputs = any_out_channels(b, groups, macs)
    shape = (outputs, *kernel, x.shape[-1] // groups)
    if weight_bits is None:
        weight_bits = int(b.choose((1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8)))
    operation = {"op": op, "input": name, "weight_bits": weight_bits, "out_channels": outputs, **keys}
    operation |= meaning_keys(b, bits)
    grid = operation.get("weight_grid", "odd")
    codes = any_weight_codes(b, shape, weight_bits, grid)
    operation["weight"] = b.array("weight", reference.pack_weights(codes, weight_bits, grid))
    arguments = {key: value for key, value in geometry.items() if key != "kernel_size"}
    convolve: Callable[..., Array] = conv_transpose_codes if op == "conv_transpose" else reference.conv2d_codes
    d = convolve(x, codes, **arguments, **meaning_arguments(operation))
    finish_layer(b, operation, d, Known(), low_bit=True)


def float_layer(b: Builder, op: str, name: str, axes: int = 2) -> None:
    """Append a conv2d_float, conv_transpose_float or linear_float of the floats `name`."""
    known = b.known[name]
    x = reference.with_rows(b.tensors[name].values, axes)
    keys, geometry, macs = _geometry_for(b, op, x)
    kernel, groups = geometry["kernel_size"], geometry["groups"]
    outputs = any_out_channels(b, groups, macs)
    shape = (outputs, *kernel, x.shape[-1] // groups)
    dyadic = known.dyadic and b.chance(0.8)
    inputs = int(np.prod(shape[1:]))
    weight = b.rng.integers(-8, 9, shape) / 8 if dyadic else b.rng.normal(0, inputs**-0.5, shape)
    weight = weight.astype(np.float32)
    stored = weight.reshape(outputs, -1) if op == "linear_float" else weight
    operation = {"op": op, "input": name, "out_channels": outputs, **keys, "weight": b.array("weight", stored)}
    arguments = {key: value for key, value in geometry.items() if key != "kernel_size"}
    convolve: Callable[..., Array] = conv_transpose_float if op.startswith("conv_t") else reference.conv2d_float
    with np.errstate(all="ignore"):
        sums = convolve(x, weight, **arguments)
    finish_layer(b, operation, sums, Known(exact=dyadic), low_bit=False)


def window_layer(b: Builder, name: str, axes: int = 2) -> None:
    """Append a convolution of `name`, codes or floats, transposed half of the time."""
    op = b.choose(("conv2d", "conv_transpose"))
    if b.known[name].bits is not None:
        low_bit_layer(b, op, name, axes=axes)
    else:
        float_layer(b, f"{op}_float", name, axes)


def follow_with_layer(b: Builder, name: str) -> None:
    """Append a layer that may prefer bit planes, half of the time, where `name` holds codes of an image."""
    if b.known[name].bits is not None and len(b.rows(name)) == 2 and b.chance(0.5):
        low_bit_layer(b, "conv2d", name, int(b.choose((1, 1, 2))))
