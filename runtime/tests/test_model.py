"""save, load and Model: files that come and go, what a model says about itself, copies of it."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime
import golden
from bitorch_runtime import Model, Profile, Program
from cases import random_case


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The golden network, saved once more."""
    operations, arrays = golden.network()
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, operations, arrays, **golden.INFO)
    return path


def scores() -> np.ndarray[Any, Any]:
    return np.asarray(Program(*golden.network())(golden.images()))


def test_model_is_called_as_a_program_is(path: Path) -> None:
    model = bitorch_runtime.load(path)
    assert isinstance(model, Program)
    np.testing.assert_array_equal(model(golden.images()), scores())
    np.testing.assert_array_equal(model(image=golden.images()[:1]), scores()[:1])
    assert np.asarray(model(golden.images()[:0])).shape == (0, 3)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(model, [golden.images()] * 32):
            np.testing.assert_array_equal(result, scores())


def test_model_describes_itself(path: Path) -> None:
    model = bitorch_runtime.load(str(path))
    (image,), (score,) = model.inputs, model.outputs
    assert image == {"name": "image", "dtype": "float32", "shape": (3, 6, 5), "order": "nchw", "bits": 0}
    assert (score["name"], score["dtype"], score["shape"]) == ("scores", "float32", (3,))
    assert model.description == golden.network()[0]
    assert [operation["op"] for operation in model.operations()][1:3] == ["quantize", "conv2d"]
    assert model.class_names == ["nothing", "café", 'a "quoted" name']
    assert model.workspace_bytes(1) > 0
    assert repr(model).startswith(
        f"Model({str(path)!r}: image: float32 (batch, 3, 6, 5) -> scores: float32 (batch, 3); "
    )


def test_info_is_the_callers_copy(path: Path) -> None:
    model = bitorch_runtime.load(path)
    assert model.class_names is not None
    model.class_names.clear()
    assert len(model.class_names) == 3


def test_file_without_notes(tmp_path: Path) -> None:
    bitorch_runtime.save(tmp_path / "net", *golden.network())
    model = bitorch_runtime.load(tmp_path / "net")
    assert (model.class_names, model.preprocessing, model.provenance) == (None, None, None)


def test_numpy_numbers_are_plain_ones(tmp_path: Path) -> None:
    preprocessing = {"size": [np.int64(6), 5], "mean": np.float32(0.5)}
    bitorch_runtime.save(tmp_path / "net", *golden.network(), preprocessing=preprocessing)
    assert bitorch_runtime.load(tmp_path / "net").preprocessing == {"size": [6, 5], "mean": 0.5}


@pytest.mark.parametrize(
    ("notes", "error", "pattern"),
    [
        ({"class_names": "ab"}, TypeError, "class_names='ab': must be a list of strings"),
        ({"class_names": [1]}, TypeError, "class_names"),
        ({"class_names": []}, ValueError, "class_names: must not be empty"),
        ({"class_names": ["\ud800"]}, ValueError, "surrogates"),
        ({"preprocessing": [1]}, TypeError, "preprocessing: must be a dict, not list"),
        ({"provenance": {"a": np.zeros(3)}}, TypeError, "info: array.*JSON cannot hold"),
        ({"provenance": {"a": float("nan")}}, ValueError, "info: "),
    ],
)
def test_wrong_notes(tmp_path: Path, notes: dict[str, Any], error: type[Exception], pattern: str) -> None:
    with pytest.raises(error, match=pattern):
        bitorch_runtime.save(tmp_path / "net", *golden.network(), **notes)
    assert list(tmp_path.iterdir()) == []


def test_wrong_program_leaves_the_file_as_it_was(path: Path) -> None:
    before = path.read_bytes()
    operations, arrays = golden.network()
    operations[2]["stride"] = [0, 1]
    with pytest.raises(ValueError, match=r"operation 2 \(conv2d\), \"stride\""):
        bitorch_runtime.save(path, operations, arrays)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_failed_write_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        bitorch_runtime.save(path, *golden.network())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_missing_and_strange_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        bitorch_runtime.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is no ordinary file"):
        bitorch_runtime.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is no ordinary file"):
        bitorch_runtime.load(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}/empty: .*has 0 bytes"):
        bitorch_runtime.load(tmp_path / "empty")
    with pytest.raises(ValueError, match="empty: the file has 0 bytes"):
        bitorch_runtime.format.read(tmp_path / "empty")


