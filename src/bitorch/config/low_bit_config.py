"""How many bits a model gets, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from torch import nn

from ..layers.integer_kernels import Kernels
from ..quantizations import GradientQuantization, Identity, InputLSQ, Quantization
from ..quantizations.bits import FLOAT_BITS, check_bits
from ..quantizations.range_fit import CalibrationMethod, check_calibration
from ..quantizations.spelling import Quantizers, named, spelled
from ..quantizations.weight_groups import check_group_size
from .prototypes import agreed_bits, check_prototype, for_end, is_sign, key_of
from .quantizer_choice import (
    IN_GROUPS,
    Gradients,
    LearnedBy,
    Range,
    Scale,
    SignGradient,
    Weights,
    activation_quantizer,
    attention_quantizer,
    gradient_quantizer,
    weight_quantizer,
)

#: What the first or last layer gets: nothing, 8-bit weights and inputs, or the bits of all the others.
EndLayer = Literal["float", "same"] | Literal[8]


#: What an activation prototype says itself.
_SAID_BY_ACTIVATIONS = ("range", "learned_by", "sign", "calibration", "percentile")


@dataclass(frozen=True, eq=False)
class LowBitConfig:
    """Bits of weights, activations and gradients, how each is quantized, and what the ends of the net get.

    The defaults are DoReFa-Net (variant "paper"); every other choice has a name, or is a quantizer that is a prototype:
    each layer gets a new one with its arguments, `Quantization.for_layer`. Configs are equal if their prototypes are of
    the same classes and arguments.

    Args:
        weight_bits, activation_bits, gradient_bits: 1…8, or 32 for none. Activations with 32 bits become ReLU where the
            quantizer clips negative numbers anyway ("unit", PACT), and stay as they are with the other ranges, and
            beside weights="absmax" or a group size (weight-only). A prototype says its own, so they can be left out
            beside it.
        range: where activations are clipped: "unit" at 0 and 1 (the paper), "calibrated" where a few batches have shown
            (`bitorch.calibrate`), "learned" from there on by gradients, "dynamic" nowhere: each row of a linear layer's
            input, a token, has a step of its own, found while the net runs (BitNet b1.58), from 2 bits on.
        learned_by: how a learned range learns: "lsq" (a step), "lsq+" (a step and an offset, for inputs that are
            negative in part, as behind SiLU or GELU) or "pact" (the upper end).
        weights: "dorefa"; "lsq" (a learned step); "seq" (ParetoQ's balanced grid, a learned clipping value); "absmax"
            (up to the largest |w|); "twn", "absmean" (BitNet b1.58) or "ttq" (ternary, weight_bits must be 2). None:
            "lsq" beside a range learned by "lsq" or "lsq+", or InputLSQ activations, else "dorefa". Or a prototype:
            `WeightLSQ(2)`; with `channels`, whatever their number, it has a step for each of the layer's.
        weight_scale: "layer", or "channel" for statistics or steps of each output channel (BWN and XNOR-Net at 1 bit).
        group_size: None, or how many inputs of an output channel share a scale, such as 32, 64 or 128; for weights
            "absmax", "absmean" and "twn". It must divide the inputs of every layer that gets such weights.
        scale: "free", or "pow2" for steps that are powers of two, which scale exactly and are a shift in hardware:
            weights learn theirs by "lsq" then (the default), and activations by a range learned by "lsq" or "lsq+"; at
            1 bit with range "unit" or a sign theirs is 1 anyway. WeightPowerOfTwo takes its scale from the weight.
        sign: None, or ±1 activations in place of 0 and 1, with the gradient of "sign", "approxsign" or "rsign" (a
            learned shift per channel); activation_bits must be 1, and range "unit".
        gradients: "dorefa" (the paper), "signed" (a grid with a zero) or "luq" (powers of two); the last two take 2
            bits or more. Or a prototype: `GradientDoReFa(6)`.
        activations: None, or a prototype in place of range, learned_by, sign, calibration and percentile:
            `InputLSQ(2)`.
        pad_value: what low-bit convolutions fill borders with. 0 is what the float layer did: for ±1 activations a zero
            term, which is no code, and exact as well. −1 and 1 are for ±1 activations, −1 as BITorch has it. Other
            activations, 8-bit ends among them, always have 0, which is one of their levels.
        attention_bits: of queries, keys, probabilities and values in attention, whose two products are then computed on
            codes; 32 for none. Queries, keys and values have signs: at 1 bit they are ±1, with more their range is
            calibrated or learned (also beside range="unit" and "dynamic"); probabilities have the range that
            activations have, calibrated beside "dynamic".
        calibration, percentile: how calibration finds a range: the least squared error ("mse"), or the one that holds
            this share of the inputs, in percent ("percentile").
        first, last: "float" (as the paper), 8 (8-bit weights and inputs, float gradients) or "same". Prototypes whose
            bits are part of what they are, such as Sign, leave 8-bit ends to DoReFa.
        first_layers, last_layers: names of the layers that count as first and last. Empty: the first and the last
            convertible layer in the order of `model.named_modules()`, which is the order of registration, not of calls.
        gradient_noise: False leaves the noise out of the gradient quantizer.
        exact: False lets autocast lower the precision of the low-bit layers; see QLinear.
        kernels: what layers compute with: "auto" (integers by bitorch_runtime's kernels where layer, quantizers and CPU
            allow it, else floats), "float", or "integer", an error where something is in the way; see QConv2d.
        absorb_relu: True replaces an nn.ReLU by AbsorbedReLU where it stands in an nn.Sequential in front of a low-bit
            layer (max-pooling, dropout, flatten and identity may stand between), which clips to [0, 1] anyway. It saves
            time and memory. Do it only if nothing else reads that ReLU's output.

    Raises:
        ValueError, TypeError: bits, first or last outside their sets, names that are no tuple of strings, methods
            that do not go together, bits that are not those of a prototype, or are missing without one.
    """

    weight_bits: int = cast(int, None)
    activation_bits: int = cast(int, None)
    gradient_bits: int = FLOAT_BITS
    first: EndLayer = "float"
    last: EndLayer = "float"
    first_layers: tuple[str, ...] = ()
    last_layers: tuple[str, ...] = ()
    gradient_noise: bool = True
    exact: bool = True
    absorb_relu: bool = False
    range: Range = "unit"
    learned_by: LearnedBy = "lsq"
    weights: Weights | Quantization | None = None
    weight_scale: Literal["layer", "channel"] = "layer"
    sign: SignGradient | None = None
    gradients: Gradients | GradientQuantization = "dorefa"
    calibration: CalibrationMethod = "mse"
    percentile: float = 99.9
    pad_value: float = 0.0
    activations: Quantization | None = None
    attention_bits: int = FLOAT_BITS
    scale: Scale = "free"
    kernels: Kernels = "auto"
    group_size: int | None = None

    def __post_init__(self) -> None:
        self._agree_on_bits()
        for field in ("weight_bits", "activation_bits", "gradient_bits", "attention_bits"):
            object.__setattr__(self, field, check_bits(getattr(self, field), field))
        for field in ("first", "last"):
            value = getattr(self, field)
            if isinstance(value, bool) or value not in ("float", 8, "same"):
                raise ValueError(f'{field} must be "float", 8 or "same", got {value!r}')
        for field in ("first_layers", "last_layers"):
            names = getattr(self, field)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"{field} must be a tuple of module names, got {names!r}")
            object.__setattr__(self, field, tuple(names))
        self._check_methods()

    def _agree_on_bits(self) -> None:
        """Check the prototypes, and take their bits."""
        for field in ("weights", "activations", "gradients"):
            value = getattr(self, field)
            if isinstance(value, Quantization | type) or (field == "activations" and value is not None):
                check_prototype(value, field)
        gradients = self._prototype("gradients")
        said = None if gradients is not None and self.gradient_bits == FLOAT_BITS else self.gradient_bits
        bits = {
            "weight_bits": agreed_bits(self.weight_bits, self._prototype("weights"), "weight_bits", "weights"),
            "activation_bits": agreed_bits(self.activation_bits, self.activations, "activation_bits", "activations"),
            "gradient_bits": agreed_bits(said, gradients, "gradient_bits", "gradients"),
        }
        for field, number in bits.items():
            object.__setattr__(self, field, number)

    def _prototype(self, field: str) -> Quantization | None:
        value = getattr(self, field)
        return value if isinstance(value, Quantization) else None

    def _check_methods(self) -> None:
        choices = {"range": get_args(Range), "learned_by": get_args(LearnedBy), "weights": (None, *get_args(Weights)),
                   "weight_scale": ("layer", "channel"), "sign": (None, *get_args(SignGradient)),
                   "gradients": get_args(Gradients), "scale": get_args(Scale),
                   "kernels": get_args(Kernels)}  # fmt: skip
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed and self._prototype(field) is None:
                more = ", or a quantizer such as WeightLSQ(2)" if field == "weights" else ""
                raise ValueError(f"{field} must be one of {', '.join(map(repr, allowed))}{more}, got {value!r}")
        self._check_prototypes()
        self._check_names()
        self._check_groups()
        if self.scale == "pow2":
            self._check_powers()
        self._check_pad_value()

    def _check_prototypes(self) -> None:
        """Raise a ValueError for choices by name that a prototype makes."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        said = [name for name in _SAID_BY_ACTIVATIONS if getattr(self, name) != defaults[name]]
        if self.activations is not None and said:
            raise ValueError(
                f"activations={self.activations} says how activations are quantized, and so does {', '.join(said)}; "
                "leave one of them out"
            )
        if self._prototype("gradients") is not None and not self.gradient_noise:
            raise ValueError("gradient_noise=False is for methods by name; give the quantizer noise=False")
        if self._prototype("weights") is not None and self.weight_scale != "layer":
            raise ValueError(
                f"weight_scale={self.weight_scale!r} is for methods by name; weights={self.weights} says itself if "
                "it has something for each channel, as WeightLSQ(2, channels=1) and WeightTWN(per_channel=True) do"
            )

    def _check_names(self) -> None:
        if self.learned_by != "lsq" and self.range != "learned":
            raise ValueError(f'learned_by={self.learned_by!r} needs range="learned", got range={self.range!r}')
        check_calibration(self.calibration, self.percentile)
        if self.weights in ("twn", "absmean", "ttq") and self.weight_bits not in (2, FLOAT_BITS):
            raise ValueError(
                f"weights={self.weights!r} are ternary and take 2 bits, got weight_bits={self.weight_bits}"
            )
        if self.gradients in ("signed", "luq") and self.gradient_bits == 1:
            raise ValueError(f"gradients={self.gradients!r} take 2 bits or more, got gradient_bits=1")
        if self.weights == "ttq" and self.weight_scale == "channel":
            raise ValueError(
                'weights="ttq" has its two scales for the layer; use weight_scale="layer", or weights="twn"'
            )
        if self.range == "dynamic" and self.activation_bits == 1:
            raise ValueError(
                'range="dynamic" takes activation_bits of 2 to 8, or 32 for none, got 1, which has no level but 0; use '
                'sign="sign" with range="unit"'
            )
        if self.sign is not None and (self.activation_bits != 1 or self.range != "unit"):
            raise ValueError(
                f'sign={self.sign!r} means activations of ±1: it needs activation_bits=1 and range="unit", got '
                f"activation_bits={self.activation_bits} and range={self.range!r}"
            )

    def _check_groups(self) -> None:
        if self.group_size is None:
            return
        object.__setattr__(self, "group_size", check_group_size(self.group_size))
        if isinstance(self.weights, Quantization):
            raise ValueError(
                f"group_size={self.group_size} is for methods by name; weights={self.weights} says itself if it has "
                "groups, as WeightAbsMax(4, group_size=64) does"
            )
        if self.weights not in IN_GROUPS:
            raise ValueError(
                f"group_size={self.group_size} needs weights={' or '.join(map(repr, IN_GROUPS))}, got "
                f"weights={self.weights!r}"
            )
        if self.weight_scale == "channel":
            raise ValueError(
                f'group_size={self.group_size} gives each group of inputs a scale, and weight_scale="channel" each '
                "channel; leave one of them out"
            )

    def _check_powers(self) -> None:
        """Raise a ValueError for methods whose scales are no powers of two."""
        if self.weight_bits != FLOAT_BITS and self.weight_method != "lsq":
            raise ValueError(
                f'scale="pow2" is for weights="lsq", got weights={self.weights!r}; a prototype says it itself, as '
                "WeightLSQ(2, power_of_two=True) and WeightPowerOfTwo(2) do"
            )
        if self.activations is not None:
            raise ValueError(
                f'scale="pow2" is for methods by name, got activations={self.activations}; a prototype says it itself, '
                "as InputLSQ(2, power_of_two=True) does"
            )
        if self.range == "learned" and self.learned_by != "pact":
            return
        is_one = self.range == "unit" and self.activation_bits in (1, FLOAT_BITS)
        if not is_one or 8 in (self.first, self.last) or self.attention_bits not in (1, FLOAT_BITS):
            raise ValueError(
                'scale="pow2" needs activations whose step may be a power of two: range="learned" by "lsq" or "lsq+", '
                f"or 1 bit everywhere; got activation_bits={self.activation_bits}, range={self.range!r}, "
                f"learned_by={self.learned_by!r}, first={self.first!r}, last={self.last!r}, "
                f"attention_bits={self.attention_bits}"
            )

    def _check_pad_value(self) -> None:
        value = self.pad_value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"pad_value must be -1, 0 or 1, got {value!r}")
        if value not in (-1, 0, 1):
            raise ValueError(f"pad_value must be 0 (zero padding, as the float layer has it), -1 or 1, got {value}")
        if value != 0 and self.sign is None and not is_sign(self.activations):
            raise ValueError(
                f"pad_value={value:g} is for activations of ±1 and needs sign=…; others have a level 0 and pad with it"
            )
        object.__setattr__(self, "pad_value", float(value) + 0.0)  # -0.0 becomes 0.0

    @property
    def weight_method(self) -> Weights | Quantization:
        """What `weights` says, or stands for."""
        if self.weights is not None:
            return self.weights
        is_learned = self.range == "learned" and self.learned_by != "pact"
        has_steps = is_learned or self.scale == "pow2" or isinstance(self.activations, InputLSQ)
        return "lsq" if has_steps else "dorefa"

    @property
    def _is_weight_only(self) -> bool:
        """Whether inputs with 32 bits stay as they are, whatever the range."""
        return self.activation_bits == FLOAT_BITS and (self.weights == "absmax" or self.group_size is not None)

    @property
    def _has_powers(self) -> bool:
        return self.scale == "pow2"

    @property
    def is_float(self) -> bool:
        """True if nothing is quantized: 32 bits everywhere, and no 8-bit first or last layer."""
        bits = {self.weight_bits, self.activation_bits, self.gradient_bits, self.attention_bits}
        return bits == {FLOAT_BITS} and 8 not in (self.first, self.last)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, LowBitConfig) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Hashable, ...]:
        return tuple(key_of(getattr(self, field.name)) for field in dataclasses.fields(self))

    def to_dict(self, quantizers: Quantizers = MappingProxyType({})) -> dict[str, Any]:
        """Return the fields as types that JSON has; a prototype as its name and its arguments.

        Args:
            quantizers: names of classes of your own.

        Raises:
            ValueError: a prototype whose class has no name here, or with an argument that JSON has not.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _plain(value, name, quantizers) for name, value in values.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], quantizers: Quantizers = MappingProxyType({})) -> LowBitConfig:
        """Return the config of `to_dict`; ValueError for a key that is no field, or a quantizer without a name here."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"unknown keys {', '.join(unknown)}; LowBitConfig has {', '.join(known)}")
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        for name in ("weights", "activations", "gradients"):
            if isinstance(values.get(name), Mapping):
                values[name] = named(values[name], name, None, quantizers)
        return cls(**values)

    def quantizers(
        self, place: Literal["first", "inner", "last"], layer: nn.Module
    ) -> dict[str, Quantization | None] | None:
        """Return new quantizers for a layer at that place, by the layers' argument names; None where it stays float.

        Args:
            place: of the layer in the model.
            layer: float or low-bit; its channels count where a quantizer has something for each.
        """
        policies: dict[str, EndLayer] = {"first": self.first, "inner": "same", "last": self.last}
        policy = policies[place]
        if policy == "float":
            return None
        if policy == "same" and self.weight_bits == self.activation_bits == self.gradient_bits == FLOAT_BITS:
            return None
        is_end = policy == 8
        return {
            "weight_quantization": self._weight_quantizer(layer, is_end=is_end),
            "input_quantization": self._activation_quantizer(layer, is_end=is_end),
            "gradient_quantization": None if is_end else self._gradient_quantizer(layer),
        }

    def attention_quantizers(self, layer: nn.Module) -> dict[str, Quantization] | None:
        """Return new quantizers for attention, by the names of QAttention's arguments; None where it stays float."""
        if self.attention_bits == FLOAT_BITS:
            return None
        found: dict[str, Quantization] = {
            f"{name}_quantization": attention_quantizer(
                self.attention_bits, self.range, self.sign, self.calibration, self.percentile, self._has_powers
            )
            for name in ("query", "key", "value")
        }
        found["probability_quantization"] = activation_quantizer(
            self.attention_bits,
            self.range,
            self.learned_by,
            None,
            layer,
            self.calibration,
            self.percentile,
            self._has_powers,
        )
        return found

    def _weight_quantizer(self, layer: nn.Module, *, is_end: bool) -> Quantization:
        method = self.weight_method
        if isinstance(method, Quantization):
            return for_end(method, layer, "weights") if is_end else method.for_layer(layer)
        if is_end and method not in ("lsq", "seq"):
            method = "dorefa"
        bits = 8 if is_end else self.weight_bits
        per_channel = self.weight_scale == "channel"
        return weight_quantizer(
            bits,
            method,
            layer,
            per_channel=per_channel,
            power_of_two=self._has_powers,
            group_size=None if is_end else self.group_size,
        )

    def _activation_quantizer(self, layer: nn.Module, *, is_end: bool) -> Quantization:
        if self.activations is not None:
            return for_end(self.activations, layer, "activations") if is_end else self.activations.for_layer(layer)
        if self._is_weight_only and not is_end:
            return Identity()
        bits, sign = (8, None) if is_end else (self.activation_bits, self.sign)
        return activation_quantizer(
            bits, self.range, self.learned_by, sign, layer, self.calibration, self.percentile, self._has_powers
        )

    def _gradient_quantizer(self, layer: nn.Module) -> Quantization | None:
        if isinstance(self.gradients, GradientQuantization):
            return None if self.gradient_bits == FLOAT_BITS else self.gradients.for_layer(layer)
        return gradient_quantizer(self.gradient_bits, self.gradients, noise=self.gradient_noise)


def _plain(value: object, field: str, quantizers: Quantizers) -> object:
    if isinstance(value, Quantization):
        return spelled(value, field, quantizers)
    return list(value) if isinstance(value, tuple) else value


#: The name that this class had, when DoReFa-Net was all it could say.
DoReFaConfig = LowBitConfig
