"""What is made of many numbers that belong together: normalisations and reductions."""

from __future__ import annotations

from . import shapes
from .kind import INT, INTS, NUMBER, TENSOR_OR_NONE, TEXT, Kind, always
from .shapes import Settings

_SQUARES = frozenset({"norm", "var", "std"})


def _adds_squares(settings: Settings) -> bool:
    return settings["reduction"] in _SQUARES


NORMS: tuple[Kind, ...] = (
    Kind(
        "normalize",
        "(x − m)·f·`weight` + `bias`, m and f of the set that x belongs to, `by` as of the runtime's operation: one of "
        "`groups` runs of channels, at one place or, of `rows` row axes, the last ones, at all. `weight` and `bias` "
        "[C], or [places, C], or None.",
        settings={
            "by": TEXT,
            "rows": INT,
            "groups": INT,
            "eps": NUMBER,
            "weight": TENSOR_OR_NONE,
            "bias": TENSOR_OR_NONE,
        },
        shape=shapes.same,
        sums=True,
        squares=always,
        exact=False,
    ),
    Kind(
        "reduce",
        "One number of all along `axes` of [C, *rows], which become 1: `reduction` sum, mean, norm, var or std, "
        "with its `correction`.",
        settings={"reduction": TEXT, "axes": INTS, "correction": NUMBER},
        shape=shapes.reduced,
        sums=True,
        squares=_adds_squares,
        exact=False,
    ),
    Kind(
        "extreme",
        "The largest or smallest along `axes`, which become 1: `reduction` amax or amin; NaN wins.",
        settings={"reduction": TEXT, "axes": INTS},
        shape=shapes.reduced,
        moves=True,
    ),
    Kind(
        "place",
        "Where the first largest or smallest stands along the one of `axes`, which becomes 1: `reduction` argmax or "
        "argmin. Integers, which can only leave.",
        settings={"reduction": TEXT, "axes": INTS},
        shape=shapes.reduced,
    ),
)
