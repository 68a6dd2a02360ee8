"""Programs that leave sizes open: formulas, plans for sizes, and what is refused."""

from __future__ import annotations

import ctypes
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import reference
from bitorch_runtime.reference.sizes import affine_in, evaluated
from open_size_cases import H, W, open_case, open_program, sizes, upsampling


@pytest.mark.parametrize("seed", range(40))
def test_every_size_gives_what_the_reference_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, formulas = sizes(rng)
    operations, arrays = open_program(rng, formulas)
    program = bitorch_runtime.Program(operations, arrays)
    for _ in range(6):
        steps = {name: int(rng.integers(0, 7)) for name in steps}
        shape = [evaluated(size, steps) for size in operations[0]["shape"]]
        x = rng.normal(size=(2, *shape)).astype(np.float32)
        np.testing.assert_equal(program(x), reference.run(operations, arrays, x))


def test_a_file_says_which_sizes_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, upsampling(), {})
    model = bitorch_runtime.load(path)
    assert model.inputs[0]["shape"] == model.outputs[0]["shape"] == (2, -1, -1)
    assert model.sizes == [((2, 0), (8, 4), (2, 2))]
    assert "(batch, 2, any, any)" in repr(model)
    x = np.random.default_rng(0).normal(size=(1, 2, 12, 6)).astype(np.float32)
    expected = reference.run(upsampling(), {}, x)
    np.testing.assert_equal(model(x), expected)
    np.testing.assert_equal(pickle.loads(pickle.dumps(model))(x), expected)
    assert model.operations((2, 12, 6))[0]["outputs"][0]["shape"] == (12, 6, 2)
    assert model.workspace_bytes(1, (2, 8, 2)) < model.workspace_bytes(1, (2, 80, 20))
    assert model.profile(x, repeats=1).batch == 1


def test_the_last_plans_are_kept_and_no_more() -> None:
    program = bitorch_runtime.Program(upsampling(), {})
    for height in range(8, 200, 4):
        program(np.zeros((1, 2, height, 2), np.float32))
    assert program._plans.count() == 4
    kept = program.kept_bytes()
    program(np.zeros((1, 2, 196, 2), np.float32))
    assert program._plans.count() == 4
    assert program.kept_bytes() == kept


def test_plans_that_need_more_than_the_limit_together_are_not_kept() -> None:
    large = np.zeros((1, 2, 512, 512), np.float32)
    bytes_of_one = bitorch_runtime.Program(upsampling(), {}).workspace_bytes(1, (2, 512, 512))
    program = bitorch_runtime.Program(upsampling(), {}, memory_limit=2 * bytes_of_one)
    for height in (512, 516, 520):
        program(large[:, :, :height] if height == 512 else np.zeros((1, 2, height, 512), np.float32))
    assert program._plans.count() == 1
    small = bitorch_runtime.Program(upsampling(), {}, memory_limit=bytes_of_one // 4)
    with pytest.raises(ValueError, match="raise the limit"):
        small(large)
    np.testing.assert_equal(small(np.zeros((1, 2, 8, 2), np.float32)), np.zeros((1, 2, 8, 2), np.float32))


def one_large_layer(low_bit: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A convolution of 512 channels, of codes or of floats, on images of open sizes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"floats": rng.normal(size=(512, 3, 3, 512)).astype(np.float32)}
    conv = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "groups": 1}
    layer: dict[str, Any] = {"op": "conv2d_float", "input": "x", "weight": "floats", **conv, "float32": "y"}
    before = []
    if low_bit:
        before = [{"op": "quantize", "input": "x", "output": "q", "bits": 4}]
        arrays = {"codes": bitorch_runtime.pack_weights(2 * rng.integers(0, 16, (512, 3, 3, 512)) - 15, 4)}
        arrays |= {name: rng.normal(size=512).astype(np.float32) for name in ("multiply", "offset")}
        layer |= {"op": "conv2d", "input": "q", "weight": "codes", "weight_bits": 4, "out_channels": 512}
        layer |= {"multiply": "multiply", "offset": "offset"}
    port: dict[str, Any] = {"op": "input", "output": "x", "dtype": "float32", "shape": [512, H, W], "order": "nchw"}
    return [port, *before, layer, {"op": "output", "input": "y", "order": "nchw", "array_shape": port["shape"]}], arrays


