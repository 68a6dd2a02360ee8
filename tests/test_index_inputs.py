"""Models that take indices: embeddings of float and of low-bit tables, deployed whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.layers import QEmbedding
from bitorch.quantizations import Identity, InputDoReFa, WeightLSQ

ROWS = 50


class Words(nn.Module):
    """Words to scores, by a mean over them."""

    def __init__(self, **of_table: object) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, 16, **of_table)  # type: ignore[arg-type]
        self.a, self.b, self.head = nn.Linear(16, 24), nn.Linear(24, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.b(F.relu(self.a(self.words(x)))))
        scores: Tensor = self.head(y.mean(1))
        return scores


class Both(nn.Module):
    """Indices, their kinds, and floats beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kinds = nn.Embedding(ROWS, 16), nn.Embedding(7, 16)
        self.numbers, self.hidden, self.head = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, words: Tensor, kinds: Tensor, numbers: Tensor) -> Tensor:
        y = self.words(words) + self.kinds(kinds) + self.numbers(numbers)
        scores: Tensor = self.head(F.relu(self.hidden(F.relu(y))))
        return scores


def indices(*shape: int, rows: int = ROWS, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, rows, shape, dtype=dtype)


def low_bit(model: nn.Module, *example: Tensor, **config: object) -> nn.Module:
    torch.manual_seed(0)
    bitorch.quantize_(model, bitorch.LowBitConfig(**{"weight_bits": 1, "activation_bits": 2, **config}))  # type: ignore[arg-type]
    if "range" in config:
        bitorch.calibrate(model, [example[0]])
    model.train()
    with torch.no_grad():
        model(*example)
    return model.eval()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"first": "same"},
        {"weight_bits": 2, "first": "same"},
        {"weight_bits": 4, "activation_bits": 4, "first": "same"},
        {"weight_bits": 2, "weights": "twn", "first": "same"},
        {"weight_bits": 4, "activation_bits": 4, "first": "same", "weight_scale": "channel", "range": "learned"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_tables_deploy(config: dict[str, object], dtype: torch.dtype, tmp_path: Path) -> None:
    model = low_bit(Words(), indices(4, 7), **config)
    packed = bitorch.deploy(model, indices(1, 7, dtype=dtype))
    assert packed.inputs[0].dtype == dtype
    (operation,) = (operation for operation in packed.program()[0] if operation["op"] == "embedding")
    assert ("weight_bits" in operation) == isinstance(model.words, QEmbedding)
    for batch in (1, 3):
        assert bitorch.verify(model, packed, indices(batch, 7, dtype=dtype))
    packed.save(tmp_path / "net")
    x = indices(2, 7, dtype=dtype)
    found = bitorch_runtime.load(tmp_path / "net")(x.numpy())
    assert np.array_equal(np.asarray(found), np.asarray(packed(x)))


def test_a_low_bit_table_is_small() -> None:
    floats, codes = (low_bit(Words(), indices(4, 7), first=first) for first in ("float", "same"))
    sizes = [bitorch.deploy(model, indices(1, 7)).nbytes for model in (floats, codes)]
    assert sizes[0] - sizes[1] > ROWS * 16 * (32 - 1) / 8 - 600


def test_any_number_of_tokens() -> None:
    model = low_bit(Words(), indices(4, 7), first="same")
    packed = bitorch.deploy(model, indices(1, 7), sizes="any")
    assert packed.inputs[0].shape == (-1,)
    for count in (2, 7, 33):
        assert bitorch.verify(model, packed, indices(2, count))


def test_several_inputs() -> None:
    example = (indices(2, 5), indices(2, 5, rows=7), torch.rand(2, 5, 3))
    model = low_bit(Both(), *example, first="same")
    packed = bitorch.deploy(model, *example)
    assert bitorch.verify(model, packed, indices(3, 5), indices(3, 5, rows=7), torch.randn(3, 5, 3))
    with pytest.raises(ValueError, match=r'input "kinds": 7 at flat index 2 — indices must be from 0 to 6'):
        packed(indices(1, 5), torch.tensor([[0, 1, 7, 2, 3]]), torch.rand(1, 5, 3))


def test_one_input_of_two_tables_goes_as_far_as_the_smaller() -> None:
    class Two(Both):
        def forward(self, words: Tensor) -> Tensor:  # type: ignore[override]
            scores: Tensor = self.head(F.relu(self.hidden(F.relu(self.words(words) + self.kinds(words)))))
            return scores

    model = low_bit(Two(), indices(2, 5, rows=7))
    packed = bitorch.deploy(model, indices(1, 5, rows=7))
    assert packed.program()[0][0]["below"] == 7
    with pytest.raises(ValueError, match="indices must be from 0 to 6"):
        packed(torch.full((1, 5), 7))


@pytest.mark.parametrize("index", [ROWS, -1, 2**40, -(2**63)])
def test_an_index_that_no_table_has(index: int) -> None:
    packed = bitorch.deploy(low_bit(Words(), indices(4, 7)), indices(1, 7))
    x = indices(3, 7)
    x[2, 4] = index
    with pytest.raises(ValueError, match=rf'input "x": {index} at flat index 18 — indices must be from 0 to 49'):
        packed(x)
    assert packed(indices(0, 7)).shape == (0, 5)  # type: ignore[union-attr]


def test_another_dtype_is_told() -> None:
    packed = bitorch.deploy(low_bit(Words(), indices(4, 7)), indices(1, 7))
    with pytest.raises(TypeError, match=r"must be torch.int64 .*use x.to\(torch.int64\): it takes indices"):
        packed(torch.rand(1, 7))


def test_a_padding_row_is_a_row() -> None:
    model = low_bit(Words(padding_idx=3), indices(4, 7))
    packed = bitorch.deploy(model, indices(1, 7))
    assert bitorch.verify(model, packed, torch.full((2, 7), 3))


def test_an_output_quantizer() -> None:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weights, codes = WeightLSQ(2), InputDoReFa(2)
            self.words = QEmbedding(ROWS, embedding_dim=16, weight_quantization=weights, output_quantization=codes)
            self.hidden, self.more, self.head = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.head(F.relu(self.more(F.relu(self.hidden(self.words(x))))))
            return scores

    model = Coded()
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2), lambda _, name: name != "words")
    packed = bitorch.deploy(model.eval(), indices(1, 5))
    assert bitorch.verify(model, packed, indices(3, 5))


