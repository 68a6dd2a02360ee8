"""Products of two tensors and attention: captured as written, deployed whole, verified."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.layers import QMultiheadAttention

pytest.importorskip("bitorch_runtime")

C, HEADS, LENGTH = 24, 3, 6
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
CAUSAL = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
SIZE = C // HEADS


class Net(nn.Module):
    """Tokens [batch, length, 8], heads as timm's Attention makes them, and a function of q, k and v."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.stem, self.qkv = nn.Linear(8, C), nn.Linear(C, 3 * C)
        self.projection, self.head = nn.Linear(C, C), nn.Linear(C, 5)
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0)
        x = self.attend(q, k, v).transpose(1, 2).reshape(batch, length, width)
        y: Tensor = self.head(self.projection(x))
        return y


def low_bit(model: nn.Module, weight_bits: int = 1, activation_bits: int = 2) -> nn.Module:
    torch.manual_seed(0)
    bitorch.quantize_(model, LowBitConfig(weight_bits=weight_bits, activation_bits=activation_bits))
    return model.eval()


def deployed(model: nn.Module, x: Tensor) -> list[str]:
    """Deploy, verify on three batches, and return the operations."""
    packed = bitorch.deploy(model, x)
    torch.manual_seed(1)
    for batch in (1, 2, 3):
        found = bitorch.verify(model, packed, torch.randn(batch, *x.shape[1:]))
        assert found, str(found)
    return [operation["op"] for operation in packed.program()[0]]


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores: Tensor = q * SIZE**-0.5 @ k.transpose(-2, -1)
    return scores.softmax(-1) @ v


PRODUCTS: dict[str, tuple[Attend, int]] = {
    "by hand": (by_hand, 2),
    "torch.matmul": (lambda q, k, v: torch.matmul(F.softmax(torch.matmul(q, k.mT) / math.sqrt(8), -1), v), 2),
    "einsum": (
        lambda q, k, v: torch.einsum("bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v),
        2,
    ),
    "einsum without an arrow": (lambda q, k, v: torch.einsum("bhij,jk", q, torch.ones(SIZE, SIZE)), 0),
    "einsum with an ellipsis": (lambda q, k, v: torch.einsum("...id,...jd->...ij", q, k) @ v, 2),
    "einsum of several axes": (lambda q, k, v: q * torch.einsum("bhqd,bhqd->bh", k, v)[:, :, None, None], 1),
    "einsum with a constant": (lambda q, k, v: torch.einsum("bhqd,ed->bheq", q, torch.ones(SIZE, SIZE)).mT, 0),
    "of itself": (lambda q, k, v: q @ q.mT @ q, 2),
    "over channels": (lambda q, k, v: (v.mT @ k @ q.mT).mT, 2),
    "a constant matrix": (lambda q, k, v: v @ torch.ones(SIZE, SIZE).triu(), 0),
    "from the left": (lambda q, k, v: CAUSAL.float() @ v, 0),
    "one head for all": (lambda q, k, v: q @ k[:, :1].mT @ v[:, 1:2], 2),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.one_in(2)
def test_products(name: str) -> None:
    attend, count = PRODUCTS[name]
    operations = deployed(low_bit(Net(attend)), torch.rand(2, LENGTH, 8))
    assert operations.count("matmul") == count


_GENERATOR = torch.Generator().manual_seed(3)
OF_HEADS = torch.rand(HEADS, SIZE, SIZE, generator=_GENERATOR)
SCORES = torch.rand(HEADS, LENGTH, LENGTH, generator=_GENERATOR)
QUERIES = torch.rand(1, HEADS, LENGTH, SIZE, generator=_GENERATOR)


def folded(x: Tensor) -> Tensor:
    """[batch * heads, length, channels]"""
    return x.reshape(-1, *x.shape[2:])


CONSTANTS: dict[str, Attend] = {
    "a matrix for each head": lambda q, k, v: q @ OF_HEADS,
    "from the left": lambda q, k, v: SCORES @ v,
    "numbers": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, SCORES[0]),
    "bools": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, SCORES[1] > 0.3),
    "nothing is seen": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.arange(LENGTH)[:, None] > 2),
    "of each head": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, SCORES),
    "masked by hand": lambda q, k, v: (q @ k.mT).masked_fill(SCORES[0] > 0.6, -torch.inf).softmax(-1) @ v,
    "bias by hand": lambda q, k, v: (q @ k.mT + SCORES).softmax(-1) @ v,
    "learned queries": lambda q, k, v: F.scaled_dot_product_attention(QUERIES.expand(len(q), -1, -1, -1), k, v) + q,
    "for each image": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, SCORES.expand(len(q), -1, -1, -1) > 0.3),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_with_constants(name: str) -> None:
    deployed(low_bit(Net(CONSTANTS[name])), torch.rand(2, LENGTH, 8))


FOLDED: dict[str, Attend] = {
    "bmm": lambda q, k, v: torch.bmm(torch.bmm(folded(q), folded(k).transpose(1, 2)).softmax(-1), folded(v)).view(
        q.shape
    ),
    "attention": lambda q, k, v: F.scaled_dot_product_attention(folded(q), folded(k), folded(v)).view(q.shape),
    "baddbmm": lambda q, k, v: (
        torch.baddbmm(torch.empty(1), folded(q), folded(k).mT, beta=0, alpha=0.3).view(len(q), HEADS, LENGTH, -1) @ v
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_heads_in_the_batch(name: str) -> None:
    deployed(low_bit(Net(FOLDED[name])), torch.rand(2, LENGTH, 8))


ATTENTION: dict[str, Attend] = {
    "plain": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "causal mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, CAUSAL),
    "scale": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3),
    "of itself": lambda q, k, v: F.scaled_dot_product_attention(q, q, q),
    "bias of the image": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, q @ k.mT),
    "few keys": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :, :2], v[:, :, 1:3]),
    "shared keys": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True),
    "three dimensions": lambda q, k, v: F.scaled_dot_product_attention(q[:, 0], k[:, 1], v[:, 2])[:, None] + q,
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.one_in(2)
def test_attention(name: str) -> None:
    operations = deployed(low_bit(Net(ATTENTION[name])), torch.rand(2, LENGTH, 8))
    assert operations.count("attention") == 1
    assert "softmax" not in operations


