"""Joining what stands before low-bit convolutions with them, for faster training on integers; and undoing that.

Beside them, a net's first layer on images trains as floats, by kernels for few channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..in_place import InPlaceTable, check_module
from ..layers import QConv2d
from ..layers.few_channels import FewChannelsConv2d, few_channels_obstacle
from ..layers.fused_norm import Followers, FusedBatchNorm2d, FusedMaxPool2d, FusedReLU
from ..text_table import aligned, ruled
from .training_chains import UNSEEN, Chain, Untraceable, chains_of

_FUSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FusedBatchNorm2d,
    nn.MaxPool2d: FusedMaxPool2d,
    nn.ReLU: FusedReLU,
    nn.Conv2d: FewChannelsConv2d,
}
_PLAIN = {fused: plain for plain, fused in _FUSED.items()}


@dataclass(frozen=True)
class LayerFusion:
    """What became of a low-bit convolution: the names of what is computed with it, or why nothing is."""

    name: str
    before: tuple[str, ...]
    why: str

    @property
    def is_fused(self) -> bool:
        return bool(self.before)


@dataclass(frozen=True)
class Fusions(InPlaceTable):
    """What `fuse_training_` did, one row for each low-bit convolution. Printing it shows a table.

    `untraceable` holds the modules that torch.fx cannot follow, by name, and the lines that are in the way; what is in
    them was looked at part by part. `few_channels` has the names of the float convolutions of images.
    """

    functions: ClassVar[tuple[str, ...]] = ("fuse_training_",)

    layers: tuple[LayerFusion, ...]
    untraceable: dict[str, str]
    few_channels: tuple[str, ...]

    def __str__(self) -> str:
        columns = {
            "layer": [row.name for row in self.layers],
            "computes with it": [" → ".join(row.before) for row in self.layers],
            "why not": [row.why for row in self.layers],
        }
        table = ruled(aligned([tuple(columns), *zip(*columns.values(), strict=True)]))
        images = [f"{name}: a float convolution of images, by kernels for few channels" for name in self.few_channels]
        return "\n".join([table, *images, *(f"{name or 'the model'}: {why}" for name, why in self.untraceable.items())])


def fuse_training_(model: nn.Module) -> Fusions:
    """Compute BatchNorm, max-pooling, ReLU and quantizer in one pass with the low-bit convolution behind them.

    In place, and for training on integers alone: elsewhere, in eval mode among it, modules compute what they did. They
    keep parameters, buffers and keys; `unfuse_training_` undoes it. A chain is an nn.BatchNorm2d, an nn.MaxPool2d(2)
    and an nn.ReLU or AbsorbedReLU, the last two in any order and if there are some, and a QConv2d that trains on
    integers behind InputDoReFa(variant="paper"); nobody else may use what is in between. An nn.Conv2d of up to 4 input
    channels and at least 16 output channels, whose input needs no gradient, computes by kernels for few channels.
    Results agree with those of separate modules to rounding. What is watched by hooks computes by itself.

    Args:
        model: in training mode, as its forward is traced by torch.fx. Of modules that cannot be, parts are looked at.

    Returns:
        A table of the low-bit convolutions: what is computed with each, or why nothing is.

    Raises:
        TypeError: model is no module.
        ValueError: the model cannot be traced as a whole, nor can any part that has a low-bit convolution.
    """
    check_module(model)
    found = list(chains_of(model))
    chains = [chain for chain in found if isinstance(chain, Chain)]
    untraceable = {part.name: part.why for part in found if isinstance(part, Untraceable)}
    if untraceable and all(chain.why == UNSEEN for chain in chains):
        name, why = next(iter(untraceable.items()))
        raise ValueError(
            f"model: {repr(name) if name else type(model).__name__} cannot be traced by torch.fx ({why}), and so "
            "nobody knows what stands before its low-bit convolutions. Put these and what is before them into an "
            "nn.Sequential, or into a module whose forward does not depend on the numbers or shapes of tensors"
        )
    for chain in chains:
        if chain.modules:
            _fuse(chain.modules)
    rows = [LayerFusion(chain.layer, chain.names[:-1], chain.why) for chain in chains]
    return Fusions(tuple(rows), untraceable, tuple(_take_few_channels(model)))


def unfuse_training_(model: nn.Module) -> None:
    """Undo `fuse_training_`: all modules compute by themselves again.

    Raises:
        TypeError: model is no module.
    """
    check_module(model)
    for module in model.modules():
        if type(module) in _PLAIN:
            module.__class__ = _PLAIN[type(module)]
            module.__dict__.pop("_followers", None)


def _take_few_channels(model: nn.Module) -> Iterator[str]:
    """Give convolutions of images to the kernels for few channels, and yield their names."""
    for name, module in model.named_modules():
        if type(module) not in (nn.Conv2d, FewChannelsConv2d) or "forward" in module.__dict__:
            continue
        assert isinstance(module, nn.Conv2d)
        if few_channels_obstacle(module) is None:
            module.__class__ = FewChannelsConv2d
            yield name


def _fuse(modules: tuple[nn.Module, ...]) -> None:
    norm, *between, layer = modules
    assert isinstance(layer, QConv2d)
    for module in modules[:-1]:
        if type(module) in _FUSED:
            module.__class__ = _FUSED[type(module)]
    norm.__dict__["_followers"] = Followers(tuple(between), layer)