class Odd(Words):
    """Does one more thing with its indices."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.positions = what, nn.Embedding(7, 16)
        if what == "max_norm":
            self.words.max_norm = 1.0

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "computed":
            x = (x + 1) % ROWS
        elif self.what == "chosen":
            x = x[:, 1:]
        scores = super().forward(x)
        return scores + x.float()[:, :1] if self.what == "as floats" else scores


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("computed", "gives torch.int64"),
        ("chosen", "gives torch.int64"),
        ("as floats", "it computes with input 'x', which is int64: only embeddings take indices"),
        ("max_norm", "max_norm=1.0 changes the table while it is read"),
    ],
)
def test_what_is_no_plain_index_is_refused(what: str, said: str) -> None:
    model = low_bit(Odd(what), indices(4, 7))
    with pytest.raises(ValueError, match=said):
        bitorch.deploy(model, indices(1, 7))


def test_places_are_constants() -> None:
    class Placed(Words):
        def __init__(self) -> None:
            super().__init__()
            self.places = nn.Embedding(7, 16)

        def forward(self, x: Tensor) -> Tensor:
            y = self.words(x) + self.places(torch.arange(x.shape[1]))
            scores: Tensor = self.head(F.relu(self.b(F.relu(self.a(y)))))
            return scores

    model = low_bit(Placed(), indices(4, 7))
    packed = bitorch.deploy(model, indices(1, 7))
    assert bitorch.verify(model, packed, indices(3, 7))
    with pytest.raises(ValueError, match=r"its length is fixed at 7 by places \(Embedding\)"):
        bitorch.deploy(model, indices(1, 7), sizes="any")


def test_a_table_of_identity_is_floats() -> None:
    model = low_bit(Words(), indices(4, 7))
    model.words = QEmbedding(ROWS, embedding_dim=16, weight_quantization=Identity(), output_quantization=Identity())
    model.eval()
    assert bitorch.verify(model, bitorch.deploy(model, indices(1, 7)), indices(2, 7))
