"""PyTorch's contestants: the float networks in channels-last memory, under inference_mode."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_deployed import float_model

FLOAT, BFLOAT = "PyTorch float32", "PyTorch bfloat16"


def contestants(net: str, images: npt.NDArray[np.uint8], threads: int) -> list[Contestant]:
    """In float32 and bfloat16.

    Raises:
        RuntimeError: the scores are not those of float64.
    """
    torch.set_num_threads(threads)
    model = float_model(net).double()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    with torch.inference_mode():
        expected = model(x)
    return [
        _contestant(FLOAT, model, x, torch.float32, expected, 1e-4),
        _contestant(BFLOAT, model, x, torch.bfloat16, expected, 5e-2),
    ]


def _contestant(
    name: str, model: nn.Module, x: Tensor, dtype: torch.dtype, expected: Tensor, tolerance: float
) -> Contestant:
    net = copy.deepcopy(model).to(dtype)
    for parameter in net.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    images = x.to(dtype=dtype, memory_format=torch.channels_last)

    def call() -> Tensor:
        with torch.inference_mode():
            scores: Tensor = net(images)
        return scores

    error = float((call().double() - expected).norm() / expected.norm())
    if not error < tolerance:
        raise RuntimeError(f"{name}: the scores are off by {error:.1e}")
    return Called(name, "", call, NETWORK_SECONDS)
