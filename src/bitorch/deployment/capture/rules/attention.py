"""Rules of attention: F.scaled_dot_product_attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Operand, Reader
from .matrices import add_product, constant_operand, constant_or_matrix, matrix


def scaled_dot_product_attention(
    call: Reader,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    """The rule of F.scaled_dot_product_attention, of [batch, *heads, length, channels]."""
    if dropout_p > 0:
        raise Refusal(
            "it is an attention with dropout at work, which is random",
            "Pass dropout_p=self.dropout if self.training else 0.0",
        )
    _check_dimensions(query, key, value)
    operands = [constant_or_matrix(call, x, turned=False) for x in (query, key, value)]
    is_causal = is_causal or _is_causal(attn_mask, query, key)
    if attn_mask is not None and not _is_causal(attn_mask, query, key):
        operands.append(_mask(call, attn_mask, query, key))
    factor = float(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return add_product(call, "attention", operands, scale=factor, causal=is_causal)


def _check_dimensions(*tensors: Tensor) -> None:
    if any(x.dim() < 3 for x in tensors) or len({x.dim() for x in tensors}) > 1:
        shapes = ", ".join(str(list(x.shape)) for x in tensors)
        raise Refusal(
            f"it attends with tensors of {shapes}, which mixes the images of a batch",
            f"Give all three as [batch, heads, length, channels], {PARTIAL}",
        )


def _mask(call: Reader, mask: Tensor, query: Tensor, key: Tensor) -> Operand:
    """Read what is added to the scores, [batch, *heads, queries or 1, keys]; of bools 0 and −∞."""
    keys = key.shape[-2]
    if call.varies(mask):
        if mask.dim() != query.dim() or mask.shape[-1] != keys:
            raise Refusal(
                f"its mask of {['batch', *mask.shape[1:]]} depends on the image, and has not as many dimensions as the "
                f"queries, or not {keys} keys",
                f"Give the mask the batch first, and a number for each key, {PARTIAL}",
            )
        return matrix(call, mask, turned=False)
    argument = mask if mask.dim() == query.dim() and mask.shape[0] != 1 else None
    if argument is not None:
        if not bool((mask == mask[:1]).all()):
            raise Refusal(
                "its mask is a constant that is another one for each image", f"Give one mask for all, {PARTIAL}"
            )
        mask = mask[:1]
    added = _additive(mask)
    if bool(added.isnan().any() | (added == torch.inf).any()):
        raise Refusal("its mask has numbers that are NaN or +∞", "Mask with False, or with −∞")
    return constant_operand(call, added.expand(*added.shape[:-1], keys), query.dim(), argument)


def _additive(mask: Tensor) -> Tensor:
    """A mask as numbers to add: of bools 0 where a key is seen, else −∞."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    return mask.detach().to(torch.float32)


def _is_causal(mask: Tensor | None, query: Tensor, key: Tensor) -> bool:
    """Say whether a constant mask hides from each query the keys behind it, and nothing else."""
    shape = (query.shape[-2], key.shape[-2])
    if mask is None or mask.requires_grad or tuple(mask.shape[-2:]) != shape or mask.numel() != math.prod(shape):
        return False
    causal = torch.zeros(shape).masked_fill(~torch.ones(shape, dtype=torch.bool).tril(), -torch.inf)
    return torch.equal(_additive(mask).reshape(shape), causal)
