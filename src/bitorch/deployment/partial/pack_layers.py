"""Partial deployment: the low-bit layers of any model on packed weights, the rest in PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ...conversion.convertible import holds_weight
from ...in_place import check_module
from ...layers import (
    QConv1d,
    QConv2d,
    QConv3d,
    QConvTranspose1d,
    QConvTranspose2d,
    QConvTranspose3d,
    QEmbedding,
    QLinear,
    QMultiheadAttention,
)
from ...layers.composed import Composed, PartLinear
from ...layers.low_bit import LowBit, WeightQuantized
from ...layers.own_mode import check_own_mode
from ...layers.qrecurrent import Recurrent
from ...layers.weight_readers import reads_weights
from ...model_copy import copied
from ...operators.packed_programs import runtime
from ...text_inputs import check_calls_
from ...text_table import aligned, ruled
from ...wrappers import unwrapped
from ..capture.preconditions import in_training_mode, some
from ..capture.rules.low_bit import NOT_IN_THE_RUNTIME
from ..packable import LINEAR
from ..weight_only import has_float_inputs
from .packed_base import NotPackableError
from .packed_layers import PackedConv1d, PackedConv2d, PackedLinear
from .packed_weight_only import PackedWeightOnlyLinear
from .partial_file import PartialFile, save_partial

PackedLayer = PackedLinear | PackedConv1d | PackedConv2d


@dataclass(frozen=True)
class LayerPacking:
    """What became of one layer. `bits` is like "W1A2", empty of a float layer; `reason` says why a layer stayed."""

    name: str
    layer: str
    became: str
    bits: str
    reason: str


class PartialDeployment(nn.Module):
    """A model with packed layers, and one row for each layer with a weight. Printing it shows a table.

    It is a module itself: it is called as the model is, copied and pickled, and has a state_dict and all else that
    modules have.

    Attributes:
        model: in eval mode, with packed layers.
        rows: what became of each layer.
    """

    def __init__(self, model: nn.Module, rows: tuple[LayerPacking, ...]) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.eval()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the model returns."""
        return self.model(*inputs, **named)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` reads: the tensors of the model, and what its packed layers are.

        Raises:
            OSError: it cannot be written. A file that was there before is then still there.
            ValueError: the model's state_dict holds more than tensors.
        """
        save_partial(self.model, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module) -> PartialDeployment:
        """Read a file that `save` has written. No code in it is run.

        Args:
            model: the low-bit model as it was deployed, untrained: built and converted with the same config, in eval
                mode. It is not changed.

        Raises:
            OSError: it cannot be read.
            TypeError: no module.
            ValueError: it is no such file, a damaged one, or that of another model; or the model cannot be packed.
        """
        model = unwrapped(model)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        return packed_from(PartialFile.read(Path(path)), model)

    def __str__(self) -> str:
        header = ("layer", "was", "is", "bits", "reason")
        cells = [header, *((row.name, row.layer, row.became, row.bits, row.reason) for row in self.rows)]
        return ruled(aligned(cells))


def packed_from(file: PartialFile, model: nn.Module) -> PartialDeployment:
    """Return the partial deployment of a file, of a low-bit model that is built as it was; ValueError of another."""
    deployment = pack_layers(file.low_bit(model))
    file.fill(deployment.model)
    return deployment


_TRANSPOSED = "a transposed convolution is packed in a model that is deployed whole, not alone"
#: Layers that the runtime computes as parts of a program, and that have no packed form of their own.
_ONLY_WHOLE: dict[type[nn.Module], str] = {
    QConv3d: "a convolution in three dimensions is packed in a model that is deployed whole, not alone",
    QConvTranspose1d: _TRANSPOSED,
    QConvTranspose2d: _TRANSPOSED,
    QConvTranspose3d: _TRANSPOSED,
}


def pack_layers(model: nn.Module) -> PartialDeployment:
    """Return a copy of the model in which every low-bit layer that can be is packed; the rest stays PyTorch.

    QLinear, QConv1d and QConv2d whose quantizers both have a fixed grid become PackedLinear, PackedConv1d and
    PackedConv2d, wherever the model holds them; a layer that is used in several places is packed once. QLinear with
    low-bit weights beside float inputs becomes PackedWeightOnlyLinear. The copy gives what the model gives in eval
    mode, bit for bit but for the order of float sums of the latter, and no gradients through packed layers. The model
    is not changed.

    Args:
        model: any module on the CPU, in eval mode.

    Returns:
        The copy, and a table of all layers that hold a weight, with what each became, or why it stayed.

    Raises:
        TypeError: not a module.
        ValueError: the model is in training mode, has no low-bit layer, or none that can be packed; a low-bit layer's
            weight holds NaN or is not on the CPU. The message names the layer.
        ImportError: bitorch_runtime is not installed.
    """
    model = unwrapped(model)
    check_module(model)
    layers = _checked_layers(model)
    runtime()
    inside_opaque = {id(child) for module in model.modules() if reads_weights(module) for child in module.modules()}
    packed: dict[int, PackedLayer | PackedWeightOnlyLinear] = {}
    rows = []
    for name, layer in layers.items():
        try:
            if id(layer) in inside_opaque and isinstance(layer, WeightQuantized):
                raise NotPackableError("its parent reads the weight without calling it")
            packed[id(layer)] = new = _pack_any(layer)
        except NotPackableError as error:
            rows.append(LayerPacking(name, type(layer).__name__, "as it was", _bits(layer), str(error)))
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
        else:
            rows.append(LayerPacking(name, type(layer).__name__, type(new).__name__, _bits(layer), ""))
    if not packed:
        reasons = "; ".join(f"{row.name}: {row.reason}" for row in rows if row.bits)
        raise ValueError(f"none of the model's low-bit layers can be packed ({reasons})")
    # A packed layer stands wherever the copy meets the original, which is not copied.
    packed_model = copied(model, packed).eval()
    _drop_packed_weights(packed_model)
    check_calls_(packed_model)
    return PartialDeployment(packed_model, tuple(rows))


def _pack_any(layer: nn.Module) -> PackedLayer | PackedWeightOnlyLinear:
    """Return a layer's packed form, that of weights alone too; errors as `pack`."""
    if isinstance(layer, QLinear) and packed_class(layer) is PackedLinear and has_float_inputs(layer):
        return PackedWeightOnlyLinear(layer)
    return pack(layer)


def _checked_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that hold a weight, by name, of a model in eval mode that has low-bit ones among them."""
    training = in_training_mode(model)
    if training:
        raise ValueError(f"the model is in training mode ({some(training)}); call model.eval() first")
    check_own_mode(model)
    layers = {name: module for name, module in model.named_modules() if _has_weight(module)}
    if not any(isinstance(layer, WeightQuantized) for layer in layers.values()):
        raise ValueError(
            "the model has no low-bit layer (QLinear, QConv1d, QConv2d); convert it with quantize_ and train"
        )
    return layers


def _drop_packed_weights(model: nn.Module) -> None:
    """Take the float weights out of attention and recurrent layers whose parts hold them packed."""
    for module in model.modules():
        if not isinstance(module, Composed):
            continue
        if not any(isinstance(part, PartLinear) for part in module.children()):
            for name in module._shown():
                if name in module._parameters:  # else a hook computes it
                    module.register_parameter(name, None)
            if isinstance(module, nn.RNNBase):
                module._init_flat_weights()  # which holds them, too


def _has_weight(module: nn.Module) -> bool:
    return isinstance(module, WeightQuantized) or holds_weight(module)


def packed_class(layer: nn.Module) -> type[PackedLayer]:
    """Return the class of a layer's packed form; NotPackableError, with the reason, where there is none."""
    if isinstance(layer, QLinear) and type(layer) in LINEAR:
        return PackedLinear
    if type(layer) is QConv1d:
        return PackedConv1d
    if type(layer) is QConv2d:
        return PackedConv2d
    if isinstance(layer, Recurrent):
        raise NotPackableError("its gates and states stay in PyTorch; its matrices have rows of their own")
    if type(layer) is QMultiheadAttention:
        raise NotPackableError("softmax and its products stay in PyTorch; the projections have rows of their own")
    if type(layer) in _ONLY_WHOLE:
        raise NotPackableError(_ONLY_WHOLE[type(layer)])
    if type(layer) is QEmbedding:
        raise NotPackableError("tables stay in PyTorch; deployed whole, they are packed")
    if type(layer) in NOT_IN_THE_RUNTIME:
        raise NotPackableError(NOT_IN_THE_RUNTIME[type(layer)][0])
    if isinstance(layer, LowBit):
        raise NotPackableError("a subclass may compute something else")
    raise NotPackableError("its input is not quantized" if isinstance(layer, WeightQuantized) else "a float layer")


def pack(layer: nn.Module) -> PackedLayer:
    """Return a layer's packed form; errors as its class's, and NotPackableError where there is none."""
    return packed_class(layer)(layer)  # type: ignore[arg-type]  # the class is that of the layer


def _bits(layer: nn.Module) -> str:
    if not isinstance(layer, WeightQuantized):
        return ""
    weight_bits = f"W{layer.weight_quantization.bit_width}"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):  # indices have no bits
        return weight_bits
    return f"{weight_bits}A{layer.input_quantization.bit_width if isinstance(layer, LowBit) else 32}"
