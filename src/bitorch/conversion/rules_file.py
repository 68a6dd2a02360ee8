"""Rules as a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

from torch import nn

from ..atomic_file import write_text
from ..config.low_bit_config import LowBitConfig
from ..config.quantizer_choice import Gradients, Weights
from ..layers.qtransposed_linear import conv1d
from ..quantizations.spelling import Quantizers, named
from ..short_repr import short_repr
from ..structured_text import read_text
from .convertible import LOW_BIT, low_bit_class
from .layer_configs import rules_or_config
from .rules import Match, Rule, as_rules
from .rules_text import format_of, parse, spell
from .suggestions import nearest

_FIELDS = {field.name: field for field in dataclasses.fields(LowBitConfig)}
#: By the bits that are needed, the field that may say them in their place.
_REQUIRED = {"weight_bits": "weights", "activation_bits": "activations"}
_PROTOTYPES = {**_REQUIRED, "gradient_bits": "gradients"}
_NONE: Quantizers = MappingProxyType({})
_KEYS = ["match", "type", "float", *_FIELDS]
_TYPES: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in LOW_BIT}
#: Of transformers.
_CONV1D = "Conv1D"
_KINDS: dict[object, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def load_rules(path: str | PathLike[str], *, quantizers: Quantizers = _NONE) -> list[Rule]:
    """Read rules for `quantize_` from a YAML or JSON file: a list of mappings, the later of which win.

    Each has `match`, a name, a glob or "re:…", or `type`, one of the names of float layers or a list of them; the first
    may have neither, and is then for all layers. Beside it stand the fields of LowBitConfig, or `float: true`. A
    prototype is the name of a quantizer, such as `weightlsq`, made with the bits beside it, or a mapping of its `name`
    and arguments: `{name: weightlsq, bits: 2, channels: 1}`.

    Args:
        path: of a file that ends in .yaml or .yml, which needs PyYAML (the extra "train"), or in .json.
        quantizers: classes of your own by the names that the file has for them. A file never names code to be imported;
            it knows these, the library's and those of `register_custom_quantization`.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file. ImportError: YAML without PyYAML.
        ValueError: anything else than such a list; the message names the file, the entry and the key.
    """
    path = Path(path)
    kind = format_of(path)
    try:
        return rules_from(parse(read_text(path), kind), quantizers)
    except ValueError as error:  # not UTF-8, among others
        raise ValueError(f"{path}: {error}") from None


def save_rules(
    path: str | PathLike[str],
    rules: Sequence[Rule | tuple[Match, LowBitConfig | None]],
    *,
    quantizers: Quantizers = _NONE,
) -> None:
    """Write rules to a YAML or JSON file that `load_rules` reads; fields that have their default are left out.

    Args:
        path: of a file that ends in .yaml or .yml, which needs PyYAML (the extra "train"), or in .json. One that is
            there is replaced at the end, so that an error leaves it as it was.
        quantizers: names of classes of your own, as for `load_rules`.

    Raises:
        ValueError, TypeError: what `quantize_` says of such rules without looking at a model, a layer type that cannot
            be converted, a quantizer that has no name or arguments that no file holds, another ending of the name.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind = format_of(path)
    write_text(path, spell(entries_of(rules, quantizers), kind))


def rules_from(entries: object, quantizers: Quantizers = _NONE) -> list[Rule]:
    """Return the rules that a file's content stands for: a list of mappings, see `load_rules`; ValueError else."""
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"must hold a list of rules such as `- match: layer3.*`, got {_kind_of(entries)}"
            if entries
            else "holds no rules"
        )
    return as_rules([_rule(number, entry, quantizers) for number, entry in enumerate(entries, 1)])


def entries_of(
    rules: Sequence[Rule | tuple[Match, LowBitConfig | None]], quantizers: Quantizers = _NONE
) -> list[dict[str, Any]]:
    """Return rules as a list of mappings, in types that JSON has; errors as `save_rules`."""
    checked = rules_or_config(list(rules))
    assert isinstance(checked, list)  # a list gives a list
    return [_entry(rule, quantizers) for rule in checked]


def _rule(number: int, entry: object, quantizers: Quantizers) -> Rule:
    try:
        if not isinstance(entry, dict):
            raise ValueError(f"must be a mapping with match or type, got {_kind_of(entry)}")
        for key in entry:
            if key not in _KEYS:
                raise ValueError(f"unknown key {short_repr(key)}; {nearest(str(key), _KEYS)}")
        return Rule(_match(number, entry), _config(entry, quantizers))
    except (TypeError, ValueError) as error:
        raise ValueError(f"entry {number}: {error}") from None


