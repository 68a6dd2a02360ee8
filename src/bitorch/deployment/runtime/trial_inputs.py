"""Inputs that a packed program is tried on before anybody gets it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Of a random batch, about.
_NUMBERS = 2**14
_LARGEST = torch.finfo(torch.float32).max
_NORMAL = torch.finfo(torch.float32).tiny
_MAGNITUDES = (torch.inf, _LARGEST, 1e30, _NORMAL, _NORMAL / 2, 1e-45, 0.0)
#: Where float32 has an end or a seam: infinities, the largest, the smallest, subnormals and zeros, of both signs.
SPECIAL = torch.tensor([*_MAGNITUDES, *(-x for x in _MAGNITUDES)])


def trial_inputs(inputs: Sequence[Tensor], below: Sequence[int]) -> list[list[Tensor]]:
    """Return batches like these inputs: over [0, 1], one that goes beyond, and one with special numbers.

    Of small images more, since each meets few of the thresholds.

    Args:
        inputs: an example, float32, uint8 or indices, [batch, …].
        below: of each, how many indices there are; 0 of what is none.
    """
    generator = torch.Generator().manual_seed(0)
    batch = min(16, max(2, _NUMBERS // max(x[0].numel() for x in inputs)))
    trials = []
    for spread in (0.0, 1.0):
        trials.append([_random(x, batch, spread, n, generator) for x, n in zip(inputs, below, strict=True)])
    if any(x.is_floating_point() for x in inputs):
        pairs = zip(inputs, below, strict=True)
        trials.append([_with_special_numbers(_random(x, batch, 0.5, n, generator), generator) for x, n in pairs])
    return trials


def _random(x: Tensor, batch: int, spread: float, below: int, generator: torch.Generator) -> Tensor:
    shape = (batch, *x.shape[1:])
    if below > 0:
        return torch.randint(0, below, shape, dtype=x.dtype, generator=generator)
    if x.dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    uniform = torch.rand(shape, generator=generator)
    return uniform + spread * torch.randn(shape, generator=generator)


def _with_special_numbers(x: Tensor, generator: torch.Generator) -> Tensor:
    """Put one special number into every image, and into every other one a third of all: most sums are NaN there."""
    if not x.is_floating_point():
        return x
    images = x.flatten(1)
    special = SPECIAL[torch.randint(0, len(SPECIAL), images.shape, generator=generator)]
    places = torch.rand(images.shape, generator=generator)
    chosen = places == places.amax(1, keepdim=True)
    chosen[1::2] |= places[1::2] < 1 / 3
    return torch.where(chosen, special, images).reshape(x.shape)
