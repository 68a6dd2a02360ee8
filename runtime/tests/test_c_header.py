"""The header as a file: its names, its limits, what it includes, and what it refuses."""

from __future__ import annotations

import ctypes
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, reference, save
from bitorch_runtime.c_source import ArenaError, c_source, emitting, export_c
from bitorch_runtime.c_source.fragment_text import with_needed
from bitorch_runtime.c_source.memory_plan import Buffer, peak, plan
from bitorch_runtime.c_source.names import check_name, identifier
from bitorch_runtime.c_source.read_codes import with_codes_read
from bitorch_runtime.c_source.standalone import STRICT
from c_headers import CORTEX_M4, call, library, needs
from operation_examples import FUNCTIONS, FUNCTIONS_WITH_NUMBERS, Array, Operation


def small_net(**port: Any) -> tuple[list[Operation], dict[str, Array]]:
    """Two convolutions, a pool and a linear layer, from codes of pixels."""
    rng = np.random.default_rng(0)
    window = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "groups": 1}
    pool = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4}
    thresholds = np.sort(rng.integers(-40, 40, (8, 3)), axis=1).astype(np.int32)
    operations: list[Operation] = [
        {"op": "input", "output": "pixels", "dtype": "uint8", "bits": 8, "shape": [3, 8, 8], "order": "nchw"} | port,
        {"op": "dequantize", "input": "pixels", "output": "x"},
        {"op": "conv2d_float", "input": "x", "weight": "w0", **window, "codes": "a", "bits": 2},
        {"op": "conv2d", "input": "a", "weight": "w1", "weight_bits": 1, "out_channels": 8, **window}
        | {"codes": "b", "bits": 2, "thresholds": "t"},
        {"op": "max_pool", "input": "b", "output": "c", **pool},
        {"op": "flatten", "input": "c", "output": "f", "order": "chw"},
        {"op": "linear", "input": "f", "weight": "w2", "weight_bits": 2, "out_channels": 4, "int32": "scores"},
        {"op": "output", "input": "scores"},
    ]
    arrays: dict[str, Array] = {
        "w0": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "w1": reference.pack_weights(rng.integers(0, 2, (8, 72)) * 2 - 1, 1),
        "w2": reference.pack_weights(rng.integers(0, 4, (4, 128)) * 2 - 3, 2),
        "t": thresholds,
    }
    return operations, arrays


# Compilers


@pytest.mark.parametrize(
    "command",
    [
        ("gcc", "-O2"),
        ("gcc", "-Os", "-Wconversion", "-Wshadow", "-Wno-sign-conversion"),
        ("clang", "-O2"),
        ("aarch64-linux-gnu-gcc", "-O2"),
        ("arm-linux-gnueabihf-gcc", "-O2"),
        (*CORTEX_M4, "-Os"),
        ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-Os"),
    ],
    ids=" ".join,
)
def test_compilers_have_nothing_to_say(command: tuple[str, ...], tmp_path: Path) -> None:
    needs(command[0])
    (tmp_path / "net.h").write_text(c_source(*small_net()).text)
    (tmp_path / "net.c").write_text('#define NET_IMPLEMENTATION\n#include "net.h"\n')
    words = [*command, *STRICT, "-c", "net.c", "-o", "net.o"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_caller_includes_it_alone_in_c_and_in_cpp(tmp_path: Path) -> None:
    needs("gcc", "g++")
    (tmp_path / "net.h").write_text(c_source(*small_net()).text)
    text = '#include "net.h"\n#include "net.h"\nint sizes[NET_INPUT_SIZE + NET_OUTPUT_SIZE];\n'
    for compiler, name in (("gcc", "a.c"), ("g++", "b.cpp")):
        (tmp_path / name).write_text(text)
        subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-c", name], cwd=tmp_path, check=True)


def test_it_calls_nothing_of_libc_but_memory_functions(tmp_path: Path) -> None:
    needs("gcc", "nm")
    (tmp_path / "net.c").write_text("#define NET_IMPLEMENTATION\n" + c_source(*small_net()).text)
    subprocess.run(["gcc", "-std=c99", "-O2", "-fno-pic", "-c", "net.c", "-o", "net.o"], cwd=tmp_path, check=True)
    listed = subprocess.run(["nm", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r" U (\w+)", listed)) <= {"memcpy", "memmove", "memset", "__stack_chk_fail"}
    assert re.findall(r" T (\w+)", listed) == ["net_run"]


def test_includes_are_of_c99_and_only_what_is_needed() -> None:
    text = c_source(*small_net()).text
    assert set(re.findall(r"#include <(.+)>", text)) <= {"stdint.h", "string.h"}
    root: Operation = {"op": "activation", "input": "x", "output": "y", "function": "sqrt"}
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [4]}
    assert "#include <math.h>" in c_source([port, root, {"op": "output", "input": "y"}], {}).text


