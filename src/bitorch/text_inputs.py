"""Calls of language models of transformers that end in an error from deep inside, or in other numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: How transformers calls the argument, by its version.
_CACHES = ("cache", "past_key_values")


def check_calls_(model: nn.Module) -> None:
    """Have each call of a model of transformers checked first: its prompt and its cache. Of others nothing changes.

    What is wrong is a ValueError: an empty prompt; a cache of another dtype than the model computes in, or one that
    has no room for the tokens.
    """
    transformers = sys.modules.get("transformers")  # a model of it has imported it
    if transformers is not None and isinstance(model, transformers.PreTrainedModel):
        model.register_forward_pre_hook(_check_call, with_kwargs=True)


def _check_call(model: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    tokens = named.get("input_ids", args[0] if args else None)
    if not isinstance(tokens, Tensor) or tokens.dim() != 2:
        return
    if tokens.numel() == 0:
        raise ValueError(
            f"the prompt is empty: input_ids is {list(tokens.shape)}; give each text one token at least, such as the "
            "tokenizer's bos_token"
        )
    for name in _CACHES:
        layers = getattr(named.get(name), "layers", None)  # of transformers' caches
        if not isinstance(layers, list):
            continue
        dtype = next((each.dtype for each in model.parameters() if each.is_floating_point()), None)
        for number, layer in enumerate(layers):
            _check_cache(layer, f"{name} (block {number})", tokens.shape[1], dtype)


def _check_cache(layer: Any, name: str, tokens: int, dtype: torch.dtype | None) -> None:
    """Check the cache of one block, which may be empty yet."""
    keys = getattr(layer, "keys", None)
    is_mixed = dtype is None or torch.is_autocast_enabled("cpu")
    if isinstance(keys, Tensor) and keys.numel() > 0 and keys.dtype != dtype and not is_mixed:
        raise ValueError(
            f"{name} holds {keys.dtype}, and the model computes in {dtype}; begin with a new "
            "cache, or give the model the cache's dtype before it is converted"
        )
    room = getattr(layer, "max_cache_len", None)  # of caches that do not grow
    if not isinstance(room, int) or getattr(layer, "is_sliding", False):
        return
    seen = int(layer.get_seq_length())
    if seen + tokens > room:
        raise ValueError(
            f"{name} has room for {room} tokens, and {tokens} more follow {seen}; make it "
            f"with max_cache_len={seen + tokens} or more, or cut the text"
        )
