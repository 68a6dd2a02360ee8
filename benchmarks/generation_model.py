"""A GPT as one writes it in PyTorch, that keeps keys and values of the tokens that it has seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Cache:
    """Keys and values of one block, [heads, tokens, head_dim], in memory for as many tokens as there may be."""

    def __init__(self, heads: int, context: int, head_dim: int, dtype: torch.dtype) -> None:
        self.keys, self.values = (torch.zeros(heads, context, head_dim, dtype=dtype) for _ in range(2))
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values; return all."""
        end = self.length + keys.shape[1]
        self.keys[:, self.length : end], self.values[:, self.length : end] = keys, values
        self.length = end
        return self.keys[:, :end], self.values[:, :end]


class Block(nn.Module):
    """Attention and a network of two layers, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        """x: [tokens, width]. Without a cache x is all that there is."""
        h = self.norm1(x)
        q, k, v = (
            layer(h).view(len(x), self.heads, -1).transpose(0, 1) for layer in (self.query, self.key, self.value)
        )
        if cache is not None:
            k, v = cache.extend(k, v)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=len(x) > 1)
        x = x + self.out(attended.transpose(0, 1).flatten(1))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class GPT(nn.Module):
    """Tokens to the logits of the next one."""

    def __init__(
        self, vocabulary: int = 256, width: int = 384, blocks: int = 6, heads: int = 6, context: int = 256
    ) -> None:
        super().__init__()
        self.width, self.context = width, context
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def caches(self, dtype: torch.dtype = torch.float32) -> list[Cache]:
        """Return empty caches, one for each block."""
        heads = [block.heads for block in self.blocks if isinstance(block, Block)]
        return [Cache(count, self.context, self.width // count, dtype) for count in heads]

    def forward(self, tokens: Tensor, caches: list[Cache] | None = None) -> Tensor:
        """Return logits [tokens, vocabulary] of what follows each of the tokens, int64 [tokens]."""
        start = 0 if caches is None else caches[0].length
        x = self.tokens(tokens) + self.positions.weight[start : start + len(tokens)]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i])
        logits: Tensor = self.head(self.norm(x))
        return logits


@torch.inference_mode()
def generate(model: nn.Module, caches: list[Cache], prompt: Tensor, count: int) -> list[int]:
    """Return the `count` likeliest tokens that follow a prompt, one after the other."""
    tokens = [int(model(prompt, caches)[-1].argmax())]
    while len(tokens) < count:
        tokens.append(int(model(torch.tensor(tokens[-1:]), caches)[-1].argmax()))
    return tokens
