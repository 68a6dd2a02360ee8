"""The table of operations says what the compiled core and the reference do, key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from bitorch_runtime import Program, _native, reference
from bitorch_runtime.operation_row import Key, Op
from bitorch_runtime.operations import OPERATIONS, array_names, given_names, read_names, why_inexact
from operation_examples import TENSORS, Array, Operation, arrays_for, examples, port_programs, program

EXAMPLES = examples()
Whole = tuple[list[Operation], dict[str, Array]]


def whole(operation: Operation, arrays: dict[str, Array]) -> Whole:
    return program(operation, read_names(operation), [*given_names(operation).values()]), arrays


PROGRAMS: list[Whole] = [*(whole(*one) for one in EXAMPLES), *((ports, {}) for ports in port_programs())]
#: Each operation of each program, with the program.
PLACES = [(i, whole) for whole in PROGRAMS for i in range(len(whole[0]))]
ROWS = list(OPERATIONS.values())
KEYS = [(row, key) for row in ROWS for key in row.keys]


def of(row: Op, name: str = "") -> list[tuple[int, Whole]]:
    """Where an operation stands, with this key."""
    places = [(i, program) for i, program in PLACES if program[0][i]["op"] == row.name]
    return [(i, program) for i, program in places if not name or name in program[0][i]]


def changed(place: tuple[int, Whole], keys: Mapping[str, Any] | None = None, without: Sequence[str] = ()) -> Whole:
    """A program with other keys at a place; arrays that nothing names any more are left out."""
    i, (operations, arrays) = place
    given = operations[i] if keys is None else {**operations[i], **keys}
    operation = {key: value for key, value in given.items() if key not in without}
    others = [*operations[:i], operation, *operations[i + 1 :]]
    named = {name for one in others for name in array_names(one).values()}
    return others, {name: array for name, array in arrays.items() if name in named}


def error(program: Whole) -> str:
    with pytest.raises(ValueError, match=r"^operation \d") as caught:
        Program(*program)
    return str(caught.value)


def ids(values: list[tuple[Op, Key]]) -> list[str]:
    return [f"{row.name}-{key.name}" for row, key in values]


# What there is


def test_operations_and_their_keys_are_those_of_the_core() -> None:
    assert {row.name: sorted(key.name for key in row.keys) for row in ROWS} == _native.operations()


def test_operations_are_those_of_the_reference() -> None:
    assert set(OPERATIONS) == {"input", "output", *reference.APPLY}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_key_twice(row: Op) -> None:
    assert len({key.name for key in row.keys}) == len(row.keys)
    beside = {key.beside for key in row.keys if key.beside} | {key for keys in row.one_of for key in keys}
    assert all(name in row for name in beside)


# Every row is exercised


@pytest.mark.parametrize(("row", "key"), KEYS, ids=ids(KEYS))
def test_every_key_is_in_some_program(row: Op, key: Key) -> None:
    values = [operations[i][key.name] for i, (operations, _) in of(row, key.name)]
    assert values
    assert {choice.value for choice in key.choices} <= set(map(str, values))


@pytest.mark.parametrize(("row", "key"), KEYS, ids=ids(KEYS))
def test_a_key_may_be_left_out_where_the_table_says_so(row: Op, key: Key) -> None:
    if key.default is None:
        for place in of(row, key.name):
            assert f'"{key.name}"' in error(changed(place, without=(key.name,)))
    else:
        assert len(of(row)) > len(of(row, key.name)), "no program without it"


@pytest.mark.parametrize("operations_and_arrays", PROGRAMS, ids=lambda one: one[0][-2]["op"])
def test_exact_is_what_the_reference_gives(operations_and_arrays: Whole) -> None:
    operations, arrays = operations_and_arrays
    inputs = arrays_for(operations)
    results, expected = Program(operations, arrays)(*inputs), reference.run(operations, arrays, *inputs)
    exact = not any(map(why_inexact, operations))
    found, wanted = (r if isinstance(r, dict) else {"": r} for r in (results, expected))
    assert found.keys() == wanted.keys()
    for name, result in found.items():
        if exact:
            assert np.array_equal(result, wanted[name], equal_nan=True), name
        else:
            assert np.allclose(result, wanted[name], rtol=1e-5, atol=1e-6, equal_nan=True), name


def test_what_is_inexact() -> None:
    """Float sums, exponentials and logarithms; nothing else."""
    inexact = {(one[0]["op"], one[0].get("function")) for one in EXAMPLES if why_inexact(one[0])}
    names = ("elu", "selu", "celu", "sigmoid", "logsigmoid", "tanh", "silu", "mish", "gelu", "gelu_tanh", "softplus")
    functions = {("activation", function) for function in (*names, "erf", "exp", "log")}
    layers = {
        (name, None)
        for name in (
            "conv2d_float",
            "conv_transpose_float",
            "linear_float",
            "linear_weight_only",
            "matmul",
            "attention",
        )
    }
    assert inexact == functions | layers | {("softmax", None)}


def test_float_sums_are_no_others_than_those_called_inexact() -> None:
    """In float64, rounded once, many sums of a wide layer are other numbers than the core's."""
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 1000), (64, 1000)))
    layer = {"op": "linear_float", "input": "x", "weight": "w", "float32": "y"}
    port: Operation = {"op": "input", "output": "x", "dtype": "float32", "shape": [1000]}
    operations = [port, layer, {"op": "output", "input": "y"}]
    found, expected = Program(operations, {"w": weight})(x), reference.run(operations, {"w": weight}, x)
    assert isinstance(found, np.ndarray)
    assert isinstance(expected, np.ndarray)
    assert not np.array_equal(found, expected)


