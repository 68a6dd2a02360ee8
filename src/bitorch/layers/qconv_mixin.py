"""What the arguments of a quantized convolution are, by name."""

from __future__ import annotations

from typing import Any

from .extensions.layer_recipe import LayerRecipe
from .registered import Registered, arguments_by_name


class QConvArgsProviderMixin(Registered):
    """Mixin of QConv1d, QConv2d and QConv3d: the arguments that torch's convolutions take."""

    _required_arguments = ("in_channels", "out_channels", "kernel_size")
    _other_arguments = {  # noqa: RUF012 - a ClassVar of Registered
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "padding_mode": "zeros",
        "device": None,
        "dtype": None,
    }

    @staticmethod
    def get_args_as_kwargs(recipe: LayerRecipe) -> dict[str, Any]:
        """Return a recipe's arguments by name, without those of quantizers; defaults where they were not given.

        Raises:
            IndexError: in_channels, out_channels or kernel_size is missing.
        """
        return arguments_by_name(recipe, QConvArgsProviderMixin)
