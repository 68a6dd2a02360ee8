"""What a model costs, layer by layer: `bitorch.report`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..atomic_file import write_text
from ..batches import read_batch
from ..by_position import by_position
from ..containers import is_container
from ..deployment.capture.preconditions import check_types
from ..deployment.capture.runs import run_or_raise
from ..layers.low_bit import WeightQuantized
from ..model_copy import copied
from ..quantizations.bits import FLOAT_BITS
from ..running import as_it_was
from ..wrappers import unwrapped
from .circumstances import circumstances
from .deployed import NO_RUNTIME, Deployed, deployed
from .macs import REST, count_macs
from .observation import Observation, observe
from .parts import Shares, bits, parts_of, weight_levels, weight_of
from .report_data import ReportData
from .rows import Row, Totals
from .tables import as_dict, csv_text, plain_table, rich_table

if TYPE_CHECKING:
    from rich.table import Table

    from ..deployment.runtime.packed_model import PackedModel

#: What the plain product of two floats counts.
_FLOAT_OPERATIONS = FLOAT_BITS * FLOAT_BITS


@dataclass(frozen=True)
class Report(ReportData):
    """What `bitorch.report` found. Printing it shows a table, with rich too.

    Attributes:
        model: the class of the model.
        rows: one for each module that holds parameters, buffers or a quantizer, in the order of their first calls, then
            what belongs to none of them.
        totals: the sums of the rows.
        deployment: "whole" (one packed file), "partial" (packed layers in PyTorch), "none", or "unknown" where
            bitorch_runtime is not installed.
        bytes_are: what the packed bytes are those of: the packed file, exactly; else the sentence says.
        notes: what one has to know to read the numbers.
        problems: what stands in the way of one packed file.
        packed: the packed model, where there is one; its `save` writes `totals.packed_bytes` bytes.
        about: by name, the date, the machine, the versions, and what the caller said of the model.
    """

    def __str__(self) -> str:
        return plain_table(self)

    def __rich__(self) -> Table:
        return rich_table(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but histograms, in types that JSON has."""
        return as_dict(self)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line for each row, then the totals, with plain numbers; cells without a value are empty.

        Raises:
            OSError: it cannot be written. A file that was there before is then still there.
        """
        write_text(path, csv_text(self))

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page that needs no other file and no network: the table, to be sorted by a click, and plots.

        Raises:
            ImportError: matplotlib is not installed.
            OSError: it cannot be written. A file that was there before is then still there.
        """
        from .page import page

        write_text(path, page(self))


def report(
    model: nn.Module,
    *example: Any,
    packed: PackedModel | None = None,
    repeats: int = 20,
    about: Mapping[str, str] | None = None,
) -> Report:
    """Say what a model costs, layer by layer: bits, bytes, multiply-adds, levels that occur, kernels, milliseconds.

    The model may be float, low-bit, trained or not. A copy of it runs in eval mode on the example, and is deployed,
    wholly where that can be (then bytes, kernels and times are those of the packed program), else layer by layer. The
    model itself and the random generator stay as they are.

    Args:
        model: any module.
        example: what its forward takes: tensors with a batch as first dimension, or one batch of a loader such as
            (x, y), ((u, v), y) or a dict, whose labels are left out (docs/training.md has the whole table). Ranges and
            levels of activations are those of the whole batch; multiply-adds and milliseconds those of its first image.
        packed: what `deploy` has made of this model, to be reported in place of what it would make now.
        repeats: how many runs are timed, after one that does not count; the fastest counts.
        about: what the page shall say of the model, by name: {"accuracy": "98.6 %", "settings": "--bits 1 2 6"}.

    Raises:
        TypeError: no module, no example, no tensor, `repeats` no int, `packed` no PackedModel, `about` no dict of
            texts.
        ValueError: the model cannot be run on the example, batches are empty or differ, `repeats` is below 1; `packed`
            was read from the file of another network.
    """
    callee = model = unwrapped(model)
    if isinstance(model, nn.Module) and len(example) == 1 and is_container(example[0]):
        callee, example = by_position(model, read_batch(example[0], model, "the example"))
    _check(model, example, packed, repeats)
    said = _texts(about)
    with torch.random.fork_rng(devices=[]):
        own = copied(callee).to("cpu").eval()
        given = [x.detach().to("cpu") for x in example]
        image = [x[:1] for x in given]
        parts = parts_of(own)
        with as_it_was(own):
            seen = observe(own, parts, given)
            run_or_raise(own, image, "the first input alone", "Let forward take a batch of one")
            macs = count_macs(own, parts, image)
            made = deployed(own, parts, image, packed, repeats)
    rows = _rows(parts, seen, macs, made)
    return Report(
        model=type(model).__name__,
        rows=rows,
        totals=Totals.of(rows),
        deployment=made.how,
        bytes_are=made.bytes_are,
        notes=tuple(_notes(made, any(isinstance(part, WeightQuantized) for part in parts.values()))),
        problems=made.problems,
        packed=made.packed,
        about={**said, **circumstances()},
    )


