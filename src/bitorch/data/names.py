"""A million names in a few objects."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray


class Names:
    """A list of names in bytes, which stand in one text one behind the other.

    Args:
        text: all names.
        ends: int64 [N], where each ends in it.
        indices: which of them are meant, in this order; None: all.
    """

    def __init__(self, text: bytes, ends: NDArray[np.int64], indices: NDArray[np.int64] | None = None) -> None:
        self._text, self._ends = text, ends
        self._indices = np.arange(len(ends)) if indices is None else indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> bytes:
        place = int(self._indices[index])
        return self._text[self._ends[place - 1] if place else 0 : self._ends[place]]

    def chosen(self, indices: NDArray[np.int64]) -> Names:
        """Return these of the names."""
        return Names(self._text, self._ends, self._indices[indices])

    def identity(self) -> bytes:
        """Return what tells these names and their order from others."""
        return self._text + self._ends.tobytes() + self._indices.tobytes()


class NamesBuilder:
    """Collects names."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._ends = array("q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, name: bytes) -> None:
        """Add a name."""
        self._text += name
        self._ends.append(len(self._text))

    def names(self) -> Names:
        """Return what was collected."""
        return Names(
            bytes(self._text), np.frombuffer(self._ends, np.int64).copy() if self._ends else np.zeros(0, np.int64)
        )
