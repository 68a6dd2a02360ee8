"""The deployed model: tensors in and out, shapes, files, copies, and what it says to wrong input."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import bitorch_runtime
from bitorch.deployment.runtime.packed_model import PackedModel, TensorSpec
from bitorch.deployment.runtime.program_text import operation_table

WINDOW = {"kernel_size": [1, 3], "stride": [1, 1], "padding": [0, 1, 0, 1], "dilation": [1, 1], "groups": 1}
Operations = list[dict[str, Any]]
Arrays = dict[str, NDArray[Any]]


def image_net() -> tuple[Operations, Arrays]:
    """Pixels [3, 4, 4] to one score for each of 5 classes."""
    rng = np.random.default_rng(0)
    return [
        {"op": "input", "output": "image", "dtype": "uint8", "shape": [3, 4, 4], "order": "nchw", "bits": 8},
        {"op": "conv2d", "input": "image", "weight": "w", "weight_bits": 1, "out_channels": 5, **WINDOW,
         "multiply": "scale", "offset": "bias", "float32": "y"},
        {"op": "global_avg_pool", "input": "y", "output": "scores"},
        {"op": "output", "input": "scores"},
    ], {
        "w": bitorch_runtime.pack_weights(2 * rng.integers(0, 2, (5, 3, 1, 3)) - 1, 1),
        "scale": np.full(5, 0.25, np.float32),
        "bias": np.arange(5, dtype=np.float32),
    }  # fmt: skip


def signal_net() -> tuple[Operations, Arrays]:
    """Two signals [2, 6] of floats to their sum and, apart, its maximum over two."""
    return [
        {"op": "input", "output": "a", "dtype": "float32", "shape": [2, 1, 6], "order": "nchw"},
        {"op": "input", "output": "b", "dtype": "float32", "shape": [2, 1, 6], "order": "nchw"},
        {"op": "add", "inputs": ["a", "b"], "float32": "sum"},
        {"op": "max_pool", "input": "sum", "output": "max", "kernel_size": [1, 2], "stride": [1, 2],
         "padding": [0, 0, 0, 0]},
        {"op": "output", "input": "sum", "order": "nchw"},
        {"op": "output", "input": "max", "order": "nchw"},
    ], {}  # fmt: skip


@pytest.fixture
def packed() -> PackedModel:
    return PackedModel(
        *image_net(),
        output_shapes=[(5, 1, 1)],
        class_names=["null", "eins", "zwei", "drei", "vier"],
        preprocessing={"channels": 3, "size": [4, 4]},
        provenance={"model": "tiny"},
        passes=[("captured", "…")],
    )


@pytest.fixture
def signals() -> PackedModel:
    return PackedModel(*signal_net(), input_shapes=[(2, 6), (2, 6)], output_shapes=[(2, 6), (2, 3)])


def pixels(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(batch))


def same(a: PackedModel, b: PackedModel) -> bool:
    names = ("inputs", "outputs", "class_names", "preprocessing", "provenance", "nbytes")
    x = pixels(3)
    return all(getattr(a, name) == getattr(b, name) for name in names) and bool(torch.equal(result(a, x), result(b, x)))


def result(packed: PackedModel, *inputs: Tensor) -> Tensor:
    y = packed(*inputs)
    assert isinstance(y, Tensor)
    return y


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_calls_give_the_programs_numbers_in_the_models_shape(packed: PackedModel, batch: int) -> None:
    x = pixels(batch)
    y = result(packed, x)
    assert (y.shape, y.dtype) == ((batch, 5, 1, 1), torch.float32)
    expected = bitorch_runtime.Program(*image_net())(x.numpy())
    assert isinstance(expected, np.ndarray)
    assert np.array_equal(y.numpy().reshape(batch, 5), expected)


def test_signals_and_several_outputs(signals: PackedModel) -> None:
    a, b = torch.randn(2, 3, 2, 6)
    results = signals(a, b)
    assert isinstance(results, dict)
    assert list(results) == ["sum", "max"]
    assert torch.equal(results["sum"], a + b)
    assert torch.equal(results["max"], torch.nn.functional.max_pool1d(a + b, 2))
    assert signals.inputs == (TensorSpec("a", torch.float32, (2, 6)), TensorSpec("b", torch.float32, (2, 6)))


def test_any_layout_of_memory_and_gradients_that_are_ignored(signals: PackedModel) -> None:
    a = torch.randn(6, 2, 3).permute(2, 1, 0).requires_grad_()
    with torch.inference_mode():
        b = torch.randn(3, 12)[:, ::2].unsqueeze(1).expand(3, 2, 6)
    results = signals(a, b)
    assert isinstance(results, dict)
    assert torch.equal(results["sum"], a.detach() + b)
    assert not results["sum"].requires_grad


def test_results_are_the_callers(packed: PackedModel) -> None:
    x = pixels(2)
    first = result(packed, x)
    kept = first.clone()
    first.zero_()
    assert torch.equal(result(packed, x), kept)


def test_file_round_trip(packed: PackedModel, signals: PackedModel, tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    packed.save(path)
    loaded = PackedModel.load(str(path))
    assert same(packed, loaded)
    assert loaded.nbytes == path.stat().st_size
    assert loaded.passes == ()
    assert loaded.outputs[0].shape == (5, 1, 1)
    again = tmp_path / "again.bit.safetensors"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    signals.save(path)  # over the other
    assert PackedModel.load(path).inputs[1].shape == (2, 6)
    assert PackedModel.load(path).provenance is None


def test_files_of_the_runtime_alone(tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    bitorch_runtime.save(path, *signal_net())
    loaded = PackedModel.load(path)
    assert [spec.shape for spec in (*loaded.inputs, *loaded.outputs)] == [(2, 1, 6), (2, 1, 6), (2, 1, 6), (2, 1, 3)]
    assert (loaded.class_names, loaded.preprocessing, loaded.provenance) == (None, None, None)


def test_a_file_runs_without_pytorch(packed: PackedModel, tmp_path: Path) -> None:
    path, x = tmp_path / "net.bit.safetensors", pixels(2)
    packed.save(path)
    np.save(tmp_path / "x.npy", x.numpy())
    script = f"""
