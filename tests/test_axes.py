"""Tensors are channels and any number of row axes: tokens, signals, and moves of rows, in whole programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import PackedModel
from bitorch_runtime import reference

LENGTH = 1600


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Mixing(nn.Module):
    """Tokens [batch, T, C] mixed along T, then along C, each behind a BatchNorm of the features, and added."""

    def __init__(self, tokens: int, features: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(features), nn.BatchNorm1d(features)])
        self.along_tokens = nn.Sequential(nn.Linear(tokens, hidden), nn.ReLU(), nn.Linear(hidden, tokens))
        self.along_features = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.along_tokens(self.norms[0](x.transpose(1, 2))).transpose(1, 2)
        mixed: Tensor = self.along_features(self.norms[1](x.transpose(1, 2)).transpose(1, 2))
        return x + mixed


class Mixer(nn.Module):
    """An MLP-Mixer with BatchNorm and ReLU: of patches of images, or of tokens."""

    def __init__(self, tokens: int = 16, features: int = 24, hidden: int = 10, *, patches: bool = True) -> None:
        super().__init__()
        self.patches = patches
        self.embedding = nn.Conv2d(3, features, 4, 4) if patches else nn.Linear(12, features)
        self.mixing = nn.Sequential(Mixing(tokens, features, hidden), Mixing(tokens, features, hidden))
        self.norm = nn.BatchNorm1d(features)
        self.head = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        x = x.flatten(2).transpose(1, 2) if self.patches else x
        scores: Tensor = self.head(self.norm(self.mixing(x).mean(1)))
        return scores


class M5(nn.Module):
    """A net of audio [batch, 1, length], as M5: few wide convolutions, pools, a mean over time."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        sizes = [(1, channels, 20, 4), (channels, channels, 3, 1), (channels, 2 * channels, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv1d(*size) for size in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(size[1]) for size in sizes)
        self.head = nn.Linear(2 * channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool1d(F.relu(norm(conv(x))), 4)
        return F.log_softmax(self.head(x.mean(2)), dim=-1)


ENDS: dict[str, dict[str, Any]] = {
    "low-bit ends": {"first": 8, "last": 8},
    "float ends": {},
}


def converted(model: nn.Module, bits: tuple[int, int] = (1, 2), **ends: Any) -> nn.Module:
    """A model of low-bit layers, with statistics and slopes as after a training."""
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=bits[0], activation_bits=bits[1], **ends))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.5)  # type: ignore[arg-type]  # it has statistics
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(module.weight, 0.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def result(value: Any) -> Any:
    """The one tensor or array that a packed model gives."""
    assert not isinstance(value, dict)
    return value


def check(model: nn.Module, shape: tuple[int, ...], folder: Path, *, exact: bool) -> PackedModel:
    """Deploy as one program, and hold both packages and the reference to the model; exact: to its last bit."""
    packed = bitorch.deploy(model, torch.rand(2, *shape))
    path = folder / "net.bit.safetensors"
    packed.save(path)
    runtime, loaded = bitorch_runtime.load(path), PackedModel.load(path)
    assert [port["shape"] for port in runtime.inputs] == [shape] == [spec.shape for spec in loaded.inputs]
    for batch in (1, 3):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            wanted = model(x)
        given = result(loaded(x))
        assert given.shape == wanted.shape
        if exact:
            assert torch.equal(given, wanted)
        else:
            torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)
        assert np.array_equal(result(runtime(x.numpy())), given.numpy())
        np.testing.assert_allclose(
            result(reference.run(*packed.program(), x.numpy())), given, rtol=0 if exact else 1e-4, atol=1e-6
        )
        assert bitorch.verify(model, loaded, x)
    return packed


def names(packed: PackedModel) -> list[str]:
    return [operation["op"] for operation in packed.operations()]


