"""The noise of gradients: a function of key and place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import oracle_gradients
from bitorch.quantizations.noise import Key, draw_key, noise

CPU = torch.device("cpu")


def halves(drawn: int) -> Key:
    k0, k1 = torch.tensor([drawn], dtype=torch.int64).view(torch.int32).tolist()
    return k0, k1


def as_tensors(key: Key) -> Key:
    """The key as it stays on other devices."""
    k0, k1 = (torch.tensor(half, dtype=torch.int32) for half in key)
    return k0, k1


KEYS = (0, 1, -1, 0x0123456789ABCDEF, -0x7EDCBA9876543210, 2**31, -(2**63), 2**63 - 1)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 64, 700, 2048])
@pytest.mark.parametrize("drawn", KEYS)
def test_the_definition(drawn: int, count: int) -> None:
    expected = oracle_gradients.noise((5, count), 1, oracle_gradients.key_of(drawn))
    whole = noise(halves(drawn), 0, 5, count, CPU)
    assert whole.dtype == torch.int16
    assert np.array_equal(whole.numpy(), expected)
    assert torch.equal(noise(as_tensors(halves(drawn)), 0, 5, count, CPU), whole)
    for first, samples in ((0, 2), (2, 3), (3, 1)):
        assert torch.equal(noise(halves(drawn), first, samples, count, CPU), whole[first : first + samples])


@pytest.mark.parametrize("first", [2**16 // 4, 2**29 // 4, 2**30 // 4, 2**32 // 4 - 2])
def test_far_samples(first: int) -> None:
    """Their words have high bits, the sign among them, and start anew behind 2^32."""
    count, key = 100, oracle_gradients.key_of(7)
    ours = noise(halves(7), first // 16, 40, count, CPU)
    expected = [
        [oracle_gradients.noise_of(e, s, count, key) for e in range(count)]
        for s in range(first // 16, first // 16 + 40)
    ]
    assert ours.tolist() == expected


def test_the_key() -> None:
    """One draw of 64 bits, whose low half is first."""
    generator = torch.Generator().manual_seed(3)
    (drawn,) = torch.randint(-(2**63), 2**63 - 1, (1,), generator=torch.Generator().manual_seed(3)).tolist()
    key = draw_key(CPU, generator)
    assert tuple(int(word) % 2**32 for word in key) == oracle_gradients.key_of(drawn)
    assert draw_key(CPU, generator) != key
    torch.manual_seed(3)
    assert draw_key(CPU, None) == key


def test_distribution() -> None:
    """Odd, symmetric, uniform, without correlation between neighbours, words, blocks, samples and keys."""
    count, samples = 40_000, 6
    deviation = 2**16 / math.sqrt(12)
    scores = []
    for seed in range(6):
        first, second = (noise(draw_key(CPU, seeded), 0, samples, count, CPU) for seeded in _pair(seed))
        assert bool((first % 2).bool().all())
        a, b = first.double().flatten() / deviation, second.double().flatten() / deviation
        size = a.numel()
        scores += [a.mean() * math.sqrt(size), (a * b).mean() * math.sqrt(size)]
        scores += [((a * a).mean() - 1) * math.sqrt(size) / math.sqrt(9 / 5 - 1)]
        scores += [(a[lag:] * a[:-lag]).mean() * math.sqrt(size - lag) for lag in (1, 2, 15, 16, 17, 32, 64, count)]
        bins = torch.histc(first.double(), 256, -(2**15), 2**15)
        scores.append((((bins - size / 256) ** 2 / (size / 256)).sum() - 255) / math.sqrt(2 * 255))
    assert max(abs(float(score)) for score in scores) < 4.5


def _pair(seed: int) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 100)
