"""What only puts numbers elsewhere."""

from __future__ import annotations

from . import shapes
from .kind import FLAG, INT, INTS, TEXT, Kind

MOVES: tuple[Kind, ...] = (
    Kind(
        "concat",
        "Tensors one behind the other along `axis`: 0 of channels, 1 of the first row axis, and so on.",
        arity=None,
        settings={"axis": INT},
        shape=shapes.joined,
        moves=True,
    ),
    Kind(
        "flatten",
        "To [F]: channel by channel, or, with `channels_last`, row by row.",
        settings={"channels_last": FLAG},
        shape=shapes.flattened,
        moves=True,
    ),
    Kind(
        "select",
        "`channels`: for each of the result's the one that it is.",
        settings={"channels": INTS},
        shape=shapes.chosen,
        moves=True,
    ),
    Kind(
        "take",
        "`indices` of a row axis, `axis` from 1 on: for each of the result's places the one that it is.",
        settings={"axis": INT, "indices": INTS},
        shape=shapes.taken,
        moves=True,
        keeps_channels=True,
    ),
    Kind("reshape", "The same numbers, rows first and channels last.", shape=shapes.as_many, moves=True),
    Kind(
        "permute",
        "Axis i of [C, *rows] is axis `axes`[i] of the input.",
        settings={"axes": INTS},
        shape=shapes.permuted,
        moves=True,
    ),
    Kind(
        "pad",
        "Borders: `padding` as of conv, `channels` before and after; `mode` as of F.pad, and its `value`.",
        settings={"padding": INTS, "channels": INTS, "mode": TEXT, "value": (float, int)},
        shape=shapes.padded,
    ),
)
