"""Clicks on advertisements in the format of Criteo's data sets: lines of a label, 13 numbers and 26 hashed words."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

#: Features of a line, behind its label.
DENSE_FEATURES, CATEGORICAL_FEATURES = 13, 26
_COLUMNS = 1 + DENSE_FEATURES + CATEGORICAL_FEATURES
_GZIP = b"\x1f\x8b"
#: Lines that are turned into tensors at once.
_LINES = 8192
_FIRST_WORD = 1 + DENSE_FEATURES


@dataclass(frozen=True, eq=False)
class Clicks:
    """Examples of clicks.

    Attributes:
        labels: float32 [N], 1 of a click and 0 of none.
        dense: float32 [N, 13], log(1 + x) of each number x; 0 where it is missing, or x is below 0.
        indices: int64 [N, 26], of each word a row of its feature's table; 0 where it is missing.
    """

    labels: Tensor
    dense: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Clicks:
        """Return these of the examples: a slice, or int64 or bool indices [n]."""
        return Clicks(self.labels[index], self.dense[index], self.indices[index])

    def bags(self) -> tuple[Tensor, Tensor]:
        """Return indices and offsets, int64 [26, N] both, as `models.DLRM` takes them: bags of one row each."""
        offsets = torch.arange(len(self)).expand(CATEGORICAL_FEATURES, -1)
        return self.indices.t().contiguous(), offsets


def read_criteo(path: str | os.PathLike[str], table_size: int | Sequence[int], *, most: int | None = None) -> Clicks:
    """Return the clicks of a file, in memory: 320 bytes each.

    Args:
        path: of a text, or one packed by gzip: a line for each example, fields with a tab between them, a label 0 or 1,
            13 whole numbers, 26 words of up to 8 hexadecimal digits. Numbers and words may be missing.
        table_size: rows of each feature's table, or of all of them, 2 at least. Row 0 is for missing words; a word is
            row 1 + word mod (table_size − 1), so that several share one.
        most: examples to be read, from the beginning; None: all of them.

    Raises:
        OSError: it cannot be read. TypeError, ValueError: a wrong table_size; a line that is none such, with its
            number. EOFError: the packed file ends too early.
    """
    parts = list(criteo_batches(path, table_size, batch_size=_LINES, most=most))
    if not parts:
        raise ValueError(f"{os.fspath(path)} has no line")
    joined = {field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Clicks)}
    return Clicks(**joined)


def criteo_batches(
    path: str | os.PathLike[str], table_size: int | Sequence[int], *, batch_size: int, most: int | None = None
) -> Iterator[Clicks]:
    """Read a file of clicks of any size, and give batch_size of them at a time, in its order; see `read_criteo`."""
    sizes = _sizes(table_size)
    for name, number in (("batch_size", batch_size), ("most", 1 if most is None else most)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} must be an int, got {number!r}")
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    return _batches(Path(path), sizes, batch_size, most)


def _batches(path: Path, sizes: Sequence[int], batch_size: int, most: int | None) -> Iterator[Clicks]:
    with _opened(path) as file:
        lines = itertools.islice(enumerate(file, 1), most)
        while chosen := list(itertools.islice(lines, batch_size)):
            try:
                yield _clicks(chosen, sizes)
            except ValueError as error:
                raise ValueError(f"{path}, {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        if is_packed:
            with gzip.open(file) as unpacked:
                yield unpacked
        else:
            yield file


def _clicks(lines: Sequence[tuple[int, bytes]], sizes: Sequence[int]) -> Clicks:
    labels, numbers, indices = [], [], []
    for place, line in lines:
        columns = line.rstrip(b"\r\n").split(b"\t")
        if len(columns) != _COLUMNS:
            hint = ": its label is missing" if len(columns) == _COLUMNS - 1 else ""
            raise ValueError(f"line {place} has {len(columns)} fields, and must have {_COLUMNS}{hint}")
        try:
            labels.append(int(columns[0]))
            numbers.append([max(int(number), 0) if number else 0 for number in columns[1:_FIRST_WORD]])
            words = zip(columns[_FIRST_WORD:], sizes, strict=True)
            indices.append([1 + int(word, 16) % (size - 1) if word else 0 for word, size in words])
        except ValueError as error:
            raise ValueError(f"line {place}: {error}; fields are whole numbers, then hexadecimal words") from None
        if labels[-1] not in (0, 1):
            raise ValueError(f"line {place} has the label {labels[-1]}, and must have 0 or 1")
    dense = torch.tensor(numbers, dtype=torch.float64).log1p().to(torch.float32)
    return Clicks(torch.tensor(labels, dtype=torch.float32), dense, torch.tensor(indices))


def _sizes(table_size: int | Sequence[int]) -> list[int]:
    sizes = [table_size] * CATEGORICAL_FEATURES if isinstance(table_size, int) else list(table_size)
    if any(isinstance(size, bool) or not isinstance(size, int) for size in sizes):
        raise TypeError(f"table_size must be an int, or {CATEGORICAL_FEATURES} of them, got {table_size!r}")
    if len(sizes) != CATEGORICAL_FEATURES or min(sizes) < 2:
        raise ValueError(
            f"table_size must be at least 2, for missing words and for others, of {CATEGORICAL_FEATURES} features, "
            f"got {table_size!r}"
        )
    return sizes
