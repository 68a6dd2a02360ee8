"""What the nets of BITorch's zoo share: how they are built from a shape, initialised, converted and described."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..layers.low_bit import WeightQuantized

#: Side of the kernel of the stem on large images, whose input is no activation.
_LARGE_KERNEL = 7


class Model(nn.Module):
    """A net that is low-bit as it is built: its layers take the quantizers of `bitorch.layers.config.config`.

    A subclass sets `name` to its own and makes the net in `_model`; keys of the state_dict begin with "_model.".

    Args:
        input_shape: of a batch, [batch, channels, height, width] for images: entry 1 is read as channels, the last two
            as the resolution. A tuple, a list or a torch.Size.
        num_classes: number of logits.

    Raises:
        TypeError: an input_shape that is no sequence of ints, num_classes that is no int.
        ValueError: num_classes below 0.
    """

    name: ClassVar[str] = ""
    #: Of a table with links to trained weights.
    version_table_url: ClassVar[str] = ""

    _model: nn.Module

    def __init__(self, input_shape: Sequence[int], num_classes: int = 0) -> None:
        super().__init__()
        self._input_shape = _checked_shape(input_shape)
        self._num_classes = _checked_count(num_classes)

    def model(self) -> nn.Module:
        """Return the net itself, whose keys have no prefix."""
        return self._model

    def forward(self, x: Tensor) -> Any:
        """Return what the net gives: of images, float [B, channels, H, W], logits [B, num_classes]."""
        return self._model(x)

    def initialize(self) -> None:
        """Draw new weights, as BITorch: Xavier's normal, and He's for float convolutions of kernel 7, which are stems.

        Biases of convolutions become zeros. Batch norms and biases of linear layers are left alone.
        """
        for layer in self._model.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                _initialize_convolution(layer)
            elif isinstance(layer, nn.Linear) and layer.weight.numel():
                nn.init.xavier_normal_(layer.weight)

    def on_train_batch_end(self, layer: nn.Module) -> None:
        """Do what is to be done to a layer after each step of the optimizer: `net.apply(net.on_train_batch_end)`.

        Nothing, unless a subclass says it.
        """

    def convert(self, new_mode: Any, device: torch.device | str | None = None, verbose: bool = False) -> Model:
        """Give each quantized layer the implementation of another `bitorch.RuntimeMode`, in place, and return the net.

        As `bitorch.layers.convert(net, new_mode, device, verbose)`, which tells of modes and errors.
        """
        import_module("bitorch.layers").convert(self, new_mode, device=device, verbose=verbose)
        return self

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add options whose dest names are arguments of the constructor; none here."""


class NoArgparseArgsMixin:
    """Put in front of a family by classes of one fixed size, which have none of the family's options."""

    @staticmethod
    def add_argparse_arguments(parser: argparse.ArgumentParser) -> None:
        """Add nothing: the class has chosen what the options of its family choose."""


def _initialize_convolution(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    if not isinstance(layer, WeightQuantized) and layer.kernel_size[0] == _LARGE_KERNEL:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    is_sequence = isinstance(input_shape, Sequence) and not isinstance(input_shape, str)
    if not is_sequence or not all(isinstance(side, Integral) and not isinstance(side, bool) for side in input_shape):
        raise TypeError(
            f"input_shape must be a tuple or list of ints such as (1, 3, 32, 32), batch axis first, got {input_shape!r}"
        )
    return tuple(map(int, input_shape))


def _checked_count(num_classes: int) -> int:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes must be an int, got {num_classes!r}")
    if num_classes < 0:
        raise ValueError(f"num_classes must be at least 0, got {num_classes}")
    return num_classes
