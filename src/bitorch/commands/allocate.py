"""`bitorch allocate`: bits for each layer that a budget allows, as a file of rules."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from .console import print_error
from .places import check_place

if TYPE_CHECKING:
    from ..allocation.budget import Budget

_BYTES = {"": 1, "b": 1, "bytes": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2}
_MILLISECONDS = {"ms": 1.0, "us": 1e-3, "µs": 1e-3}
_BUDGET = re.compile(r"([\d_]*\.?\d+)\s*([a-zµ]*)")


def run(arguments: list[str]) -> int:
    """Allocate, print the table and write the rules."""
    from .arguments import parse_allocate

    try:
        settings, options = parse_allocate(arguments)
        if options.rules_out is not None:
            check_place("--rules-out", options.rules_out, "rules.yaml")
        # Only here: Lightning takes seconds to import, for which --help and a wrong flag need not wait.
        from ..allocation.allocate import allocate
        from ..conversion.rules import Rule
        from ..conversion.rules_file import save_rules
        from ..conversion.rules_text import format_of
        from .allocated_rules import allocated_rules
        from .held_out import held_out, pairs_from

        if options.budget is None:
            raise ValueError("--budget is missing: bytes of the packed file, such as 60kB, or time, such as 0.5ms")
        budget, pairs = budget_of(options.budget), pairs_from(options.try_bits)
        if options.rules_out is not None:
            format_of(options.rules_out)
        held = held_out(settings, options.checkpoint, options.samples)
        found = allocate(
            held.parts.model,
            held.batches,
            budget,
            pairs,
            layers=options.layers if options.layers else None,
            renew_statistics=options.renew_statistics,
            loss=held.loss,
            evaluation=settings.evaluation,
        )
        if options.rules_out is not None:
            base = [Rule("*", settings.config)] if held.parts.rules is None else held.parts.rules
            save_rules(options.rules_out, allocated_rules(found, base, held.parts.model))
    except (ValueError, TypeError, OSError, ImportError) as error:
        return print_error(error)
    print(json.dumps(found.to_dict(), indent=2, allow_nan=False) if options.json else found)
    if options.rules_out is not None and not options.json:
        print(f"\n{options.rules_out} has these bits; train on with\n  {_next(options.checkpoint, options.rules_out)}")
    return 0


def budget_of(text: str) -> Budget:
    """Return the budget of a text such as 60000, 60kB, 58KiB, 0.5ms or 300us.

    Raises:
        ValueError: something else.
    """
    from ..allocation.budget import Budget

    match = _BUDGET.fullmatch(text.strip().lower())
    unit = "" if match is None else match[2]
    if match is None or unit not in _BYTES | _MILLISECONDS:
        raise ValueError(
            f"--budget {text}: must be bytes, such as 60000, 60kB or 58KiB, or time, such as 0.5ms or 300us"
        )
    number = float(match[1])
    if unit in _MILLISECONDS:
        return Budget(milliseconds=number * _MILLISECONDS[unit])
    return Budget(bytes=round(number * _BYTES[unit]))


def _next(checkpoint: Path | None, rules: Path) -> str:
    """Return the command that trains with the rules."""
    start = "" if checkpoint is None else f" --init {shlex.quote(str(checkpoint))}"
    return f"bitorch train … --rules {shlex.quote(str(rules))}{start}"
