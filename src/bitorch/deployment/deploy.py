"""From a trained model to a packed program, verified before anybody gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..wrappers import unwrapped
from .any_size import Sizes, any_size
from .at_size import AtSize, at_size
from .capture.preconditions import check_types
from .partial.pack_layers import PartialDeployment, pack_layers
from .partial.partial_trial import first_difference
from .provenance import provenance_of
from .runtime.packed_model import PackedModel
from .runtime.subnormals import subnormals_kept
from .runtime.trial_inputs import trial_inputs
from .runtime.verification import compare


class DeploymentError(RuntimeError):
    """The packed program does not compute what the model computes."""


@overload
def deploy(
    model: nn.Module,
    *example: Tensor,
    partial: Literal[False] = ...,
    pixels: bool = ...,
    sizes: Sizes | None = ...,
    class_names: Sequence[str] | None = ...,
    preprocessing: Mapping[str, Any] | None = ...,
    provenance: Mapping[str, Any] | None = ...,
) -> PackedModel: ...


@overload
def deploy(model: nn.Module, *example: Tensor, partial: Literal[True]) -> PartialDeployment: ...


@subnormals_kept()
def deploy(
    model: nn.Module,
    *example: Tensor,
    partial: bool = False,
    pixels: bool = False,
    sizes: Sizes | None = None,
    class_names: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PackedModel | PartialDeployment:
    """Turn a trained low-bit model into a packed program that runs without PyTorch and gives the same numbers.

    The model is captured with its example, lowered, and then verified on the example and on random inputs, with
    infinities, subnormals and the largest numbers among them: D of every low-bit layer, all codes and all floats are
    equal to the model's, bit for bit. Sums of float layers and means are not, since their order of summation is free
    (see `verify`). The model itself is not changed.

    Args:
        model: in eval mode, float32, on the CPU, with low-bit layers (`quantize_`).
        example: inputs of any batch of at least one; the shapes behind the batch are the program's for good, unless
            `sizes` leaves them open.
        partial: for models that are no single graph (attention, control flow by values): the low-bit layers of a copy
            become packed PyTorch modules, see `PartialDeployment`, which is then the result. The example is run through
            both, with equal random numbers, and must give equal outputs; without one nothing is run.
        pixels: the program takes uint8 pixels q where the model takes floats q/255.
        sizes: "any": the packed model takes inputs of every size that the model takes (height and width, a length, a
            number of tokens), not only of the example's. Which these are is tried out; the model is compiled at several
            sizes, whose programs must be one but for numbers that follow from the size, and verified at three: the
            smallest, the example's and one between. A list of sizes, [(320, 320), (640, 640)], verifies these instead.
            None: the size of the example for good.
        class_names: one for each score; kept in the file.
        preprocessing: how images become inputs, in types that JSON has; kept in the file.
        provenance: where the model comes from, likewise; the bits of each layer and the versions are added.

    Raises:
        ValueError: what `can_deploy` finds, all of it; with sizes: a layer that fixes the size, or a size that does not
            fit, with those that would; notes for a file, or sizes, beside partial=True, which writes none; with
            partial=True: no layer that can be packed, or a forward that fails on the example.
        TypeError: no module, no tensors.
        DeploymentError: the program differs from the model.
    """
    model = unwrapped(model)
    if partial:
        if pixels or any(note is not None for note in (sizes, class_names, preprocessing, provenance)):
            raise ValueError("partial=True takes neither pixels nor sizes, class_names, preprocessing or provenance")
        return _deploy_layers(model, example)
    notes = _Notes(class_names, preprocessing, provenance)
    if sizes is None:
        at = at_size(model, example, pixels=pixels)
        packed = _packed(model, at, at.operations, at.compiled.lowered.arrays, notes)
        verified = [(list(example), at)]
    else:
        found = any_size(model, example, sizes, pixels=pixels)
        packed = _packed(model, found.example, found.operations, found.arrays, notes)
        verified = found.verified
    for inputs, at in verified:
        given = [pixels_of(x) if pixels and x.is_floating_point() else x for x in inputs]
        below = [op.get("below", 0) for op in at.operations if op["op"] == "input"]
        for trial in (given, *trial_inputs(given, below)):
            verification = compare(model, at.compiled, at.program, packed, trial)
            if not verification:
                raise DeploymentError(f"the packed program {verification}")
    return packed


def _deploy_layers(model: nn.Module, example: Sequence[Tensor]) -> PartialDeployment:
    if example:
        check_types(model, example)
    deployment = pack_layers(model)
    differing = first_difference(model, deployment.model, example) if example else None
    if differing is not None:
        raise DeploymentError(f"output {differing!r} of the model with packed layers differs from the model's")
    return deployment


@dataclass(frozen=True)
class _Notes:
    class_names: Sequence[str] | None
    preprocessing: Mapping[str, Any] | None
    provenance: Mapping[str, Any] | None


def _packed(
    model: nn.Module,
    at: AtSize,
    operations: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, NDArray[Any]],
    notes: _Notes,
) -> PackedModel:
    """The packed model of operations and arrays that were made of a model."""
    lowered = at.compiled.lowered
    steps = [(name, str(step)) for name, step in at.compiled.steps]
    listing = "\n".join(map(str, lowered.operations))
    provenance = {} if notes.provenance is None else notes.provenance
    return PackedModel(
        operations,
        arrays,
        class_names=notes.class_names,
        preprocessing=notes.preprocessing,
        provenance={**provenance_of(model, at.captured), **provenance},
        passes=[*steps, ("lower", listing)],
        owners=lowered.owners,
    )


def pixels_of(x: Tensor) -> Tensor:
    """The pixels behind an example of floats: the nearest ones."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
