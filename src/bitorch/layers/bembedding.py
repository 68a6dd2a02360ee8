"""Embeddings whose table is stored in bits: only the rows in use are numbers, and learn."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors_of_both import NothingToWriteError
from ..quantizations import Quantization
from .config import config, resolve_quantization


class BEmbedding(nn.Module):
    """Rows of a table of bits. The rows that a batch uses become numbers for one step of the optimizer.

        rows = embedding(indices)
        loss(rows).backward()
        optimizer.step()
        embedding.step()             # writes the rows back, as bits

    The table takes a byte for each number, and there is no float table, nor its gradient, nor an optimizer's state for
    all of it. What a row has learned beyond its bits is lost with each step. A step belongs to the last forward, so
    call the embedding once for each.

    With an optimizer that was told by `set_optimizer` the rows in use are a parameter group of their own, with its
    defaults: added by the first forward, exchanged by the following ones. Its state stays with the rows that two
    batches after one another both use, and begins anew for the others.

    Args:
        num_embeddings, embedding_dim: as nn.Embedding.
        padding_idx: the row that gives zeros and never changes; counted from the end where it is negative.
        weight_quantization: Quantization instance or name, which says what is written back: a bit is set where it gives
            1. None takes `bitorch.layers.config.config`'s.
        device: of the table.
        sign_bool: bits stand for 1 and −1; False: for 1 and 0, for which a quantizer fits that gives 1 above ½ alone,
            as InputDoReFa(1) does: signs of rows that nothing has changed would set all their bits.

    Attributes:
        weight: Parameter, bool [num_embeddings, embedding_dim], random at the start, without gradient.
        unique: int64 [rows], which rows the last forward used; None before one and after `step`.
        unique_vectors: their numbers, float [rows, embedding_dim], a leaf that wants a gradient; None likewise.
        optimizer: that of `set_optimizer`; optimizer_dict: its parameter group of the rows; out_param: the rows in it.

    Raises:
        ValueError: sizes below 1, padding_idx outside the table. ValueError and TypeError: no quantizer.
    """

    weight: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        weight_quantization: Quantization | str | None = None,
        device: torch.device | str | None = None,
        sign_bool: bool = False,
    ) -> None:
        super().__init__()
        for argument, value in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx must be a row of the {num_embeddings}, got {padding_idx}")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight_quantization = resolve_quantization(
            weight_quantization, config.weight_quantization, "weight_quantization"
        )
        self.sign_bool = sign_bool
        bits = torch.empty(num_embeddings, embedding_dim, dtype=torch.bool, device=device).random_(0, 2)
        self.weight = nn.Parameter(bits, requires_grad=False)
        self.unique: Tensor | None = None
        self.unique_vectors: Tensor | None = None
        self.optimizer: Optimizer | None = None
        self.optimizer_dict: dict[str, Any] | None = None
        self.out_param: Tensor | None = None
        self._out_rows: Tensor | None = None

    def set_optimizer(self, optimizer: Optimizer) -> None:
        """Have an optimizer train the rows in use, by a parameter group that the next forward adds."""
        self.optimizer = optimizer
        self.optimizer_dict = self.out_param = self._out_rows = None

    def set_weight(self, weight: Tensor) -> None:
        """Take a table [num_embeddings, embedding_dim]: bits as they are; of floats those that the quantizer makes 1.

        Raises:
            ValueError: another shape.
        """
        if weight.shape != self.weight.shape:
            raise ValueError(f"weight must have the shape {list(self.weight.shape)}, got {list(weight.shape)}")
        with torch.no_grad():
            self.weight.copy_(weight if weight.dtype == torch.bool else self._bits(weight))

    def _bits(self, vectors: Tensor) -> Tensor:
        bits: Tensor = self.weight_quantization(vectors) == 1
        return bits

    def unique_wrapper(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the different indices, sorted, and for each index its place among them, in its shape."""
        unique, places = torch.unique(indices, return_inverse=True)
        return unique, places

    def select_unique_vectors(self, unique: Tensor) -> Tensor:
        """Return the rows of these indices as numbers, in the default dtype: zeros for the padding."""
        vectors = self.transform_zeros(self.weight[unique].to(torch.get_default_dtype()))
        return self.apply_padding(unique, vectors)

    def transform_zeros(self, vectors: Tensor) -> Tensor:
        """Return −1 in place of 0, where bits stand for signs."""
        return vectors * 2 - 1 if self.sign_bool else vectors

    def apply_padding(self, unique: Tensor, vectors: Tensor) -> Tensor:
        """Return zeros in place of the row of the padding."""
        return vectors if self.padding_idx is None else vectors * (unique != self.padding_idx).unsqueeze(1)

    def _use(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows in use, for each index the place of its row, in its shape, and which rows they are."""
        unique, places = self.unique_wrapper(indices)
        unique = unique.long()
        with torch.no_grad():
            vectors = self.select_unique_vectors(unique)
        if torch.is_grad_enabled():  # else nothing will be learned from this forward
            self.unique, self.unique_vectors = unique, vectors.requires_grad_()
            self.set_optimizable_weights()
        return vectors, places, unique

    def set_optimizable_weights(self) -> None:
        """Give the optimizer, if there is one, the rows in use in place of those that it had."""
        optimizer, vectors, unique = self.optimizer, self.unique_vectors, self.unique
        if optimizer is None or vectors is None or unique is None:
            return
        if self.optimizer_dict is None:
            self.optimizer_dict = {"params": [vectors]}
            optimizer.add_param_group(self.optimizer_dict)
        else:
            assert self.out_param is not None  # as there is a group
            assert self._out_rows is not None
            self.optimizer_dict["params"] = [vectors]
            state = optimizer.state.pop(self.out_param, None)
            if state is not None:
                optimizer.state[vectors] = _moved(state, self._out_rows, unique, vectors)
        self.out_param, self._out_rows = vectors, unique

    def forward(self, indices: Tensor) -> Tensor:
        """Return [..., embedding_dim] for indices [...], int32 or int64."""
        vectors, places, _ = self._use(indices)
        return F.embedding(places, vectors)

    @torch.no_grad()
    def step(self) -> None:
        """Write the rows that the last forward used back into the table, as they are now, as bits.

        Raises:
            RuntimeError: there was no forward, with gradients, since the last step. It is an AssertionError, too, as in
                BITorch.
        """
        if self.unique is None or self.unique_vectors is None:
            raise NothingToWriteError("no rows are in use; call the embedding first, with gradients enabled")
        rows, vectors = self.unique, self.unique_vectors
        if self.padding_idx is not None:
            kept = rows != self.padding_idx
            rows, vectors = rows[kept], vectors[kept]
        self.weight[rows] = self._bits(vectors)
        self.unique = self.unique_vectors = None

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, sign_bool={self.sign_bool}"


class BEmbeddingBag(BEmbedding):
    """Sums, means or maxima of rows of a table of bits; see BEmbedding for the table and how it learns.

    It warns when it is made, since it learns nothing unless `step` is called.

    Args:
        mode: "mean", "sum" or "max".
        num_embeddings, embedding_dim, padding_idx, weight_quantization, device, sign_bool: as BEmbedding. The row of
            padding_idx does not count in a bag.

    Raises:
        ValueError: another mode, and as BEmbedding.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        weight_quantization: Quantization | str | None = None,
        device: torch.device | str | None = None,
        sign_bool: bool = False,
        mode: Literal["sum", "mean", "max"] = "mean",
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, weight_quantization, device, sign_bool)
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f'mode must be "sum", "mean" or "max", got {mode!r}')
        self.mode = mode
        warnings.warn(
            "the table of a BEmbeddingBag learns nothing until step() is called behind each optimizer.step()",
            stacklevel=2,
        )

    def forward(self, indices: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Return [bags, embedding_dim].

        Args:
            indices: int32 or int64, [all] with offsets, or [bags, size].
            offsets: int64 [bags], where each bag begins in the indices.
        """
        vectors, places, unique = self._use(indices)
        padding = None
        if self.padding_idx is not None:
            found = (unique == self.padding_idx).nonzero()
            padding = int(found[0, 0]) if len(found) > 0 else None
        return F.embedding_bag(places, vectors, offsets, mode=self.mode, padding_idx=padding)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"


def _moved(state: dict[str, Any], before: Tensor, after: Tensor, vectors: Tensor) -> dict[str, Any]:
    """Return an optimizer's state of rows for others: what it has for each row moves along, or begins at 0.

    Args:
        before, after: sorted indices of the rows, int64 [rows].
        vectors: the new rows [rows, embedding_dim].
    """
    if torch.equal(before, after):
        return state
    stays, was_there = torch.isin(before, after), torch.isin(after, before)  # in the same order, both being sorted

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.shape != (len(before), vectors.shape[1]):
            return value  # of all rows together, such as the count of steps
        new = torch.zeros_like(vectors, dtype=value.dtype, device=value.device, requires_grad=False)
        new[was_there] = value[stays]
        return new

    return {name: moved(value) for name, value in state.items()}
