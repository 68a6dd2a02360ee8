"""Float model to low-bit model, in place, with the same parameters."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from ..dorefa_config import DoReFaConfig
from .filters import FilterFn
from .plan import plan_conversion
from .relus import absorb_relus
from .table import Conversion


def quantize_(
    model: nn.Module, config: DoReFaConfig, filter_fn: FilterFn | Collection[str] | None = None
) -> Conversion:
    """Replace the model's linear layers and convolutions by low-bit ones, in place.

    The new layers hold the same Parameter objects and add no state_dict keys, so float checkpoints load with
    strict=True before and after, and optimizers built earlier stay valid. A module that is used in several places is
    converted once. Functional calls are left alone. A second call with the same config changes nothing.

    Args:
        model: any tree of modules. Not itself a layer to convert, because it could not be replaced in place.
        config: the bits, and what happens to the first and last layer.
        filter_fn: which layers to convert: a function of module and name, or a collection of names. None: all.
            First and last are found among all layers, whatever the filter says.

    Returns:
        A table of all layers that hold a weight, with what each became or why it stayed float.

    Raises:
        ValueError: a filter that matches no layer, a name that does not exist or whose layer cannot be converted, a
            layer that already has other bits, a layer that is too wide for exact sums. The model is then unchanged.
    """
    plan = plan_conversion(model, config, filter_fn)
    new = {id(step.module): step.replacement for step in plan if step.replacement is not None}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    rows = [step.row for step in plan]
    if config.absorb_relu:
        rows.extend(absorb_relus(model))
    return Conversion(tuple(rows))