def test_fast_math_is_refused(tmp_path: Path) -> None:
    needs("gcc")
    (tmp_path / "net.c").write_text("#define NET_IMPLEMENTATION\n" + c_source(*small_net()).text)
    words = ["gcc", "-std=c99", "-ffast-math", "-c", "net.c"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "need -ffast-math to be off" in done.stderr


def test_two_nets_in_one_file(tmp_path: Path) -> None:
    needs("gcc")
    whole = small_net()
    nets = library({name: c_source(*whole, name).text for name in ("one", "two")}, tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    found = [call(nets, name, Program(*whole), [image])["scores"] for name in ("one", "two")]
    assert np.array_equal(found[0], found[1])
    packed = Program(*whole)(image)
    assert isinstance(packed, np.ndarray)
    assert np.array_equal(found[0], packed)


# Inputs


def test_inputs_out_of_range_are_told(tmp_path: Path) -> None:
    needs("gcc")
    operations: list[Operation] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [2]},
        {"op": "input", "output": "q", "dtype": "uint8", "bits": 3, "shape": [2]},
        {"op": "input", "output": "i", "dtype": "int64", "below": 5, "shape": [2]},
        *({"op": "output", "input": name} for name in "xqi"),
    ]
    nets = library({"net": c_source(operations, {}).text}, tmp_path)
    x: Array = np.zeros(2, np.float32)
    out: list[Array] = [np.zeros(2, kind) for kind in (np.float32, np.uint8, np.int32)]
    for q, i, code in (([7, 0], [4, 0], 0), ([0, 8], [0, 0], 2), ([0, 0], [0, 5], 3), ([0, 0], [-1, 0], 3)):
        arrays: list[Array] = [x, np.array(q, np.uint8), np.array(i, np.int64), *out]
        assert nets.net_run(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays)) == code
    assert "return 2" in c_source(operations, {}).text


def test_constants_say_sizes_classes_and_bytes(tmp_path: Path) -> None:
    source = c_source(*small_net(), "digits", info={"class_names": ['a"b', "\\", "ü?", "*/", "net_NET_"]})
    text = source.text
    assert "#define DIGITS_INPUT_SIZE 192\n" in text
    assert "#define DIGITS_OUTPUT_SIZE 4\n" in text
    assert f"#define DIGITS_ARENA_BYTES {source.arena_bytes}\n" in text
    assert "int digits_run(const uint8_t *in, int32_t *out);" in text
    assert source.float_weights == {"a": 864}
    assert "dequantize" not in text  # the layer reads pixels
    assert "net_" not in text.partition("#ifdef DIGITS_IMPLEMENTATION")[2]
    needs("gcc")
    loop = "for (int i = 0; i < DIGITS_CLASSES; i++) puts(names[i]);"
    main = f"#include <stdio.h>\nint main(void) {{ const char *names[] = DIGITS_CLASS_NAMES; {loop} return 0; }}\n"
    (tmp_path / "main.c").write_text(text + main)
    subprocess.run(["gcc", *STRICT, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert (
        subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout.decode()
        == 'a"b\n\\\nü?\n*/\nnet_NET_\n'
    )


def test_several_ports_have_names_of_their_own() -> None:
    operations: list[Operation] = [
        {"op": "input", "output": "a/x", "dtype": "float32", "shape": [2]},
        {"op": "input", "output": "a.x", "dtype": "float32", "shape": [3]},
        *({"op": "output", "input": name} for name in ("a/x", "a.x")),
    ]
    text = c_source(operations, {}).text
    assert "int net_run(const float *in_a_x, const float *in_a_x_2, float *out_a_x, float *out_a_x_2);" in text
    assert "#define NET_INPUT_A_X_2_SIZE 3\n" in text


# What is refused


@pytest.mark.parametrize("name", ["", "3d", "a-b", "int", "class", "ä", "a b", "_net", "x" * 32, "a\nb"])
def test_names_that_c_does_not_have(name: str) -> None:
    with pytest.raises(ValueError, match="must be a name of C"):
        c_source(*small_net(), name)
    assert check_name(identifier(name)) == identifier(name)


def test_a_name_that_is_no_text() -> None:
    with pytest.raises(TypeError, match="name=3: must be a text"):
        c_source(*small_net(), 3)  # type: ignore[arg-type]


def test_an_operation_without_c_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        emitting,
        "EMITTERS",
        {name: emit for name, emit in emitting.EMITTERS.items() if name not in ("linear", "max_pool")},
    )
    save(tmp_path / "net", *small_net())
    with pytest.raises(ValueError, match="there is no C of max_pool, linear: "):
        export_c(tmp_path / "net", tmp_path / "net.h")
    assert not (tmp_path / "net.h").exists()


def test_an_arena_that_is_too_large(tmp_path: Path) -> None:
    needed = c_source(*small_net()).arena_bytes
    assert c_source(*small_net(), arena_limit=needed).arena_bytes == needed
    save(tmp_path / "net", *small_net())
    message = (
        rf"needs an arena of {needed} bytes, more than the limit of {needed - 1}; {needed} would do.*conv2d_float 'a'"
    )
    with pytest.raises(ArenaError, match=message):
        export_c(tmp_path / "net", tmp_path / "net.h", arena_limit=needed - 1)
    assert not (tmp_path / "net.h").exists()


def open_net() -> list[Operation]:
    width = {"sum": [[2, "width"], [4]]}
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [1, 4, width], "order": "nchw"}
    return [port, {"op": "output", "input": "x", "order": "nchw", "array_shape": [1, 4, width]}]


