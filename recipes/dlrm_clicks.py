"""Clicks that are made up, in the format of Criteo's data sets: they depend on numbers, words and pairs of words."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitorch.atomic_file import write_text

DENSE, CATEGORICAL = 13, 26
_WORDS = 16
#: Features whose words matter by themselves, and those that matter in pairs.
_ALONE, _PAIRS = range(10), ((10, 11), (0, 12))
_LATENT = 3
_MISSING = 0.08


@dataclass(frozen=True)
class Habits:
    """What makes people click: the structure that a net has to find.

    Attributes:
        of_numbers: effect of each dense feature.
        of_words: effect of each word of each feature, [26, words].
        tastes: of each word a vector, [26, words, latent]; two that agree make a click likelier.
    """

    of_numbers: NDArray[np.float64]
    of_words: NDArray[np.float64]
    tastes: NDArray[np.float64]


def habits(seed: int) -> Habits:
    """Return the same habits for the same seed."""
    generator = np.random.default_rng(seed)
    of_words = np.zeros((CATEGORICAL, _WORDS))
    of_words[_ALONE] = generator.normal(0, 0.7, (len(_ALONE), _WORDS))
    of_numbers = np.where(np.arange(DENSE) < 5, generator.normal(0, 0.4, DENSE), 0.0)
    return Habits(of_numbers, of_words, generator.normal(0, 0.8, (CATEGORICAL, _WORDS, _LATENT)))


def log_odds(numbers: NDArray[np.int64], words: NDArray[np.int64], known: Habits) -> NDArray[np.float64]:
    """Return the log odds of a click, [N], of numbers [N, 13] and words [N, 26]."""
    features = np.arange(CATEGORICAL)
    odds = (np.log1p(numbers) - 1.5) @ known.of_numbers + known.of_words[features, words].sum(1)
    for one, other in _PAIRS:
        odds += (known.tastes[one, words[:, one]] * known.tastes[other, words[:, other]]).sum(1)
    return np.asarray(odds - 1.0)  # fewer click than not


def write_clicks(path: Path, count: int, seed: int, known: Habits) -> float:
    """Write so many lines, and return the log loss that knowing the true odds gives: no net does better on average."""
    generator = np.random.default_rng(seed)
    numbers = generator.geometric(0.15, (count, DENSE)).astype(np.int64) - 1
    words = np.minimum(generator.geometric(0.1, (count, CATEGORICAL)) - 1, _WORDS - 1)
    chance = 1 / (1 + np.exp(-log_odds(numbers, words, known)))
    labels = generator.random(count) < chance
    is_missing = generator.random((count, DENSE + CATEGORICAL)) < _MISSING
    spelled = [[_spelled(feature, word) for word in range(_WORDS)] for feature in range(CATEGORICAL)]
    lines = []
    for label, row, chosen, missing in zip(labels, numbers, words, is_missing, strict=True):
        cells = [*map(str, row), *(spelled[feature][word] for feature, word in enumerate(chosen))]
        shown = ("" if gone else cell for cell, gone in zip(cells, missing, strict=True))
        lines.append("\t".join([str(int(label)), *shown]))
    write_text(path, "".join(f"{line}\n" for line in lines))
    return float(-np.mean(np.where(labels, np.log(chance), np.log1p(-chance))))


def _spelled(feature: int, word: int) -> str:
    """The word as eight hexadecimal digits, as a hash of it has them."""
    return f"{zlib.crc32(f'{feature}:{word}'.encode()):08x}"
