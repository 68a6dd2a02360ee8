"""Networks in files: `save` writes one, `load` makes a `Model` of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bitorch_runtime import _native, atomic_file, format, tuning
from bitorch_runtime.arguments import Array, check_integer
from bitorch_runtime.program import Program

#: Bytes that a network from a file may take: what its operations keep, and a run with one image.
MEMORY_LIMIT = _native.memory_limit


class Model(Program):
    """A network from a packed file, made by `load`: a `Program` that says besides what its file says about it.

    It is called as a program is, from several threads at once if need be. A pickle of it holds the whole file, which
    must still be there, and be the same, when the pickle is made.
    """

    def __init__(self, parts: _native.Parts, memory_limit: int, source: str | bytes) -> None:
        """Models come from `load`.

        Args:
            parts: what the C++ core made of the file.
            memory_limit: it was loaded with.
            source: the file's absolute path, or, where there is none, its bytes.
        """
        plans, self._format_version, description, self._info, self._sha256 = parts
        self._take_native(plans, description)
        self._memory_limit = memory_limit
        self._source = source

    @property
    def class_names(self) -> list[str] | None:
        """What the scores stand for, in order; None where the file does not say."""
        names: list[str] | None = json.loads(self._info).get("class_names")
        return names

    @property
    def preprocessing(self) -> dict[str, Any] | None:
        """How a picture becomes an input, as the file's writer noted it (see docs/format.md); None if not at all."""
        preprocessing: dict[str, Any] | None = json.loads(self._info).get("preprocessing")
        return preprocessing

    @property
    def provenance(self) -> dict[str, Any] | None:
        """Where the network comes from, as the file's writer noted it; None if not at all."""
        provenance: dict[str, Any] | None = json.loads(self._info).get("provenance")
        return provenance

    @property
    def format_version(self) -> int:
        """The version of the file's format."""
        return self._format_version

    def __repr__(self) -> str:
        origin = repr(self._source) if isinstance(self._source, str) else "from a pickle"
        return f"Model({origin}: {self._signature()})"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _from_bytes, (self._file(), self._memory_limit)

    def _file(self) -> bytes:
        """The bytes of the file, if it still is the one that was loaded."""
        if isinstance(self._source, bytes):
            return self._source
        advice = "a pickle of a model holds its file, so leave that where it is"
        try:
            with open(self._source, "rb") as file:
                data = file.read()
            sha256 = _native.load_bytes(data, self._memory_limit)[-1]
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._source}: cannot be read any more ({error}); {advice}") from None
        if sha256 != self._sha256:
            raise ValueError(f"{self._source}: has changed since the model was loaded; {advice}")
        return data


def _from_bytes(data: bytes, memory_limit: int) -> Model:
    """What a pickle calls."""
    return Model(_native.load_bytes(data, memory_limit), memory_limit, data)


def load(path: str | os.PathLike[str], *, memory_limit: int = MEMORY_LIMIT, tune: bool = False) -> Model:
    """Load a packed network.

    A file holds data only, and all of it is checked, so that one from anywhere may be tried.

    Args:
        path: of a file that `save` wrote, by convention ``*.bit.safetensors``.
        memory_limit: the most bytes that it may take: what its operations keep (`kept_bytes`, weights prepared for this
            CPU among it), and what one image is worked on in, results included. 1 GiB is more than any network in use
            needs.
        tune: measure which kernel is the fastest for each convolution here, some milliseconds for each that was not
            measured before, instead of relying on what the kernels reckon. Times are kept in `tuning.times_file()`, per
            kind of CPU, for the next time. The results are the same to the bit.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no packed network, damaged, newer than this library, or asks for more memory; the message
            begins with the path.
        MemoryError: there is not enough memory for it.
    """
    memory_limit = check_integer("memory_limit", memory_limit, 0, 2**62)
    name = os.path.abspath(os.fspath(path))
    os.close(os.open(name, os.O_RDONLY | os.O_NONBLOCK))  # for Python's own errors: FileNotFoundError and its kin
    if not tune:
        return Model(_native.load_file(os.fsencode(name), memory_limit), memory_limit, name)
    known = tuning.known_times()
    parts, times = _native.load_file_tuned(os.fsencode(name), memory_limit, known)
    if times != known:
        tuning.keep_times(times)
    return Model(parts, memory_limit, name)


def save(
    path: str | os.PathLike[str],
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, Array],
    *,
    class_names: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as a packed file (docs/format.md); equal arguments give equal bytes.

    The program is checked first, and a file of that name is replaced only when the new one is complete. A pipe or a
    device such as /dev/stdout is written to, and never replaced.

    Args:
        path: of the file, by convention ``*.bit.safetensors``.
        operations: of the network, as `Program` takes them.
        arrays: likewise.
        class_names: what the scores stand for, in order.
        preprocessing: how a picture becomes an input, e.g. ``{"size": [224, 224], "channels": 3, "scale": "1/255"}``;
            anything that JSON holds.
        provenance: where the network comes from: bits per layer, versions of libraries, the source; likewise.

    Raises:
        TypeError: an argument is of another type, or holds what JSON cannot.
        ValueError: the program is wrong, or `class_names` is empty.
        OSError: the file cannot be written.
    """
    info: dict[str, Any] = {}
    if class_names is not None:
        info["class_names"] = _class_names(class_names)
    for name, notes in (("preprocessing", preprocessing), ("provenance", provenance)):
        if notes is None:
            continue
        if not isinstance(notes, Mapping):
            raise TypeError(f"{name}: must be a dict, not {type(notes).__name__}")
        info[name] = dict(notes)
    Program(operations, arrays)
    atomic_file.write(os.fspath(path), format.encode(operations, arrays, info))


def _class_names(names: object) -> list[str]:
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"class_names={names!r}: must be a list of strings")
    if not names:
        raise ValueError("class_names: must not be empty; leave it out")
    return list(names)
