"""Pools."""

from __future__ import annotations

from . import shapes
from .kind import FLAG, INT, INTS, WINDOW, Kind

POOLS: tuple[Kind, ...] = (
    Kind(
        "max_pool",
        "The largest number of a window; `padding` as of conv.",
        settings={**WINDOW, "dilation": INTS},
        shape=shapes.pooled,
        moves=True,
        keeps_channels=True,
    ),
    Kind(
        "avg_pool",
        "The mean of a window, row by row. `count_include_pad`: borders count. `beyond`: pixels behind the borders of "
        "each dimension that windows reach, and that never count; `divisor`: what to divide by, whatever counts.",
        settings={**WINDOW, "count_include_pad": FLAG},
        optional={"beyond": INTS, "divisor": INT},
        shape=shapes.pooled,
        keeps_channels=True,
    ),
    Kind(
        "global_avg_pool",
        "The mean over all rows, to [C], or with ones behind.",
        shape=shapes.one_pixel,
        keeps_channels=True,
        sums=True,
        exact=False,
    ),
    Kind(
        "adaptive_avg_pool",
        "Means of windows that cover the image, to `output_size` pixels.",
        settings={"output_size": INTS},
        shape=shapes.resized,
        keeps_channels=True,
    ),
    Kind(
        "adaptive_max_pool",
        "The largest numbers of windows that cover the image, to `output_size` pixels.",
        settings={"output_size": INTS},
        shape=shapes.resized,
        moves=True,
        keeps_channels=True,
    ),
)
