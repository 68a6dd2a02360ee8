"""How many of a model's weights become low-bit, and a warning where that is less than half of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..quantizations.bits import FLOAT_BITS
from .convertible import own_tensors, supported
from .step import Step
from .table import WeightShare

#: How many reasons a warning gives, those of the most weights first.
_MOST_REASONS = 3


def share_of(steps: Sequence[Step]) -> WeightShare:
    """Return what a conversion makes of a model's weights."""
    sizes: dict[int, int] = {}
    stay_float: set[int] = set()
    for step in steps:
        for tensor in own_tensors(step.module):
            if tensor.dim() >= 2:
                sizes[id(tensor)] = tensor.numel()
                if not _has_low_bit_weight(step):
                    stay_float.add(id(tensor))
    return WeightShare(sum(size for key, size in sizes.items() if key not in stay_float), sum(sizes.values()))


def warn_of_few(steps: Sequence[Step], stacklevel: int) -> None:
    """Warn if less than half of the weights become low-bit, without those that the user has left out by name."""
    meant = [step for step in steps if not step.is_left_out]
    share = share_of(meant)
    if share.low_bit == 0 or 2 * share.low_bit >= share.weights:  # none: a config of 32 bits
        return
    groups: dict[str, list[Step]] = {}
    for step in meant:
        if not _has_low_bit_weight(step):
            groups.setdefault(step.row.note, []).append(step)
    largest = sorted(groups.items(), key=lambda group: -share_of(group[1]).weights)[:_MOST_REASONS]
    reasons = "; ".join(_reason(note, group) for note, group in largest)
    warnings.warn(f"{share}, less than half. Float stay {reasons}", stacklevel=stacklevel + 1)


def _has_low_bit_weight(step: Step) -> bool:
    return step.row.became != "float" and step.row.weight_bits != FLOAT_BITS


def _reason(note: str, group: Sequence[Step]) -> str:
    names = [repr(step.row.name) for step in group]
    named = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    return f"{named} with {share_of(group).weights:,} weights, {note}: {_remedy(note)}"


def _remedy(note: str) -> str:
    for end in ("first", "last"):
        if note == f"{end} layer":
            return f'{end}=8 or {end}="same" converts it'
    return f"put a layer in its place that can be converted ({supported()}), or leave it out with filter_fn"
