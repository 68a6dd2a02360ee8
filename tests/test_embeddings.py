"""Embeddings with a quantized table, against PyTorch's own on the quantized values."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import oracle
from bitorch import LowBitConfig, calibrate, float_, quantize_
from bitorch.deployment.can_deploy import can_deploy
from bitorch.layers import QEmbedding, QEmbeddingBag
from bitorch.layers.config import config
from bitorch.quantizations import (
    Identity,
    InputDoReFa,
    Quantization,
    Sign,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
)
from bitorch.quantizations.names import quantizations_by_name

PAPER = [WeightDoReFa(bits, variant="paper") for bits in (1, 2, 3, 8)]
MODES: tuple[Literal["sum", "mean", "max"], ...] = ("sum", "mean", "max")


def indices(*shape: int, rows: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(rows, shape, generator=torch.Generator().manual_seed(seed))


def table(quantizer: Quantization, rows: int = 20, dim: int = 6, **more: Any) -> QEmbedding:
    torch.manual_seed(1)
    return QEmbedding(rows, embedding_dim=dim, weight_quantization=quantizer, output_quantization=Identity(), **more)


def bag(quantizer: Quantization, rows: int = 20, dim: int = 6, **more: Any) -> QEmbeddingBag:
    torch.manual_seed(1)
    return QEmbeddingBag(rows, embedding_dim=dim, weight_quantization=quantizer, output_quantization=Identity(), **more)


def dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.to_dense()


# Values


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", sorted(quantizations_by_name))
def test_every_named_quantizer(name: str, sparse: bool) -> None:
    """As BITorch: two instances with defaults, one in the layer, and the output quantized too."""
    quantizer = quantizations_by_name[name]
    made: Any = {"weight_quantization": quantizer(), "output_quantization": quantizer(), "sparse": sparse}
    layer = QEmbedding(20, embedding_dim=6, **made)
    x = indices(3, 4)
    assert torch.equal(layer(x), quantizer()(F.embedding(x, quantizer()(layer.weight))))
    bags = QEmbeddingBag(20, embedding_dim=6, **made)
    assert torch.equal(bags(x), quantizer()(F.embedding_bag(x, quantizer()(bags.weight))))


@pytest.mark.parametrize("bits", range(1, 9))
def test_values_are_those_of_the_whole_table(bits: int) -> None:
    layer = table(WeightDoReFa(bits, variant="paper"))
    x = indices(2, 5)
    expected = oracle.weight_value(layer.weight.detach().double().numpy(), bits)[x.numpy()]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=2e-6)
    codes = layer.weight_codes()
    assert codes.dtype == torch.int16
    torch.testing.assert_close(layer(x).detach(), (codes * layer.weight_scale())[x])


def test_a_scale_of_each_row() -> None:
    layer = table(WeightLSQ(3, channels=20))
    assert layer.weight_scale().shape == (20, 1)
    x = indices(9)
    torch.testing.assert_close(layer(x), (layer.weight_codes() * layer.weight_scale())[x])
    layer(x).sum().backward()
    for p in layer.parameters():
        assert p.grad is not None
    layer.load_state_dict(nn.Embedding(20, 6).state_dict(), strict=True)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_shapes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer, x = table(PAPER[1]), indices(*shape).to(dtype)
    y = layer(x)
    assert y.shape == (*shape, 6)
    assert torch.equal(y, layer.weight_quantization(layer.weight)[x.long()])


def test_defaults_and_names_of_bitorch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, bags = QEmbedding(5, embedding_dim=3), QEmbeddingBag(5, embedding_dim=3)
    for one in (layer, bags):
        assert isinstance(one.embedding_weight_quantization, Sign)
        assert one.embedding_weight_quantization is one.weight_quantization
        assert isinstance(one.output_quantization, Sign)
    assert layer.embedding_output_quantization is layer.output_quantization
    assert bags.embedding_input_quantization is bags.output_quantization
    monkeypatch.setattr(config, "weight_quantization", "approxsign")
    monkeypatch.setattr(config, "input_quantization", "swishsign")
    assert QEmbedding(5, embedding_dim=3).weight_quantization.name == "approxsign"
    assert QEmbeddingBag(5, embedding_dim=3).output_quantization.name == "swishsign"
    with pytest.raises(TypeError):
        QEmbedding(5, 3)  # type: ignore[call-arg]  # the dimension is a keyword


def test_the_output_quantizer() -> None:
    layer = QEmbedding(9, embedding_dim=4, weight_quantization=PAPER[2], output_quantization=InputDoReFa(2))
    x = indices(7, rows=9)
    assert torch.equal(layer(x), InputDoReFa(2)(layer.weight_quantization(layer.weight)[x]))


# Gradients


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("quantizer", [*PAPER, WeightDoReFa(3), Sign()], ids=repr)
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"scale_grad_by_freq": True}], ids=str)
def test_gradients_of_an_embedding(sparse: bool, quantizer: Quantization, options: dict[str, Any]) -> None:
    layer = table(quantizer, sparse=sparse, **options)
    x = torch.cat([indices(4, 5), torch.full((4, 1), 3)], 1)
    g = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(2))
    layer(x).backward(g)
    leaf = layer.weight.detach().clone().requires_grad_()
    F.embedding(x, quantizer(leaf), **options).backward(g)
    assert layer.weight.grad is not None
    assert layer.weight.grad.layout == (torch.sparse_coo if sparse else torch.strided)
    assert torch.equal(dense(layer.weight.grad), dense(leaf.grad))


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_gradients_against_the_oracle(bits: int) -> None:
    layer, x = table(WeightDoReFa(bits, variant="paper")), indices(30)
    g = torch.randn(30, 6, generator=torch.Generator().manual_seed(3))
    layer(x).backward(g)
    of_values = np.zeros((20, 6))
    np.add.at(of_values, x.numpy(), g.double().numpy())
    expected = oracle.weight_gradient(layer.weight.detach().double().numpy(), bits, of_values)
    np.testing.assert_allclose(dense(layer.weight.grad).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_sparse_gradient_has_the_rows_that_learn() -> None:
    layer = table(PAPER[0], sparse=True)
    x = torch.tensor([[1, 4], [4, 11]])
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.coalesce().indices().tolist() == [[1, 4, 11]]
    with torch.no_grad():
        layer.weight[7, 2] = 9.0  # the largest number, which sets the scale of all the others
    layer.weight.grad = None
    layer.weight_quantization = PAPER[1]
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.coalesce().indices().tolist() == [[1, 4, 7, 11]]


@pytest.mark.parametrize("optimizer", [torch.optim.SparseAdam, torch.optim.SGD])
def test_sparse_training(optimizer: Any) -> None:
    layer = table(PAPER[0], sparse=True)
    before = layer.weight.detach().clone()
    steps = optimizer(layer.parameters(), lr=0.1)
    for _ in range(2):
        steps.zero_grad()
        layer(torch.tensor([2, 5])).sum().backward()
        steps.step()
    changed = (layer.weight != before).any(1).nonzero().flatten().tolist()
    assert changed == [2, 5]


# Norms


@pytest.mark.parametrize("norm_type", [1.0, 2.0])
def test_max_norm_limits_the_float_rows_that_are_used(norm_type: float) -> None:
    x = torch.tensor([[1, 2], [2, 3]])
    for layer, like in (
        (table(PAPER[2], max_norm=0.5, norm_type=norm_type), nn.Embedding(20, 6, None, 0.5, norm_type)),
        (bag(PAPER[2], max_norm=0.5, norm_type=norm_type), nn.EmbeddingBag(20, 6, 0.5, norm_type)),
    ):
        like.load_state_dict(layer.state_dict())
        y = layer(x)
        like(x)
        assert torch.equal(layer.weight, like.weight)
        norms = layer.weight.norm(norm_type, dim=1)
        assert (norms[1:4] <= 0.5001).all()
        assert (norms[4:] > 0.5001).any()
        rows = PAPER[2](layer.weight)[x]
        torch.testing.assert_close(y, rows if isinstance(layer, QEmbedding) else rows.mean(1))
        y.sum().backward()
        assert layer.weight.grad is not None


# Bags


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_bags(mode: Literal["sum", "mean", "max"], last: bool, padding_idx: int | None, sparse: bool) -> None:
    layer = bag(PAPER[2], mode=mode, include_last_offset=last, padding_idx=padding_idx, sparse=sparse)
    x = torch.tensor([4, 3, 2, 2, 9, 3, 1])
    offsets = torch.tensor([0, 2, 2, 7] if last else [0, 2, 2])  # the second bag is empty
    weights = torch.rand(7) if mode == "sum" else None
    options: dict[str, Any] = {"mode": mode, "include_last_offset": last, "padding_idx": padding_idx}
    leaf = layer.weight.detach().clone().requires_grad_()
    y = layer(x, offsets, weights)
    expected = F.embedding_bag(x, PAPER[2](leaf), offsets, per_sample_weights=weights, **options)
    assert torch.equal(y, expected)
    g = torch.randn(3, 6)
    y.backward(g)
    expected.backward(g)
    assert torch.equal(dense(layer.weight.grad), dense(leaf.grad))
    assert torch.equal(
        layer(x.view(1, 7)), F.embedding_bag(x.view(1, 7), PAPER[2](leaf), mode=mode, padding_idx=padding_idx)
    )


def test_gradients_of_sample_weights() -> None:
    layer, x = bag(PAPER[1], mode="sum"), indices(3, 4)
    weights = torch.rand(3, 4, requires_grad=True)
    layer(x, per_sample_weights=weights).sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, layer.weight_quantization(layer.weight)[x].sum(-1).detach())


# A layer of PyTorch


def pairs() -> list[tuple[Any, Any]]:
    return [
        (table(PAPER[1], padding_idx=2), nn.Embedding(20, 6, 2)),
        (bag(PAPER[1], mode="max"), nn.EmbeddingBag(20, 6, mode="max")),
    ]


def test_a_drop_in() -> None:
    for layer, like in pairs():
        assert isinstance(layer, type(like))
        layer.load_state_dict(like.state_dict(), strict=True)
        like.load_state_dict(layer.state_dict(), strict=True)
        x, file = indices(3, 4), io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
            assert torch.equal(other(x), layer(x))
            assert repr(other) == repr(layer)


def test_from_pretrained() -> None:
    weight = torch.randn(7, 3)
    kinds: tuple[Any, ...] = (QEmbedding, QEmbeddingBag)
    for cls, freeze in itertools.product(kinds, (True, False)):
        layer = cls.from_pretrained(weight.clone(), freeze=freeze)
        assert type(layer) is cls
        assert torch.equal(layer.weight, weight)
        assert layer.weight.requires_grad is not freeze


def test_low_precision_and_autocast() -> None:
    x = indices(3, 4)
    layer = table(PAPER[2]).to(torch.bfloat16)
    assert layer(x).dtype == torch.bfloat16
    layer = table(PAPER[2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), PAPER[2](layer.weight)[x])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_compiled(max_norm: float | None) -> None:
    layer, x = table(PAPER[1], max_norm=max_norm), indices(3, 4)
    torch._dynamo.reset()
    results = []
    for call in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        layer.zero_grad()
        y = call(x)
        y.square().sum().backward()
        assert layer.weight.grad is not None
        results.append((y.detach(), layer.weight.grad))
    torch._dynamo.reset()
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="output_quantization: no quantization is named 'dorefa'"):
        QEmbedding(5, embedding_dim=3, output_quantization="dorefa")
    with pytest.raises(TypeError, match=r"weight_quantization must be a Quantization.*did you mean Sign\(\)"):
        QEmbeddingBag(5, embedding_dim=3, weight_quantization=Sign)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        table(PAPER[1])(torch.tensor([20]))


# In a model


class Classifier(nn.Module):
    """Words to scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.tags = nn.EmbeddingBag(10, 8, mode="sum")
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, words: Tensor, tags: Tensor) -> Tensor:
        scores: Tensor = self.head(self.hidden(self.words(words).mean(1) + self.tags(tags)).relu())
        return scores


