"""What is made of other things and kept, and what copies and pickles make anew for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Made = TypeVar("_Made")


class Kept(Generic[_Made]):
    """A place for one thing that was made, or None: an attribute of a module that no copy of it takes along."""

    def __init__(self) -> None:
        self.made: _Made | None = None

    def __deepcopy__(self, memo: object) -> Kept[_Made]:
        return Kept()

    def __reduce__(self) -> tuple[Callable[[], Kept[_Made]], tuple[()]]:
        return Kept, ()

    def __repr__(self) -> str:
        return "Kept()"  # the same of every module: what is kept is no part of what a module is
