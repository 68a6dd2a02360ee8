"""bitorch-runtime's contestant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import bitorch_runtime
from layers_cases import Bits
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_names import OURS


def contestant(model: bitorch_runtime.Model, bits: Bits, images: npt.NDArray[np.uint8]) -> Contestant:
    """
    Args:
        model: verified when it was deployed.
        images: [batch, H, W, 3].

    Raises:
        RuntimeError: the scores of a batch are not those of its images one by one.
    """
    pixels, name = as_input(images), f"{OURS} {bits}"
    scores = np.asarray(model(pixels))
    alone = np.concatenate([np.asarray(model(pixels[i : i + 1])) for i in range(len(pixels))])
    if not np.array_equal(scores, alone):
        raise RuntimeError(f"{name}: the scores of a batch differ from those of its images")
    return Called(name, bitorch_runtime.cpu()["kernel"], lambda: model(pixels), NETWORK_SECONDS)


def as_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """[batch, 3, H, W], as deployed models take pixels."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
