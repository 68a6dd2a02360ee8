"""Models that end in one number per image, [batch]: regressions and binary classifiers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch.deployment.runtime.packed_model import PackedModel
from bitorch.layers import QActivation
from bitorch.quantizations import InputDoReFa, Sign


class Ends(nn.Module):
    """A small low-bit net with some columns, and a function behind it."""

    def __init__(self, columns: int, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, columns)
        )
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.net(x))


def ending(columns: int, end: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    config = bitorch.LowBitConfig(weight_bits=1, activation_bits=2, first="float", last="float")
    model = Ends(columns, end)
    bitorch.quantize_(model, config)
    return model.eval()


#: Of one column, [batch, 1], to [batch].
ENDS: dict[str, Callable[[Tensor], Tensor]] = {
    "squeeze(-1)": lambda y: y.squeeze(-1),
    "squeeze(1)": lambda y: y.squeeze(1),
    "torch.squeeze": lambda y: torch.squeeze(y, 1),
    "squeeze of a tuple": lambda y: y.squeeze((1,)),
    "[:, 0]": lambda y: y[:, 0],
    "[..., 0]": lambda y: y[..., 0],
    "select": lambda y: y.select(1, 0),
    "unbind": lambda y: y.unbind(1)[0],
    "view(-1)": lambda y: y.view(-1),
    "view(batch)": lambda y: y.view(y.shape[0]),
    "reshape(-1)": lambda y: y.reshape(-1),
    "flatten": lambda y: y.flatten(),
    "flatten(0)": lambda y: y.flatten(0),
    "nn.Flatten(0)": nn.Flatten(0),
    "ravel": lambda y: y.ravel(),
    "sum(1)": lambda y: y.sum(1),
    "sum(dim=-1)": lambda y: y.sum(dim=-1),
    "torch.sum": lambda y: torch.sum(y, 1),
    "mean(1)": lambda y: y.mean(1),
    "mean(-1)": lambda y: y.mean(dim=-1),
    "amax": lambda y: y.amax(1),
    "sigmoid before": lambda y: y.sigmoid().squeeze(1),
    "sigmoid behind": lambda y: y.squeeze(1).sigmoid(),
    "times": lambda y: y.squeeze(1) * 3.0 + 1,
    "one minus": lambda y: 1 - y.squeeze(1),
    "divided": lambda y: y.squeeze(1) / 7,
    "negative": lambda y: -y.squeeze(1),
    "a constant of one": lambda y: y.squeeze(1) * torch.tensor([2.0]),
    "relu": lambda y: y.squeeze(1).relu(),
    "leaky": lambda y: nn.functional.leaky_relu(y.squeeze(1)),
    "prelu": lambda y: nn.functional.prelu(y.squeeze(1), torch.tensor([0.3])),
    "clamp": lambda y: y.squeeze(1).clamp(-0.1, 0.1),
    "hardswish": lambda y: nn.functional.hardswish(y.squeeze(1)),
    "square": lambda y: y.squeeze(1) ** 2,
    "twice": lambda y: y.squeeze(1) + y[:, 0],
    "itself": lambda y: y.squeeze(1) * y[:, 0],
    "there and back": lambda y: y.squeeze(1).unsqueeze(1).sigmoid()[:, 0],
    "zeros": lambda y: y[:, 0] + torch.zeros_like(y[:, 0]),
    "to": lambda y: y.squeeze(1).to(torch.float32).contiguous(),
    "in place": lambda y: y.squeeze(1).add_(1),
    "quantizer": nn.Sequential(nn.Flatten(0), QActivation(InputDoReFa(2)), nn.ReLU()),
    "sign": nn.Sequential(nn.Flatten(0), nn.Hardtanh(), Sign()),
    "quantizer of a column": nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), QActivation(Sign()), nn.Flatten(0)),
}

#: Of five columns.
OF_SEVERAL: dict[str, Callable[[Tensor], Tensor]] = {
    "[:, 3]": lambda y: y[:, 3],
    "[:, -1]": lambda y: y[:, -1],
    "sum of two": lambda y: y[:, 0] + y[:, 1],
    "difference": lambda y: y[:, 4] - y[:, 1],
    "product": lambda y: y[:, 2] * y[:, 1].sigmoid(),
    "softmax": lambda y: y.softmax(1)[:, 1],
    "stack": lambda y: torch.stack([y[:, 1], y[:, 0].sigmoid()], 1),
    "stack behind": lambda y: torch.stack((y[:, 1], y[:, 0]), dim=-1),
}


@pytest.mark.parametrize("name", [*ENDS, *OF_SEVERAL])
@pytest.mark.one_in(2)
def test_ends(name: str, tmp_path: Path) -> None:
    columns = 1 if name in ENDS else 5
    model, x = ending(columns, {**ENDS, **OF_SEVERAL}[name]), torch.rand(3, 1, 6, 6)
    can = bitorch.can_deploy(model, x)
    assert can, str(can)
    packed = bitorch.deploy(model, x)
    wanted = (2,) if name.startswith("stack") else ()
    assert packed.outputs[0].shape == wanted
    packed.save(tmp_path / "net.bit.safetensors")
    loaded = PackedModel.load(tmp_path / "net.bit.safetensors")
    assert loaded.outputs == packed.outputs
    for batch in (1, 2, 5):
        x = torch.rand(batch, 1, 6, 6)
        expected = model(x).detach()
        assert expected.shape == (batch, *wanted)
        for net in (packed, loaded):
            found = net(x)
            assert isinstance(found, Tensor)
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        verification = bitorch.verify(model, packed, x)
        assert verification, str(verification)


def test_a_report_and_a_partial_deployment() -> None:
    model, x = ending(1, lambda y: y.squeeze(1)), torch.rand(3, 1, 6, 6)
    assert bitorch.report(model, x).deployment == "whole"
    partial = bitorch.deploy(model, x, partial=True)
    with torch.no_grad():
        assert torch.equal(partial.model(x), model(x))


def test_pixels() -> None:
    model, x = ending(1, lambda y: y.squeeze(1)), torch.rand(3, 1, 6, 6)
    packed = bitorch.deploy(model, x, pixels=True)
    found = packed(torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8))
    assert isinstance(found, Tensor)
    assert found.shape == (4,)


MIXED: dict[str, tuple[int, Callable[[Tensor], Tensor], str]] = {
    "view(-1) of five": (5, lambda y: y.view(-1), "the images of a batch are taken apart or mixed"),
    "squeeze": (1, lambda y: y.squeeze(), r"for a batch of 1 the model gives \[\].* not x.squeeze\(\)"),
    "a mean of all": (1, lambda y: y.mean(), "."),
    "by a column": (1, lambda y: y.squeeze(1) + y, "broadcasts"),
    "times a column": (1, lambda y: y.squeeze(1) * y, "broadcasts"),
    "softmax of one": (1, lambda y: y.squeeze(1).softmax(0), "over another dimension|over the batch"),
    "cat": (1, lambda y: torch.cat([y.squeeze(1), y.squeeze(1)]), "batch"),
    "one each": (1, lambda y: y.squeeze(1) * torch.arange(1, 3.0)[: y.shape[0]].repeat(2)[: y.shape[0]], "."),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_mixes_the_batch_is_refused(name: str) -> None:
    columns, end, message = MIXED[name]
    model, x = ending(columns, end), torch.rand(3, 1, 6, 6)
    with pytest.raises(ValueError, match=message):
        bitorch.deploy(model, x)
