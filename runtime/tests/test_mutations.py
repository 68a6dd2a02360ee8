"""Damaged descriptions: whatever a program does not refuse, it computes as the reference does. None of it may crash."""

from __future__ import annotations

import copy
import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitorch_runtime import Program, _native, reference
from bitorch_runtime.operations import why_inexact
from cases import Case, random_case

#: Every operation that there is, and every key that one of them has.
OPERATIONS = sorted(_native.operations())
KEYS = sorted({"op", "x"}.union(*_native.operations().values()))
#: Values that a description may hold in place of the right one. No number in between: an image of side 10^5 is valid.
SCALARS = st.sampled_from(
    [
        *(None, True, False, "", "x", "t0", "t1", "t2", "weight0"),
        *(-1, 0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 255, 2**31 - 1, 2**31, 2**32, 2**33 + 1),
        *(2**62, 2**63 - 1, 2**63, -(2**63), 10**30),
        *(0.5, 1.0, 1e300, -0.0, float("nan"), float("inf")),
    ]
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=5), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))
ARRAYS = st.sampled_from(
    [
        lambda a: a[:-1],
        lambda a: a[..., :-1],
        lambda a: a[np.newaxis],
        lambda a: a.reshape(-1),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.bool_),
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: a[..., ::-1],
        lambda a: np.concatenate([a, a]),
        lambda a: np.full_like(a, 255 if a.dtype == np.uint8 else 1),
        lambda a: np.full_like(a, np.nan) if a.dtype == np.float32 else np.zeros_like(a),
        lambda a: np.full_like(a, -np.inf) if a.dtype == np.float32 else np.zeros_like(a),
        lambda a: a.ravel()[0] if a.size > 0 else None,
        lambda a: np.zeros((0, *a.shape[1:]), a.dtype),
    ]
)


@pytest.fixture(autouse=True)
def _limited_memory() -> Iterator[None]:
    """Sizes that no check refuses must end in a MemoryError, not in a machine that swaps."""
    if sys.platform != "linux":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def mutate(data: st.DataObject, case: Case) -> tuple[list[Any], dict[str, Any]]:
    """One to three changes at random places."""
    operations: list[Any] = copy.deepcopy(case.operations)
    arrays: dict[str, Any] = dict(case.arrays)
    for _ in range(data.draw(st.integers(1, 3))):
        if not operations:
            break
        kind = data.draw(
            st.sampled_from(["value", "value", "value", "element", "drop", "add", "swap", "repeat", "array"])
        )
        i = data.draw(st.integers(0, len(operations) - 1))
        j = data.draw(st.integers(0, len(operations) - 1))
        keys = sorted(operations[i])
        key = data.draw(st.sampled_from(keys)) if keys else "op"
        if kind == "value":
            operations[i][key] = data.draw(st.sampled_from(OPERATIONS) | VALUES if key == "op" else VALUES)
        elif kind == "element" and isinstance(operations[i].get(key), list) and operations[i][key]:
            operations[i][key][data.draw(st.integers(0, len(operations[i][key]) - 1))] = data.draw(SCALARS)
        elif kind == "drop":
            operations[i].pop(key, None)
        elif kind == "add":
            operations[i][data.draw(st.sampled_from(KEYS))] = data.draw(VALUES)
        elif kind == "swap":
            operations[i], operations[j] = operations[j], operations[i]
        elif kind == "repeat":
            operations.insert(i, copy.deepcopy(operations[j]))
        elif kind == "array" and arrays:
            name = data.draw(st.sampled_from(sorted(arrays)))
            if isinstance(arrays[name], np.ndarray) and arrays[name].ndim > 0:
                with np.errstate(invalid="ignore"):  # NaN becomes some integer
                    arrays[name] = data.draw(ARRAYS)(arrays[name])
    return operations, arrays


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_programs(data: st.DataObject) -> None:
    case = random_case(data.draw(st.integers(0, 319)))
    operations, arrays = mutate(data, case)
    try:
        results = Program(operations, arrays)(*case.inputs)
    except (ValueError, TypeError, MemoryError):
        return
    expected = reference.run(operations, arrays, *case.inputs)
    outputs = [operation["input"] for operation in operations if operation["op"] == "output"]
    named = expected if isinstance(expected, dict) else {outputs[0]: expected}
    if not any(map(why_inexact, operations)):
        assert Case(operations, arrays, case.inputs, named, {}).differences(results) == []
    else:  # a change may have made codes of inexact floats
        returned = list(results.values()) if isinstance(results, dict) else [results]
        described = [(array.dtype, array.shape) for array in returned]
        assert described == [(array.dtype, array.shape) for array in named.values()]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), text=st.binary(max_size=200))
def test_strings_of_any_kind(data: st.DataObject, text: bytes) -> None:
    """Names come from files; odd ones must come back whole in messages, or be good names."""
    case = random_case(data.draw(st.sampled_from([0, 1, 9, 14])))
    operations = copy.deepcopy(case.operations)
    odd = text.decode("utf-8", "replace") + data.draw(st.sampled_from(["", "\0", '"', "\\", "\n", "é", "\U0001f600"]))
    name = operations[0]["output"]
    for operation in operations:
        for key, value in operation.items():
            if value == name and key != "op":
                operation[key] = odd
            elif isinstance(value, list):
                operation[key] = [odd if item == name else item for item in value]
    try:
        results = Program(operations, case.arrays)(*case.inputs)
    except ValueError:
        return
    expected = {odd if n == name else n: array for n, array in case.expected.items()}
    tolerance = {odd if n == name else n: t for n, t in case.tolerance.items()}
    assert Case(operations, case.arrays, case.inputs, expected, tolerance).differences(results) == []
