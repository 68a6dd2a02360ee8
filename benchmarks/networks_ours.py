"""bitorch-runtime's contestant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import bitorch_runtime
from bitorch_runtime import reference
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_programs import Source

NAME = "bitorch-runtime"


def contestant(source: Source, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]) -> Contestant:
    """
    Args:
        source: the network.
        images: [batch, H, W, 3].
        expected: the scores of the first image, see `expected_scores`.

    Raises:
        RuntimeError: the scores of the first image are not as expected, or the others are those of other programs.
    """
    program = bitorch_runtime.Program(source.operations, source.arrays)
    inputs = as_input(source, images)
    scores = np.asarray(program(inputs))
    alone = np.concatenate([np.asarray(program(inputs[i : i + 1])) for i in range(len(inputs))])
    if not np.allclose(scores[:1], expected, rtol=1e-4, atol=1e-4) or not np.array_equal(scores, alone):
        raise RuntimeError(f"{NAME}: the scores are wrong")
    return Called(NAME, bitorch_runtime.cpu()["kernel"], lambda: program(inputs), NETWORK_SECONDS)


def expected_scores(source: Source, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The scores of the first image, by the reference: some seconds."""
    scores = reference.run(source.operations, source.arrays, as_input(source, images[:1]))
    return np.asarray(scores, np.float32)


def as_input(source: Source, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    """Pixels as the network takes them: codes, or floats from 0 to 1."""
    if source.operations[0]["dtype"] == "uint8":
        return images
    return (images / 255).astype(np.float32)
