"""Pickle files that hold numbers and texts, read without running any code that they name."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: More than any file that is read so has.
_MOST_BYTES = 1 << 31
_BYTE_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")


def read_plain_pickle(path: Path) -> Any:
    """Return what a pickle file holds: mappings, lists, texts, numbers and arrays of numbers.

    Texts that Python 2 wrote become bytes. What the file names, if it is not one of the few names that arrays are made
    of, is never looked up; and those stand for functions of this module, not of NumPy.

    Raises:
        ValueError: not such a file, or a damaged one. OSError: it cannot be read.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES // 2**30} GiB, which no such file has")
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, encoding="bytes").load())
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
        struct.error, MemoryError, RecursionError, UnicodeError, AssertionError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is no pickle file of numbers and texts, or a damaged one: {error}") from None


class _Array:
    """Stands for an array while it is read."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise ValueError("an array that is not made of numbers")
        self.value = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if is_fortran else "C")


class _DType:
    """Stands for the type of an array's numbers."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("ascii") if isinstance(name, bytes) else str(name)
        if text not in _BYTE_TYPES:
            raise ValueError(f"an array of the type {text[:20]!r}, which is not of numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else str(state[1])
        if order not in ("<", ">", "|", "="):
            raise ValueError("an array of unknown byte order")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]  # one of the two


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1" if encoding in ("latin1", b"latin1") else "utf-8")


class _Names:
    """Stands for numpy.ndarray where it is only named."""


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): _Names,
    ("numpy", "dtype"): _DType,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("builtins", "bytearray"): bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run")
        return _KNOWN[module, name]


def _plain(value: Any) -> Any:
    """Put the arrays in their places, at the first two levels, where files of data sets have them."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: item.value if isinstance(item, _Array) else item for key, item in value.items()}
    return value
