"""Ranges of activations from a few batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..batches import read_batch
from ..in_place import InPlaceTable, check_module
from ..layers.low_bit import WeightQuantized
from ..layers.own_mode import check_own_mode
from ..quantizations import Quantization, RangeQuantization
from ..quantizations.learned_start import LearnedStart
from ..text_table import aligned, ruled
from ..wrappers import unwrapped
from .recording import Seen, eval_mode, recording


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
    """What `calibrate` did, one row for each range. Printing it shows a table.

    Attributes:
        ranges: of activations.
        renewed: names of the layers whose learned weight steps were started anew.
    """

    functions: ClassVar[tuple[str, ...]] = ("calibrate",)

    ranges: tuple[CalibratedRange, ...]
    renewed: tuple[str, ...] = ()

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
        table = ruled(aligned([header, *rows], right=(2, 5)))
        return table + (f"\nweight steps started anew: {', '.join(self.renewed)}" if self.renewed else "")


def calibrate(model: nn.Module, batches: Iterable[object]) -> Calibration:
    """Set the ranges of all activation quantizers that have one, by what a few batches bring.

    The model is run in eval mode, its layers with a range in float, so that every range is that of the float net;
    learned ranges start there. A BatchNorm that has seen nothing yet, whose running mean is 0 and variance 1 in all
    channels, normalizes by the batches here, as it will in training. Quantizers say themselves how a range is found,
    see `LowBitConfig.calibration`. In distributed training all processes call it, and get the ranges of the first one.

    A learned step of a weight (`WeightLSQ`, `WeightTTQ`) stays as it is once it was trained, or came with a checkpoint.
    If it is still where it started, and the weight has become another one that it does not fit, as by `nn.init` after
    `quantize_`, it starts anew: where its squared error is more than 1.5 times that of a new start, and 1 % of the
    squared weight. Nothing else changes.

    Args:
        model: converted with range="calibrated" or "learned"; with learned weight steps alone no batch is run.
        batches: inputs of the model, of floats or tokens: tensors [batch, …], pairs of inputs and labels such as
            (x, y) and ((u, v), y), or dicts for model(**batch); docs/training.md has the whole table. They may come
            from a loader; all of them are used. A few hundred inputs are plenty.

    Returns:
        A table of the ranges, and the layers whose weight steps started anew.

    Raises:
        ValueError: no batch, an empty one, one without all inputs that forward needs, no quantizer with a range, one
            that no batch reached, inputs that are NaN or infinite, or all 0; the layer is named, and all ranges are as
            they were.
        TypeError: no module, or a batch without a tensor, or of pixels as uint8.
        RuntimeError: it failed in another process.
    """
    model = unwrapped(model)
    check_module(model)
    if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches must be batches of inputs, such as a loader or the list [batch], got {type(batches).__name__}"
        )
    check_own_mode(model)
    names = _quantizer_names(model)
    learned = {name: layer for name, layer in model.named_modules() if _has_learned_step(layer)}
    if not names and learned:
        return Calibration((), _renew(learned))
    if not names:
        is_dynamic = any(isinstance(part, Quantization) and part.is_by_row for part in model.modules())
        raise ValueError(
            "the model has no range to calibrate: its rows' steps are found while it runs, so leave calibrate out"
            if is_dynamic
            else "the model has no range to calibrate; convert it with a LowBitConfig of "
            'range="calibrated" or range="learned"'
        )
    seen = {quantizer: Seen() for quantizer in names}
    with _all_or_none(names):
        _run(model, batches, seen)
        samples = {quantizer: _fit(name, quantizer, seen[quantizer]) for quantizer, name in names.items()}
    _share(names)
    rows = tuple(_row(name, q, seen[q], samples[q]) for q, name in names.items())
    return Calibration(rows, _renew(learned))


def _has_learned_step(layer: nn.Module) -> TypeGuard[WeightQuantized]:
    return isinstance(layer, WeightQuantized) and isinstance(layer.weight_quantization, LearnedStart)


def _renew(layers: Mapping[str, WeightQuantized]) -> tuple[str, ...]:
    """Start untrained weight steps anew where they do not fit, and return the names of their layers."""
    return tuple(name for name, layer in layers.items() if layer._renew_steps())


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
            read_batch(batch, model, f"batch {count}").to(device).run(recorded)
            count += 1
    if count == 0:
        raise ValueError("batches is empty; pass a few batches of inputs, such as the training loader's first ones")


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
    before = {quantizer: _state(quantizer) for quantizer in quantizers}
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


@dataclass(frozen=True)
class _State:
    """What a calibration changes of a quantizer."""

    tensors: tuple[Tensor, ...]
    is_set: bool
    is_offset: bool


def _state(quantizer: RangeQuantization) -> _State:
    tensors = tuple(tensor.detach().clone() for tensor in (*quantizer.parameters(), *quantizer.buffers()))
    return _State(tensors, quantizer._is_set, quantizer._is_offset)


def _restore(quantizer: RangeQuantization, state: _State) -> None:
    """Bring back values in place, so that parameters stay the same objects."""
    for tensor, old in zip((*quantizer.parameters(), *quantizer.buffers()), state.tensors, strict=True):
        tensor.data.copy_(old)
    quantizer._is_set, quantizer._is_offset = state.is_set, state.is_offset


def _share(quantizers: Iterable[RangeQuantization]) -> None:
    """Take the ranges of the first process, where there are several."""
    if not _are_several():
        return
    for quantizer in quantizers:
        for tensor in (*quantizer.parameters(), *quantizer.buffers()):
            dist.broadcast(tensor.data, src=0)
        quantizer._mark_set()
