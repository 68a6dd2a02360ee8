"""An 8-bit layer as int8 engines run it: uint8 in, int8 weights with a scale per channel, bias, uint8 out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from layers_cases import Layer
from layers_torch import exact_sums


@dataclass(frozen=True)
class Int8Problem:
    """out = clamp(round((Σ weight·input + bias) · input_scale · weight_scale / output_scale), 0, 255)."""

    layer: Layer
    inputs: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    """[N], in which a BatchNorm is folded, as are the weights' scales."""
    weight_scale: npt.NDArray[np.float32]
    """[N]"""
    input_scale: np.float32
    output_scale: np.float32

    @classmethod
    def random(cls, layer: Layer, rng: np.random.Generator) -> Int8Problem:
        weights = rng.integers(-127, 127, layer.weight_shape, np.int8, endpoint=True)
        rows = weights.reshape(len(weights), -1).astype(np.float64)
        deviation = np.sqrt((rows**2).sum(1) * 256**2 / 12)  # of Σ weight·input, for uniformly random inputs
        bias = np.rint(rng.uniform(0.5, 1.5, len(rows)) * deviation - rows.sum(1) * 127.5).astype(np.int32)
        input_scale = np.float32(1 / 255)
        weight_scale = (rng.uniform(0.5, 1.5, len(rows)) / deviation).astype(np.float32)
        output_scale = np.float32(3 * input_scale / 255)
        inputs = rng.integers(0, 255, layer.input_shape, np.uint8, endpoint=True)
        return cls(layer, inputs, weights, bias, weight_scale, input_scale, output_scale)

    def check(self, name: str, outputs: npt.NDArray[np.uint8]) -> None:
        """Compare with exact sums; one code is allowed, for float32 and ties.

        Raises:
            RuntimeError: the output is off by more, or has hardly any codes between 0 and 255.
        """
        sums = exact_sums(self.layer, self.inputs, self.weights) + self.bias
        scale = np.float64(self.input_scale) * self.weight_scale / self.output_scale
        expected = np.clip(np.rint(sums * scale), 0, 255)
        difference = np.abs(outputs.astype(np.int64) - expected).max(initial=0)
        inside = ((outputs > 0) & (outputs < 255)).mean()
        if difference > 1 or inside < 0.3:
            raise RuntimeError(
                f"{name} {self.layer.name}: off by {difference:.0f} codes, {inside:.0%} of them inside the range"
            )
