"""Architectures of timm and torchvision, by name; both packages are optional and imported only here."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any, cast

from torch import nn

from ..own_code import MODEL_PACKAGES
from ..torchvision_operators import import_torchvision
from .blocks import check_counts

#: The packages that `build_external` knows, as they stand before the colon.
PACKAGES = MODEL_PACKAGES
_NEAR_NAMES = 5
_RGB = 3
#: These two have second heads while they train, and warn unless told how to initialise.
_TORCHVISION_OPTIONS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def build_external(name: str, num_classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Return a new float net of timm or torchvision with random weights. Nothing is downloaded.

    Args:
        name: "timm:NAME" or "torchvision:NAME", as in "timm:resnet18" or "torchvision:vgg11_bn". Of torchvision, the
            networks that classify images.
        num_classes: number of logits.
        in_channels: channels of the images. torchvision's networks read three; for another number, the first
            convolution is replaced by one with new weights.
        options: of the architecture, passed to the package, such as img_size=64 (timm) or image_size=64 (torchvision)
            of a vision transformer.

    Raises:
        ValueError: a name without a package, of another package or that the package does not have; a count below 1.
        TypeError: a count that is no int, an option that the architecture does not take.
        ImportError: the package is not installed.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as 'timm:resnet18', got {name!r}")
    package, colon, architecture = name.partition(":")
    if not colon or package not in PACKAGES:
        raise ValueError(f"name must be timm:NAME or torchvision:NAME, got {name!r}")
    check_counts(num_classes=num_classes, in_channels=in_channels)
    if package == "timm":
        return _of_timm(architecture, num_classes, in_channels, options)
    return _of_torchvision(architecture, num_classes, in_channels, options)


def external_names(package: str) -> tuple[str, ...]:
    """Return the names that `build_external` takes after "timm:" or "torchvision:", in alphabetical order.

    Raises:
        ValueError: another package. ImportError: the package is not installed.
    """
    if package == "timm":
        return tuple(_timm().list_models())
    if package == "torchvision":
        models = _torchvision_models()
        return tuple(models.list_models(module=models))
    raise ValueError(f"package must be one of {', '.join(PACKAGES)}, got {package!r}")


def _of_timm(architecture: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    timm = _timm()
    # Only names from the list: timm would go to a hub for others, such as "hf-hub:…".
    if architecture not in timm.list_models(include_tags=True):
        _check_known("timm", architecture)
    net = timm.create_model(architecture, pretrained=False, num_classes=num_classes, in_chans=in_channels, **options)
    return cast(nn.Module, net)


def _of_torchvision(architecture: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    models = _torchvision_models()
    _check_known("torchvision", architecture)
    options = {**_TORCHVISION_OPTIONS.get(architecture, {}), **options}
    net: nn.Module = models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    if in_channels != _RGB:
        _replace_stem(net, in_channels)
    return net


def _check_known(package: str, architecture: str) -> None:
    names = external_names(package)
    if architecture not in names:
        near = _near(architecture, names)
        remedy = f"near names: {', '.join(near)}" if near else f"bitorch.models.external_names({package!r}) lists them"
        raise ValueError(f"{package} has no image classifier {architecture!r}; {remedy}")


def _near(architecture: str, names: tuple[str, ...]) -> list[str]:
    """Return names that begin with the text, then such that look like it."""
    longer = [name for name in names if architecture and name.startswith(architecture)]
    similar = difflib.get_close_matches(architecture, names, n=_NEAR_NAMES)
    return list(dict.fromkeys([*longer, *similar]))[:_NEAR_NAMES]


def _replace_stem(net: nn.Module, in_channels: int) -> None:
    """Replace the first convolution, which reads the image, by one that reads in_channels."""
    path, stem = next((path, module) for path, module in net.named_modules() if isinstance(module, nn.Conv2d))
    parent, _, attribute = path.rpartition(".")
    new = nn.Conv2d(
        in_channels,
        stem.out_channels,
        cast(tuple[int, int], stem.kernel_size),
        stride=cast(tuple[int, int], stem.stride),
        padding=cast(tuple[int, int], stem.padding),
        dilation=cast(tuple[int, int], stem.dilation),
        bias=stem.bias is not None,
    )
    setattr(net.get_submodule(parent), attribute, new)


def _timm() -> ModuleType:
    _torchvision_models()  # timm imports torchvision, and fails with it
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ImportError('timm is missing: pip install ".[models]" in a checkout of bitorch') from error
    return cast(ModuleType, timm)


def _torchvision_models() -> ModuleType:
    try:
        torchvision = import_torchvision()
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise ImportError('torchvision is missing: pip install ".[models]" in a checkout of bitorch') from error
    return cast(ModuleType, torchvision.models)
