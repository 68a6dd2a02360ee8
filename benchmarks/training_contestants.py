"""Who is measured by training.py: sets of contestants. Imports nothing but Python, so any environment can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Comparison = Literal["kernels", "bits", "bf16", "methods"]


@dataclass(frozen=True)
class Contestant:
    """How a net is trained.

    Attributes:
        bits: of weights, activations and gradients; None trains the float net.
        bf16: under autocast to bfloat16.
        compiled: by torch.compile.
        fused: by `bitorch.fuse_training_`.
        config: other fields of LowBitConfig.
    """

    bits: tuple[int, int, int] | None = None
    bf16: bool = False
    compiled: bool = False
    fused: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_kernels(self) -> bool:
        """Whether there is nothing to measure without the runtime's integer kernels."""
        return self.config.get("kernels") == "integer"


#: What ratios are to.
FLOAT, BF16 = "float32", "bf16"
COMPILED = "float32, compiled"
THEIRS = "BITorch 0.4.1, W1A2"
#: Bits whose steps are compared on floats and on integers.
BITS = ((1, 2, 6), (2, 4, 8))

_FLOATS = {FLOAT: Contestant()}
_BF16 = {BF16: Contestant(bf16=True)}


def bits_name(bits: tuple[int, int, int]) -> str:
    return "W{}A{}G{}".format(*bits)


def _kernels() -> Iterator[tuple[str, Contestant]]:
    for bits in BITS:
        name = bits_name(bits)
        yield f"{name}, simulated", Contestant(bits, config={"kernels": "float"})
        yield f"{name}, integer", Contestant(bits, config={"kernels": "integer"})
        yield f"{name}, integer, fused", Contestant(bits, fused=True, config={"kernels": "integer"})


SETS: Mapping[Comparison, Mapping[str, Contestant]] = {
    "kernels": {**_FLOATS, **_BF16, COMPILED: Contestant(compiled=True), **dict(_kernels())},
    "bits": {
        **_FLOATS,
        "W1A2G6": Contestant((1, 2, 6)),
        "W1A2G6, ReLUs kept": Contestant((1, 2, 6), config={"absorb_relu": False}),
        "W1A2": Contestant((1, 2, 32)),
    },
    "bf16": {
        **_FLOATS,
        **_BF16,
        "W1A2G6, bf16": Contestant((1, 2, 6), bf16=True),
        "W1A2G6, bf16, exact=False": Contestant((1, 2, 6), bf16=True, config={"exact": False}),
    },
    # Every method, at the bits that it is for.
    "methods": {
        **_FLOATS,
        "DoReFa W2A2": Contestant((2, 2, 32)),
        "DoReFa W1A2 per channel": Contestant((1, 2, 32), config={"weight_scale": "channel"}),
        "calibrated W2A2": Contestant((2, 2, 32), config={"range": "calibrated"}),
        "PACT W2A2": Contestant((2, 2, 32), config={"range": "learned", "learned_by": "pact"}),
        "LSQ W2A2": Contestant((2, 2, 32), config={"range": "learned"}),
        "LSQ W4A4 per channel": Contestant((4, 4, 32), config={"range": "learned", "weight_scale": "channel"}),
        "LSQ+ W4A4": Contestant((4, 4, 32), config={"range": "learned", "learned_by": "lsq+"}),
        "SEQ W2A2": Contestant((2, 2, 32), config={"range": "learned", "weights": "seq"}),
        "TWN A2": Contestant((2, 2, 32), config={"weights": "twn"}),
        "absmean A2": Contestant((2, 2, 32), config={"weights": "absmean"}),
        "TTQ A2": Contestant((2, 2, 32), config={"weights": "ttq"}),
        "ApproxSign W1A1": Contestant((1, 1, 32), config={"sign": "approxsign"}),
        "RSign W1A1": Contestant((1, 1, 32), config={"sign": "rsign"}),
        "DoReFa W1A2G4": Contestant((1, 2, 4)),
        "signed gradients W1A2G4": Contestant((1, 2, 4), config={"gradients": "signed"}),
        "LUQ W1A2G4": Contestant((1, 2, 4), config={"gradients": "luq"}),
    },
}


def contestant(name: str) -> Contestant:
    """Return the contestant of that name; ValueError where there is none."""
    for members in SETS.values():
        if name in members:
            return members[name]
    raise ValueError(f"no contestant is called {name!r}")


def names(comparison: Comparison, *, has_kernels: bool, compiled: bool) -> list[str]:
    """Return who takes part, float32 first.

    Args:
        has_kernels: whether the runtime's integer kernels run here; without them those that need them are left out.
        compiled: whether torch.compile takes part, which takes minutes to compile.
    """
    return [
        name
        for name, each in SETS[comparison].items()
        if (has_kernels or not each.needs_kernels) and (compiled or not each.compiled)
    ]
