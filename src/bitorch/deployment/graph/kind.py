"""What a row of the table of kinds holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType

from torch import Tensor

from . import shapes
from .shapes import Settings

#: What the value of a setting may be.
Types = tuple[type, ...]
Property = Callable[[Settings], bool]

TENSOR: Types = (Tensor,)
TENSOR_OR_NONE: Types = (Tensor, NoneType)
INTS: Types = (tuple,)
INT: Types = (int,)
FLAG: Types = (bool,)
TEXT: Types = (str,)
NUMBER: Types = (float, int)
BOUND: Types = (float, NoneType)

WINDOW = {"kernel_size": INTS, "stride": INTS, "padding": INTS}
GEOMETRY = {**WINDOW, "dilation": INTS, "groups": INT}
#: What a convolution has if it is a transposed one.
TRANSPOSED = {"output_padding": INTS}
CODES = {"bits": INT, "sign": FLAG}
QUANTIZER = {
    "form": TEXT,
    "bits": INT,
    "divide": TENSOR_OR_NONE,
    "plus": TENSOR_OR_NONE,
    "zero_point": INT,
    "code_scale": TENSOR_OR_NONE,
    "keeps_nan": FLAG,
}
WEIGHT = {"weight": TENSOR, "weight_bits": INT, "weight_grid": TEXT, "largest": INTS}


def always(settings: Settings) -> bool:
    """Whatever the settings."""
    return True


def never(settings: Settings) -> bool:
    """Whatever the settings."""
    return False


@dataclass(frozen=True)
class Kind:
    """One kind of nodes.

    Attributes:
        name: as `Node.kind` has it.
        doc: what a node computes, and what its settings are.
        arity: how many nodes it reads; None: one or more.
        settings: of each, the types that it may have. Tuples hold whole numbers.
        geometry: further settings, of which a node has all or none.
        optional: settings that a node may have as well.
        shape: whether its shape follows from its settings and the shapes that it reads.
        captured: whether capture makes it; the others are made by passes.
        elementwise: it computes each number of its result from one number, of the same channel.
        monotone: whether with these settings every channel rises or falls throughout, with the rounding of float32 too.
            It may make NaN of −inf or inf: at its ends, and nowhere between.
        nearly_rising: whether with these settings the function rises, and what a library computes may fall by its last
            bits, see `same_but_for_last_bits`.
        lowest: of a function that rises from 0 on, and that gives for x ≤ 0 numbers between this one and 0 only; it may
            make NaN of −inf. None of the others. What a library computes may fall by its last bits.
        rising: whether with these settings no channel falls anywhere or makes NaN, so that it commutes with a maximum.
            A factor of 0 makes NaN of infinities, which wins a maximum that the infinity, if it is −inf, would have
            lost.
        moves: each number of its result is one, or the largest, of those that it reads: so it commutes with what rises.
        keeps_channels: each number of its result is made of numbers of its own channel.
        weighs: it sums products with a weight, and the operation of the runtime does more behind the sum.
        sums: its sum is one of floats, in an order that is free.
        squares: whether with these settings it sums squares, which overflow where the numbers are smaller.
        exact: its value has the same bits wherever it is computed; False of free sums, and of a library's exp.
        lost: of what is not exact, how far a library's value may be from the true one beside its last bits, as
            PyTorch takes the tail of GELU from 1. Then huge numbers, too, become inf or NaN in some places of a tensor.
        makes_codes: of floats or of codes: there NaN ends.
    """

    name: str
    doc: str
    arity: int | None = 1
    settings: Mapping[str, Types] = field(default_factory=dict)
    geometry: Mapping[str, Types] = field(default_factory=dict)
    optional: Mapping[str, Types] = field(default_factory=dict)
    shape: shapes.Rule = shapes.anything
    captured: bool = True
    elementwise: bool = False
    monotone: Property = never
    nearly_rising: Property = never
    lowest: float | None = None
    rising: Property = never
    moves: bool = False
    keeps_channels: bool = False
    weighs: bool = False
    sums: bool = False
    squares: Property = never
    exact: bool = True
    lost: float = 0.0
    makes_codes: bool = False


def finite(key: str) -> Property:
    """Monotone: x·c or x + c with finite numbers."""
    return lambda settings: bool(settings[key].isfinite().all())


def nonzero(key: str) -> Property:
    return lambda settings: bool((settings[key].isfinite() & (settings[key] != 0)).all())


def positive(key: str) -> Property:
    return lambda settings: bool((settings[key].isfinite() & (settings[key] > 0)).all())


def elementwise_kind(
    name: str,
    doc: str,
    settings: Mapping[str, Types] | None = None,
    *,
    monotone: Property = never,
    nearly_rising: Property = never,
    lowest: float | None = None,
    rising: Property = never,
    exact: bool = True,
    lost: float = 0.0,
    captured: bool = True,
) -> Kind:
    return Kind(
        name,
        doc,
        settings={} if settings is None else settings,
        shape=shapes.same,
        elementwise=True,
        monotone=monotone,
        nearly_rising=nearly_rising,
        lowest=lowest,
        rising=rising,
        keeps_channels=True,
        exact=exact,
        lost=lost,
        captured=captured,
    )