# What values may be


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_one_or_more_of_these_must_be_there(row: Op) -> None:
    for keys in row.one_of:
        place = of(row)[0]
        if "float32" in keys:  # what leaves takes what makes codes with it
            keys = (*keys, "bits", "thresholds", "descending")
        else:
            keys = (*keys, *(row[key].beside for key in keys if row[key].beside))
        operations, arrays = changed(place, without=keys)
        assert " needs an output" in (message := error((operations, arrays))) or "nothing to compute" in message


BESIDE = [(row, key) for row, key in KEYS if key.beside]


@pytest.mark.parametrize(("row", "key"), BESIDE, ids=ids(BESIDE))
def test_a_key_is_refused_without_the_one_it_stands_beside(row: Op, key: Key) -> None:
    for place in of(row, key.name):
        assert key.beside in place[1][0][place[0]]
        error(changed(place, without=(key.beside,)))


INTEGERS = [(row, key) for row, key in KEYS if key.role == "setting" and key.low is not None]


@pytest.mark.parametrize(("row", "key"), INTEGERS, ids=ids(INTEGERS))
def test_ranges_are_those_of_the_core(row: Op, key: Key) -> None:
    """Its error for an integer that is out of range says the range."""
    place = next(place for place in of(row, key.name) if place[1][0][place[0]][key.name] != [])
    value = place[1][0][place[0]][key.name]
    low = -(2**40)
    message = error(changed(place, {key.name: [low] * len(value) if isinstance(value, list) else low}))
    found = re.search(r"must be an integer from (-?\d+) to (-?\d+)", message)
    assert found is not None, message
    assert int(found[1]) == key.low
    if key.high is not None:
        assert int(found[2]) == key.high
    assert isinstance(value, list) == key.form.startswith(("[", "a list"))


CHOSEN = [(row, key) for row, key in KEYS if key.choices]


@pytest.mark.parametrize(("row", "key"), CHOSEN, ids=ids(CHOSEN))
def test_choices_are_those_of_the_core(row: Op, key: Key) -> None:
    message = error(changed(of(row, key.name)[0], {key.name: "none"}))
    listed = re.findall(r'"(\w+)"', message.partition("must be one of ")[2])
    assert sorted(listed) == sorted(choice.value for choice in key.choices)


