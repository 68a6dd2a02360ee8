"""Attention between heads as a module: float, and low-bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizations import Quantization
from .low_bit import Converted
from .qmatmul import QMatmul


class Attention(nn.Module):
    """F.scaled_dot_product_attention as a module, to be called where a model calls the function.

    It has no parameters. With `LowBitConfig(attention_bits=…)` `quantize_` makes a QAttention of it.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Return what F.scaled_dot_product_attention does with these arguments."""
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )


class QAttention(Converted, Attention):
    """Scaled dot-product attention whose two products are computed on integer codes.

    Queries, keys, probabilities and values have a quantizer each:

        scores = (Σ q·k)·(s_q·s_k·scale),   y = (Σ p·v)·(s_p·s_v),   p the codes of softmax(scores + mask)

    Both sums are exact; softmax and mask stay float. Arguments of a call as F.scaled_dot_product_attention, of which it
    is a drop-in.

    Args:
        query_quantization, key_quantization, value_quantization: of queries, keys and values, which have signs:
            InputLSQ(bits), InputCalibrated(bits), Sign().
        probability_quantization: of the softmax, in [0, 1]: InputDoReFa(bits, variant="paper"), or a learned range.
        exact: see QMatmul.

    Raises:
        ValueError: an unknown name. TypeError: what is no Quantization.
    """

    _float_class = Attention
    _quantized_names = frozenset({"scores", "values"})
    scores: QMatmul
    values: QMatmul

    def __init__(
        self,
        *,
        query_quantization: Quantization | str | None = None,
        key_quantization: Quantization | str | None = None,
        probability_quantization: Quantization | str | None = None,
        value_quantization: Quantization | str | None = None,
        exact: bool = True,
    ) -> None:
        super().__init__()
        self._set_quantization(
            query_quantization=query_quantization,
            key_quantization=key_quantization,
            probability_quantization=probability_quantization,
            value_quantization=value_quantization,
            exact=exact,
        )

    def _set_quantization(
        self,
        *,
        query_quantization: Quantization | str | None,
        key_quantization: Quantization | str | None,
        probability_quantization: Quantization | str | None,
        value_quantization: Quantization | str | None,
        exact: bool,
    ) -> None:
        self.scores = QMatmul(query_quantization, key_quantization, exact=exact)
        self.values = QMatmul(probability_quantization, value_quantization, exact=exact)

    def quantizers(self) -> Mapping[str, Quantization]:
        """Return the four quantizers, by the names of the arguments that they are given by."""
        return {
            "query_quantization": self.scores.left_quantization,
            "key_quantization": self.scores.right_quantization,
            "probability_quantization": self.values.left_quantization,
            "value_quantization": self.values.right_quantization,
        }

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Return the attended values, [..., queries, channels], see F.scaled_dot_product_attention.

        Raises:
            ValueError: a mask beside is_causal, tensors of shapes that do not fit, more keys than exact sums allow.
            TypeError: a mask that is neither bool (True is seen) nor floating point.
        """
        if is_causal and attn_mask is not None:
            raise ValueError("is_causal=True makes the mask; leave attn_mask out, or is_causal")
        if enable_gqa:
            key, value = _for_groups(query, key), _for_groups(query, value)
        mask = causal(query, key) if is_causal else _checked(attn_mask, query, key)
        return self.attend(query, key, value, mask, dropout_p, scale)[0]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        dropout_p: float = 0.0,
        scale: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the attended values, and the probabilities, after dropout and before they are quantized.

        Args:
            mask: what is added to the scores, or None.
        """
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        scores = self.scores(query, key.transpose(-2, -1), factor)
        weights = torch.softmax(scores if mask is None else scores + mask, -1)
        if dropout_p > 0:
            weights = F.dropout(weights, dropout_p)
        return self.values(weights, value), weights


def _for_groups(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values once for each head of the queries that share them."""
    heads, own = query.shape[-3], x.shape[-3]
    if heads % own != 0:
        raise ValueError(f"{heads} heads of queries cannot share {own} of keys or values: it must divide them")
    return x if heads == own else x.repeat_interleave(heads // own, -3)


def causal(query: Tensor, key: Tensor) -> Tensor:
    """What hides from each query the keys behind it, [queries, keys]."""
    hidden = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).triu(1)
    return torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill(hidden, -torch.inf)


def _checked(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """Return a mask of F.scaled_dot_product_attention, whose True is seen, as numbers to add."""
    if mask is None:
        return None
    if mask.dim() < 2 or mask.shape[-1] not in (1, key.shape[-2]) or mask.shape[-2] not in (1, query.shape[-2]):
        raise ValueError(
            f"attn_mask must have shape [..., {query.shape[-2]}, {key.shape[-2]}], or 1 in place of either, "
            f"got {list(mask.shape)}"
        )
    return additive(mask, query, "attn_mask", "True is seen")


def additive(mask: Tensor, like: Tensor, name: str, meaning: str) -> Tensor:
    """Return a mask as numbers to add: of bools 0 where True, else −∞.

    Args:
        like: what has the dtype of the result.
        name, meaning: of the argument and of its True, for the error.

    Raises:
        TypeError: a mask that is neither bool nor floating point.
    """
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -torch.inf)
    if not mask.is_floating_point():
        raise TypeError(f"{name} must be bool ({meaning}) or floating point (it is added), got {mask.dtype}")
    return mask.to(like.dtype)