def test_open_sizes_are_refused_or_given() -> None:
    with pytest.raises(ValueError, match=r"takes images of many sizes.*--size\); the smallest is 1x4x4"):
        c_source(open_net(), {})
    assert "#define NET_INPUT_SIZE 32\n" in c_source(open_net(), {}, shapes=[(1, 4, 8)]).text
    with pytest.raises(ValueError, match=r"does not take \[1, 4, 7\]"):
        c_source(open_net(), {}, shapes=[(1, 4, 7)])
    with pytest.raises(ValueError, match="'x' has 3 dimensions, got"):
        c_source(open_net(), {}, shapes=[(4, 8)])
    with pytest.raises(ValueError, match="1 inputs, got shapes for 0"):
        c_source(open_net(), {}, shapes=[])
    with pytest.raises(ValueError, match=r"takes \[\(3, 8, 8\)\] and no others"):
        c_source(*small_net(), shapes=[(3, 9, 9)])


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no-such-compiler -Os", "'no-such-compiler' cannot be run: No such file"),
        ("", "must be a command such as"),
        ("false", "'false' fails: it says nothing"),
        ("true", "'true' fails: it says nothing"),
        ("gcc --no-such-flag", "fails: .*no-such-flag"),
    ],
)
def test_compilers_that_fail(compiler: str, message: str, tmp_path: Path) -> None:
    if compiler:
        needs(*(["gcc"] if "gcc" in compiler else []))
    save(tmp_path / "net", *small_net())
    with pytest.raises(ValueError, match=message):
        export_c(tmp_path / "net", tmp_path / "net.h", compiler=compiler)
    assert not (tmp_path / "net.h").exists()


@pytest.mark.parametrize("compiler", ["gcc -Os", " ".join(CORTEX_M4) + " -Os"])
def test_the_size_of_the_code_is_that_of_the_object(compiler: str, tmp_path: Path) -> None:
    command = compiler.split()
    needs(command[0], "objdump")
    save(tmp_path / "net", *small_net())
    written = export_c(tmp_path / "net", tmp_path / "net.h", compiler=compiler)
    (tmp_path / "net.c").write_text('#define NET_IMPLEMENTATION\n#include "net.h"\n')
    subprocess.run([*command, "-std=c99", "-c", "net.c"], cwd=tmp_path, check=True)
    tool = command[0].removesuffix("gcc") + "size"
    listed = subprocess.run([tool, "-A", "net.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert written.code_bytes == sum(int(n) for n in re.findall(r"^\.text\S* +(\d+)", listed, re.MULTILINE))
    assert f"code: {written.code_bytes} bytes by {compiler}\n" in (tmp_path / "net.h").read_text()


def test_files_that_cannot_be_replaced(tmp_path: Path) -> None:
    save(tmp_path / "net", *small_net())
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "nowhere" / "net.h"):
        with pytest.raises(OSError, match=str(path)):
            export_c(tmp_path / "net", path)
    with pytest.raises(FileNotFoundError):
        export_c(tmp_path / "none", tmp_path / "net.h")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "net"]


