"""Whom the runtime is measured against. Each engine is imported only where it takes part."""

from __future__ import annotations

from typing import Literal

import numpy as np

from layers_cases import Layer
from layers_timing import Contestant

Engine = Literal["torch", "onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = ("torch", "onnxruntime", "openvino")


def contestants(engine: Engine, layer: Layer, threads: int, rng: np.random.Generator) -> list[Contestant]:
    """The engine's versions of a layer, ready to run, each checked.

    Raises:
        ImportError: the engine is not installed.
        RuntimeError: its output is wrong, or it did not run what it was meant to.
    """
    match engine:
        case "torch":
            import layers_torch

            return layers_torch.contestants(layer, threads, rng)
        case "onnxruntime":
            import layers_few_bits
            import layers_onnxruntime

            return [
                *layers_onnxruntime.contestants(layer, threads, rng),
                *layers_few_bits.contestants(layer, threads, rng),
            ]
        case "openvino":
            import layers_openvino

            return layers_openvino.contestants(layer, threads, rng)
