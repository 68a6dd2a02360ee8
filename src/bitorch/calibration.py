"""Ranges of activations from a few batches."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .in_place import InPlaceTable, check_module
from .quantizations import RangeQuantization
from .recording import Seen, eval_mode, recording
from .text_table import aligned, ruled


@dataclass(frozen=True)
class CalibratedRange:
    """One quantizer's range, and the inputs that it was found by.

    Attributes:
        name: of the layer, or of the quantizer where it stands alone.
        quantizer: its class.
        bits: in force.
        low, high: lowest and highest level.
        seen_low, seen_high: least and largest input.
        clipped: share of the inputs below or above the range, in [0, 1].
    """

    name: str
    quantizer: str
    bits: int
    low: float
    high: float
    seen_low: float
    seen_high: float
    clipped: float


@dataclass(frozen=True)
class Calibration(InPlaceTable):
    """What `calibrate` did, one row for each range. Printing it shows a table."""

    functions: ClassVar[tuple[str, ...]] = ("calibrate",)

    ranges: tuple[CalibratedRange, ...]

    def __str__(self) -> str:
        header = ("layer", "quantizer", "bits", "inputs seen", "range", "clipped")
        rows = [
            (
                row.name,
                row.quantizer,
                str(row.bits),
                f"{row.seen_low:.4g} … {row.seen_high:.4g}",
                f"{row.low:.4g} … {row.high:.4g}",
                f"{100 * row.clipped:.2f} %",
            )
            for row in self.ranges
        ]
        return ruled(aligned([header, *rows], right=(2, 5)))


def calibrate(model: nn.Module, batches: Iterable[object]) -> Calibration:
    """Set the ranges of all activation quantizers that have one, by what a few batches bring.

    The model is run in eval mode, its layers with a range in float, so that every range is that of the float net;
    learned ranges start there. Nothing else changes. A BatchNorm that has seen no batch yet, of a new net, normalizes
    by the batches here, as it will in training. Quantizers say themselves how a range is found, see
    `DoReFaConfig.calibration`. In distributed training all processes call it, and get the ranges of the first one.

    Args:
        model: converted with range="calibrated" or "learned".
        batches: inputs of the model, tensors [batch, …] of floats or tokens, or tuples that begin with one, such as
            images and labels. They may come from a loader; all of them are used. A few hundred inputs are plenty.

    Returns:
        A table of the ranges.

    Raises:
        ValueError: no batch, an empty one, no quantizer with a range, one that no batch reached, inputs that are NaN or
            infinite, or all 0; the layer is named, and all ranges are as they were.
        TypeError: no module, or a batch that is no tensor, or of pixels as uint8.
        RuntimeError: it failed in another process.
    """
    check_module(model)
    if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches must be batches of inputs, such as a loader or the list [batch], got {type(batches).__name__}"
        )
    names = _quantizer_names(model)
    if not names:
        raise ValueError(
            "the model has no range to calibrate; convert it with a DoReFaConfig of "
            'range="calibrated" or range="learned"'
        )
    seen = {quantizer: Seen() for quantizer in names}
    with _all_or_none(names):
        _run(model, batches, seen)
        samples = {quantizer: _fit(name, quantizer, seen[quantizer]) for quantizer, name in names.items()}
    _share(names)
    return Calibration(tuple(_row(name, q, seen[q], samples[q]) for q, name in names.items()))


def _quantizer_names(model: nn.Module) -> dict[RangeQuantization, str]:
    """Return every quantizer with a range, with the name of its layer."""
    names: dict[RangeQuantization, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, RangeQuantization):
            layer = name.removesuffix(".activation_function").removesuffix(".activation")
            names[module] = layer if name else "the quantizer"
    return names


def _run(model: nn.Module, batches: Iterable[object], seen: dict[RangeQuantization, Seen]) -> None:
    count = 0
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with recording(model, seen) as recorded, eval_mode(model), torch.no_grad():
        for batch in batches:
            x = _inputs(batch, count)
            recorded(x.to(device))
            count += 1
    if count == 0:
        raise ValueError("batches is empty; pass a few batches of inputs, such as the training loader's first ones")


def _inputs(batch: object, index: int) -> Tensor:
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor):
        raise TypeError(
            f"batch {index} must be a tensor, or a tuple that begins with one, got {type(x).__name__}; "
            "(to_inputs(batch) for batch in loader) makes one of anything else"
        )
    if not x.is_floating_point() and x.dtype not in (torch.int32, torch.int64):  # these are indices of an embedding
        raise TypeError(f"batch {index} is {x.dtype}; pass what the model takes, such as bitorch.data.to_float(pixels)")
    if x.numel() == 0:
        raise ValueError(f"batch {index} is empty: its shape is {list(x.shape)}")
    return x


def _fit(name: str, quantizer: RangeQuantization, seen: Seen) -> Tensor:
    """Set the range, and return the inputs that it was found by, [count]."""
    if not seen.samples:
        raise ValueError(f"layer {name!r}: no batch reached its quantizer, so it has no range; is the layer used?")
    samples = seen.all()
    try:
        quantizer.fit_(samples if seen.finite else torch.full((), float("nan")))
    except ValueError as error:
        raise ValueError(
            f"layer {name!r}: {error}. Look at what comes before it (a dead ReLU, a BatchNorm without statistics), or "
            "leave the layer float with a rule"
        ) from None
    return samples


def _row(name: str, quantizer: RangeQuantization, seen: Seen, samples: Tensor) -> CalibratedRange:
    low, high = quantizer.limits()
    clipped = float(((samples < low) | (samples > high)).float().mean())
    return CalibratedRange(name, type(quantizer).__name__, quantizer.bit_width, low, high, seen.low, seen.high, clipped)


@contextmanager
def _all_or_none(quantizers: Iterable[RangeQuantization]) -> Iterator[None]:
    """Bring back all ranges after an error, also one in another process, which would wait for this one."""
    before = {quantizer: copy.deepcopy(quantizer.__dict__) for quantizer in quantizers}
    done = everywhere = False
    try:
        yield
        done = True
    finally:
        everywhere = _everywhere(done, next(iter(before)).range_bits.device)
        if not everywhere:
            for quantizer, state in before.items():
                _restore(quantizer, state)
    if not everywhere:
        raise RuntimeError("calibration failed in another process, which says why; all ranges are as they were")


def _everywhere(done: bool, device: torch.device) -> bool:
    """Whether all processes got this far."""
    if not _are_several():
        return done
    least = torch.tensor(int(done), device=device)
    dist.all_reduce(least, op=dist.ReduceOp.MIN)
    return bool(least)


def _are_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _restore(quantizer: RangeQuantization, state: dict[str, object]) -> None:
    """Bring back values in place, so that parameters stay the same objects."""
    with torch.no_grad():
        for kind in ("_parameters", "_buffers"):
            old = state[kind]
            assert isinstance(old, dict)
            for name, tensor in quantizer.__dict__[kind].items():
                if tensor is not None:
                    tensor.copy_(old[name])
    for name in ("_is_set", "_is_offset"):
        quantizer.__dict__[name] = state[name]


def _share(quantizers: Iterable[RangeQuantization]) -> None:
    """Take the ranges of the first process, where there are several."""
    if not _are_several():
        return
    for quantizer in quantizers:
        for tensor in (*quantizer.parameters(), *quantizer.buffers()):
            dist.broadcast(tensor.data, src=0)
        quantizer._mark_set()
