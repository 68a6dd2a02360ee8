"""What leaves a public call: ValueError, TypeError, DeploymentError, OSError or ImportError, and a sentence."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.deployment.deploy import DeploymentError
from bitorch.deployment.runtime.packed_model import PackedModel
from bitorch.deployment.runtime.verification import verify_batches
from bitorch.layers import QLinear
from bitorch.quantizations import InputDoReFa, WeightDoReFa

PUBLIC = (ValueError, TypeError, DeploymentError, OSError, ImportError)


class Net(nn.Module):
    """Two convolutions, the second low-bit, and what a user might write behind them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.function = function
        self.register_buffer("count", torch.zeros(1))
        bitorch.quantize_(
            self, bitorch.LowBitConfig(weight_bits=1, activation_bits=2, first="float", last="same"), {"second"}
        )
        self.eval()

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(self.second(self.first(x)), *others)


def _raise(error: BaseException) -> Any:
    raise error


X = torch.rand(2, 1, 6, 6)
GENERATOR = torch.Generator().manual_seed(0)


def _noise(y: Tensor) -> Tensor:
    return y + float(np.random.rand()) + random.random()  # noqa: NPY002


#: A forward, and what is said of it by `deploy`, and by `deploy(partial=True)` where it says anything.
FORWARDS: dict[str, tuple[Callable[..., Any], str, str | None]] = {
    "a KeyError": (lambda y: _raise(KeyError("user")), "KeyError: 'user'", "KeyError: 'user'"),
    "an assertion": (lambda y: _raise(AssertionError("no")), "AssertionError: no", "AssertionError: no"),
    "StopIteration": (lambda y: next(iter([])), "StopIteration", "StopIteration"),
    "recursion": (lambda y: _raise(RecursionError("deep")), "RecursionError", "RecursionError"),
    "a batch of one": (lambda y: y if len(y) > 1 else _raise(KeyError("one")), "a batch of 1", None),
    "values": (lambda y: y if y.sum() > 0 else -y, "bool reads the values", None),
    "dropout": (lambda y: F.dropout(y, 0.5, True), "dropout at work", None),
    "noise": (lambda y: y + torch.rand_like(y), "rand_like", None),
    "noise of Python and NumPy": (_noise, "random numbers", None),
    "noise of its own": (
        lambda y: y + torch.rand(1, generator=GENERATOR),
        "random numbers",
        "other values for the same example each time",
    ),
    "no tensor": (lambda y: 3, "returns no tensor, but int", "returns no tensor, but int"),
    "nothing": (lambda y: None, "returns no tensor, but NoneType", "returns no tensor, but NoneType"),
    "an empty tensor": (lambda y: y[:, :0], "0×2×2", None),
    "five dimensions": (lambda y: y[None], "taken apart or mixed", None),
    "a sparse tensor": (lambda y: y.to_sparse(), "to_sparse", None),
    "complex numbers": (lambda y: torch.fft.fft(y), "fft", None),
    "doubles": (lambda y: y.double(), "double", None),
    "scattered": (lambda y: torch.zeros(2, 4, 2, 2).scatter_(1, y.argmax(1, keepdim=True), 1.0), "argmax", None),
    "a choice of images": (lambda y: y[torch.tensor([0, 1])], "a batch of 1", None),
    "numpy": (lambda y: torch.from_numpy(y.detach().numpy() * 2), "numpy reads the values", None),
    "a sum of all": (lambda y: y.sum(), "sum", None),
    "a long image": (lambda y: y.repeat(1, 1, 1, 524_289), "[2, 1048578, 4]", None),
    "the batch twice": (lambda y: torch.cat([y, y], 0), "mixes or drops the batch", None),
}


@pytest.fixture(scope="module")
def packed() -> PackedModel:
    return bitorch.deploy(Net(lambda y: y), X)


@pytest.mark.parametrize("name", FORWARDS)
def test_forwards(name: str, packed: PackedModel) -> None:
    function, said, said_of_partial = FORWARDS[name]
    model = Net(function)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002
    found = bitorch.can_deploy(model, X)
    assert said in str(found)
    with pytest.raises(ValueError, match=re.escape(str(found))):
        bitorch.deploy(model, X)
    if name == "a long image":  # with which every call takes seconds
        return
    with pytest.raises(PUBLIC):
        bitorch.verify(model, packed, X)
    if said_of_partial is None:
        bitorch.deploy(model, X, partial=True)
    else:
        with pytest.raises(ValueError, match=said_of_partial):
            bitorch.deploy(model, X, partial=True)
    try:
        bitorch.report(model, X, repeats=1)
    except ValueError as error:
        assert str(error)  # noqa: PT017
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())


def test_the_users_error_is_chained() -> None:
    model = Net(lambda y: _raise(KeyError("user")))
    for call in (bitorch.deploy, bitorch.report):
        with pytest.raises(ValueError, match="KeyError") as raised:
            call(model, X)
        assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(ValueError, match="KeyError") as raised:
        bitorch.deploy(model, X, partial=True)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_forward_that_fails_while_it_is_verified() -> None:
    model, x = Net(lambda y: y), torch.rand(2, 1, 6, 6)
    packed = bitorch.deploy(model, x)
    model.function = lambda y: y if len(y) < 7 else _raise(KeyError("late"))
    batches = verify_batches(model, packed, [[x], [torch.rand(7, 1, 6, 6)]])
    assert next(batches)
    with pytest.raises(ValueError, match=r"the model's forward fails on the inputs, .* KeyError: 'late'"):
        next(batches)


