"""Architectures: float nets that `bitorch.quantize_` makes low-bit, and BITorch's zoo, low-bit as it is built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from ..known_names import MODEL_NAMES as MODEL_NAMES
from ..known_names import ZOO_NAMES as ZOO_NAMES
from ..known_names import wrong_model
from .alexnet import AlexNet as AlexNet
from .base import Model as Model
from .base import NoArgparseArgsMixin as NoArgparseArgsMixin
from .bireal import BiRealNet18 as BiRealNet18
from .blocks import check_counts
from .by_name import model_from_name as model_from_name
from .by_name import model_names as model_names
from .by_name import models_by_name as models_by_name
from .by_name import register_custom_model as register_custom_model
from .densenet import DenseNet as DenseNet
from .densenet import DenseNet28 as DenseNet28
from .densenet import DenseNet37 as DenseNet37
from .densenet import DenseNet45 as DenseNet45
from .densenet import DenseNetFlex as DenseNetFlex
from .dlrm import DLRM as DLRM
from .dlrm import SingleIndexDLRM as SingleIndexDLRM
from .external import PACKAGES
from .external import build_external as build_external
from .external import external_names as external_names
from .lenet import LeNet as LeNet
from .lenet28 import LeNet8 as LeNet8
from .lenet28 import LeNet28 as LeNet28
from .meliusnet import MeliusNet as MeliusNet
from .meliusnet import MeliusNet22 as MeliusNet22
from .meliusnet import MeliusNet23 as MeliusNet23
from .meliusnet import MeliusNet29 as MeliusNet29
from .meliusnet import MeliusNet42 as MeliusNet42
from .meliusnet import MeliusNet59 as MeliusNet59
from .meliusnet import MeliusNetA as MeliusNetA
from .meliusnet import MeliusNetB as MeliusNetB
from .meliusnet import MeliusNetC as MeliusNetC
from .meliusnet import MeliusNetFlex as MeliusNetFlex
from .mobilenet import MobileNetV2 as MobileNetV2
from .quicknet import QuickNet as QuickNet
from .quicknet import QuickNetLarge as QuickNetLarge
from .quicknet import QuickNetSmall as QuickNetSmall
from .reactnet import ReActNetA as ReActNetA
from .resnet import Resnet as Resnet
from .resnet import Resnet18V1 as Resnet18V1
from .resnet import Resnet18V2 as Resnet18V2
from .resnet import Resnet34V1 as Resnet34V1
from .resnet import Resnet34V2 as Resnet34V2
from .resnet import Resnet50V1 as Resnet50V1
from .resnet import Resnet50V2 as Resnet50V2
from .resnet import Resnet152V1 as Resnet152V1
from .resnet import Resnet152V2 as Resnet152V2
from .resnet18 import ResNet18 as ResNet18
from .resnet20 import ResNet20 as ResNet20
from .resnet_e import ResnetE as ResnetE
from .resnet_e import ResnetE18 as ResnetE18
from .resnet_e import ResnetE34 as ResnetE34
from .svhn import SVHNNet as SVHNNet
from .svhn import SVHNVariant as SVHNVariant

#: Of the first stage, at width 1.
_RESNET20_CHANNELS = 16
_RESNET18_CHANNELS = 64
_MOBILENET_CHANNELS = 16


def _svhn(variant: SVHNVariant, in_channels: int, num_classes: int, width: float) -> nn.Module:
    if width != 1:
        raise ValueError(f"the svhn nets take no width, got {width}; svhn-b, -c and -d have 1/2, 1/4, 1/8 of svhn-a")
    return SVHNNet(variant, in_channels, num_classes)


def _resnet20(in_channels: int, num_classes: int, width: float) -> nn.Module:
    return ResNet20(in_channels, num_classes, _first_channels("resnet-20", _RESNET20_CHANNELS, width))


def _resnet18(in_channels: int, num_classes: int, width: float) -> nn.Module:
    return ResNet18(in_channels, num_classes, _first_channels("resnet-18", _RESNET18_CHANNELS, width))


def _mobilenet(in_channels: int, num_classes: int, width: float) -> nn.Module:
    return MobileNetV2(in_channels, num_classes, _first_channels("mobilenet-v2", _MOBILENET_CHANNELS, width))


def _first_channels(name: str, channels: int, width: float) -> int:
    """Return the channels of the first stage times width, rounded."""
    scaled = round(channels * width)
    if scaled < 1:
        least = 0.5 / channels
        raise ValueError(f"width must be above {least}, or no channel of {name}'s first stage is left, got {width}")
    return scaled


#: From channels, classes and width.
_CONSTRUCTORS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "svhn-a": partial(_svhn, "A"),
    "svhn-b": partial(_svhn, "B"),
    "svhn-c": partial(_svhn, "C"),
    "svhn-d": partial(_svhn, "D"),
    "lenet-28": LeNet28,
    "lenet-8": LeNet8,
    "resnet-20": _resnet20,
    "resnet-18": _resnet18,
    "mobilenet-v2": _mobilenet,
    "alexnet": AlexNet,
}


def _of_the_zoo(
    name: str, in_channels: int, num_classes: int, width: float, image_size: tuple[int, int] | None
) -> nn.Module:
    if width != 1:
        raise ValueError(f"{name} takes no width, got {width}; choose another of the zoo's nets")
    if image_size is None:
        raise ValueError(f"{name} needs image_size, the height and width of the images")
    check_counts(in_channels=in_channels, num_classes=num_classes)
    return model_from_name(name)((1, in_channels, *image_size), num_classes=num_classes)


def is_external(name: str) -> bool:
    """Return whether a name is one of another package: "timm:…" or "torchvision:…"."""
    return name.partition(":")[0] in PACKAGES and ":" in name


def is_named(name: str) -> bool:
    """Return whether a name is one of MODEL_NAMES, whose architectures are known here."""
    return name in _CONSTRUCTORS


def build(
    name: str, in_channels: int, num_classes: int, width: float = 1.0, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Return a new net for images of in_channels channels, with num_classes logits: a float one, but for the zoo's.

    Args:
        name: one of MODEL_NAMES, or of ZOO_NAMES, whose nets are low-bit as they are built, or "timm:NAME" or
            "torchvision:NAME", as `build_external` takes it.
        width: factor on the channels of the layers. The SVHN nets take none: their variants are their widths. Nor do
            those of the zoo, of timm and torchvision.
        image_size: height and width of the images, which the nets of the zoo have to know.

    Raises:
        ValueError: a name that there is not, a count below 1, a width that the net does not take; a net of the zoo
            without an image_size, or that is too small for it.
        TypeError: a count that is no int, a width that is no number.
        ImportError: the package of the name is not installed.
    """
    if is_external(name):
        if width != 1:
            raise ValueError(f"{name} takes no width, got {width}; choose another of the package's names")
        return build_external(name, num_classes, in_channels)
    if name in ZOO_NAMES:
        return _of_the_zoo(name, in_channels, num_classes, width, image_size)
    if name not in _CONSTRUCTORS:
        raise ValueError(wrong_model(name))
    return _CONSTRUCTORS[name](in_channels, num_classes, width)