def batch() -> tuple[Tensor, Tensor]:
    return indices(4, 7), indices(4, 3, rows=10, seed=1)


def test_an_embedding_is_a_layer_and_the_first_one() -> None:
    model = Classifier()
    rows = {row.name: row for row in quantize_(model, LowBitConfig(2, 4, 6)).layers}
    assert (rows["words"].became, rows["words"].note) == ("float", "first layer")
    tags = rows["tags"]
    assert (tags.became, tags.shape) == ("QEmbeddingBag", (10, 8))
    assert (tags.weight_bits, tags.activation_bits, tags.gradient_bits) == (2, None, None)
    assert rows["hidden"].became == "QLinear"


def test_quantize_and_float_keep_the_table() -> None:
    model, like = Classifier(), Classifier()
    config, weight, keys = LowBitConfig(2, 4, 6, first="same"), model.words.weight, list(model.state_dict())
    before = model(*batch())
    quantize_(model, config)
    assert type(model.words) is QEmbedding
    assert type(model.tags) is QEmbeddingBag
    assert model.words.weight is weight
    assert list(model.state_dict()) == keys
    assert isinstance(model.words.output_quantization, Identity)
    assert torch.equal(model.words(batch()[0]), WeightDoReFa(2, variant="paper")(weight)[batch()[0]])
    model(*batch()).sum().backward()
    assert weight.grad is not None
    assert (weight.grad[0] == 0).all()  # the padding
    again = quantize_(model, config)
    assert [row.note for row in again.layers] == ["low-bit already"] * 3 + ["last layer"]
    with pytest.raises(ValueError, match="layer 'words' is low-bit already, with other quantizers"):
        quantize_(model, LowBitConfig(3, 4, 6, first="same"))
    model.load_state_dict(like.state_dict(), strict=True)
    float_(model)
    assert (type(model.words), type(model.tags)) == (nn.Embedding, nn.EmbeddingBag)
    assert model.words.weight is weight
    assert torch.equal(model(*batch()), before)


