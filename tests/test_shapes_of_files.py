"""A file gives and takes the model's own shapes, in PyTorch and without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import PackedModel, deploy, verify
from bitorch.layers import QConv1d, QConv2d, QLinear
from random_nets import SignalNet


class Function(nn.Module):
    """Layers, and a function that says how they are called."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *self.layers)


def conv1d(channels: int) -> nn.Module:
    return QConv1d(channels, 4, 3, padding=1, input_quantization="inputdorefa", weight_quantization="weightdorefa")


def conv2d(channels: int) -> nn.Module:
    return QConv2d(channels, 4, 3, padding=1, input_quantization="inputdorefa", weight_quantization="weightdorefa")


NETS: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]]]] = {
    "a signal": (lambda: SignalNet((1, 2)), [(2, 41)]),
    "a signal to features": (lambda: Function(lambda x, c: c(x).flatten(1), conv1d(3)), [(3, 5)]),
    "a signal to its mean": (lambda: Function(lambda x, c: c(x).mean(2, keepdim=True), conv1d(3)), [(3, 5)]),
    "a signal of length 1": (lambda: Function(lambda x, c: c(x), conv1d(3)), [(3, 1)]),
    "an image": (lambda: Function(lambda x, c: c(x), conv2d(3)), [(3, 5, 4)]),
    "an image of one pixel": (lambda: Function(lambda x, c: c(x), conv2d(3)), [(3, 1, 1)]),
    "an image to [C, 1, 1]": (lambda: Function(lambda x, c: c(x).mean((2, 3), keepdim=True), conv2d(3)), [(3, 4, 4)]),
    "an image to [C]": (lambda: Function(lambda x, c: c(x).mean((2, 3)), conv2d(3)), [(3, 4, 4)]),
    "features": (lambda: Function(lambda x, q: q(x), QLinear(7, 3)), [(7,)]),
    "features to one": (lambda: Function(lambda x, q: q(x), QLinear(7, 1)), [(7,)]),
    "an image and a signal": (
        lambda: Function(lambda x, y, c, d: (d(y), c(x).mean((2, 3), keepdim=True), c(x)), conv2d(3), conv1d(2)),
        [(3, 4, 4), (2, 6)],
    ),
    "named outputs": (
        lambda: Function(lambda x, c: {"map": c(x), "top": c(x).amax((2, 3), keepdim=True)}, conv2d(3)),
        [(3, 4, 4)],
    ),
}  # fmt: skip


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return list(result.values() if isinstance(result, dict) else result)


@pytest.mark.parametrize("net", NETS)
def test_the_runtime_has_the_shapes_of_the_model(net: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build, shapes = NETS[net]
    model = build().eval()
    packed = deploy(model, *(torch.rand(2, *shape) for shape in shapes))
    path = tmp_path / "net.bit.safetensors"
    packed.save(path)
    runtime, loaded = bitorch_runtime.load(path), PackedModel.load(path)
    assert [port["shape"] for port in runtime.inputs] == shapes
    for batch in (0, 1, 3):
        inputs = [torch.randn(batch, *shape) for shape in shapes]
        with torch.no_grad():
            wanted = [y.shape for y in tensors(model(*inputs))] if batch > 0 else None
        expected = tensors(packed(*inputs))
        found = runtime(*(x.numpy() for x in inputs))
        arrays = list(found.values()) if isinstance(found, dict) else [found]
        assert wanted in (None, [y.shape for y in expected])
        for one, other, array in zip(expected, tensors(loaded(*inputs)), arrays, strict=True):
            assert one.shape == other.shape == array.shape
            assert torch.equal(one, other)
            assert np.array_equal(one.numpy(), array)
    assert verify(model, loaded, *(torch.randn(2, *shape) for shape in shapes))
    short = [torch.zeros(2, *shape[:-1], shape[-1] + 1).numpy() for shape in shapes]
    with pytest.raises(ValueError, match=re.escape(f"must be (batch, {', '.join(map(str, shapes[0]))})")):
        runtime(*short)


def test_one_number_for_each_image(tmp_path: Path) -> None:
    packed = deploy(Function(lambda x, q: q(x), QLinear(7, 1)).eval(), torch.rand(2, 7))
    one = PackedModel(*packed.program(), output_shapes=[()])
    path = tmp_path / "net.bit.safetensors"
    one.save(path)
    x = torch.randn(3, 7)
    result, loaded = one(x), PackedModel.load(path)(x)
    assert isinstance(result, Tensor)
    assert isinstance(loaded, Tensor)
    assert torch.equal(result, tensors(packed(x))[0][:, 0])
    assert torch.equal(result, loaded)
    array = bitorch_runtime.load(path)(x.numpy())
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array, result.numpy())
    assert "float32 [batch]; " in repr(one)