# How it is made


def test_the_same_network_gives_the_same_text() -> None:
    assert c_source(*small_net()).text == c_source(*small_net()).text


def test_codes_are_read_as_floats_by_layers_alone() -> None:
    """A dequantize stays where others need its floats: an operation, an output, or the same layer again."""
    operations, _ = small_net()
    assert [one["op"] for one in with_codes_read(operations)] == [
        one["op"] for one in operations if one != operations[1]
    ]
    layer = operations[2]
    for more in ({"op": "output", "input": "x"}, {"op": "affine", "input": "x", "low": 0.0, "float32": "y"}):
        assert with_codes_read([*operations, more]) == [*operations, more]
    assert with_codes_read([*operations[:2], {**layer, "residual": "x"}])[1] == operations[1]
    assert with_codes_read(operations[:2]) == operations[:2]


def test_arrays_that_are_equal_are_there_once() -> None:
    operations, arrays = small_net()
    twin = dict(operations[3], input="b", codes="b2")
    more = [*operations[:4], twin, dict(operations[4], input="b2"), *operations[5:]]
    assert c_source(more, arrays).constant_bytes == c_source(operations, arrays).constant_bytes


@pytest.mark.parametrize("name", ["norm_row", "run", "at", "arena", "n1_affine", "data", "float", "x y"])
def test_arrays_with_the_names_of_functions(name: str, tmp_path: Path) -> None:
    needs("gcc")
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [4]}
    affine: Operation = {"op": "affine", "input": "x", "norm_multiply": name, "norm_offset": "o", "float32": "y"}
    operations = [port, affine, {"op": "output", "input": "y"}]
    arrays: dict[str, Array] = {name: np.arange(4, dtype=np.float32), "o": np.ones(4, np.float32)}
    x: Array = np.full((1, 4), 3, np.float32)
    nets = library({"net": c_source(operations, arrays).text}, tmp_path)
    assert call(nets, "net", Program(operations, arrays), [x])["y"].tolist() == [[1, 4, 7, 10]]
    assert not [
        path.name for path in (files("bitorch_runtime.c_source") / "fragments").iterdir() if "data_" in path.name
    ]


def test_every_fragment_has_a_comment_and_a_use() -> None:
    folder = files("bitorch_runtime.c_source") / "fragments"
    names = {path.name.removesuffix(".c") for path in folder.iterdir() if path.name.endswith(".c")}
    for name in names:
        lines = (folder / f"{name}.c").read_text().splitlines()
        first = next(line for line in lines if not line.startswith("#include"))
        assert first.startswith("/* "), name
        assert max(map(len, lines)) <= 120, name
        assert len(with_needed([name])) == len(set(with_needed([name])))
    texts = "\n".join(path.read_text() for path in Path(emitting.__file__).parent.rglob("*.py"))
    functions = {"elu", "celu", "selu", "leaky_relu", *emitting.EMITTERS}
    used = {other for name in names for other in with_needed([name])[:-1]}
    unused = {name for name in names if f'"{name}"' not in texts} - used - functions
    assert unused <= {*FUNCTIONS, *FUNCTIONS_WITH_NUMBERS}


@pytest.mark.parametrize("seed", range(20))
def test_buffers_that_meet_lie_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffers = []
    for number in range(30):
        first = int(rng.integers(0, 20))
        buffers.append(Buffer(str(number), int(rng.integers(0, 200)), first, first + int(rng.integers(0, 5))))
    found = plan(buffers)
    for one in buffers:
        assert 0 <= found.offsets[one.name] <= found.nbytes - one.nbytes
        for other in buffers:
            if one is not other and one.meets(other) and one.nbytes and other.nbytes:
                a, b = found.offsets[one.name], found.offsets[other.name]
                assert a + one.nbytes <= b or b + other.nbytes <= a
    assert peak(buffers, 25)[1] <= found.nbytes + 8 * len(buffers)
    assert found.nbytes <= 1.5 * peak(buffers, 25)[1]
