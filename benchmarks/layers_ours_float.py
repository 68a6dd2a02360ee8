"""bitorch-runtime's float32 layer, as a network has first and last: floats in and out, scale and ReLU fused."""

from __future__ import annotations

from typing import Any

import numpy as np

import bitorch_runtime
from bitorch_runtime import reference
from bitorch_runtime.profiling import Timing
from layers_cases import Layer
from layers_engines import OURS_FLOAT
from layers_timing import Sample, calls_per_sample, fastest_call


class OursFloat:
    """A program of one layer; what is timed of it is the layer alone."""

    def __init__(self, layer: Layer, rng: np.random.Generator) -> None:
        self.name = OURS_FLOAT
        shape = [layer.in_channels] if layer.linear else [layer.in_channels, layer.size, layer.size]
        geometry: dict[str, Any] = {
            "kernel_size": [layer.kernel] * 2,
            "stride": [layer.stride] * 2,
            "padding": [layer.padding] * 4,
            "dilation": [1, 1],
            "groups": layer.groups,
        }
        weights = rng.standard_normal(layer.weight_shape, np.float32)
        weights = weights if layer.linear else np.ascontiguousarray(weights.transpose(0, 2, 3, 1))  # [N, kh, kw, C]
        arrays = {
            "weight": weights,
            "multiply": rng.standard_normal(layer.out_channels, np.float32),
            "offset": rng.standard_normal(layer.out_channels, np.float32),
        }
        operations = [
            {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": "nhwc"},
            {
                "op": "linear_float" if layer.linear else "conv2d_float",
                "input": "x",
                "weight": "weight",
                **({} if layer.linear else geometry),
                "multiply": "multiply",
                "offset": "offset",
                "relu": True,
                "float32": "y",
            },
            {"op": "output", "input": "y", "order": "nhwc"},
        ]
        self._program = bitorch_runtime.Program(operations, arrays)
        self._inputs = rng.standard_normal(layer.input_shape, np.float32)
        actual = self._program(self._inputs)
        expected = reference.run(operations, arrays, self._inputs)
        assert isinstance(actual, np.ndarray)  # a program with several outputs gives a dict
        assert isinstance(expected, np.ndarray)
        # float32 sums in another order: a few units in the last place of the largest terms.
        if not np.allclose(actual, expected, rtol=1e-4, atol=1e-3):
            raise RuntimeError(f"{layer.name} float32: the output differs from the reference")
        estimate = self._profile(1)
        self.kernel = estimate["kernel"]
        self._repeats = calls_per_sample(estimate["seconds"])

    def sample(self) -> Sample:
        inside = self._profile(self._repeats)["seconds"]
        return Sample(fastest_call(lambda: self._program(self._inputs)), inside)

    def _profile(self, repeats: int) -> Timing:
        return self._program.profile(self._inputs, repeats=repeats)[1]  # [0] is the input
