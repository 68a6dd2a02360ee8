"""Multi-head attention with low-bit projections."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..quantizations import Quantization
from .attention import QAttention, additive, causal
from .composed import Composed, PartLinear, copied
from .qlinear import QLinear
from .register import q_linear_registry
from .weight_sources import is_in, load_parametrization

#: The submodules that project, in the order of the rows of in_proj_weight, and what comes out.
INPUT_PROJECTIONS = ("q_projection", "k_projection", "v_projection")
#: The parameters whose rows are their weights and biases.
PROJECTED = ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight")


#: What the projections have, and what would be ignored on the attention itself.
_OF_PROJECTIONS = frozenset(
    {"input_quantization", "weight_quantization", "gradient_quantization", "gradient_cancellation_threshold", "exact"}
)


class QProjection(PartLinear):
    """A projection into attention: a QLinear whose weight and bias are rows of those of its QMultiheadAttention.

    Attributes:
        weight: [embed_dim, in_features], a view of the attention's parameter.
        bias: [embed_dim], or None.
    """

    _registry = q_linear_registry

    def __init__(self, attention: nn.MultiheadAttention, name: str, **quantization: Any) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which makes parameters
        self._attention = (attention,)  # in a tuple, so that it is no submodule
        self._index = INPUT_PROJECTIONS.index(name)
        self.in_features = (attention.embed_dim, attention.kdim, attention.vdim)[self._index]
        self.out_features = attention.embed_dim
        self._set_quantization(**quantization)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a Parameter of the attention
        weight: Tensor = getattr(self._attention[0], self.weight_name)
        return weight.chunk(3)[self._index] if self.weight_name == "in_proj_weight" else weight

    @property
    def weight_name(self) -> str:
        """The attention's parameter that has the weight."""
        is_common = self._attention[0].in_proj_weight is not None
        return "in_proj_weight" if is_common else f"{'qkv'[self._index]}_proj_weight"

    def _weight_place(self) -> tuple[nn.Module, str]:
        return self._attention[0], self.weight_name

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]  # a Parameter of the attention
        bias = self._attention[0].in_proj_bias
        return None if bias is None else bias.chunk(3)[self._index]

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class QMultiheadAttention(Composed, nn.MultiheadAttention):
    """Multi-head attention whose four projections compute on integer codes, and both products too with `attention`.

    A drop-in for nn.MultiheadAttention with the same parameters, state_dict keys, arguments and results. Each of
    `q_projection`, `k_projection`, `v_projection` and `out_proj` is a QLinear with quantizers of its own. The first
    three get their weights from the rows of in_proj_weight (or from q_proj_weight, …), each with its own statistics.
    What comes in is projected batch first, so the gradient quantizers see the gradient of each sample.

    nn.TransformerEncoderLayer has a fast path that would read the weights in place of calling this layer; it does not
    take it with one. nn.DataParallel is not supported; DistributedDataParallel is.

    Args:
        embed_dim … dtype: as nn.MultiheadAttention.
        input_quantization: of each projection: a name, or a Quantization instance of which each gets a copy; None takes
            `layers.config.config`'s.
        weight_quantization: as input_quantization.
        gradient_cancellation_threshold: see QActivation.
        gradient_quantization: Quantization instance such as GradientDoReFa(6), applied to the gradient of the output of
            each projection, each with a copy.
        exact: see QLinear.
        attention: a QAttention, which computes the two products on codes; None: they stay float.

    Raises:
        ValueError: an unknown name, or more inputs than exact sums allow. TypeError: what is no Quantization.
    """

    _float_class = nn.MultiheadAttention
    _quantized_names = frozenset({*INPUT_PROJECTIONS, "attention"})
    attention: QAttention | None
    q_projection: QProjection
    k_projection: QProjection
    v_projection: QProjection

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        input_quantization: Quantization | str | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        gradient_quantization: Quantization | None = None,
        exact: bool = True,
        attention: QAttention | None = None,
    ) -> None:
        super().__init__(
            embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype
        )
        self._set_quantization(
            {
                name: {
                    "input_quantization": copied(input_quantization),
                    "weight_quantization": copied(weight_quantization),
                    "gradient_quantization": copied(gradient_quantization),
                    "gradient_cancellation_threshold": gradient_cancellation_threshold,
                    "exact": exact,
                }
                for name in (*INPUT_PROJECTIONS, "out_proj")
            },
            attention,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_PROJECTIONS:
            raise AttributeError(
                f"QMultiheadAttention has no {name} of its own, but each of its projections has: set "
                f"{', '.join(f'layer.{part}.{name}' for part in (*INPUT_PROJECTIONS, 'out_proj'))}"
            )
        super().__setattr__(name, value)

    def _set_quantization(
        self, projections: Mapping[str, Mapping[str, Any]], attention: QAttention | None = None
    ) -> None:
        """Make low-bit projections.

        Args:
            projections: the quantization arguments of each.
            attention: what stands between them; None: float.
        """
        self.attention = attention
        for name in INPUT_PROJECTIONS:
            self.add_module(name, QProjection(self, name, **projections[name]))
        self.out_proj = QLinear._sharing(self.out_proj, **projections["out_proj"])  # type: ignore[assignment]
        self._close_fast_path()

    def _close_fast_path(self) -> None:
        """Have nn.TransformerEncoderLayer call this layer: only where this is True does it read the weights itself."""
        self._qkv_same_embed_dim = False

    def _reset_parameters(self) -> None:
        self._qkv_same_embed_dim = self.in_proj_weight is not None
        super()._reset_parameters()
        self._close_fast_path()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Load the weights; the projections, which are loaded after this, are not shown the keys of theirs."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        for name in INPUT_PROJECTIONS:
            projection = self.get_submodule(name)
            if isinstance(projection, QProjection) and is_in(state_dict, self, projection.weight_name, prefix):
                load_parametrization(self, projection.weight_name, state_dict, prefix, assign)
                projection._initialize_without_steps(state_dict, f"{prefix}{name}.")

    def _as_float(self) -> nn.Module:
        new = super()._as_float()
        assert isinstance(new, nn.MultiheadAttention)
        out_proj = NonDynamicallyQuantizableLinear.__new__(NonDynamicallyQuantizableLinear)
        out_proj.__dict__.update(self.out_proj._as_float().__dict__)  # type: ignore[operator]  # a QLinear
        new.out_proj = out_proj
        new._qkv_same_embed_dim = new.in_proj_weight is not None
        return new

    def projections(self) -> dict[str, QLinear]:
        """Return the four low-bit projections by name."""
        return {name: self.get_submodule(name) for name in (*INPUT_PROJECTIONS, "out_proj")}  # type: ignore[misc]

    def _shown(self) -> Collection[str]:
        return PROJECTED

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attended values and, with need_weights, the weights; shapes as nn.MultiheadAttention.

        Raises:
            ValueError: shapes that do not fit together, is_causal without the attn_mask that it is a hint about.
            TypeError: a mask that is neither bool nor floating point, a nested tensor.
        """
        _check_inputs(query, key, value)
        if is_causal and attn_mask is None:
            raise ValueError(
                "is_causal=True is a hint that attn_mask is the causal mask, and there is none; pass it too: "
                "nn.Transformer.generate_square_subsequent_mask(length)"
            )
        is_batched, is_of_itself = query.dim() == 3, query is key is value
        if not is_batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        q, k, v = self._projected(query, key, value, is_of_itself=is_of_itself)
        k, v = self._with_extra_position(k, self.bias_k), self._with_extra_position(v, self.bias_v)
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        extra = k.shape[2] - key.shape[1]
        if is_causal and key_padding_mask is None and not need_weights and extra == 0:
            mask = None  # the products know the causal mask, and are faster with it
        else:
            is_causal = False
            mask = _merged_mask(attn_mask, key_padding_mask, q, key.shape[1], extra)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if self.attention is not None:
            mask = causal(q, k) if is_causal else mask
            attended, weights = self.attention.attend(q, k, v, mask, dropout)
            weights = weights if need_weights else None
        elif need_weights:
            attended, weights = _attend(q, k, v, mask, dropout)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        y = self.out_proj(attended.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not is_batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    def _projected(
        self, query: Tensor, key: Tensor, value: Tensor, *, is_of_itself: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the three projections give; packed ones of one input are called together, if they can be."""
        together = getattr(self.q_projection, "together", None) if is_of_itself else None
        found = None if together is None else together([self.k_projection, self.v_projection], query)
        if found is not None:
            q, k, v = found
            return q, k, v
        return self.q_projection(query), self.k_projection(key), self.v_projection(value)

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, embed_dim] as [batch, heads, length, head_dim]."""
        split: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim))
        return split.transpose(1, 2)

    def _with_extra_position(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return keys or values with the positions of add_bias_kv and add_zero_attn behind them."""
        parts = [x]
        if bias is not None:
            parts.append(bias.to(x.dtype).expand(len(x), 1, -1))
        if self.add_zero_attn:
            parts.append(x.new_zeros(len(x), 1, x.shape[2]))
        return torch.cat(parts, 1) if len(parts) > 1 else x


