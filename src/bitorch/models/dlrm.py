"""A net that recommends: tables for what has a name, an MLP for what is a number, and products (arXiv 1906.00091)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import QEmbedding, QEmbeddingBag, QLinear
from ..quantizations import Identity
from .base import Model
from .blocks import check_counts


class Interaction_Operation_Type(Enum):
    """How dense features and rows of tables meet. BITorch declares "sum" too, and computes it as little as we do."""

    PRODUCT = "product"
    CONCAT = "concat"
    SUM = "sum"


def parse_layer_sizes(layer_sizes: str | Sequence[int]) -> list[int]:
    """Return sizes of layers: of a list as they are, or of a text such as "[512, 256]" or "512, 256".

    Raises:
        ValueError: another text, or a size below 1. TypeError: what is neither, or holds no ints.
    """
    if isinstance(layer_sizes, str):
        words = layer_sizes.strip().removeprefix("[").removesuffix("]").split(",")
        if not all(word.strip().isdecimal() for word in words):
            raise ValueError(f"layer sizes must be a list such as [512, 256], got {layer_sizes!r}")
        layer_sizes = list(map(int, words))
    elif not isinstance(layer_sizes, Sequence):
        raise TypeError(f"layer sizes must be a list such as [512, 256], or a text of one, got {layer_sizes!r}")
    sizes: list[int] = [*layer_sizes]
    check_counts(**{f"layer_sizes[{index}]": size for index, size in enumerate(sizes)})
    return sizes


def create_mlp(sizes: Sequence[int], quantized: bool = False) -> nn.Sequential:
    """Return batch norm, linear layer, batch norm, PReLU for each pair of sizes that follow each other.

    Args:
        sizes: features of the input, then of each layer.
        quantized: QLinear without bias, with the quantizers of `bitorch.layers.config.config`; else nn.Linear.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = QLinear(inputs, outputs, bias=False) if quantized else nn.Linear(inputs, outputs)
        layers += [nn.BatchNorm1d(inputs), linear, nn.BatchNorm1d(outputs), nn.PReLU()]
    return nn.Sequential(*layers)


def create_embeddings(
    embedding_dimension: int, layer_sizes: Sequence[int], quantized: bool, sparse: bool = False
) -> nn.ModuleList:
    """Return a bag of embeddings for each size, that many rows of embedding_dimension.

    Rows begin uniform up to ±1/√size, as the paper's code has it: larger ones drown what dense features say.

    Args:
        quantized: QEmbeddingBag, of means, with the quantizers of `bitorch.layers.config.config`; else nn.EmbeddingBag,
            of sums.
        sparse: give the tables sparse gradients.
    """
    bags: list[nn.EmbeddingBag] = []
    for rows in layer_sizes:
        if quantized:
            bags.append(QEmbeddingBag(rows, embedding_dim=embedding_dimension, mode="mean", sparse=sparse))
        else:
            bags.append(nn.EmbeddingBag(rows, embedding_dimension, mode="sum", sparse=sparse))
        nn.init.uniform_(bags[-1].weight, -(rows**-0.5), rows**-0.5)
    return nn.ModuleList(bags)


