"""The network that keeps the file format: `golden/v1.bit.safetensors`, and what it must give.

python golden.py        writes both files anew, which only a new format version is a reason for
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import format, reference

FOLDER = Path(__file__).parent / "golden"
FILE = FOLDER / "v1.bit.safetensors"
RECORD = FOLDER / "v1.json"

INFO: dict[str, Any] = {
    "class_names": ["nothing", "café", 'a "quoted" name'],
    "preprocessing": {"size": [6, 5], "channels": 3, "scale": "1/255"},
    "provenance": {"source": "golden.py", "bits": {"conv": [3, 2], "head": [1, 2]}, "accuracy": 0.5},
}


def numbers(*shape: int, step: int, modulo: int) -> NDArray[np.int64]:
    """Integers that look random and need no generator."""
    return ((np.arange(math.prod(shape), dtype=np.int64) * step + step // 3) % modulo).reshape(shape)


def network() -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Tensors of every dtype: float32 image -> codes -> conv2d with thresholds -> max_pool -> flatten -> linear."""
    thresholds = np.sort(numbers(4, 3, step=37, modulo=61) - 30, axis=1)
    descending = np.array([False, True, False, True])
    thresholds[descending] = thresholds[descending, ::-1]
    head = np.array([0b10110100, 0b01100010, 0b11011001, 0b00000000, 0b00000111, 0b10000001], np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "conv.weight": numbers(4, 11, step=97, modulo=256).astype(np.uint8),
        "conv.thresholds": thresholds.astype(np.int32),
        "conv.descending": descending,
        "head.weight": np.stack([head[:3], head[3:], head[::2]]),
        "head.multiply": np.array([0.5, -0.125, 0.3], np.float32),
        "head.offset": np.array([1.0, 0.1, -3.0], np.float32),
    }
    arrays["conv.weight"][:, -1] &= 1  # 27 weights of 3 bits: the row ends with 7 zeros
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "image", "dtype": "float32", "shape": [3, 6, 5], "order": "nchw"},
        {"op": "quantize", "input": "image", "output": "a", "bits": 2},
        {"op": "conv2d", "input": "a", "weight": "conv.weight", "weight_bits": 3, "out_channels": 4}
        | {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 0], "dilation": [1, 1], "groups": 1}
        | {"thresholds": "conv.thresholds", "descending": "conv.descending", "bits": 2, "codes": "b"},
        {
            "op": "max_pool",
            "input": "b",
            "output": "c",
            "kernel_size": [2, 2],
            "stride": [2, 2],
            "padding": [0, 0, 0, 0],
        },
        {"op": "flatten", "input": "c", "output": "d", "order": "chw"},
        {"op": "linear", "input": "d", "weight": "head.weight", "weight_bits": 1, "out_channels": 3}
        | {"multiply": "head.multiply", "offset": "head.offset", "float32": "scores"},
        {"op": "output", "input": "scores"},
    ]
    return operations, arrays


def images() -> NDArray[np.float32]:
    """Two images of 3·6·5 pixels."""
    pixels: NDArray[np.float32] = numbers(2, 3, 6, 5, step=53, modulo=128).astype(np.float32) / np.float32(100)
    return pixels


def main() -> None:
    """Write the file, and the scores that the reference computes."""
    operations, arrays = network()
    scores = reference.run(operations, arrays, images())
    assert isinstance(scores, np.ndarray)
    FOLDER.mkdir(exist_ok=True)
    FILE.write_bytes(format.encode(operations, arrays, INFO))
    RECORD.write_text(json.dumps({"images": images().ravel().tolist(), "scores": scores.tolist()}) + "\n")


if __name__ == "__main__":
    main()
