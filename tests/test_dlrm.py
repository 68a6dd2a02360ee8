"""DLRM: its parts against their definitions, and a recipe that trains it on made-up clicks and deploys it whole."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bitorch
from bitorch.data import read_criteo
from bitorch.layers import QEmbedding, QEmbeddingBag, QLinear
from bitorch.models import DLRM, SingleIndexDLRM, model_from_name
from bitorch.models.dlrm import Interaction_Operation_Type, create_embeddings, create_mlp, parse_layer_sizes
from bitorch.quantizations import WeightLSQ

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL: dict[str, Any] = {"bottom_mlp_layer_sizes": [6, 4], "top_mlp_layer_sizes": [5, 1], "embedding_dimension": 4}


def batch(features: int, rows: int = 9, count: int = 5, bag: int = 1) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    indices = torch.randint(rows, (features, count * bag), generator=generator)
    offsets = torch.arange(0, count * bag, bag).expand(features, -1)
    return torch.rand(count, 13, generator=generator), (indices, offsets)


# The parts


@pytest.mark.parametrize(
    ("given", "sizes"),
    [("[512, 256,64]", [512, 256, 64]), ("3", [3]), (" 4, 5 ", [4, 5]), ([7, 8], [7, 8]), ((1,), [1])],
)
def test_sizes(given: str | list[int], sizes: list[int]) -> None:
    assert parse_layer_sizes(given) == sizes


@pytest.mark.parametrize(
    ("given", "error"),
    [("[a]", ValueError), ("", ValueError), ("1-2", ValueError), ([0], ValueError), (["4"], TypeError), (4, TypeError)],
)
def test_wrong_sizes(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"layer sizes must|layer_sizes\[0\] must"):
        parse_layer_sizes(given)


@pytest.mark.parametrize("quantized", [False, True])
def test_an_mlp_is_norm_linear_norm_prelu(quantized: bool) -> None:
    mlp = create_mlp([3, 4, 2], quantized)
    linear = QLinear if quantized else nn.Linear
    assert [type(layer) for layer in mlp] == [nn.BatchNorm1d, linear, nn.BatchNorm1d, nn.PReLU] * 2
    assert ("1.bias" in mlp.state_dict()) is not quantized
    assert mlp(torch.rand(5, 3)).shape == (5, 2)


def test_embeddings() -> None:
    bags = create_embeddings(3, [4, 5], quantized=True, sparse=True)
    floats = create_embeddings(3, [4, 5], quantized=False)
    for bag, plain, rows in zip(bags, floats, (4, 5), strict=True):
        assert isinstance(bag, QEmbeddingBag)
        assert type(plain) is nn.EmbeddingBag
        assert (bag.mode, bag.sparse, plain.mode, plain.sparse) == ("mean", True, "sum", False)
        assert bag.weight.shape == plain.weight.shape == (rows, 3)
        assert float(plain.weight.detach().abs().max()) <= rows**-0.5


@pytest.mark.parametrize("features", [1, 2, 3, 26])
def test_products_of_all_pairs(features: int) -> None:
    """Odd numbers of embeddings too."""
    net = DLRM(13, [9] * features, **SMALL)
    generator = np.random.default_rng(features)
    dense, *embeddings = generator.normal(size=(features + 1, 2, 4)).astype(np.float32)
    found = net.feature_interaction(torch.from_numpy(dense), list(map(torch.from_numpy, embeddings))).numpy()
    vectors = [dense, *embeddings]
    products = [(vectors[i] * vectors[j]).sum(1) for i in range(features + 1) for j in range(i)]
    np.testing.assert_allclose(found, np.concatenate([dense, np.stack(products, 1)], 1), rtol=1e-5, atol=1e-6)
    assert net(*batch(features)).shape == (5, 1)


def test_vectors_one_behind_the_other() -> None:
    net = DLRM(13, "[9, 9]", interaction_operation=Interaction_Operation_Type.CONCAT, **SMALL)
    vectors = torch.rand(3, 2, 4)
    assert torch.equal(net.feature_interaction(vectors[0], list(vectors[1:])), torch.cat(list(vectors), 1))
    assert net(*batch(2)).shape == (5, 1)


def test_bags_of_several_rows() -> None:
    net = DLRM(13, [9, 9], binary_embedding=False, **SMALL)
    _, (indices, offsets) = batch(2, bag=3)
    found = net.forward_embeddings(indices, offsets)
    for feature, bag in enumerate(net.embedding_layers):
        rows: Any = bag.weight
        torch.testing.assert_close(found[feature], rows[indices[feature]].view(5, 3, 4).sum(1))
    ragged = [indices[0], indices[1, :4]], [offsets[0], torch.tensor([0, 0, 1, 2, 4])]
    assert [one.shape for one in net.forward_embeddings(*ragged)] == [(5, 4), (5, 4)]
    with pytest.raises(ValueError, match="tables for 2 categorical features, but indices of 1 and offsets of 2"):
        net.forward_embeddings(indices[:1], offsets)


def test_as_bitorch_builds_it() -> None:
    net = DLRM(13, [100] * 26, learning_rate=0.1)
    dense, categorical = batch(26, 100, 7)
    result = net(dense, categorical)
    assert result.shape == (7, 1)
    assert bool(((result > 0) & (result < 1)).all())
    assert [layer.out_features for layer in net.bottom_mlp if isinstance(layer, nn.Linear)] == [512, 256, 64, 16]
    assert [type(layer) for layer in net.top_mlp if isinstance(layer, nn.Linear)] == [QLinear] * 3
    assert not any(isinstance(layer, QLinear) for layer in net.bottom_mlp)
    assert isinstance(net.top_mlp[-1], nn.Sigmoid)
    assert model_from_name("dlrm") is DLRM
    assert net.model() is net
    result.mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.initialize()
    assert DLRM(13, [9], top_mlp_layer_sizes=[4, 3], embedding_dimension=4)(*batch(1)).shape == (5, 1)


def test_options_have_the_names_of_arguments() -> None:
    parser = argparse.ArgumentParser()
    DLRM.add_argparse_arguments(parser)
    words = "--bottom-mlp-layer-sizes [6,4] --no-binary-embedding --binary-bottom-mlp --interaction-operation concat"
    net = DLRM(13, [9], **vars(parser.parse_args([*words.split(), "--embedding-dimension", "4"])))
    assert isinstance(net.bottom_mlp[1], QLinear)
    assert type(net.embedding_layers[0]) is nn.EmbeddingBag
    assert net.interaction_operation is Interaction_Operation_Type.CONCAT


def test_wrong_arguments() -> None:
    for operation in ("sum", Interaction_Operation_Type.SUM, "dot"):
        with pytest.raises(ValueError, match='must be "product" or "concat"'):
            DLRM(13, [9], interaction_operation=operation)
    with pytest.raises(ValueError, match="at least one size"):
        DLRM(13, [])
    with pytest.raises(ValueError, match="dense_feature_size must be at least 1"):
        DLRM(0, [9])
    with pytest.raises(NotImplementedError, match="no first layer"):
        DLRM.as_backbone(input_size=[3])


# Deployed


def test_one_index_each_is_the_same_net() -> None:
    net = DLRM(13, [9, 9, 9], **SMALL)
    bag: Any = net.embedding_layers[1]
    bag.weight_quantization = WeightLSQ(2)
    with torch.no_grad():
        bag.weight_quantization.step.mul_(1.5)  # as if it were trained
    dense, (indices, offsets) = batch(3)
    net(dense, (indices, offsets))
    net.eval()
    single = SingleIndexDLRM(net)
    assert not single.training
    assert all(isinstance(table, QEmbedding) for table in single.tables)
    assert torch.equal(single(dense, *indices.unsqueeze(2)), net(dense, (indices, offsets)))
    with torch.no_grad():
        bag.weight.mul_(-1)
    assert torch.equal(single(dense, *indices.unsqueeze(2)), net(dense, (indices, offsets)))  # it is shared
    with pytest.raises(ValueError, match="3 categorical features, but indices of 2"):
        single(dense, *indices[:2].unsqueeze(2))


@pytest.mark.parametrize("operation", ["product", "concat"])
@pytest.mark.parametrize("binary", [False, True])
def test_deployed_whole(operation: str, binary: bool) -> None:
    pytest.importorskip("bitorch_runtime")
    net = DLRM(13, [9, 9, 9], interaction_operation=operation, binary_embedding=binary, binary_bottom_mlp=binary,
               **SMALL)  # fmt: skip
    dense, (indices, offsets) = batch(3)
    net(dense, (indices, offsets))
    single = SingleIndexDLRM(net.eval())
    x = (dense, *indices.unsqueeze(2))
    assert bitorch.can_deploy(single, *x)
    packed = bitorch.deploy(single, *x)
    assert bitorch.verify(single, packed, *x).first_difference is None


def test_the_mlps_are_packed_beside_bags_of_several_rows() -> None:
    pytest.importorskip("bitorch_runtime")
    net = DLRM(13, [9, 9], binary_bottom_mlp=True, **SMALL)
    x = batch(2, bag=3)
    net(*x)
    with torch.no_grad():
        expected = net.eval()(*x)
        bitorch.convert(net, bitorch.RuntimeMode.CPU)
        assert torch.equal(net(*x), expected)
    assert sum(type(layer).__name__ == "PackedLinear" for layer in net.modules()) == 4


# The recipe


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    pytest.importorskip("bitorch_runtime")
    monkeypatch.syspath_prepend(str(RECIPES))
    import dlrm

    yield dlrm
    for name in ("dlrm", "dlrm_clicks"):
        sys.modules.pop(name, None)


def test_clicks_have_a_structure(recipe: ModuleType, tmp_path: Path) -> None:
    made = sys.modules["dlrm_clicks"]
    known = made.habits(3)
    least = made.write_clicks(tmp_path / "a.txt", 2000, 4, known)
    again = made.write_clicks(tmp_path / "b.txt", 2000, 4, known)
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    clicks = read_criteo(tmp_path / "a.txt", 32)
    rate = float(clicks.labels.mean())
    uninformed = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert least == again
    assert least < 0.8 * uninformed
    assert 0.03 < float((clicks.indices == 0).float().mean()) < 0.15


def test_a_small_net_learns_and_is_deployed(recipe: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "clicks.bit.safetensors"
    budget = recipe.Budget(examples=3000, test=400, epochs=1, batch=50, lr=2e-2)
    text = io.StringIO()
    outcome = recipe.main(
        recipe.Options(budget=budget, dimension=4, out=out), Console(file=text, width=100, color_system=None)
    )
    floats, low_bit, packed = outcome.aucs
    assert floats > 0.6
    assert low_bit > 0.6
    assert packed == low_bit
    assert outcome.losses[1] == pytest.approx(outcome.losses[2], abs=1e-6)
    assert out.stat().st_size == outcome.packed.nbytes
    assert "verified on 400 examples: equal" in text.getvalue()
    assert sum(operation["op"] == "embedding" for operation in outcome.packed.program()[0]) == 26
