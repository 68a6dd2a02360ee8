"""The programs of packed weights: made at the first call, found at the next ones, called with the tensors' memory."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bitorch_runtime import Program

#: How many programs are kept for one weight; a convolution needs one for each image size.
KEPT_PROGRAMS = 16

#: Small tensors that a program is made of, besides the weight: the scale, and the bias and the range where there are.
Stages: TypeAlias = Sequence[Tensor | None]

#: What `LayerCall.run` returns.
_HOLDS_NAN, _OTHER_ARRAYS = 1, 2


def runtime() -> ModuleType:
    """Return bitorch_runtime; an ImportError that says how to get it where it is not installed."""
    try:
        import bitorch_runtime
    except ModuleNotFoundError as error:
        if error.name != "bitorch_runtime":
            raise
        raise ImportError(
            "packed layers run on bitorch_runtime, which is not installed; "
            "install it with `pip install ./runtime` in a checkout of bitorch"
        ) from error
    return bitorch_runtime


class LayerProgram:
    """A program from floats to floats, and what it was made of.

    Attributes:
        program: with one input.
        settings: all that it was made of beside the weight and the stages.
        input_axes: of one input.
        output_shape: of one result.
    """

    def __init__(
        self, program: Program, settings: Hashable, stages: Stages, input_axes: int, output_shape: Sequence[int]
    ) -> None:
        self.program, self.settings, self.input_axes = program, settings, input_axes
        self.output_shape = tuple(output_shape)
        self._bytes = _bytes_of(stages)
        self._sizes = tuple(None if stage is None else stage.nbytes for stage in stages)
        arrays = [stage.numpy() for stage in stages if stage is not None]
        self._run = runtime().program.layer_call(program, arrays).run

    def is_of(self, settings: Hashable, stages: Stages) -> bool:
        """Whether it computes what these say."""
        return self.settings == settings and self._bytes == _bytes_of(stages)

    def run(self, x: Tensor, batch: int, results: Sequence[Tensor], stages: Stages) -> bool | None:
        """Compute the results, and say whether x holds a NaN; None, and nothing is done, where the stages are others.

        Args:
            x: contiguous float32, of `batch` inputs of the program.
            results: likewise, as many as the program has outputs.
        """
        addresses = [result.data_ptr() for result in results]
        for stage, size in zip(stages, self._sizes, strict=True):
            if stage is None:
                if size is not None:
                    return None
            elif stage.nbytes != size or not stage.is_contiguous():
                return None
            else:
                addresses.append(stage.data_ptr())
        found = self._run(x.data_ptr(), batch, *addresses)
        return None if found == _OTHER_ARRAYS else found == _HOLDS_NAN


def _bytes_of(stages: Stages) -> tuple[bytes | None, ...]:
    """A few kilobytes."""
    return tuple(None if stage is None else stage.numpy().tobytes() for stage in stages)


class WeightPrograms:
    """The programs of one packed weight, the ones used last.

    They are found by the settings and by which tensors the stages are, whose bytes each run compares. Another program
    of the same bytes does as well.

    Attributes:
        generation: how often the weight has become another one.
    """

    def __init__(self, weight: Tensor, gone: Callable[[object], None]) -> None:
        self.weight = weakref.ref(weight, gone)
        self.generation = 0
        self._lock = threading.Lock()
        self._programs: OrderedDict[Hashable, LayerProgram] = OrderedDict()
        self._stamp: tuple[int, int] | None = None
        self._copy: Tensor | None = None

    def find(self, weight: Tensor, settings: Hashable, stages: Stages) -> LayerProgram | None:
        """Return a program that was made for these tensors, which may have been written to since; not the weight."""
        key = (settings, *map(id, stages))
        with self._lock:
            found = self._programs.get(key)
            if found is None or not self.are_of(weight):
                return None
            self._programs.move_to_end(key)
            return found

    def make(
        self, weight: Tensor, settings: Hashable, stages: Stages, plain: Stages, make: Callable[[], LayerProgram]
    ) -> LayerProgram:
        """Return a program for what the tensors are now, made where there is none.

        Args:
            plain: the stages, contiguous and without gradient.
        """
        key = (settings, *map(id, stages))
        with self._lock:
            if not self.are_of(weight):
                self.generation += 1
                self._programs.clear()
                self._remember(weight)
            other = next((other for other, one in self._programs.items() if one.is_of(settings, plain)), None)
            found = make() if other is None else self._programs.pop(other)
            self._programs.pop(key, None)
            while len(self._programs) >= KEPT_PROGRAMS:
                self._programs.popitem(last=False)
            self._programs[key] = found
            return found

    def made(self) -> list[Program]:
        """Return the programs, the one used last at the end."""
        with self._lock:
            return [one.program for one in self._programs.values()]

    def are_of(self, weight: Tensor) -> bool:
        """Whether this weight is the one of the programs, and what it was."""
        if self.weight() is not weight:
            return False
        if weight.is_inference():  # has no version, so the bytes are compared
            return self._copy is not None and torch.equal(self._copy, weight)
        return self._stamp == (weight.data_ptr(), weight._version)

    def _remember(self, weight: Tensor) -> None:
        is_inference = weight.is_inference()
        self._copy = weight.clone() if is_inference else None
        self._stamp = None if is_inference else (weight.data_ptr(), weight._version)


#: By the identity of the weight, which each entry holds weakly, and takes itself out with.
_programs: dict[int, WeightPrograms] = {}
_programs_lock = threading.Lock()


def programs_of(weight: Tensor) -> WeightPrograms:
    """Return the programs of a packed weight; of a new one there are none yet."""
    key = id(weight)
    found = _programs.get(key)
    if found is not None and found.weight() is weight:
        return found
    with _programs_lock:
        found = _programs.get(key)
        if found is None or found.weight() is not weight:
            found = _programs[key] = WeightPrograms(weight, lambda reference: _forget(key, reference))
        return found


def _forget(key: int, reference: object) -> None:
    """Take out the entry of a weight that is gone, unless another weight has its identity already."""
    found = _programs.get(key)
    if found is not None and found.weight is reference:
        _programs.pop(key, None)


def kernels_of(weight: Tensor) -> tuple[str, ...]:
    """Return the names of the kernels that have multiplied a packed weight so far; () if none has."""
    products = [row for program in programs_of(weight).made() for row in program.operations() if row["macs"] > 0]
    return tuple(dict.fromkeys(row["kernel"] for row in products))
