"""How many bits a model gets, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS, check_bits
from ..quantizations.range_fit import CalibrationMethod, check_calibration
from .quantizer_choice import (
    Gradients,
    LearnedBy,
    Range,
    SignGradient,
    Weights,
    activation_quantizer,
    gradient_quantizer,
    weight_quantizer,
)

#: What the first or last layer gets: nothing, 8-bit weights and inputs, or the bits of all the others.
EndLayer = Literal["float", "same"] | Literal[8]


@dataclass(frozen=True)
class LowBitConfig:
    """Bits of weights, activations and gradients, how each is quantized, and what the ends of the net get.

    The defaults are DoReFa-Net (variant "paper"); every other choice has a name.

    Args:
        weight_bits, activation_bits, gradient_bits: 1…8, or 32 for none. Activations with 32 bits become ReLU where the
            quantizer clips negative numbers anyway ("unit", PACT), and stay as they are with the other ranges.
        range: where activations are clipped: "unit" at 0 and 1 (the paper), "calibrated" where a few batches have shown
            (`bitorch.calibrate`), "learned" from there on by gradients.
        learned_by: how a learned range learns: "lsq" (a step), "lsq+" (a step and an offset, for inputs that are
            negative in part, as behind SiLU or GELU) or "pact" (the upper end).
        weights: "dorefa"; "lsq" (a learned step); "twn" or "ttq" (ternary, weight_bits must be 2). None: "lsq" beside a
            range learned by "lsq" or "lsq+", else "dorefa".
        weight_scale: "layer", or "channel" for statistics or steps of each output channel (BWN and XNOR-Net at 1 bit).
        sign: None, or ±1 activations in place of 0 and 1, with the gradient of "sign", "approxsign" or "rsign" (a
            learned shift per channel); activation_bits must be 1, and range "unit".
        gradients: "dorefa" (the paper), "signed" (a grid with a zero) or "luq" (powers of two); the last two take 2
            bits or more.
        pad_value: what low-bit convolutions fill borders with. 0 is what the float layer did: for ±1 activations a zero
            term, which is no code, and exact as well. −1 and 1 are for ±1 activations, −1 as BITorch has it. Other
            activations, 8-bit ends among them, always have 0, which is one of their levels.
        calibration, percentile: how calibration finds a range: the least squared error ("mse"), or the one that holds
            this share of the inputs, in percent ("percentile").
        first, last: "float" (as the paper), 8 (8-bit weights and inputs, float gradients) or "same".
        first_layers, last_layers: names of the layers that count as first and last. Empty: the first and the last
            convertible layer in the order of `model.named_modules()`, which is the order of registration, not of calls.
        gradient_noise: False leaves the noise out of the gradient quantizer.
        exact: False lets autocast lower the precision of the low-bit layers; see QLinear.
        absorb_relu: True replaces an nn.ReLU by AbsorbedReLU where it stands in an nn.Sequential in front of a low-bit
            layer (max-pooling, dropout, flatten and identity may stand between), which clips to [0, 1] anyway. It saves
            time and memory. Do it only if nothing else reads that ReLU's output.

    Raises:
        ValueError, TypeError: bits, first or last outside their sets, names that are no tuple of strings, methods
            that do not go together.
    """

    weight_bits: int
    activation_bits: int
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
    weights: Weights | None = None
    weight_scale: Literal["layer", "channel"] = "layer"
    sign: SignGradient | None = None
    gradients: Gradients = "dorefa"
    calibration: CalibrationMethod = "mse"
    percentile: float = 99.9
    pad_value: float = 0.0

    def __post_init__(self) -> None:
        for field in ("weight_bits", "activation_bits", "gradient_bits"):
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

    def _check_methods(self) -> None:
        choices = {"range": get_args(Range), "learned_by": get_args(LearnedBy), "weights": (None, *get_args(Weights)),
                   "weight_scale": ("layer", "channel"), "sign": (None, *get_args(SignGradient)),
                   "gradients": get_args(Gradients)}  # fmt: skip
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field} must be one of {', '.join(map(repr, allowed))}, got {getattr(self, field)!r}"
                )
        if self.learned_by != "lsq" and self.range != "learned":
            raise ValueError(f'learned_by={self.learned_by!r} needs range="learned", got range={self.range!r}')
        check_calibration(self.calibration, self.percentile)
        if self.weights in ("twn", "ttq") and self.weight_bits not in (2, FLOAT_BITS):
            raise ValueError(
                f"weights={self.weights!r} are ternary and take 2 bits, got weight_bits={self.weight_bits}"
            )
        if self.gradients != "dorefa" and self.gradient_bits == 1:
            raise ValueError(f"gradients={self.gradients!r} take 2 bits or more, got gradient_bits=1")
        if self.weights == "ttq" and self.weight_scale == "channel":
            raise ValueError(
                'weights="ttq" has its two scales for the layer; use weight_scale="layer", or weights="twn"'
            )
        if self.sign is not None and (self.activation_bits != 1 or self.range != "unit"):
            raise ValueError(
                f'sign={self.sign!r} means activations of ±1: it needs activation_bits=1 and range="unit", got '
                f"activation_bits={self.activation_bits} and range={self.range!r}"
            )

        self._check_pad_value()

    def _check_pad_value(self) -> None:
        value = self.pad_value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"pad_value must be -1, 0 or 1, got {value!r}")
        if value not in (-1, 0, 1):
            raise ValueError(f"pad_value must be 0 (zero padding, as the float layer has it), -1 or 1, got {value}")
        if value != 0 and self.sign is None:
            raise ValueError(
                f"pad_value={value:g} is for activations of ±1 and needs sign=…; others have a level 0 and pad with it"
            )
        object.__setattr__(self, "pad_value", float(value) + 0.0)  # -0.0 becomes 0.0

    @property
    def weight_method(self) -> Weights:
        """What `weights` says, or stands for."""
        if self.weights is not None:
            return self.weights
        return "lsq" if self.range == "learned" and self.learned_by != "pact" else "dorefa"

    @property
    def is_float(self) -> bool:
        """True if nothing is quantized: 32 bits everywhere, and no 8-bit first or last layer."""
        bits = {self.weight_bits, self.activation_bits, self.gradient_bits}
        return bits == {FLOAT_BITS} and 8 not in (self.first, self.last)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as types that JSON has."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LowBitConfig:
        """Return the config of `to_dict`; ValueError for a key that is no field."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"unknown keys {', '.join(unknown)}; LowBitConfig has {', '.join(known)}")
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
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
        weight, activation, gradient = self.weight_bits, self.activation_bits, self.gradient_bits
        method, sign = self.weight_method, self.sign
        if policy == 8:
            weight, activation, gradient, sign = 8, 8, FLOAT_BITS, None
            method = "lsq" if method == "lsq" else "dorefa"
        if weight == activation == gradient == FLOAT_BITS:
            return None
        calibration = (self.calibration, self.percentile)
        return {
            "weight_quantization": weight_quantizer(weight, method, layer, per_channel=self.weight_scale == "channel"),
            "input_quantization": activation_quantizer(
                activation, self.range, self.learned_by, sign, layer, *calibration
            ),
            "gradient_quantization": gradient_quantizer(gradient, self.gradients, noise=self.gradient_noise),
        }


#: The name that this class had, when DoReFa-Net was all it could say.
DoReFaConfig = LowBitConfig
