"""What a file may ask for: memory and time are bounded by a limit, and what is shared is kept once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, _native, format, pack_weights, reference
from hostile import Array, Operation, cases, floats, many, small

#: What a load may take beside its limit: memory for the texts of a file, and address space for the allocator too.
TEXTS, SPARE = 64 * 2**20, 192 * 2**20


def measure(limit: int, widest: int) -> None:
    """Load every case in this process, which gets no more than the limit and a little; a line of JSON for each."""
    import resource  # not on every system

    def status(key: str) -> int:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    _native.set_num_threads(1)
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    for op, make in cases(widest).items():
        for i, hostile in enumerate(make()):
            data = small(hostile)
            with open("/proc/self/clear_refs", "w") as clear:
                clear.write("5")  # the peak begins anew
            before = status("VmRSS")
            resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + limit + SPARE, unlimited[1]))
            start = time.process_time()
            try:
                _native.load_bytes(data, limit)
                result = "loaded"
            except ValueError as error:
                result = str(error)
            except MemoryError:
                result = "out of memory"
            seconds = time.process_time() - start
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
            peak = status("VmHWM") - before
            row = {"op": op, "case": i, "size": len(data), "result": result, "seconds": seconds, "peak": peak}
            print(json.dumps(row), flush=True)


def measured(limit: int, widest: int) -> dict[str, list[dict[str, Any]]]:
    code = f"import test_memory; test_memory.measure({limit}, {widest})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {op: [row for row in rows if row["op"] == op] for op in cases(widest)}


def check(rows: list[dict[str, Any]], limit: int, seconds: float) -> None:
    assert rows
    for row in rows:
        assert row["size"] < 2**20
        assert row["result"] == "loaded" or "raise the limit if you trust" in row["result"], row
        assert row["peak"] <= limit + TEXTS, row
        assert row["seconds"] < seconds, row


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def small_limit() -> dict[str, list[dict[str, Any]]]:
    return measured(2**26, 2**20)


@linux
@pytest.mark.parametrize("op", sorted(_native.operations()))
def test_small_files_take_little(op: str, small_limit: dict[str, list[dict[str, Any]]]) -> None:
    """A file is refused before it takes more than the limit, or many seconds. A new operation needs cases."""
    check(small_limit[op], 2**26, 5.0)


@linux
@pytest.mark.slow
def test_small_files_with_the_usual_limit() -> None:
    for rows in measured(_native.memory_limit, 2**24).values():
        check(rows, _native.memory_limit, 15.0)


def test_the_limit_of_a_program_of_ones_own() -> None:
    operations = many(floats(2**20), {"op": "softmax", "input": "x"}, 4)
    Program(operations, {})
    with pytest.raises(
        ValueError, match=r"^operation 1 \(pad\): needs 4194368 bytes for a constant pixel, and of the limit of 1048576"
    ):
        Program(operations, {}, memory_limit=2**20)
    with pytest.raises(ValueError, match="memory_limit=-1"):
        Program(operations, {}, memory_limit=-1)


@pytest.mark.parametrize("op", ["linear", "linear_float"])
def test_a_large_network_is_far_from_the_limit(op: str) -> None:
    """A head of 25,000 classes keeps its weights, and hardly more; AVX2 multiplies 8 bits in words of two bytes."""
    array = np.zeros((25_000, 2048), np.uint8 if op == "linear" else np.float32)
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "uint8", "bits": 8, "shape": [2048]},
        {"op": "dequantize", "input": "x", "output": "f"},
        {"op": op, "input": "x" if op == "linear" else "f", "weight": "w", "out_channels": 25_000}
        | ({"weight_bits": 8, "multiply": "m", "offset": "m"} if op == "linear" else {})
        | {"float32": "y"},
        {"op": "output", "input": "y"},
    ]
    arrays: dict[str, Array] = {"w": array} | ({"m": np.ones(25_000, np.float32)} if op == "linear" else {})
    program = Program(operations, arrays, memory_limit=_native.memory_limit // 4)
    kept = array.nbytes * (2 if op == "linear" and _native.kernels_name() == "avx2" else 1)
    assert kept < program.kept_bytes() < 1.02 * kept


#: Loads files with no limit of ours in a process that has 128 MiB left, and then one that fits.
SHORT = """
import resource, sys
import bitorch_runtime
def load(path):
    try:
        bitorch_runtime.load(path, memory_limit=2**50)
        print("loaded")
    except MemoryError:
        print("out of memory")
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
bitorch_runtime.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (size + 2**27, resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    load(path)
"""


@linux
def test_the_end_of_memory_is_a_memory_error(tmp_path: Path) -> None:
    """While operations are made, for what they keep, and for one image; what comes after is as ever."""
    softmax: Operation = {"op": "softmax", "input": "x"}
    grows: Operation = {"op": "pad", "input": "x", "padding": [0, 0, 0, 0], "mode": "constant", "channels": [0, 2**23]}
    paths = []
    programs = [
        many(floats(2**24), softmax, 4),
        many(floats(2), grows, 9, value=[*range(9)]),
        many(floats(9), softmax, 2),
    ]
    for i, operations in enumerate(programs):
        paths.append(tmp_path / f"{i}.bit.safetensors")
        paths[-1].write_bytes(format.encode(operations, {}, {}))
    done = subprocess.run([sys.executable, "-c", SHORT, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")[:3]) == (0, ["out of memory", "out of memory", "loaded"]), (
        done.stderr
    )


# What is shared is kept once


def layer_called(times: int, stage: Operation, **more: Any) -> list[Operation]:
    """A layer from 256 features to 256, `times` times after one another."""
    operations: list[Operation] = [{"op": "input", "output": "x0", "dtype": "uint8", "bits": 2, "shape": [256]}]
    for i in range(times):
        layer: Operation = {"op": "linear", "input": f"x{i}", "weight": "w", "weight_bits": 4, "out_channels": 256}
        operations.append(layer | stage | more | {"codes": f"x{i + 1}", "bits": 2})
    return [*operations, {"op": "output", "input": f"x{times}"}]


@pytest.mark.parametrize("kind", ["scales", "thresholds", "descending", "zero point"])
def test_a_layer_called_many_times_is_kept_once(kind: str) -> None:
    rng = np.random.default_rng(0)
    weights = 2 * rng.integers(0, 16, (256, 256)) - 15
    arrays: dict[str, Array] = {"w": pack_weights(weights, 4)}
    stage: Operation = {}
    if kind in ("scales", "zero point"):
        arrays |= {"m": np.full(256, 1 / 700, np.float32), "b": rng.random(256, dtype=np.float32)}
        stage = {"multiply": "m", "offset": "b"} | ({"zero_point": 1} if kind == "zero point" else {})
    else:
        arrays["t"] = np.sort(rng.integers(-900, 900, (256, 3)), axis=1).astype(np.int32)
        stage = {"thresholds": "t"}
    if kind == "descending":
        arrays["d"] = rng.random(256) < 0.5
        arrays["t"][arrays["d"]] = arrays["t"][arrays["d"], ::-1]
        stage["descending"] = "d"
    one, eight = (Program(layer_called(times, stage), arrays) for times in (1, 8))
    x = rng.integers(0, 4, (5, 256), dtype=np.uint8)
    np.testing.assert_array_equal(eight(x), reference.run(layer_called(8, stage), arrays, x))
    more = eight.kept_bytes() - one.kept_bytes()
    assert one.kept_bytes() > 32768  # of weights alone
    assert more < 7 * (4096 + 4096)  # themselves, their scales and the steps of their windows


def test_shared_weights_on_images_of_two_sizes() -> None:
    """The weights are the same, where they look into the image is not."""
    rng = np.random.default_rng(1)
    window = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "groups": 1}
    weights = {"weight": "w", "weight_bits": 2, "out_channels": 24, "zero_point": 1}
    operations: list[Operation] = []
    for name, side, dilation in (("a", 9, 1), ("b", 6, 1), ("c", 9, 2), ("d", 9, 2)):
        shape = [16, side, side + 1]
        operations.append({"op": "input", "output": name, "dtype": "uint8", "bits": 3, "shape": shape, "order": "nchw"})
        layer = {"op": "conv2d", "input": name, **weights, **window, "dilation": [dilation] * 2, "int32": f"{name}.y"}
        operations += [layer, {"op": "output", "input": f"{name}.y", "order": "nchw"}]
    arrays = {"w": pack_weights(2 * rng.integers(0, 4, (24, 16, 3, 3)) - 3, 2)}
    images = [rng.integers(0, 8, (2, *op["shape"]), dtype=np.uint8) for op in operations if op["op"] == "input"]
    results, expected = Program(operations, arrays)(*images), reference.run(operations, arrays, *images)
    assert isinstance(results, dict)
    assert isinstance(expected, dict)
    for name, result in results.items():
        np.testing.assert_array_equal(result, expected[name])


def test_arrays_that_thousands_share_are_kept_once() -> None:
    """4,000 operations that keep five copies of an array of 100,000 channels: 8 GB, if each had its own."""
    channels = 100_000
    keys = dict.fromkeys(["divide", "multiply", "offset", "norm_multiply", "norm_offset"], "a")
    operations = many(floats(channels), {"op": "affine", "input": "x", **keys}, 4000, "float32")
    program = Program(operations, {"a": np.ones(channels, np.float32)})
    kept = program.kept_bytes()
    assert kept < 2 * 4 * channels + 4010 * 4096
    assert program.workspace_bytes(10**6) <= kept + program.workspace_bytes(1)  # a large batch runs in pieces


# Time


def test_ten_thousand_tensors_that_live_together_are_planned_in_no_time() -> None:
    """The plan of the arena looks at every pair of them, no more; sorting them for each took a minute."""
    operations: list[Operation] = [{"op": "input", "output": "x", "dtype": "float32", "shape": [3]}]
    names = [f"r{i}" for i in range(9990)]
    operations += [{"op": "softmax", "input": "x", "output": name} for name in names]
    operations += [{"op": "concat", "inputs": names, "output": "y"}, {"op": "output", "input": "y"}]
    start = time.process_time()
    program = Program(operations, {})
    assert time.process_time() - start < 5
    x = np.zeros((1, 3), np.float32)
    np.testing.assert_array_equal(program(x), np.full((1, 3 * len(names)), np.float32(1 / 3)))


def test_a_shape_of_huge_numbers() -> None:
    """Their product has a million digits; neither reader works it out."""
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3]},
        {"op": "activation", "input": "x", "output": "y", "function": "leaky_relu", "slope": "a"},
        {"op": "output", "input": "y"},
    ]
    data = format.encode(operations, {"a": np.ones(3, np.float32)}, {})
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'"shape":[3]', b'"shape":[' + b",".join([b"9" * 18] * 50_000) + b"]")
    data = len(header).to_bytes(8, "little") + header + data[8 + length :]
    start = time.process_time()
    with pytest.raises(ValueError, match="does not fit in 64 bits"):
        _native.load_bytes(data, 2**30)
    with pytest.raises(ValueError, match="'a': 12 bytes are not what"):
        format.decode(data)
    assert time.process_time() - start < 2
