"""The text of a rules file, YAML or JSON, as plain lists and mappings, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ..structured_text import parse_json, parse_yaml

Format = Literal["json", "yaml"]
_FORMATS: dict[str, Format] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def format_of(path: Path) -> Format:
    """Return the format that a file's name says; ValueError for another name."""
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path}: the name of a rules file ends in {', '.join(_FORMATS)}, got {path.suffix!r}")
    return _FORMATS[path.suffix.lower()]


def parse(text: str, kind: Format) -> object:
    """Return what a text holds.

    Raises:
        ValueError: text that is not of that format, a key twice in one mapping, a YAML tag, more or deeper values than
            rules have.
        ImportError: YAML without PyYAML.
    """
    if kind == "json":
        return parse_json(text)
    return parse_yaml(text, _yaml(), hint="; names that begin with * or hold ': ' or ' #' need quotes")


def spell(entries: Sequence[dict[str, Any]], kind: Format) -> str:
    """Return the text of entries, which `parse` reads; ImportError for YAML without PyYAML."""
    if kind == "json":
        return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    # Not allow_unicode=True, which writes U+0085 as it is and reads it back as a space.
    text: str = _yaml().safe_dump(list(entries), sort_keys=False)
    return text


def _yaml() -> ModuleType:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ImportError(
            'rules in YAML need PyYAML, of the extra "train": pip install ".[train]" in a checkout of bitorch; '
            "rules in JSON, a file that ends in .json, need nothing",
            name=error.name,
        ) from error
    return yaml
