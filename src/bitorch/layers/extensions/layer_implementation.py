"""What the classes of implementations derive from."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import nn

from .layer_recipe import LayerRecipe
from .reference import WithRecipe, taken_over

if TYPE_CHECKING:
    import torch


class BaseImplementation(WithRecipe):
    """What every implementation of a layer answers. It passes the arguments of its constructor on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    @classmethod
    def is_default_implementation(cls) -> bool:
        """Return whether this is the layer as it is without an engine."""
        raise NotImplementedError(_missing(cls, "is_default_implementation(cls) -> bool"))

    @classmethod
    def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return whether a layer like the recipe's can be built, and if not, why."""
        raise NotImplementedError(_missing(cls, "can_clone(cls, recipe) -> (bool, reason)"))

    @classmethod
    def create_clone_from(cls, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer that computes what the recipe's does."""
        raise NotImplementedError(_missing(cls, "create_clone_from(cls, recipe, device) -> layer"))


def _missing(cls: type, signature: str) -> str:
    return f"{cls.__name__} must define the class method {signature}"


class DefaultImplementationMixin(BaseImplementation):
    """Mixin of a layer as it is without an engine: it is built anew from the arguments, and takes the weights along."""

    @classmethod
    def is_default_implementation(cls) -> bool:
        """Return True."""
        return True

    @classmethod
    def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
        """Return that it can."""
        return True, ""

    @classmethod
    def create_clone_from(cls, recipe: LayerRecipe, device: torch.device | str | None = None) -> Any:
        """Return a layer constructed with the recipe's arguments.

        Where it and the recipe's layer are modules, it takes what that has under the same name, in the same shape; of
        what is not there a UserWarning tells.
        """
        new, old = cls(*recipe.args, **recipe.kwargs), recipe.layer
        if isinstance(new, nn.Module) and isinstance(old, nn.Module):
            missing = taken_over(new, old)
            if missing:
                warnings.warn(
                    f"{cls.__name__} starts with new values of {', '.join(missing)}: the "
                    f"{old.__class__.__name__} that it replaces has none of these names and shapes",
                    stacklevel=2,
                )
            new.train(old.training)
        return new


class CustomImplementationMixin(BaseImplementation):
    """Mixin of a layer of an engine, which defines `can_clone` and `create_clone_from`."""

    @classmethod
    def is_default_implementation(cls) -> bool:
        """Return False."""
        return False
