"""A small GPT: norms in front, causal attention, and a table that tokens are looked up in and scored by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch.layers import Attention


class Block(nn.Module):
    """Attention and two layers with GELU between them, each on normalised tokens and added to them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.attention = Attention()
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [batch, T, width] to tokens."""
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        x = x + self.out(self.attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        tokens: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return tokens


class GPT(nn.Module):
    """Tokens, int64 [batch, context], to the logits of the next ones, [batch, context, vocabulary]."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        if width % heads != 0:
            raise ValueError(f"width must be a multiple of heads, got width={width} and heads={heads}")
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(context, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.norm(self.blocks(self.embedding(tokens) + self.positions)))
        return logits
