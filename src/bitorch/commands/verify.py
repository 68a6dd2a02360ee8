"""`bitorch verify`: is a packed net its checkpoint, on a whole test set?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from .console import FAILED, print_error, print_table
from .net_flags import NetFlags
from .options import parse

if TYPE_CHECKING:
    from ..deployment.runtime.walk import Comparison
    from .packed_verification import PackedVerification

_SHOWN_IMAGES = 5


@dataclass(frozen=True)
class _Arguments:
    """Compare a packed net, or an ONNX file, with the model of its checkpoint on all test images: every tensor, number
    by number.

    Exit code 0: no sum, code or exact float differs, and both predict the same class for every image; 1: something
    differs; 2: wrong arguments or files, or the packed net is of another network.
    """

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """Written by bitorch train."""
    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file that bitorch deploy made of it, or NAME.onnx of bitorch export."""
    data: str | None = None
    """Data set; the run's own if not given."""
    folder: Path | None = None
    """Folder that holds the files of the data set."""
    made: tyro.conf.OmitArgPrefixes[NetFlags] = field(default_factory=NetFlags)
    batch: int = 100
    """Images that are compared at a time; all tensors of a batch are in memory together."""
    json: bool = False
    """Print JSON instead of a table."""


def run(arguments: list[str]) -> int:
    """Compare, and print what was found."""
    options = parse(_Arguments, arguments, "bitorch verify")
    try:
        options.made.check()
    except ValueError as error:
        return print_error(error)
    # Only here: Lightning takes seconds to import, for which --help need not wait.
    from .packed_verification import verify_packed

    try:
        found = verify_packed(
            options.checkpoint,
            options.net,
            options.data,
            options.folder,
            options.batch,
            model=options.made.model,
            config=options.made.config,
        )
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    if options.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print_table(found)
    return 0 if found else print_error(_difference(found), FAILED)


def _print_table(found: PackedVerification) -> None:
    from ..train.progress import value_text

    rows = {"test samples" if found.checkpoint_metrics else "test images": f"{found.images:,}"}
    for kind, comparisons in _by_kind(found).items():
        if comparisons:
            rows[kind] = _counted(comparisons)
    others, largest = len(found.other_predictions), found.largest_score_difference
    if found.checkpoint_top1 is not None and found.net_top1 is not None:
        rows["top-1, checkpoint"] = f"{found.checkpoint_top1:.2%}"
        rows["top-1, packed net"] = f"{found.net_top1:.2%}"
    for name, value in found.checkpoint_metrics.items():
        if name != "acc":
            rows[f"{name}, checkpoint"] = value_text(name, value)
            rows[f"{name}, packed net"] = value_text(name, found.net_metrics[name])
    has_classes = found.checkpoint_top1 is not None
    rows |= {
        "scores" if has_classes else "outputs": f"differ by up to {largest:.1e}"
        if largest
        else "all equal, bit for bit",
        "predictions": f"{others:,} DIFFER" if others else "all equal",
    }
    print_table(f"{found.net} beside {found.checkpoint} on {found.data}", rows)


def _by_kind(found: PackedVerification) -> dict[str, list[Comparison]]:
    """The comparisons of exact sums, codes and exact floats, and of those floats that are sums of floats."""
    comparisons = found.verification.comparisons
    exact = {kind: [c for c in comparisons if c.exact and c.kind == kind] for kind in ("sums", "codes", "floats")}
    return {**exact, "summed floats": [c for c in comparisons if not c.exact]}


def _counted(comparisons: Sequence[Comparison]) -> str:
    elements, different = sum(c.elements for c in comparisons), sum(c.different for c in comparisons)
    largest = max(c.largest for c in comparisons)
    tensors = f"{elements:,} in {len(comparisons)} tensors"
    if different == 0:
        return f"{tensors}: equal, bit for bit"
    if all(c.ok for c in comparisons):  # only of summed floats
        return f"{tensors}: {different:,} differ in their last bits, by up to {largest:.1e}"
    return f"{tensors}: {different:,} DIFFER, by up to {largest:.6g}"


def _difference(found: PackedVerification) -> str:
    """What differs first, and where."""
    if not found.verification:
        if found.first_batch is None:
            return f"the net {found.verification}"
        last = min(found.first_batch + found.batch, found.images) - 1
        return f"the packed net {found.verification}\nFirst seen in images {found.first_batch} to {last}."
    others = found.other_predictions
    shown = ", ".join(map(str, others[:_SHOWN_IMAGES])) + ("" if len(others) <= _SHOWN_IMAGES else ", …")
    return (
        f"another class in {len(others)} of {found.images} images ({shown}), although every tensor is equal where "
        "those before it are: the last bits of float sums, whose order is free, decided between two codes or classes"
    )


def _as_json(found: PackedVerification) -> dict[str, Any]:
    numbers = {
        kind.replace(" ", "_"): {
            "tensors": len(comparisons),
            "compared": sum(c.elements for c in comparisons),
            "different": sum(c.different for c in comparisons),
            "largest": max((c.largest for c in comparisons), default=0.0),
        }
        for kind, comparisons in _by_kind(found).items()
    }
    first = found.verification.first_difference
    return {
        "checkpoint": found.checkpoint,
        "net": found.net,
        "data": found.data,
        "images": found.images,
        "equal": bool(found),
        **numbers,
        "first_difference": None if first is None else asdict(first),
        "checkpoint_top1": found.checkpoint_top1,
        "net_top1": found.net_top1,
        "checkpoint_metrics": found.checkpoint_metrics,
        "net_metrics": found.net_metrics,
        "largest_score_difference": found.largest_score_difference,
        "other_predictions": list(found.other_predictions),
    }
