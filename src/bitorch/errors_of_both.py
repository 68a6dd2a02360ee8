"""Errors of the kinds that this library raises, which are those that BITorch raises in the same place as well.

So code that was written for BITorch catches what it caught there.
"""

from __future__ import annotations


class QuantizationArgumentError(TypeError, ValueError):
    """What was given for a quantizer is neither an instance nor a name; a ValueError in BITorch."""


class ScaleWithoutEffectError(ValueError, RuntimeWarning):
    """A scale that global scaling would ignore; BITorch raises the RuntimeWarning."""


class ScheduleError(ValueError, AssertionError):
    """A schedule without steps or quantizers; an AssertionError in BITorch."""


class NoStepsError(ValueError, ZeroDivisionError):
    """A step of a quantizer that is scheduled over none; a ZeroDivisionError in BITorch."""


class ProcedureError(ValueError, KeyError):
    """A name that no scheduling procedure has; a KeyError in BITorch."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows a repr


class FilterError(ValueError, AssertionError):
    """A look-up that would take everything; an AssertionError in BITorch."""


class NothingToWriteError(RuntimeError, AssertionError):
    """A table is told to take over rows that no forward has made; an AssertionError in BITorch."""
