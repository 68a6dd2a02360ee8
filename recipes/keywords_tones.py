"""Synthetic words: three syllables, each a tone, low or high, that rises or falls; by many voices, in noise."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

RATE = 4000
"""Samples a second."""
LENGTH = 1600
"""Samples of a clip."""
WORDS = 10
_SYLLABLES = tuple(itertools.product((400.0, 1000.0), (0.7, 1.4)))  # pitch in Hz, and what it becomes times
_VOCABULARY = tuple(itertools.product(range(len(_SYLLABLES)), repeat=3))[5::6][:WORDS]


def clips(count: int, seed: int, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return sounds, float32 [count, 1, LENGTH] of mean square about 1, and the word in each, int64 [count]."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(WORDS, (count,), generator=generator)
    sounds = torch.stack([_spoken(int(word), generator) for word in words])
    sounds += noise * torch.randn(sounds.shape, generator=generator)
    sounds /= sounds.square().mean(1, keepdim=True).sqrt()
    return sounds.unsqueeze(1), words


def _spoken(word: int, generator: torch.Generator) -> Tensor:
    """A word by a voice of its own: pitch, pace, overtones, and when it begins."""
    pitch, pace, overtone, begin = torch.rand(4, generator=generator).tolist()
    syllable = int(0.1 * RATE * (0.8 + 0.4 * pace))
    parts = [_tone(*_SYLLABLES[number], 0.85 + 0.3 * pitch, overtone, syllable) for number in _VOCABULARY[word]]
    sound = torch.zeros(LENGTH)
    start = int(begin * (LENGTH - 3 * syllable))
    sound[start : start + 3 * syllable] = torch.cat(parts)
    return sound


def _tone(hertz: float, slide: float, pitch: float, overtone: float, length: int) -> Tensor:
    """A tone that goes from hertz·pitch to `slide` times that, with an overtone, swelling and fading."""
    t = torch.linspace(0, 1, length)
    phase = 2 * math.pi * torch.cumsum(hertz * pitch * slide**t, 0) / RATE
    return (torch.sin(phase) + overtone * torch.sin(2 * phase)) * torch.sin(math.pi * t).clamp(min=0).sqrt()