def test_rules_for_embeddings() -> None:
    model = Classifier()
    config = LowBitConfig(2, 4)
    quantize_(model, [("words", config), (nn.EmbeddingBag, LowBitConfig(8, 8))])
    assert isinstance(model.words, QEmbedding)
    assert isinstance(model.tags, QEmbeddingBag)
    assert model.tags.weight_quantization.bit_width == 8
    assert type(model.hidden) is nn.Linear


def test_a_table_may_have_any_kind_of_weights() -> None:
    """Ternary ones with two scales, too, which have no grid of integers."""
    for method, kind in (
        ("dorefa", WeightDoReFa),
        ("lsq", WeightLSQ),
        ("seq", WeightSEQ),
        ("twn", WeightTWN),
        ("absmean", WeightAbsMean),
        ("ttq", WeightTTQ),
    ):
        model = Classifier()
        quantize_(model, LowBitConfig(2, 4, first="same", weights=method))  # type: ignore[arg-type]  # one of them
        for table in (model.words, model.tags):
            assert isinstance(table, QEmbedding | QEmbeddingBag)
            assert type(table.weight_quantization) is kind
        twin = pickle.loads(pickle.dumps(model))
        assert torch.equal(model(*batch()), twin(*batch()))
        model(*batch()).sum().backward()
        assert all(p.grad is not None for name, p in model.words.named_parameters())


