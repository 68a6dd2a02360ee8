"""Several packed linear layers of one x, as the projections into attention: one call of one program."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .packed import PackedLinearCall, program_of_several
from .packed_programs import LayerProgram, programs_of


class Together:
    """A program of several calls, for those after it where only the numbers of x, and how many rows, are others.

    x is quantized once for all layers whose quantizers are equal. Each result is a tensor of its own, as if its layer
    had been called.

    Args:
        calls: with the same x.
    """

    def __init__(self, calls: Sequence[PackedLinearCall]) -> None:
        plain = [_plain(call) for call in calls]
        self._settings = [call.settings() for call in plain]
        self._weights = [programs_of(call.weight) for call in calls]
        self._stamps = [(call.weight.data_ptr(), call.weight._version) for call in calls]
        stages = [stage for call in plain for stage in (call.scale, call.bias, call.input_range)]
        self._program = LayerProgram(program_of_several(plain), None, stages, 1, ())
        self._features = [call.weight.shape[0] for call in calls]

    def run(self, calls: Sequence[PackedLinearCall]) -> list[Tensor] | None:
        """Return the results; None where anything but the numbers of x is another."""
        x = calls[0].x
        for call, settings, weights, stamp in zip(calls, self._settings, self._weights, self._stamps, strict=True):
            weight = call.weight
            if weights.weight() is not weight or (weight.data_ptr(), weight._version) != stamp:
                return None
            if call.settings() != settings:
                return None
        x = x if x.is_contiguous() else x.contiguous()
        rows = x.shape[:-1]
        results = [x.new_empty((*rows, features)) for features in self._features]
        stages = [stage for call in calls for stage in (call.scale, call.bias, call.input_range)]
        holds_nan = self._program.run(x, rows.numel(), results, stages)
        if holds_nan is None:
            return None
        if holds_nan:
            for call, result in zip(calls, results, strict=True):
                call.spread_nan(result)
        return results


def _plain(call: PackedLinearCall) -> PackedLinearCall:
    """Return a call whose stages are contiguous and without gradient."""
    bias, input_range = (
        None if stage is None else stage.detach().contiguous() for stage in (call.bias, call.input_range)
    )
    return call._replace(scale=call.scale.detach().contiguous(), bias=bias, input_range=input_range)
