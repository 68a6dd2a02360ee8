"""`bitorch report`: what each layer of a net costs."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .console import print_error
from .flags import flags_text
from .places import check_place

if TYPE_CHECKING:
    from ..deployment.runtime.packed_model import PackedModel
    from ..reporting.report import Report
    from ..train import Settings
    from .arguments import ReportArguments


def run(arguments: list[str]) -> int:
    """Report a net, print the table and write the files."""
    from .arguments import parse_report

    try:
        settings, options = parse_report(arguments)
        if options.images < 1:
            raise ValueError(f"--images {options.images}: must be at least 1")
        for flag, path in (("--html", options.html), ("--csv", options.csv)):
            if path is not None:
                check_place(flag, path, f"report.{flag[2:]}")
        if options.html is not None and find_spec("matplotlib") is None:
            raise ImportError('--html needs matplotlib: pip install ".[plots]" in a checkout of bitorch')
        found = _report(settings, options)
        if options.html is not None:
            found.to_html(options.html)
        if options.csv is not None:
            found.to_csv(options.csv)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    print(json.dumps(found.to_dict(), indent=2, allow_nan=False) if options.json else _text(found))
    return 0


def _text(found: Report) -> str:
    """The table as wide as it is, or as the terminal."""
    from ..reporting.tables import plain_table

    return plain_table(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)


def _report(settings: Settings, options: ReportArguments) -> Report:
    # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
    from ..data import first_batch
    from ..reporting.report import report
    from ..train.assemble import assemble
    from ..train.run_data import floats

    parts = assemble(settings, of=options.checkpoint)
    batch = floats(first_batch(parts.dataset.test, options.images))
    about = _about(settings, options.checkpoint, min(options.images, len(parts.dataset.test)))
    return report(parts.model, batch, packed=_packed(settings, options.checkpoint), about=about)


def _about(settings: Settings, path: Path | None, images: int) -> dict[str, str]:
    """What the page says of the net: its checkpoint, how good it was, its settings, and what it was run on."""
    from ..train import read_checkpoint

    facts = {} if path is None else {"checkpoint": f"{path.parent.name}/{path.name}"}
    history = () if path is None else read_checkpoint(path, any_module=True).history
    if history:
        last = {name.removeprefix("val/"): value for name, value in history[-1].items() if name.startswith("val/")}
        shares = {"acc": "top-1", "top5": "top-5"}
        numbers = [f"{shares[n]} {v:.2%}" if n in shares else f"{n} {v:.4g}" for n, v in last.items()]
        facts["on test data"] = f"{', '.join(numbers)}, after epoch {history[-1]['epoch']:.0f}"
    said = flags_text(settings)
    return {**facts, "settings": said if said else "all defaults", "ranges of": f"{images} test images"}


def _packed(settings: Settings, path: Path | None) -> PackedModel | None:
    """What `bitorch deploy` writes of a checkpoint, with all its notes; None if there is none, or it cannot."""
    if path is None or find_spec("bitorch_runtime") is None:
        return None
    from ..own_code import is_own
    from ..train import read_checkpoint
    from .from_checkpoint import deploy_checkpoint

    trained = read_checkpoint(path, any_module=True).settings
    own = is_own(settings.model)  # whose place may be another one now
    if trained is None or (own or trained.model, trained.width, trained.config, trained.rules) != (
        own or settings.model,
        settings.width,
        settings.config,
        settings.rules,
    ):
        return None  # flags have changed the net
    try:
        return deploy_checkpoint(path, model=settings.model if own else None).packed
    except ValueError:  # the report says what stands in the way
        return None
