"""The runtime's kernels quantize gradients as `GradientDoReFa` and `GradientSigned` do, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bitorch.quantizations import GradientDoReFa, GradientSigned
from bitorch.quantizations.noise import draw_key
from bitorch_runtime import training

Quantizer = GradientDoReFa | GradientSigned
QUANTIZERS = [GradientDoReFa(bits) for bits in range(1, 9)] + [GradientSigned(bits) for bits in range(2, 9)]


def random_gradient(shape: tuple[int, ...]) -> Tensor:
    """Samples of all magnitudes: one too small for a reciprocal, one that is zero, one with an infinity."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    g *= 10.0 ** torch.linspace(-30, 37, shape[0]).view(-1, *[1] * (len(shape) - 1))
    g[0], g[1], g[2, 0] = 1e-37, 0, np.inf
    return g


@pytest.mark.parametrize("kernel", training.kernels())
@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: f"{type(q).__name__}{q.bit_width}")
def test_values(kernel: str, quantizer: Quantizer) -> None:
    for shape in [(7, 50), (6, 5, 3), (6, 35, 4, 6)]:
        for noise in (True, False):
            check_values(kernel, quantizer, random_gradient(shape), noise)


def check_values(kernel: str, quantizer: Quantizer, g: Tensor, noise: bool) -> None:
    quantizer.noise, quantizer.generator = noise, torch.Generator().manual_seed(1)
    k0, k1 = draw_key(g.device, torch.Generator().manual_seed(1))
    pixels = g.movedim(1, -1).contiguous() if g.dim() == 4 else g
    codes, scale = training.gradient_codes(
        pixels.numpy(),
        quantizer.bit_width,
        (int(k0), int(k1)) if noise else None,
        grid="signed" if isinstance(quantizer, GradientSigned) else "odd",
        kernel=kernel,
    )
    found = torch.from_numpy(codes).to(torch.int32)
    if isinstance(quantizer, GradientDoReFa):
        found = 2 * found + 1
    values = found * torch.from_numpy(scale).view(-1, *[1] * (g.dim() - 1))
    expected = quantizer.quantize_gradient(g)
    assert torch.isfinite(expected[3:]).all()
    torch.testing.assert_close(
        values.movedim(-1, 1) if g.dim() == 4 else values, expected, rtol=0, atol=0, equal_nan=True
    )
