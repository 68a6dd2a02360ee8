"""What files hold, piece by piece: each is of the kind that it has to be, or an error says where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..short_repr import short_repr
from ..structured_text import check_bounds
from ..tensor_file import why_no_plain_tensor

_MOST = 2**53


class Part:
    """A value in a file, and where it stands there. Every method raises a ValueError that names that place.

    Args:
        value: what stands there.
        place: for messages: "bitorch.info".
    """

    def __init__(self, value: object, place: str) -> None:
        self.value = value
        self.place = place

    def __getitem__(self, key: str) -> Part:
        """Return what a mapping holds under a key."""
        mapping = self.mapping()
        if key not in mapping:
            raise ValueError(f"it lacks {self._of(key)}")
        return Part(mapping[key], self._of(key))

    def get(self, key: str) -> Part | None:
        """Return what a mapping holds under a key, None if nothing."""
        return self[key] if key in self.mapping() else None

    def mapping(self) -> Mapping[str, Any]:
        """Return a mapping whose keys are texts."""
        if not isinstance(self.value, Mapping) or not all(isinstance(key, str) for key in self.value):
            raise self.error("a mapping with texts as keys")
        return self.value

    def items(self) -> list[tuple[str, Part]]:
        """Return what a mapping holds."""
        return [(key, Part(value, self._of(key))) for key, value in self.mapping().items()]

    def list(self, length: int | None = None) -> list[Part]:
        """Return the items of a list."""
        if not isinstance(self.value, list | tuple) or (length is not None and len(self.value) != length):
            raise self.error("a list" if length is None else f"a list of {length}")
        return [Part(item, f"{self.place}[{index}]") for index, item in enumerate(self.value)]

    def integer(self, least: int = 0, most: int = _MOST) -> int:
        """Return an int within bounds."""
        if type(self.value) is not int or not least <= self.value <= most:
            raise self.error(f"a whole number from {least} {'on' if most == _MOST else f'to {most}'}")
        return self.value

    def number(self) -> float:
        """Return a number."""
        if type(self.value) not in (int, float):
            raise self.error("a number")
        return self.value  # type: ignore[return-value]  # as just seen

    def text(self) -> str:
        """Return a text."""
        if not isinstance(self.value, str):
            raise self.error("a text")
        return self.value

    def tensor(self, shape: Sequence[int] | None = None) -> Tensor:
        """Return a tensor, of this shape if one is given."""
        why = why_no_plain_tensor(self.value)
        if why:
            raise ValueError(f"{self.place}: {why}")
        assert isinstance(self.value, Tensor)  # as just seen
        if shape is not None and self.value.shape != tuple(shape):
            raise ValueError(f"{self.place} has the shape {list(self.value.shape)}, and must have {list(shape)}")
        return self.value

    def plain(self, read: Callable[[Any], Any]) -> Any:
        """Return read(value) of a value of bounded size; its ValueError or TypeError gets the place."""
        try:
            check_bounds(self.value)
            return read(self.value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.place}: {error}") from None

    def error(self, wanted: str) -> ValueError:
        """Return the error that the value is not what it must be."""
        return ValueError(f"{self.place} must be {wanted}, got {_shown(self.value)}")

    def _of(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else short_repr(key).strip("'")


def _shown(value: object) -> str:
    if isinstance(value, Mapping | list | tuple | Tensor):
        return f"{type(value).__name__} of {len(value) if not isinstance(value, Tensor) else list(value.shape)}"
    return short_repr(value)
