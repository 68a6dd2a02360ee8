"""Random programs whose sizes are open, with inputs of one size and what they must give.

The program is written once, with formulas; what it gives at the size is computed by the reference from the same program
written for that size alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bitorch_runtime import reference
from bitorch_runtime.reference.sizes import evaluated

Operation = dict[str, Any]
Array = np.ndarray[Any, Any]
H, W = {"sum": [[4, "height"], [8]]}, {"sum": [[2, "width"], [2]]}


def upsampling(channels: int = 2) -> list[dict[str, Any]]:
    """Halves a height of 8, 12, 16, … and a width of 2, 4, 6, …, and doubles them again."""
    return [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [channels, H, W], "order": "nchw"},
        {"op": "max_pool", "input": "x", "output": "p", "kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4},
        {"op": "adaptive_avg_pool", "input": "p", "output": "u", "output_size": [H, W]},
        {"op": "output", "input": "u", "order": "nchw", "array_shape": [channels, H, W]},
    ]


def sizes(rng: np.random.Generator) -> tuple[dict[str, int], dict[str, Any]]:
    """Steps of "height" and "width", and the formulas of H, W, H/2, W/2, H·W and W − 1; H and W are even."""
    steps = {"height": int(rng.integers(0, 7)), "width": int(rng.integers(0, 7))}
    least, step = 2 * int(rng.integers(1, 4)), 2 * int(rng.integers(1, 3))
    h, w = ({"sum": [[step, name], [least]]} for name in ("height", "width"))
    formulas = {
        "H": h,
        "W": w,
        "H/2": {"sum": [[step // 2, "height"], [least // 2]]},
        "W/2": {"sum": [[least // 2], [step // 2, "width"]]},
        "HW": {
            "sum": [
                [step * step, "height", "width"],
                [step * least, "height"],
                [step * least, "width"],
                [least * least],
            ]
        },
        "W-1": {"sum": [[step, "width"], [least], [-1]]},
    }
    return steps, formulas


def open_program(rng: np.random.Generator, formulas: dict[str, Any]) -> tuple[list[Operation], dict[str, Array]]:
    """A net that halves its images, doubles them again, turns them round and takes them apart."""
    channels, bits, weight_bits = (int(rng.integers(1, most)) for most in (20, 5, 4))
    h, w = formulas["H"], formulas["W"]
    codes = 2 * rng.integers(0, 2**weight_bits, (channels, 3, 3, channels)) - 2**weight_bits + 1
    arrays: dict[str, Array] = {
        "weight": reference.pack_weights(codes, weight_bits),
        "multiply": rng.normal(size=channels).astype(np.float32),
        "offset": rng.normal(size=channels).astype(np.float32),
    }
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [channels, h, w], "order": "nchw"},
        {"op": "quantize", "input": "x", "output": "q", "bits": bits},
        {"op": "max_pool", "input": "q", "output": "p", "kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4},
        {
            "op": "conv2d", "input": "p", "weight": "weight", "weight_bits": weight_bits, "out_channels": channels,
            "kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "groups": 1,
            "multiply": "multiply", "offset": "offset", "float32": "y",
        },
        {"op": "adaptive_avg_pool", "input": "y", "output": "u", "output_size": [h, w]},
        {"op": "take", "input": "u", "output": "t", "axis": -1, "indices": {"runs": [[formulas["W-1"], -1, w]]}},
        {"op": "add", "inputs": ["t", "x"], "float32": "s"},
        {"op": "reshape", "input": "s", "output": "r", "shape": [channels, formulas["HW"]]},
        {"op": "output", "input": "r", "order": "nhwc", "array_shape": [formulas["HW"], channels]},
        {
            "op": "output", "input": "y", "order": "nchw",
            "array_shape": [channels, formulas["H/2"], formulas["W/2"]],
        },
    ]  # fmt: skip
    return operations, arrays


def open_case(rng: np.random.Generator) -> tuple[list[Operation], dict[str, Array], Array]:
    """A program whose sizes are open, its arrays, and an input of some size."""
    steps, formulas = sizes(rng)
    operations, arrays = open_program(rng, formulas)
    shape = [evaluated(size, steps) for size in operations[0]["shape"]]
    return operations, arrays, rng.normal(0.5, 1, (int(rng.integers(0, 4)), *shape)).astype(np.float32)