def _match(number: int, entry: dict[str, object]) -> Match:
    if "match" in entry and "type" in entry:
        raise ValueError("has both match and type; leave one of them out")
    if "match" in entry:
        return str(_checked("match", entry["match"], str))
    if "type" in entry:
        return _types(entry["type"])
    if number > 1:
        raise ValueError("has neither match nor type; only the first entry, for all layers, may leave them out")
    return "*"


def _types(value: object) -> type[nn.Module] | tuple[type[nn.Module], ...]:
    names: list[Any] = value if isinstance(value, list) else [value]
    if not names:
        raise ValueError("type is an empty list; name a layer type such as Conv2d")
    for name in names:
        _checked("type", name, str)
        if name not in _TYPES and name != _CONV1D:
            raise ValueError(f"type {short_repr(name)} cannot be converted; {nearest(name, list(_TYPES))}")
    types = tuple(conv1d() if name == _CONV1D else _TYPES[name] for name in names)
    return types if isinstance(value, list) else types[0]


def _config(entry: dict[str, object], quantizers: Quantizers) -> LowBitConfig | None:
    fields = {key: value for key, value in entry.items() if key in _FIELDS}
    if "float" in entry:
        if entry["float"] is not True:
            raise ValueError(
                f"float must be true, got {short_repr(entry['float'])}; leave it out of layers that get bits"
            )
        if fields:
            raise ValueError(f"has float: true and {', '.join(fields)}; leave one of them out")
        return None
    for key, prototype in _REQUIRED.items():
        if key not in fields and prototype not in fields:
            raise ValueError(f"has no {key}; give it, or float: true")
    hints = get_type_hints(LowBitConfig)
    values = {key: _field(key, value, hints[key]) for key, value in fields.items() if not _is_prototype(key, value)}
    for bits, key in _PROTOTYPES.items():
        if key in fields and key not in values:
            values[key] = named(fields[key], key, values.get(bits), quantizers)
    return LowBitConfig(**values)


def _is_prototype(key: str, value: object) -> bool:
    """Whether a field names a quantizer, and no method."""
    if key not in _PROTOTYPES.values():
        return False
    methods = {"weights": get_args(Weights), "gradients": get_args(Gradients)}.get(key, ())
    return isinstance(value, dict) or (isinstance(value, str) and value not in methods)


def _field(key: str, value: object, hint: Any) -> Any:
    """Return a field's value in the type that LowBitConfig wants; which values there are, that knows itself."""
    if hint == tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{key} must be a list of names, got {_kind_of(value)}")
        return tuple(_checked(key, name, str) for name in value)
    if hint is float and type(value) is int:
        return float(value)
    if hint in _KINDS:
        return _checked(key, value, hint)
    if isinstance(value, list | dict):
        raise ValueError(f"{key} must be a text or a number, got {_kind_of(value)}")
    return value


def _checked(key: str, value: object, kind: Any) -> Any:
    # Exactly: bool is an int in Python, but not to a person who writes `weight_bits: true`.
    if type(value) is not kind:
        quotes = "; put it in quotes" if kind is str and not isinstance(value, list | dict) else ""
        raise ValueError(f"{key} must be {_KINDS[kind]}, got {_kind_of(value)}{quotes}")
    return value


def _kind_of(value: object) -> str:
    """Return a value for a message, lists and mappings, which can be huge, by their kind only."""
    kinds: dict[object, str] = {list: "a list", dict: "a mapping"}
    return kinds[type(value)] if type(value) in kinds else short_repr(value)


def _entry(rule: Rule, quantizers: Quantizers) -> dict[str, Any]:
    entry: dict[str, Any] = {"match": rule.match} if isinstance(rule.match, str) else {"type": _type_names(rule)}
    if not isinstance(rule.config, LowBitConfig):
        return {**entry, "float": True}
    values = rule.config.to_dict(quantizers)
    default = {name: field.default for name, field in _FIELDS.items()}
    return {**entry, **{name: values[name] for name in values if getattr(rule.config, name) != default[name]}}


def _type_names(rule: Rule) -> str | list[str]:
    for cls in rule.types:
        if low_bit_class(cls) is None:
            raise ValueError(f"the type {cls.__name__} cannot be written to a file, only {', '.join(_TYPES)}")
    names = [cls.__name__ for cls in rule.types]
    return names if isinstance(rule.match, tuple) else names[0]
