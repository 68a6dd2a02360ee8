"""Names of C: which are allowed, and what becomes of those of a program."""

from __future__ import annotations

import re

#: Of C99 and C++: a header is included by both.
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    alignas alignof and and_eq asm bitand bitor bool catch char16_t char32_t class compl constexpr const_cast decltype
    delete dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public reinterpret_cast static_assert static_cast template this thread_local throw true try typeid
    typename using virtual wchar_t xor xor_eq
"""
_KEYWORDS = frozenset(_WORDS.split())


def check_name(name: str) -> str:
    """Return the name that a header's functions begin with.

    Raises:
        TypeError: it is no text.
        ValueError: it is no identifier of C, or one of its words.
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}: must be a text, not {type(name).__name__}")
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", name) is None or name in _KEYWORDS:
        raise ValueError(
            f"name={name!r}: must be a name of C: up to 31 letters, digits and _, a letter first, and no word of C or "
            f"C++; such as {identifier(name)!r}"
        )
    return name


def identifier(text: str) -> str:
    """Return a name of C that is like a text."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:24].strip("_")
    if not plain:
        return "net"
    return f"n{plain}" if plain[0].isdigit() else f"{plain}_" if plain in _KEYWORDS else plain


class Names:
    """Names of C that are all different."""

    def __init__(self, *taken: str) -> None:
        """Begin with names that nobody gets."""
        self._taken = set(taken)

    def new(self, text: str) -> str:
        """Return a name that is like a text, and that nobody has."""
        base = identifier(text)
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name
