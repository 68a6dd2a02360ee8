"""The shapes that inputs of a packed net have where nobody says which."""

from __future__ import annotations

from ..deployment.deployed_net import DeployedNet


def example_shapes(packed: DeployedNet) -> list[tuple[int, ...]]:
    """Return the shape of one image of each input.

    Where sizes are open: that of the example which the net was deployed with, as its file notes it; or the smallest.
    """
    if not packed.sizes:
        return [spec.shape for spec in packed.inputs]
    noted = None if packed.provenance is None else packed.provenance.get("input_shape")
    if len(packed.inputs) == 1 and isinstance(noted, list) and packed.inputs[0].takes(noted):
        return [tuple(noted)]
    return packed.smallest_shapes