@pytest.mark.parametrize("low_bit", [False, True])
def test_plans_keep_weights_together(low_bit: bool) -> None:
    """Memory that is said, and results after the plan that made the weights is gone."""
    operations, arrays = one_large_layer(low_bit)
    program = bitorch_runtime.Program(operations, arrays)
    smallest = program.operations((512, 8, 2))
    weights = max(operation["weight_bytes"] for operation in smallest)
    assert weights >= 2**16
    kept = program.kept_bytes()
    images = [np.random.default_rng(i).normal(size=(1, 512, 8 + 4 * i, 2)).astype(np.float32) for i in range(7)]
    for image in images[1:4]:
        program(image)
    assert program._plans.count() == 4
    assert program.kept_bytes() - kept < weights // 2
    for image in images:
        shape = list(image.shape[1:])
        fixed = [{**operations[0], "shape": shape}, *operations[1:-1], {**operations[-1], "array_shape": shape}]
        np.testing.assert_equal(program(image), bitorch_runtime.Program(fixed, arrays)(image))


def test_plans_keep_weights_in_memory_once() -> None:
    code = "import test_open_sizes; print(*test_open_sizes.growth_of_three_plans())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    grown, weights = map(int, done.stdout.split())
    assert grown < weights  # nine megabytes, once for all plans


def growth_of_three_plans() -> tuple[int, int]:
    """What memory grows by with three further plans, in a process that has run no other tests; bytes of weights."""
    operations, arrays = one_large_layer(False)
    program = bitorch_runtime.Program(operations, arrays)
    weights = max(operation["weight_bytes"] for operation in program.operations((512, 8, 2)))
    resident = resident_bytes()
    for height in (12, 16, 20):
        program(np.ones((1, 512, height, 2), np.float32))
    return resident_bytes() - resident, weights