# The two nets


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("patches", [True, False])
def test_a_mixer_is_one_program(ends: str, patches: bool, tmp_path: Path) -> None:
    model = converted(Mixer(patches=patches), **ENDS[ends])
    packed = check(model, (3, 16, 16) if patches else (16, 12), tmp_path, exact=False)
    ops = names(packed)
    assert ops.count("linear") + ops.count("linear_float") == 9 + (not patches)
    # Of each mixing along tokens: the codes there, the floats back.
    assert ops.count("permute") == 4
    operations, _ = packed.program()
    if not patches:  # an array of tokens is read as it is
        assert (operations[0]["shape"], operations[0]["order"]) == ([12, 16], "nhwc")
    bits = {
        name: tensor["bits"] for one in packed.operations() for tensor in one["outputs"] for name in [tensor["name"]]
    }
    moved = [bits[operation["input"]] for operation in operations if operation["op"] == "permute"]
    assert sorted(moved) == [0, 0, 2, 2]


def test_a_mixer_of_integers_gives_the_bits_of_the_model(tmp_path: Path) -> None:
    """The mean is the one float sum of the net: without it every score is the same number."""

    class Flat(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.head(self.norm(self.mixing(self.embedding(x))[:, 0].contiguous()))
            return scores

    model = converted(Flat(patches=False), first=8, last=8)
    assert "global_avg_pool" not in names(check(model, (16, 12), tmp_path, exact=True))


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 3), st.sampled_from([1, 2, 7, 31, 33, 63, 64, 65]), st.sampled_from([1, 3, 8, 31, 32, 33, 65]))
def test_mixers_of_any_size(batch: int, tokens: int, features: int) -> None:
    model = converted(Mixer(tokens, features, 9, patches=False), first=8, last=8)
    packed = bitorch.deploy(model, torch.rand(2, tokens, 12))
    assert bitorch.verify(model, packed, torch.randn(batch, tokens, 12))


