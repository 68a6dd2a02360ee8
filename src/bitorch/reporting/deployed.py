"""What deployment makes of a model: bytes, kernels and times of each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..layers.low_bit import WeightQuantized
from .parts import Shares, is_unit, part_of, saved_tensors
from .timing import self_seconds

if TYPE_CHECKING:
    from ..deployment.runtime.owners import Owners
    from ..deployment.runtime.packed_model import PackedModel

HEADER = "file header"
NO_RUNTIME = (
    "bitorch_runtime is not installed, so it was not tried whether the model deploys: pip install ./runtime in a "
    "checkout of bitorch"
)
_FILE = "those of the packed file"
_STATE = "those of the tensors in the state_dict of the partially packed model (bitorch.deploy(…, partial=True))"
_ESTIMATE = "estimated: weights in their bits and one float32 for each scale, all else as it is"


@dataclass(frozen=True)
class Own:
    """Bytes and time of what belongs to no part: operations of one kind, or the file's header."""

    kind: str
    bytes: int
    seconds: float | None
    kernel: str = ""
    deploys: bool | None = None


@dataclass
class Deployed:
    """What deployment made of a model.

    Attributes:
        how: "whole" (one packed file), "partial" (packed layers in PyTorch), "none", or "unknown" without the runtime.
        bytes_are: what packed bytes are those of.
        bytes, kernels, seconds, deploys, notes: by the names of parts.
        rest: what belongs to no part, by name.
        problems: why it is not whole.
        packed: the packed model, where it is whole.
    """

    how: str
    bytes_are: str = _ESTIMATE
    bytes: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    deploys: dict[str, bool] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    rest: dict[str, Own] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    packed: PackedModel | None = None


def deployed(
    model: nn.Module,
    parts: Mapping[str, nn.Module],
    image: Sequence[Tensor],
    packed: PackedModel | None,
    repeats: int,
) -> Deployed:
    """Deploy a model, wholly if that can be, else layer by layer, and measure what comes out on one image.

    Args:
        packed: what was made of the model already.

    Raises:
        ValueError: the packed model was read from a file, which is of another network.
    """
    if packed is None and find_spec("bitorch_runtime") is None:
        shares = Shares()
        return Deployed("unknown", bytes={name: shares.estimated_bytes(part) for name, part in parts.items()})
    from ..deployment.can_deploy import can_deploy
    from ..deployment.deploy import DeploymentError, deploy
    from ..deployment.runtime.same_network import owners_in

    if packed is not None:
        owners = owners_in(model, packed, _as_inputs(packed, image))
        return _whole(packed, owners, parts, image, repeats)
    problems = tuple(map(str, can_deploy(model, *image).problems))
    if not problems:
        try:
            packed = deploy(model, *image)
            return _whole(packed, owners_in(model, packed, image), parts, image, repeats)
        except (ValueError, DeploymentError) as error:  # with what only trials show
            problems = (str(error),)
    return _partial(model, parts, image, problems, repeats)


def _whole(
    packed: PackedModel, owners: Owners, parts: Mapping[str, nn.Module], image: Sequence[Tensor], repeats: int
) -> Deployed:
    from bitorch_runtime.operations import array_names

    operations, arrays = packed.program()
    found = Deployed("whole", _FILE, packed=packed, bytes=dict.fromkeys(parts, 0))
    timings = packed.profile(*_as_inputs(packed, image), repeats=repeats)
    left = dict(arrays)
    for operation, layer, timing in zip(operations, owners.operations, timings, strict=True):
        owner = part_of(layer, parts)
        used = left.keys() & array_names(operation).values()
        size = sum(left.pop(name).nbytes for name in used)
        if owner is None:
            _add_rest(found, operation["op"], size, timing["seconds"], timing["kernel"])
            continue
        found.bytes[owner] += size
        found.seconds[owner] = found.seconds.get(owner, 0.0) + timing["seconds"]
        found.kernels[owner] = _joined(found.kernels.get(owner, ""), timing["kernel"])
        found.deploys[owner] = True
    header = packed.nbytes - sum(array.nbytes for array in arrays.values())
    found.rest[HEADER] = Own("bytes", header, None)
    return found


def _joined(kernels: str, kernel: str) -> str:
    return ", ".join(dict.fromkeys([*(kernels.split(", ") if kernels else []), kernel]))


def _add_rest(found: Deployed, op: str, size: int, seconds: float, kernel: str) -> None:
    old = found.rest.get(op, Own("operations", 0, 0.0))
    assert old.seconds is not None  # as it is an operation
    found.rest[op] = Own(
        "operations", old.bytes + size, old.seconds + seconds, _joined(old.kernel, kernel), deploys=True
    )


def _as_inputs(packed: PackedModel, image: Sequence[Tensor]) -> list[Tensor]:
    """What the program takes for what the model takes."""
    from ..deployment.deploy import pixels_of

    takes = [spec.dtype for spec in packed.inputs]
    return [pixels_of(x) if dtype == torch.uint8 else x for x, dtype in zip(image, takes, strict=True)]


def _partial(
    model: nn.Module,
    parts: Mapping[str, nn.Module],
    image: Sequence[Tensor],
    problems: tuple[str, ...],
    repeats: int,
) -> Deployed:
    from ..deployment.deploy import DeploymentError, deploy

    try:
        partial = deploy(model, *image, partial=True)
    except (ValueError, DeploymentError) as error:  # no layer of it can be packed
        shares = Shares()
        reason = (str(error),) if any(isinstance(part, WeightQuantized) for part in parts.values()) else ()
        found = Deployed("none", problems=(*problems, *reason))
        found.bytes = {name: shares.estimated_bytes(part) for name, part in parts.items()}
        found.deploys = dict.fromkeys(parts, False)
        return _timed(found, model, parts, image, repeats)
    found = Deployed("partial", _STATE, problems=problems)
    modules = {name: partial.model.get_submodule(name) for name in parts}
    seen: set[int] = set()
    for name, module in modules.items():
        found.bytes[name] = _bytes_of(module, whole=is_unit(parts[name]), seen=seen)
    for row in partial.rows:
        found.deploys[row.name] = row.reason == ""
        found.notes[row.name] = row.reason if row.reason != "a float layer" else ""
    return _timed(found, partial.model, modules, image, repeats)


def _bytes_of(module: nn.Module, *, whole: bool, seen: set[int]) -> int:
    """The bytes of a part's tensors in a state_dict, those that were not seen before."""
    total = 0
    for tensor in (t for m in (module.modules() if whole else [module]) for t in saved_tensors(m)):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            total += tensor.numel() * tensor.element_size()
    return total


def _timed(
    found: Deployed, model: nn.Module, parts: Mapping[str, nn.Module], image: Sequence[Tensor], repeats: int
) -> Deployed:
    """Measure a PyTorch model, whose packed layers are found among its parts."""
    seconds = self_seconds(model, parts, image, repeats)
    found.rest["other operations"] = Own("operations", 0, seconds.pop(None), "PyTorch", deploys=False)
    found.seconds = {name: taken for name, taken in seconds.items() if name is not None}
    for name in found.seconds:
        found.kernels[name] = _kernel_of(parts[name]) if found.deploys.get(name, False) else "PyTorch"
    return found


def _kernel_of(packed_layer: nn.Module) -> str:
    from ..operators.packed_programs import kernels_of

    weight = packed_layer.packed_weight
    assert isinstance(weight, Tensor)  # of a packed layer
    return ", ".join(kernels_of(weight))