def test_embeddings_stay_float_without_weight_bits() -> None:
    model = Classifier()
    rows = {row.name: row for row in quantize_(model, LowBitConfig(32, 2, first="same")).layers}
    assert rows["words"].became == rows["tags"].became == "float"
    assert rows["tags"].note == "32 bits"
    assert rows["hidden"].became == "QLinear"


def test_calibration_takes_indices() -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    quantize_(model, LowBitConfig(2, 4, range="calibrated", first="same"))
    calibrate(model, [indices(4, 7)])
    assert model(indices(4, 7)).isfinite().all()


def test_deployment_says_that_the_runtime_has_no_bags() -> None:
    model = Classifier()
    quantize_(model, LowBitConfig(2, 4, first="same", last="same"))
    found = can_deploy(model.eval(), *batch())
    places = [p.place.split()[0] for p in found.problems if "the runtime has no bags of embeddings" in p.what]
    assert places == ["tags"]  # and nothing else: a mean over words is one over rows
    assert len(found.problems) == 1


def test_partial_deployment_leaves_them() -> None:
    pytest.importorskip("bitorch_runtime")
    from bitorch.deployment.partial.pack_layers import pack_layers

    model = Classifier()
    quantize_(model, LowBitConfig(2, 4, first="same", last="same"))
    packed = pack_layers(model.eval())
    reasons = ["tables stay in PyTorch; deployed whole, they are packed", "the runtime has no bags of embeddings"]
    assert [(row.bits, row.reason) for row in packed.rows[:2]] == [("W2", reason) for reason in reasons]
    assert [row.became for row in packed.rows[2:]] == ["PackedLinear"] * 2
    with torch.no_grad():
        assert torch.equal(packed.model(*batch()), model(*batch()))
