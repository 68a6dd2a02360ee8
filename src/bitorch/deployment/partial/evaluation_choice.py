"""What low-bit layers compute with in evaluation: the choice."""

from __future__ import annotations

from typing import Literal, get_args

#: "auto": packed weights where they can be taken and are faster. "packed": an error where they cannot. "unpacked": what
#: the layers train with.
EvaluationChoice = Literal["auto", "packed", "unpacked"]


def check_evaluation(choice: object) -> EvaluationChoice:
    """Return a choice; ValueError where it is none."""
    choices = get_args(EvaluationChoice)
    if choice not in choices:
        raise ValueError(f"evaluation must be one of {', '.join(map(repr, choices))}, got {choice!r}")
    return choice  # type: ignore[return-value]  # just checked


def must_be_packed(name: str, why: str) -> str:
    """Return the message about a layer that should be packed and cannot be."""
    return (
        f'evaluation="packed": layer {name!r} cannot be evaluated on packed weights, as {why}; evaluation="auto" '
        "evaluates it as it trains, with the same numbers"
    )
