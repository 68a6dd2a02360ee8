"""YAML and JSON from anywhere as plain lists, mappings and values: within bounds that no file of ours comes near."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .short_repr import short_repr

#: Of a file.
MAX_BYTES = 2**20
#: Lists and mappings inside each other.
MAX_DEPTH = 32
#: Values and keys of a file, those that an alias stands for counted each time.
MAX_VALUES = 25_000
#: Characters of a number: YAML's base 60 and Python's integers take time that grows with the square.
_MAX_NUMBER = 400


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        OSError: it cannot be read, or is a folder.
        ValueError: it is larger than MAX_BYTES, as /dev/zero is, not UTF-8, or a pipe without a writer.
    """
    # O_NONBLOCK: a pipe that nobody writes to is empty, and not waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb") as file:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(f"{path} is a folder")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES // 2**20} MiB, which is no file of settings or rules")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: {error}") from None


def parse_json(text: str) -> object:
    """Return what JSON holds; ValueError for other text, a key twice in one mapping, or more than the bounds allow."""
    try:
        value = json.loads(text, object_pairs_hook=_mapping, parse_constant=_constant)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    check_bounds(value)
    return value


def parse_yaml(text: str, yaml: ModuleType, hint: str = "") -> object:
    """Return what YAML holds.

    Args:
        yaml: the module, which need not be installed.
        hint: what to say behind an error of the text.

    Raises:
        ValueError: other text, a key twice in one mapping, a tag, or more than the bounds allow.
    """
    try:
        _check_events(text, yaml)
        loader = _loader(yaml)(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_nodes(node, yaml)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split()) + hint) from None
    except (RecursionError, OverflowError) as error:
        raise ValueError(f"a value that is out of range: {error}") from None


def check_bounds(value: object) -> None:
    """Raise a ValueError where a value is nested too deeply, holds itself, or holds more values than a file may."""
    count = 0
    levels: list[Iterator[object]] = [iter([value])]
    while levels:
        for item in levels[-1]:
            count += 1
            if count > MAX_VALUES:
                raise ValueError(_too_many())
            inner = _inner(item)
            if inner is not None:
                if len(levels) > MAX_DEPTH:
                    raise ValueError(_too_deep())
                levels.append(inner)
                break
        else:
            levels.pop()


def _inner(value: object) -> Iterator[object] | None:
    if isinstance(value, dict):
        return (part for item in value.items() for part in item)
    return iter(value) if isinstance(value, list | tuple | set | frozenset) else None


def _check_events(text: str, yaml: ModuleType) -> None:
    """Raise a ValueError for text whose nodes could not even be composed, without composing them."""
    depth = count = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        count += isinstance(event, yaml.NodeEvent)
        if count > MAX_VALUES:
            raise ValueError(_too_many())
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(_too_deep())
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise ValueError(f"the tag {short_repr(tag)} is not allowed; only texts, numbers, lists and mappings are")


def _check_nodes(root: Any, yaml: ModuleType) -> None:
    """Raise a ValueError where aliases make more values, or deeper ones, than a file may have, or one of itself."""
    sizes: dict[int, tuple[int, int]] = {}  # by identity of a node: how many values it stands for, and how deep
    open_nodes: set[int] = set()

    def measure(node: Any) -> tuple[int, int]:
        if id(node) in open_nodes:
            raise ValueError("an alias inside what it stands for")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts = [measure(part) for part in _parts(node, yaml)]
            open_nodes.remove(id(node))
            sizes[id(node)] = (1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=0))
        return sizes[id(node)]

    count, depth = measure(root)
    if count > MAX_VALUES:
        raise ValueError(_too_many())
    if depth > MAX_DEPTH + 1:
        raise ValueError(_too_deep())


def _parts(node: Any, yaml: ModuleType) -> Sequence[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(node.value) > _MAX_NUMBER:
        raise ValueError(f"a number of {len(node.value)} characters, {node.value[:8]}…")
    return []


def _loader(yaml: ModuleType) -> Any:
    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]  # a module that need not be there
        """SafeLoader that takes no key twice."""

        def compose_mapping_node(self, anchor: object) -> object:
            node = super().compose_mapping_node(anchor)
            _mapping([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return node

    return Loader


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as a dict; ValueError for a key that is there twice."""
    mapping: dict[str, object] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {short_repr(key)} stands twice in one mapping")
        mapping[key] = value
    return mapping


def _constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _too_deep() -> str:
    return f"nested too deeply: more than {MAX_DEPTH} lists and mappings inside each other"


def _too_many() -> str:
    return f"more than {MAX_VALUES:,} values, those counted that aliases stand for"
