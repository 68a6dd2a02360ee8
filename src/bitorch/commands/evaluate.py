"""`bitorch eval`: of a checkpoint or of a packed net."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from .console import print_error, print_table
from .net_flags import NetFlags
from .options import parse

if TYPE_CHECKING:
    from ..train import Evaluation
    from .packed_evaluation import PackedEvaluation


@dataclass(frozen=True)
class _Arguments:
    """Evaluate a checkpoint, or a packed net, on test images: top-1 and top-5 accuracy."""

    checkpoint: tyro.conf.Positional[Path]
    """Written by bitorch train, or by bitorch deploy."""
    data: str | None = None
    """Data set; the run's own if not given."""
    folder: Path | None = None
    """Folder that holds the files of the data set."""
    made: tyro.conf.OmitArgPrefixes[NetFlags] = field(default_factory=NetFlags)
    loss: str | None = None
    """Loss, as in bitorch train; the run's own if not given."""
    metric: str | None = None
    """Metric, as in bitorch train; the run's own if not given."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Hardware to run on. Packed nets run on the CPU."""
    evaluation: Literal["auto", "packed", "unpacked"] = "auto"
    """What low-bit layers compute with: auto takes packed weights where it can and is faster; packed, an error where
    something is in the way; unpacked, what they train with. The numbers are the same."""
    json: bool = False
    """Print JSON instead of a table."""


def run(arguments: list[str]) -> int:
    """Evaluate, and print the result."""
    options = parse(_Arguments, arguments, "bitorch eval")
    try:
        options.made.check()
    except ValueError as error:
        return print_error(error)
    # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
    from ..train import evaluate
    from .packed_evaluation import evaluate_packed, is_packed

    evaluation: Evaluation | PackedEvaluation
    try:
        if is_packed(options.checkpoint):
            if options.accelerator not in ("auto", "cpu"):
                raise ValueError(f"a packed net runs on the CPU, not on accelerator {options.accelerator!r}")
            if options.evaluation == "unpacked":
                raise ValueError("a packed net has nothing else than packed weights; leave --evaluation unpacked out")
            options.made.refuse("a packed net holds its layers")
            evaluation = evaluate_packed(
                options.checkpoint, options.data, options.folder, loss=options.loss, metric=options.metric
            )
        else:
            evaluation = evaluate(
                options.checkpoint,
                options.data,
                options.folder,
                model=options.made.model,
                config=options.made.config,
                loss=options.loss,
                metric=options.metric,
                accelerator=options.accelerator,
                evaluation=options.evaluation,
            )
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    if options.json:
        print(json.dumps(_plain(evaluation), indent=2))
    else:
        _print_evaluation(evaluation)
    return 0


def _plain(evaluation: Evaluation | PackedEvaluation) -> dict[str, Any]:
    """Return the fields as types that JSON has: names of layers on packed weights, and the reasons of the others."""
    from ..train import Evaluation

    fields = asdict(evaluation)
    if isinstance(evaluation, Evaluation):
        fields["evaluated"] = {"packed": evaluation.evaluated.packed, "unpacked": evaluation.evaluated.unpacked}
    return fields


def _print_evaluation(evaluation: Evaluation | PackedEvaluation) -> None:
    from ..train import Evaluation
    from ..train.progress import value_text

    bits = "" if evaluation.bits is None else f", bits {' '.join(map(str, evaluation.bits))}"
    has_classes = evaluation.top1 is not None
    rows = {
        "model": "" if evaluation.model is None else f"{evaluation.model}{bits}",
        "test images" if has_classes else "test samples": str(evaluation.images),
        "loss": f"{evaluation.loss:.4f}",
        "top-1": "" if evaluation.top1 is None else f"{evaluation.top1:.2%}",
        "top-5": "" if evaluation.top5 is None else f"{evaluation.top5:.2%}",
        **{name: value_text(name, value) for name, value in evaluation.metrics.items() if name not in ("acc", "top5")},
    }
    print_table(f"{evaluation.checkpoint} on {evaluation.data}", rows)
    if isinstance(evaluation, Evaluation) and evaluation.evaluated.layers:
        print(evaluation.evaluated)
