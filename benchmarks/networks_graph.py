"""A float network as int8 engines see it: BatchNorms folded into convolutions, a range for each tensor of codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal[
    "conv",  # of any groups
    "linear",  # of all numbers of an image, in the order of channels, rows, columns
    "affine",  # a BatchNorm that no convolution precedes
    "relu",
    "relu6",
    "silu",
    "sigmoid",
    "add",
    "mul",
    "concat",  # of channels
    "max_pool",
    "avg_pool",
    "mean",  # over the pixels, which stay as dimensions of 1
    "shuffle",  # channels [g, n/g] to [n/g, g]
    "slice",  # of channels
]
FUNCTIONS = ("relu", "relu6", "silu", "sigmoid")
PASSING = ("concat", "max_pool", "shuffle", "slice")
"""What leaves numbers as they are: codes in, the same codes out."""
IMAGE = "image"
TOLERANCE = 0.6
"""Of the spread of the scores. 8-bit codes take up to 0.5 of it in a DenseNet; unrelated scores are off by 1.4."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operation; `name` is also that of its output."""

    kind: Kind
    name: str
    inputs: tuple[str, ...]
    window: int = 1
    """Height and width of a convolution's or a pool's window."""
    stride: int = 1
    padding: int = 0
    ceil: bool = False
    """Of a pool: round the size of its output up."""
    groups: int = 1
    """Of a convolution, or of the channels of a shuffle."""
    channels: tuple[int, int] = (0, 0)
    """First and last + 1 of a slice."""
    weight: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """[N, C/groups, h, w] of a convolution, [N, F] of a linear layer, [C] of an affine."""
    bias: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """[N] or [C]"""

    def int8_weight(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        """Codes -127 … 127 of weight's shape, and a scale per output channel, [N]."""
        rows = self.weight.reshape(len(self.weight), -1)
        scale = np.maximum(np.abs(rows).max(1), 1e-12) / np.float32(127)
        return np.rint(rows / scale[:, None]).astype(np.int8).reshape(self.weight.shape), scale


@dataclass(frozen=True)
class Range:
    """What codes of 8 bits stand for: 0 … top in steps of top / 255; with a sign -top … top in steps of top / 128."""

    signed: bool
    top: float

    @property
    def scale(self) -> float:
        return self.top / (128 if self.signed else 255)

    @property
    def zero(self) -> int:
        """The code of zero, where codes are 0 … 255."""
        return 128 if self.signed else 0

    @property
    def low(self) -> float:
        return -self.top if self.signed else 0.0

    @property
    def high(self) -> float:
        return self.low + 255 * self.scale


@dataclass(frozen=True)
class Graph:
    """Nodes in an order of running, from the image to the scores, which the last node gives."""

    nodes: tuple[Node, ...]
    images: npt.NDArray[np.uint8]
    """[batch, H, W, 3], from which the numbers below come."""
    scores: npt.NDArray[np.float64]
    """[batch, classes], of the float network."""
    shapes: Mapping[str, tuple[int, ...]]
    """[batch, C, H, W] or [batch, F] of each tensor."""
    seen: Mapping[str, tuple[float, float]]
    """The smallest and the largest number of each tensor."""

    @cached_property
    def by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {name: [] for name in (IMAGE, *self.by_name)}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return found

    def function_of(self, node: Node) -> Node | None:
        """The function that alone reads what the node makes."""
        readers = self.readers[node.name]
        return readers[0] if len(readers) == 1 and readers[0].kind in FUNCTIONS else None

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """Of every tensor. Tensors that lie in one concatenation, and what pools, slices and shuffles make of them,
        have one range together, as engines want it: their codes can then be copied."""
        leader = {name: name for name in self.seen}

        def find(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        for node in self.nodes:
            for name in node.inputs if node.kind in PASSING else ():
                leader[find(name)] = find(node.name)
        low: dict[str, float] = defaultdict(float)
        high: dict[str, float] = defaultdict(float)
        for name, (least, most) in self.seen.items():
            low[find(name)], high[find(name)] = min(low[find(name)], least), max(high[find(name)], most)
        return {name: Range(low[find(name)] < 0, max(-low[find(name)], high[find(name)], 1e-12)) for name in self.seen}

    def check(self, engine: str, scores: npt.NDArray[Any], tolerance: float = TOLERANCE) -> None:
        """
        Raises:
            RuntimeError: the scores are further from the float network's than 8-bit codes explain.
        """
        spread = np.linalg.norm(self.scores - self.scores.mean(1, keepdims=True))
        error = np.linalg.norm(scores.reshape(self.scores.shape) - self.scores) / spread
        if not error < tolerance:
            raise RuntimeError(f"{engine}: the scores are off by {error:.1%} of their spread")
