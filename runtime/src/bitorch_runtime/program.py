"""A whole network: a list of operations and the arrays that they use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitorch_runtime import _native
from bitorch_runtime.arguments import Array, check_integer
from bitorch_runtime.format import dump
from bitorch_runtime.profiling import Profile, Timing

if TYPE_CHECKING:
    from bitorch_runtime._native import Operation, Port


class Program:
    """A network that was checked and planned when it was made, and runs any number of times.

    A program is a list of operations, plain dicts that JSON can hold, and a dict of named arrays. Each operation has a
    name, ``"op"``, and other keys: docs/operations.md lists them (``python -m bitorch_runtime.operations_page`` prints
    it), and `bitorch_runtime.operations.OPERATIONS` is the same as a table. Tensors have names too; each is given once,
    and before it is used. Sizes are those of one image: the batch, of any size, is the first dimension of the arrays
    that a call takes and gives. A tensor has channels and any number of row axes, [rows …, C]: images [H, W, C],
    signals [L, C], tokens [T, F]. It is ``float32``, ``int32``, or *codes* of 1 to 8 bits: integers q, 0 ≤ q ≤ n, n =
    2^bits − 1. A vector of F features is an image [1, 1, F].

    A layer's exact sums D = Σ c·(q − zero_point) leave as ``int32``; a float stage makes y of them, which leaves as
    ``float32``; thresholds of D or of y, or round(n·clip(y, 0, 1)), make ``codes``.
    """

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        arrays: Mapping[str, Array],
        *,
        memory_limit: int | None = None,
    ) -> None:
        """Check and plan a program.

        Args:
            operations: dicts with the keys of their row in the table; numbers may be NumPy's.
            arrays: all arrays that operations name, and no others. They are copied.
            memory_limit: as of `load`, for a description that comes from elsewhere; None: no limit.

        Raises:
            TypeError: the arguments are not of these types.
            ValueError: an operation is wrong; the message says which, which key, its value and the rule. Or it asks for
                more than `memory_limit`.
            MemoryError: there is not enough memory for it.
        """
        if memory_limit is not None:
            memory_limit = check_integer("memory_limit", memory_limit, 0, 2**62)
        given = self._plan(operations, arrays, memory_limit)
        self._arrays = {name: array.copy() for name, array in given.items()}  # as small as a file; for pickles

    def _plan(
        self, operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array], memory_limit: int | None = None
    ) -> dict[str, Array]:
        """Make the compiled program, and return the arrays as it took them."""
        if not isinstance(operations, (list, tuple)):
            raise TypeError(f"operations: must be a list of dicts, not {type(operations).__name__}")
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays: must be a dict of NumPy arrays, not {type(arrays).__name__}")
        texts = [
            dump(f"operation {i}", _plain(i, operation), sort_keys=False) for i, operation in enumerate(operations)
        ]
        text = f"[{','.join(texts)}]"
        given = {name: _array(f"arrays[{name!r}]", value) for name, value in arrays.items()}
        self._take_native(_native.Plans(text, given, memory_limit), text)
        return given

    def _take_native(self, plans: _native.Plans, description: str) -> None:
        self._plans = plans
        self._native = None if plans.is_open() else plans.smallest()  # where there is one plan only
        self._description = description
        self._inputs = plans.inputs()
        self._outputs = plans.outputs()
        self._kernels_name = plans.smallest().kernels_name()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.description, self._arrays)

    @property
    def description(self) -> list[dict[str, Any]]:
        """The operations that the program was made of, a new list."""
        operations: list[dict[str, Any]] = json.loads(self._description)
        return operations

    @property
    def inputs(self) -> list[Port]:
        """The inputs in the order of a call: ``name``, ``dtype``, ``shape`` of one image, ``order``, ``bits``.

        ``order`` is that of the numbers in memory: "nchw", "nhwc", or "nf" of vectors. A −1 in ``shape`` stands for a
        size that is open: a call chooses it, see `sizes`.
        """
        return self._plans.inputs()

    @property
    def outputs(self) -> list[Port]:
        """The outputs in the order of the results, with the keys of `inputs`."""
        return self._plans.outputs()

    @property
    def sizes(self) -> list[tuple[tuple[int, int], ...]]:
        """What a call may choose where sizes are open: for each dimension of each input (least, step).

        A size may be least + n·step; the step is 0 of what is fixed, or follows from other open sizes. [] of a program
        of one size.
        """
        return self._plans.choices() if self._plans.is_open() else []

    def __call__(self, /, *inputs: Array, **named: Array) -> Array | dict[str, Array]:
        """Run the program.

        It may be called from several threads at once. Where sizes are open it is planned for a size when that first
        comes, which takes about as long as loading; the last four plans are kept, fewer where they need more than the
        memory limit together.

        Args:
            inputs: the first inputs, in order; [batch, *shape] of the input's dtype.
            named: the others, by name. A name that is not an identifier is passed as ``**{name: array}``.

        Returns:
            The result, or a dict from tensor name to result where the program has several outputs. Results are new
            arrays.

        Raises:
            TypeError: inputs are missing, too many, given twice, unknown, no arrays, or of another dtype.
            ValueError: a shape or a batch is wrong, or a code is larger than its bits allow. Of open sizes that do not
                fit it names those that would.
            MemoryError: the batch is too large for this machine.
        """
        arrays = self._take(inputs, named)
        results = self._plan_for(arrays).run(arrays)
        if len(results) == 1:
            return results[0]
        return {port["name"]: result for port, result in zip(self._outputs, results, strict=True)}

    def _plan_for(self, arrays: Sequence[Array]) -> _native.Program:
        """The plan for these inputs."""
        return self._native if self._native is not None else self._plans.at([array.shape[1:] for array in arrays])

    def _plan_at(self, shapes: Sequence[Sequence[int]]) -> _native.Program:
        """The plan for shapes of one image of each input, where sizes are open."""
        if self._native is not None:
            if shapes:
                raise ValueError("shapes: the program has one size; leave them out")
            return self._native
        if len(shapes) != len(self._inputs):
            raise ValueError(
                f"shapes: sizes of this program are open: give the shape of one image of each of its "
                f"{len(self._inputs)} inputs, got {len(shapes)}"
            )
        return self._plans.at([tuple(shape) for shape in shapes])

    def operations(self, *shapes: Sequence[int]) -> list[Operation]:
        """Say how the program was planned, one dict per operation.

        Args:
            shapes: of one image of each input, where sizes are open; else none.

        The keys are ``op``, ``kernel``, ``inputs`` (names), ``outputs`` (dicts of ``name``, ``dtype``, ``layout``:
        "float32", "int32", "bytes" or "planes", ``shape`` (*rows, C), ``bits``, and ``halo``: the padding kept around
        it), ``macs`` (multiply-adds of one image), ``weight_bytes`` (of the weights in the kernel's own order), and
        ``choices``: the kernels that can compute a convolution, the cheapest first, dicts of ``kernel``,
        ``nanoseconds`` of one image on one thread, and ``measured``: False where the kernel reckons so itself, from the
        layer's sizes and the kind of CPU. All give the same numbers. Empty for operations with one way to do them.
        """
        return self._plan_at(shapes).describe()

    def profile(self, *inputs: Array, named: Mapping[str, Array] | None = None, repeats: int = 10) -> Profile:
        """Time each operation.

        Args:
            inputs: the first inputs, in order, as of a call.
            named: the others, by name.
            repeats: how many runs, after one that does not count; 1 to 1000000.

        Returns:
            A sequence of dicts, one per operation, that prints as a table. Seconds are the minimum over the runs,
            multiply-adds are those of the batch.

        Raises:
            TypeError: as of a call, `named` is no dict, or `repeats` no int.
            ValueError: as of a call, or `repeats` is out of range.
            MemoryError: the batch is too large for this machine.
        """
        repeats = check_integer("repeats", repeats, 1, 1_000_000)
        if named is not None and not isinstance(named, Mapping):
            raise TypeError(f"named: must be a dict of NumPy arrays, not {type(named).__name__}")
        arrays = self._take(inputs, {} if named is None else dict(named))
        plan = self._plan_for(arrays)
        seconds = plan.profile(arrays, repeats)
        batch = len(arrays[0])
        total = sum(seconds)
        rows = [
            Timing(
                op=entry["op"],
                output=entry["outputs"][0]["name"] if entry["outputs"] else entry["inputs"][0],
                kernel=entry["kernel"],
                seconds=taken,
                macs=entry["macs"] * batch,
                macs_per_second=entry["macs"] * batch / taken if taken > 0 else 0.0,
                share=taken / total if total > 0 else 0.0,
            )
            for entry, taken in zip(plan.describe(), seconds, strict=True)
        ]
        return Profile(rows, batch)

    def kept_bytes(self) -> int:
        """Return how much memory the operations keep: weights in the kernels' order, tables, and they themselves.

        Operations that use the same array in the same way share what they keep of it. Where sizes are open it is that
        of all plans that are kept at the moment, what is the same in several of them once, and of the arrays.
        """
        return self._plans.kept_bytes()

    def workspace_bytes(self, batch: int, *shapes: Sequence[int]) -> int:
        """Return how much memory a call with this batch works in, results aside. It is kept for the next call.

        Args:
            shapes: of one image of each input, where sizes are open; else none.
        """
        return self._plan_at(shapes).workspace_bytes(check_integer("batch", batch, 0, 2**48))

    def __repr__(self) -> str:
        return f"Program({self._signature()})"

    def _signature(self) -> str:
        def ports(ports: list[Port]) -> str:
            return ", ".join(f"{port['name']}: {port['dtype']} {_shape(port)}" for port in ports)

        return f"{ports(self._inputs)} -> {ports(self._outputs)}; {self._kernels_name}"

    def _take(self, inputs: tuple[Array, ...], named: dict[str, Array]) -> list[Array]:
        """The inputs in order, checked but for their batches and values."""
        names = [port["name"] for port in self._inputs]
        if len(inputs) > len(names):
            raise TypeError(f"the program takes {len(names)} inputs ({', '.join(names)}), but got {len(inputs)}")
        for name in named:
            if name not in names:
                raise TypeError(f"no input is called {name!r}; the inputs are {', '.join(names)}")
            if name in names[: len(inputs)]:
                raise TypeError(f"input {name!r} was given twice, by position and by name")
        given = dict(zip(names, inputs, strict=False)) | named
        missing = [name for name in names if name not in given]
        if missing:
            raise TypeError(f"input {', '.join(map(repr, missing))} is missing")
        return [_input(port, given[port["name"]]) for port in self._inputs]


def program_of_frozen(operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> Program:
    """Return a program whose pickles use these arrays themselves, which nobody may write any more.

    Many programs with the same weights then hold them once.
    """
    program = Program.__new__(Program)
    program._arrays = program._plan(operations, arrays)
    return program


def layer_call(program: Program, arrays: Sequence[Array]) -> _native.LayerCall:
    """Return a program of one input, float32 as its outputs are, to be called with addresses: `_native.LayerCall`.

    Args:
        arrays: C-contiguous; a call compares their bytes with what it is given.
    """
    return _native.LayerCall(program._plan_at(()), list(arrays))


def _plain(index: int, operation: object) -> dict[str, Any]:
    if not isinstance(operation, Mapping):
        raise TypeError(f"operation {index}: must be a dict, not {type(operation).__name__}")
    return dict(operation)


def _array(name: str, value: object) -> Array:
    """C-contiguous and aligned, as the core takes it."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array, not {type(value).__name__}")
    if not value.dtype.isnative:
        raise TypeError(
            f"{name}: the dtype is {value.dtype.str}, in another byte order; use astype({value.dtype.name!r})"
        )
    return np.require(value, requirements=["C", "A"])


def _shape(port: Port) -> str:
    sizes = ["any" if size < 0 else str(size) for size in port["shape"]]
    return f"(batch, {', '.join(sizes)})" if sizes else "(batch,)"


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an image has a shape in which −1 stands for any size."""
    return len(shape) == len(wanted) and all(
        expected in (size, -1) for size, expected in zip(shape, wanted, strict=True)
    )


def _input(port: Port, value: object) -> Array:
    name = f"input {port['name']!r}"
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array, not {type(value).__name__}")
    if value.dtype != port["dtype"]:
        raise TypeError(
            f"{name}: the dtype is {value.dtype.str} ({value.dtype}), but must be {port['dtype']}; use astype. "
            f"(The shape is {value.shape}, and must be {_shape(port)}.)"
        )
    if value.ndim == 0 or not _fits(value.shape[1:], port["shape"]):
        advice = "; one image is a batch of one, array[None]" if _fits(value.shape, port["shape"]) else ""
        raise ValueError(f"{name}: the shape is {value.shape}, but must be {_shape(port)}{advice}")
    return _array(name, value)
