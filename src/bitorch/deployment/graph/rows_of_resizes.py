"""Images of another size."""

from __future__ import annotations

from . import shapes
from .kind import FLAG, INTS, TENSOR_OR_NONE, TEXT, Kind

RESIZES: tuple[Kind, ...] = (
    Kind(
        "nearest",
        "Pixels repeated or left out, to `output_size`: output o of n along an axis of s is pixel ⌊o·s/n⌋.",
        settings={"output_size": INTS},
        shape=shapes.resized,
        moves=True,
        keeps_channels=True,
    ),
    Kind(
        "resize",
        'Pixels between pixels, to `output_size`: `mode` "linear" or "cubic", `align_corners`, and `scale`, float64 of '
        "each axis as F.interpolate is given it, None where sizes say it.",
        settings={"output_size": INTS, "mode": TEXT, "align_corners": FLAG, "scale": TENSOR_OR_NONE},
        shape=shapes.resized,
        keeps_channels=True,
        sums=True,
        exact=False,
    ),
)
