"""What a file says of the model that it was made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import bitorch_runtime

from ..layers.low_bit import LowBit
from ..version import __version__
from .capture.capture import Capture


def provenance_of(model: nn.Module, captured: Capture) -> dict[str, Any]:
    """Return the model's class, the bits of each low-bit layer, what was left out, and versions."""
    bits = {
        name: [layer.weight_quantization.bit_width, layer.input_quantization.bit_width]
        for name, layer in model.named_modules()
        if isinstance(layer, LowBit)
    }
    versions = {"bitorch": __version__, "bitorch_runtime": bitorch_runtime.__version__, "torch": torch.__version__}
    left_out = {"left_out": list(captured.left_out)} if captured.left_out else {}
    return {"model": type(model).__name__, "bits": bits, **left_out, **versions}
