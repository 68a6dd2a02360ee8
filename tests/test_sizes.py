"""One packed file for every size that a model takes: `deploy(model, example, sizes="any")`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.deployment.runtime.size_formulas import fitted, fitted_runs


def block(before: int, after: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution with BatchNorm and ReLU."""
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def low_bit(model: nn.Module, *example: Tensor, weights: int = 1, activations: int = 2) -> nn.Module:
    """The model with low-bit layers, and statistics of one batch."""
    torch.manual_seed(0)
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=weights, activation_bits=activations))
    model.train()
    with torch.no_grad():
        model(*example)
    return model.eval()


class UNet(nn.Module):
    """Halves twice, and doubles twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = block(3, 8), block(8, 16), block(16, 16)
        self.d, self.e, self.head = block(32, 8), block(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([F.interpolate(c, scale_factor=2), b], 1))
        scores: Tensor = self.head(self.e(torch.cat([F.interpolate(d, scale_factor=2), a], 1)))
        return scores


class Pyramid(nn.Module):
    """Resizes to the size of what it adds: any size runs, and every fourth is one program."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = block(3, 8), block(8, 8, 2), block(8, 8, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        b = b + F.interpolate(c, size=b.shape[-2:])
        return {"fine": self.head(a + F.interpolate(b, size=a.shape[-2:])), "coarse": c.mean((2, 3))}


class Moves(nn.Module):
    """Turns rows round, rolls and crops."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.roll(self.a(x).flip(-1), (2, 1), (2, 3))
        scores: Tensor = self.head(self.b(y[:, :, 1:-1]))
        return scores


class Tokens(nn.Module):
    """Patches as tokens, whose number is height times width."""

    def __init__(self, fixed: str = "") -> None:
        super().__init__()
        self.patches, self.fixed = block(3, 8, 4, 5), fixed
        self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = F.relu(self.b(F.relu(self.a(y))))
        if self.fixed == "reversed in fives":
            y = y.reshape(y.shape[0], -1, 5, 16).flip(2).reshape(y.shape)
        scores: Tensor = self.head(y)
        return scores


class TwoInputs(nn.Module):
    """An image and a mask of half its size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = block(3, 8), block(1, 8), block(8, 4), block(4, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.head(self.c(self.a(x) + F.interpolate(self.b(mask), scale_factor=2)))
        return scores


def audio() -> nn.Module:
    """Of a signal of any length, scores."""
    return nn.Sequential(
        nn.Conv1d(1, 8, 9, 4), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 16, 5, 2, 2), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Conv1d(16, 16, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def pooled() -> nn.Module:
    """Of an image of any size, scores."""
    return nn.Sequential(
        block(3, 8), block(8, 16, 2), block(16, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    )


def of_size(shape: tuple[int, ...], size: tuple[int, ...], first: tuple[int, ...]) -> list[int]:
    """Rows of an input where those of the first are `size`, in the ratio of the example."""
    return [own * new // old for own, new, old in zip(shape[1:], size, first[1:], strict=True)]


def equal(found: Any, expected: Any) -> bool:
    """Whether two results are the same, or close where floats are summed."""
    if isinstance(expected, dict):
        return all(equal(found[name], expected[name]) for name in expected)
    return found.shape == expected.shape and bool(torch.allclose(found, expected, rtol=1e-4, atol=1e-4))


@pytest.mark.parametrize(
    ("model", "example", "steps", "sizes"),
    [
        (UNet(), [(3, 24, 32)], [4, 4], [(4, 4), (8, 20), (48, 48)]),
        (Pyramid(), [(3, 24, 32)], [2, 2], [(12, 8), (36, 20)]),
        (Moves(), [(3, 24, 32)], [1, 1], [(7, 9), (31, 8)]),
        (Tokens(), [(3, 24, 32)], [4, 4], [(8, 8), (20, 40)]),
        (pooled(), [(3, 24, 32)], [1, 1], [(9, 11), (33, 70)]),
        (audio(), [(1, 200)], [1], [(41,), (333,)]),
        (TwoInputs(), [(3, 24, 32), (1, 12, 16)], [2, 2], [(6, 4), (30, 20)]),
    ],
    ids=["unet", "pyramid", "moves", "tokens", "pooled", "audio", "two inputs"],
)
def test_one_file_serves_every_size(
    model: nn.Module, example: list[tuple[int, ...]], steps: list[int], sizes: list[tuple[int, ...]], tmp_path: Path
) -> None:
    given = [torch.rand(2, *shape) for shape in example]
    packed = bitorch.deploy(low_bit(model, *given), *given, sizes="any")
    chosen = [step for dimensions in packed.sizes for _, step in dimensions if step > 0]
    assert chosen == steps
    path = tmp_path / "net.bit.safetensors"
    packed.save(path)
    loaded = bitorch_runtime.load(path)
    for size in sizes:
        inputs = [torch.rand(2, shape[0], *of_size(shape, size, example[0])) for shape in example]
        with torch.no_grad():
            expected = model(*inputs)
        found = packed(*inputs)
        assert equal(found, expected), size
        assert bitorch.verify(model, packed, *inputs), size
        again = loaded(*(x.numpy() for x in inputs))
        np.testing.assert_equal(
            again, {k: y.numpy() for k, y in found.items()} if isinstance(found, dict) else found.numpy()
        )


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "activations"), [(2, 2), (4, 4)])
def test_more_bits(weights: int, activations: int) -> None:
    x = torch.rand(1, 3, 24, 32)
    model = low_bit(UNet(), torch.rand(2, 3, 24, 32), weights=weights, activations=activations)
    packed = bitorch.deploy(model, x, sizes=[(24, 32), (12, 40)])
    assert bitorch.verify(model, packed, torch.rand(3, 3, 16, 12))


def test_pixels_of_any_size() -> None:
    model = low_bit(UNet(), torch.rand(2, 3, 24, 32))
    packed = bitorch.deploy(model, torch.rand(1, 3, 24, 32), pixels=True, sizes="any")
    pixels = torch.randint(0, 256, (2, 3, 12, 48), dtype=torch.uint8)
    assert bitorch.verify(model, packed, pixels)


def test_tokens_of_any_number() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    packed = bitorch.deploy(low_bit(model, torch.rand(2, 10, 6)), torch.rand(2, 10, 6), sizes="any")
    assert packed.inputs[0].shape == (-1, 6)
    assert packed.outputs[0].shape == (-1, 3)
    assert str(packed.inputs[0]) == "input: float32 [batch, any, 6]"
    assert bitorch.verify(model, packed, torch.rand(1, 33, 6))


def test_a_file_of_one_size_is_as_ever() -> None:
    model = low_bit(UNet(), torch.rand(2, 3, 24, 32))
    packed = bitorch.deploy(model, torch.rand(1, 3, 24, 32))
    assert packed.sizes == []
    assert packed.smallest_shapes == []
    assert "sum" not in str(packed.program()[0][0])
    with pytest.raises(ValueError, match=r"must be \[batch, 3, 24, 32\]"):
        packed(torch.rand(1, 3, 24, 36))


def test_sizes_that_do_not_fit_are_told_with_those_that_do() -> None:
    model = low_bit(UNet(), torch.rand(2, 3, 24, 32))
    packed = bitorch.deploy(model, torch.rand(1, 3, 24, 32), sizes="any")
    with pytest.raises(ValueError, match="the height is 63 — must be 4, 8, 12 …; the nearest are 60 and 64"):
        packed(torch.rand(1, 3, 63, 32))
    with pytest.raises(ValueError, match="the width is 2 — must be at least 4"):
        packed(torch.rand(1, 3, 64, 2))
    with pytest.raises(ValueError, match=r"the shape is \[1, 2, 64, 64\], but must be \[batch, 3, any, any\]"):
        packed(torch.rand(1, 2, 64, 64))
    with pytest.raises(ValueError, match=r"sizes: a width of 34 does not fit: .* the nearest are 32 and 36"):
        bitorch.deploy(model, torch.rand(1, 3, 24, 32), sizes=[(24, 34)])
    with pytest.raises(ValueError, match="sizes: 24 is no size; give"):
        bitorch.deploy(model, torch.rand(1, 3, 24, 32), sizes=[24])


class Flattened(nn.Module):
    """A linear layer on all numbers of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8, 2), nn.Linear(8 * 12 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.b(self.a(x)).flatten(1))
        return scores


class Scaled(nn.Module):
    """Divides by the number of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = block(3, 8), block(8, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.b(self.a(x)) / (x.shape[2] * x.shape[3]))
        return scores


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            Flattened(),
            r"its height is fixed at 24 by head \(Linear\): .*mat1 and mat2 .* Let the layer",
        ),
        (Scaled(), r"the model \(Scaled\).*has other numbers for .* cannot follow it"),
    ],
)
def test_a_layer_that_fixes_the_size_is_named(model: nn.Module, said: str) -> None:
    example = torch.rand(2, 3, 24, 32)
    with pytest.raises(ValueError, match=said):
        bitorch.deploy(low_bit(model, example), example, sizes="any")


