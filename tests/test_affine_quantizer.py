"""A quantizer of a user's own, with a learned step and zero point, from training to the packed file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.layers import QActivation, QConv2d
from bitorch.quantizations import Sign, WeightLSQ
from own_affine import Affine


def net(bits: int) -> nn.Sequential:
    """Behind SiLU and without any activation, so that inputs have both signs; converted and calibrated."""
    torch.manual_seed(bits)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(96, 8), nn.Linear(8, 3),
    )  # fmt: skip
    config = LowBitConfig(activations=Affine(bits), weights=WeightLSQ(3, channels=1), last="same")
    bitorch.quantize_(model, config)
    bitorch.calibrate(model, [torch.randn(64, 2, 6, 6)])
    return model


def quantizers(model: nn.Module) -> list[Affine]:
    return [module for module in model.modules() if isinstance(module, Affine)]


def trained(model: nn.Sequential, steps: int = 12) -> tuple[float, float]:
    """Train, and return the loss before and after."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 2, 6, 6, generator=generator)
    y = torch.randint(0, 3, (32,), generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), 0.001)
    losses = []
    model.train()
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses[0], losses[-1]


def test_gradients_are_those_of_the_formula() -> None:
    quantizer = Affine(3)
    quantizer.fit_(torch.tensor([-0.3, 0.4]))
    with torch.no_grad():
        quantizer.step.fill_(0.125)
        quantizer.offset.fill_(2.3)
    x = torch.linspace(-1, 1, 37).requires_grad_()
    g = torch.randn(37)
    (quantizer(x) * g).sum().backward()
    x64, g64, s, z, n = x.detach().double().numpy(), g.double().numpy(), 0.125, 2.0, 7.0
    u = np.round(x64 / s) + z
    inside = (u >= 0) & (u <= n)
    code = np.clip(u, 0, n) - z
    assert np.array_equal(quantizer.codes(x).detach().numpy(), code)
    assert x.grad is not None
    assert quantizer.step.grad is not None
    assert quantizer.offset.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), np.where(inside, g64, 0))
    of_step = (g64 * np.where(inside, code - x64 / s, code)).sum()
    np.testing.assert_allclose(float(quantizer.step.grad), of_step, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        float(quantizer.offset.grad), (g64 * np.where(inside, 0, -s)).sum(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 5, 8])
def test_it_trains_and_deploys_whole_bit_for_bit(bits: int, tmp_path: Path) -> None:
    model = net(bits)
    assert all(quantizer.is_set for quantizer in quantizers(model))
    assert any(quantizer.zero_point() != 0 for quantizer in quantizers(model)) or bits == 1
    before = [(q.step.item(), q.offset.item()) for q in quantizers(model)]
    first, last = trained(model)
    assert last < first
    after = [(q.step.item(), q.offset.item()) for q in quantizers(model)]
    assert all(one[0] != other[0] for one, other in zip(before, after, strict=True))
    assert any(one[1] != other[1] for one, other in zip(before, after, strict=True))
    x = torch.randn(4, 2, 6, 6) * 2
    packed = bitorch.deploy(model, x)
    found = bitorch.verify(model, packed, x)
    assert found, str(found)
    packed.save(tmp_path / "net.bitorch")
    loaded = bitorch.PackedModel.load(tmp_path / "net.bitorch")
    assert torch.equal(torch.as_tensor(loaded(x)), torch.as_tensor(packed(x)))
    assert torch.equal(bitorch.deploy(model, x, partial=True)(x), model(x))


def test_it_deploys_alone() -> None:
    quantizer = Affine(4)
    quantizer.fit_(torch.randn(1000))
    low_bit = QConv2d(3, 2, 1, input_quantization=Sign(), weight_quantization=Sign())
    model = nn.Sequential(nn.Conv2d(2, 3, 1), QActivation(quantizer, 0.0), nn.Conv2d(3, 3, 1), low_bit).eval()
    x = torch.randn(2, 2, 5, 5)
    assert bitorch.verify(model, bitorch.deploy(model, x), x)


def test_its_state_comes_back() -> None:
    model, x = net(3), torch.randn(2, 2, 6, 6)
    trained(model)
    other = net(3).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def test_bits_report_and_allocation() -> None:
    model, x = net(4), torch.randn(8, 2, 6, 6)
    bitorch.set_bits(model, bitorch.Bits(activation=2))
    assert {q.bit_width for q in quantizers(model)} == {2}
    assert bitorch.verify(model.eval(), bitorch.deploy(model, x), x)
    bitorch.set_bits(model, bitorch.Bits(activation=4))
    rows = bitorch.report(model, x).to_dict()["rows"]
    assert {row["activation_bits"] for row in rows} - {None} == {4}
    model(x).sum().backward()


def test_what_it_says_is_asked_for() -> None:
    class Mistaken(Affine):
        def codes(self, x: Tensor) -> Tensor:
            return super().codes(x + 0.25 * self.step.detach())

    quantizer = Mistaken(3)
    quantizer.fit_(torch.randn(100))
    model = nn.Sequential(nn.Conv2d(2, 3, 1), QActivation(quantizer, 0.0)).eval()
    assert "computes neither what its arithmetic() says" in str(bitorch.can_deploy(model, torch.randn(2, 2, 5, 5)))
