"""Regular expressions whose matching ends: in steps that grow with pattern and name, whatever the pattern is.

Python's own engine tries one way after the other, and for `(a|a)*b` there are 2^n of them. Here all ways are followed
at once: what is kept after each part of the pattern is the set of places in the name that it can have come to.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

MAX_LENGTH = 10_000
#: Of one name; far above what patterns for layers take.
MAX_STEPS = 200_000
_MAX_DEPTH = 40

# The parser of the standard library: so the patterns are Python's.
_parser = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
#: Before Python 3.14 an empty text has neither a boundary of words nor a place that is none.
_EMPTY_HAS_NO_BOUNDARY = re.search(r"\B", "") is not None
#: A parsed pattern: pairs of an operation and its argument.
_Parsed = Sequence[tuple[Any, Any]]
#: Flags and what stands in the pattern; which places one comes to from a set of them.
_Step = Callable[["_Match", Any, frozenset[int], int], frozenset[int]]


class BoundedRegex:
    """A regular expression for whole names; make it with `compile_bounded`."""

    def __init__(self, pattern: str, parsed: _Parsed, flags: int) -> None:
        self.pattern = pattern
        self._parsed = parsed
        self._flags = flags

    def fullmatch(self, name: str) -> bool:
        """Return whether the whole name matches, as `re.fullmatch` does; ValueError for more than MAX_STEPS steps."""
        match = _Match(self.pattern, name)
        return len(name) in match.advance(self._parsed, frozenset({0}), self._flags)


@lru_cache(maxsize=256)
def compile_bounded(pattern: str) -> BoundedRegex:
    """Return a pattern that is ready to match.

    Raises:
        ValueError: it is no regular expression, too long, nested too deeply, or has what cannot be bounded: references
            to groups, conditions on them, atomic groups and possessive repeats.
    """
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"is too long: {len(pattern):,} characters, of at most {MAX_LENGTH:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python reads otherwise, such as [[
            compiled = re.compile(pattern)
            parsed = _parser.parse(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError(
            f"is no regular expression: {error}; put \\ before characters that stand for themselves"
        ) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    _check(parsed, 0)
    return BoundedRegex(pattern, parsed, compiled.flags)


def _check(parsed: _Parsed, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("is nested too deeply")
    for operation, argument in parsed:
        if str(operation) not in _STEPS:
            kind = str(operation).lower().replace("_", " ").replace("groupref", "reference to a group")
            raise ValueError(f"has a {kind}, which rules do not take; write it with groups, | and repeats alone")
        for part in _inner(str(operation), argument):
            _check(part, depth + 1)


def _inner(operation: str, argument: Any) -> list[_Parsed]:
    if operation == "BRANCH":
        return list(argument[1])
    return [argument[-1]] if operation in ("SUBPATTERN", "MAX_REPEAT", "MIN_REPEAT", "ASSERT", "ASSERT_NOT") else []


class _Match:
    """A name on its way through a pattern."""

    def __init__(self, pattern: str, name: str) -> None:
        self.pattern, self.name = pattern, name
        self.steps = 0

    def advance(self, parsed: _Parsed, places: frozenset[int], flags: int) -> frozenset[int]:
        """Return where one can be after the pattern, from any of the places."""
        for operation, argument in parsed:
            if not places:
                break
            self.count(len(places))
            places = _STEPS[str(operation)](self, argument, places, flags)
        return places

    def count(self, steps: int) -> None:
        """Count steps; ValueError beyond MAX_STEPS."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ValueError(
                f"match 're:{self.pattern[:80]}' takes more than {MAX_STEPS:,} steps for the name {self.name[:80]!r}; "
                "write it with fewer repeats inside each other"
            )

    def where(self, places: frozenset[int], fits: Callable[[str], bool]) -> frozenset[int]:
        """Return the places behind those at which a character fits."""
        return frozenset(place + 1 for place in places if place < len(self.name) and fits(self.name[place]))


def _variants(character: str, flags: int) -> set[str]:
    if not flags & re.IGNORECASE:
        return {character}
    return {c for c in (character, character.lower(), character.upper()) if len(c) == 1}


def _literal(match: _Match, code: int, places: frozenset[int], flags: int) -> frozenset[int]:
    wanted = _variants(chr(code), flags)
    return match.where(places, lambda c: bool(_variants(c, flags) & wanted))


