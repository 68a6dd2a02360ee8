"""How models of users end: from a head's columns to what forward returns."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Pair = namedtuple("Pair", ["scores", "features"])


@dataclass
class Prediction:
    """What a model may return: tensors, and other things beside them."""

    scores: Tensor
    features: Tensor | None = None
    steps: int = 3


#: Of [batch, 1].
ONE_COLUMN: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y,
    "squeeze(-1)": lambda y: y.squeeze(-1),
    "squeeze(1)": lambda y: y.squeeze(1),
    "squeeze()": lambda y: y.squeeze(),  # of one image, of no shape at all
    "[:, 0]": lambda y: y[:, 0],
    "view(-1)": lambda y: y.view(-1),
    "reshape(-1)": lambda y: y.reshape(-1),
    "flatten(0)": lambda y: y.flatten(0),
    "Flatten(0)": nn.Flatten(0),
    "sum(1)": lambda y: y.sum(1),
    "sigmoid": lambda y: y.squeeze(1).sigmoid(),
    "scaled": lambda y: 2 * y[:, 0] + 1,
    "stack": lambda y: torch.stack([y[:, 0], y[:, -1]], 1),
}
#: Of [batch, 2 and more].
COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda y: y,
    "softmax": lambda y: y.softmax(-1),
    "[..., None]": lambda y: y[..., None],
    "[:, 1]": lambda y: y[:, 1],
    "argmax": lambda y: y.argmax(1),
    "stack": lambda y: torch.stack([y[:, 0], y[:, -1]], 1),
}
#: Of scores and features.
RETURNED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda y, _: y,
    "tuple": lambda y, z: (y, z),
    "named tuple": lambda y, z: Pair(y, z),
    "one of a dict": lambda y, _: {"scores": y},
    "twice": lambda y, _: {"one": y, "two": y},
    "dict": lambda y, z: {"scores": y, "layers.0": z, "cache": None, "note": "text"},
    "dataclass": lambda y, _: Prediction(y),
    "nested": lambda y, z: {"out": [y, Prediction(z, y)], "steps": 3},
}
