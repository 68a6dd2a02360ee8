"""Weights of exactly 0 under quantizers without a level at 0: `check` and the tables of a conversion say so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import bitorch
from bitorch import LowBitConfig
from bitorch.layers import QLinear
from bitorch.lost_zeros import lost_zeros
from bitorch.quantizations import InputDoReFa, WeightDoReFa


def net(share: float = 0.75) -> nn.Sequential:
    """Three linear layers; of the one in the middle that share of the weights is 0."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, 3),
    )  # fmt: skip
    with torch.no_grad():
        flat = model[3].weight.view(-1)  # type: ignore[operator]  # a Parameter
        flat[torch.randperm(len(flat))[: round(share * len(flat))]] = 0
    return model


BATCH = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3


def test_the_values_that_zeros_become() -> None:
    layer = QLinear(
        4, 1, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2, variant="paper"), bias=False
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0, 0, 1]]))
    assert layer.weight_quantization(layer.weight).tolist()[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    lost = lost_zeros(layer)
    assert lost is not None
    assert (lost.share, lost.padding) == (0.75, None)
    assert lost.level == pytest.approx(1 / 3)
    bitorch_way = WeightDoReFa(1)
    layer.weight_quantization = bitorch_way
    assert str(lost_zeros(layer)) == "75% of the weights are 0 and become -1: there is no level at 0"
    assert str(lost) == "75% of the weights are 0 and become 0.333: there is no level at 0"


@pytest.mark.parametrize("config", [
    LowBitConfig(1, 4), LowBitConfig(2, 4), LowBitConfig(4, 4), LowBitConfig(8, 8),
    LowBitConfig(2, 4, weight_scale="channel"), LowBitConfig(1, 4, weights="lsq"),
    LowBitConfig(2, 4, weights="seq"),
], ids=str)  # fmt: skip
def test_check_and_table_say_that_zeros_are_lost(config: LowBitConfig) -> None:
    model = net()
    table = bitorch.quantize_(model, config)
    text = "75% of the weights are 0 and become "
    assert [(row.name, text in row.note) for row in table.layers] == [("0", False), ("3", True), ("6", False)]
    assert text in str(table)
    result = bitorch.check(model, BATCH)
    (finding,) = [f for f in result.findings if f.what == "zero weights are lost"]
    assert (finding.layer, finding.figure, finding.is_note) == ("3", 0.75, False)
    assert text in finding.detail
    assert 'weights="twn" or "absmean" with 2 bits, or weights="lsq" with 2 or more' in finding.remedy
    assert not result


@pytest.mark.parametrize("config", [
    LowBitConfig(2, 4, weights="twn"), LowBitConfig(2, 4, weights="absmean"),
    LowBitConfig(2, 4, weights="ttq"), LowBitConfig(2, 4, weights="lsq"),
    LowBitConfig(4, 4, weights="lsq", weight_scale="channel"), LowBitConfig(32, 4),
], ids=str)  # fmt: skip
def test_a_level_at_0_keeps_them(config: LowBitConfig) -> None:
    model = net()
    table = bitorch.quantize_(model, config)
    assert "are 0" not in str(table)
    assert "zero weights are lost" not in [f.what for f in bitorch.check(model, BATCH).findings]


def test_a_few_zeros_are_an_accident() -> None:
    model = net(share=0.02)
    assert "are 0" not in str(bitorch.quantize_(model, LowBitConfig(2, 4)))
    assert bitorch.check(model, BATCH)


def test_fewer_bits_lose_them_later() -> None:
    model = net()
    assert "are 0" not in str(bitorch.quantize_(model, LowBitConfig(4, 4, weights="lsq")))
    assert "was W4 A4 G32; 75% of the weights are 0 and become " in str(bitorch.set_bits(model, (1, 4)))
    assert "are 0" not in str(bitorch.set_bits(model, (2, 4)))


def test_pruned_by_pytorch() -> None:
    model = net(share=0)
    prune.l1_unstructured(model[3], "weight", amount=0.5)
    prune.remove(model[3], "weight")
    assert "50% of the weights are 0" in str(bitorch.quantize_(model, LowBitConfig(2, 4)))


def test_convolutions_and_attention() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.attention = nn.ConvTranspose1d(4, 8, 3), nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).transpose(1, 2)
            logits: Tensor = self.head(self.attention(x, x, x)[0].mean(1))
            return logits

    torch.manual_seed(0)
    model = Both()
    with torch.no_grad():
        model.conv.weight[:, ::2] = 0
        model.attention.in_proj_weight[8:16] = 0  # of the keys
    table = bitorch.quantize_(model, LowBitConfig(2, 4, first="same"))
    notes = {row.name: row.note for row in table.layers}
    assert "50% of the weights are 0" in notes["conv"]
    assert "100% of the weights are 0" in notes["attention"]
    found = bitorch.check(model, (torch.rand(8, 4, 5), torch.arange(8) % 3)).findings
    layers = [f.layer for f in found if f.what == "zero weights are lost"]
    assert layers == ["conv", "attention.k_projection"]


def test_the_row_for_padding_is_a_note() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(50, 8, padding_idx=3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.table(x).mean(1))
            return logits

    torch.manual_seed(0)
    model = Words()
    table = bitorch.quantize_(model, LowBitConfig(2, 4, first="same"))
    assert "the row 3 of zeros, for padding, becomes " in table.layers[0].note
    tokens = torch.arange(60).view(12, 5) % 50
    (note,) = [f for f in bitorch.check(model, (tokens, torch.arange(12) % 3)).findings if "lost" in f.what]
    assert (note.layer, note.what, note.is_note) == ("table", "zero weights are lost", True)
    assert "a mask" in note.remedy
    other = Words()
    assert "padding" not in str(bitorch.quantize_(other, LowBitConfig(2, 4, first="same", weights="lsq")))


def test_a_bag_leaves_padding_out() -> None:
    bag = nn.Sequential(nn.EmbeddingBag(50, 8, padding_idx=3), nn.Linear(8, 3))
    assert "padding" not in str(bitorch.quantize_(bag, LowBitConfig(2, 4, first="same")))


def test_models_without_numbers() -> None:
    with torch.device("meta"):
        model = net(share=0)
    assert "are 0" not in str(bitorch.quantize_(model, LowBitConfig(2, 4)))
