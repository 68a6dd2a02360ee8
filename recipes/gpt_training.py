"""How gpt.py trains a net, in float or on few bits, and what files that it was never trained on tell of it."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import bitorch
from bitorch.atomic_file import write_and_rename
from gpt_net import GPT
from gpt_text import Corpus

Method = Literal["float", "bitnet", "w1a8", "w2a8", "w4", "w4a8"]

#: What a method gives the layers between the embedding and the head.
_INNER: dict[str, dict[str, Any]] = {
    "bitnet": {"weight_bits": 2, "activation_bits": 8, "weights": "absmean", "range": "dynamic"},
    "w1a8": {"weight_bits": 1, "activation_bits": 8, "weight_scale": "channel", "range": "dynamic"},
    "w2a8": {"weight_bits": 2, "activation_bits": 8, "weights": "seq", "weight_scale": "channel", "range": "dynamic"},
    "w4": {"weight_bits": 4, "activation_bits": 32, "weights": "absmax", "group_size": 32},
    "w4a8": {"weight_bits": 4, "activation_bits": 8, "weights": "absmax", "group_size": 32, "range": "dynamic"},
}
#: The table, for every method.
_TABLE = bitorch.LowBitConfig(8, 8, weights="absmax", range="dynamic")
#: Windows that a perplexity is of, and how many are computed at once.
_WINDOWS, _AT_ONCE = 400, 20


@dataclass(frozen=True)
class Training:
    """The net, and how it is trained."""

    width: int = 128
    """Of the net."""
    layers: int = 4
    """Blocks of attention and two linear layers."""
    heads: int = 4
    """Of attention; the width is a multiple."""
    context: int = 64
    """Tokens that the net reads at once."""
    vocabulary: int = 1024
    """Of the byte-pair tokenizer, at least 256."""
    characters: int = 4_000_000
    """Of the standard library to read."""
    steps: int = 1000
    """Of training."""
    batch: int = 16
    """Windows of a step."""
    lr: float = 2e-3
    """The largest; it rises at first, and falls to 0."""


def windows(tokens: Tensor, context: int, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return tokens and those that follow them, [len(starts), context] each."""
    index = starts.unsqueeze(1) + torch.arange(context)
    return tokens[index], tokens[index + 1]


def loss_of(model: nn.Module, tokens: Tensor, following: Tensor) -> Tensor:
    """Return the mean cross-entropy of the tokens that follow, in nats."""
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())


def built(method: Method, training: Training, vocabulary: int) -> GPT:
    """Return a net of the method, before training, with weights as PyTorch's seed draws them."""
    model = GPT(vocabulary, training.width, training.layers, training.heads, training.context)
    if method != "float":
        inner = bitorch.LowBitConfig(first="same", last="same", **_INNER[method])
        bitorch.quantize_(model, [("*", inner), ("embedding", _TABLE), ("head", _TABLE)])
    return model


def trained(
    method: Method, seed: int, training: Training, text: Corpus, folder: Path | None, console: Console
) -> tuple[GPT, float]:
    """Return a trained net in eval mode, and its perplexity: from a folder where it is there, otherwise by training it.

    Args:
        folder: where trained nets are kept; None keeps none.

    Raises:
        ValueError: the folder has a net of other settings.
    """
    torch.manual_seed(seed)
    model = built(method, training, text.vocabulary)
    file = None if folder is None else folder / f"{method}-{seed}.pt"
    settings = json.dumps({**asdict(training), "tokens": len(text.train)})
    if file is not None and file.exists():
        kept = torch.load(file, weights_only=True)
        if kept["settings"] != settings:
            raise ValueError(f"{file} was trained with {kept['settings']}, not {settings}; name another --folder")
        model.load_state_dict(kept["state"])
        return model.eval(), kept["perplexity"]
    train(model, training, text, console, f"{method}, seed {seed}")
    found = perplexity(model, text.validation, training.context)
    if file is not None:
        content = io.BytesIO()
        torch.save({"settings": settings, "perplexity": found, "state": model.state_dict()}, content)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_and_rename(file, lambda to: to.write(content.getvalue()))
    return model, found


def train(model: nn.Module, training: Training, text: Corpus, console: Console, name: str) -> None:
    """Train with AdamW; what has fewer than two dimensions, as what quantizers learn, does not decay."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, training.lr, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.lr, total_steps=training.steps, pct_start=0.1)
    model.train()
    for step in range(training.steps):
        starts = torch.randint(len(text.train) - training.context, (training.batch,))
        optimizer.zero_grad()
        loss = loss_of(model, *windows(text.train, training.context, starts))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            console.print(f"{name}: step {step + 1}: loss {float(loss.detach()):.3f}")
    model.eval()


@torch.inference_mode()
def perplexity(model: nn.Module, tokens: Tensor, context: int) -> float:
    """Return e to the mean cross-entropy over windows side by side, as many as there are up to 400."""
    starts = torch.arange(0, len(tokens) - context, context)[:_WINDOWS]
    losses = [float(loss_of(model, *windows(tokens, context, some))) * len(some) for some in starts.split(_AT_ONCE)]
    return math.exp(sum(losses) / len(starts))
