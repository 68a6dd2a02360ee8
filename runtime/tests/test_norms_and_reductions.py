"""How near normalisations and reductions are to the true values, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program

Operation = dict[str, Any]


def program(operation: Operation, shape: list[int], **arrays: Any) -> Program:
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": "nchw"}
    name = operation.get("float32", operation.get("output"))
    return Program([port, {**operation, "input": "x"}, {"op": "output", "input": name, "order": "nchw"}], arrays)


NORM: Operation = {"op": "normalize", "by": "deviation", "eps": 1e-5, "float32": "y"}


@pytest.mark.parametrize("n", [7, 192, 5000, 2**20])
@pytest.mark.parametrize("mean", [0, 100, 1e4])
def test_the_true_values(n: int, mean: float) -> None:
    """float32 has 2^−24 of the mean; nothing is lost beside that, however many numbers there are."""
    x = (np.random.default_rng(n).normal(size=(2, n)) + mean).astype(np.float32)
    wide = x.astype(np.float64)
    true = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    found = program(NORM, [n])(x)
    assert isinstance(found, np.ndarray)
    assert np.abs(found - true).max() < 2.0**-24 * (abs(mean) + 12) / wide.std(1).min()


@pytest.mark.parametrize("function", ["sum", "mean", "norm", "var", "std"])
def test_reductions_are_rounded_once(function: str) -> None:
    x = np.random.default_rng(0).normal(100, 1, (2, 1000)).astype(np.float32)
    wide = x.astype(np.float64)
    true = {
        "sum": wide.sum(1),
        "mean": wide.mean(1),
        "norm": np.sqrt((wide**2).sum(1)),
        "var": wide.var(1, ddof=1),
        "std": wide.std(1, ddof=1),
    }
    found = program({"op": "reduce", "function": function, "axes": [0], "output": "y"}, [1000])(x)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found.ravel(), true[function].astype(np.float32))


REFUSED: dict[str, tuple[Operation, str]] = {
    "groups": ({**NORM, "groups": 3}, '"groups": 3.*must divide the channels of "x", 4'),
    "eps": ({**NORM, "eps": -1}, '"eps": -1.*must not be below 0'),
    "rows": ({**NORM, "rows": 8}, '"rows": 8'),
    "an axis twice": (
        {"op": "reduce", "function": "sum", "axes": [0, 0], "output": "y"},
        "must not name an axis twice",
    ),
    "no axis": ({"op": "reduce", "function": "sum", "axes": [], "output": "y"}, "one to eight integers"),
    "places": ({"op": "reduce", "function": "argmax", "axes": [0, -1], "output": "y"}, "must be one axis"),
    "scale": ({"op": "reduce", "function": "amax", "axes": [0], "scale": 1, "output": "y"}, "only with"),
    "correction": ({"op": "reduce", "function": "sum", "axes": [0], "correction": 1, "output": "y"}, "only with"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    operation, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        program(operation, [4, 3, 2])


def test_weights_have_the_shape_of_a_set() -> None:
    by_place = {**NORM, "rows": 1, "weight": "w"}
    program(by_place, [4, 3, 2], w=np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match='"weight"'):
        program(by_place, [4, 3, 2], w=np.ones((3, 4), np.float32))