def _texts(about: object) -> dict[str, str]:
    if about is None:
        return {}
    if not isinstance(about, Mapping) or not all(isinstance(text, str) for item in about.items() for text in item):
        raise TypeError(f"about must be a dict of texts by name, such as {{'accuracy': '98.6 %'}}, got {about!r}")
    return dict(about)


def _check(model: object, example: Sequence[object], packed: object, repeats: object) -> None:
    check_types(model, example)
    assert isinstance(model, nn.Module)  # just checked
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"{name} has no shape yet; run one batch through the model first")
        if tensor.is_meta:
            raise ValueError(f"{name} is on the device meta, which holds no numbers; load the model's weights first")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("scripted modules cannot be looked into; pass the Python module")
    for index, x in enumerate(example):
        assert isinstance(x, Tensor)  # just checked
        if x.is_meta or x.layout != torch.strided:
            kind = "on the device meta, and holds no numbers" if x.is_meta else f"{x.layout}; pass x.to_dense()"
            raise ValueError(f"example {index} is {kind}")
        if x.dim() == 0 or len(x) == 0:
            raise ValueError(f"example {index}: the shape is {list(x.shape)}, but it must be a batch of at least one")
    batches = [len(x) for x in example if isinstance(x, Tensor)]
    if len(set(batches)) > 1:
        raise ValueError(f"the examples have batches of {batches}; give as many images in each input")
    if isinstance(repeats, bool) or not isinstance(repeats, int):
        raise TypeError(f"repeats must be an int, got {repeats!r}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if packed is not None:
        _check_packed(packed, example)


def _check_packed(packed: object, example: Sequence[object]) -> None:
    from ..deployment.runtime.packed_model import PackedModel, TensorSpec

    if not isinstance(packed, PackedModel):
        raise TypeError(f"packed must be a PackedModel, as bitorch.deploy returns it, got {type(packed).__name__}")
    shapes = [tuple(x.shape[1:]) for x in example if isinstance(x, Tensor)]
    takes = [spec.shape for spec in packed.inputs]
    if len(shapes) != len(takes) or not all(map(TensorSpec.takes, packed.inputs, shapes)):
        raise ValueError(f"the packed model takes images of {takes}, but the example has {shapes}; pass its own model")


def _rows(
    parts: Mapping[str, nn.Module], seen: Observation, macs: Mapping[str | None, int], made: Deployed
) -> tuple[Row, ...]:
    """One row for each part, in the order of calls, and for what is none."""
    numbers, floats = Shares(), Shares()
    sizes = {name: (numbers.parameters(part), floats.float_bytes(part)) for name, part in parts.items()}
    total = sum(made.seconds.values()) + sum(own.seconds for own in made.rest.values() if own.seconds is not None)
    order = _ordered(parts, seen)
    rows = [_row(name, parts[name], seen, macs.get(name, 0), sizes[name], made, total) for name in order]
    rest = macs.get(REST, 0)
    for name, own in made.rest.items():
        own_macs, rest = (rest, 0) if name == "other operations" else (0, rest)
        rows.append(
            Row(
                name=name,
                kind=own.kind,
                packed_bytes=own.bytes,
                macs=own_macs,
                bit_operations=own_macs * _FLOAT_OPERATIONS,
                deploys=own.deploys,
                kernel=own.kernel,
                milliseconds=None if own.seconds is None else 1e3 * own.seconds,
                share=None if own.seconds is None or total == 0 else own.seconds / total,
            )
        )
    if rest:
        rows.append(Row("other operations", "operations", macs=rest, bit_operations=rest * _FLOAT_OPERATIONS))
    return tuple(rows)


def _ordered(parts: Mapping[str, nn.Module], seen: Observation) -> list[str]:
    """Parts in the order of their first calls; one that was not called comes behind the one that is before it."""
    order = [name for name in seen.shapes if name in parts]
    previous = None
    for name in parts:
        if name not in seen.shapes:
            order.insert(0 if previous is None else order.index(previous) + 1, name)
        previous = name
    return order


def _row(
    name: str,
    part: nn.Module,
    seen: Observation,
    macs: int,
    sizes: tuple[int, int],
    made: Deployed,
    total: float,
) -> Row:
    weight_bits, activation_bits, gradient_bits = bits(part)
    weight = weight_of(part)
    levels, histogram = weight_levels(part)
    seconds = made.seconds.get(name)
    deploys, kernel, note = _fate(name, weight is not None and weight.dim() >= 2, seen, made)
    operations = macs * _bits_or_float(weight_bits) * _bits_or_float(activation_bits)
    return Row(
        name=name if name else "(model)",
        kind=type(part).__name__,
        weight_shape=() if weight is None else tuple(weight.shape),
        output_shape=seen.shapes.get(name, ()),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        gradient_bits=gradient_bits,
        parameters=sizes[0],
        float_bytes=sizes[1],
        packed_bytes=made.bytes[name],
        macs=macs,
        bit_operations=operations,
        weight_levels=levels,
        activation_levels=seen.levels.get(name),
        activation_range=seen.ranges.get(name),
        deploys=deploys,
        kernel=kernel,
        note=note,
        milliseconds=None if seconds is None else 1e3 * seconds,
        share=None if seconds is None or total == 0 else seconds / total,
        weights=histogram,
        activations=seen.histograms.get(name),
    )


def _bits_or_float(width: int | None) -> int:
    return FLOAT_BITS if width is None else width


def _fate(name: str, is_layer: bool, seen: Observation, made: Deployed) -> tuple[bool | None, str, str]:
    """Whether a part deploys, what computes it, and why not."""
    note = made.notes.get(name, "")
    if name not in seen.shapes:
        note = note if note else "its forward is not called"
    if made.how == "unknown":
        return None, "", note
    if made.how == "whole" and name not in made.kernels and name in seen.shapes:
        return (False, "", "not in the program") if is_layer else (True, "fused", note)
    return made.deploys.get(name, False), made.kernels.get(name, ""), note


def _notes(made: Deployed, is_low_bit: bool) -> list[str]:
    notes = [f"packed bytes are {made.bytes_are}"]
    if made.how == "unknown":
        return [*notes, NO_RUNTIME, "no time was measured"]
    if made.how == "whole":
        import bitorch_runtime

        where, threads = "the packed program", bitorch_runtime.get_num_threads()
    else:
        where, threads = "PyTorch", torch.get_num_threads()
        where += " with packed layers" if made.how == "partial" else ", where low-bit layers are unpacked" * is_low_bit
    with_threads = f"{threads} thread{'s' if threads > 1 else ''}"
    return [*notes, f"milliseconds are those of one image in {where}, with {with_threads}"]
