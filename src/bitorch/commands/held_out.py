"""What `bitorch sensitivity` and `bitorch allocate` measure with: a net, held-out samples, and a loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..data.loaders import loader
from ..objective import Loss
from ..train.assemble import Parts, assemble
from ..train.run_data import floats
from ..train.settings import Settings

_BATCH_SIZE = 64
_PAIR = re.compile(r"W(\d{1,2})A(\d{1,2})")


@dataclass(frozen=True)
class HeldOut:
    """A run's parts, test samples as batches, and the run's loss, None where outputs and labels ask for it."""

    parts: Parts
    batches: list[Any]
    loss: Loss | None


def held_out(settings: Settings, checkpoint: Path | None, samples: int) -> HeldOut:
    """Assemble the parts of a run, and read its first test samples, in batches.

    Args:
        settings: of the run.
        checkpoint: that they come from, None without one.
        samples: how many, at least 2.

    Raises:
        ValueError, TypeError, OSError, ImportError: see `assemble`; ValueError too for fewer than 2 samples.
    """
    if samples < 2:
        raise ValueError(f"--samples {samples}: must be at least 2")
    parts = assemble(settings, of=checkpoint)
    test = parts.dataset.test
    batches = loader(test, min(_BATCH_SIZE, samples, len(test)), shuffle=False)
    chosen = [floats(batch) for batch in islice(batches, -(-samples // batches.batch_size))]
    return HeldOut(parts, chosen, parts.task.stated_loss)


def pairs_from(texts: Sequence[str]) -> Sequence[int] | Sequence[tuple[int, int]]:
    """Return the bits that --try-bits names: numbers, of which there are all pairs, or pairs such as W1A2.

    Raises:
        ValueError: something else, or both mixed.
    """
    if all(text.isdecimal() for text in texts):
        return tuple(int(text) for text in texts)
    found = [_PAIR.fullmatch(text.upper()) for text in texts]
    if not all(found):
        raise ValueError(
            f"--try-bits {' '.join(texts)}: must be numbers such as 1 2 4, of which there are all pairs, or "
            "pairs such as W1A1 W2A4"
        )
    return tuple((int(match[1]), int(match[2])) for match in found if match is not None)
