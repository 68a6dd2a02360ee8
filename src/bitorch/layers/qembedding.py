"""Embeddings with a quantized table."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from ..quantizations import Quantization
from .assigning import given_quantizer, other_name
from .config import config, resolve_quantization
from .low_bit import WeightQuantized


class _SparseGradient(Function):
    """Identity forward; backward, a dense gradient [rows, dim] becomes a sparse one of the rows that are not all 0."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rows = (gradient != 0).any(1).nonzero().squeeze(1)
        sparse: Tensor = torch.sparse_coo_tensor(
            rows.unsqueeze(0), gradient[rows], gradient.shape, is_coalesced=True, check_invariants=False
        )
        return sparse


class _Embedding(WeightQuantized):
    """What QEmbedding and QEmbeddingBag share: the quantized table, and the quantizer of the output."""

    max_norm: float | None
    norm_type: float
    sparse: bool
    output_quantization: Quantization

    embedding_weight_quantization = other_name("weight_quantization")

    def _set_quantization(
        self,
        *,
        weight_quantization: Quantization | str | None,
        output_quantization: Quantization | str | None,
    ) -> None:
        self._set_weight_quantization(weight_quantization)
        self._put(
            "output_quantization",
            resolve_quantization(output_quantization, config.input_quantization, "output_quantization"),
        )
        self._freeze_with_weight(self.output_quantization)

    def _assign_output_quantization(self, value: object) -> None:
        self._put("output_quantization", given_quantizer(value, "output_quantization"))

    def _quantized_table(self, used: Tensor) -> Tensor:
        """Return the quantized table, after the norms of the rows that are used were limited.

        Quantizers have statistics of the whole table, so all of it is quantized.
        """
        if self.max_norm is not None:
            with torch.no_grad():
                torch.embedding_renorm_(self.weight, used.contiguous(), self.max_norm, self.norm_type)
        weight = _SparseGradient.apply(self.weight) if self.sparse else self.weight
        quantized: Tensor = self.weight_quantization(weight)
        return quantized


class QEmbedding(_Embedding, nn.Embedding):
    """Rows of a quantized table: output_quantization(w_q[input]).

    A drop-in for nn.Embedding with the same parameters and state_dict keys. The table is quantized as a whole, with the
    statistics that the quantizer takes of it (per channel: of each row), which costs a pass over the table whatever the
    number of indices. Its float rows are what is trained.
    The row of padding_idx is a row like any other to the quantizer, which may have no level at 0; its places give it no
    gradient. max_norm limits the norms of the float rows before they are quantized, in place, as in nn.Embedding.

    Args:
        num_embeddings: number of rows.
        embedding_dim: length of a row; by keyword only.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        output_quantization: Quantization instance or name; None takes `layers.config.config.input_quantization`.
            Identity() gives the rows as they are, and is what `quantize_` takes.
        padding_idx, max_norm, norm_type, scale_grad_by_freq, device, dtype: as nn.Embedding.
        sparse: True gives the table a sparse gradient of the rows whose gradient is not all zero, the rows that set a
            statistic among them. It saves the optimizer's work, not memory.

    Raises:
        ValueError: an unknown name. TypeError: what is no Quantization.
    """

    _float_class = nn.Embedding

    def __init__(
        self,
        num_embeddings: int,
        *,
        embedding_dim: int,
        weight_quantization: Quantization | str | None = None,
        output_quantization: Quantization | str | None = None,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            _freeze,
            device,
            dtype,
        )
        self._set_quantization(weight_quantization=weight_quantization, output_quantization=output_quantization)

    embedding_output_quantization = other_name("output_quantization")

    def forward(self, input: Tensor) -> Tensor:
        """Return [..., embedding_dim] for indices [...], int32 or int64."""
        table = self._quantized_table(input)
        rows = F.embedding(input, table, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq)
        quantized: Tensor = self.output_quantization(rows)
        return quantized


class QEmbeddingBag(_Embedding, nn.EmbeddingBag):
    """Sums, means or maxima of rows of a quantized table: output_quantization(bag of w_q[input]).

    A drop-in for nn.EmbeddingBag with the same parameters and state_dict keys; see QEmbedding for the table.

    Args:
        num_embeddings: number of rows.
        embedding_dim: length of a row; by keyword only.
        weight_quantization: Quantization instance or name; None takes `layers.config.config`'s.
        output_quantization: Quantization instance or name; None takes `layers.config.config.input_quantization`.
        max_norm, norm_type, scale_grad_by_freq, mode, include_last_offset, padding_idx, device, dtype: as
            nn.EmbeddingBag.
        sparse: as QEmbedding, and with every mode.

    Raises:
        ValueError: an unknown name. TypeError: what is no Quantization.
    """

    _float_class = nn.EmbeddingBag

    def __init__(
        self,
        num_embeddings: int,
        *,
        embedding_dim: int,
        weight_quantization: Quantization | str | None = None,
        output_quantization: Quantization | str | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: Literal["sum", "mean", "max"] = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            _weight,
            include_last_offset,
            padding_idx,
            device,
            dtype,
        )
        self._set_quantization(weight_quantization=weight_quantization, output_quantization=output_quantization)

    embedding_input_quantization = other_name("output_quantization")

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Return [bags, embedding_dim]; the arguments are those of nn.EmbeddingBag."""
        bags = F.embedding_bag(
            input,
            self._quantized_table(input),
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )
        quantized: Tensor = self.output_quantization(bags)
        return quantized
