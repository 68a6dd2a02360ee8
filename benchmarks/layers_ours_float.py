"""bitorch-runtime's float32 layer, as a network has first and last: floats in and out, scale and ReLU fused."""

from __future__ import annotations

import numpy as np

import bitorch_runtime
from bitorch_runtime import reference
from layers_cases import Layer
from layers_names import OURS_FLOAT
from layers_program import TimedProgram, geometry, input_shape


class OursFloat(TimedProgram):
    """A program of one layer; what is timed of it is the layer alone."""

    def __init__(self, layer: Layer, rng: np.random.Generator) -> None:
        self.name = OURS_FLOAT
        weights = rng.standard_normal(layer.weight_shape, np.float32)
        weights = weights if layer.linear else np.ascontiguousarray(weights.transpose(0, 2, 3, 1))  # [N, kh, kw, C]
        arrays = {
            "weight": weights,
            "multiply": rng.standard_normal(layer.out_channels, np.float32),
            "offset": rng.standard_normal(layer.out_channels, np.float32),
        }
        operations = [
            {"op": "input", "output": "x", "dtype": "float32", "shape": input_shape(layer), "order": "nhwc"},
            {
                "op": "linear_float" if layer.linear else "conv2d_float",
                "input": "x",
                "weight": "weight",
                **geometry(layer),
                "multiply": "multiply",
                "offset": "offset",
                "relu": True,
                "float32": "y",
            },
            {"op": "output", "input": "y", "order": "nhwc"},
        ]
        program = bitorch_runtime.Program(operations, arrays)
        inputs = rng.standard_normal(layer.input_shape, np.float32)
        actual = program(inputs)
        expected = reference.run(operations, arrays, inputs)
        assert isinstance(actual, np.ndarray)  # a program with several outputs gives a dict
        assert isinstance(expected, np.ndarray)
        # float32 sums in another order: a few units in the last place of the largest terms.
        if not np.allclose(actual, expected, rtol=1e-4, atol=1e-3):
            raise RuntimeError(f"{layer.name} float32: the output differs from the reference")
        super().__init__(program, program, inputs)
