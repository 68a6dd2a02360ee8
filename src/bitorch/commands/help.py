"""`--help` of the commands that take a run's settings: a short page, one for each group, and all of them."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import shutil
import sys
import textwrap
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from ..train.settings import Settings
from .console import USER_ERROR, print_error
from .help_groups import FIRST, GROUPS
from .own_quantizers import OPTION as QUANTIZERS

HELP, ALL = ("--help", "-h"), "--help-all"
_MOST_COLUMNS, _TEXT_AT = 110, 26
_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class _Option:
    """An option as a page shows it: `--epochs INT`, and what it is for, with its default."""

    name: str
    left: str
    text: str
    is_setting: bool


def show_help(kind: type[Any], arguments: Sequence[str], prog: str) -> None:
    """Print the page that a command line asks for, and raise SystemExit, if it asks for one.

    Args:
        kind: the dataclass of the command's arguments, the settings of a run among them.
        arguments: `--help` or `-h` (the first page), `--help GROUP`, or `--help-all`.
        prog: such as "bitorch train".
    """
    place = next((index for index, argument in enumerate(arguments) if argument in (*HELP, ALL)), None)
    if place is None:
        return
    asked = arguments[place + 1] if place + 1 < len(arguments) else ""
    if arguments[place] == ALL:
        print(_page(kind, prog, _all(kind)))
    elif asked == "" or asked.startswith("-"):
        print(_page(kind, prog, _first(kind)))
    elif asked in GROUPS:
        print(_page(kind, prog, _group(kind, asked)))
    else:
        near = difflib.get_close_matches(asked.lower(), GROUPS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(GROUPS)}"
        print_error(f"{prog} --help has no group {asked!r}; {hint}")
        sys.exit(USER_ERROR)
    sys.exit(0)


def _page(kind: type[Any], prog: str, body: Sequence[str]) -> str:
    positional = "".join(f" [{name.upper()}]" for name in _positional(kind))
    return "\n".join([f"usage: {prog}{positional} [OPTIONS]", "", *body])


def _first(kind: type[Any]) -> list[str]:
    options = {option.name: option for option in _options(kind)}
    shown = [options[name] for name in FIRST]
    own = [option for option in options.values() if not option.is_setting]
    width = max(map(len, GROUPS))
    groups = [f"  --help {name:{width}}  {about}" for name, (about, _) in GROUPS.items()]
    more = ["more options:", *groups, f"  {ALL:{7 + width}}  all of them"]
    return [*_wrapped(inspect.getdoc(kind)), "", *_lines("options", [*shown, *own]), "", *more]


def _group(kind: type[Any], name: str) -> list[str]:
    about, fields = GROUPS[name]
    options = {option.name: option for option in _options(kind)}
    return _lines(f"{name} ({about})", [options[field] for field in fields])


def _all(kind: type[Any]) -> list[str]:
    options = {option.name: option for option in _options(kind)}
    own = [option for option in options.values() if not option.is_setting]
    groups = [line for name in GROUPS for line in [*_group(kind, name), ""]]
    quantizers = _Option(
        "", f"{QUANTIZERS} FILE.py", "Make the quantizers of a file of yours known by their names.", False
    )
    return [*_wrapped(inspect.getdoc(kind)), "", *groups, *_lines("this command", [*own, quantizers])]


def _lines(head: str, options: Sequence[_Option]) -> list[str]:
    columns = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    indent = " " * _TEXT_AT
    lines = [f"{head}:"]
    for option in options:
        left, text = f"  {option.left}", _broken(option.text, max(20, columns - _TEXT_AT))
        beside = len(left) <= _TEXT_AT - 2
        lines += [f"{left:{_TEXT_AT}}{text[0]}"] if beside else [left, indent + text[0]]
        lines += [indent + line for line in text[1:]]
    return lines


def _broken(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, columns, break_on_hyphens=False, break_long_words=False)


def _wrapped(text: str | None) -> list[str]:
    columns = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
    assert text is not None  # every command says what it does
    paragraphs = [_broken(" ".join(paragraph.split()), columns) for paragraph in text.split("\n\n")]
    return [line for paragraph in paragraphs for line in [*paragraph, ""]][:-1]


def _options(kind: type[Any]) -> Iterator[_Option]:
    """Yield the options of a dataclass of arguments, those of the settings in it among them."""
    hints, texts = get_type_hints(kind, include_extras=True), _help_texts(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if _is_settings(hint):
            yield from (dataclasses.replace(option, is_setting=True) for option in _options(get_args(hint)[0]))
        elif tyro.conf.Positional not in getattr(hint, "__metadata__", ()):
            plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
            text = _text(texts[field.name], field.default)
            yield _Option(field.name, _left(field.name, plain, field.default), text, False)


def _positional(kind: type[Any]) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if tyro.conf.Positional in getattr(hints[field.name], "__metadata__", ()):
            yield field.name


def _is_settings(hint: Any) -> bool:
    plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    return isinstance(plain, type) and issubclass(plain, Settings)


def _help_texts(kind: type[Any]) -> dict[str, str]:
    """Return the string under each field, of the classes that it comes from too."""
    texts: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(tree, ast.ClassDef)  # as cls is one
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def _left(name: str, hint: Any, default: Any) -> str:
    flag = name.replace("_", "-")
    if hint is not bool:
        return f"--{flag} {_value(hint)}"
    return f"--{flag}, --no-{flag}" if default is True else f"--{flag}"


def _value(hint: Any) -> str:
    """What stands behind an option: `INT`, `INT INT INT`, `PATH`; of choices their names."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return "|".join(_value(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        return f"{_value(arguments[0])} …" if arguments[-1] is Ellipsis else " ".join(map(_value, arguments))
    return _WORDS[hint]


def _text(text: str, default: Any) -> str:
    """The help text with the default, where that says something."""
    if default is None or default is False or default in ((), "") or default is dataclasses.MISSING:
        return text
    if default is True:
        return f"{text} (default: on)"
    value = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{text} (default: {value})"
