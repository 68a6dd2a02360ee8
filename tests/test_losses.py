"""Which loss `check`, `sensitivity` and `allocate` take for outputs and labels: the table in docs/training.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig

B = 12
X = torch.randn(B, 6, generator=torch.Generator().manual_seed(1))
CE, BCE, MSE = "cross-entropy", "binary cross-entropy with logits", "mean squared error"


def net(*end: nn.Module, outputs: int = 1) -> nn.Sequential:
    """A low-bit layer between BatchNorms and float layers, and what stands at the end."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Linear(16, outputs), *end,
    )  # fmt: skip
    bitorch.quantize_(model, LowBitConfig(4, 4))
    return model


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def bits(*shape: int) -> Tensor:
    return (numbers(*shape) > 0).long()


def classes(*shape: int, count: int = 3) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).view(shape) % count


def soft(*shape: int) -> Tensor:
    return numbers(*shape).softmax(1)


def image(count: int) -> nn.Module:
    """Outputs [B, count, 2, 2]."""
    return nn.Unflatten(1, (count, 2, 2))


#: Outputs, labels, the loss, the loss written out on outputs z and labels y, whether labels are right or wrong.
Formula = Callable[[Tensor, Tensor], Tensor]
TABLE: dict[str, tuple[nn.Sequential, Tensor, str, Formula, bool]] = {
    "a regression": (net(), numbers(B), MSE, lambda z, y: F.mse_loss(z[:, 0], y), False),
    "a regression, labels [B, 1]": (net(), numbers(B, 1), MSE, F.mse_loss, False),
    "a regression, outputs [B]": (net(nn.Flatten(0)), numbers(B), MSE, F.mse_loss, False),
    "a regression in float64": (net(), numbers(B).double(), MSE, lambda z, y: F.mse_loss(z[:, 0], y.float()), False),
    "several numbers": (net(outputs=4), numbers(B, 4), MSE, F.mse_loss, False),
    "an image": (net(image(3), outputs=12), numbers(B, 3, 2, 2), MSE, F.mse_loss, False),
    "yes or no": (
        net(), bits(B), BCE, lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()), True),
    "yes or no as floats [B, 1]": (net(), bits(B, 1).float(), BCE, F.binary_cross_entropy_with_logits, True),
    "yes or no as bool": (
        net(nn.Flatten(0)), bits(B).bool(), BCE, lambda z, y: F.binary_cross_entropy_with_logits(z, y.float()), True),
    "a mask of one channel": (
        net(image(1), outputs=4), bits(B, 2, 2), BCE,
        lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.float()), True),
    "multi-label": (net(outputs=4), bits(B, 4).float(), BCE, F.binary_cross_entropy_with_logits, True),
    "multi-label as integers": (
        net(outputs=4), bits(B, 4), BCE, lambda z, y: F.binary_cross_entropy_with_logits(z, y.float()), True),
    "classes": (net(outputs=3), classes(B), CE, F.cross_entropy, True),
    "two classes": (net(outputs=2), bits(B), CE, F.cross_entropy, True),
    "classes as uint8": (
        net(outputs=3), classes(B).to(torch.uint8), CE, lambda z, y: F.cross_entropy(z, y.long()), True),
    "segmentation": (net(image(3), outputs=12), classes(B, 2, 2), CE, F.cross_entropy, True),
    "segmentation with pixels left out": (
        net(image(3), outputs=12), classes(B, 2, 2).index_fill(1, torch.tensor(0), -100), CE, F.cross_entropy, True),
    "tokens": (
        net(nn.Unflatten(1, (4, 3)), outputs=12), classes(B, 4), f"{CE} over the last dimension",
        lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten()), True),
    "soft labels": (net(outputs=3), soft(B, 3), f"{CE} with soft labels", F.cross_entropy, True),
    "one-hot": (net(outputs=3), F.one_hot(classes(B)).float(), f"{CE} with soft labels", F.cross_entropy, True),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_loss_that_outputs_and_labels_ask_for(name: str) -> None:
    model, labels, loss_is, formula, is_told = TABLE[name]
    result = bitorch.check(model, (X, labels))
    assert result, str(result)
    assert result.problems == ()
    assert result.loss == loss_is
    assert str(result) == f"no problem in 1 quantized layer; the loss is {loss_is}"
    found = bitorch.sensitivity(model, [(X, labels)], bits=[(2, 2)], renew_statistics=False)
    with torch.no_grad():
        outputs = model.eval()(X)
    assert found.loss == pytest.approx(float(formula(outputs, labels)), abs=1e-6)
    assert found.loss_is == loss_is
    assert (found.accuracy is not None) == (found.rows[0].accuracy is not None) == is_told
    assert ("accuracy" in str(found)) == is_told
    assert found.to_dict()["loss_is"] == loss_is
    model.train()


def test_accuracy_counts_what_is_right() -> None:
    rights: dict[str, Formula] = {
        "yes or no": lambda z, y: (z[:, 0] > 0) == (y > 0),
        "multi-label": lambda z, y: (z > 0) == (y > 0),
        "segmentation": lambda z, y: z.argmax(1) == y,
        "segmentation with pixels left out": lambda z, y: (z.argmax(1) == y)[y >= 0],
        "tokens": lambda z, y: z.argmax(-1) == y,
        "one-hot": lambda z, y: z.argmax(1) == y.argmax(1),
    }
    for name, expected in rights.items():
        model, labels, *_ = TABLE[name]
        found = bitorch.sensitivity(model, [(X, labels)], bits=[(2, 2)], renew_statistics=False)
        with torch.no_grad():
            assert found.accuracy == float(expected(model.eval()(X), labels).double().mean())


