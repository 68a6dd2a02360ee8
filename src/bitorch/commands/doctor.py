"""`bitorch doctor`."""

from __future__ import annotations

import argparse
import json

from ..doctor import doctor_report, format_report


def run(arguments: list[str]) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="bitorch doctor", description="Say what this machine and installation can do."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    report = doctor_report()
    print(json.dumps(report, indent=2) if parser.parse_args(arguments).json else format_report(report))
    return 0
