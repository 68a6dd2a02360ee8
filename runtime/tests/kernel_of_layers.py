"""Which kernel each kind of layer gets: a process of its own, because kernels are chosen once.

Usage: BITORCH_KERNEL=NAME python kernel_of_layers.py. Prints as JSON, by the name of each layer, [kernel by plan,
kernel by profile].
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bitorch_runtime

#: Weight and activation bits; None: float.
BITS: dict[str, tuple[int, int] | None] = {
    "W1A1": (1, 1),
    "W1A2": (1, 2),
    "W2A2": (2, 2),
    "W4A4": (4, 4),
    "W8A8": (8, 8),
    "float": None,
}
CHANNELS = 128
#: Kernel size, side of the image, groups. "linear" is a layer of its own.
LAYERS = {"3×3": (3, 14, 1), "1×1": (1, 14, 1), "depthwise": (3, 14, CHANNELS), "linear": (1, 1, 1)}
IMAGES = 4


def operation(layer: str, bits: tuple[int, int] | None) -> tuple[dict[str, Any], NDArray[Any]]:
    """The one operation between input and output, and its weights."""
    kernel, _, groups = LAYERS[layer]
    conv: dict[str, Any] = (
        {} if layer == "linear" else {"kernel_size": [kernel] * 2, "stride": [1, 1], "dilation": [1, 1]}
    )
    conv |= {} if layer == "linear" else {"padding": [kernel // 2] * 4, "groups": groups}
    shape: tuple[int, ...] = (
        (CHANNELS, CHANNELS) if layer == "linear" else (CHANNELS, kernel, kernel, CHANNELS // groups)
    )
    rng = np.random.default_rng(0)
    op = "linear" if layer == "linear" else "conv2d"
    if bits is None:
        weights: NDArray[Any] = rng.standard_normal(shape).astype(np.float32)
        return {"op": f"{op}_float", **conv, "float32": "y"}, weights
    order = shape if layer == "linear" else (shape[0], shape[3], *shape[1:3])
    codes = 2 * rng.integers(0, 2 ** bits[0], order, dtype=np.int16) - (2 ** bits[0] - 1)
    packed = bitorch_runtime.pack_weights(codes.astype(np.int16), bits[0])
    return {"op": op, **conv, "weight_bits": bits[0], "out_channels": CHANNELS, "int32": "y"}, packed


def kernels(layer: str, bits: tuple[int, int] | None) -> tuple[str, str]:
    side = LAYERS[layer][1]
    shape = [CHANNELS] if layer == "linear" else [CHANNELS, side, side]
    given: dict[str, Any] = {"op": "input", "output": "x", "shape": shape, "order": "nhwc", "dtype": "float32"}
    if bits is not None:
        given |= {"dtype": "uint8", "bits": bits[1]}
    middle, weights = operation(layer, bits)
    leaving = {"op": "output", "input": "y", "order": "nhwc"}
    program = bitorch_runtime.Program([given, {**middle, "input": "x", "weight": "w"}, leaving], {"w": weights})
    rng = np.random.default_rng(1)
    size = (IMAGES, CHANNELS) if layer == "linear" else (IMAGES, side, side, CHANNELS)
    x: NDArray[Any] = rng.standard_normal(size).astype(np.float32)
    if bits is not None:
        x = rng.integers(0, 2 ** bits[1], size, dtype=np.uint8)
    return program.operations()[1]["kernel"], program.profile(x, repeats=1)[1]["kernel"]


def main() -> None:
    bitorch_runtime.set_num_threads(1)
    found = {f"{layer} {name}": kernels(layer, bits) for layer in LAYERS for name, bits in BITS.items()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
