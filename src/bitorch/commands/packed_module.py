"""A packed net that is called as the model it was made of, with batches of any structure."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from ..deployment.deploy import pixels_of
from ..deployment.deployed_net import DeployedNet


class PackedModule(nn.Module):
    """A packed net as a module: its inputs have the names of the model's, and floats q/255 may stand for pixels q.

    It returns the only output, or a dict of several.
    """

    def __init__(self, packed: DeployedNet) -> None:
        super().__init__()
        self.packed = packed
        self.forward = _Forward(packed)


class _Forward:
    """The call of a packed net, with the signature that what reads batches asks forward for."""

    def __init__(self, packed: DeployedNet) -> None:
        self._packed = packed
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature([inspect.Parameter(spec.name, kind) for spec in packed.inputs])

    def __call__(self, *args: Tensor, **kwargs: Tensor) -> Tensor | dict[str, Tensor]:
        specs = self._packed.inputs
        given = [*args, *(kwargs[spec.name] for spec in specs[len(args) :])]
        return self._packed(
            *(
                pixels_of(x) if spec.dtype == torch.uint8 and x.is_floating_point() else x.cpu()
                for spec, x in zip(specs, given, strict=True)
            )
        )