def test_what_has_no_size_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    with pytest.raises(ValueError, match="sizes: the example has no size that could be another"):
        bitorch.deploy(low_bit(model, torch.rand(4, 6)), torch.rand(1, 6), sizes="any")
    with pytest.raises(ValueError, match="partial=True takes neither pixels nor sizes"):
        bitorch.deploy(model, torch.rand(1, 6), partial=True, sizes="any")  # type: ignore[call-overload]


def test_formulas_are_the_simplest_that_fit() -> None:
    steps = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 3), (3, 2), (7, 4)]
    assert fitted([5] * 7, steps, ("h", "w")) == 5
    assert fitted([4 * h + 3 for h, _ in steps], steps, ("h", "w")) == {"sum": [[3], [4, "h"]]}
    product = [(2 * h + 1) * (w + 5) for h, w in steps]
    assert fitted(product, steps, ("h", "w")) == {"sum": [[5], [10, "h"], [1, "w"], [2, "h", "w"]]}
    assert fitted([h // 2 for h, _ in steps], steps, ("h", "w")) is None
    assert fitted([1, 2], [(0,), (1,)], ("n",)) is None  # any line would do


def test_indices_are_runs() -> None:
    steps = [(0,), (1,), (2,), (5,)]
    turned = [np.arange(2 * n + 3)[::-1].astype(np.int32) for (n,) in steps]
    assert fitted_runs(turned, steps, ("n",)) == {"runs": [[{"sum": [[2], [2, "n"]]}, -1, {"sum": [[3], [2, "n"]]}]]}
    assert fitted_runs([np.array([0, 2, 1, 5, 3], np.int32)[: 2 + n] for (n,) in steps], steps, ("n",)) is None
