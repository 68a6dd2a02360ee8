"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What can be found.
What = Literal[
    "non-finite input",
    "non-finite parameter",
    "non-finite output",
    "non-finite loss",
    "non-finite gradient",
    "uncalibrated range",
    "collapsed range",
    "saturated activations",
    "dead activations",
    "activations at one level",
    "ReLU before a sign",
    "negative inputs are lost",
    "no normalization",
    "weights at one level",
    "zero weights are lost",
    "step does not fit the weight",
    "zero gradient",
]


@dataclass(frozen=True)
class Finding:
    """One problem of one layer.

    Attributes:
        layer: its name; "" for the model as a whole, its inputs or its loss.
        what: the kind of problem.
        figure: the number behind it, such as the share of inputs above the range; `detail` says what it counts.
        detail: the figure in words.
        remedy: what to do.
        is_note: worth knowing, and no problem if it is meant so.
    """

    layer: str
    what: What
    figure: float
    detail: str
    remedy: str
    is_note: bool = False

    def __str__(self) -> str:
        note = " (a note)" if self.is_note else ""
        layer = self.layer if self.layer else "(model)"
        return f"{layer}: {self.what}{note}: {self.detail}\n    → {self.remedy}"


@dataclass(frozen=True)
class Check:
    """What `bitorch.check` found. True if there is no problem; notes do not count. Printing it shows the findings.

    Attributes:
        findings: in the order of the layers.
        layers: number of layers and activations with a quantizer that the batch went through.
        loss: which loss it was, in words; "" where something was found before the batch went through.
    """

    findings: tuple[Finding, ...]
    layers: int
    loss: str = ""

    def __bool__(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are no notes."""
        return tuple(finding for finding in self.findings if not finding.is_note)

    def __str__(self) -> str:
        count = len(self.problems)
        problems = "no problem" if count == 0 else "1 problem" if count == 1 else f"{count} problems"
        head = f"{problems} in {self.layers} quantized {'layer' if self.layers == 1 else 'layers'}"
        if self.loss:
            head += f"; the loss is {self.loss}"
        return "\n".join([head, *(str(finding) for finding in self.findings)])
