"""bitorch-runtime's contestant: codes in, codes out, with BatchNorm and quantizer as integer thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import bitorch_runtime
from bitorch_runtime import reference
from layers_cases import Layer, Problem
from layers_program import TimedProgram, geometry, input_shape

NEXT_CHANNELS = 8
CHECKED_ROWS = 2


class Ours(TimedProgram):
    """Two programs: one that Python calls, and one where a narrow layer of the same kind follows.

    In the second the codes between the two layers stay in whatever layout the kernels read, borders included, as inside
    a network; what is timed of it is the first layer alone. The first takes and gives arrays of bytes.
    """

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self.name = str(problem.bits)
        arrays = _arrays(problem, "")
        first = _operation(problem, "x", "y", "")
        begin = _input(problem)
        alone = bitorch_runtime.Program([begin, first, _output("y", problem.layer)], arrays)
        next_problem = Problem.random(_next_layer(problem.layer), problem.bits, rng)
        second = _operation(next_problem, "y", "z", "2")
        chain = bitorch_runtime.Program(
            [begin, first, second, _output("z", problem.layer)], arrays | _arrays(next_problem, "2")
        )
        codes = alone(problem.inputs)
        assert isinstance(codes, np.ndarray)  # a program with several outputs gives a dict
        _check(problem, codes)
        super().__init__(alone, chain, problem.inputs)


def _next_layer(layer: Layer) -> Layer:
    """What follows in the chain: the same kind of layer, stride 1, few output channels."""
    if layer.linear:
        return Layer.parse(f"linear-{layer.out_channels}-{NEXT_CHANNELS}@{layer.batch}")
    if layer.groups > 1:
        return Layer.parse(f"dw{layer.kernel}x{layer.kernel}-{layer.out_channels}@{layer.out_size}")
    return Layer.parse(f"{layer.kernel}x{layer.kernel}-{layer.out_channels}-{NEXT_CHANNELS}@{layer.out_size}")


def _input(problem: Problem) -> dict[str, Any]:
    shape, bits = input_shape(problem.layer), problem.bits.activation
    return {"op": "input", "output": "x", "dtype": "uint8", "shape": shape, "order": "nhwc", "bits": bits}


def _output(name: str, layer: Layer) -> dict[str, Any]:
    return {"op": "output", "input": name, "order": "nhwc"}


def _operation(problem: Problem, input_: str, output: str, suffix: str) -> dict[str, Any]:
    layer, bits = problem.layer, problem.bits
    return {
        "op": "linear" if layer.linear else "conv2d",
        "input": input_,
        "weight": f"weight{suffix}",
        "weight_bits": bits.weight,
        "out_channels": layer.out_channels,
        **geometry(layer),
        "sign_activations": bits.sign,
        "thresholds": f"thresholds{suffix}",
        "descending": f"descending{suffix}",
        "bits": bits.activation,
        "codes": output,
    }


def _arrays(problem: Problem, suffix: str) -> dict[str, npt.NDArray[Any]]:
    return {
        f"weight{suffix}": bitorch_runtime.pack_weights(problem.weights, problem.bits.weight),
        f"thresholds{suffix}": problem.thresholds,
        f"descending{suffix}": problem.descending,
    }


def _check(problem: Problem, codes: npt.NDArray[np.uint8]) -> None:
    """Compare the last rows of the images, or the last vectors, with the reference.

    Raises:
        RuntimeError: a code differs.
    """
    layer = problem.layer
    inputs, weights, padding, rows = problem.inputs, problem.weights, [layer.padding] * 4, slice(-CHECKED_ROWS, None)
    if layer.linear:
        inputs, weights, actual = inputs[rows, None, None, :], weights[:, None, None, :], codes[rows, None, None, :]
    else:
        weights, actual = weights.transpose(0, 2, 3, 1), codes[:, rows]
        start = max(layer.out_size - CHECKED_ROWS, 0) * layer.stride - layer.padding
        inputs, padding[0] = inputs[:, max(start, 0) :], max(-start, 0)
    sums = reference.conv2d_codes(
        inputs, weights, [layer.stride] * 2, padding, groups=layer.groups, sign_activations=problem.bits.sign
    )
    expected = reference.apply_thresholds(sums, problem.thresholds, problem.descending)
    if not np.array_equal(actual, expected):
        wrong = np.count_nonzero(actual != expected)
        raise RuntimeError(f"{layer.name} {problem.bits}: {wrong} of {expected.size} codes differ from the reference")
