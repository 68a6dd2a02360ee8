"""The packed file in plain Python and NumPy: the readable definition of what docs/format.md says.

`bitorch_runtime.load` reads the same files in C++, and refuses the same ones; the tests hold each to the other.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bitorch_runtime.arguments import Array

FORMAT = "bitorch"
FORMAT_VERSION = 1
KEYS = ("format", "format_version", "program", "info", "sha256")
INFO_KEYS = ("class_names", "preprocessing", "provenance")
#: What a tensor may hold, as safetensors calls it; little-endian.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

MAX_HEADER = 16 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 2**19
#: The data begin at a multiple of this many bytes.
ALIGNMENT = 64

Contents = tuple[list[dict[str, Any]], dict[str, Array], dict[str, Any]]


class Tensor(NamedTuple):
    """A tensor of a file: its bytes, and how to read them."""

    name: str
    dtype: str  # a key of DTYPES
    shape: tuple[int, ...]
    data: bytes | memoryview

    def array(self) -> Array:
        """Return a copy of the values, in this machine's byte order."""
        array: Array = np.frombuffer(self.data, DTYPES[self.dtype]).reshape(self.shape)
        return np.array(array, array.dtype.newbyteorder("="))


def read(path: str | os.PathLike[str]) -> Contents:
    """Return (operations, arrays, info) of a packed file.

    Args:
        path: of the file.

    Returns:
        The first two as `bitorch_runtime.Program` takes them, but not checked as a program; `info` has one or more of
        the keys ``class_names``, ``preprocessing`` and ``provenance``, or none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no packed file, damaged, or newer than this library.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return decode(data)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def decode(data: bytes) -> Contents:
    """`read` for the bytes of a file."""
    header, body = _split(data)
    metadata = _check_metadata(header.pop("__metadata__", {}))
    tensors = _tensors(header, body)
    for key in KEYS:
        if key not in metadata:
            raise ValueError(f'the key "{key}" is missing in the metadata')
    if digest(metadata["program"], metadata["info"], tensors) != metadata["sha256"]:
        raise ValueError("the content does not have the SHA-256 that the file states")
    operations = _json("program", metadata["program"])
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise ValueError('"program" must be a list of objects')
    return operations, {tensor.name: tensor.array() for tensor in tensors}, _info(_json("info", metadata["info"]))


def encode(operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array], info: Mapping[str, Any]) -> bytes:
    """Return the bytes of a packed file; equal arguments give equal bytes.

    Args:
        operations: of a program that was checked.
        arrays: float32, int32, uint8 or bool, as the program names them.
        info: with the keys of `read`.

    Raises:
        ValueError: JSON cannot hold the operations or the info; an array has a dtype or size that files cannot hold.
    """
    program, description = dump("operations", list(operations)), dump("info", _info(dict(info)))
    tensors = sorted(map(_tensor, arrays.items()), key=lambda t: (-DTYPES[t.dtype].itemsize, t.name.encode()))
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "info": description,
        "program": program,
        "sha256": digest(program, description, tensors),
    }
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for tensor in tensors:
        begin, end = end, end + len(tensor.data)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the program is described in {len(text)} bytes, but a file holds at most {MAX_HEADER}")
    return b"".join([struct.pack("<Q", len(text)), text, *(tensor.data for tensor in tensors)])


def digest(program: str, info: str, tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    sha = hashlib.sha256()

    def number(value: int) -> None:
        sha.update(struct.pack("<Q", value))

    def text(value: bytes | memoryview) -> None:
        number(len(value))
        sha.update(value)

    text(program.encode())
    text(info.encode())
    for tensor in tensors:
        text(tensor.name.encode())
        text(tensor.dtype.encode())
        number(len(tensor.shape))
        for extent in tensor.shape:
            number(extent)
        text(tensor.data)
    return sha.hexdigest()


def dump(name: str, value: object, *, sort_keys: bool = True) -> str:
    """Return `value` as JSON without spaces, NumPy's numbers as plain ones.

    Raises:
        TypeError: it holds something that is neither a number, a text, a bool, None, a list nor a dict, or a dict with
            keys other than texts.
        ValueError: it holds NaN, infinity or itself, or is nested too deeply.
    """

    def plain(item: object) -> object:
        if isinstance(item, np.generic):
            return item.item()
        raise TypeError(f"{item!r} is {type(item).__name__}, which JSON cannot hold; arrays go into `arrays`")

    try:
        text = json.dumps(
            value, allow_nan=False, default=plain, ensure_ascii=False, sort_keys=sort_keys, separators=(",", ":")
        )
        text.encode()
    except TypeError as error:  # from above, or a key that is a tuple
        raise TypeError(f"{name}: {error}") from None
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply") from None
    except ValueError as error:  # NaN, infinity, a list that contains itself, half of a surrogate pair
        raise ValueError(f"{name}: {error}") from None
    return text


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header, and the data behind it."""
    if len(data) < 8:
        raise ValueError(f"the file has {len(data)} bytes; it begins with 8 bytes of header length")
    (length,) = struct.unpack_from("<Q", data)
    if length > MAX_HEADER:
        raise ValueError(f"the header length is {length} bytes; at most {MAX_HEADER} are allowed")
    if length > len(data) - 8:
        raise ValueError(f"the header length is {length} bytes, but only {len(data) - 8} follow; the file is cut off")
    text = data[8 : 8 + length]
    if not text.startswith(b"{"):
        raise ValueError('the header does not begin with "{"')
    header = _json("the header", text.decode())
    assert isinstance(header, dict)  # it began with "{"
    return header, memoryview(data)[8 + length :]


