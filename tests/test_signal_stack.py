"""The stack for signals is as it was, whatever was loaded meanwhile."""

from __future__ import annotations

import ctypes
import sys

import pytest

from bitorch.signal_stack import SignalStack, kept_signal_stack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack of Linux")
_DISABLED = 2


def _stack() -> tuple[int | None, int, int]:
    now = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
    return now.sp, now.flags, now.size


def test_it_is_given_back() -> None:
    room, before = ctypes.create_string_buffer(2**16), _stack()
    with kept_signal_stack():
        other = SignalStack(ctypes.addressof(room), 0, len(room))
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(other), None) == 0
        assert _stack() != before
    assert _stack()[1] == before[1]
    if before[1] != _DISABLED:
        assert _stack() == before
