"""What follows a sum, on the channels of one place: floats of D, factors and terms, and codes."""

from __future__ import annotations

import numpy as np

from ..body import Body
from ..tensors import CTensor


class Leaving:
    """The tensors that leave an operation row by row, and where their rows are.

    Attributes:
        channels: of a row.
        sums, y: where D and y of the row at hand are, "" where they are not needed.
    """

    def __init__(self, body: Body, channels: int, *, floats: bool) -> None:
        """Write nothing yet.

        Args:
            floats: whether the operation begins with floats.
        """
        self._body, self.channels = body, channels
        operation = body.operation
        self._has_y = floats or "multiply" in operation
        self.sums = "" if floats else self._row("int32", "int32_t", "sums")
        self.y = self._row("float32", "float", "row") if self._has_y else ""
        self._codes = body.give(body.tensor("codes"), "codes_out") if "codes" in operation else ""

    def _row(self, key: str, c_type: str, name: str) -> str:
        """Where a row is written that leaves, or only worked with."""
        if key in self._body.operation:
            return f"({self._body.give(self._body.tensor(key), key)} + p * {self.channels})"
        return self._body.working(c_type, self.channels, name)

    def finish(self) -> None:
        """Write what follows the sums."""
        body = self._body
        if self._has_y and self.sums:
            body.call("sums_as_floats", self.sums, self.y, self.channels)
        if self._has_y:
            float_stages(body, self.y, self.channels)
        self.codes()

    def codes(self) -> None:
        """Write how codes are made, if they leave."""
        if self._codes:
            by_sums = "thresholds" in self._body.operation and self._body.named("thresholds").dtype == np.int32
            first = f"p * {self.channels}"
            write_codes(
                self._body,
                self._body.tensor("codes"),
                self.sums if by_sums else self.y,
                self._codes,
                first,
                self.channels,
            )


def float_stages(body: Body, y: str, channels: int) -> None:
    """Write the steps of floats that the keys of an operation name."""
    operation = body.operation
    if "multiply" in operation:
        body.call("scale_row", y, body.floats("multiply"), body.floats("offset"), channels)
    if "norm_multiply" in operation:
        body.call("norm_row", y, body.floats("norm_multiply"), body.floats("norm_offset"), channels)
    if "residual" in operation:
        residual = body.read(body.tensor("residual"), "residual")
        body.call("add_row", y, f"{residual} + p * {channels}", channels)
    if operation.get("relu", False):
        body.call("at_least", y, "0.0f", channels)


def write_codes(body: Body, codes: CTensor, row: str, z: str, first: str, channels: int) -> None:
    """Write how codes are made of a row of sums or floats.

    Args:
        codes: the tensor that they are for.
        z: the parameter that writes it.
        first: which of its codes is the row's first.
    """
    operation, levels = body.operation, 2**codes.bits - 1
    if "thresholds" not in operation:
        body.call("unit_codes", row, levels, channels, z, codes.field, first)
        return
    thresholds = body.named("thresholds")
    by_sums = thresholds.dtype == np.int32
    falls = body.optional_words(_falling(body), "falls")
    array = body.array(thresholds, "int32_t" if by_sums else "float", "thresholds")
    function = "codes_of_sums" if by_sums else "codes_of_floats"
    body.call(function, row, array, falls, levels, channels, z, codes.field, first)


def _falling(body: Body) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]] | None:
    """A bit for each channel in which thresholds fall; None where there is none."""
    if "descending" not in body.operation or not body.named("descending").any():
        return None
    return as_words(body.named("descending"))


def as_words(
    bits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """Return bits in words, the first in the lowest; each row of the last axis begins at a word."""
    packed = np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little")
    missing = -packed.shape[-1] % 4
    padded = np.concatenate([packed, np.zeros((*packed.shape[:-1], missing), np.uint8)], axis=-1)
    words: np.ndarray[tuple[int, ...], np.dtype[np.uint32]] = padded.view("<u4").astype(np.uint32)
    return words
