"""Regular expressions of rules: they match what Python's do, and end."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitorch import LowBitConfig, Rule
from bitorch.conversion.bounded_regex import MAX_LENGTH, compile_bounded

ATOMS = ("a", "b", ".", r"\.", "1", "[ab]", "[^b]", "[a-c1]", r"\d", r"\w", r"\W", r"\D", r"[\d.]", "^", "$", r"\b",
         r"\B", r"\Z", r"\A", r"\s", "(?=a)", "(?!b)", "(?<=a)", "(?<!1)")  # fmt: skip
QUANTIFIERS = ("", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,3}?", "{2,}")


def patterns() -> st.SearchStrategy[str]:
    """Patterns of these, nested."""

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.tuples(st.sampled_from(("(", "(?:", "(?i:", "(?s:")), inner, st.sampled_from(QUANTIFIERS)).map(
            lambda parts: f"{parts[0]}{parts[1]}){parts[2]}"
        )
        return st.one_of(
            st.tuples(inner, inner).map("".join), st.tuples(inner, inner).map("|".join), group,
            inner.map(lambda p: f"(?={p})"), inner.map(lambda p: f"(?!{p})"),
        )  # fmt: skip

    single = st.tuples(st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS)).map("".join)
    return st.recursive(single, larger, max_leaves=6)


@settings(max_examples=600, deadline=None)
@given(patterns(), st.text("abAB.1\n é", max_size=7))
def test_matches_what_python_matches(pattern: str, name: str) -> None:
    try:
        expected = re.fullmatch(pattern, name) is not None
    except re.error:  # a quantifier behind ^ or another one
        with pytest.raises(ValueError, match="is no regular expression"):
            compile_bounded(pattern)
        return
    assert compile_bounded(pattern).fullmatch(name) == expected, (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)*b", "((a*)*)*b", "(((((a*)*)*)*)*)*b", "(a?){64}a{64}b",
        ".*.*.*.*.*.*.*.*.*.*b", "(?:a?){1000000000}b", "(?=(a+)+b).*", "(?!(a|a)*c)(a+)+b", "(a{1,60}){1,60}b",
    ],
)  # fmt: skip
def test_every_pattern_ends(pattern: str) -> None:
    """Python's engine takes from minutes to more than the universe has for each of these."""
    start = time.perf_counter()
    try:
        assert not compile_bounded(pattern).fullmatch("a" * 200)
    except ValueError as error:
        assert "takes more than 200,000 steps for the name 'aaa" in str(error)  # noqa: PT017  # both are right here
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", r"match 're:\(a' is no regular expression: .*; put \\ before"),
        (r"(\d)\.\1", "has a reference to a group, which rules do not take"),
        ("(?P<n>a)(?(n)b|c)", "has a reference to a group exists, which rules do not take"),
        ("(" * 300 + "a" + ")" * 300, r"match 're:\(\(\(.*\.\.\..* is nested too deeply"),
        ("(?:" * 20_000, "is too long: 60,000 characters"),
        ("a{99999999999999999999}", "is no regular expression: the repetition number is too large"),
    ],
)
def test_patterns_that_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Rule(f"re:{pattern}", LowBitConfig(1, 2))
    assert len(str(raised.value)) < 500
    assert MAX_LENGTH == 10_000


def test_rules_match_by_it() -> None:
    rule = Rule(r"re:layer[12]\.\d+\.conv(1|2)", LowBitConfig(1, 2))
    assert rule.matches("layer1.0.conv2")
    assert not rule.matches("layer3.0.conv2")
    assert not rule.matches("layer1.0.conv2.x")
    assert Rule("re:(?!layer4).*conv.*", None).matches("layer1.conv")


def test_globs_end_too() -> None:
    start = time.perf_counter()
    assert not Rule("*a" * 30 + "b", None).matches("a" * 200)
    assert time.perf_counter() - start < 1
