"""Which low-bit layers of a model are evaluated on packed weights, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...text_table import some_names


@dataclass(frozen=True)
class EvaluationForm:
    """What a low-bit layer computes with in evaluation: `why` says what keeps it from packed weights, "" if nothing."""

    name: str
    why: str


@dataclass(frozen=True)
class EvaluationForms:
    """What the low-bit layers of a model compute with in evaluation. Printing it shows a line for each reason."""

    layers: tuple[EvaluationForm, ...]

    @property
    def packed(self) -> tuple[str, ...]:
        """Names of the layers on packed weights."""
        return tuple(layer.name for layer in self.layers if not layer.why)

    @property
    def unpacked(self) -> dict[str, str]:
        """The reason of each other layer, by its name."""
        return {layer.name: layer.why for layer in self.layers if layer.why}

    def __str__(self) -> str:
        groups: dict[str, list[str]] = {}
        for layer in self.layers:
            groups.setdefault(layer.why, []).append(layer.name)
        return "\n".join(self._line(why, names) for why, names in groups.items())

    def _line(self, why: str, names: Sequence[str]) -> str:
        named = some_names(names, len(self.layers))
        return f"evaluates as it trains: {named} ({why})" if why else f"evaluates on packed weights: {named}"
