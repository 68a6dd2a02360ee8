"""Tables of bits, against float tables that are quantized on the fly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

import bitorch
from bitorch.layers import QLinear
from bitorch.layers.bembedding import BEmbedding, BEmbeddingBag
from bitorch.layers.config import config
from bitorch.quantizations import ApproxSign, Identity, InputDoReFa, Quantization, Sign, SwishSign

QUANTIZERS: tuple[type[Quantization], ...] = (Sign, ApproxSign, SwishSign)
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "Adam": lambda p: Adam(p, lr=0.03),
    "SGD": lambda p: SGD(p, lr=0.03),
    "SGD with momentum": lambda p: SGD(p, lr=0.03, momentum=0.9),
}


def indices(*shape: int, rows: int, seed: int = 0) -> Tensor:
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(seed))


def bag(*arguments: Any, **options: Any) -> BEmbeddingBag:
    with pytest.warns(UserWarning, match=r"learns nothing until step\(\) is called behind each optimizer\.step\(\)"):
        return BEmbeddingBag(*arguments, **options)


def signs(bits: Tensor) -> Tensor:
    return bits.float() * 2 - 1


# As a float table


@pytest.mark.parametrize(
    ("rows", "dim", "quantizer", "optimizer"),
    [
        *((rows, dim, q, o) for rows, dim in ((10, 4), (1000, 30)) for q in QUANTIZERS for o in OPTIMIZERS),
        (30000, 300, Sign, "Adam"),
    ],
)
def test_two_steps_are_those_of_a_float_table(
    rows: int, dim: int, quantizer: type[Quantization], optimizer: str
) -> None:
    """Outputs and table, bit for bit: of both the values that stand between two steps are ±1."""
    x, make = indices(8, 5, rows=rows), OPTIMIZERS[optimizer]
    layer = BEmbedding(rows, dim, weight_quantization=quantizer(), sign_bool=True)
    table = signs(layer.weight).requires_grad_()
    own, other = nn.Linear(dim, 3), nn.Linear(dim, 3)
    other.load_state_dict(own.state_dict())
    trained, reference = make(own.parameters()), make([*other.parameters(), table])
    layer.set_optimizer(trained)
    for _ in range(2):
        y, expected = layer(x), F.embedding(x, table)
        assert torch.equal(y, expected)
        for head, optimize, of in ((own, trained, y), (other, reference, expected)):
            optimize.zero_grad()
            (100 * head(of)).square().sum().backward()  # so that numbers flip
            optimize.step()
        layer.step()
        with torch.no_grad():
            table.copy_(quantizer()(table))
        assert torch.equal(signs(layer.weight), table)
    assert len(trained.param_groups) == 2


@pytest.mark.parametrize("mode", ["mean", "sum", "max"])
@pytest.mark.parametrize("sign_bool", [True, False])
def test_bags(mode: Literal["mean", "sum", "max"], sign_bool: bool) -> None:
    layer = bag(20, 6, sign_bool=sign_bool, mode=mode)
    table = signs(layer.weight) if sign_bool else layer.weight.float()
    x, offsets = indices(12, rows=20), torch.tensor([0, 3, 3, 9])
    torch.testing.assert_close(layer(x, offsets), F.embedding_bag(x, table, offsets, mode=mode))
    layer(x, offsets).sum().backward()
    assert layer.unique_vectors is not None
    assert layer.unique_vectors.grad is not None
    torch.testing.assert_close(layer(x.view(3, 4)), F.embedding_bag(x.view(3, 4), table, mode=mode))


def test_a_bag_learns() -> None:
    layer = bag(10, 3, sign_bool=True)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=100.0)
    layer.set_optimizer(optimizer)
    layer(torch.tensor([1, 2]), torch.tensor([0])).sum().backward()
    optimizer.step()
    layer.step()
    assert not layer.weight[[1, 2]].any()


# Values


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_shapes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer, x = BEmbedding(9, 4), indices(*shape, rows=9).to(dtype)
    y = layer(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, layer.weight.float()[x.long()])
    assert torch.equal(layer(x), y)
    layer.step()


def test_the_table_is_random_bits_without_gradient() -> None:
    layer = BEmbedding(500, 40)
    assert isinstance(layer.weight, nn.Parameter)
    assert (layer.weight.dtype, layer.weight.requires_grad) == (torch.bool, False)
    assert 0.45 < layer.weight.float().mean() < 0.55
    assert list(layer.state_dict()) == ["weight"]
    other = BEmbedding(500, 40)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    assert layer.half().weight.dtype == torch.bool


@pytest.mark.parametrize("sign_bool", [True, False])
@pytest.mark.parametrize("padding", [2, -5])
def test_padding_is_zeros_and_does_not_change(sign_bool: bool, padding: int) -> None:
    layer = BEmbedding(7, 3, padding, sign_bool=sign_bool)
    before = layer.weight[2].clone()
    x = torch.tensor([2, 1, 2, 0])
    y = layer(x)
    assert layer.padding_idx == 2
    assert not y[[0, 2]].any()
    if sign_bool:
        assert y[[1, 3]].abs().eq(1).all()
    assert layer.unique_vectors is not None
    with torch.no_grad():
        layer.unique_vectors -= 9 * (signs(before) if before.any() else 1)
    layer.step()
    assert torch.equal(layer.weight[2], before)
    padded = bag(7, 3, padding, sign_bool=sign_bool)
    padded.set_weight(layer.weight)
    expected = F.embedding_bag(x[None], signs(layer.weight) if sign_bool else layer.weight.float(), padding_idx=2)
    torch.testing.assert_close(padded(x[None]), expected)


def test_taking_a_table() -> None:
    layer, floats = BEmbedding(5, 4), torch.randn(5, 4)
    layer.set_weight(floats)
    assert torch.equal(layer.weight, floats >= 0)
    bits = floats > 1
    layer.set_weight(bits)
    assert torch.equal(layer.weight, bits)
    bits[0] = True
    assert not torch.equal(layer.weight, bits)  # copied
    with pytest.raises(ValueError, match=r"weight must have the shape \[5, 4\], got \[4, 5\]"):
        layer.set_weight(floats.t())


def test_defaults_and_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "weight_quantization", "approxsign")
    assert isinstance(BEmbedding(3, 2).weight_quantization, ApproxSign)
    assert isinstance(BEmbedding(3, 2, weight_quantization="sign").weight_quantization, Sign)
    assert BEmbedding(3, 2, device="meta").weight.device.type == "meta"
    assert repr(BEmbedding(3, 2, 1)).startswith("BEmbedding(\n  3, 2, padding_idx=1, sign_bool=False")
    for options, said in (
        ({"num_embeddings": 0}, "num_embeddings must be at least 1, got 0"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
        ({"padding_idx": 3}, "padding_idx must be a row of the 3, got 3"),
        ({"weight_quantization": Sign}, "weight_quantization must be a Quantization instance"),
    ):
        arguments: dict[str, Any] = {"num_embeddings": 3, "embedding_dim": 2} | options
        with pytest.raises(ValueError, match=said):
            BEmbedding(**arguments)
    with pytest.raises(ValueError, match='mode must be "sum", "mean" or "max", got \'min\''):
        BEmbeddingBag(3, 2, mode="min")  # type: ignore[arg-type]


# Steps


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
def test_a_step_without_a_forward(kind: type[Exception]) -> None:
    layer = BEmbedding(5, 4)
    with pytest.raises(kind, match="no rows are in use; call the embedding first, with gradients enabled"):
        layer.step()
    with torch.no_grad():
        layer(torch.tensor([1]))
    with pytest.raises(kind):
        layer.step()
    layer(torch.tensor([1]))
    layer.step()
    assert (layer.unique, layer.unique_vectors) == (None, None)
    with pytest.raises(kind):
        layer.step()


def test_one_group_that_changes() -> None:
    layer, other = BEmbedding(9, 4, sign_bool=True), nn.Parameter(torch.zeros(2))
    optimizer = SGD([other], lr=0.5)
    layer.set_optimizer(optimizer)
    layer(torch.tensor([1, 2]))
    layer(torch.tensor([2, 5, 7]))  # two forwards before a step
    assert len(optimizer.param_groups) == 2
    assert optimizer.param_groups[1] is layer.optimizer_dict
    assert optimizer.param_groups[1]["params"] == [layer.unique_vectors] == [layer.out_param]
    assert optimizer.param_groups[1]["lr"] == 0.5
    layer.step()
    layer(torch.tensor([3]))
    assert len(optimizer.param_groups) == 2
    assert optimizer.param_groups[1]["params"][0].shape == (1, 4)


def test_the_state_of_rows_follows_them() -> None:
    layer = BEmbedding(9, 2, sign_bool=True)
    optimizer = Adam([nn.Parameter(torch.zeros(1))], lr=0.01)
    layer.set_optimizer(optimizer)

    def train(rows: list[int]) -> Any:
        optimizer.zero_grad()
        weights = torch.tensor(rows, dtype=torch.float32).unsqueeze(1) + 1
        (layer(torch.tensor(rows)) * weights).sum().backward()
        optimizer.step()
        layer.step()
        assert layer.out_param is not None
        return optimizer.state[layer.out_param]

    first = train([1, 4, 6])["exp_avg"].clone()
    assert torch.equal(first[:, 0], 0.1 * torch.tensor([2.0, 5.0, 7.0]))
    state = train([6, 4, 8])
    fresh = 0.1 * torch.tensor([5.0, 7.0, 9.0])
    expected = fresh + 0.9 * torch.tensor([0.5, 0.7, 0.0])  # rows 4, 6 and 8, which is new
    torch.testing.assert_close(state["exp_avg"][:, 0], expected)
    assert state["step"] == 2
    assert len(optimizer.state) == 1
    layer(torch.tensor([], dtype=torch.int64))
    layer(torch.tensor([2]))
    assert layer.out_param is not None
    assert optimizer.state[layer.out_param]["exp_avg"].shape == (1, 2)


def test_copies() -> None:
    layer = BEmbedding(9, 4, sign_bool=True)
    layer(torch.tensor([1, 2]))
    other = copy.deepcopy(layer)
    other.step()
    assert torch.equal(other.weight, layer.weight)
    assert layer.unique is not None


def test_bits_for_0_and_1_want_a_threshold_between_them() -> None:
    layer = BEmbedding(9, 4, weight_quantization=InputDoReFa(1))
    before = layer.weight.clone()
    layer(torch.arange(9))
    layer.step()
    assert torch.equal(layer.weight, before)
    layer(torch.tensor([1]))
    assert layer.unique_vectors is not None
    with torch.no_grad():
        layer.unique_vectors += 0.6
    layer.step()
    assert layer.weight[1].all()


# Deploying


@pytest.mark.parametrize("sign_bool", [True, False])
@pytest.mark.parametrize("padding", [None, 3])
def test_tables_of_bits_deploy(sign_bool: bool, padding: int | None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(BEmbedding(400, 32, padding, sign_bool=sign_bool), QLinear(32, 5)).eval()
    x = indices(4, 6, rows=400)
    x[:, 0] = 3
    packed: Any = bitorch.deploy(net, x)
    with torch.no_grad():
        assert torch.equal(packed(x), net(x))
    assert bitorch.verify(net, packed, x)
    bits = 2 if sign_bool and padding is not None else 1
    assert packed.nbytes < 400 * 32 * bits / 8 + 5 * 32 / 8 + 6000


def test_a_bag_of_bits_says_why_not() -> None:
    net = nn.Sequential(bag(9, 8), QLinear(8, 5)).eval()
    assert "Use BEmbedding, and mean(1) of what it gives" in str(bitorch.can_deploy(net, indices(2, 3, rows=9)))


def test_a_quantizer_without_ones_writes_none() -> None:
    layer = BEmbedding(3, 2, weight_quantization=Identity())
    layer.set_weight(torch.tensor([[1.0, 0.5], [0.0, 1.0], [2.0, -1.0]]))
    assert layer.weight.tolist() == [[True, False], [False, True], [False, False]]
