"""Which implementation of a quantized layer is built and run: the modes of BITorch."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import bitorch

if TYPE_CHECKING:
    from collections.abc import KeysView, ValuesView
    from types import TracebackType

__all__ = ["RuntimeMode", "change_mode", "pause_wrapping", "runtime_mode_type"]


class RuntimeMode(IntEnum):
    """What a quantized layer runs on.

    Modes compare with each other and with integers. A sum of modes, such as `CPU + GPU`, means any of them, however
    often each is in it.

    Attributes:
        RAW: the layers of this package, whatever engines are registered.
        DEFAULT: the same, unless an engine is registered for it.
        CPU: packed layers, which compute on bits; or those of an engine.
        GPU, INFERENCE_AUTO: the layers of an engine, of which this package has none.
    """

    RAW = 0
    DEFAULT = 1
    CPU = 2
    GPU = 4
    INFERENCE_AUTO = 8

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    def __add__(self, other: int) -> int:
        """Return the mode that means any of both: one of the two where the other adds nothing to it."""
        if not isinstance(other, int):
            return NotImplemented
        both = self.value | int(other)
        return next((one for one in (self, other) if one == both), both)

    __radd__ = __add__

    @staticmethod
    def available_values() -> ValuesView[RuntimeMode]:
        """Return all modes."""
        return RuntimeMode.__members__.values()

    @staticmethod
    def list_of_names() -> KeysView[str]:
        """Return the names of all modes, in capitals."""
        return RuntimeMode.__members__.keys()

    @staticmethod
    def from_string(level: str) -> RuntimeMode:
        """Return the mode of a name, in letters of any case.

        Raises:
            KeyError: there is none of this name.
        """
        try:
            return RuntimeMode[level.upper()]
        except KeyError:
            names = ", ".join(str(mode) for mode in RuntimeMode)
            raise KeyError(f"level must be the name of a mode, one of {names}; got {level!r}") from None

    @staticmethod
    def is_single_mode(mode: int) -> bool:
        """Return whether this is one mode, and no sum of several."""
        return isinstance(mode, int) and any(mode == one for one in RuntimeMode)

    @staticmethod
    def is_combined_mode(mode: int) -> bool:
        """Return whether this is a mode or a sum of modes."""
        return isinstance(mode, int) and 0 <= mode <= sum(RuntimeMode)

    @staticmethod
    def mode_compatible(required_mode: int, provided_mode: int) -> bool:
        """Return whether both have a mode in common; RAW goes with every one."""
        if RuntimeMode.RAW in (required_mode, provided_mode):
            return True
        return bool(int(required_mode) & int(provided_mode))

    def is_supported_by(self, provided_mode: int) -> bool:
        """Return whether something that supports a mode, or a sum of modes, supports this one."""
        return RuntimeMode.mode_compatible(self, provided_mode)


#: A mode, or the sum of several.
runtime_mode_type = RuntimeMode | int


def current_mode() -> int:
    """Return `bitorch.mode`.

    Raises:
        TypeError: somebody has set it to what is no mode. ValueError: to a number that is none.
    """
    mode = bitorch.mode
    if not isinstance(mode, int):
        raise TypeError(f"bitorch.mode must be a RuntimeMode, got {mode!r}; set it to RuntimeMode.DEFAULT, say")
    if not RuntimeMode.is_combined_mode(mode):
        raise ValueError(f"bitorch.mode must be a RuntimeMode or a sum of modes, got {mode!r}")
    return mode


def mode_name(mode: int) -> str:
    """Return the name of a mode, or of the modes in a sum: "cpu", "cpu + gpu"."""
    names = [str(one) for one in RuntimeMode if mode & one]
    return " + ".join(names) if names else str(RuntimeMode.RAW)


class change_mode:
    """Context manager: `bitorch.mode` is another one inside, and behind it what it was when this object was made.

    Args:
        mode: one mode.

    Raises:
        AssertionError: no mode, or a sum of several.
    """

    def __init__(self, mode: int) -> None:
        if not RuntimeMode.is_single_mode(mode):
            raise AssertionError(f"mode must be one RuntimeMode, got {mode!r}; layers are built for one mode at a time")
        self._previous_mode = bitorch.mode
        self._mode = RuntimeMode(mode)

    def __enter__(self) -> change_mode:
        bitorch.mode = self._mode
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        bitorch.mode = self._previous_mode


class pause_wrapping(change_mode):
    """Context manager: layers that are built inside are those of this package, without an engine's in their places."""

    def __init__(self) -> None:
        super().__init__(RuntimeMode.RAW)
