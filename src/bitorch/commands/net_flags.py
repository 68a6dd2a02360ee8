"""The options that say how the net of a checkpoint is built, where the checkpoint does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..known_names import wrong_model

if TYPE_CHECKING:
    from ..conversion.layer_configs import Configs


@dataclass(frozen=True)
class NetFlags:
    """How the net of a checkpoint is built: for one of a Trainer of your own, or where a file has changed or moved."""

    model: str | None = None
    """What makes the net: FILE.py:NAME or PACKAGE.MODULE:NAME of your own, or an architecture, as in bitorch train.
    For a checkpoint that does not say it, or whose file has changed or moved."""
    bits: tuple[int, int, int] | None = None
    """Bits of weights, activations and gradients, for a checkpoint that does not say them."""
    rules: Path | None = None
    """Which layers got what, as in bitorch train, for a checkpoint that does not say it."""

    def check(self) -> None:
        """Raise a ValueError for a name that is none of a model's, and where two options say the same."""
        if self.model is not None and (problem := wrong_model(self.model)):
            raise ValueError(f"--{problem}")
        if self.bits is not None and self.rules is not None:
            raise ValueError("--rules say what each layer got, and so do --bits; leave one of them out")

    def refuse(self, why: str) -> None:
        """Raise a ValueError that says why none of the options counts, if one is given."""
        given = [f"--{name}" for name in ("model", "bits", "rules") if getattr(self, name) is not None]
        if given:
            raise ValueError(f"{why}, so leave out {', '.join(given)}")

    @property
    def config(self) -> Configs | None:
        """The bits or rules as `quantize_` takes them, None without any."""
        if self.rules is not None:
            from ..conversion.rules_file import load_rules

            return load_rules(self.rules)
        if self.bits is None:
            return None
        from ..config.low_bit_config import LowBitConfig

        return LowBitConfig(*self.bits)