def resident_bytes() -> int:
    """Memory of this process, without what is free again; 0 where the system does not say."""
    libc = ctypes.CDLL(None)
    if not Path("/proc/self/status").is_file() or not hasattr(libc, "malloc_trim"):
        return 0
    libc.malloc_trim(0)
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 2, 4, 2), r'input "x": the height is 4 — must be at least 8'),
        ((1, 2, 13, 2), r"the height is 13 — must be 8, 12, 16 …; the nearest are 12 and 16"),
        ((1, 2, 8, 7), r"the width is 7 — must be 2, 4, 6 …; the nearest are 6 and 8"),
        ((1, 2, 8, 0), r"the width is 0 — must be at least 2"),
        ((1, 2, 8, 2**21), r"the width is 2097152 — at most 1048576 is allowed"),
        ((1, 3, 8, 2), r"shape is \(1, 3, 8, 2\), but must be \(batch, 2, any, any\)"),
        ((1, 2, 8), r"must be \(batch, 2, any, any\)"),
        ((2, 8, 2), r"one image is a batch of one"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_those_that_would(shape: tuple[int, ...], said: str) -> None:
    program = bitorch_runtime.Program(upsampling(), {})
    with pytest.raises(ValueError, match=said):
        program(
            np.broadcast_to(np.zeros((), np.float32), shape)[:, :] if 2**21 in shape else np.zeros(shape, np.float32)
        )


def test_inputs_that_must_fit_together() -> None:
    other = {"op": "input", "output": "z", "dtype": "float32", "shape": [2, H, W], "order": "nhwc"}
    operations = [*upsampling(), other, {"op": "add", "inputs": ["u", "z"], "float32": "s"}]
    operations.append({"op": "output", "input": "s", "order": "nchw", "array_shape": [2, H, W]})
    program = bitorch_runtime.Program(operations, {})
    assert program.sizes == [((2, 0), (8, 4), (2, 2)), ((8, 0), (2, 0), (2, 0))]
    x, z = np.ones((1, 2, 12, 4), np.float32), np.ones((1, 12, 4, 2), np.float32)
    assert np.array_equal(program(x, z)["s"], np.full((1, 2, 12, 4), 2, np.float32))
    with pytest.raises(ValueError, match='input "z": dimension 1 is 8 — must be 12 beside the other dimensions'):
        program(x, z[:, :8])


def _with(key: str, value: object, place: int = 2) -> list[dict[str, Any]]:
    operations = upsampling()
    operations[place] = {**operations[place], key: value}
    return operations


@pytest.mark.parametrize(
    ("operations", "said"),
    [
        (_with("output_size", [{"sum": [[1.5, "height"]]}, W]), "operation 2: .* a size must be an integer"),
        (_with("output_size", [{"sum": [["height"]]}, W]), "a size must be an integer, or"),
        (_with("output_size", [{"sum": [[1, ""]]}, W]), "a size must be an integer, or"),
        (_with("output_size", [{"sum": 3}, W]), "a size must be an integer, or"),
        (_with("output_size", [{"sum": [[1, "depth"], [1]]}, W]), 'the size "depth": no input has a dimension'),
        (_with("output_size", [{"sum": [[-1, "height"]]}, W]), "operation 2 .*must be an integer from 1"),
        (_with("output_size", [{"sum": [[2**62], [2**62], [1, "height"]]}, W]), "does not fit in 64 bits"),
        (_with("output_size", [{"sum": [[1, *["height"] * 9]]}, W]), "a size must be an integer, or"),
        (_with("array_shape", [2, H, {"sum": [[2, "width"], [3]]}], 3), "must have as many numbers as"),
        ([*upsampling()[:3], {"op": "output", "input": "u", "order": "nchw"}], 'must have an "array_shape"'),
        (_with("shape", [2, {"sum": [[4, "height"]]}, W], 0), 'the size "height": no input has a dimension'),
    ],
)  # fmt: skip
def test_formulas_that_are_none_are_refused(operations: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bitorch_runtime.Program(operations, {})


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([[0, 1, {"sum": [[2, "width"], [3]]}]], "entry 2 is 2, but the places along this axis"),
        ([[-1, 1, W]], "a run of indices from -1 to 0"),
        ([[2**31, 1, 2]], "a run of indices from 2147483648"),
        ([[0, 2**62, 4]], "does not fit in 64 bits"),
        ([[0, 0, 2**40]], "a run of 1099511627776 indices"),
        ([[0, 1]], "indices must be the name of an array, or"),
        ([], "one or more places"),
        (7, "indices must be the name of an array, or"),
    ],
)
def test_runs_that_are_none_are_refused(runs: object, said: str) -> None:
    operations = upsampling()
    operations[2] = {"op": "take", "input": "x", "output": "u", "axis": -1, "indices": {"runs": runs}}
    with pytest.raises(ValueError, match=said):
        bitorch_runtime.Program(operations, {})


def test_many_callers_plan_each_size_once() -> None:
    rng = np.random.default_rng(3)
    operations, arrays, _ = open_case(rng)
    program = bitorch_runtime.Program(operations, arrays)
    dimensions = program.sizes[0]
    images = [
        rng.normal(size=(1, *(least + step * k for least, step in dimensions))).astype(np.float32) for k in range(7)
    ]
    expected = [reference.run(operations, arrays, x) for x in images]
    wrong: list[int] = []

    def call(first: int) -> None:
        for at in range(first, first + 28):
            try:
                np.testing.assert_equal(program(images[at % 7]), expected[at % 7])
            except AssertionError:
                wrong.append(at)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_only_factor_times_a_name_and_something_can_be_chosen() -> None:
    assert affine_in({"sum": [[3], [2, "a"], [1]]}) == ("a", 2, 4)
    assert affine_in({"sum": [[2, "a"]]}) is None
    assert affine_in({"sum": [[2, "a"], [1, "b"], [1]]}) is None
    assert affine_in(7) is None


def test_no_image_needs_next_to_no_memory() -> None:
    """Of layers that are computed by fused kernels, too, which share pixels among workers."""
    operations, arrays = open_program(np.random.default_rng(0), sizes(np.random.default_rng(0))[1])
    program = bitorch_runtime.Program(operations, arrays)
    shapes = [tuple(least + 7 * step for least, step in dimensions) for dimensions in program.sizes]
    assert 0 < program.workspace_bytes(0, *shapes) < 1000 < program.workspace_bytes(1, *shapes)
    found = program(np.zeros((0, *shapes[0]), np.float32))
    assert isinstance(found, dict)
    assert {name: len(y) for name, y in found.items()} == {"r": 0, "y": 0}
