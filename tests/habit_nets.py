"""Random nets of PyTorch's layers, converted by `quantize_`, with the habits that people have.

`random_models` has what stands in forward; these have what is done to a model before and after its conversion: shared,
pruned, normalized, frozen and zero layers, statistics without a counter, every method of the config.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import bitorch
from bitorch.config.low_bit_config import EndLayer
from model_ends import COLUMNS, ONE_COLUMN, RETURNED

CHANNELS = (1, 3, 4, 8, 17, 32, 33)
#: What the image is made of before a low-bit layer reads it; not all of it can be deployed.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "relu6 tenth": lambda x: F.relu6(x) / 10,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.6),
    "high": lambda x: x.clamp(max=0.6),
    "low": lambda x: x.clamp(min=0.4),
    "high of negative": lambda x: (-x).clamp(max=0.55),
    "minimum": lambda x: torch.minimum(x, torch.tensor(0.6)),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "none": lambda x: x,
    "nothing": lambda x: x * 0.0,
    "tiny": lambda x: x * 1e-38,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
}
#: For features, signals and images.
_POOLS: tuple[list[nn.Module], ...] = ([], [nn.MaxPool1d(2), nn.AvgPool1d(2)], [nn.MaxPool2d(2), nn.AvgPool2d(2)])


class Body(nn.Module):
    """Convolutions or linear layers, one of them perhaps called twice; `axes` is 0 for features, 1 or 2 for images."""

    def __init__(self, rng: random.Random, axes: int, channels: int) -> None:
        super().__init__()
        self.axes = axes
        self.activation = rng.choice(sorted(ACTIVATIONS)) if rng.random() < 0.6 else "relu"
        self.bias = rng.random() < 0.3
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for _ in range(rng.randint(1, 3)):
            out = rng.choice(CHANNELS)
            self.layers.append(self._layer(rng, channels, out))
            self.norms.append(self._norm(out) if rng.random() < 0.8 else nn.Identity())
            channels = out
        self.shared = self._layer(rng, channels, channels) if rng.random() < 0.3 else None
        self.times = rng.randint(2, 3)
        self.pool: nn.Module = rng.choice([nn.Identity(), *_POOLS[axes]])
        self.out_channels = channels

    def _layer(self, rng: random.Random, channels: int, out: int) -> nn.Module:
        if self.axes == 0:
            return nn.Linear(channels, out, self.bias)
        kernel = rng.choice((1, 3))
        groups = rng.choice([g for g in (1, 1, channels) if out % g == 0])
        if self.axes == 1:
            return nn.Conv1d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=self.bias)
        return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=self.bias)

    def _norm(self, channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels) if self.axes == 2 else nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        act = ACTIVATIONS[self.activation]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = act(norm(layer(x)))
        x = self.pool(x)
        if self.shared is not None:
            for _ in range(self.times):
                x = act(self.shared(x))
        return x


class HabitNet(nn.Module):
    """A body, a mean or nothing, a linear end and an output; `habits` says what was done to it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.axes = rng.choice((0, 1, 2, 2))
        channels = rng.choice((1, 2, 3))
        size = rng.choice((4, 6, 8))
        self.shape = (channels, *[size] * self.axes) if self.axes else (rng.choice((3, 8, 33)),)
        self.body = Body(rng, self.axes, self.shape[0])
        self.by = rng.choice(["flatten", "mean"]) if self.axes else "flatten"
        features = self.body.out_channels
        if self.by == "flatten" and self.axes:
            features *= (size // (1 if isinstance(self.body.pool, nn.Identity) else 2)) ** self.axes
        one = rng.random() < 0.5
        self.hidden = nn.Linear(features, 12)
        self.last = nn.Linear(12, 1 if one else 5)
        self.end = rng.choice(sorted(ONE_COLUMN if one else COLUMNS))
        self.returned = rng.choice(sorted(RETURNED))
        self.noise = rng.random() < 0.05
        self.habits: list[str] = []
        self._apply_habits(rng)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        x = x.mean(tuple(range(2, x.dim()))) if self.by == "mean" else x.flatten(1)
        features = torch.relu(self.hidden(x))
        if self.noise:
            features = F.dropout(features, 0.2, training=True)
        y = self.last(features)
        ends = ONE_COLUMN if y.shape[-1] == 1 else COLUMNS
        return RETURNED[self.returned](ends[self.end](y), features)

    def _apply_habits(self, rng: random.Random) -> None:
        """Prune, normalize, freeze, convert and settle, in an order that people have."""
        inner = [m for m in self.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
        chosen = rng.choice(inner)
        before, after = rng.choice(_HABITS), rng.choice(_HABITS)
        self._do(before, chosen)
        bitorch.quantize_(self, _config(rng))
        low_bit = [m for m in self.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
        if not hasattr(rng.choice(low_bit), "weight_g"):
            self._do(after, rng.choice([m for m in low_bit if "weight" in m._parameters] or [nn.Linear(1, 1)]))
        self._settle(rng)

    def _do(self, habit: str, layer: nn.Module) -> None:
        self.habits.append(habit)
        match habit:
            case "prune":
                prune.l1_unstructured(layer, "weight", amount=0.8)
            case "prune for good":
                prune.l1_unstructured(layer, "weight", amount=0.8)
                prune.remove(layer, "weight")
            case "weight_norm":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    nn.utils.weight_norm(layer)
            case "freeze a layer":
                layer.requires_grad_(False)
            case "freeze all":
                self.requires_grad_(False)
            case "zeros":
                nn.init.zeros_(layer.weight)  # type: ignore[arg-type]  # a parameter

    def _settle(self, rng: random.Random) -> None:
        """Train statistics of BatchNorms, some of them without their counter."""
        for norm in self.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                nn.init.normal_(norm.weight, 0.3, 0.4)
                nn.init.normal_(norm.bias, 0.4, 0.2)
                norm.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]  # it has statistics
                norm.running_var.uniform_(0.3, 1.5)  # type: ignore[union-attr]
                if rng.random() < 0.5:
                    norm.num_batches_tracked.fill_(5)  # type: ignore[union-attr]
        self.eval()

    def example(self, batch: int) -> Tensor:
        """Inputs between 0 and 1."""
        return torch.rand(batch, *self.shape)


_HABITS = ("nothing", "nothing", "prune", "prune for good", "weight_norm", "freeze a layer", "freeze all", "zeros")


_ENDS: tuple[EndLayer, ...] = ("float", "same", 8)


def _config(rng: random.Random) -> bitorch.LowBitConfig:
    weight, activation = rng.choice([(1, 1), (1, 2), (2, 2), (4, 4), (8, 8), (3, 5)])
    ends: EndLayer = rng.choice(_ENDS)
    more: dict[str, Any] = {}
    match rng.choice(["unit", "unit", "calibrated", "lsq", "lsq+", "pact", "sign", "twn"]):
        case "calibrated":
            more = {"range": "calibrated"}
        case ("lsq" | "lsq+" | "pact") as learned_by:
            more = {"range": "learned", "learned_by": learned_by}
        case "sign":
            activation, more = 1, {"sign": rng.choice(["sign", "approxsign"])}
        case "twn":
            weight, more = 2, {"weights": "twn"}
    if rng.random() < 0.3:
        more["weight_scale"] = "channel"
    return bitorch.LowBitConfig(weight, activation, first=ends, last=ends, **more)
