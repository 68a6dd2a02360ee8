"""Choosing kernels by measuring: the answer is kept, and changes no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
from bitorch_runtime import pack_weights, tuning


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A file of two convolutions, the first of which another layer could be."""
    rng = np.random.default_rng(0)
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "shape": [32, 9, 9], "dtype": "uint8", "bits": 2, "order": "nhwc"},
    ]
    arrays = {}
    for i, (name, source) in enumerate((("a", "x"), ("b", "a"))):
        arrays[f"w{i}"] = pack_weights(2 * rng.integers(0, 2, (64, 9 * (32 if i == 0 else 64))) - 1, 1)
        arrays[f"t{i}"] = np.sort(rng.integers(-40, 40, (64, 3)), axis=1).astype(np.int32)
        operations.append(
            {
                "op": "conv2d",
                "input": source,
                "out_channels": 64,
                "kernel_size": [3, 3],
                "stride": [1, 1],
                "padding": [1, 1, 1, 1],
                "dilation": [1, 1],
                "groups": 1,
                "weight_bits": 1,
                "weight": f"w{i}",
                "codes": name,
                "bits": 2,
                "thresholds": f"t{i}",
            }
        )
    operations.append({"op": "output", "input": "b", "order": "nhwc"})
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, operations, arrays)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bitorch" / "kernel-times.json"


def _choices(model: bitorch_runtime.Model) -> list[list[Any]]:
    return [operation["choices"] for operation in model.operations()]


def test_a_plain_load_reckons_and_writes_nothing(net: Path, cache: Path) -> None:
    model = bitorch_runtime.load(net)
    for operation in model.operations():
        assert (operation["op"] == "conv2d") == bool(operation["choices"])
        assert not any(choice["measured"] for choice in operation["choices"])
        costs = [choice["nanoseconds"] for choice in operation["choices"]]
        assert costs == sorted(costs)
        assert all(cost >= 0 for cost in costs)
    assert not cache.exists()


def test_the_fastest_runs_and_numbers_stay(net: Path) -> None:
    plain, tuned = bitorch_runtime.load(net), bitorch_runtime.load(net, tune=True)
    for operation in tuned.operations():
        assert all(choice["measured"] for choice in operation["choices"])
        if operation["choices"]:
            assert operation["kernel"] == operation["choices"][0]["kernel"]
    x = np.random.default_rng(1).integers(0, 4, (3, *plain.inputs[0]["shape"]), dtype=np.uint8)
    np.testing.assert_array_equal(plain(x), tuned(x))


def test_times_are_kept_and_used(net: Path, cache: Path) -> None:
    first = bitorch_runtime.load(net, tune=True)
    (times,) = json.loads(cache.read_text()).values()
    assert times
    stamp = cache.stat().st_mtime_ns
    again = bitorch_runtime.load(net, tune=True)
    assert cache.stat().st_mtime_ns == stamp  # nothing new, nothing written
    assert _choices(again) == _choices(first)


def test_a_kept_time_decides(net: Path, cache: Path) -> None:
    bitorch_runtime.load(net, tune=True)
    content = json.loads(cache.read_text())
    (times,) = content.values()
    last = max(times, key=times.__getitem__)
    times[last] = 0.5
    cache.write_text(json.dumps(content))
    kernels = [operation["kernel"] for operation in bitorch_runtime.load(net, tune=True).operations()]
    assert last.split(": ")[1] in kernels


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 3}', "\xff", '{"%s": {"k": "fast", "l": NaN}}'])
def test_a_damaged_file_is_measured_anew(net: Path, cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(text.replace("%s", tuning._machine()), encoding="latin-1")
    model = bitorch_runtime.load(net, tune=True)
    assert all(choice["measured"] for choices in _choices(model) for choice in choices)
    assert json.loads(cache.read_text())[tuning._machine()] == tuning.known_times()


def test_a_folder_that_takes_no_file_is_told(net: Path, cache: Path) -> None:
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"kernel-times.json: measured times of kernels are not kept"):
        bitorch_runtime.load(net, tune=True)
