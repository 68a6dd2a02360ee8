"""The way from a packed layer to its program that goes round PyTorch's dispatcher: for calls like the last one.

The dispatcher, and finding the program again, take several times as long as a layer of one token computes. They are
left out where nothing of PyTorch but plain numbers is at work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .packed_programs import LayerProgram, Stages, WeightPrograms


def is_plain(x: Tensor) -> bool:
    """Say whether a call with x is one of numbers alone, and nobody wants to see the operator."""
    return type(x) is Tensor and x.is_cpu and not is_at_work() and not torch.autograd.profiler._is_profiler_enabled


def is_at_work() -> bool:
    """Say whether PyTorch compiles, traces or transforms what is computed now, or a mode looks at it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
    )


class LastCall:
    """The program of a call, for the next one, where only the numbers of x, and how many inputs it has, are others.

    Whoever keeps it drops it where the call's other arguments change, tensors and `order` aside.
    """

    def __init__(
        self, program: LayerProgram, weights: WeightPrograms, generation: int, x: Tensor, order: object
    ) -> None:
        self._program, self._weights, self._generation, self._order = program, weights, generation, order
        self._dtype, self._shape = x.dtype, x.shape[x.dim() - program.input_axes :]

    def run(self, x: Tensor, weight: Tensor, stages: Stages, order: object) -> tuple[Tensor, bool] | None:
        """Return the result and whether x holds a NaN; None where the call is another one."""
        program, shape = self._program, x.shape
        images = shape[: len(shape) - program.input_axes]
        if (
            shape[len(images) :] != self._shape
            or order is not self._order
            or x.dtype is not self._dtype
            or self._weights.generation != self._generation
            or not self._weights.are_of(weight)
            or not x.is_contiguous()
        ):
            return None
        y = x.new_empty((*images, *program.output_shape))
        holds_nan = program.run(x, images.numel(), (y,), stages)
        return None if holds_nan is None else (y, holds_nan)
