"""What each layer costs at each of its bits, read from models that were really deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..conversion.set_bits import set_bits
from ..model_copy import copied
from ..reporting.deployed import Deployed, deployed
from ..reporting.parts import parts_of
from ..running import as_it_was
from .budget import ticks
from .candidates import Pair, order, pattern, spelled
from .file_bytes import bytes_by_layer, operation_layers

if TYPE_CHECKING:
    from ..deployment.runtime.packed_model import PackedModel


@dataclass(frozen=True)
class Costs:
    """Costs in bytes, or in ticks of time.

    Attributes:
        layers: of each layer at each of its bits.
        rest: of everything else, the largest that was seen.
        uniform: of the whole model with the same bits in all layers that can have them.
        what: what bytes or milliseconds they are.
    """

    layers: Mapping[str, Mapping[Pair, int]]
    rest: int
    uniform: Mapping[Pair, int]
    what: str


class Meter:
    """Deploys copies of a model with other bits, and counts bytes or milliseconds.

    Args:
        model: stays as it is.
        image: the inputs, of batch 1.
        layers: names of those whose costs are told apart.
        unit: "bytes" or "milliseconds".
        repeats: runs for milliseconds, of which the fastest counts.
    """

    def __init__(
        self, model: nn.Module, image: Sequence[Tensor], layers: Sequence[str], unit: str, repeats: int
    ) -> None:
        self._model, self._image, self._layers = model, [x.cpu() for x in image], layers
        self._unit, self._repeats = unit, repeats
        self._how: str | None = None
        self.what = ""

    def measure(self, bits: Mapping[str, Pair]) -> tuple[dict[str, int], int]:
        """Return what each layer costs in a copy with these bits, and the whole.

        Raises:
            ValueError: milliseconds of what cannot be deployed, or a copy that deploys in another way than one before.
        """
        own = copied(self._model).to("cpu").eval()
        if bits:
            set_bits(own, [(pattern(name), pair) for name, pair in bits.items()])
        repeats = self._repeats if self._unit == "milliseconds" else 1
        with as_it_was(own):
            made = deployed(own, parts_of(own), self._image, None, repeats)
            self._check(made, bits)
            if made.packed is not None:
                return self._of_program(made.packed)
        if self._unit == "bytes":
            whole = sum(made.bytes.values()) + sum(own.bytes for own in made.rest.values())
            return {name: made.bytes[name] for name in self._layers}, whole
        whole_seconds = sum(made.seconds.values()) + sum(
            own.seconds for own in made.rest.values() if own.seconds is not None
        )
        return {name: ticks(made.seconds[name]) for name in self._layers}, ticks(whole_seconds)

    def _check(self, made: Deployed, bits: Mapping[str, Pair]) -> None:
        where = ", ".join(dict.fromkeys(map(spelled, bits.values())))
        if self._unit == "milliseconds" and made.how in ("none", "unknown"):
            why = f": {'; '.join(made.problems)}" if made.problems else ", as bitorch_runtime is not installed"
            raise ValueError(f"a budget of milliseconds needs a model that deploys{why}; use a budget of bytes")
        if self._how not in (None, made.how):
            raise ValueError(
                f"the model deploys differently with {where} ({made.how} in place of {self._how}), so costs cannot be "
                f"compared: {'; '.join(made.problems)}; leave these bits out"
            )
        self._how = made.how
        self.what = made.bytes_are if self._unit == "bytes" else "those of one image in the packed program"
        if self._unit == "milliseconds" and made.how == "partial":
            self.what = "those of one image in PyTorch with packed layers"

    def _of_program(self, packed: PackedModel) -> tuple[dict[str, int], int]:
        if self._unit == "bytes":
            return bytes_by_layer(packed, self._layers), packed.nbytes
        profile = packed.profile(*self._image, repeats=self._repeats)
        found = dict.fromkeys(self._layers, 0)
        for owner, timing in zip(operation_layers(packed, self._layers), profile, strict=True):
            if owner is not None:
                found[owner] += ticks(timing["seconds"])
        return found, ticks(profile.seconds)


def all_costs(meter: Meter, possible: Mapping[str, Sequence[Pair]]) -> Costs:
    """Measure one copy for each pair of bits, in which all layers that can have it do."""
    layers: dict[str, dict[Pair, int]] = {name: {} for name in possible}
    uniform: dict[Pair, int] = {}
    rest = 0
    for pair in sorted({pair for pairs in possible.values() for pair in pairs}, key=order):
        has = [name for name, pairs in possible.items() if pair in pairs]
        found, whole = meter.measure(dict.fromkeys(has, pair))
        for name in has:
            layers[name][pair] = found[name]
        rest = max(rest, whole - sum(found.values()))
        if len(has) == len(possible):
            uniform[pair] = whole
    return Costs(layers, rest, uniform, meter.what)
