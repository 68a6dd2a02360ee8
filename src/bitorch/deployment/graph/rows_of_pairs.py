"""Numbers of several tensors, each repeated along the axes where it has one place; and tensors that are constant."""

from __future__ import annotations

from . import shapes
from .kind import TENSOR, Kind


def _pair(name: str, doc: str) -> Kind:
    return Kind(name, doc, arity=2, shape=shapes.broadcast)


PAIRS: tuple[Kind, ...] = (
    _pair("add", "The sum of two tensors."),
    _pair("sub", "The first tensor less the second."),
    _pair("mul", "The product of two tensors."),
    _pair("div", "The first tensor by the second."),
    _pair("minimum", "The smaller number of two tensors; NaN of either."),
    _pair("maximum", "The larger number of two tensors; NaN of either."),
    Kind("where", "The first tensor where the third is not 0, else the second.", arity=3, shape=shapes.broadcast),
    Kind(
        "constant",
        "`value` [C, *rows], the same for every image.",
        arity=0,
        settings={"value": TENSOR},
        shape=shapes.of_its_value,
    ),
)