@pytest.mark.parametrize("bits", [(1, 2), (2, 2), (4, 4)])
@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.one_in(3)
def test_bits_and_lengths(bits: tuple[int, int], length: int) -> None:
    for attend in (by_hand, ATTENTION["plain"]):
        deployed(low_bit(Net(attend), *bits), torch.rand(3, length, 8))


def test_a_causal_mask_takes_no_room() -> None:
    operations = bitorch.deploy(low_bit(Net(ATTENTION["causal mask"])), torch.rand(2, LENGTH, 8)).program()[0]
    (attention,) = (one for one in operations if one["op"] == "attention")
    assert attention["causal"] is True
    assert len(attention["inputs"]) == 3


def test_numbers_that_are_none() -> None:
    """NaN, infinities and −0 in tokens: the same numbers, and NaN in the same places."""
    for attend in (by_hand, ATTENTION["plain"], ATTENTION["causal"]):
        model = low_bit(Net(attend))
        packed = bitorch.deploy(model, torch.rand(2, LENGTH, 8))
        x = torch.randn(4, LENGTH, 8)
        x[0, 2], x[1, 3], x[2, 1], x[3] = torch.nan, torch.inf, -torch.inf, -0.0
        found = bitorch.verify(model, packed, x)
        assert found, str(found)


class Attends(nn.Module):
    """A QMultiheadAttention in a net, of [batch, length, 8]."""

    def __init__(self, *, batch_first: bool = True, need_weights: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(8, C)
        self.attention = nn.MultiheadAttention(C, HEADS, batch_first=batch_first)
        self.head = nn.Linear(C, 5)
        self.need_weights = need_weights
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH) if causal else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x if self.attention.batch_first else x.transpose(0, 1)
        y, _ = self.attention(
            y, y, y, need_weights=self.need_weights, attn_mask=self.mask, is_causal=self.mask is not None
        )
        z: Tensor = self.head(x + (y if self.attention.batch_first else y.transpose(0, 1)))
        return z


@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"need_weights": True}, {"causal": True}], ids=str)
def test_low_bit_projections(options: dict[str, bool]) -> None:
    model = low_bit(Attends(**options))
    assert isinstance(model.attention, QMultiheadAttention)
    operations = deployed(model, torch.rand(2, LENGTH, 8))
    assert operations.count("linear") == 4
    assert operations.count("attention") == int(not options.get("need_weights", False))


@pytest.mark.parametrize("options", [{}, {"batch_first": False}, {"need_weights": True}, {"causal": True}], ids=str)
def test_float_projections(options: dict[str, bool]) -> None:
    """nn.MultiheadAttention as it is, which computes with the length in front of the batch."""
    model = Attends(**options)
    bitorch.quantize_(model, LowBitConfig(1, 2, first="same"), filter_fn=["stem"])
    operations = deployed(model.eval(), torch.rand(2, LENGTH, 8))
    assert operations.count("attention") == int(not options.get("need_weights", False))


@pytest.mark.parametrize("need_weights", [False, True])
def test_keys_of_another_sequence(need_weights: bool) -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(8, C)
            self.attention = nn.MultiheadAttention(C, HEADS, batch_first=True, kdim=8, vdim=8)
            self.head = nn.Linear(C, 5)

        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            y: Tensor = self.head(self.attention(self.stem(x), memory, memory, need_weights=need_weights)[0])
            return y

    model = low_bit(Cross())
    x, memory = torch.rand(2, LENGTH, 8), torch.rand(2, 4, 8)
    packed = bitorch.deploy(model, x, memory)
    found = bitorch.verify(model, packed, torch.randn(3, LENGTH, 8), torch.randn(3, 4, 8))
    assert found, str(found)


def refusal(attend: Attend) -> str:
    return str(bitorch.can_deploy(low_bit(Net(attend)), torch.rand(2, LENGTH, 8)))


def test_what_is_refused() -> None:
    vector = torch.ones(SIZE)
    assert "by a vector of 8 numbers" in refusal(lambda q, k, v: q * (k @ vector).unsqueeze(-1))
    assert "takes a diagonal" in refusal(lambda q, k, v: q * torch.einsum("bhii,bhid->bhd", q @ k.mT, v)[:, :, None])
    assert "sums an axis of one tensor alone" in refusal(lambda q, k, v: torch.einsum("bhqd,bhke->bhqd", q, k))
    assert "with dropout at work" in refusal(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1))
    assert "baddbmm with a sum" in refusal(
        lambda q, k, v: q + torch.baddbmm(q[:, 0], q[:, 1] @ k[:, 0].mT, v[:, 0])[:, None]
    )
    assert "mixes the images" in refusal(lambda q, k, v: (q[:, :1] @ k[:, 0].mT)[:, :1] @ v)


def test_a_mask_of_the_wrong_shape() -> None:
    with pytest.raises(ValueError, match="must match the size of tensor b"):
        bitorch.deploy(
            low_bit(Net(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.zeros(3, 4)))),
            torch.rand(2, LENGTH, 8),
        )


def test_an_empty_sequence() -> None:
    with pytest.raises(ValueError, match="is empty"):
        bitorch.deploy(low_bit(Net(ATTENTION["plain"])), torch.rand(2, 0, 8))
