"""`fuse_training_` on machines whose layers train on floats: nothing is joined, and the table says why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bitorch


class Checked(nn.Module):
    """A net that looks at its input's shape first, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (3, 8, 8):
            raise ValueError("images of 8×8 pixels")
        y: Tensor = self.layers(x)
        return y


def test_a_net_of_which_parts_can_be_traced() -> None:
    model = Checked()
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, 6, kernels="float"))
    before = model(torch.ones(1, 3, 8, 8))
    table = bitorch.fuse_training_(model)
    assert [(row.name, row.before, row.why) for row in table.layers] == [
        ("layers.3", (), 'it computes on floats: kernels="float"')
    ]
    assert "images of 8" not in str(table)
    assert torch.equal(model(torch.ones(1, 3, 8, 8)), before)


def test_a_net_that_hides_its_convolutions() -> None:
    class Hidden(Checked):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(self.layers)  # type: ignore[assignment]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x) if x.sum() > 0 else x
            return x

    model = Hidden()
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, 6, kernels="float"))
    with pytest.raises(ValueError, match="nobody knows what stands before its low-bit convolutions"):
        bitorch.fuse_training_(model)
