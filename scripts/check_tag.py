"""Whether a tag is that of the version that both packages have: `python scripts/check_tag.py v0.1.0`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Return the version of each project, as its pyproject.toml has it."""
    found = {}
    for folder in (ROOT, ROOT / "runtime"):
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        fields = dict(re.findall(r'^(name|version) = "([^"]*)"', text, re.MULTILINE))
        found[fields["name"]] = fields["version"]
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python scripts/check_tag.py TAG", file=sys.stderr)
        return 2
    wrong = {name: version for name, version in versions().items() if f"v{version}" != arguments[0]}
    for name, version in wrong.items():
        print(f"the tag is {arguments[0]}, and {name} has version {version}: tag it v{version}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
