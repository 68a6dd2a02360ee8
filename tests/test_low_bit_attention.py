"""Products of two activations on codes, and attention with them: exact, trained, converted, deployed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.layers import Attention, QAttention, QMatmul, QMultiheadAttention
from bitorch.quantizations import InputDoReFa, InputLSQ, Quantization, Sign

C, HEADS, LENGTH = 24, 3, 6


def lsq(bits: int, x: Tensor) -> InputLSQ:
    quantizer = InputLSQ(bits)
    quantizer.fit_(x)
    return quantizer


def pair(name: str, left: Tensor, right: Tensor) -> tuple[Quantization, Quantization]:
    if name == "signs":
        return Sign(), Sign()
    if name == "probabilities":
        return InputDoReFa(2, variant="paper"), lsq(4, right)
    bits = int(name)
    return lsq(bits, left), lsq(bits, right)


PAIRS = ("signs", "probabilities", "1", "2", "4", "8")


@pytest.mark.parametrize("name", PAIRS)
def test_a_product_is_that_of_the_codes(name: str) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 7, 4)
    product = QMatmul(*pair(name, left, right))
    q, r = (
        quantizer.codes(x)
        for quantizer, x in zip((product.left_quantization, product.right_quantization), (left, right), strict=True)
    )
    d = q.detach().numpy().astype(np.int64) @ r.detach().numpy().astype(np.int64)
    scales = product.left_quantization.scale(left), product.right_quantization.scale(right)
    factor = np.float32(np.float32(float(scales[0]) * np.float32(float(scales[1]))) * np.float32(0.3))
    expected = d.astype(np.float32) * factor
    assert np.array_equal(product(left, right, 0.3).detach().numpy(), expected)
    values = product.left_quantization(left) @ product.right_quantization(right) * 0.3
    torch.testing.assert_close(product(left, right, 0.3), values)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_go_straight_through(name: str) -> None:
    """Those of the product of the values, each through its own quantizer; steps learn, too."""
    torch.manual_seed(1)
    left, right = torch.randn(2, 3, 5, 7), torch.randn(1, 3, 7, 4)  # one of them is repeated
    product = QMatmul(*pair(name, left, right))
    values = copy.deepcopy(product)
    values.exact = False
    gradient = torch.randn(2, 3, 5, 4)
    found = []
    for module in (product, values):
        operands = left.clone().requires_grad_(), right.clone().requires_grad_()
        module(*operands, 0.7).backward(gradient)
        found.append([*(x.grad for x in operands), *(p.grad for p in module.parameters())])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_sums_that_float32_cannot_hold() -> None:
    """8 bits and a long sequence: D is beyond 2^24, and still exact."""
    torch.manual_seed(0)
    left, right = torch.rand(1, 1, 4, 3000) + 1, torch.rand(1, 1, 3000, 2) + 1
    product = QMatmul(lsq(8, left), lsq(8, right))
    q, r = product.left_quantization.codes(left), product.right_quantization.codes(right)
    d = q.detach().numpy().astype(np.int64) @ r.detach().numpy().astype(np.int64)
    assert d.min() > 2**24
    scale = product.left_quantization.scale(left) * product.right_quantization.scale(right)
    assert np.array_equal(product(left, right).detach().numpy(), d.astype(np.float32) * np.float32(float(scale)))


def test_a_hook_that_looks_on_changes_nothing() -> None:
    left, right = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 4, 5)
    product, seen = QMatmul(lsq(3, left), lsq(3, right)), []
    expected = product(left, right)
    product.left.register_forward_hook(lambda module, arguments, result: seen.append(result))
    assert torch.equal(product(left, right), expected)
    assert len(seen) == 1


def attention(bits: int, q: Tensor, k: Tensor, v: Tensor) -> QAttention:
    return QAttention(
        query_quantization=lsq(bits, q),
        key_quantization=lsq(bits, k),
        probability_quantization=InputDoReFa(bits, variant="paper"),
        value_quantization=lsq(bits, v),
    )


CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "bools": {"attn_mask": torch.eye(5, dtype=torch.bool) | (torch.arange(5) < 2)},
    "numbers": {"attn_mask": torch.linspace(-1, 1, 25).view(5, 5)},
    "scale": {"scale": 0.2},
}


@pytest.mark.parametrize("name", CALLS)
def test_with_eight_bits_it_is_nearly_the_function(name: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    found = attention(8, q, k, v)(q, k, v, **CALLS[name]).detach()
    expected = F.scaled_dot_product_attention(q, k, v, **CALLS[name])
    assert float((found - expected).abs().max()) < 0.05
    assert torch.equal(Attention()(q, k, v, **CALLS[name]), expected)


def test_shared_keys() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    found = attention(8, q, k, v)(q, k, v, enable_gqa=True).detach()
    assert float((found - F.scaled_dot_product_attention(q, k, v, enable_gqa=True)).abs().max()) < 0.05
    with pytest.raises(ValueError, match="4 heads of queries cannot share 3"):
        attention(8, q, k, v)(q, torch.randn(2, 3, 5, 8), v, enable_gqa=True)


def test_masks_that_are_none() -> None:
    q = torch.randn(1, 2, 5, 8)
    attend = attention(4, q, q, q)
    with pytest.raises(ValueError, match=r"attn_mask must have shape \[\.\.\., 5, 5\]"):
        attend(q, q, q, torch.zeros(3, 4))
    with pytest.raises(TypeError, match="must be bool"):
        attend(q, q, q, torch.zeros(5, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="is_causal=True makes the mask"):
        attend(q, q, q, torch.zeros(5, 5), is_causal=True)


class Net(nn.Module):
    """Heads of its own, and an nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.attention = nn.Linear(8, C), nn.Linear(C, 3 * C), Attention()
        self.multihead = nn.MultiheadAttention(C, HEADS, batch_first=True)
        self.projection, self.head = nn.Linear(C, C), nn.Linear(C, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.multihead(x, x, x, need_weights=False)[0]
        y: Tensor = self.head(self.projection(x))
        return y


def converted(bits: int, **config: Any) -> Net:
    torch.manual_seed(0)
    net = Net()
    bitorch.quantize_(net, LowBitConfig(2, 4, attention_bits=bits, **config))
    if bits > 1 or config.get("range", "unit") != "unit":
        bitorch.calibrate(net, [torch.randn(8, LENGTH, 8)])
    return net


def test_conversion_and_back() -> None:
    net = Net()
    x = torch.randn(2, LENGTH, 8)
    before, keys = net(x), list(net.state_dict())
    table = bitorch.quantize_(net, LowBitConfig(2, 4, attention_bits=2))
    rows = {row.name: row for row in table.layers}
    assert (rows["attention"].became, rows["attention"].activation_bits) == ("QAttention", 2)
    assert "attention of 2 bits" in rows["multihead"].note
    assert isinstance(net.attention, QAttention)
    assert isinstance(net.multihead, QMultiheadAttention)
    assert {type(q).__name__ for q in net.attention.quantizers().values()} == {"InputLSQ", "InputDoReFa"}
    again = bitorch.quantize_(net, LowBitConfig(2, 4, attention_bits=2))
    assert {row.note for row in again.layers if row.name in ("attention", "multihead")} == {"low-bit already"}
    with pytest.raises(ValueError, match="low-bit already"):
        bitorch.quantize_(net, LowBitConfig(2, 4, attention_bits=3))
    bitorch.float_(net)
    assert type(net.attention) is Attention
    assert list(net.state_dict()) == keys
    assert torch.equal(net(x), before)


def test_without_attention_bits_it_stays_float() -> None:
    net = Net()
    bitorch.quantize_(net, LowBitConfig(2, 4))
    assert type(net.attention) is Attention
    assert isinstance(net.multihead, QMultiheadAttention)
    assert net.multihead.attention is None


def test_the_config() -> None:
    config = LowBitConfig(1, 2, attention_bits=3)
    assert LowBitConfig.from_dict(config.to_dict()) == config != LowBitConfig(1, 2)
    with pytest.raises(ValueError, match="attention_bits"):
        LowBitConfig(1, 2, attention_bits=9)


def test_a_state_dict_keeps_the_ranges() -> None:
    net, other = converted(2), Net()
    bitorch.quantize_(other, LowBitConfig(2, 4, attention_bits=2))
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, LENGTH, 8)
    assert torch.equal(other.eval()(x), net.eval()(x))
    float_net = Net()
    other.load_state_dict(float_net.state_dict())  # has no ranges, and is none the worse