def test_file_of_a_strange_name(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9"  # no UTF-8
    bitorch_runtime.save(os.fsdecode(name), *golden.network())
    np.testing.assert_array_equal(bitorch_runtime.load(os.fsdecode(name))(golden.images()), scores())


def test_wrong_inputs_name_both_shapes(path: Path) -> None:
    model = bitorch_runtime.load(path)
    with pytest.raises(ValueError, match=r"'image': the shape is \(1, 6, 5, 3\), but must be \(batch, 3, 6, 5\)"):
        model(np.zeros((1, 6, 5, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(3, 6, 5\), but must be \(batch, 3, 6, 5\); one image is .* array\[None\]"):
        model(np.zeros((3, 6, 5), np.float32))
    with pytest.raises(
        TypeError, match=r"float64\), but must be float32; .*\(2, 3, 6, 5\), and must be \(batch, 3, 6, 5\)"
    ):
        model(np.zeros((2, 3, 6, 5)))


def test_limit_on_memory(path: Path) -> None:
    with pytest.raises(ValueError, match=r"safetensors: operation 0 \(input\): needs \d+ bytes .* raise the limit"):
        bitorch_runtime.load(path, memory_limit=2000)
    with pytest.raises(ValueError, match="memory_limit=-1"):
        bitorch_runtime.load(path, memory_limit=-1)


def test_model_is_no_constructor() -> None:
    with pytest.raises(TypeError):
        Model(*golden.network())  # type: ignore[call-arg, arg-type]


# Copies


def test_pickled_model(path: Path) -> None:
    model = bitorch_runtime.load(path)
    restored = pickle.loads(pickle.dumps(model))
    path.unlink()
    for again in (restored, pickle.loads(pickle.dumps(restored)), copy.copy(restored), copy.deepcopy(restored)):
        assert isinstance(again, Model)
        np.testing.assert_array_equal(again(golden.images()), scores())
        assert again.class_names == model.class_names
        assert again.description == model.description
    assert repr(restored).startswith("Model(from a pickle: ")


def test_pickle_needs_the_file(path: Path) -> None:
    model = bitorch_runtime.load(path)
    bitorch_runtime.save(path, *golden.network())
    with pytest.raises(ValueError, match="has changed since the model was loaded"):
        pickle.dumps(model)
    path.unlink()
    with pytest.raises(ValueError, match=r"net.bit.safetensors: cannot be read any more"):
        pickle.dumps(model)
    np.testing.assert_array_equal(model(golden.images()), scores())


def test_path_does_not_follow_the_working_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    model = bitorch_runtime.load(path.name)
    monkeypatch.chdir("/")
    pickle.dumps(model)


@pytest.mark.parametrize("seed", [0, 14, 41])
def test_pickled_program(seed: int) -> None:
    case = random_case(seed)
    program = Program(case.operations, case.arrays)
    for array in case.arrays.values():
        array[...] = 1  # the pickle holds what the program was made of
    restored = pickle.loads(pickle.dumps(program))
    assert type(restored) is Program
    assert restored.description == program.description
    assert case.differences(restored(*case.inputs)) == []


# Profiles


def test_profile(path: Path) -> None:
    model = bitorch_runtime.load(path)
    profile = model.profile(golden.images(), repeats=2)
    assert isinstance(profile, Profile)
    assert [row["op"] for row in profile] == [operation["op"] for operation in model.description]
    assert [row["output"] for row in profile] == ["image", "a", "b", "c", "d", "scores", "scores"]
    assert profile.macs == 2 * (6 * 4 * 4 * 27 + 24 * 3)
    assert profile.seconds == pytest.approx(sum(row["seconds"] for row in profile))
    assert sum(row["share"] for row in profile) == pytest.approx(1)
    assert profile[2]["macs_per_second"] == pytest.approx(profile[2]["macs"] / profile[2]["seconds"])
    assert profile.macs_per_second == pytest.approx(profile.macs / profile.seconds)
    assert (len(profile), profile.batch) == (7, 2)


def test_profile_of_no_images(path: Path) -> None:
    profile = bitorch_runtime.load(path).profile(golden.images()[:0], repeats=1)
    assert (profile.seconds, profile.macs, profile.macs_per_second) == (0, 0, 0)
    assert "total" in str(profile)


def test_profile_prints_as_a_table(path: Path) -> None:
    profile = bitorch_runtime.load(path).profile(golden.images(), repeats=1)
    head, rule, *rows, second_rule, total = str(profile).splitlines()
    assert head.split() == ["op", "output", "kernel", "µs", "share", "MMAC", "GMAC/s"]
    assert rule == second_rule == "-" * len(rule)
    assert len(rows) == 7
    assert total.split()[0] == "total"
    assert "100.0%" in total
    # Numbers end where their heading ends; rows without multiply-adds end sooner.
    end = head.index("share") + len("share")
    assert {line[end - 1] for line in [*rows, total]} == {"%"}
    assert max(map(len, [head, *rows, total])) <= len(rule)


def test_profile_prints_with_rich(path: Path) -> None:
    from rich.console import Console

    operations, arrays = golden.network()
    operations[-2]["float32"] = operations[-1]["input"] = "[red]scores[/]"
    bitorch_runtime.save(path, operations, arrays)
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(bitorch_runtime.load(path).profile(golden.images(), repeats=1))
    console.file.close()
    text = console.export_text()
    assert "GMAC/s" in text
    assert "[red]scores[/]" in text


def test_profile_takes_inputs_of_any_name() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "repeats", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "input", "output": "named", "dtype": "float32", "shape": [3], "order": "nchw"},
        {"op": "add", "inputs": ["repeats", "named"], "float32": "self"},
        {"op": "output", "input": "self", "order": "nchw"},
    ]
    program = Program(operations, {})
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(program(repeats=x, named=x), 2 * x)
    assert len(program.profile(named={"repeats": x, "named": x}, repeats=3)) == 4
    assert len(program.profile(x, named={"named": x})) == 4


# The package


def test_it_works_without_rich_and_safetensors(path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('rich', 'safetensors', 'torch'): sys.modules[name] = None\n"
        "import bitorch_runtime as rt, numpy as np\n"
        "model = rt.load(sys.argv[1])\n"
        "print(model.profile(np.zeros((1, 3, 6, 5), np.float32)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "GMAC/s" in done.stdout


def test_version() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{bitorch_runtime.__version__}"' in project.splitlines()
