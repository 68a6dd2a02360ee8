"""A whole network: a list of operations and the arrays that they use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from bitorch_runtime import _native
from bitorch_runtime.arguments import Array, check_integer

if TYPE_CHECKING:
    from bitorch_runtime._native import Operation, Port


class Timing(TypedDict):
    """What one operation took, an entry of what `Program.profile` returns."""

    op: str
    kernel: str
    seconds: float
    macs: int


class Program:
    """A network that was checked and planned when it was made, and runs any number of times.

    A program is a list of operations, plain dicts that JSON can hold, and a dict of named arrays. Each operation has a
    name, ``"op"``, and other keys. Tensors have names too; each is given once, and before it is used. Sizes are those
    of one image: the batch, of any size, is the first dimension of the arrays that a call takes and gives. A tensor is
    ``float32`` [H, W, C], ``int32`` [H, W, C], or *codes* [H, W, C] of 1 to 8 bits: integers q, 0 ≤ q ≤ n, n = 2^bits
    − 1. A vector of F features is an image [1, 1, F]. In the list below ``?`` marks a key that may be left out.

    - ``input``: ``output``, ``dtype`` "float32" or "uint8", ``shape`` [C, H, W] or [F], ``order`` of the array
      "nchw" or "nhwc" (vectors need none), ``bits`` of uint8. Arrays of uint8 are codes; a call checks that they
      fit in their bits.
    - ``output``: ``input``, ``order``. The result is [batch, C, H, W] or [batch, H, W, C], or [batch, F] of a
      vector. Codes leave as uint8.
    - ``conv2d``: ``input`` codes, ``weight`` packed (see `pack_weights`), ``weight_bits``, ``out_channels``,
      ``kernel_size`` [h, w], ``stride`` [h, w], ``padding`` [top, left, bottom, right], ``dilation`` [h, w],
      ``groups``, ``sign_activations?`` (the codes 0 and 1 mean −1 and +1, and padding contributes 0), and the
      stages below
    - ``linear``: ``input`` codes [1, 1, F], ``weight``, ``weight_bits``, ``out_channels``, ``sign_activations?``,
      and the stages
    - ``conv2d_float``: as conv2d, but ``input`` float32 and ``weight`` float32 [N, h, w, C/groups];
      ``out_channels?``
    - ``linear_float``: as linear, but ``input`` float32 and ``weight`` float32 [N, F]; ``out_channels?``
    - ``quantize``: ``input``, ``output``, ``bits``, ``thresholds?``, ``descending?``: float32 to codes
    - ``dequantize``: ``input``, ``output``, ``sign?``, ``scale?``: q/n, or q·scale; with sign 2q − 1, or that
      times scale
    - ``lookup``: ``input``, ``output``, ``bits``, ``table`` uint8 [2^bits of the input], or [C, 2^bits of the
      input]: codes to codes
    - ``max_pool``: ``input``, ``output``, ``kernel_size``, ``stride``, ``padding``, ``dilation?``. Padding never
      wins.
    - ``avg_pool``: ``input``, ``output``, ``kernel_size``, ``stride``, ``padding``, ``count_include_pad``,
      ``scale?`` of codes (1/n where missing): to float32
    - ``global_avg_pool``: ``input``, ``output``, ``scale?``: to float32 [1, 1, C]
    - ``add``: ``inputs`` (two float32 tensors of one shape), ``relu?``, ``float32?``, ``codes?`` with ``bits``,
      ``thresholds?``, ``descending?``
    - ``affine``: ``input``, one or more of ``divide`` float32 [C], ``multiply`` and ``offset`` [C],
      ``norm_multiply`` and ``norm_offset`` [C], ``residual``, ``low`` and ``high``, and the outputs of add:
      x / divide, then as in the float stage below, then clamp(y, low, high)
    - ``concat``: ``inputs``, ``output``: along channels; all float32, or all codes of equal bits
    - ``flatten``: ``input``, ``output``, ``order`` of the features "chw" or "hwc"

    The stages of a convolution: D = Σ c·q is exact; it leaves as ``int32``. The float stage has ``multiply`` and
    ``offset`` [N]: y = float32(D)·multiply + offset (two roundings); then with ``norm_multiply?`` and ``norm_offset?``
    [N] y·norm_multiply + norm_offset (one rounding, a fused multiply-add, as batch normalisation is in PyTorch), +
    ``residual?`` (a float32 tensor), then ``relu?``; y leaves as ``float32``. Low-bit layers need multiply
    and offset for all of it, float layers do not. Codes leave as ``codes``, with ``bits``, and ``thresholds`` [N, n]: q
    is the number of thresholds j with D ≥ t[j] (int32) or y ≥ t[j] (float32), or ≤ in the channels that
    ``descending``, bool [N], says. Thresholds rise with j, or fall in those channels. Without thresholds q =
    round(n·clip(y, 0, 1)), half to even. NaN gives code 0. ``int32``, ``float32`` and ``codes`` are names of tensors;
    one or more of them must be there.
    """

    def __init__(self, operations: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> None:
        """Check and plan a program.

        Args:
            operations: as described above; numbers may be NumPy's.
            arrays: all arrays that operations name, and no others. They are copied.

        Raises:
            TypeError: the arguments are not of these types.
            ValueError: an operation is wrong; the message says which, which key, its value and the rule.
        """
        if not isinstance(operations, (list, tuple)):
            raise TypeError(f"operations: must be a list of dicts, not {type(operations).__name__}")
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays: must be a dict of NumPy arrays, not {type(arrays).__name__}")
        text = _dump([_plain(i, operation) for i, operation in enumerate(operations)])
        self._native = _native.Program(
            text, {name: _array(f"arrays[{name!r}]", value) for name, value in arrays.items()}
        )
        self._inputs = self._native.inputs()
        self._outputs = self._native.outputs()

    @property
    def inputs(self) -> list[Port]:
        """The inputs in the order of a call: ``name``, ``dtype``, ``shape`` of one image, ``order``, ``bits``."""
        return self._native.inputs()

    @property
    def outputs(self) -> list[Port]:
        """The outputs in the order of the results, with the keys of `inputs`."""
        return self._native.outputs()

    def __call__(self, /, *inputs: Array, **named: Array) -> Array | dict[str, Array]:
        """Run the program.

        It may be called from several threads at once.

        Args:
            inputs: the first inputs, in order; [batch, *shape] of the input's dtype.
            named: the others, by name. A name that is not an identifier is passed as ``**{name: array}``.

        Returns:
            The result, or a dict from tensor name to result where the program has several outputs. Results are new
            arrays.

        Raises:
            TypeError: inputs are missing, too many, given twice, unknown, no arrays, or of another dtype.
            ValueError: a shape or a batch is wrong, or a code is larger than its bits allow.
            MemoryError: the batch is too large for this machine.
        """
        results = self._native.run(self._take(inputs, named))
        if len(results) == 1:
            return results[0]
        return {port["name"]: result for port, result in zip(self._outputs, results, strict=True)}

    def operations(self) -> list[Operation]:
        """Say how the program was planned, one dict per operation.

        The keys are ``op``, ``kernel``, ``inputs`` (names), ``outputs`` (dicts of ``name``, ``dtype``, ``layout``:
        "float32", "int32", "bytes" or "planes", ``shape`` (H, W, C), ``bits``, and ``halo``: the padding kept around
        it), ``macs`` (multiply-adds of one image), and ``weight_bytes`` (of the weights in the kernel's own order).
        """
        return self._native.describe()

    def profile(self, *inputs: Array, repeats: int = 10, **named: Array) -> list[Timing]:
        """Time each operation.

        Args:
            inputs: as of a call.
            repeats: how many runs, after one that does not count; 1 to 1000000.
            named: as of a call.

        Returns:
            One dict per operation: ``op``, ``kernel``, ``seconds`` (the minimum over the runs) and ``macs`` (of the
            batch).
        """
        repeats = check_integer("repeats", repeats, 1, 1_000_000)
        arrays = self._take(inputs, named)
        seconds = self._native.profile(arrays, repeats)
        batch = len(arrays[0])
        return [
            Timing(op=entry["op"], kernel=entry["kernel"], seconds=taken, macs=entry["macs"] * batch)
            for entry, taken in zip(self._native.describe(), seconds, strict=True)
        ]

    def workspace_bytes(self, batch: int) -> int:
        """Return how much memory a call with this batch works in, results aside. It is kept for the next call."""
        return self._native.workspace_bytes(check_integer("batch", batch, 0, 2**48))

    def __repr__(self) -> str:
        def ports(ports: list[Port]) -> str:
            return ", ".join(f"{port['name']}: {port['dtype']} {_shape(port)}" for port in ports)

        return f"Program({ports(self._inputs)} -> {ports(self._outputs)}; {self._native.kernels_name()})"

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


def _plain(index: int, operation: object) -> dict[str, Any]:
    if not isinstance(operation, Mapping):
        raise TypeError(f"operation {index}: must be a dict, not {type(operation).__name__}")
    return dict(operation)


def _dump(operations: list[dict[str, Any]]) -> str:
    try:
        return json.dumps(operations, allow_nan=False, default=_scalar)
    except ValueError as error:  # NaN, infinity, or a list that contains itself
        raise ValueError(f"operations: {error}") from None


def _scalar(value: object) -> object:
    """What JSON cannot hold as it is: NumPy's numbers are taken, all else is refused."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"operations: {value!r} is {type(value).__name__}, which JSON cannot hold; arrays go into `arrays`")


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
    return f"(batch, {', '.join(map(str, port['shape']))})"


def _input(port: Port, value: object) -> Array:
    name = f"input {port['name']!r}"
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array, not {type(value).__name__}")
    if value.dtype != port["dtype"]:
        raise TypeError(
            f"{name}: the dtype is {value.dtype.str} ({value.dtype}), but must be {port['dtype']}; use astype"
        )
    if value.ndim == 0 or value.shape[1:] != port["shape"]:
        raise ValueError(f"{name}: the shape is {value.shape}, but must be {_shape(port)}")
    return _array(name, value)