def _check_metadata(metadata: object) -> dict[str, str]:
    """The metadata, of this format and a version that this library knows."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("__metadata__ must be an object of strings")
    if metadata.get("format") != FORMAT:
        raise ValueError('no packed network of bitorch: "format" in the metadata must be "bitorch"')
    version = metadata.get("format_version", "")
    if not (0 < len(version) < 10 and set(version) <= set("0123456789") and version[0] != "0"):
        raise ValueError(f'"format_version" is {version!r}; it must be a number from 1 on')
    if int(version) > FORMAT_VERSION:
        raise ValueError(
            f"the file has format version {version}, and this bitorch-runtime reads versions up to {FORMAT_VERSION}; "
            "install a newer bitorch-runtime, or save the network again with an older bitorch"
        )
    for key in metadata:
        if key not in KEYS:
            raise ValueError(f"the metadata have the unknown key {key!r}; the keys are {', '.join(KEYS)}")
    return metadata


def _tensors(header: Mapping[str, object], body: memoryview) -> list[Tensor]:
    """The tensors in the order of their bytes, which must follow each other without holes."""
    tensors = []
    covered = 0
    entries = {name: _entry(name, value) for name, value in header.items()}
    for name, (dtype, shape, (begin, end)) in sorted(entries.items(), key=lambda item: item[1][2]):
        if begin != covered or end > len(body):
            raise ValueError(f"tensor {name!r} lies at {begin} to {end}, but must begin at {covered}")
        if end - begin != _size(shape) * DTYPES[dtype].itemsize or end == begin:
            raise ValueError(f"tensor {name!r}: {end - begin} bytes are not what {dtype} {list(shape)} takes, or none")
        data = body[begin:end]
        if dtype == "BOOL" and max(data) > 1:
            raise ValueError(f"tensor {name!r} is bool, but has bytes other than 0 and 1")
        tensors.append(Tensor(name, dtype, shape, data))
        covered = end
    if covered != len(body):
        raise ValueError(f"the tensors cover {covered} bytes of data, but the file holds {len(body)}")
    return tensors


def _size(shape: tuple[int, ...]) -> int:
    """The number of elements; of a shape that no file holds any number beyond, in no time."""
    size = 1
    for extent in shape:
        size = min(size * extent, 2**63)
    return size


def _entry(name: str, value: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """dtype, shape and data_offsets of one tensor."""
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r}: must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"tensor {name!r}: the dtype is {dtype!r}; a packed file holds {', '.join(DTYPES)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise ValueError(f"tensor {name!r}: shape and data_offsets must be lists of integers from 0 on")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"tensor {name!r}: data_offsets is {offsets}; it must be [begin, end]")
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _tensor(item: tuple[str, Array]) -> Tensor:
    name, array = item
    for dtype, kind in DTYPES.items():
        if array.dtype == kind.newbyteorder("=") and array.size > 0:
            return Tensor(name, dtype, array.shape, np.ascontiguousarray(array, kind).tobytes())
    raise ValueError(
        f"arrays[{name!r}]: {array.dtype} {array.shape}, but a packed file holds float32, int32, uint8 and bool, "
        "and no empty arrays"
    )


def _info(info: object) -> dict[str, Any]:
    if not isinstance(info, dict):
        raise ValueError(f"info: must be an object, not {type(info).__name__}")
    for key, value in info.items():
        if key not in INFO_KEYS:
            raise ValueError(f"info: unknown key {key!r}; the keys are {', '.join(INFO_KEYS)}")
        if key == "class_names":
            if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
                raise ValueError("info: class_names must be a list of one or more strings")
        elif not isinstance(value, dict):
            raise ValueError(f"info: {key} must be an object, not {type(value).__name__}")
    return info


def _json(name: str, text: str) -> object:
    """JSON, as strictly as the C++ reader takes it."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("a key is given twice")
        return value

    def constant(word: str) -> object:
        raise ValueError(f"{word} is no number")

    try:
        value = json.loads(text, object_pairs_hook=members, parse_constant=constant)
        _check_values(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}: {error}") from None
    return value


def _check_values(value: object) -> None:
    """Raise a ValueError where JSON is nested too deeply, too long, beyond float64, or not Unicode."""
    level = [value]
    count = 0
    for depth in range(MAX_DEPTH + 2):
        count += len(level)
        if count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
                "".join(item).encode()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str):
                item.encode()
            elif isinstance(item, (int, float)) and not math.isfinite(float(item)):
                raise ValueError("a number beyond the range of float64")
        if inner and depth == MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        level = inner
