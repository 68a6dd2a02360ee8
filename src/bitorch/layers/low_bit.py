"""What quantized layers have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..giving_way import gives_way
from ..kept import Kept
from ..quantizations import Quantization
from ..quantizations.base import as_internal
from ..quantizations.gradients import GradientQuantization, codes_are_gradients
from ..quantizations.learned_start import LearnedStart
from ..quantizations.weight_groups import GroupedWeight
from .assigning import Assigning, given_quantizer, other_name
from .config import config, resolve_quantization
from .exact import digit_base
from .input_quantizer import before_quantizer, gives_its_quantizers_values, quantizer_of
from .integer_kernels import (
    GradientForm,
    InputForm,
    Kernels,
    TrainingKernels,
    call_ways,
    check_kernels,
    gradient_form,
    static_obstacle,
    training_kernels,
)
from .kept_codes import WeightCodes, codes_and_scale
from .products import Rounding
from .qactivation import QActivation, check_threshold
from .watched import codes_behind, is_watched
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
        {
            "activation",
            "weight_quantization",
            "gradient_quantization",
            "output_quantization",
            "exact",
            "kernels",
            "_weight_codes",
            "_pad_value",
            "_is_pad_value_given",
            "_constructed_with",
        }
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


class WeightQuantized(Converted, Assigning):
    """Mixin of layers with a quantized weight: the quantizer, and the integers it stands for."""

    weight: Tensor
    weight_quantization: Quantization

    _weight_quantize = other_name("weight_quantization")

    def _set_weight_quantization(self, weight_quantization: Quantization | str | None) -> None:
        quantizer = resolve_quantization(weight_quantization, config.weight_quantization, "weight_quantization")
        self._put("weight_quantization", quantizer)
        quantizer.initialize_(self._current_weight())
        self._freeze_with_weight(quantizer)

    def _assign_weight_quantization(self, value: object) -> None:
        """Take another quantizer; one whose steps are not set gets them from the weight."""
        quantizer = given_quantizer(value, "weight_quantization")

        def check() -> None:
            self._check_quantizers()
            if not quantizer._is_set:
                quantizer.initialize_(self._current_weight())
                self._freeze_with_weight(quantizer)

        self._exchange({"weight_quantization": quantizer}, check)

    def _check_quantizers(self) -> None:
        """Raise a ValueError if the layer cannot compute with the quantizers that it has."""

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

    @gives_way
    def weight_codes(self) -> Tensor:
        """Return the integers behind the weight, as int16; the value is `weight_codes() * weight_scale()`.

        Raises:
            TypeError: the weight's quantizer has no codes, or has values that they do not stand for.
        """
        with torch.no_grad():
            return self._quantizer_with_codes("codes").codes(self._current_weight()).to(torch.int16)

    @gives_way
    def weight_scale(self) -> Tensor:
        """Return what one weight code is worth, which broadcasts against the codes; TypeError without.

        0-dim; [C_out, 1, …] with a scale per channel; of the codes' shape with one for each group of inputs.
        """
        return self._quantizer_with_codes("scale").scale(self._current_weight())

    def _quantizer_with_codes(self, wanted: str) -> Quantization:
        quantizer = self.weight_quantization
        if quantizer.exact_max_code is None and group_code(quantizer) is None:
            raise TypeError(
                f"{type(quantizer).__name__} {quantizer.why_no_codes}, so it has no {wanted}; use "
                "layer.weight_quantization(layer.weight)"
            )
        return quantizer


class Codes(NamedTuple):
    """What a layer multiplies, exactly: integers and what one is worth, as `scaled_product` and `grouped_linear` do."""

    input: Tensor
    weight: Tensor
    input_scale: Tensor
    weight_scale: Tensor
    max_codes: tuple[int, int]


class IntegerOperands(NamedTuple):
    """What integer kernels multiply: as `Codes`, but for an input that they quantize, where `form.low` is None.

    `gradient` is None where the backward pass takes floats.
    """

    input: Tensor
    weight: Tensor
    input_scale: Tensor
    weight_scale: Tensor
    max_codes: tuple[int, int]
    form: InputForm
    gradient: GradientForm | None

    def codes(self) -> Codes:
        return Codes(*self[:5])


class Values(NamedTuple):
    """What a layer multiplies where there are no codes."""

    input: Tensor
    weight: Tensor


class ReadWeight(NamedTuple):
    """A weight as it is multiplied: its codes and what one is worth, or its value and None."""

    numbers: Tensor
    scale: Tensor | None


class LowBit(WeightQuantized):
    """Mixin of layers with quantized weight, input and (optionally) gradient: `QLinear`, `QConv2d` and their like."""

    activation: nn.Module
    gradient_quantization: Quantization | None
    exact: bool
    #: Whether an output sums over the last axis of one row, so that a row's scale is a factor of it, and a group of
    #: inputs has a sum of its own.
    _sums_rows: ClassVar[bool] = False
    #: What the layer computes with: "auto" takes bitorch_runtime's integer kernels where it can.
    kernels: Kernels = "auto"

    @property
    def input_quantization(self) -> Quantization:
        """The quantizer of the input; what stands for `activation`, where that is another module."""
        return quantizer_of(self.activation)

    @input_quantization.setter
    def input_quantization(self, value: Quantization | str) -> None:
        quantizer, activation = given_quantizer(value, "input_quantization"), self.activation
        if not isinstance(activation, QActivation):
            self._assign_activation(quantizer)
            return
        before = activation.activation_function
        activation.activation_function = quantizer
        is_fine = False
        try:
            self._assign_activation(activation)
            is_fine = True
        finally:
            if not is_fine:
                activation.activation_function = before

    @property
    def gradient_cancellation_threshold(self) -> float:
        """The threshold of `activation`; 0 where that cancels no gradient."""
        activation = self.activation
        return activation.gradient_cancellation_threshold if isinstance(activation, QActivation) else 0.0

    @gradient_cancellation_threshold.setter
    def gradient_cancellation_threshold(self, value: float) -> None:
        if not isinstance(self.activation, QActivation):
            raise AttributeError(
                f"the layer's activation is a {type(self.activation).__name__}, which has no "
                "gradient_cancellation_threshold; set layer.activation = QActivation(quantizer, threshold)"
            )
        self.activation.gradient_cancellation_threshold = check_threshold(value)

    def _set_quantization(
        self,
        *,
        input_quantization: Quantization | str | None,
        weight_quantization: Quantization | str | None,
        gradient_quantization: Quantization | None,
        gradient_cancellation_threshold: float | None,
        exact: bool,
        kernels: Kernels = "auto",
    ) -> None:
        gradient = _gradient_quantizer(gradient_quantization)
        check_kernels(kernels)
        self._put("_weight_codes", Kept())
        activation = QActivation(
            resolve_quantization(input_quantization, config.input_quantization, "input_quantization"),
            gradient_cancellation_threshold,
        )
        self._put("activation", activation)
        self._set_weight_quantization(weight_quantization)
        self._freeze_with_weight(activation)
        self._put("gradient_quantization", gradient)
        self._put("exact", exact)
        self._put("kernels", kernels)
        self._check_quantizers()

    def _assign_activation(self, value: object) -> None:
        if not isinstance(value, nn.Module):
            hint = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
            raise TypeError(
                f"activation must be a module, such as a quantizer, a QActivation or nn.Identity(), got {value!r}{hint}"
            )
        self._exchange({"activation": value, **self._going_with(value)}, self._check_quantizers)

    def _going_with(self, activation: nn.Module) -> dict[str, Any]:
        """Return the attributes that another activation changes, where the user has not set them."""
        return {}

    def _assign_gradient_quantization(self, value: object) -> None:
        self._exchange({"gradient_quantization": _gradient_quantizer(value)}, self._check_quantizers)

    def _assign_exact(self, value: bool) -> None:
        self._exchange({"exact": value}, self._check_quantizers)

    def _assign_kernels(self, value: object) -> None:
        self._exchange({"kernels": check_kernels(value)}, self._check_quantizers)

    def _check_quantizers(self) -> None:
        quantizer = self.input_quantization
        if quantizer.is_by_row and not self._sums_rows:
            raise ValueError(
                f"{quantizer} has a step for each row of the last axis, and a {type(self).__name__} sums over several; "
                'use InputCalibrated or InputLSQ here (range="calibrated" or "learned")'
            )
        self._max_codes()
        if self.kernels == "integer":
            self._raise_obstacle(static_obstacle(self))

    def _raise_obstacle(self, why: str | None) -> None:
        if why is not None:
            raise ValueError(
                f'kernels="integer": this {type(self).__name__} cannot compute on integers, as {why}; kernels="auto" '
                "computes the same numbers with floats"
            )

    def _geometry_obstacle(self) -> str | None:
        """Return why the layer's product is none that the integer kernels compute, or None."""
        return f"there are no kernels for {type(self).__name__}"

    def _border_code(self, grid: int) -> int:
        """Return the code that borders are filled with; 0 where there are none."""
        return 0

    def _pixels(self, x: Tensor) -> int:
        """Return at least how many outputs of a sample share a weight, for input x."""
        return math.prod(x.shape[1:-1])

    def training_kernels(self) -> TrainingKernels:
        """Return what the layer computes with, forward and backward, and what keeps it from integers."""
        return training_kernels(self)

    def _inputs_per_output(self) -> int:
        return math.prod(self.weight.shape[1:])

    def _group_size(self) -> int | None:
        """Return how many inputs of an output share a scale of the weight, where the layer sums groups apart."""
        quantizer = self.weight_quantization
        return quantizer.group_size if self._sums_rows and isinstance(quantizer, GroupedWeight) else None

    def _largest_weight_code(self) -> int | None:
        """Return the largest absolute code of the weight; None where the layer takes its value."""
        quantizer = self.weight_quantization
        return quantizer.exact_max_code if self._group_size() is None else group_code(quantizer)

    def _largest_input_code(self, grid: int) -> int:
        """Largest absolute code that the product sees, for an input quantizer whose codes go up to `grid`."""
        return grid

    def _max_codes(self) -> tuple[int, int] | None:
        """Largest codes of input and weight, or None where the layer computes on values instead.

        That is so with exact=False, where a quantizer has no fixed grid (32 bits, Identity, a custom one) or values
        that its codes do not stand for, and where `activation` is a module that may give anything; and of a weight with
        a scale for each group of inputs, where the layer does not sum these apart.
        """
        activation = self.activation
        if not self.exact or not gives_its_quantizers_values(activation):
            return None
        input_grid, weight_grid = quantizer_of(activation).exact_max_code, self._largest_weight_code()
        if input_grid is None or weight_grid is None:
            return None
        max_codes, size = (self._largest_input_code(input_grid), weight_grid), self._group_size()
        digit_base(self._inputs_per_output() if size is None else size, max_codes[1], max_codes[0])
        return max_codes

    def _operands(self, x: Tensor, read: ReadWeight | None = None) -> Codes | Values:
        """Return what the layer multiplies: codes, or the values where it has to.

        Quantizers are called for their values, and where there are hooks that a call runs.

        Args:
            read: the weight, if it was read before, and nothing has changed or been hooked in since.
        """
        max_codes = self._max_codes()
        if read is not None:
            return self._with_weight(x, read, max_codes)
        weight = self._quantizer_weight()
        activation, of_weight = self.activation, self.weight_quantization
        if max_codes is None:
            return Values(activation(x), of_weight(weight))
        quantizer = quantizer_of(activation)
        if is_watched(activation, quantizer, of_weight):
            values = Values(activation(x), of_weight(weight))
            c = codes_behind(values.weight, of_weight, weight)
            q = codes_behind(values.input, quantizer, x)
            if c is None or q is None:
                return values
            weight_scale = of_weight.scale(weight)
        else:
            return self._with_weight(x, self._read_codes(), max_codes)
        return Codes(q.to(c.dtype), c, quantizer.scale(x).to(c.dtype), weight_scale, max_codes)

    def _integer_operands(self, x: Tensor, read: ReadWeight | None = None) -> IntegerOperands | None:
        """Return what the layer multiplies where integer kernels do it; None where floats do.

        Raises:
            ValueError: kernels="integer", and something is in the way.
        """
        if self.kernels == "float":
            return None
        ways = call_ways(self, x)
        if isinstance(ways, str):
            if self.kernels == "integer":
                self._raise_obstacle(ways)
            return None
        form, max_codes = ways
        read = self._read_codes() if read is None else read
        assert read.scale is not None  # there are codes
        gradient = gradient_form(self, ways, x)
        activation, before = quantizer_of(self.activation), before_quantizer(self.activation, x)
        if form.low is None and (isinstance(gradient, str) or read.scale.dim() > 0):
            form = InputForm(form.bits, 0, False)  # floats backward need the codes
        numbers = as_internal(before, type(activation).__name__) if form.low is None else activation.codes(before)
        scale = activation.scale(before)
        known = None if isinstance(gradient, str) else gradient
        return IntegerOperands(numbers, read.numbers, scale, read.scale, max_codes, form, known)

    def _read_weight(self) -> ReadWeight:
        """Return the weight's codes and scale, or its value where the layer computes on values."""
        if self._max_codes() is None:
            return ReadWeight(self.weight_quantization(self._quantizer_weight()), None)
        return self._read_codes()

    def _read_codes(self) -> ReadWeight:
        """Return the weight's codes and scale, where the layer computes on codes."""
        weight = self._quantizer_weight()
        return ReadWeight(*codes_and_scale(self._place_of_codes(), self.weight_quantization, weight))

    def _with_weight(self, x: Tensor, read: ReadWeight, max_codes: tuple[int, int] | None) -> Codes | Values:
        """Return what the layer multiplies, where nobody watches its quantizers."""
        activation, (c, weight_scale) = self.activation, read
        if max_codes is None or weight_scale is None:
            return Values(activation(x), c)
        quantizer = quantizer_of(activation)
        q = quantizer.codes(before_quantizer(activation, x))
        return Codes(q.to(c.dtype), c, quantizer.scale(x).to(c.dtype), weight_scale, max_codes)

    def _place_of_codes(self) -> Kept[WeightCodes] | None:
        """Return where the weight's codes are kept: in eval mode alone."""
        return None if self.training else self.__dict__.get("_weight_codes")  # a pickle of old may have none

    def train(self, mode: bool = True) -> Self:
        """Set training or eval mode, as nn.Module does; in training no codes are kept."""
        if mode:
            self._forget_codes()
        return super().train(mode)

    def _forget_codes(self) -> None:
        place = self.__dict__.get("_weight_codes")
        if place is not None:
            place.made = None

    def _is_watched(self) -> bool:
        """Say whether there are hooks on the quantizers, which are called then, although the layer needs codes only."""
        return is_watched(self.activation, self.input_quantization, self.weight_quantization)

    def _gradient_quantizer(self) -> GradientQuantization:
        quantizer = self.gradient_quantization
        assert isinstance(quantizer, GradientQuantization)  # whose codes are the kernels'
        return quantizer

    def _rounding(self) -> Rounding | None:
        """Return what makes codes of the output's gradient, for the product that takes them.

        None where there is no such quantizer, or where the gradient is what a call of it gives: with hooks, or with a
        method of somebody else's.
        """
        quantizer = self.gradient_quantization
        if quantizer is None or not codes_are_gradients(quantizer) or is_watched(quantizer):
            return None
        return quantizer.coded

    def _quantize_gradient(self, y: Tensor, *, is_sample: bool = False) -> Tensor:
        """Return y with the gradient quantizer attached by a call.

        Args:
            is_sample: whether y is one sample, without batch axis.
        """
        if self.gradient_quantization is None:
            return y
        quantized: Tensor = self.gradient_quantization(y.unsqueeze(0) if is_sample else y)
        return quantized.squeeze(0) if is_sample else quantized


def group_code(quantizer: Quantization) -> int | None:
    """Return the largest absolute code of a weight in groups of inputs; None of any other."""
    return quantizer.exact_group_code if isinstance(quantizer, GroupedWeight) else None


def _gradient_quantizer(value: object) -> Quantization | None:
    if value is not None and not isinstance(value, Quantization):
        raise TypeError(
            f"gradient_quantization must be None or a Quantization instance such as GradientDoReFa(6), got {value!r}"
        )
    return value
