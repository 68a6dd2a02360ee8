"""What the nets of BITorch's zoo share: how they are built from a shape, initialised, converted and described."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..layers.low_bit import WeightQuantized
from ..layers.mode_conversion import convert
from .arguments import keeping_arguments
from .backbone import Layers, Size, check_ends, check_runs, with_ends
from .common_layers import IMAGENET_CLASSES, IMAGENET_INPUT_SHAPE
from .pretrained import build_pretrained

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from ..runtime_mode import runtime_mode_type

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

    #: Shape of a batch and number of classes of the weights that `as_backbone` begins with.
    _default_arguments: ClassVar[tuple[tuple[int, ...], int]] = (IMAGENET_INPUT_SHAPE, IMAGENET_CLASSES)

    _model: nn.Module
    #: That the net was built with, by name.
    _arguments: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            setattr(cls, "__init__", keeping_arguments(cls.__init__))  # noqa: B010  # mypy takes no assignment to it

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

    def convert(
        self, new_mode: runtime_mode_type, device: torch.device | str | None = None, verbose: bool = False
    ) -> Model:
        """Give each quantized layer the implementation of another `bitorch.RuntimeMode`, in place, and return the net.

        As `bitorch.layers.convert(net, new_mode, device, verbose)`, which tells of modes and errors.
        """
        convert(self, new_mode, device=device, verbose=verbose)
        return self

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        mode: runtime_mode_type | None = None,
        *,
        pad_value: float | None = None,
        download_path: str | os.PathLike[str] = "bitorch_models",
        **arguments: Any,
    ) -> Self:
        """Return a new net with trained weights. No code in any file is run.

        Weights fit whose keys are the net's, with or without what a training script puts in front of them ("model." of
        Lightning, "module.", "_orig_mod."), or those of `model()`.

        Args:
            source: a file of weights, safetensors or what torch.save has written; a folder of `bitorch.hub.save`; or
                the name of a repository "owner/name" of the Hugging Face hub with such a folder's files. None takes
                what the table at `version_table_url` has for a net of this name and arguments.
            mode: a `bitorch.RuntimeMode` that the net is converted to; None leaves it as it is built.
            pad_value: of low-bit convolutions that pad and say nothing of it, see `model_hub.set_pad_value`; −1 for
                weights that BITorch has trained with InputDoReFa.
            download_path: folder that weights of the table are kept in.
            arguments: of the constructor; a folder has them too.

        Raises:
            RuntimeError: the table has no such weights, or they cannot be read.
            FileNotFoundError: there is no such source. OSError: the repository cannot be read.
            ValueError: the source holds no weights, or those of another net; the message lists what differs.
            ImportError: a repository without huggingface_hub, or safetensors without the package.
        """
        net = build_pretrained(
            cls,
            source,
            arguments,
            name=cls.name,
            table_url=cls.version_table_url,
            pad_value=pad_value,
            download_path=download_path,
        )
        if mode is not None:
            net.convert(mode)
        return net

    @classmethod
    def as_backbone(
        cls,
        input_size: Size | None = None,
        output_size: Size | None = None,
        prepend_layers: Layers | None = None,
        append_layers: Layers | None = None,
        sanity_check: bool = True,
        as_feature_extractor: bool = False,
        *,
        source: str | os.PathLike[str] | None = None,
        **arguments: Any,
    ) -> Self:
        """Return a trained net with other ends, whose new layers are float and not trained.

        Args:
            input_size: of an input without its batch axis, [channels, height, width] or [features], for a new first
                layer, see `model_hub.apply_input_size`.
            output_size: of the result, likewise, for a new last layer.
            prepend_layers, append_layers: layers in front of the net, or behind it, instead; one that converts channels
                or features stands in between where they differ.
            sanity_check: run the net on a random batch of two. It is left as it was.
            as_feature_extractor: take the last layer, and what stands behind it, out.
            source, arguments: as of `from_pretrained`. Without both it is the net of `version_table_url` that is for
                ImageNet, or for the MNIST family where the class is.

        Raises:
            ValueError: two arguments say something about one end, or a size does not fit the layer.
            NotImplementedError: sizes of other lengths; there is no source, and the class has no `version_table_url`.
            RuntimeError: the net does not run with its new ends; what `from_pretrained` says.
        """
        check_ends(input_size, output_size, prepend_layers, append_layers, as_feature_extractor)
        from_default = source is None and not arguments
        net = cls._load_default_model() if from_default else cls.from_pretrained(source, **arguments)
        net._model = with_ends(net._model, input_size, output_size, prepend_layers, append_layers, as_feature_extractor)
        if sanity_check:
            check_runs(net, input_size, net._input_shape)
        return net

    @classmethod
    def _load_default_model(cls) -> Self:
        """Return the net that `as_backbone` begins with: what the version table has for `_default_arguments`."""
        if not cls.version_table_url:
            raise NotImplementedError(
                f"{cls.__name__} has no version_table_url, so there are no weights to begin with: give a source, such "
                "as a file of weights, or set the URL of a version table"
            )
        input_shape, num_classes = cls._default_arguments
        return cls.from_pretrained(input_shape=input_shape, num_classes=num_classes)

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
