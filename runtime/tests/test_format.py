"""The packed file: its bytes, and that two readers, in C++ and in Python, take and refuse the same ones."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import bitorch_runtime
import golden
from bitorch_runtime import Program, _native, format
from cases import random_case

DOCS = Path(__file__).parents[2] / "docs" / "format.md"
LIMIT = 2**24


def example() -> bytes:
    """The bytes of the hex dump in docs/format.md."""
    rows = re.findall(r"^[0-9a-f]{4}  (.{1,48})", DOCS.read_text(), re.MULTILINE)
    return bytes.fromhex("".join(rows))


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def build(header: dict[str, Any], body: bytes, *, hashed: bool = True) -> bytes:
    """A file of any header, with the right hash where one can be computed. It follows docs/format.md, not format.py."""

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def text(value: bytes) -> bytes:
        return number(len(value)) + value

    metadata = header.get("__metadata__")
    if hashed and isinstance(metadata, dict) and "sha256" in metadata:
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        try:
            content = text(metadata["program"].encode()) + text(metadata["info"].encode())
            for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"]):
                begin, end = entry["data_offsets"]
                content += text(name.encode()) + text(entry["dtype"].encode()) + number(len(entry["shape"]))
                content += b"".join(map(number, entry["shape"])) + text(body[begin:end])
            metadata = metadata | {"sha256": hashlib.sha256(content).hexdigest()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            pass  # so wrong that it has no hash
        header = header | {"__metadata__": metadata}
    encoded = json.dumps(header, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + body


def refusals(data: bytes) -> tuple[str | None, str | None]:
    """What C++ and Python say to a file; None where they take it."""
    said: list[str | None] = []
    for read in (lambda: _native.load_bytes(data, LIMIT), lambda: Program(*format.decode(data)[:2])):
        try:
            read()
            said.append(None)
        except ValueError as error:
            said.append(str(error))
    return said[0], said[1]


def check_refused(data: bytes, pattern: str) -> None:
    """Both readers refuse it, and C++ for this reason."""
    native, python = refusals(data)
    assert native is not None, "C++ takes it"
    assert re.search(pattern, native), native
    assert python is not None, "Python takes it"


# What the bytes are


def test_example_in_the_docs() -> None:
    data = example()
    assert len(data) == 660
    operations, arrays, info = format.decode(data)
    assert info == {"class_names": ["no", "yes"]}
    assert format.encode(operations, arrays, info) == data
    header, body = parts_of(data)
    assert parts_of(build(header, body))[0] == header, "the hash is not what the page says"
    assert refusals(data) == (None, None)


def test_golden_file_is_what_is_written() -> None:
    operations, arrays = golden.network()
    assert format.encode(operations, arrays, golden.INFO) == golden.FILE.read_bytes()


def test_golden_file_still_gives_its_scores() -> None:
    record = json.loads(golden.RECORD.read_text())
    images = np.array(record["images"], np.float32).reshape(2, 3, 6, 5)
    np.testing.assert_array_equal(images, golden.images())
    model = bitorch_runtime.load(golden.FILE)
    np.testing.assert_array_equal(model(images), np.array(record["scores"], np.float32))
    assert model.format_version == 1
    assert model.class_names == golden.INFO["class_names"]
    assert model.preprocessing == golden.INFO["preprocessing"]
    assert model.provenance == golden.INFO["provenance"]


def test_golden_file_has_every_dtype() -> None:
    header, _ = parts_of(golden.FILE.read_bytes())
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == set(format.DTYPES)


def test_safetensors_reads_it() -> None:
    _, arrays = golden.network()
    with safe_open(golden.FILE, "np") as file:
        assert set(file.keys()) == set(arrays)
        assert set(file.metadata()) == set(format.KEYS)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
            assert file.get_tensor(name).dtype == array.dtype


def test_arrays_are_aligned() -> None:
    data = golden.FILE.read_bytes()
    header, body = parts_of(data)
    assert (len(data) - len(body)) % 64 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % format.DTYPES[entry["dtype"]].itemsize == 0


def test_order_does_not_matter(tmp_path: Path) -> None:
    operations, arrays = golden.network()
    turned = [dict(reversed(operation.items())) for operation in operations]
    info = {key: golden.INFO[key] for key in reversed(golden.INFO)}
    fortran = {name: np.asfortranarray(arrays[name]) for name in reversed(arrays)}
    bitorch_runtime.save(tmp_path / "net", turned, fortran, **info)
    assert (tmp_path / "net").read_bytes() == golden.FILE.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_round_trip(seed: int, tmp_path: Path) -> None:
    case = random_case(seed)
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, case.operations, case.arrays)
    assert case.differences(bitorch_runtime.load(path)(*case.inputs)) == []
    operations, arrays, info = format.read(path)
    assert operations == json.loads(json.dumps(case.operations))
    assert info == {}
    assert arrays.keys() == case.arrays.keys()
    for name, array in arrays.items():
        assert array.dtype == case.arrays[name].dtype
        np.testing.assert_array_equal(array, case.arrays[name])
    assert format.encode(operations, arrays, info) == path.read_bytes()


@pytest.mark.parametrize("length", [*range(130), 1000, 65535])
def test_sha256_of_every_length(length: int) -> None:
    """C++'s SHA-256 is hashlib's, whatever is left over at the end of a block."""
    operations, arrays, _ = format.decode(example())
    data = format.encode(operations, arrays, {"provenance": {"source": "x" * length}})
    assert refusals(data) == (None, None)


def test_both_readers_know_the_same_version() -> None:
    assert _native.format_version == format.FORMAT_VERSION


# What is refused


def test_every_truncation_is_refused() -> None:
    data = example()
    for size in range(len(data)):
        native, python = refusals(data[:size])
        assert native, size
        assert python, size


def test_every_changed_bit_is_refused() -> None:
    data = bytearray(example())
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        native, python = refusals(bytes(data))
        assert native, bit
        assert python, bit
        data[bit // 8] ^= 1 << bit % 8


def test_more_bytes_are_refused() -> None:
    check_refused(example() + b"\0", "cover 20 bytes of data, but the file holds 21")


def change(path: str, value: Any) -> bytes:
    """The example with one entry of its header replaced, or taken out where `value` is None, and its hash put right."""
    header, body = parts_of(example())
    *keys, last = path.split("/")
    entry = header
    for key in keys:
        entry = entry[key]
    if value is None:
        del entry[last]
    else:
        entry[last] = value
    return build(header, body, hashed=last != "sha256")


META = "__metadata__/"
REFUSED = {
    "no metadata": ("__metadata__", None, 'no packed network of bitorch: "format".*is missing'),
    "another format": (META + "format", "pt", 'must be "bitorch", but is "pt"'),
    "format missing": (META + "format", None, 'must be "bitorch", but is missing'),
    "version missing": (META + "format_version", None, '"format_version" is missing'),
    "version zero": (META + "format_version", "0", '"format_version" is "0"; it must be a number from 1 on'),
    "version of a word": (META + "format_version", "one", "must be a number from 1 on"),
    "version with a zero": (META + "format_version", "01", "must be a number from 1 on"),
    "version with a sign": (META + "format_version", "+1", "must be a number from 1 on"),
    "version too long": (META + "format_version", "1" * 30, "must be a number from 1 on"),
    "newer version": (META + "format_version", "2", "version 2, and this .* up to 1; install a newer bitorch-runtime"),
    "unknown metadata": (META + "more", "", 'unknown key "more"'),
    "program missing": (META + "program", None, '"program" is missing'),
    "info missing": (META + "info", None, '"info" is missing'),
    "hash missing": (META + "sha256", None, '"sha256" is missing'),
    "hash too short": (META + "sha256", "ab", "64 hexadecimal digits"),
    "hash in capitals": (META + "sha256", "A" * 64, "64 hexadecimal digits"),
    "another hash": (META + "sha256", "a" * 64, "damaged or changed"),
    "metadata of numbers": (META + "info", 1, "an integer, not a string"),
    "info of a list": (META + "info", "[]", '"info" is a list; it must be an object'),
    "info of no JSON": (META + "info", "{", '"info": JSON, line 1, column 2'),
    "info with a key twice": (META + "info", '{"provenance": {}, "provenance": {}}', "given twice"),
    "info with an unknown key": (META + "info", '{"more": 1}', 'unknown key "more"'),
    "no class names": (META + "info", '{"class_names": []}', "one or more strings"),
    "class names of numbers": (META + "info", '{"class_names": [1]}', "one or more strings"),
    "preprocessing of a list": (META + "info", '{"preprocessing": []}', '"preprocessing" is a list'),
    "NaN in the info": (META + "info", '{"provenance": {"a": NaN}}', '"info": JSON'),
    "number beyond float64": (META + "info", '{"provenance": {"a": 1e999}}', "range of double"),
    "half of a pair": (META + "info", '{"provenance": {"a": "\\ud800"}}', "surrogate pair"),
    "deep info": (META + "info", '{"provenance": {"a": ' + "[" * 70 + "]" * 70 + "}}", "nested deeper than 64"),
    "very deep info": (META + "info", '{"provenance": {"a": ' + "[" * 100000, "nested deeper than 64"),
    "long info": (META + "info", '{"provenance": {"a": [0' + ",0" * 2**19 + "]}}", "more than 524288 values"),
    "program of an object": (META + "program", "{}", "must be a list of operations"),
    "program of no operations": (META + "program", "[]", "at least one"),
    "program of a wrong key": (META + "program", '[{"op": "input", "x": 1}]', "operation 0"),
    "unknown dtype": ("w/dtype", "BF16", "BF16"),
    "dtype of no program": ("w/dtype", "I8", "a packed file holds float32, int32, uint8 and bool"),
    "array of another shape": ("w/shape", [4], "operation 1"),
    "array unused": ("w2", {"dtype": "U8", "shape": [0], "data_offsets": [20, 20]}, "empty"),
    "array missing": ("w", None, "cover 16 bytes of data, but the file holds 20"),
    "offsets overlap": ("w/data_offsets", [15, 19], "no holes and no overlaps"),
    "offsets out of range": ("w/data_offsets", [16, 21], "end <= 20"),
    "offsets of huge numbers": ("w/data_offsets", [2**62, 2**62 + 4], "end <= 20"),
    "shape of huge numbers": ("w/shape", [2**62, 2**62], "does not fit"),
    "unknown key of a tensor": ("w/more", 1, 'unknown key "more"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    path, value, pattern = REFUSED[name]
    check_refused(change(path, value), pattern)


def test_newer_version_comes_first() -> None:
    """Whatever a later version may bring: other keys, other dtypes, another kind of hash."""
    header, body = parts_of(change("w/dtype", "F8_E4M3"))
    header["__metadata__"] = {"format": "bitorch", "format_version": "12", "code": "..."}
    check_refused(build(header, body), "version 12, and this bitorch-runtime reads versions up to 1")


def test_bool_of_other_bytes() -> None:
    header, body = parts_of(golden.FILE.read_bytes())
    begin, _ = header["conv.descending"]["data_offsets"]
    check_refused(build(header, body[:begin] + b"\2" + body[begin + 1 :]), "other than 0 and 1")


def test_no_safetensors() -> None:
    check_refused(
        b"PK\3\4" + bytes(100), "this is a PyTorch file, such as a checkpoint; a packed file of it is written by"
    )
    check_refused(b"\x89PNG" + bytes(100), "is this a safetensors file?")
    check_refused(b"", "has 0 bytes")


# Files that ask for memory


def too_large(operations: list[dict[str, Any]], arrays: dict[str, np.ndarray[Any, Any]], limit: int) -> str:
    with pytest.raises(ValueError, match=r"raise the limit if you trust") as caught:
        _native.load_bytes(format.encode(operations, arrays, {}), limit)
    return str(caught.value)


def test_huge_image_is_refused() -> None:
    said = too_large(
        [
            {"op": "input", "output": "x", "dtype": "float32", "shape": [1, 2**20, 2**20], "order": "nchw"},
            {"op": "output", "input": "x", "order": "nchw"},
        ],
        {},
        _native.memory_limit,
    )
    assert "one image is worked on in 8796093022400 bytes, results included" in said  # 2·2^42
    assert "and the operations keep 8192" in said
    assert "together more than the limit of 1073741824" in said


def test_weights_that_grow_are_refused() -> None:
    """2^11·2^11 signs in half a megabyte; with as much padding, 2049² borders of 32 int32."""
    size = 2**11
    window = {"kernel_size": [size, size], "stride": [1, 1], "padding": [size // 2] * 4, "dilation": [1, 1]}
    said = too_large(
        [
            {"op": "input", "output": "x", "dtype": "uint8", "bits": 1, "shape": [1, size, size], "order": "nchw"},
            {"op": "conv2d", "input": "x", "weight": "w", "weight_bits": 1, "out_channels": 1, **window, "groups": 1}
            | {"sign_activations": True, "int32": "y"},
            {"op": "output", "input": "y", "order": "nchw"},
        ],
        {"w": np.zeros((1, size * size // 8), np.uint8)},
        2**28,
    )
    assert "operation 1 (conv2d): needs 537395392 bytes for a border of sums" in said
    assert "and of the limit of 268435456 only" in said


def test_limit_is_the_callers() -> None:
    """All that a loaded network takes is within it, to the byte."""
    data = golden.FILE.read_bytes()
    program = _native.load_bytes(data, 2**20)[0]
    results = sum(int(np.prod(port["shape"])) * np.dtype(port["dtype"]).itemsize for port in program.outputs())
    needed = program.kept_bytes() + program.smallest().workspace_bytes(1) + results
    _native.load_bytes(data, needed)
    with pytest.raises(ValueError, match=rf"together more than the limit of {needed - 1}; raise the limit"):
        _native.load_bytes(data, needed - 1)
    with pytest.raises(ValueError, match=r"^operation 1 .* needs 4096 bytes for an operation, .* of 5000 only 904"):
        _native.load_bytes(data, 5000)


# The two readers agree


VALUES = st.sampled_from(
    [0, 1, -1, 2, 16, 20, 2**63, 0.5, True, None, "", "x", "U8", "F32", [], [0], [2, 2], [0, 16], {}, {"a": 1}]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The example after some changes of its header, its texts and its data; most with the right hash."""
    header, body = parts_of(example())
    for _ in range(draw(st.integers(1, 3))):
        entries: list[tuple[Any, Any]] = [(header, key) for key in header]
        for entry in (e for e in header.values() if isinstance(e, dict)):
            entries += [(entry, key) for key in entry]
        entries += [(e, i) for parent, key in entries if isinstance(e := parent[key], list) for i in range(len(e))]
        parent, key = draw(st.sampled_from(entries))
        value = parent[key]
        if isinstance(value, str) and value and draw(st.booleans()):
            at = draw(st.integers(0, len(value) - 1))
            parent[key] = value[:at] + draw(st.sampled_from(["", "0", "[", "}", ",", '"', " ", "9"])) + value[at + 1 :]
        elif isinstance(parent, dict) and draw(st.booleans()):
            renamed = draw(st.sampled_from(["a", "w", "y", "format", "dtype", ""]))
            parent[renamed] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(draw(VALUES))  # it may be changed in its turn
    if draw(st.booleans()):
        body = body[: draw(st.integers(0, 20))] + draw(st.binary(max_size=3))
    return build(header, body, hashed=draw(st.integers(0, 9)) > 0)


@given(damaged())
@settings(max_examples=600, deadline=None)
def test_both_readers_refuse_the_same(data: bytes) -> None:
    native, python = refusals(data)
    assert (native is None) == (python is None), f"C++: {native}\nPython: {python}\n{data!r}"
