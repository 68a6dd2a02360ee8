"""Float model to low-bit model, in place, with the same parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from ..wrappers import unwrapped_to_change
from .absorb_relus import absorb_relus
from .fast_paths import close_fast_paths
from .filters import FilterFn
from .layer_configs import Configs
from .plan import plan_conversion
from .share import share_of, warn_of_few
from .step import Step
from .table import Conversion


def quantize_(model: nn.Module, config: Configs, filter_fn: FilterFn | Collection[str] | None = None) -> Conversion:
    """Replace the model's linear layers, convolutions, embeddings and attention by low-bit ones, in place.

    The new layers hold the same Parameter objects and add no state_dict keys, so float checkpoints load with
    strict=True before and after, and optimizers built earlier stay valid. A module that is used in several places is
    converted once. Functional calls are left alone. A second call with the same config changes nothing.

    Args:
        model: any tree of modules. Not itself a layer to convert, because it could not be replaced in place. Of
            torch.compile, DataParallel and averaged models, what they wrap is changed; on DistributedDataParallel it
            raises.
        config: the bits, and what happens to the first and last layer. Or a list of rules, each a `Rule` or a pair of
            match and config, where None leaves layers float. The last rule that matches a layer decides; a layer that
            none matches stays as it is. What happens to the first and last layer is up to the config that decides on
            them; a layer that a rule names gets the config's own bits wherever it stands.
        filter_fn: which layers to convert: a function of module and name, or a collection of names. None: all.
            First and last are found among all layers, whatever the filter says.

    Returns:
        A table of all layers that hold a weight, with what each became or why it stayed float, and the rule; below it
        the share of weights that are low-bit. Less than half is a UserWarning that says what stays float, and what to
        do; weights that filter_fn or a rule leaves out do not count for it.

    Raises:
        ValueError: a filter that matches no layer, a name that does not exist or whose layer cannot be converted, a
            layer that already has other bits, a layer that is too wide for exact sums; a rule that matches nothing or
            is overruled everywhere. The model is then unchanged.
    """
    model = unwrapped_to_change(model, "quantize_")
    plan = plan_conversion(model, config, filter_fn)
    warn_of_few(plan, stacklevel=2)  # first, since a warning may be an error
    return carry_out(model, plan)


def carry_out(model: nn.Module, plan: Sequence[Step]) -> Conversion:
    """Do what was planned for a model, in place."""
    share = share_of(plan)
    new = {step.module: step.replacement for step in plan if step.replacement is not None}
    for old, layer in new.items():
        layer.train(old.training)  # its quantizers too
    replace_modules(model, new)
    close_fast_paths(model)
    absorbing = [step.replacement or step.module for step in plan if step.absorbs_relu]
    return Conversion((*(step.row for step in plan), *absorb_relus(model, absorbing)), share)


def replace_modules(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules wherever the model holds the old ones."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in new:
                parent._modules[name] = new[child]
