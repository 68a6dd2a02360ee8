"""How many bits a model gets, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .quantizations import GradientDoReFa, InputDoReFa, Quantization, WeightDoReFa
from .quantizations.bits import FLOAT_BITS, check_bits

#: What the first or last layer gets: nothing, 8-bit weights and inputs, or the bits of all the others.
EndLayer = Literal["float", "same"] | Literal[8]


@dataclass(frozen=True)
class DoReFaConfig:
    """Bits of weights, activations and gradients (DoReFa-Net, variant "paper"), and what the ends of the net get.

    Args:
        weight_bits, activation_bits, gradient_bits: 1…8, or 32 for none. Activations with 32 bits become ReLU.
        first, last: "float" (as the paper), 8 (8-bit weights and inputs, float gradients) or "same".
        first_layers, last_layers: names of the layers that count as first and last. Empty: the first and the last
            convertible layer in the order of `model.named_modules()`, which is the order of registration, not of calls.
        gradient_noise: False leaves the noise out of the gradient quantizer.
        exact: False lets autocast lower the precision of the low-bit layers; see QLinear.
        absorb_relu: True replaces an nn.ReLU by AbsorbedReLU where it stands in an nn.Sequential in front of a low-bit
            layer (max-pooling, dropout, flatten and identity may stand between), which clips to [0, 1] anyway. It saves
            time and memory. Do it only if nothing else reads that ReLU's output.

    Raises:
        ValueError, TypeError: bits, first or last outside their sets, names that are no tuple of strings.
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
    def from_dict(cls, fields: Mapping[str, Any]) -> DoReFaConfig:
        """Return the config of `to_dict`; ValueError for a key that is no field."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise ValueError(f"unknown keys {', '.join(unknown)}; DoReFaConfig has {', '.join(known)}")
        values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        return cls(**values)

    def quantizers(self, place: Literal["first", "inner", "last"]) -> dict[str, Quantization | None] | None:
        """Return new quantizers for a layer at that place, by the layers' argument names; None where it stays float."""
        policies: dict[str, EndLayer] = {"first": self.first, "inner": "same", "last": self.last}
        policy = policies[place]
        if policy == "float":
            return None
        weight, activation, gradient = self.weight_bits, self.activation_bits, self.gradient_bits
        if policy == 8:
            weight, activation, gradient = 8, 8, FLOAT_BITS
        if weight == activation == gradient == FLOAT_BITS:
            return None
        return {
            "weight_quantization": WeightDoReFa(weight, variant="paper"),
            "input_quantization": InputDoReFa(activation, variant="paper"),
            "gradient_quantization": (
                None if gradient == FLOAT_BITS else GradientDoReFa(gradient, noise=self.gradient_noise)
            ),
        }
