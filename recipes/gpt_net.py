"""A small GPT: norms in front, causal attention, and a table that tokens are looked up in and scored by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.layers import Attention


class Cache:
    """Keys and values of the tokens that one block has seen, [1, heads, tokens, head_dim] each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]


class Block(nn.Module):
    """Attention and two layers with GELU between them, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.attention = Attention()
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Tokens [batch, T, width] to tokens; behind those of a cache there is one, or these are all."""
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        is_causal = True
        if cache is not None:
            is_causal = len(cache) == 0
            k, v = cache.extend(k, v)
        x = x + self.out(self.attention(q, k, v, is_causal=is_causal).transpose(1, 2).flatten(2))
        tokens: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return tokens


class GPT(nn.Module):
    """Tokens, int64 [batch, context], to the logits of the next ones, [batch, context, vocabulary].

    With a cache for each block, tokens are any number of them that begin the text, or one more.
    """

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        if width % heads != 0:
            raise ValueError(f"width must be a multiple of heads, got width={width} and heads={heads}")
        self.context = context
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor, caches: list[Cache] | None = None) -> Tensor:
        """See the class.

        Raises:
            ValueError: a cache would have more tokens than there are positions.
        """
        if caches is None:
            x = self.blocks(self.embedding(tokens) + self.positions)
        else:
            start = len(caches[0])
            end = start + tokens.shape[1]
            if end > self.context:
                raise ValueError(
                    f"{end} tokens, {start} of them in the cache, but the net has {self.context} positions"
                )
            x = self.embedding(tokens) + self.positions[start:end]
            for block, cache in zip(self.blocks, caches, strict=True):
                x = block(x, cache)
        logits: Tensor = self.head(self.norm(x))
        return logits


@torch.inference_mode()
def generate(model: nn.Module, blocks: int, prompt: Tensor, count: int) -> list[int]:
    """Return the `count` likeliest tokens that follow a prompt, int64 [T], one after the other, with a cache."""
    caches, tokens = [Cache() for _ in range(blocks)], prompt
    found: list[int] = []
    while len(found) < count:
        found.append(int(model(tokens.unsqueeze(0), caches)[0, -1].argmax()))
        tokens = torch.tensor(found[-1:])
    return found
