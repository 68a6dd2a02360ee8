"""The file of a partial deployment: tensors, and numbers that say what each packed layer is. No code is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...atomic_file import write_and_rename
from ...differences import differences, shortened
from ...layers.low_bit import LowBit
from ...model_copy import copied
from ...tensor_file import load_tensor_file
from .packed_layers import PackedConv1d, PackedConv2d, PackedLinear
from .packed_weight_only import PackedWeightOnlyLinear

PACKED = (PackedLinear, PackedConv1d, PackedConv2d, PackedWeightOnlyLinear)
PARTIAL_FORMAT = "bitorch partial deployment, 1"


def save_partial(model: nn.Module, path: Path) -> None:
    """Write a model with packed layers; errors as `PartialDeployment.save`."""
    content = partial_content(model)
    write_and_rename(path, lambda file: torch.save(content, file))


def partial_content(model: nn.Module) -> dict[str, Any]:
    """Return what a file holds of a model with packed layers: its tensors are under "state", all else is plain."""
    state = dict(model.state_dict())
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"the model's state_dict holds more than tensors: {shortened(others)}; a file takes tensors alone"
        )
    layers = {name: description(layer) for name, layer in packed_layers(model).items()}
    return {"format": PARTIAL_FORMAT, "layers": layers, "state": state, "hash": _hash(layers, state)}


def packed_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The packed layers of a model, by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PACKED)}


def description(layer: nn.Module) -> str:
    """All that a packed layer is beside its tensors, as JSON."""
    own = {name: value for name, value in vars(layer).items() if name not in _OF_ANY_MODULE}
    return json.dumps({"class": type(layer).__name__, **own}, default=str, sort_keys=True)


_OF_ANY_MODULE = frozenset(
    {*vars(nn.Module()), "_range_source", "_last_call", "_together", "_was_loaded", "_reference_layer"}
)


class PartialFile:
    """What a file holds, checked as far as it can be without a model.

    Args:
        path: of the file, or of the folder that the content is from.
        content: as `partial_content` has returned it.

    Raises:
        ValueError: it is none, or damaged; the message names the path.
    """

    @classmethod
    def read(cls, path: Path) -> PartialFile:
        """Read a file of `save_partial`; OSError where it cannot be read, ValueError where it is none."""
        return cls(path, load_tensor_file(path, "no file of a partial deployment"))

    def __init__(self, path: Path, content: object) -> None:
        self.path = path
        if not isinstance(content, dict) or content.get("format") != PARTIAL_FORMAT:
            raise self._is_none(f"it does not begin with {PARTIAL_FORMAT!r}")
        layers: Any = content.get("layers")
        state: Any = content.get("state")
        if not _maps(layers, str) or not _maps(state, Tensor):
            raise self._is_none("its layers or tensors are missing")
        self.layers: dict[str, str] = dict(layers)
        self.state: dict[str, Tensor] = dict(state)
        self.hash = content.get("hash")

    def _is_none(self, why: str) -> ValueError:
        return ValueError(f"{self.path} is no file of a partial deployment, or a damaged one: {why}")

    def low_bit(self, model: nn.Module) -> nn.Module:
        """Return a copy of a low-bit model whose quantizers have the file's ranges, so that it can be packed.

        Raises:
            ValueError: the model has no such layers, or other quantizers.
        """
        twin = copied(model)
        modules = dict(twin.named_modules())
        for name in self.layers:
            layer = modules.get(name)
            if not isinstance(layer, LowBit):
                kind = "no layer of this name" if layer is None else f"a {type(layer).__name__}"
                raise self._other(f"layer {name!r} is packed there, and the model has {kind}")
            prefix = f"{name}.input_quantization."
            ranges = {key.removeprefix(prefix): t for key, t in self.state.items() if key.startswith(prefix)}
            self._check_fits(prefix, layer.input_quantization.state_dict(), ranges)
            layer.input_quantization.load_state_dict(ranges)
        return twin

    def fill(self, model: nn.Module) -> None:
        """Copy the file's tensors into a model with packed layers.

        Raises:
            ValueError: it is another model, or the file is damaged.
        """
        found = {name: description(layer) for name, layer in packed_layers(model).items()}
        for name in (*self.layers, *found):
            if self.layers.get(name) != found.get(name):
                there, here = self.layers.get(name, "not packed"), found.get(name, "not packed")
                raise self._other(f"layer {name!r} is {there:.300} there, and {here:.300} here")
        self._check_fits("", model.state_dict(), self.state)
        if self.hash != _hash(self.layers, self.state):
            raise self._is_none("its numbers are not those that were written")
        model.load_state_dict(self.state)

    def _check_fits(self, prefix: str, wanted: Mapping[str, Any], given: Mapping[str, Tensor]) -> None:
        found = differences(wanted, given)
        if found:
            raise self._other(f"of the tensors {prefix}… {found}" if prefix else found)
        for name, tensor in wanted.items():
            if tensor.dtype != given[name].dtype:
                raise self._other(f"{prefix + name!r} is {given[name].dtype} there, and {tensor.dtype} here")

    def _other(self, why: str) -> ValueError:
        return ValueError(
            f"{self.path} is of another model: {why}; pass the model as it was when it was deployed, converted with "
            "the same config"
        )


def _maps(value: Any, kind: type) -> bool:
    """Say whether it is a dict of names to what is of this kind."""
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())


def _hash(layers: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that a file holds."""
    found = hashlib.sha256(json.dumps(dict(layers), sort_keys=True).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