def test_one_column_with_float_labels_is_no_false_alarm() -> None:
    """The cross-entropy over one class is 0 and has no gradient."""
    result = bitorch.check(net(), (X, X[:, :1] ** 2))
    assert (result.problems, result.loss) == ((), MSE)


def test_all_batches_say_whether_labels_are_binary() -> None:
    model, first, second = net(), bits(B).float(), numbers(B)
    found = bitorch.sensitivity(model, [(X, first), (X, second)], bits=[(2, 2)], renew_statistics=False)
    with torch.no_grad():
        z = model.eval()(X)[:, 0]
    assert found.loss == pytest.approx(float((F.mse_loss(z, first) + F.mse_loss(z, second)) / 2), abs=1e-6)
    assert found.loss_is == MSE


def test_a_regression_gets_bits_for_a_budget() -> None:
    data = [(X, numbers(B, 1))]
    found = bitorch.allocate(net(), data, bitorch.Budget(bytes=100_000), bits=[(2, 2), (4, 4)])
    assert (found.accuracy, found.sensitivity.loss_is) == (None, MSE)
    assert "accuracy" not in str(found)
    assert MSE in str(found)
    assert found.to_dict()["accuracy"] is None
    own = bitorch.allocate(net(), data, bitorch.Budget(bytes=100_000), [(2, 2), (4, 4)], loss=nn.L1Loss())
    assert own.sensitivity.loss_is == "L1Loss"


def test_a_loss_that_is_passed_comes_first() -> None:
    def half(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels) / 2

    model, data = net(outputs=3), (X, classes(B))
    assert bitorch.check(model, data, half).loss == "half"
    assert bitorch.check(model, data, loss=lambda z, y: half(z, y)).loss == "the one that was passed"
    assert bitorch.check(model, X, loss=lambda z: z.square().mean()).loss == "the one that was passed"
    found = bitorch.sensitivity(model, [data], bits=[(2, 2)], loss=half)
    plain = bitorch.sensitivity(model, [data], bits=[(2, 2)])
    assert found.loss == pytest.approx(plain.loss / 2)
    assert found.accuracy == plain.accuracy
    alone = bitorch.sensitivity(model, [X], bits=[(2, 2)], loss=lambda z: z.square().mean(), renew_statistics=False)
    assert alone.accuracy is None
    with torch.no_grad():
        assert alone.loss == pytest.approx(float(model.eval()(X).square().mean()), rel=1e-6)


def test_labels_of_another_length_are_for_a_loss_to_judge() -> None:
    def of_pieces(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs.sum() - labels.sum()).square()

    assert bitorch.check(net(), (X, numbers(5)), of_pieces).loss == "of_pieces"
    assert bitorch.sensitivity(net(), [(X, numbers(5))], bits=[(2, 2)], loss=of_pieces).accuracy is None
    with pytest.raises(ValueError, match="12 inputs and 5 labels"):
        bitorch.check(net(), (X, numbers(5)))
    with pytest.raises(ValueError, match="12 inputs and 5 labels"):
        bitorch.sensitivity(net(), [(X, numbers(5))])


UNCLEAR: dict[str, tuple[nn.Module, Tensor, str]] = {
    "floats for classes": (
        net(outputs=3), classes(B).float() / 2,
        r"outputs \[12, 3\] and float32 labels \[12\] do not say which loss; pass loss=.*labels\.long\(\)"),
    "integers for one output": (net(), classes(B, count=9), r"int64 labels for one output each .* labels\.float\(\)"),
    "masks with a channel": (
        net(image(3), outputs=12), classes(B, 1, 2, 2), r"do not say which loss; .*labels\.squeeze\(1\)"),
    "another shape": (net(outputs=3), numbers(B, 4), r"outputs \[12, 3\] and float32 labels \[12, 4\] do not say"),
    "a class too many": (net(outputs=3), classes(B, count=4), r"labels 0…3, but the model has 3 classes"),
    "pixels 255": (net(image(3), outputs=12), classes(B, 2, 2) + 253, r"labels 253…255, but .* −100, or pass loss="),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_anything_else_asks_for_a_loss(name: str) -> None:
    model, labels, message = UNCLEAR[name]
    with pytest.raises(ValueError, match=message):
        bitorch.check(model, (X, labels))
    with pytest.raises(ValueError, match=message):
        bitorch.sensitivity(model, [(X, labels)])
    with pytest.raises(ValueError, match=message):
        bitorch.allocate(model, [(X, labels)], bitorch.Budget(bytes=10_000))
    assert bitorch.check(model, (X, labels), loss=lambda z, y: z.square().mean()).loss == "the one that was passed"


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss, lambda z, y: z])
def test_what_is_no_loss(loss: Any) -> None:
    with pytest.raises(TypeError, match=r"loss (must be a function|is the class MSELoss|must return a tensor)"):
        bitorch.check(net(), (X, numbers(B)), loss)
