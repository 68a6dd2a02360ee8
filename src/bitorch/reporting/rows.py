"""The rows of a report, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Levels:
    """How many levels of a quantizer occur, of how many that its bits allow; "3/4" shows a dead level."""

    seen: int
    possible: int

    def __str__(self) -> str:
        return f"{self.seen}/{self.possible}"


@dataclass(frozen=True)
class Histogram:
    """Counts of numbers in bins of equal width.

    Attributes:
        low, high: the ends of the first and the last bin.
        counts: of each series the count in each bin: one series for each level that the numbers are quantized to, or a
            single one where there are no levels, or too many to tell apart.
        levels: the value of each series' level; () without levels.
    """

    low: float
    high: float
    counts: tuple[tuple[int, ...], ...]
    levels: tuple[float, ...] = ()


@dataclass(frozen=True)
class ActivationRange:
    """What came to a quantizer of activations, and where it clips.

    Attributes:
        minimum, maximum: of the finite numbers.
        low, high: the quantizer's lowest and highest level; None of a sign, which clips nothing.
        below, above: share of the numbers that are clipped to the lowest and the highest level; None like low and high.
    """

    minimum: float
    maximum: float
    low: float | None
    high: float | None
    below: float | None
    above: float | None


@dataclass(frozen=True)
class Row:
    """What one part of the model costs: a layer, or operations or bytes that belong to none.

    Attributes:
        name: of the module, "(model)" of the model itself; else of the operation, or "file header".
        kind: the module's class; "operations" or "bytes" of what is no module.
        weight_shape: of the weight; () where there is none.
        output_shape: of the first result, without the batch; () where the layer was not called.
        weight_bits, activation_bits, gradient_bits: None of a float layer; 32 is float.
        parameters: how many numbers; what several layers share counts with the first.
        float_bytes: of the parameters and buffers of the float model, in their own dtypes.
        packed_bytes: see `Report.bytes_are`.
        macs: multiply-adds of one image.
        bit_operations: macs × weight bits × activation bits; float counts as 32.
        weight_levels, activation_levels: None where there is no quantizer with a grid.
        activation_range: at the quantizer's input; None where there is no quantizer, or it was not called.
        deploys: whether the runtime computes it; None where that was not tried.
        kernel: what computes it: a kernel of the runtime, "fused" into another layer's, or "PyTorch".
        note: why it does not deploy, or what is unusual.
        milliseconds: of one image; None where it was not measured.
        share: of the milliseconds of all rows.
        weights, activations: histograms.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    weight_bits: int | None = None
    activation_bits: int | None = None
    gradient_bits: int | None = None
    parameters: int = 0
    float_bytes: int = 0
    packed_bytes: int = 0
    macs: int = 0
    bit_operations: int = 0
    weight_levels: Levels | None = None
    activation_levels: Levels | None = None
    activation_range: ActivationRange | None = None
    deploys: bool | None = None
    kernel: str = ""
    note: str = ""
    milliseconds: float | None = None
    share: float | None = None
    weights: Histogram | None = field(default=None, repr=False)
    activations: Histogram | None = field(default=None, repr=False)

    @property
    def bits(self) -> str:
        """Such as "W1A2G6"; what is float is left out."""
        bits = (("W", self.weight_bits), ("A", self.activation_bits), ("G", self.gradient_bits))
        return "".join(f"{letter}{width}" for letter, width in bits if width is not None and width != 32)


@dataclass(frozen=True)
class Totals:
    """The sums of the rows. Milliseconds are None where nothing was measured."""

    parameters: int
    float_bytes: int
    packed_bytes: int
    macs: int
    bit_operations: int
    milliseconds: float | None

    @classmethod
    def of(cls, rows: tuple[Row, ...]) -> Totals:
        """Add up rows."""
        milliseconds = [row.milliseconds for row in rows if row.milliseconds is not None]
        return cls(
            parameters=sum(row.parameters for row in rows),
            float_bytes=sum(row.float_bytes for row in rows),
            packed_bytes=sum(row.packed_bytes for row in rows),
            macs=sum(row.macs for row in rows),
            bit_operations=sum(row.bit_operations for row in rows),
            milliseconds=sum(milliseconds) if milliseconds else None,
        )