import sys
sys.modules["torch"] = None
import json, numpy as np, bitorch_runtime
net = bitorch_runtime.load({str(path)!r})
print(json.dumps([net(np.load({str(tmp_path / "x.npy")!r})).tolist(), net.class_names]))
"""
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120).stdout
    scores, names = json.loads(printed)
    assert torch.equal(torch.tensor(scores), result(packed, x))
    assert names == ["null", "eins", "zwei", "drei", "vier"]


def test_copies_and_pickles(packed: PackedModel) -> None:
    for other in (copy.deepcopy(packed), copy.copy(packed), pickle.loads(pickle.dumps(packed))):
        assert other is not packed
        assert same(packed, other)
        assert other.passes == packed.passes == (("captured", "…"),)


def test_program_is_what_the_file_holds(packed: PackedModel) -> None:
    operations, arrays = packed.program()
    wanted, wanted_arrays = image_net()
    assert operations == [*wanted[:-1], {**wanted[-1], "array_shape": [5, 1, 1]}]
    assert arrays.keys() == wanted_arrays.keys()
    assert all(np.array_equal(arrays[name], wanted_arrays[name]) for name in arrays)


def test_an_empty_provenance_is_none(tmp_path: Path) -> None:
    empty = PackedModel(*image_net(), output_shapes=[(5,)], provenance={})
    none = PackedModel(*image_net(), output_shapes=[(5,)])
    empty.save(tmp_path / "net")
    assert empty.provenance is none.provenance is None
    assert empty.nbytes == none.nbytes == (tmp_path / "net").stat().st_size


def test_arguments_are_copied() -> None:
    operations, arrays = image_net()
    packed = PackedModel(operations, arrays, output_shapes=[(5,)])
    before = result(packed, pixels(2))
    arrays["scale"][:] = 9
    operations.clear()
    assert torch.equal(result(copy.deepcopy(packed), pixels(2)), before)


def test_text(packed: PackedModel, signals: PackedModel) -> None:
    assert repr(packed) == (
        f"PackedModel(image: uint8 [batch, 3, 4, 4] -> scores: float32 [batch, 5, 1, 1]; {packed.nbytes:,} bytes)"
    )
    first, header, rule, *rows = str(packed).splitlines()
    assert first == repr(packed)
    assert header.split()[:3] == ["operation", "gives", "rows×channels"]
    assert rows[1].split()[:3] == ["conv2d", "y", "4×4×5"]
    assert set(rule) == {"─"}
    assert rows[-1].startswith("4 operations ")
    macs = sum(operation["macs"] for operation in packed.operations())
    assert macs == 4 * 4 * 5 * 9
    assert f"{macs:,}" in rows[-1]
    assert str(signals).splitlines()[-1] == "6 operations"
    assert operation_table(packed.operations()) == "\n".join([header, rule, *rows])


def test_profile(packed: PackedModel) -> None:
    profile = packed.profile(pixels(2), repeats=2)
    assert [row["op"] for row in profile] == [operation["op"] for operation in packed.operations()]
    assert "conv2d" in str(profile)
    with pytest.raises(TypeError, match="must be a torch tensor"):
        packed.profile(pixels(2).numpy())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([], TypeError, r"takes 1 tensors? \(image: uint8 \[batch, 3, 4, 4\]\), but got 0"),
        ([pixels(1), pixels(1)], TypeError, "but got 2"),
        ([[1, 2]], TypeError, "input 'image': must be a torch tensor, not list"),
        ([pixels(1).numpy()], TypeError, "must be a torch tensor, not ndarray; bitorch_runtime takes NumPy arrays"),
        ([pixels(1).float()], TypeError, r"dtype is torch.float32, but must be torch.uint8 .*deploy with pixels=False"),
        ([pixels(1)[0]], ValueError, r"\[3, 4, 4\], but must be \[batch, 3, 4, 4\]; add the batch with x.unsqueeze"),
        ([pixels(1)[:, :, :3]], ValueError, r"the shape is \[1, 3, 3, 4\], but must be \[batch, 3, 4, 4\]$"),
        ([torch.tensor(1, dtype=torch.uint8)], ValueError, r"the shape is \[\], but must be"),
        ([pixels(1).to("meta")], ValueError, r"is on meta, but a packed model computes on the CPU; use x.cpu\(\)"),
    ],
)
def test_wrong_inputs(packed: PackedModel, inputs: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        packed(*inputs)


def test_wrong_floats(signals: PackedModel) -> None:
    x = torch.rand(2, 2, 6)
    with pytest.raises(
        TypeError, match=r"torch.uint8, but must be torch.float32 .*use bitorch.data.to_float\(pixels\)"
    ):
        signals(x.byte(), x)
    with pytest.raises(TypeError, match=r"input 'b': the dtype is torch.float64, .*use x.float\(\)"):
        signals(x, x.double())
    with pytest.raises(ValueError, match=r"all inputs must have one batch, but they have 2 \(a\), 1 \(b\)"):
        signals(x, x[:1])


def test_shapes_that_do_not_fit_the_program() -> None:
    with pytest.raises(ValueError, match="output_shapes: there must be one for each of the program's 1, got 2"):
        PackedModel(*image_net(), output_shapes=[(5,), (5,)])
    with pytest.raises(
        ValueError, match=r"output_shapes: \[batch, 4\] of 'scores' does not have as many numbers as \["
    ):
        PackedModel(*image_net(), output_shapes=[(4,)])
    with pytest.raises(ValueError, match=r"input_shapes: .* of 'image'"):
        PackedModel(*image_net(), output_shapes=[(5,)], input_shapes=[(3, 4)])


def test_what_a_file_cannot_hold() -> None:
    with pytest.raises(TypeError, match="JSON cannot hold"):
        PackedModel(*image_net(), output_shapes=[(5,)], provenance={"tensor": torch.ones(1)})
    with pytest.raises(ValueError, match="class_names must be a list of one or more strings"):
        PackedModel(*image_net(), output_shapes=[(5,)], class_names=[])


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        PackedModel.load(tmp_path / "missing")
    path = tmp_path / "net"
    path.write_bytes(b"PK no net")
    with pytest.raises(ValueError, match=f"{path}: "):
        PackedModel.load(path)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(bitorch_runtime.format.encode(*image_net(), {}))
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.bit.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.bit\.safetensors"):
        PackedModel.load(path)


def test_a_full_disk_costs_nothing(packed: PackedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.bit.safetensors"
    path.write_bytes(b"before")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        packed.save(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_runtime_is_named() -> None:
    script = """
import sys
sys.modules["bitorch_runtime"] = None
import bitorch
try:
    import bitorch.deployment.runtime.packed_model
except ImportError as error:
    assert "pip install ./runtime in a checkout of bitorch" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