def with_a_height(packed: PackedModel) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The program of a signal as the writers before had it: images of one row."""
    operations, arrays = packed.program()
    changed = []
    for operation in operations:
        one = {key: value for key, value in operation.items() if key != "array_shape"}
        for key in {"kernel_size", "stride", "dilation"} & one.keys():
            one[key] = [1, *one[key]]
        if "padding" in one:
            one["padding"] = [0, one["padding"][0], 0, one["padding"][1]]
        if one["op"] == "input":
            one["shape"] = [one["shape"][0], 1, one["shape"][1]]
        if one["op"] == "conv2d_float":
            arrays = {**arrays, one["weight"]: arrays[one["weight"]][:, np.newaxis]}
        changed.append(one)
    return changed, arrays


def older_file(path: Path, shapes: Any) -> PackedModel:
    """A file as the writers before wrote it: the program's shapes, and the model's in the provenance."""
    packed = deploy(SignalNet((1, 2)).eval(), torch.rand(2, 2, 41))
    operations, arrays = with_a_height(packed)
    info = {"provenance": {"model": "SignalNet", "torch_shapes": shapes}}
    path.write_bytes(bitorch_runtime.format.encode(operations, arrays, info))
    return packed


def test_older_files_mean_the_same(tmp_path: Path) -> None:
    path, x = tmp_path / "net.bit.safetensors", torch.rand(3, 2, 41)
    packed = older_file(path, {"inputs": [[2, 41]], "outputs": [[4, 9]]})
    loaded = PackedModel.load(path)
    assert loaded.inputs == packed.inputs
    assert loaded.outputs == packed.outputs
    assert loaded.provenance == {"model": "SignalNet"}
    assert torch.equal(tensors(loaded(x))[0], tensors(packed(x))[0])
    array = bitorch_runtime.load(path)(x.numpy()[:, :, np.newaxis])
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array[:, :, 0], tensors(packed(x))[0].numpy())
    loaded.save(tmp_path / "again")
    assert bitorch_runtime.load(tmp_path / "again").inputs[0]["shape"] == (2, 41)


@pytest.mark.parametrize(
    "shapes",
    [
        7, [], "x", {"inputs": 3}, {"inputs": [3]}, {"inputs": [["2", 41]]},
        {"inputs": [[2, 41]], "outputs": [[4, 11]]},
        {"outputs": []}, {"inputs": [[-2, -41]]}, {"inputs": [[2, 41, *[1] * 7]]}, {"outputs": [[4, 9], [4, 9]]},
        {"inputs": [[2.0, 41]]}, {"inputs": [[10**30, 41]]},
    ],
    ids=str,
)  # fmt: skip
def test_older_files_with_wrong_shapes(shapes: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    older_file(path, shapes)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        PackedModel.load(path)


def test_an_older_file_can_be_verified(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SignalNet((1, 2)).eval()
    packed = deploy(model, torch.rand(2, 2, 41))
    path = tmp_path / "net.bit.safetensors"
    shapes = {"inputs": [[2, 41]], "outputs": [[4, 9]]}
    path.write_bytes(bitorch_runtime.format.encode(*with_a_height(packed), {"provenance": {"torch_shapes": shapes}}))
    assert bitorch.verify(model, PackedModel.load(path), torch.rand(3, 2, 41))
