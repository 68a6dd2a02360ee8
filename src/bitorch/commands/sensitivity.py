"""`bitorch sensitivity`: how much worse a net is with other bits in one layer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic_file import write_text
from .console import print_error
from .places import check_place

if TYPE_CHECKING:
    from ..allocation.sensitivity import Sensitivity

_COLUMNS = (
    "layer", "weight_bits", "activation_bits", "accuracy", "accuracy_change", "loss", "loss_change",
)  # fmt: skip


def run(arguments: list[str]) -> int:
    """Measure, print the table and write the file."""
    from .arguments import parse_sensitivity

    try:
        settings, options = parse_sensitivity(arguments)
        if options.csv is not None:
            check_place("--csv", options.csv, "sensitivity.csv")
        # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
        from ..allocation.sensitivity import sensitivity
        from .held_out import held_out, pairs_from

        pairs = pairs_from(options.try_bits)
        held = held_out(settings, options.checkpoint, options.samples)
        found = sensitivity(
            held.parts.model,
            held.batches,
            pairs,
            layers=options.layers if options.layers else None,
            renew_statistics=options.renew_statistics,
            loss=held.loss,
            evaluation=settings.evaluation,
        )
        if options.csv is not None:
            _write_csv(found, options.csv)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    print(json.dumps(found.to_dict(), indent=2, allow_nan=False) if options.json else found)
    return 0


def _write_csv(found: Sensitivity, path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(row, name) for name in _COLUMNS] for row in found.rows)
    write_text(path, text.getvalue())