def _not_literal(match: _Match, code: int, places: frozenset[int], flags: int) -> frozenset[int]:
    unwanted = _variants(chr(code), flags)
    return match.where(places, lambda c: not _variants(c, flags) & unwanted)


def _any(match: _Match, _: None, places: frozenset[int], flags: int) -> frozenset[int]:
    return match.where(places, lambda c: bool(flags & re.DOTALL) or c != "\n")


def _in(match: _Match, items: Sequence[tuple[Any, Any]], places: frozenset[int], flags: int) -> frozenset[int]:
    match.count(len(places) * len(items))
    negated = str(items[0][0]) == "NEGATE"

    def fits(character: str) -> bool:
        variants = _variants(character, flags)
        return negated != any(_is_item(str(kind), value, c, flags) for kind, value in items for c in variants)

    return match.where(places, fits)


def _is_item(kind: str, value: Any, character: str, flags: int) -> bool:
    if kind == "LITERAL":
        return bool(ord(character) == value)
    if kind == "RANGE":
        return bool(value[0] <= ord(character) <= value[1])
    return kind == "CATEGORY" and _is_category(str(value), character, flags)


def _is_category(category: str, character: str, flags: int) -> bool:
    kind = category.rpartition("_")[2]
    if flags & re.ASCII and not character.isascii():
        is_of_kind = False
    elif kind == "DIGIT":
        is_of_kind = character.isdecimal()
    elif kind == "SPACE":
        is_of_kind = character.isspace()
    else:
        is_of_kind = character.isalnum() or character == "_"
    return is_of_kind != ("NOT" in category)


def _at(match: _Match, where: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    return frozenset(place for place in places if _is_at(str(where), match.name, place, flags))


def _is_at(where: str, name: str, place: int, flags: int) -> bool:
    many_lines = bool(flags & re.MULTILINE)
    if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return place == 0 or (where == "AT_BEGINNING" and many_lines and name[place - 1] == "\n")
    if where == "AT_END_STRING":
        return place == len(name)
    if where == "AT_END":
        return place == len(name) or (name[place] == "\n" and (many_lines or place == len(name) - 1))
    if name == "" and where == "AT_NON_BOUNDARY":
        return _EMPTY_HAS_NO_BOUNDARY
    before = place > 0 and _is_category("CATEGORY_WORD", name[place - 1], flags)
    after = place < len(name) and _is_category("CATEGORY_WORD", name[place], flags)
    return (before != after) == (where == "AT_BOUNDARY")


def _branch(match: _Match, argument: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    ends = [match.advance(branch, places, flags) for branch in argument[1]]
    return frozenset().union(*ends)


def _subpattern(match: _Match, argument: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    _, added, removed, parsed = argument
    return match.advance(parsed, places, (flags | added) & ~removed)


def _repeat(match: _Match, argument: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    least, most, parsed = argument
    # A place is never left backwards, so that after as many rounds as there are places nothing changes any more.
    rounds = len(match.name) + 1
    for _ in range(min(int(least), rounds)):
        places = match.advance(parsed, places, flags)
    found = fresh = places
    for _ in range(min(int(most) - int(least), rounds)):
        fresh = match.advance(parsed, fresh, flags) - found
        if not fresh:
            break
        found |= fresh
    return found


def _assert(match: _Match, argument: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    direction, parsed = argument
    return frozenset(place for place in places if _is_asserted(match, direction, parsed, place, flags))


def _assert_not(match: _Match, argument: Any, places: frozenset[int], flags: int) -> frozenset[int]:
    return places - _assert(match, argument, places, flags)


def _is_asserted(match: _Match, direction: int, parsed: _Parsed, place: int, flags: int) -> bool:
    if direction > 0:
        return bool(match.advance(parsed, frozenset({place}), flags))
    # Behind: of a fixed width, which is Python's rule.
    width = parsed.getwidth()[0]  # type: ignore[attr-defined]  # of the parser's own list
    return place >= width and place in match.advance(parsed, frozenset({place - width}), flags)


_STEPS: dict[str, _Step] = {
    "LITERAL": _literal,
    "NOT_LITERAL": _not_literal,
    "ANY": _any,
    "IN": _in,
    "AT": _at,
    "BRANCH": _branch,
    "SUBPATTERN": _subpattern,
    "MAX_REPEAT": _repeat,
    "MIN_REPEAT": _repeat,
    "ASSERT": _assert,
    "ASSERT_NOT": _assert_not,
}