@pytest.mark.parametrize("ends", ENDS)
def test_audio_is_one_program(ends: str, tmp_path: Path) -> None:
    packed = check(converted(M5(), **ENDS[ends]), (1, LENGTH), tmp_path, exact=False)
    operations, arrays = packed.program()
    assert operations[0]["shape"] == [1, LENGTH]
    windows = [operation for operation in operations if "kernel_size" in operation]
    assert len(windows) == 6
    assert all(len(window["kernel_size"]) == len(window["padding"]) // 2 == 1 for window in windows)
    assert not any("array_shape" in operation for operation in operations)
    assert packed.operations()[0]["outputs"][0]["shape"] == (LENGTH, 1)
    floats = [operation for operation in operations if operation["op"] == "conv2d_float"]
    assert [arrays[operation["weight"]].shape for operation in floats] == [(8, 20, 1)] * len(floats)


# Rows


class Function(nn.Module):
    """Low-bit layers on the last axis, and between them what is done to rows."""

    def __init__(self, before: Callable[[Tensor], Tensor], features: int, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.first, self.layer = nn.Linear(3, 3), nn.Linear(features, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layer(self.before(self.first(x))))


def same(x: Tensor) -> Tensor:
    return x


#: On [batch, 6, 4, 3]: what is done before a layer, its features, what is done behind it, and the operations beside it.
ROWS: dict[str, tuple[Callable[[Tensor], Tensor], int, Callable[[Tensor], Tensor], list[str]]] = {
    "as it is": (same, 3, same, []),
    "relu and constants": (lambda x: x.relu() * torch.tensor([0.5, 2.0, -1.0]) + 0.25, 3, same, []),
    "constants of tokens": (same, 3, lambda x: x * torch.arange(4.0).view(4, 1), []),
    "rows cut": (lambda x: x[:, 1:4], 3, same, ["take"]),
    "rows cut behind": (same, 3, lambda x: x[:, :, 1:], ["take"]),
    "one row": (same, 3, lambda x: x[:, 2, 1], ["take", "take"]),
    "rows turned round": (lambda x: x.flip(1), 3, same, ["take"]),
    "rows joined": (lambda x: torch.cat([x, x[:, :2] * 0.5], 1), 3, same, ["take", "concat"]),
    "columns joined": (same, 3, lambda x: torch.cat([x.relu(), x], 2), ["concat"]),
    "features joined": (lambda x: torch.cat([x, 1 - x], -1), 6, same, ["concat"]),
    "zeros before the rows": (
        lambda x: torch.cat([torch.zeros(len(x), 1, 4, 3), x], 1), 3, same, ["pad"],
    ),
    "rows as one": (lambda x: x.flatten(1, 2), 3, same, ["reshape"]),
    "features split": (lambda x: x.reshape(len(x), 6, 4, 3, 1).expand(-1, -1, -1, -1, 1), 1, same, ["reshape"]),
    "pairs of rows": (lambda x: x.reshape(len(x), 6, 2, 6), 6, same, ["reshape"]),
    "other rows": (lambda x: x.transpose(1, 2), 3, same, ["permute"]),
    "tokens as features": (lambda x: x.transpose(1, 3), 6, same, ["permute"]),
    "softmax": (same, 3, lambda x: x.softmax(-1), ["softmax"]),
    "softmax over rows": (same, 3, lambda x: x.softmax(1), ["permute", "softmax"]),
    "mean of tokens": (same, 3, lambda x: x.mean((1, 2)), ["global_avg_pool"]),
    "mean that stays": (same, 3, lambda x: x.mean((1, 2), keepdim=True), ["global_avg_pool"]),
    "largest token": (same, 3, lambda x: x.amax((1, 2)), ["max_pool"]),
    "flattened": (same, 3, lambda x: x.flatten(1), ["flatten"]),
    "added to itself": (same, 3, lambda x: x + x.flip(2), ["take", "add"]),
}  # fmt: skip


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_rows(name: str, pixels: bool, tmp_path: Path) -> None:
    before, features, after, expected = ROWS[name]
    model = converted(Function(before, features, after), (2, 3), first="same", last="same")
    example = torch.rand(2, 6, 4, 3)
    packed = bitorch.deploy(model, example, pixels=pixels)
    x = torch.randint(0, 256, (3, 6, 4, 3), dtype=torch.uint8) if pixels else torch.randn(3, 6, 4, 3)
    assert bitorch.verify(model, packed, x)
    moves = {"take", "concat", "pad", "reshape", "permute", "softmax", "global_avg_pool", "max_pool", "flatten", "add"}
    assert [op for op in names(packed) if op in moves] == expected
    np.testing.assert_allclose(result(reference.run(*packed.program(), x.numpy())), result(packed(x)), rtol=1e-5)


def test_rows_of_up_to_seven_axes() -> None:
    model = converted(Function(same, 3, same), first="same", last="same")
    x = torch.randn(2, 2, 1, 2, 3, 1, 2, 3)
    packed = bitorch.deploy(model, x)
    assert packed.inputs[0].shape == (2, 1, 2, 3, 1, 2, 3)
    assert bitorch.verify(model, packed, x)
    too_many = torch.randn(2, 1, 1, 1, 1, 1, 1, 1, 1, 3)
    assert "more than 8 dimensions" in str(bitorch.can_deploy(model, too_many))


def test_tokens_and_what_is_a_program_of_each_token() -> None:
    """A low-bit layer on tokens gives each token what it gives the token alone."""
    layer = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4))
    model = converted(layer, first="same", last="same")
    x = torch.randn(3, 6, 7)
    tokens, one = bitorch.deploy(model, x), bitorch.deploy(model, x[:, 0])
    assert torch.equal(result(tokens(x)).flatten(0, 1), result(one(x.flatten(0, 1))))


# Older files


def test_a_signal_with_a_height_of_one_is_the_net_that_it_was() -> None:
    file = Path(__file__).parents[1] / "runtime" / "tests" / "golden" / "signal.bit.safetensors"
    packed = PackedModel.load(file)
    assert packed.inputs[0].shape == (1, 33)
    assert packed.program()[0][0]["shape"] == [1, 1, 33]
    assert result(packed(torch.rand(2, 1, 33))).shape == (2, 5, 4)
