"""Every operation as C, compiled and compared with the reference."""

from __future__ import annotations

import ctypes
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, reference
from bitorch_runtime.c_source import c_source
from bitorch_runtime.c_source.emitting import EMITTERS
from bitorch_runtime.operations import OPERATIONS, given_names, read_names
from c_headers import call, library, needs
from case_builder import other_bits
from cases import Case, random_case
from operation_examples import Array, Operation, arrays_for, examples, port_programs, program

#: Whose sums of floats have another order in the reference.
FLOAT_SUMS = ("conv2d_float", "conv_transpose_float", "linear_float", "linear_weight_only", "matmul", "attention")


def layers_at_borders() -> list[tuple[list[Operation], dict[str, Array]]]:
    """Convolutions whose windows leave the image, by planes and by products, of codes with every meaning, in groups."""
    found: list[tuple[list[Operation], dict[str, Array]]] = []
    rng = np.random.default_rng(0)
    window = {"kernel_size": [3, 2], "stride": [2, 1], "padding": [1, 2, 0, 1], "dilation": [1, 2]}
    meanings: tuple[tuple[int, Operation], ...] = (
        (1, {"sign_activations": True}),
        (2, {"zero_point": 3}),
        (3, {"zero_point": 5}),
        (8, {"zero_point": 77}),
    )
    for (bits, meaning), weight_bits, grid, groups in itertools.product(
        meanings, (1, 3, 5, 8), ("odd", "signed"), (1, 2, 6)
    ):
        step, lowest = reference.code_line(weight_bits, grid)
        codes = step * rng.integers(0, 2**weight_bits, (6, 3 * 2 * 6 // groups)) + lowest
        layer: Operation = {"op": "conv2d", "input": "q", "weight": "w", "weight_bits": weight_bits, "out_channels": 6}
        layer |= {**window, "groups": groups, "weight_grid": grid, **meaning, "int32": "d"}
        port: Operation = {"op": "input", "output": "q", "dtype": "uint8", "bits": bits, "shape": [6, 5, 4]}
        ends = [{**port, "order": "nchw"}, layer, {"op": "output", "input": "d", "order": "nchw"}]
        found.append((ends, {"w": reference.pack_weights(codes, weight_bits, grid)}))
    return found


PROGRAMS: list[tuple[list[Operation], dict[str, Array]]] = [
    *((program(one, read_names(one), [*given_names(one).values()]), arrays) for one, arrays in examples()),
    *((ports, {}) for ports in port_programs()),
    *layers_at_borders(),
]
SEEDS = range(20)


def test_every_operation_has_its_c() -> None:
    assert set(EMITTERS) == set(OPERATIONS)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    needs("gcc")
    headers = {f"n{i}": c_source(*whole, f"n{i}").text for i, whole in enumerate(PROGRAMS)}
    return library(headers, tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize("number", range(len(PROGRAMS)), ids=lambda i: f"{i}-{PROGRAMS[i][0][-2]['op']}")
def test_examples_give_what_the_reference_gives(number: int, nets: ctypes.CDLL) -> None:
    """To the bit, signs of zeros included, but for sums of floats."""
    operations, arrays = PROGRAMS[number]
    planned, inputs = Program(operations, arrays), arrays_for(operations)
    expected = reference.run(operations, arrays, *inputs)
    wanted = expected if isinstance(expected, dict) else {planned.outputs[0]["name"]: expected}
    found = call(nets, f"n{number}", planned, inputs)
    assert found.keys() == wanted.keys()
    for name, result in found.items():
        if any(one["op"] in FLOAT_SUMS for one in operations) and result.dtype == np.float32:
            assert np.allclose(result, wanted[name], rtol=1e-5, atol=1e-6, equal_nan=True), name
        else:
            assert result.dtype == wanted[name].dtype
            assert not other_bits(result, wanted[name], True).any(), name


@pytest.fixture(scope="module")
def random_nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, Case], ctypes.CDLL]:
    needs("gcc")
    cases = {seed: random_case(seed) for seed in SEEDS}
    headers = {}
    for seed, case in cases.items():
        is_open = bool(Program(case.operations, case.arrays).sizes)
        shapes = [array.shape[1:] for array in case.inputs] if is_open else None
        headers[f"n{seed}"] = c_source(case.operations, case.arrays, f"n{seed}", shapes=shapes).text
    return cases, library(headers, tmp_path_factory.mktemp("cases"), ("gcc", "-O0"))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs(seed: int, random_nets: tuple[dict[int, Case], ctypes.CDLL]) -> None:
    """Whole networks, whose tensors share memory."""
    cases, library_of_nets = random_nets
    case = cases[seed]
    if len(case.inputs[0]) == 0:
        pytest.skip("a batch of none")
    found = call(library_of_nets, f"n{seed}", _OfOneSize(case), case.inputs)  # type: ignore[arg-type]
    assert case.differences(found) == []


class _OfOneSize:
    """The outputs of a case, as a program of its size has them."""

    def __init__(self, case: Case) -> None:
        self.outputs: list[dict[str, Any]] = [
            {"name": name, "shape": array.shape[1:], "dtype": array.dtype} for name, array in case.expected.items()
        ]


def test_layers_at_borders_are_made_in_both_ways() -> None:
    texts = [c_source(*whole).text for whole in layers_at_borders()]
    for function in ("net_sum_planes", "net_sum_values", "net_add_outside"):
        assert 8 <= sum(function in text for text in texts) < len(texts), function


# Sums of floats have one order, which docs/c-header.md tells


def one_by_one(weight: Array, x: Array) -> Array:
    """Σ w·x over the last axis of both, one product after the other, each product and each sum rounded to float32."""
    total = np.zeros((len(x), len(weight)), np.float32)
    for k in range(weight.shape[-1]):
        total = total + x[:, np.newaxis, k] * weight[np.newaxis, :, k]
    return total


def of_floats(layer: Operation, shape: list[int], weight: Array, folder: Path, *command: str) -> tuple[Array, Array]:
    """Random inputs, and what a layer gives of them in C."""
    needs(command[0])
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": "nhwc"}
    operations = [port, layer, {"op": "output", "input": "y", "order": "nhwc"}]
    planned, source = Program(operations, {"w": weight}), c_source(operations, {"w": weight})
    inputs = np.random.default_rng(3).normal(size=(3, *planned.inputs[0]["shape"])).astype(np.float32)
    return inputs, call(library({"net": source.text}, folder, command), "net", planned, [inputs])["y"]


def test_sums_of_a_linear_layer_have_the_order_of_its_weights(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(8, 200)).astype(np.float32)
    layer = {"op": "linear_float", "input": "x", "weight": "w", "float32": "y"}
    x, y = of_floats(layer, [200], weight, tmp_path, "gcc", "-O2")
    assert np.array_equal(y, one_by_one(weight, x))
    assert not np.array_equal(y, (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.float32))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_compilers_that_may_contract_do_not(compiler: str, tmp_path: Path) -> None:
    """Nor reorder: at -O3, for a machine that multiplies and adds at once, and where that is asked for."""
    weight = np.random.default_rng(0).normal(size=(5, 3, 3, 4)).astype(np.float32)
    window = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1}
    layer = {"op": "conv2d_float", "input": "x", "weight": "w", **window, "float32": "y"}
    flags = ("-O3", "-march=native", "-ffp-contract=fast") if compiler == "gcc" else ("-O3", "-march=native")
    x, y = of_floats(layer, [4, 6, 5], weight, tmp_path, compiler, *flags)
    patches = [x[:, i : i + 3, j : j + 3].reshape(3, -1) for i in range(4) for j in range(3)]
    expected = np.stack([one_by_one(weight.reshape(5, -1), patch) for patch in patches], 1)
    assert np.array_equal(y.reshape(3, 12, 5), expected)
