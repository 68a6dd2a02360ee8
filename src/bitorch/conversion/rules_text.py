"""The text of a rules file, YAML or JSON, as plain lists and mappings, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

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
        ValueError: text that is not of that format, a key twice in one mapping, a YAML tag.
        ImportError: YAML without PyYAML.
    """
    try:
        if kind == "json":
            return json.loads(text, object_pairs_hook=_mapping, parse_constant=_constant)
        return _parse_yaml(text, _yaml())
    except RecursionError:
        raise ValueError(f"is no rules file: its {kind.upper()} is nested too deeply") from None


def spell(entries: Sequence[dict[str, Any]], kind: Format) -> str:
    """Return the text of entries, which `parse` reads; ImportError for YAML without PyYAML."""
    if kind == "json":
        return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    # Not allow_unicode=True, which writes U+0085 as it is and reads it back as a space.
    text: str = _yaml().safe_dump(list(entries), sort_keys=False)
    return text


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as a dict; ValueError for a key that is there twice."""
    mapping: dict[str, object] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key!r} stands twice in one mapping")
        mapping[key] = value
    return mapping


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


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


def _parse_yaml(text: str, yaml: ModuleType) -> object:
    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]  # a module that need not be there
        """SafeLoader that takes no tags, since rules have no use for them, and no key twice."""

        def compose_node(self, parent: object, index: object) -> object:
            tag = getattr(self.peek_event(), "tag", None)
            if tag is not None:
                raise ValueError(f"the tag {tag!r} is not allowed; rules are texts, numbers and lists only")
            return super().compose_node(parent, index)

        def compose_mapping_node(self, anchor: object) -> object:
            node = super().compose_mapping_node(anchor)
            _mapping([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return node

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        hint = "names that begin with * or hold ': ' or ' #' need quotes"
        raise ValueError(f"{' '.join(str(error).split())}; {hint}") from None
