"""What keeps low-bit layers from packed weights in evaluation."""

from __future__ import annotations

import math

from torch import nn

from ...layers import QConv1d, QConv2d
from ...layers.low_bit import LowBit
from ...layers.qrecurrent import QGates
from ...layers.weight_readers import reads_weights
from ...operators.packed_programs import runtime
from ...running import as_it_was
from ...wrappers import is_compiled
from .evaluation_choice import EvaluationChoice, check_evaluation, must_be_packed
from .evaluation_forms import EvaluationForm, EvaluationForms
from .pack_layers import packed_class
from .packed_base import packing_of

#: Input times output channels of a group, up to which floats are faster: the kernels fill their vectors with these.
_FEW_CHANNELS = 256


def low_bit_layers(model: nn.Module) -> dict[str, LowBit]:
    """Return the layers that a choice is about, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LowBit)}


def obstacles(model: nn.Module, choice: EvaluationChoice) -> dict[str, str]:
    """Return what keeps each low-bit layer from packed weights, by name, "" where nothing does.

    Only what costs no look at the weights.
    """
    around = {id(part): "torch.compile computes it" for module in model.modules() if is_compiled(module)
              for part in module.modules()}  # fmt: skip
    for module in model.modules():
        if reads_weights(module):
            around |= {id(part): "its parent reads the weight without calling it" for part in module.modules()}
    machine = _machine_obstacle()
    return {
        name: machine or around.get(id(layer), "") or _obstacle(layer, choice)
        for name, layer in low_bit_layers(model).items()
    }


def evaluation_forms(model: nn.Module, choice: EvaluationChoice = "auto", device: str = "cpu") -> EvaluationForms:
    """Return what the low-bit layers of a model will compute with in evaluation, by what is known before.

    Whether a pass is long enough is seen by its first batch alone: see `EvaluationPass`.

    Args:
        model: in any mode, on the CPU.
        choice: see `EvaluationChoice`.
        device: the type of the one that the model will be on.

    Raises:
        ValueError: "packed", and a layer cannot be packed.
    """
    layers, found = low_bit_layers(model), obstacles(model, check_evaluation(choice))
    if device != "cpu":
        found = dict.fromkeys(found, f"packed weights are for CPUs, and it is on {device}")
    forms = [EvaluationForm(name, why or _packing_obstacle(layers[name])) for name, why in found.items()]
    for form in forms:
        if choice == "packed" and form.why:
            raise ValueError(must_be_packed(form.name, form.why))
    return EvaluationForms(tuple(forms))


def _machine_obstacle() -> str:
    try:
        runtime()
    except ImportError as error:  # not there, or not for this machine
        return str(error)
    return ""


def _obstacle(layer: LowBit, choice: EvaluationChoice) -> str:
    if choice == "unpacked":
        return 'evaluation="unpacked"'
    if layer.kernels == "float" and choice == "auto":
        return 'kernels="float"'
    if isinstance(layer, QGates):
        return "a recurrent layer reads its weight once for all steps"
    if layer.weight.device.type != "cpu":
        return f"packed weights are for CPUs, and it is on {layer.weight.device.type}"
    try:
        packed_class(layer)
    except ValueError as error:
        return str(error)
    return _narrow(layer) if choice == "auto" else ""


def _narrow(layer: LowBit) -> str:
    """Return why floats are faster for a convolution of few channels, "" if they are not. Depthwise ones are packed."""
    if not isinstance(layer, QConv1d | QConv2d):
        return ""
    into, out = layer.weight.shape[1], layer.weight.shape[0] // layer.groups
    is_depthwise = layer.groups > 1 and into == 1
    if is_depthwise or into * out > _FEW_CHANNELS:
        return ""
    return f"floats are faster for {into} to {out} channels; {math.isqrt(_FEW_CHANNELS) + 1} to as many would do"


def _packing_obstacle(layer: LowBit) -> str:
    try:
        with as_it_was(layer):
            packing_of(layer)
    except ValueError as error:
        return str(error)
    return ""
