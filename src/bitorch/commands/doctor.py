"""`bitorch doctor`."""

from __future__ import annotations

import argparse
import json

from .console import print_error


def run(arguments: list[str]) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="bitorch doctor", description="Say what this machine and installation can do."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options, rest = parser.parse_known_args(arguments)
    if rest:
        return print_error(f"bitorch doctor takes --json and nothing else, got {' '.join(rest)}")
    # Only here: PyTorch takes seconds to import, for which --help need not wait.
    from ..doctor import doctor_report, format_report

    report = doctor_report()
    print(json.dumps(report, indent=2) if options.json else format_report(report))
    return 0
