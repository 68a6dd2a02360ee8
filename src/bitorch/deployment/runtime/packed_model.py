"""A deployed model: torch tensors in and out, the packed program in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

try:
    import bitorch_runtime
    from bitorch_runtime.model import MEMORY_LIMIT
    from bitorch_runtime.reference.sizes import at_shapes
except ModuleNotFoundError as error:
    raise ImportError(
        f"bitorch.deploy needs {error.name}: pip install ./runtime in a checkout of bitorch", name=error.name
    ) from error

from .owners import Owners
from .port_shapes import OLD_KEY, batch_of, shapes_of_older_file, with_shapes
from .program_text import operation_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bitorch_runtime._native import Operation, Port

_DTYPES = {"float32": torch.float32, "uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a packed model. `shape` is that of one image, without the batch; −1: any, see `sizes`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether an image may have this shape, as far as it can be told without the other dimensions."""
        return len(shape) == len(self.shape) and all(
            expected in (size, -1) for size, expected in zip(shape, self.shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.name}: {str(self.dtype).removeprefix('torch.')} {batch_of(self.shape)}"


class PackedModel:
    """A trained model as the program that bitorch_runtime runs; `bitorch.deploy` makes it, `load` reads its file.

    Calling it computes what the low-bit model computes in eval mode, on the CPU, from torch tensors to torch tensors,
    with as many threads as `bitorch_runtime.set_num_threads` says. Nothing is differentiated. It never changes, and may
    be called from several threads at once, copied and pickled.

    Attributes:
        inputs, outputs: name, dtype and shape of what a call takes and gives.
        class_names: one for each score, or None.
        preprocessing: how images become inputs, in types that JSON has, or None.
        provenance: where the model comes from, in types that JSON has, or None.
        passes: of each step of `deploy` its name and what it made of the program; () after `load`.
        owners: which modules of the model its operations and arrays are of; None after `load`, since files do not say.
        nbytes: of the file that `save` writes.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    class_names: tuple[str, ...] | None
    preprocessing: dict[str, Any] | None
    provenance: dict[str, Any] | None
    passes: tuple[tuple[str, str], ...]
    owners: Owners | None
    nbytes: int

    def __init__(
        self,
        operations: Sequence[Mapping[str, Any]],
        arrays: Mapping[str, NDArray[Any]],
        *,
        output_shapes: Sequence[Sequence[int]] | None = None,
        input_shapes: Sequence[Sequence[int]] | None = None,
        class_names: Sequence[str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        passes: Sequence[tuple[str, str]] = (),
        owners: Owners | None = None,
    ) -> None:
        """Plan a program.

        Args:
            operations, arrays: as `bitorch_runtime.Program` takes them. They are copied.
            output_shapes: of one image's results in the model, in the order of the program's outputs; None: as in the
                program.
            input_shapes: of one image in the model, in the order of the program's inputs; likewise.
            class_names, preprocessing, provenance, passes, owners: see the class.

        Raises:
            TypeError, ValueError: an operation is wrong, a shape does not fit the program's, or something is not what
                a file can hold.
        """
        if input_shapes is not None or output_shapes is not None:
            planned = bitorch_runtime.Program(operations, arrays)
            operations = with_shapes(operations, planned.inputs, planned.outputs, input_shapes, output_shapes)
        info: dict[str, Any] = {}
        if provenance:  # as `save` has it: an empty one is none
            info["provenance"] = dict(provenance)
        if class_names is not None:
            info["class_names"] = list(class_names)
        if preprocessing is not None:
            info["preprocessing"] = dict(preprocessing)
        file = bitorch_runtime.format.encode(operations, arrays, info)
        # What is run, and so what is verified, is what comes out of the file.
        operations, arrays, info = bitorch_runtime.format.decode(file)
        self._take(bitorch_runtime.Program(operations, arrays), operations, arrays, info, len(file))
        self.passes, self.owners = tuple(passes), owners

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, memory_limit: int = MEMORY_LIMIT, tune: bool = False) -> PackedModel:
        """Read a file that `save`, or `bitorch_runtime.save`, has written.

        Args:
            path: of the file.
            memory_limit: the most bytes that it may take once it is loaded, as of `bitorch_runtime.load`: 1 GiB unless
                you trust where it comes from.
            tune: measure which kernels are the fastest here, as of `bitorch_runtime.load`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no packed model, damaged, newer than this bitorch_runtime, or asks for more memory; the
                message names it.
        """
        packed = cls.__new__(cls)
        # The C++ reader comes first, because it also refuses what takes more memory than any net in use.
        program: bitorch_runtime.Program = bitorch_runtime.load(path, memory_limit=memory_limit, tune=tune)
        operations, arrays, info = bitorch_runtime.format.read(path)
        shapes = info.get("provenance", {}).pop(OLD_KEY, None)
        try:
            if shapes is not None:
                operations = with_shapes(operations, program.inputs, program.outputs, *shapes_of_older_file(shapes))
                program = bitorch_runtime.Program(operations, arrays, memory_limit=memory_limit)
            packed._take(program, operations, arrays, info, os.path.getsize(path))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
        packed.passes, packed.owners = (), None
        return packed

    def _take(
        self,
        program: bitorch_runtime.Program,
        operations: list[dict[str, Any]],
        arrays: dict[str, NDArray[Any]],
        info: dict[str, Any],
        nbytes: int,
    ) -> None:
        self._program, self._operations, self._arrays = program, operations, arrays
        names, provenance = info.get("class_names"), info.get("provenance")
        self.inputs, self.outputs = _specs(program.inputs), _specs(program.outputs)
        self.class_names = None if names is None else tuple(names)
        self.preprocessing = info.get("preprocessing")
        self.provenance = provenance if provenance else None
        self.nbytes = nbytes

    def __call__(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the net.

        Args:
            inputs: one tensor for each of `inputs`: [batch, *shape], of its dtype, on the CPU.

        Returns:
            The result, [batch, *shape], or a dict of them by name where the model has several outputs.

        Raises:
            TypeError: too few or too many inputs, no tensors, another dtype.
            ValueError: another shape or device, batches that differ; of open sizes that do not fit it says which would.
        """
        results = self._program(*self._given(inputs))
        if not isinstance(results, dict):
            return torch.from_numpy(results)
        return {name: torch.from_numpy(result) for name, result in results.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `load` and `bitorch_runtime.load` read. Its name should end in .bit.safetensors.

        Raises:
            OSError: it cannot be written. A file that was there before is then still there.
        """
        bitorch_runtime.save(
            path,
            self._operations,
            self._arrays,
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            provenance=self.provenance,
        )

    def profile(self, *inputs: Tensor, repeats: int = 10) -> bitorch_runtime.Profile:
        """Time each operation; the result prints as a table.

        Args:
            inputs: as of a call.
            repeats: how many runs, after one that does not count; the fastest counts.
        """
        return self._program.profile(*self._given(inputs), repeats=repeats)

    @property
    def sizes(self) -> list[tuple[tuple[int, int], ...]]:
        """Of each dimension of each input (least, step) where sizes are open, see `bitorch_runtime.Program.sizes`."""
        return self._program.sizes

    @property
    def smallest_shapes(self) -> list[tuple[int, ...]]:
        """The smallest image that each input may be, where sizes are open; else []."""
        return [tuple(least for least, _ in dimensions) for dimensions in self.sizes]

    def operations(self, *shapes: Sequence[int]) -> list[Operation]:
        """Say how the program was planned, one dict per operation: see `bitorch_runtime.Program.operations`."""
        return self._program.operations(*shapes)

    def program(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        """Return operations and arrays as the file holds them; not to be changed."""
        return self._operations, self._arrays

    def program_for(self, inputs: Sequence[Tensor]) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        """Return operations and arrays for inputs of these sizes: `program` where no size is open."""
        return at_shapes(self._operations, self._arrays, [tuple(x.shape[1:]) for x in inputs])

    def __repr__(self) -> str:
        takes, gives = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"PackedModel({takes} -> {gives}; {self.nbytes:,} bytes)"

    def __str__(self) -> str:
        """One line for each operation: what it gives, as what it is stored, what computes it, and what it costs.

        Where sizes are open, for the smallest.
        """
        return f"{self!r}\n{operation_table(self.operations(*self.smallest_shapes))}"

    def __reduce__(self) -> tuple[Callable[..., PackedModel], tuple[Any, ...]]:
        names = ("class_names", "preprocessing", "provenance", "passes", "owners")
        arguments = {name: getattr(self, name) for name in names}
        return _rebuild, (self._operations, self._arrays, arguments)

    def _given(self, inputs: tuple[Tensor, ...]) -> list[NDArray[Any]]:
        """The inputs as the program takes them."""
        if len(inputs) != len(self.inputs):
            takes = ", ".join(map(str, self.inputs))
            raise TypeError(f"the model takes {len(self.inputs)} tensors ({takes}), but got {len(inputs)}")
        for spec, value in zip(self.inputs, inputs, strict=True):
            _check(spec, value)
        if any(len(value) != len(inputs[0]) for value in inputs):
            batches = ", ".join(f"{len(value)} ({spec.name})" for spec, value in zip(self.inputs, inputs, strict=True))
            raise ValueError(f"all inputs must have one batch, but they have {batches}")
        return [value.detach().numpy() for value in inputs]


def _rebuild(
    operations: list[dict[str, Any]], arrays: dict[str, NDArray[Any]], arguments: dict[str, Any]
) -> PackedModel:
    return PackedModel(operations, arrays, **arguments)


def _specs(ports: Sequence[Port]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(port["name"], _DTYPES[port["dtype"]], tuple(port["shape"])) for port in ports)


def _check(spec: TensorSpec, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"input {spec.name!r}: must be a torch tensor, not {type(value).__name__}; "
            "bitorch_runtime takes NumPy arrays"
        )
    if value.dtype != spec.dtype:
        remedy = _remedy(value.dtype, spec.dtype)
        raise TypeError(
            f"input {spec.name!r}: the dtype is {value.dtype}, but must be {spec.dtype} "
            f"(the shape is {list(value.shape)}, and must be {batch_of(spec.shape)}); {remedy}"
        )
    if value.dim() == 0 or not spec.takes(value.shape[1:]):
        hint = "; add the batch with x.unsqueeze(0)" if spec.takes(value.shape) else ""
        raise ValueError(
            f"input {spec.name!r}: the shape is {list(value.shape)}, but must be {batch_of(spec.shape)}{hint}"
        )
    if value.device.type != "cpu":
        raise ValueError(
            f"input {spec.name!r}: is on {value.device}, but a packed model computes on the CPU; use x.cpu()"
        )


def _remedy(got: torch.dtype, wanted: torch.dtype) -> str:
    if wanted in (torch.int32, torch.int64):
        return f"use x.to({wanted}): it takes indices"
    if wanted == torch.uint8:
        return "it takes the pixels 0 to 255 themselves; for floats deploy with pixels=False"
    return "use bitorch.data.to_float(pixels), or deploy with pixels=True" if got == torch.uint8 else "use x.float()"
