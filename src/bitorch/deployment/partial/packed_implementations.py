"""Packed layers as what QLinear, QConv1d, QConv2d and QConv3d are in mode CPU; importing this registers them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...layers.extensions.layer_recipe import LayerRecipe
from ...layers.low_bit import LowBit
from ...layers.register import q_conv1d_registry, q_conv2d_registry, q_conv3d_registry, q_linear_registry
from ...model_copy import copied
from ...operators.packed_programs import runtime
from ...running import as_it_was
from ...runtime_mode import RuntimeMode
from .pack_layers import PackedLayer, pack, packed_class
from .packed_base import packing_of
from .packed_layers import PackedConv1d, PackedConv2d, PackedLinear


class PackedImplementation:
    """Packed layers of one class, as a registry asks for them.

    Args:
        class_: None where there is none: then it tells why.
        class_name: for messages.
    """

    def __init__(self, class_: type[PackedLayer] | None, class_name: str) -> None:
        self.class_ = class_
        self.class_name = class_name

    def is_default(self) -> bool:
        """Return False."""
        return False

    def supports_mode(self, mode: int) -> bool:
        """Return whether CPU is the mode, or among the modes."""
        return RuntimeMode.mode_compatible(mode, RuntimeMode.CPU)

    def can_create_clone_from(self, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return whether a layer can be packed, as it computes in eval mode, and if not, why."""
        layer = recipe.layer
        if not isinstance(layer, nn.Module):
            return False, f"a {type(layer).__name__} is no module"
        runtime()
        try:
            packed_class(layer)
            assert isinstance(layer, LowBit)  # or it had no such class
            with as_it_was(layer):
                packing_of(_on_cpu(layer))
        except ValueError as error:
            return False, str(error)
        return True, ""

    def get_replacement(self, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return the packed layer."""
        if device is not None and torch.device(device).type != "cpu":
            raise ValueError(f"device must be a CPU for the mode cpu, whose layers compute on bits there; got {device}")
        layer = recipe.layer
        with as_it_was(layer):
            packed = pack(_on_cpu(layer))
        layer._forget_codes()  # which would take several times the room of the bits
        return packed


def _on_cpu(layer: LowBit) -> LowBit:
    return layer if layer.weight.device.type in ("cpu", "meta") else copied(layer).cpu()


q_linear_registry.add_built_in(PackedImplementation(PackedLinear, "PackedLinear"))
q_conv1d_registry.add_built_in(PackedImplementation(PackedConv1d, "PackedConv1d"))
q_conv2d_registry.add_built_in(PackedImplementation(PackedConv2d, "PackedConv2d"))
q_conv3d_registry.add_built_in(PackedImplementation(None, "packed layers"))
