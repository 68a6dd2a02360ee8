"""What both of bitorch-runtime's contestants are made of: operations of a layer, and a program that is timed."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from bitorch_runtime import Program
from bitorch_runtime.profiling import Timing
from layers_cases import Layer
from layers_timing import Sample, calls_per_sample, fastest_call


def input_shape(layer: Layer) -> list[int]:
    """Of one image, as an ``input`` operation wants it."""
    return [layer.in_channels] if layer.linear else [layer.in_channels, layer.size, layer.size]


def geometry(layer: Layer) -> dict[str, Any]:
    """The keys of a convolution's window; none of a linear layer."""
    if layer.linear:
        return {}
    return {
        "kernel_size": [layer.kernel] * 2,
        "stride": [layer.stride] * 2,
        "padding": [layer.padding] * 4,
        "dilation": [1, 1],
        "groups": layer.groups,
    }


class TimedProgram:
    """Samples of a layer: the whole call of one program, and one operation of another (or the same).

    The operation is the one after the input.
    """

    def __init__(self, called: Program, profiled: Program, inputs: npt.NDArray[Any]) -> None:
        self._called, self._profiled, self._inputs = called, profiled, inputs
        estimate = self._profile(1)
        self.kernel = estimate["kernel"]
        self._repeats = calls_per_sample(estimate["seconds"])

    def sample(self) -> Sample:
        """Time about a millisecond of calls."""
        inside = self._profile(self._repeats)["seconds"]
        return Sample(fastest_call(lambda: self._called(self._inputs)), inside)

    def _profile(self, repeats: int) -> Timing:
        return self._profiled.profile(self._inputs, repeats=repeats)[1]  # [0] is the input
