"""Random models as users write them: steps that can be deployed and steps that cannot."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import bitorch
from bitorch.layers import QConv1d, QConv2d, QLinear
from model_ends import COLUMNS, ONE_COLUMN, RETURNED
from random_nets import CONSTANTS


class RandomModel(nn.Module):
    """What users write: convolutions over lines or images, or linear layers; shared, pruned and frozen ones; and ends.

    Converted by quantize_. Some of the steps cannot be deployed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.dimensions = rng.choice((0, 1, 1, 2))
        self.channels = rng.choice((3, 4, 8))
        self.in_shape = (self.channels, *[rng.choice((4, 6, 7))] * self.dimensions)
        self.layers = nn.ModuleList()
        self.steps: list[tuple[str, Any]] = []
        for _ in range(rng.randint(3, 7)):
            self._step(rng)
        self.columns = rng.choice((1, 1, 2, 5))
        self.head, self.other = nn.Linear(self.channels, self.columns), nn.Linear(self.channels, 3)
        self.end = rng.choice(sorted(ONE_COLUMN if self.columns == 1 else COLUMNS))
        self.returned = rng.choice(sorted(RETURNED))
        self._convert(rng)
        if rng.random() < 0.3:
            self.steps.insert(rng.randint(1, len(self.steps)), ("function", _REFUSED[rng.choice(sorted(_REFUSED))]))

    def _layer(self, rng: random.Random) -> nn.Module:
        kind: Any = (nn.Linear, nn.Conv1d, nn.Conv2d)[self.dimensions]
        arguments = {} if self.dimensions == 0 else {"padding": 1, "padding_mode": rng.choice(("zeros", "circular"))}
        size = () if self.dimensions == 0 else (3,)
        made: nn.Module = kind(self.channels, self.channels, *size, bias=rng.random() < 0.5, **arguments)
        return made

    def _step(self, rng: random.Random) -> None:
        layers = [i for i, layer in enumerate(self.layers) if not isinstance(layer, nn.modules.batchnorm._NormBase)]
        match rng.choice(("layer", "layer", "layer", "shared", "norm", "function", "residual")):
            case "shared" if layers:
                self.steps += [("layer", rng.choice(layers))] * rng.choice((1, 2))
            case "norm":
                norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[self.dimensions](self.channels, momentum=None)
                self.layers.append(norm)
                self.steps.append(("layer", len(self.layers) - 1))
            case "function":
                self.steps.append(("function", CONSTANTS[rng.choice(sorted(CONSTANTS))]))
            case "residual" if layers:
                self.steps.append(("residual", rng.choice(layers)))
            case _:
                self.layers.append(self._layer(rng))
                self.steps.append(("layer", len(self.layers) - 1))

    def _convert(self, rng: random.Random) -> None:
        self.train()
        with torch.no_grad():
            for _ in range(2):
                self(self.example(6))
        config = bitorch.LowBitConfig(
            weight_bits=rng.choice((1, 2, 4, 8)),
            activation_bits=rng.choice((1, 2, 4, 8)),
            first=rng.choice(("float", "same", 8)),
            last=rng.choice(("same", 8)),
            range=rng.choice(("unit", "calibrated", "learned")),
        )
        bitorch.quantize_(self, config)
        self.eval()
        if config.range != "unit":
            try:
                bitorch.calibrate(self, [self.example(6)])
            except ValueError:  # a clamp lets one number through
                bitorch.float_(self)
                bitorch.quantize_(self, replace(config, range="unit"))
        low_bit = [module for module in self.modules() if isinstance(module, (QConv1d, QConv2d, QLinear))]
        for layer in low_bit:
            if rng.random() < 0.2:
                layer.requires_grad_(False)
            if rng.random() < 0.15:
                prune.l1_unstructured(layer, "weight", amount=0.5)

    def example(self, batch: int) -> Tensor:
        """Random inputs."""
        return torch.randn(batch, *self.in_shape)

    def forward(self, x: Tensor) -> Any:
        for kind, what in self.steps:
            if kind == "function":
                x = what(x)
            else:
                y = self.layers[what](x)
                x = x + y if kind == "residual" else y
        features = x.mean(tuple(range(2, x.dim()))) if x.dim() > 2 else x
        ends = ONE_COLUMN if self.columns == 1 else COLUMNS
        return RETURNED[self.returned](ends[self.end](self.head(features)), self.other(features))


_REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": torch.sin,
    "softmax": lambda x: x.softmax(-1) if x.dim() > 2 else x.softmax(0),
    "mixed images": lambda x: x.flip(0),
    "values": lambda x: x if bool(x.sum() > 0) else -x,
    "maximum": lambda x: torch.maximum(x, -x),
    "layer norm": lambda x: nn.functional.layer_norm(x, x.shape[-1:]),
    "along the end": lambda x: torch.cat([x[..., 1:], x[..., :1]], -1),
    "mean": lambda x: x - x.mean(-1, keepdim=True),
    "cumsum": lambda x: x.cumsum(-1),
    "batch": lambda x: x * len(x),
    "noise": lambda x: x + torch.rand(1),
    "dropout": lambda x: nn.functional.dropout(x, 0.5, True),
    "writing": lambda x: x.clone().index_fill_(1, torch.tensor([0]), 0.0),
    "double": lambda x: x.double().float(),
    "failing": lambda x: x.view(len(x), 12345),
}
