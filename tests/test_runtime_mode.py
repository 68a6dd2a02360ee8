"""BITorch's runtime modes: an ordered enum, sums of modes, and the two context managers."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys

import pytest

import bitorch
from bitorch import RuntimeMode, change_mode, pause_wrapping
from bitorch.runtime_mode import current_mode

MODES = tuple(RuntimeMode)
RAW, DEFAULT, CPU, GPU, AUTO = MODES


def test_values_and_names() -> None:
    expected = {"RAW": 0, "DEFAULT": 1, "CPU": 2, "GPU": 4, "INFERENCE_AUTO": 8}
    assert {mode.name: mode.value for mode in RuntimeMode.available_values()} == expected
    assert list(RuntimeMode.list_of_names()) == list(expected)
    assert [str(mode) for mode in MODES] == ["raw", "default", "cpu", "gpu", "inference_auto"]
    assert f"{AUTO}|{CPU:>5}" == "inference_auto|  cpu"
    assert repr(DEFAULT) == "<RuntimeMode.DEFAULT: 1>"


@pytest.mark.parametrize("mode", MODES)
def test_names_are_read_in_any_case(mode: RuntimeMode) -> None:
    assert RuntimeMode.from_string(mode.name) is RuntimeMode.from_string(str(mode)) is mode
    assert RuntimeMode.from_string(str(mode).title()) is mode


def test_unknown_names() -> None:
    with pytest.raises(KeyError, match=r"one of raw, default, cpu, gpu, inference_auto; got 'tpu'"):
        RuntimeMode.from_string("tpu")
    with pytest.raises(ValueError, match="3 is not a valid RuntimeMode"):
        RuntimeMode(3)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(MODES, MODES)))
def test_order(one: RuntimeMode, other: RuntimeMode) -> None:
    values = one.value, other.value
    assert (one < other) == (values[0] < values[1]) == (one < other.value)
    assert (one <= other) == (values[0] <= values[1])
    assert (one == other) == (values[0] == values[1]) == (one.value == other)
    assert (hash(one) == hash(other)) == (one is other)


def test_other_types_do_not_compare() -> None:
    assert DEFAULT != "default"  # type: ignore[comparison-overlap]
    with pytest.raises(TypeError):
        _ = DEFAULT < "cpu"  # type: ignore[operator]
    with pytest.raises(TypeError):
        _ = DEFAULT + "cpu"  # type: ignore[operator]


def test_sums_mean_any_of() -> None:
    assert CPU + GPU == 6
    assert (CPU + GPU) + AUTO == CPU + (GPU + AUTO) == 14
    assert (CPU + GPU) + CPU == CPU + (GPU + CPU) == 6
    assert CPU + CPU is CPU + RAW is RAW + CPU is CPU
    assert CPU + 2 is CPU
    assert sum(MODES) == 15


@pytest.mark.parametrize("mode", MODES)
def test_what_supports_a_mode(mode: RuntimeMode) -> None:
    for other in MODES:
        assert mode.is_supported_by(other) == (mode is other or RAW in (mode, other))
        if other is not mode:
            both = mode + other
            assert mode.is_supported_by(both)
            assert other.is_supported_by(both)
        assert RuntimeMode.mode_compatible(mode, other) == RuntimeMode.mode_compatible(other, mode)
    assert mode.is_supported_by(15)


def test_single_and_combined() -> None:
    assert [value for value in range(-2, 18) if RuntimeMode.is_single_mode(value)] == [0, 1, 2, 4, 8]
    assert [value for value in range(-2, 18) if RuntimeMode.is_combined_mode(value)] == list(range(16))
    assert not RuntimeMode.is_single_mode("cpu")  # type: ignore[arg-type]
    assert not RuntimeMode.is_combined_mode(1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_copies_are_the_mode(mode: RuntimeMode) -> None:
    assert copy.deepcopy(mode) is pickle.loads(pickle.dumps(mode)) is mode
    assert {mode: "a"}[mode] == "a"


def test_the_mode_can_be_changed_for_a_while() -> None:
    assert bitorch.mode is DEFAULT
    with change_mode(CPU):
        assert bitorch.mode is CPU
        with pause_wrapping():
            assert bitorch.mode is RAW
            with change_mode(GPU):
                assert bitorch.mode is GPU
            assert bitorch.mode is RAW
        assert bitorch.mode is CPU
    assert bitorch.mode is DEFAULT


def test_an_error_brings_the_mode_back() -> None:
    with pytest.raises(ArithmeticError), change_mode(GPU):
        raise ArithmeticError
    assert bitorch.mode is DEFAULT


def test_the_mode_of_the_construction_comes_back() -> None:
    later = change_mode(CPU)
    bitorch.mode = GPU
    with later:
        assert bitorch.mode is CPU
    assert bitorch.mode is DEFAULT


@pytest.mark.parametrize("mode", [3, 15, "cpu", None])
def test_what_is_not_one_mode(mode: int) -> None:
    with pytest.raises(AssertionError, match="mode must be one RuntimeMode"):
        change_mode(mode)


@pytest.mark.parametrize(("mode", "kind"), [("cpu", TypeError), (99, ValueError)])
def test_what_the_mode_may_not_be(monkeypatch: pytest.MonkeyPatch, mode: int, kind: type[Exception]) -> None:
    monkeypatch.setattr(bitorch, "mode", mode)
    with pytest.raises(kind, match=r"bitorch\.mode must be a RuntimeMode"):
        current_mode()


def test_it_is_there_without_torch() -> None:
    script = """
import sys, bitorch
assert bitorch.mode is bitorch.RuntimeMode.DEFAULT and "mode" in dir(bitorch)
with bitorch.pause_wrapping():
    assert bitorch.mode == 0
bitorch.mode = bitorch.RuntimeMode.CPU
from bitorch import mode
assert mode == 2 and "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
