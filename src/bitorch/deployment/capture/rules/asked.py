"""What a quantizer was found to compute, or a refusal."""

from __future__ import annotations

from ....quantizations.arithmetic import Arithmetic
from ...asked_arithmetic import Reason
from ..problems import PARTIAL, Refusal


def computed(arithmetic: Arithmetic | Reason) -> Arithmetic:
    """Return the arithmetic; a Refusal where there is a reason in its place."""
    if isinstance(arithmetic, Reason):
        raise refusal(arithmetic)
    return arithmetic


def refusal(reason: Reason) -> Refusal:
    """Return a reason as a refusal."""
    return Refusal(reason.what, f"{reason.remedy}, {PARTIAL}" if reason.partial_helps else reason.remedy)
