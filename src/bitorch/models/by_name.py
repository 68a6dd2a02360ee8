"""The nets of BITorch's zoo by name, those of one's own among them."""

from __future__ import annotations

from .base import Model
from .bireal import BiRealNet18
from .densenet import DenseNet, DenseNet28, DenseNet37, DenseNet45, DenseNetFlex
from .dlrm import DLRM
from .lenet import LeNet
from .meliusnet import (
    MeliusNet,
    MeliusNet22,
    MeliusNet23,
    MeliusNet29,
    MeliusNet42,
    MeliusNet59,
    MeliusNetA,
    MeliusNetB,
    MeliusNetC,
    MeliusNetFlex,
)
from .quicknet import QuickNet, QuickNetLarge, QuickNetSmall
from .reactnet import ReActNetA
from .resnet import (
    Resnet,
    Resnet18V1,
    Resnet18V2,
    Resnet34V1,
    Resnet34V2,
    Resnet50V1,
    Resnet50V2,
    Resnet152V1,
    Resnet152V2,
)
from .resnet_e import ResnetE, ResnetE18, ResnetE34

_BUILT_IN: tuple[type[Model], ...] = (
    DLRM,
    BiRealNet18,
    DenseNet,
    DenseNet28,
    DenseNet37,
    DenseNet45,
    DenseNetFlex,
    LeNet,
    MeliusNet,
    MeliusNet22,
    MeliusNet23,
    MeliusNet29,
    MeliusNet42,
    MeliusNet59,
    MeliusNetA,
    MeliusNetB,
    MeliusNetC,
    MeliusNetFlex,
    QuickNet,
    QuickNetLarge,
    QuickNetSmall,
    ReActNetA,
    Resnet,
    Resnet18V1,
    Resnet18V2,
    Resnet34V1,
    Resnet34V2,
    Resnet50V1,
    Resnet50V2,
    Resnet152V1,
    Resnet152V2,
    ResnetE,
    ResnetE18,
    ResnetE34,
)

#: By the names in lower case.
models_by_name: dict[str, type[Model]] = {cls.name.lower(): cls for cls in _BUILT_IN}


def model_names() -> list[str]:
    """Return the known names, in lower case, sorted."""
    return sorted(models_by_name)


def model_from_name(name: str) -> type[Model]:
    """Return the class of that name, whatever its case; ValueError, with the known names, if there is none."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str such as 'Resnet18V1', got {name!r}")
    if name.lower() not in models_by_name:
        raise ValueError(f"no model is named {name!r}; known names: {', '.join(model_names())}")
    return models_by_name[name.lower()]


def register_custom_model(cls: type[Model]) -> None:
    """Make a subclass of Model known under its `name`, in any case.

    A class that was defined again, as by a notebook cell that runs twice, takes the place of the earlier one.

    Raises:
        TypeError: cls is no subclass of Model.
        ValueError: it has no name of its own, or another class has that name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Model)):
        raise TypeError(f"register_custom_model takes a subclass of bitorch.models.Model, got {cls!r}")
    if "name" not in cls.__dict__ or not cls.name:
        raise ValueError(f'{cls.__name__} needs a class attribute `name` of its own, such as name = "{cls.__name__}"')
    known = models_by_name.get(cls.name.lower(), cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the name {cls.name!r} belongs to {known.__name__}; choose another")
    models_by_name[cls.name.lower()] = cls