ARRAYS = [(row, key) for row, key in KEYS if key.role == "array"]
DTYPES = ("float32", "int32", "uint8", "bool")


@pytest.mark.parametrize(("row", "key"), ARRAYS, ids=ids(ARRAYS))
def test_arrays_have_the_dtype_and_the_dimensions_that_the_table_says(row: Op, key: Key) -> None:
    ranks = {shape.count(",") + 1 for shape in re.findall(r"\[([^]]*)\]", key.form)}
    seen = set()
    for place in of(row, key.name):
        name = place[1][0][place[0]][key.name]
        array = place[1][1][name]
        seen.add(array.dtype.name)
        assert array.ndim in ranks
        for dtype in set(DTYPES) - set(key.values):
            operations, arrays = place[1]
            assert f'"{key.name}"' in error((operations, arrays | {name: array.astype(dtype)}))
    assert seen == set(key.values)
    assert key.form.startswith(" or ".join(key.values))


READ = [(row, key) for row, key in KEYS if key.role == "reads"]
KINDS = {"float32": "x", "codes": "q", "int32": "sums"}


@pytest.mark.parametrize(("row", "key"), READ, ids=ids(READ))
def test_tensors_hold_what_the_table_says(row: Op, key: Key) -> None:
    """Every kind of values is read somewhere, and the others are refused."""
    layer = next(one for one in EXAMPLES if one[0]["op"] == "conv2d" and "int32" in one[0])
    sums = [TENSORS["q"], {**layer[0], "input": "q", "int32": "sums"}]
    place = of(row, key.name)[-1]
    for kind in KINDS.keys() - set(key.values):
        i, (operations, arrays) = place
        named = [KINDS[kind]] * len(operations[i]["inputs"]) if key.name == "inputs" else KINDS[kind]
        there = [one for one in operations[:i] if one["output"] not in ("x", "q")]
        before = [*there, TENSORS["x"], *sums]
        needed = {f"sums.{name}": array for name, array in layer[1].items()}
        before[-1] = {**before[-1], **{k: f"sums.{name}" for k, name in array_names(layer[0]).items()}}
        message = error(([*before, {**operations[i], key.name: named}, *operations[i + 1 :]], arrays | needed))
        assert f'"{key.name}"' in message
        assert "but must be" in message


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_tensors_that_leave_are_those_of_the_table(row: Op) -> None:
    given: dict[str, set[str]] = {}
    for i, (operations, arrays) in of(row):
        described = Program(operations, arrays).operations()[i]
        kinds = {tensor["name"]: tensor["dtype"] for tensor in described["outputs"]}
        names = given_names(operations[i])
        assert set(names.values()) == set(kinds)
        assert described["inputs"] == read_names(operations[i])
        assert all(row.may_give(key, operations[i]) for key in names)
        for key, name in names.items():
            given.setdefault(key, set()).add(kinds[name])
        assert (described["macs"] > 0) == row.multiplies
    assert given == {key: set(row[key].values) for key in row.gives}


def test_what_an_operation_may_give() -> None:
    conv = OPERATIONS["conv2d"]
    assert conv.may_give("int32", {})
    assert not conv.may_give("float32", {})
    assert conv.may_give("float32", {"multiply": "m"})
    assert not conv.may_give("output", {})


def test_names_of_an_operation() -> None:
    pad: Operation = {"op": "pad", "input": "a", "output": "b", "channels": [0, 1], "mode": "constant"}
    select: Operation = {"op": "select", "input": "a", "output": "b", "channels": "c"}
    add: Operation = {"op": "add", "inputs": ["a", "a"], "codes": "z", "float32": "y"}
    assert array_names(pad) == {}
    assert array_names(select) == {"channels": "c"}
    assert read_names(add) == ["a", "a"]
    assert given_names(add) == {"float32": "y", "codes": "z"}
    with pytest.raises(KeyError, match="slope"):
        OPERATIONS["pad"]["slope"]