def test_a_packed_copy_that_fails() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(lambda y: y)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.net(x)
            return y * self.net.second.weight.mean()

    with pytest.raises(ValueError, match=r"the forward of the model with packed layers fails .*weight"):
        bitorch.deploy(Reads().eval(), X, partial=True)


EXAMPLES: list[tuple[Any, str]] = [
    ({"input_ids": X, "mask": X, "more": X}, r"forward's parameters: batch\['input_ids'\], batch\['mask'\], …"),
    ((X, X), r"got tuple; pass its tensors one by one: \(model, \*example\)"),
    ([X], r"got list; pass its tensors one by one"),
    (X.numpy(), r"got ndarray; torch.as_tensor makes one"),
    (3, r"got int; torch.as_tensor"),
    ([], r"got list"),
]


@pytest.mark.parametrize(("example", "said"), EXAMPLES)
def test_examples_that_are_no_tensors(example: Any, said: str) -> None:
    model = Net(lambda y: y)
    for call in (bitorch.can_deploy, bitorch.deploy):
        with pytest.raises(TypeError, match=said):
            call(model, example)
    if not isinstance(example, dict | tuple | list):  # of which `report` reads a batch
        with pytest.raises(TypeError, match=said):
            bitorch.report(model, example)
    with pytest.raises(TypeError, match=said):
        bitorch.deploy(model, example, partial=True)


def test_a_forward_without_a_signature() -> None:
    model = nn.Sequential(Net(lambda y: y))
    model.forward = torch.relu  # type: ignore[method-assign]
    assert "no low-bit" in str(bitorch.can_deploy(model, X)) or bitorch.can_deploy(model, X)


SHAPES: list[Any] = [
    5,
    [],
    {"inputs": 3},
    {"inputs": [["a"]], "outputs": [[4]]},
    {"inputs": [[1, 6, 6]], "outputs": [[[4]]]},
    {"inputs": [[1, 6, 6]], "outputs": [[4.0, 2, 2]]},
    {"inputs": [[1, 6, 6]], "outputs": {"a": 1}},
    {"inputs": [None], "outputs": [None]},
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_files_with_shapes_that_are_none(shapes: Any, packed: PackedModel, tmp_path: Path) -> None:
    import bitorch_runtime

    path = tmp_path / "net.bit.safetensors"
    operations, arrays = packed.program()
    bitorch_runtime.save(path, operations, arrays, provenance={"torch_shapes": shapes})
    with pytest.raises(ValueError, match=r"torch_shapes|must be one for each|does not have as many"):
        PackedModel.load(path)


class Fails(InputDoReFa):
    """A quantizer of a user that takes finite numbers only."""

    def codes(self, x: Tensor) -> Tensor:
        if not bool(x.isfinite().all()):
            raise KeyError("not finite")
        return super().codes(x)


def test_a_quantizer_that_raises() -> None:
    layer = QLinear(4, 4, weight_quantization=WeightDoReFa(1), input_quantization=Fails(2))
    model, x = nn.Sequential(layer).eval(), torch.rand(2, 4)
    assert "0 (QLinear): its quantizer fails on some numbers" in str(bitorch.can_deploy(model, x))
    with pytest.raises(ValueError, match="KeyError: 'not finite'"):
        bitorch.deploy(model, x)


WRONG: list[tuple[Callable[[], Tensor], str]] = [
    (lambda: X.to("meta"), "is on meta. Pass one with numbers"),
    (lambda: X.to_sparse(), "Pass x.to_dense()"),
    (lambda: X + 1j, "is torch.complex64, .* Pass real numbers"),
    (lambda: X[0, 0, 0], "has shape [6]. Pass a batch, of one: x.unsqueeze(0)"),
    (lambda: X.sum(), "has shape []. Pass a batch, of one: x.reshape(1, 1)"),
    (lambda: X[:0], "an empty batch"),
    (lambda: X.double(), "Pass x.float()"),
]


@pytest.mark.parametrize(("example", "said"), WRONG)
def test_examples_that_are_wrong(example: Callable[[], Tensor], said: str) -> None:
    model, x = Net(lambda y: y), example()
    pattern = said if ".*" in said else re.escape(said)
    assert re.search(pattern, str(bitorch.can_deploy(model, x)))
    with pytest.raises(ValueError, match=pattern):
        bitorch.deploy(model, x)
    try:
        bitorch.report(model, x, repeats=1)
    except ValueError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors() -> None:
    nested = torch.nested.nested_tensor([torch.rand(1, 6, 6), torch.rand(1, 6, 7)])
    for call in (bitorch.can_deploy, bitorch.deploy, bitorch.report):
        with pytest.raises(TypeError, match="nested tensor; pad it"):
            call(Net(lambda y: y), nested)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_scripted_models() -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), X)
    assert "(the model, 0). Pass the Python module" in str(bitorch.can_deploy(scripted, X))
    with pytest.raises(ValueError, match="pass the Python module"):
        bitorch.report(scripted, X)