class DLRM(Model):
    """A deep learning recommendation model: the probability of a click, of dense and categorical features.

    Tables give a row, or the mean or sum of several, for each categorical feature; the bottom MLP brings the dense
    features to the same length; the top MLP takes what both together are.

    Args:
        dense_feature_size: number of dense features.
        embedding_layer_sizes: rows of the table of each categorical feature.
        input_shape: not used.
        bottom_mlp_layer_sizes: of the bottom MLP's layers. Where the last of them is not embedding_dimension, one more
            layer leads to it.
        top_mlp_layer_sizes: of the top MLP's layers; of more than one output the mean is the result.
        interaction_operation: "product", the dense vector and the dot products of all pairs of vectors; or "concat",
            all vectors one behind the other.
        binary_bottom_mlp, binary_top_mlp, binary_embedding: whether these are low-bit, with the quantizers of
            `bitorch.layers.config.config`, or float.
        embedding_dimension: length of a row.
        dense_embeddings: False gives tables sparse gradients, for optimizers that take them.
        ignored: options of a training script that are for other nets.

    Shapes: see `forward`.

    Raises:
        ValueError: a size below 1, no size, another interaction_operation. TypeError: sizes that are no ints.
    """

    name = "DLRM"

    def __init__(
        self,
        dense_feature_size: int,
        embedding_layer_sizes: str | Sequence[int],
        input_shape: Sequence[int] = (),
        bottom_mlp_layer_sizes: str | Sequence[int] = (512, 256, 64),
        top_mlp_layer_sizes: str | Sequence[int] = (512, 256, 1),
        interaction_operation: str | Interaction_Operation_Type = "product",
        binary_bottom_mlp: bool = False,
        binary_top_mlp: bool = True,
        binary_embedding: bool = True,
        embedding_dimension: int = 16,
        dense_embeddings: bool = True,
        **ignored: Any,
    ) -> None:
        super().__init__(input_shape)
        check_counts(dense_feature_size=dense_feature_size, embedding_dimension=embedding_dimension)
        tables, bottom, top = map(
            parse_layer_sizes, (embedding_layer_sizes, bottom_mlp_layer_sizes, top_mlp_layer_sizes)
        )
        if not tables or not top:
            raise ValueError("embedding_layer_sizes and top_mlp_layer_sizes must have at least one size each")
        self.interaction_operation = _checked_operation(interaction_operation)
        if bottom[-1:] != [embedding_dimension]:
            bottom.append(embedding_dimension)
        self.embedding_layers = create_embeddings(
            embedding_dimension, tables, binary_embedding, sparse=not dense_embeddings
        )
        self.bottom_mlp = create_mlp([dense_feature_size, *bottom], binary_bottom_mlp)
        vectors = 1 + len(tables)
        is_product = self.interaction_operation is Interaction_Operation_Type.PRODUCT
        pairs = vectors * (vectors - 1) // 2
        features = embedding_dimension + pairs if is_product else embedding_dimension * vectors
        self.top_mlp = create_mlp([features, *top], binary_top_mlp)
        self.top_mlp[-1] = nn.Sigmoid()
        below = torch.tril_indices(vectors, vectors, offset=-1)
        self.register_buffer("_below", below[0] * vectors + below[1], persistent=False)

    _below: Tensor

    @property
    def _model(self) -> nn.Module:  # type: ignore[override]  # the parts are this net's own
        return self

    def forward(self, dense: Tensor, categorical: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """Return probabilities of a click, [batch, 1].

        Args:
            dense: float [batch, dense_feature_size].
            categorical: indices, int [features, N], and offsets, int [features, batch], of each feature as of
                nn.EmbeddingBag; or lists of as many tensors, whose N may differ.
        """
        indices, offsets = categorical
        return self.click(self.feature_interaction(self.bottom_mlp(dense), self.forward_embeddings(indices, offsets)))

    def forward_embeddings(
        self, indices: Tensor | Sequence[Tensor], offsets: Tensor | Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the bags of each categorical feature, a list of [batch, embedding_dimension]."""
        if len(indices) != len(self.embedding_layers) or len(offsets) != len(indices):
            raise ValueError(
                f"there are tables for {len(self.embedding_layers)} categorical features, but indices of "
                f"{len(indices)} and offsets of {len(offsets)}"
            )
        return [bag(i, o) for bag, i, o in zip(self.embedding_layers, indices, offsets, strict=True)]

    def feature_interaction(self, dense: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """Return what the top MLP takes, [batch, features], of the bottom MLP's result and the bags of each feature."""
        if self.interaction_operation is Interaction_Operation_Type.CONCAT:
            return torch.cat([dense, *embeddings], 1)
        vectors = torch.stack([dense, *embeddings], 1)  # [batch, vectors, embedding_dimension]
        products = torch.matmul(vectors, vectors.transpose(1, 2))
        return torch.cat([dense, products.flatten(1).index_select(1, self._below)], 1)

    def click(self, features: Tensor) -> Tensor:
        """Return probabilities [batch, 1] of what `feature_interaction` gives."""
        results: Tensor = self.top_mlp(features)
        return results.clamp(0, 1).mean(1, keepdim=True) if results.shape[1] > 1 else results

    @classmethod
    def as_backbone(cls, *args: Any, **kwargs: Any) -> Any:
        """Raise NotImplementedError: the net has two kinds of inputs, and so no first layer."""
        raise NotImplementedError("DLRM has an MLP and tables side by side, so there is no first layer to replace")

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add options whose dest names are arguments of the constructor, with its defaults."""
        parser.add_argument("--bottom-mlp-layer-sizes", type=parse_layer_sizes, default=[512, 256, 64])
        parser.add_argument("--top-mlp-layer-sizes", type=parse_layer_sizes, default=[512, 256, 1])
        parser.add_argument("--embedding-dimension", type=int, default=16)
        parser.add_argument("--interaction-operation", choices=("concat", "product"), default="product")
        defaults = {"binary-bottom-mlp": False, "binary-top-mlp": True, "binary-embedding": True}
        for name, default in {**defaults, "dense-embeddings": True}.items():
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default)


class SingleIndexDLRM(nn.Module):
    """A DLRM for examples with one index of each categorical feature, as it is deployed: the runtime has no bags.

    It shares the DLRM's parts and parameters, and gives what the DLRM gives: a bag of one row is that row.
    """

    def __init__(self, dlrm: DLRM) -> None:
        super().__init__()
        self.dlrm = dlrm
        self.tables = nn.ModuleList(map(_table_of, dlrm.embedding_layers))
        self.train(dlrm.training)

    def forward(self, dense: Tensor, *indices: Tensor) -> Tensor:
        """Return probabilities of a click, [batch, 1].

        Args:
            dense: float [batch, dense_feature_size].
            indices: of each categorical feature, int [batch, 1].
        """
        if len(indices) != len(self.tables):
            raise ValueError(f"there are {len(self.tables)} categorical features, but indices of {len(indices)}")
        rows = [table(index)[:, 0] for table, index in zip(self.tables, indices, strict=True)]
        return self.dlrm.click(self.dlrm.feature_interaction(self.dlrm.bottom_mlp(dense), rows))


def _table_of(bag: nn.Module) -> nn.Module:
    """Return the table of a bag, as a layer that gives rows."""
    if isinstance(bag, QEmbeddingBag):
        low_bit = QEmbedding(
            bag.num_embeddings,
            embedding_dim=bag.embedding_dim,
            weight_quantization=Identity(),
            output_quantization=Identity(),
            _weight=bag.weight,
        )
        low_bit.weight = bag.weight
        low_bit.weight_quantization = bag.weight_quantization  # with the steps that it has learned
        low_bit.output_quantization = bag.output_quantization
        return low_bit
    assert isinstance(bag, nn.EmbeddingBag)  # as `create_embeddings` makes them
    table = nn.Embedding(bag.num_embeddings, bag.embedding_dim, _weight=bag.weight)
    table.weight = bag.weight
    return table


def _checked_operation(operation: str | Interaction_Operation_Type) -> Interaction_Operation_Type:
    allowed = (Interaction_Operation_Type.PRODUCT, Interaction_Operation_Type.CONCAT)
    found = next((one for one in allowed if operation in (one, one.value)), None)
    if found is None:
        raise ValueError(f'interaction_operation must be "product" or "concat", got {operation!r}')
    return found