def test_training_moves_everything() -> None:
    net = converted(2, range="learned")
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(4, LENGTH, 8)).square().mean().backward()
        optimizer.step()
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if "attention" in name} <= moved


def test_checks_and_reports_see_the_quantizers() -> None:
    net = converted(2)
    x = torch.randn(4, LENGTH, 8)
    rows = {row.name: row for row in bitorch.report(net.eval(), x, repeats=1).rows}
    assert rows["attention.scores.left"].activation_bits == 2
    assert {"attention.values.right", "multihead.attention.values.left"} <= set(rows)
    with torch.no_grad():
        for parameter in net.attention.parameters():
            parameter.fill_(1e9)  # a step so wide that all codes are 0
    assert "attention.scores.left" in str(bitorch.check(net, x, lambda y: y.sum()))


FAST = {(1, "unit"), (2, "learned"), (4, "calibrated"), (8, "unit")}
#: The product of bits and ranges, of which the fast tests have a few.
CASES = [
    pytest.param(bits, name, marks=[] if (bits, name) in FAST else pytest.mark.slow)
    for bits in (1, 2, 4, 8)
    for name in ("unit", "calibrated", "learned")
]


@pytest.mark.parametrize(("bits", "name"), CASES)
@pytest.mark.one_in(2)
def test_deployed(bits: int, name: str) -> None:
    pytest.importorskip("bitorch_runtime")
    net = converted(bits, range=name).eval()
    packed = bitorch.deploy(net, torch.rand(2, LENGTH, 8))
    assert [operation["op"] for operation in packed.program()[0]].count("matmul_codes") == 4
    for batch in (1, 3):
        x = torch.randn(batch, LENGTH, 8)
        x[0, 1] = -0.0
        found = bitorch.verify(net, packed, x)
        assert found, str(found)


def test_what_cannot_be_deployed() -> None:
    net = converted(2).eval()
    assert isinstance(net.attention, QAttention)
    net.attention.scores.exact = False
    assert "exact=False" in str(bitorch.can_deploy(net, torch.rand(2, LENGTH, 8)))
    net = Net()
    bitorch.quantize_(net, LowBitConfig(2, 4, attention_bits=2))
    assert "is not set" in str(bitorch.can_deploy(net.eval(), torch.rand(2, LENGTH, 8)))
