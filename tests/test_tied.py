"""An embedding and the head of a language model that hold one weight: one quantizer, one table in the file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import LowBitConfig
from bitorch.layers import QEmbedding, QLinear

VOCABULARY, WIDTH = 50, 32


class Language(nn.Module):
    """Scores of the next token, by the table that tokens are looked up in."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(self.embedding(tokens)))
        return scores


def tokens(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (count, 7), generator=torch.Generator().manual_seed(seed))


def language(**fields: Any) -> tuple[Language, QEmbedding, QLinear]:
    torch.manual_seed(0)
    model = Language()
    bitorch.quantize_(model, LowBitConfig(2, 8, range="learned", **{"first": "same", "last": "same"} | fields))
    bitorch.calibrate(model, [tokens(16)])
    assert isinstance(model.embedding, QEmbedding)
    assert isinstance(model.head, QLinear)
    return model, model.embedding, model.head


def train(model: Language) -> None:
    others = [parameter for parameter in model.parameters() if parameter is not model.head.weight]
    groups: list[dict[str, Any]] = [{"params": [model.head.weight], "lr": 5.0}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    for step in range(3):
        optimizer.zero_grad()
        scores = model(tokens(16, step)).flatten(0, 1)
        nn.functional.cross_entropy(scores, tokens(16, step).flatten().roll(-1)).backward()
        optimizer.step()


def gradient(parameter: object) -> Tensor:
    assert isinstance(parameter, nn.Parameter)
    assert parameter.grad is not None
    return parameter.grad


FIELDS: list[dict[str, Any]] = [
    {"weights": "seq", "weight_scale": "channel"},
    {"weights": "absmean"},
    {"first": 8, "last": 8},
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_trained_and_stored_as_one_table(fields: dict[str, Any], tmp_path: Path) -> None:
    model, embedding, head = language(**fields)
    assert head.weight is embedding.weight
    assert head.weight_quantization is embedding.weight_quantization
    before = embedding.weight_codes()
    train(model)
    assert not torch.equal(embedding.weight_codes(), before)
    assert torch.equal(embedding.weight_codes(), head.weight_codes())
    packed = bitorch.deploy(model.eval(), tokens(2))
    operations, arrays = packed.program()
    table, weight = next(op for op in operations if op["op"] == "embedding"), operations[-2]
    assert weight["weight"] == table["table"]
    codes = bitorch_runtime.unpack_weights(
        arrays[table["table"]], table["weight_bits"], (VOCABULARY, WIDTH), table.get("weight_grid", "odd")
    )
    assert np.array_equal(codes, embedding.weight_codes())
    packed.save(tmp_path / "net")
    found = bitorch_runtime.load(tmp_path / "net")(tokens(5).numpy())
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, model(tokens(5)).detach().numpy())
    report = bitorch.report(model, tokens(2), repeats=1, packed=packed)
    assert report.totals.packed_bytes == packed.nbytes
    assert sum(row.packed_bytes or 0 for row in report.rows) == packed.nbytes


def test_both_places_give_the_table_and_its_step_gradients() -> None:
    """As many as two layers of equal numbers give, each with a weight and a step of its own."""
    model, embedding, head = language(weights="lsq")
    apart = copy.deepcopy(model)
    quantizer = copy.deepcopy(apart.head.weight_quantization)
    apart.head.weight = nn.Parameter(apart.head.weight.detach().clone())
    apart.head.weight_quantization = quantizer
    for each in (model, apart):
        each(tokens(4)).square().sum().backward()
    assert head.weight_quantization is embedding.weight_quantization
    for name in ("weight", "weight_quantization.step"):
        of_both = gradient(dict(embedding.named_parameters())[name])
        parts = [gradient(dict(part.named_parameters())[name]) for part in (apart.embedding, apart.head)]
        assert all(part.abs().sum() > 0 for part in parts)
        torch.testing.assert_close(of_both, parts[0] + parts[1])


def test_float_ends_are_one_table_in_the_file_too() -> None:
    torch.manual_seed(0)
    model = Language().eval()
    bitorch.quantize_(model, LowBitConfig(2, 8, range="learned"))
    bitorch.calibrate(model, [tokens(16)])
    tied = bitorch.deploy(model, tokens(2)).nbytes
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    assert bitorch.deploy(model, tokens(2)).nbytes > tied + VOCABULARY * WIDTH * 4


def test_two_quantizers_of_one_weight_are_refused_before_anything_changes() -> None:
    model = Language()
    with pytest.raises(ValueError, match=r"'embedding' and 'head' hold one weight, which cannot have both .*=8.*=2"):
        bitorch.quantize_(model, LowBitConfig(2, 8, first=8, last="same"))
    assert type(model.embedding) is nn.Embedding
    bitorch.quantize_(model, LowBitConfig(2, 8, first="same", last="same", weights="lsq"), ["embedding"])
    with pytest.raises(ValueError, match="hold one weight"):
        bitorch.quantize_(model, LowBitConfig(2, 8, last=8, weights="lsq"), ["head"])
    table = bitorch.quantize_(model, LowBitConfig(2, 8, first="same", last="same", weights="lsq"))
    assert next(row.note for row in table.layers if row.name == "head") == "last layer; weight of 'embedding'"
    assert isinstance(model.embedding, QEmbedding)
    assert model.head.weight_quantization is model.embedding.weight_quantization


def test_checkpoints_bits_and_the_way_back() -> None:
    model, embedding, head = language(weights="lsq")
    train(model)
    again, *_ = language(weights="lsq")
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(tokens(3)), model(tokens(3)))
    assert again.head.weight_quantization is again.embedding.weight_quantization
    with pytest.raises(ValueError, match="'embedding' and 'head' share one WeightLSQ"):
        bitorch.set_bits(model, [("head", (4, 8))])
    bitorch.set_bits(model, (4, 8))
    assert embedding.weight_quantization.bit_width == 4
    bitorch.float_(model)
    assert model.head.weight is model.embedding.weight
    assert type(model.head) is nn.Linear
    assert head.weight is model.head.weight
