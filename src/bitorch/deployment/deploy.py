"""From a trained model to a packed program, verified before anybody gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

import bitorch_runtime

from ..layers.low_bit import LowBit
from ..version import __version__
from ..wrappers import unwrapped
from .capture.capture import Capture, capture, listing
from .capture.preconditions import check_types
from .capture.problems import beyond_the_runtime
from .partial.pack_layers import PartialDeployment, pack_layers
from .partial.partial_trial import first_difference
from .runtime.all_tensors import all_tensors, output_ports
from .runtime.compile import Compiled, compile_graph, told_by_layer
from .runtime.packed_model import PackedModel
from .runtime.port_shapes import with_shapes
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
        example: inputs of any batch of at least one; the shapes behind the batch are the program's for good.
        partial: for models that are no single graph (attention, control flow by values): the low-bit layers of a copy
            become packed PyTorch modules, see `PartialDeployment`, which is then the result. The example is run through
            both, with equal random numbers, and must give equal outputs; without one nothing is run.
        pixels: the program takes uint8 pixels q where the model takes floats q/255.
        class_names: one for each score; kept in the file.
        preprocessing: how images become inputs, in types that JSON has; kept in the file.
        provenance: where the model comes from, likewise; the bits of each layer and the versions are added.

    Raises:
        ValueError: what `can_deploy` finds, all of it; notes for a file beside partial=True, which writes none; with
            partial=True: no layer that can be packed, or a forward that fails on the example.
        TypeError: no module, no tensors.
        DeploymentError: the program differs from the model.
    """
    model = unwrapped(model)
    if partial:
        if pixels or any(note is not None for note in (class_names, preprocessing, provenance)):
            raise ValueError("partial=True takes neither pixels nor class_names, preprocessing or provenance")
        return _deploy_layers(model, example)
    captured = capture(model, *example)
    captured.check()
    compiled, program = _compiled(captured, pixels=pixels)
    packed = _packed(model, captured, compiled, program, class_names, preprocessing, provenance)
    inputs = [pixels_of(x) if pixels else x for x in example]
    for trial in (inputs, *trial_inputs(inputs)):
        verification = compare(model, compiled, program, packed, trial)
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


def _compiled(captured: Capture, *, pixels: bool) -> tuple[Compiled, bitorch_runtime.Program]:
    """Compile what was captured; the second result is the program of `all_tensors`."""
    try:
        compiled = compile_graph(captured.graph, pixels=pixels, names=captured.tensor_names)
        with told_by_layer(compiled):
            return compiled, all_tensors(compiled.lowered, compiled.lowered.operations, compiled.lowered.arrays)
    except ValueError as error:
        raise ValueError(listing([beyond_the_runtime(error)])) from error


def _packed(
    model: nn.Module,
    captured: Capture,
    compiled: Compiled,
    program: bitorch_runtime.Program,
    class_names: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    provenance: Mapping[str, Any] | None,
) -> PackedModel:
    """The packed model; `program` is that of `all_tensors`."""
    graph, lowered = compiled.graph, compiled.lowered
    operations = with_shapes(
        lowered.operations,
        program.inputs,
        output_ports(program, lowered.operations),
        [node.shape for node in graph.inputs],
        [graph[name].shape for name in graph.outputs],
    )
    steps = [(name, str(step)) for name, step in compiled.steps]
    listing = "\n".join(map(str, lowered.operations))
    return PackedModel(
        operations,
        lowered.arrays,
        class_names=class_names,
        preprocessing=preprocessing,
        provenance={**_provenance(model, captured), **({} if provenance is None else provenance)},
        passes=[*steps, ("lower", listing)],
        owners=lowered.owners,
    )


def _provenance(model: nn.Module, captured: Capture) -> dict[str, Any]:
    bits = {
        name: [layer.weight_quantization.bit_width, layer.input_quantization.bit_width]
        for name, layer in model.named_modules()
        if isinstance(layer, LowBit)
    }
    versions = {"bitorch": __version__, "bitorch_runtime": bitorch_runtime.__version__, "torch": torch.__version__}
    left_out = {"left_out": list(captured.left_out)} if captured.left_out else {}
    return {"model": type(model).__name__, "bits": bits, **left_out, **versions}


def pixels_of(x: Tensor) -> Tensor:
    """The pixels behind an example of floats: the nearest ones."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