def float_projections(attention: nn.MultiheadAttention) -> dict[str, nn.Linear]:
    """Return linear layers of the sizes of an attention's projections, on the meta device, by their names."""
    widths = attention.embed_dim, attention.kdim, attention.vdim, attention.embed_dim
    return {
        name: nn.Linear(width, attention.embed_dim, device="meta")
        for name, width in zip((*INPUT_PROJECTIONS, "out_proj"), widths, strict=True)
    }


def _check_inputs(query: Tensor, key: Tensor, value: Tensor) -> None:
    if query.is_nested or key.is_nested or value.is_nested:
        raise TypeError(
            "QMultiheadAttention takes no nested tensors; pass key_padding_mask, and build nn.TransformerEncoder with "
            "enable_nested_tensor=False"
        )
    shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
    if query.dim() not in (2, 3) or not query.dim() == key.dim() == value.dim():
        raise ValueError(f"query, key and value must all have 3 axes, or all 2 without a batch; got {shapes}")
    if key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"key and value must have the same length and batch; got {shapes}")


def _merged_mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, keys: int, extra: int
) -> Tensor | None:
    """Return what is added to the scores [batch, heads, queries, keys + extra], broadcast over some axes, or None.

    Args:
        q: [batch, heads, queries, head_dim].
        keys: how many keys were given.
        extra: positions behind them, which no mask hides.
    """
    batch, heads, queries, _ = q.shape
    masks = []
    if attn_mask is not None:
        if attn_mask.shape == (batch * heads, queries, keys):
            masks.append(_hiding(attn_mask, q, "attn_mask").unflatten(0, (batch, heads)))
        elif attn_mask.shape == (queries, keys):
            masks.append(_hiding(attn_mask, q, "attn_mask"))
        else:
            raise ValueError(
                f"attn_mask must have shape {[queries, keys]} or {[batch * heads, queries, keys]}, "
                f"got {list(attn_mask.shape)}"
            )
    if key_padding_mask is not None:
        if key_padding_mask.shape not in ((batch, keys), (keys,)) or key_padding_mask.dim() == 1 < batch:
            raise ValueError(f"key_padding_mask must have shape {[batch, keys]}, got {list(key_padding_mask.shape)}")
        masks.append(_hiding(key_padding_mask, q, "key_padding_mask").view(batch, 1, 1, keys))
    if not masks:
        return None
    merged = masks[0] if len(masks) == 1 else masks[0] + masks[1]
    return F.pad(merged, (0, extra)) if extra else merged


def _hiding(mask: Tensor, like: Tensor, name: str) -> Tensor:
    """Return a mask of nn.MultiheadAttention, whose True hides, as numbers to add."""
    return additive(~mask if mask.dtype == torch.bool else mask, like, name, "True hides")


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Return softmax(q·kᵀ/√d + mask)·v and that softmax, after dropout."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    if dropout > 0:
        weights = F.dropout(weights, dropout)
    return weights @ v, weights
