"""What quantized layers have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..quantizations import Quantization
from ..quantizations.learned_start import LearnedStart
from .config import config, resolve_quantization
from .exact import digit_base
from .qactivation import QActivation
from .weight_sources import is_frozen, is_in, load_parametrization, refresh

if TYPE_CHECKING:
    from typing_extensions import Self


class Converted(nn.Module):
    """Mixin of what `quantize_` puts in the place of a float module, and `float_` takes out again."""

    #: Give quantizers to a layer that has its parameters already; a subclass's method, with arguments of its own.
    _set_quantization: Callable[..., None]
    #: The layer that this one is without its quantizers. A subclass that computes something else says its own.
    _float_class: ClassVar[type[nn.Module]]
    #: Attributes and submodules that the float layer does not have.
    _quantized_names: ClassVar[frozenset[str]] = frozenset(
        {"activation", "weight_quantization", "gradient_quantization", "output_quantization", "exact", "_pad_value"}
    )

    def _as_float(self) -> nn.Module:
        """Return the float layer with this layer's parameters (the same objects), hooks and settings."""
        new = self._float_class.__new__(self._float_class)
        new.__dict__.update({name: value for name, value in self.__dict__.items() if name not in self._quantized_names})
        for kind in ("_parameters", "_buffers", "_modules"):
            members = self.__dict__[kind].items()
            new.__dict__[kind] = {name: member for name, member in members if name not in self._quantized_names}
        new.__dict__.pop("_compiled_call_impl", None)  # of the quantized layer, if it was compiled
        return new

    @classmethod
    def _sharing(cls, layer: nn.Module, **quantization: Any) -> Self:
        """Return a quantized layer with a float layer's parameters (the same objects), hooks and settings."""
        new = cls.__new__(cls)
        new.__dict__.update(layer.__dict__)
        for name in ("_parameters", "_buffers", "_modules"):
            new.__dict__[name] = dict(layer.__dict__[name])
        new._compiled_call_impl = None  # of the float layer, if it was compiled
        new._set_quantization(**quantization)
        return new


class WeightQuantized(Converted):
    """Mixin of layers with a quantized weight: the quantizer, and the integers it stands for."""

    weight: Tensor
    weight_quantization: Quantization

    @property
    def _weight_quantize(self) -> Quantization:
        """BITorch's name of `weight_quantization` on convolutions."""
        return self.weight_quantization

    def _set_weight_quantization(self, weight_quantization: Quantization | str | None) -> None:
        self.weight_quantization = resolve_quantization(
            weight_quantization, config.weight_quantization, "weight_quantization"
        )
        self.weight_quantization.initialize_(self._current_weight())
        self._freeze_with_weight(self.weight_quantization)

    def _freeze_with_weight(self, quantization: nn.Module) -> None:
        """Have a new quantizer's parameters not train where the layer's weight does not."""
        if is_frozen(*self._weight_place()):
            quantization.requires_grad_(False)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Load the weight; where the state_dict has no steps for it, as that of a float model, they start anew."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        owner, name = self._weight_place()
        if owner is self and is_in(state_dict, self, name, prefix):
            assign = bool(local_metadata.get("assign_to_params_buffers", False))
            load_parametrization(self, name, state_dict, prefix, assign)
            self._initialize_without_steps(state_dict, prefix)

    def _initialize_without_steps(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Start the steps anew after a weight was loaded, where the state_dict has none for them."""
        weight = self._current_weight()
        if not any(key.startswith(f"{prefix}weight_quantization.") for key in state_dict):
            self.weight_quantization.initialize_(weight)

    def _renew_steps(self) -> bool:
        """Start untrained steps anew where they do not fit the weight any more; return whether."""
        quantizer = self.weight_quantization
        return isinstance(quantizer, LearnedStart) and quantizer.renew_(self._current_weight())

    def _weight_place(self) -> tuple[nn.Module, str]:
        """Return the module that the weight is a tensor of, and the tensor's name."""
        return self, "weight"

    def _current_weight(self) -> Tensor:
        """Return `_quantizer_weight()`, as the next call will see it where a hook computes it."""
        refresh(*self._weight_place())
        return self._quantizer_weight()

    def _quantizer_weight(self) -> Tensor:
        """Return the weight as its quantizer sees it, with the output channel first."""
        return self.weight

    def weight_codes(self) -> Tensor:
        """Return the integers behind the weight, as int16; the value is `weight_codes() * weight_scale()`."""
        with torch.no_grad():
            return self.weight_quantization.codes(self._current_weight()).to(torch.int16)

    def weight_scale(self) -> Tensor:
        """Return what one weight code is worth: 0-dim, or [C_out, 1, …] with a scale per channel."""
        return self.weight_quantization.scale(self._current_weight())


class LowBit(WeightQuantized):
    """Mixin of layers with quantized weight, input and (optionally) gradient: `QLinear`, `QConv2d` and their like."""

    activation: QActivation
    gradient_quantization: Quantization | None
    exact: bool

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "input_quantization":
            # nn.Module would take it as a new submodule, beside the one that is in use.
            raise AttributeError("input_quantization is read-only; set layer.activation.activation_function")
        super().__setattr__(name, value)

    @property
    def input_quantization(self) -> Quantization:
        """The quantizer of the input."""
        return self.activation.activation_function

    @property
    def gradient_cancellation_threshold(self) -> float:
        """The threshold of `activation`."""
        return self.activation.gradient_cancellation_threshold

    def _set_quantization(
        self,
        *,
        input_quantization: Quantization | str | None,
        weight_quantization: Quantization | str | None,
        gradient_quantization: Quantization | None,
        gradient_cancellation_threshold: float | None,
        exact: bool,
    ) -> None:
        if gradient_quantization is not None and not isinstance(gradient_quantization, Quantization):
            raise TypeError(
                "gradient_quantization must be None or a Quantization instance such as GradientDoReFa(6), "
                f"got {gradient_quantization!r}"
            )
        self.activation = QActivation(
            resolve_quantization(input_quantization, config.input_quantization, "input_quantization"),
            gradient_cancellation_threshold,
        )
        self._set_weight_quantization(weight_quantization)
        self._freeze_with_weight(self.activation)
        self.gradient_quantization = gradient_quantization
        self.exact = exact
        self._max_codes()

    def _inputs_per_output(self) -> int:
        return math.prod(self.weight.shape[1:])

    def _largest_input_code(self, grid: int) -> int:
        """Largest absolute code that the product sees, for an input quantizer whose codes go up to `grid`."""
        return grid

    def _max_codes(self) -> tuple[int, int] | None:
        """Largest codes of input and weight, or None where the layer computes on values instead.

        That is so with exact=False, and where a quantizer has no fixed grid (32 bits, Identity, a custom one).
        """
        input_grid, weight_grid = self.input_quantization.max_code, self.weight_quantization.max_code
        if not self.exact or input_grid is None or weight_grid is None:
            return None
        max_codes = self._largest_input_code(input_grid), weight_grid
        digit_base(self._inputs_per_output(), max_codes[1], max_codes[0])
        return max_codes

    def _codes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return input codes, weight codes, input scale and weight scale, as `scaled_linear` takes them."""
        weight = self._quantizer_weight()
        c = self.weight_quantization.codes(weight)
        q = self.input_quantization.codes(self.activation.cancel_gradient(x)).to(c.dtype)
        return q, c, self.input_quantization.scale(x).to(c.dtype), self.weight_quantization.scale(weight)

    def _quantize_gradient(self, y: Tensor) -> Tensor:
        if self.gradient_quantization is None:
            return y
        quantized: Tensor = self.gradient_quantization(y)
        return quantized
