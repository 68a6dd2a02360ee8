"""Thresholds of a chain whose codes may go any way, found by computing the codes of every D that can be reached.

Behind SiLU, hardswish or a negative slope codes may fall and rise again, and no rule says that the functions of a
library, rounded as they are, rise at all. So nothing is assumed: each D goes through the model's own modules and
functions. Codes that rise or fall throughout are comparisons, as of a monotone chain; others are comparisons that count
the changes, and a table of the codes between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph.chains import probe
from .threshold_search import Staircase

#: D times channels of one layer that are gone through, a fifth of a second: 3×3 kernels of 512 channels in 1 and 2 bits
#: have 2^23, 1×1 kernels of 192 channels to 1152 in 4 and 4 bits 2^25.
_MOST_NUMBERS = 2**25
#: More comparisons take longer than the function.
_MOST_CHANGES = 15
#: Numbers that are computed at once.
_AT_ONCE = 2**18


@dataclass(frozen=True)
class _Changes:
    """Where codes change: in `channel` from `before` to `after` at D = `at`, all [changes], by channel and then D."""

    channel: Tensor
    at: Tensor
    before: Tensor
    after: Tensor
    first: Tensor  # [C]: the codes of the lowest D


def staircase_of_every_integer(
    codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], levels: int, low: int, high: int
) -> Staircase | None:
    """Find the thresholds of a chain of any elementwise functions that reads integers D.

    Args:
        codes: D as float32 [P, C, 1…] to codes 0 … levels.
        shape: of one image, [C, …], or () of one number.
        low, high: the least and largest D that can be reached.

    Returns:
        None if they are too many to go through, if a D gives NaN, or if codes change oftener than 15 comparisons tell.
    """
    channels = (*shape, 1)[0]
    if (high - low + 1) * channels > _MOST_NUMBERS:
        return None
    changes = _changes(_rows(codes, shape, channels, low, high), channels, low)
    if changes is None:
        return None
    falls = _in_channels(changes, changes.after < changes.before, channels)
    rises = _in_channels(changes, changes.after > changes.before, channels)
    if not bool((falls & rises).any()):
        return _one_way(changes, falls, levels, low, high)
    return _with_table(changes, channels, high)


def _rows(
    codes: Callable[[Tensor], Tensor], shape: tuple[int, ...], channels: int, low: int, high: int
) -> Iterator[Tensor]:
    """The codes of all D, some at a time: [P, C]."""
    step = max(1, _AT_ONCE // channels)
    for start in range(low, high + 1, step):
        d = torch.arange(start, min(start + step, high + 1))
        # The layer rounds D to float32 once, where it is beyond 2^24.
        points = d.to(torch.float32).unsqueeze(1).repeat(1, channels)
        yield codes(probe(points, shape)).reshape(points.shape)


def _changes(rows: Iterator[Tensor], channels: int, low: int) -> _Changes | None:
    """None if there is NaN among the codes, or if a channel has more changes than comparisons are worth."""
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    counts = torch.zeros(channels, dtype=torch.int64)
    first, last, at = None, None, low
    for values in rows:
        if bool(values.isnan().any()):
            return None
        q = values.to(torch.uint8)
        first = q[0] if first is None else first
        joined = q if last is None else torch.cat([last.unsqueeze(0), q])
        begin = at + 1 if last is None else at  # D of joined[1]
        row, channel = (joined[1:] != joined[:-1]).nonzero(as_tuple=True)
        counts += torch.bincount(channel, minlength=channels)
        if int(counts.max()) > _MOST_CHANGES:
            return None
        found.append((channel, row + begin, joined[row, channel], joined[row + 1, channel]))
        last, at = q[-1], at + len(q)
    if first is None:
        raise ValueError("there is no D to go through")
    channel, where, before, after = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = channel.argsort(stable=True)
    return _Changes(channel[order], where[order], before[order], after[order], first)


def _in_channels(changes: _Changes, which: Tensor, channels: int) -> Tensor:
    """bool [C]: whether there is such a change in a channel."""
    return torch.bincount(changes.channel[which], minlength=channels) > 0


def _one_way(changes: _Changes, falls: Tensor, levels: int, low: int, high: int) -> Staircase:
    """Each channel rises or falls: a code's threshold is its first D, or its last one where codes fall."""
    never, always = torch.where(falls, low - 1, high + 1), torch.where(falls, high, low)
    thresholds = torch.empty(len(falls), levels, dtype=torch.int32)
    for level in range(1, levels + 1):
        # A code that is not crossed is reached by every D of a channel, or by none.
        column = torch.where(changes.first >= level, always, never)
        crossed = (changes.before < level) != (changes.after < level)
        channel = changes.channel[crossed]
        column[channel] = changes.at[crossed] - falls[channel].to(torch.int64)
        thresholds[:, level - 1] = column.int()
    return Staircase(thresholds, falls)


def _with_table(changes: _Changes, channels: int, high: int) -> Staircase:
    """The number of changes that D has passed, and the code behind each."""
    counts = torch.bincount(changes.channel, minlength=channels)
    entries = 2 ** int(counts.max()).bit_length()
    thresholds = torch.full((channels, entries - 1), high + 1, dtype=torch.int32)
    ordinal = torch.arange(len(changes.channel)) - (counts.cumsum(0) - counts)[changes.channel]
    thresholds[changes.channel, ordinal] = changes.at.int()
    table = changes.first.unsqueeze(1).repeat(1, entries)
    for j in range(entries - 1):
        here = ordinal == j
        table[changes.channel[here], j + 1 :] = changes.after[here].unsqueeze(1)
    is_same = bool((table == table[0]).all())
    table = table[0].clone() if is_same else table
    return Staircase(thresholds, torch.zeros(channels, dtype=torch.bool), table)
