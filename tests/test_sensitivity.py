"""`bitorch.sensitivity`: against a loop written out, and that model and random generator are left as they were."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import QConv2d, QEmbedding, QLinear
from bitorch.quantizations import InputDoReFa, Sign, WeightDoReFa

Batches = list[tuple[Tensor, Tensor]]


def net(*, seed: int = 0, **options: object) -> nn.Sequential:
    """Two low-bit convolutions, "3" and "6", between float layers, for images [1, 6, 6] of three classes."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    bitorch.quantize_(model, bitorch.LowBitConfig(4, 4, **options))  # type: ignore[arg-type]
    return model


def batches(count: int = 2, size: int = 16) -> Batches:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.rand(size, 1, 6, 6, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for _ in range(count)
    ]


@torch.no_grad()
def by_hand(model: nn.Module, data: Batches, *, renew: bool) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    if renew:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in norms]

        def see(index: int, x: Tensor) -> None:
            seen[index].append((x.mean((0, 2, 3)), x.var((0, 2, 3))))

        model.eval()
        handles = [
            norm.register_forward_pre_hook(lambda _, args, index=index: see(index, args[0]))
            for index, norm in enumerate(norms)
        ]
        for norm in norms:
            norm.train()
        for x, _ in data:
            model(x)
        for handle in handles:
            handle.remove()
        for norm, found in zip(norms, seen, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(torch.stack([mean for mean, _ in found]).mean(0))
            norm.running_var.copy_(torch.stack([variance for _, variance in found]).mean(0))
    model.eval()
    logits = torch.cat([model(x) for x, _ in data]).double()
    labels = torch.cat([y for _, y in data])
    return float((logits.argmax(1) == labels).double().mean()), float(F.cross_entropy(logits, labels))


@pytest.mark.parametrize("renew", [True, False])
def test_every_row_is_what_a_changed_copy_gives(renew: bool) -> None:
    model, data = net(), batches()
    found = bitorch.sensitivity(model, data, bits=(1, 4), renew_statistics=renew)
    expected = by_hand(copy.deepcopy(model), data, renew=renew)
    assert found.accuracy == expected[0]
    assert found.loss == pytest.approx(expected[1], abs=1e-6)
    assert (found.images, found.renewed, found.refused) == (32, renew, ())
    assert found.present == {"3": (4, 4), "6": (4, 4)}
    assert [(row.layer, row.bits) for row in found.rows] == [
        (layer, bits) for layer in ("3", "6") for bits in ((1, 1), (1, 4), (4, 1))
    ]
    for row in found.rows:
        changed = copy.deepcopy(model)
        bitorch.set_bits(changed.get_submodule(row.layer), row.bits)
        accuracy, loss = by_hand(changed, data, renew=renew)
        assert row.accuracy == accuracy
        assert row.loss == pytest.approx(loss, abs=1e-6)
        assert row.accuracy_change == row.accuracy - found.accuracy
        assert row.loss_change == row.loss - found.loss
    assert len({row.loss for row in found.rows}) == len(found.rows)  # the bits did change the model
    assert found.loss_changes("3") == {(4, 4): 0.0, **{row.bits: row.loss_change for row in found.rows[:3]}}


def test_model_and_random_generator_stay_and_the_same_call_gives_the_same() -> None:
    model, data = net(), batches()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    momenta = [module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    state = torch.get_rng_state()
    first = bitorch.sensitivity(model, iter(data))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)] == momenta
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert bitorch.sensitivity(model, data) == first
    assert bitorch.sensitivity(model.eval(), data) == first


@pytest.mark.parametrize("change", ["counter 0", "no counter", "no statistics"])
def test_statistics_are_renewed_whatever_the_counter_says(change: str) -> None:
    model, data = net(), batches()
    expected = bitorch.sensitivity(copy.deepcopy(model), data, ((2, 2),))
    norms: list[Any] = [model[1], model[4], model[7]]
    for norm in norms:
        if change == "no statistics":
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
            norm.track_running_stats = False
        else:
            norm.running_mean.fill_(3)
            norm.running_var.fill_(100)
            norm.num_batches_tracked = None if change == "no counter" else torch.tensor(0)
    found = bitorch.sensitivity(model, data, ((2, 2),))
    if change != "no statistics":  # else each batch is normalized by itself
        assert found.rows == expected.rows
    assert (model[1].num_batches_tracked is None) == (change != "counter 0")


def test_learned_ranges_are_kept_as_set_bits_keeps_them() -> None:
    model, data = net(range="learned"), batches()
    bitorch.calibrate(model, data)
    found = bitorch.sensitivity(model, data, bits=[(2, 2)], renew_statistics=False)
    changed = copy.deepcopy(model)
    bitorch.set_bits(changed, [("6", (2, 2))])
    assert found.rows[1].loss == pytest.approx(by_hand(changed, data, renew=False)[1], abs=1e-6)


def test_layers_are_chosen_by_name_glob_or_type() -> None:
    model, data = net(), batches()
    for layers, names in (
        (["6"], ["6"]),
        ([nn.Conv2d], ["3", "6"]),
        (["re:[36]"], ["3", "6"]),
        (["6", "3"], ["3", "6"]),
    ):
        found = bitorch.sensitivity(model, data, bits=[(2, 2)], layers=layers)
        assert [row.layer for row in found.rows] == names


def test_bits_that_a_layer_cannot_have_are_listed() -> None:
    model, data = net(), batches()
    model[3] = QConv2d(4, 8, 3, padding=1, input_quantization=Sign(), weight_quantization=WeightDoReFa(4))
    found = bitorch.sensitivity(model, data, bits=[(2, 1), (2, 2)])
    assert [(row.layer, row.bits) for row in found.rows] == [("3", (2, 1)), ("6", (2, 1)), ("6", (2, 2))]
    (refused,) = found.refused
    assert (refused.layer, refused.bits) == ("3", (2, 2))
    assert "Sign always has 1 bits" in refused.reason
    assert "3 cannot have W2A2: " in str(found)


def test_embeddings_have_weight_bits_only() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = QEmbedding(5, embedding_dim=4, weight_quantization=WeightDoReFa(4))
            self.head = QLinear(4, 3, input_quantization=InputDoReFa(4), weight_quantization=WeightDoReFa(4))

        def forward(self, indices: Tensor) -> Tensor:
            logits: Tensor = self.head(self.table(indices).mean(1))
            return logits

    data = [(torch.tensor([[0, 1], [2, 4]]), torch.tensor([0, 2]))]
    found = bitorch.sensitivity(Bag(), data, bits=(1, 2))
    assert [row.bits for row in found.rows if row.layer == "table"] == [(1, None), (2, None)]
    assert "W1 " in str(found)


def test_a_model_that_is_one_layer() -> None:
    layer = QLinear(4, 3, input_quantization=InputDoReFa(4), weight_quantization=WeightDoReFa(4))
    found = bitorch.sensitivity(layer, [(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))], bits=[(1, 1)])
    assert [(row.layer, row.bits) for row in found.rows] == [("", (1, 1))]


def test_it_prints_and_becomes_json() -> None:
    found = bitorch.sensitivity(net(), batches(), bits=[(1, 2)])
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "is", "with", "accuracy", "change", "loss", "change"]
    assert lines[2].split()[:3] == ["3", "W4A4", "W1A2"]
    assert lines[-1].startswith(f"as it is: accuracy {found.accuracy:.2%}")
    fields = json.loads(json.dumps(found.to_dict()))
    assert fields["rows"][0]["loss_change"] == found.rows[0].loss_change
    assert fields["present"] == {"3": [4, 4], "6": [4, 4]}


def test_a_loss_that_is_not_finite_in_one_trial_is_infinite() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = QLinear(4, 3, input_quantization=InputDoReFa(4), weight_quantization=WeightDoReFa(4))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.layer(x)
            return logits / (self.layer.weight_quantization.bit_width - 1)

    found = bitorch.sensitivity(Breaks(), [(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))], bits=[(1, 4)])
    assert math.isinf(found.rows[0].loss)
    assert found.to_dict()["rows"][0]["loss"] is None


LABELS = torch.zeros(4, dtype=torch.int64)
IMAGES = torch.rand(4, 1, 6, 6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": []}, ValueError, "data is empty"),
        ({"data": [IMAGES]}, TypeError, "batch 0 has no labels; pass inputs and labels"),
        ({"data": [(IMAGES, LABELS), IMAGES]}, ValueError, "batches with labels and batches without"),
        ({"data": [(IMAGES, LABELS.float())]}, ValueError, r"outputs \[4, 3\] and float32 labels \[4\] do not say"),
        ({"data": [(IMAGES, ["a"] * 4)]}, TypeError, "labels must be a tensor, got list"),
        ({"loss": "mse"}, TypeError, "loss must be a function of outputs and labels"),
        ({"loss": nn.MSELoss}, TypeError, r"loss is the class MSELoss; pass an instance, MSELoss\(\)"),
        ({"loss": lambda outputs, labels: outputs}, TypeError, "loss must return a tensor of one number"),
        ({"data": [(IMAGES, LABELS[:3])]}, ValueError, "one label for each input"),
        ({"data": [(IMAGES[:0], LABELS[:0])]}, ValueError, "batch 0 is empty"),
        ({"data": [(IMAGES.to(torch.uint8), LABELS)]}, TypeError, "to_float"),
        ({"data": [(IMAGES, LABELS + 3)]}, ValueError, "labels 3…3, but the model has 3 classes"),
        ({"data": [(IMAGES * math.nan, LABELS)]}, ValueError, "not finite"),
        ({"bits": 2}, TypeError, "bits must be a sequence"),
        ({"bits": ()}, TypeError, "bits must be a sequence"),
        ({"bits": (9,)}, ValueError, "9"),
        ({"bits": (1, (1, 2))}, TypeError, "numbers, or pairs"),
        ({"layers": ["7"]}, ValueError, "layers: rule 1 \\(7\\)"),
        ({"layers": "3"}, TypeError, "layers must be a sequence"),
        ({"layers": [3]}, TypeError, "layers: match must be a name"),
        ({"model": nn.Linear(4, 3)}, ValueError, "no low-bit layer"),
        ({"model": "net"}, TypeError, "torch.nn.Module"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    given: dict[str, object] = {"model": net(), "data": batches(), **arguments}
    with pytest.raises(error, match=message):
        bitorch.sensitivity(**given)  # type: ignore[arg-type]


def test_bits_that_no_layer_can_have() -> None:
    layer = QLinear(4, 3, input_quantization=Sign(), weight_quantization=WeightDoReFa(4))
    with pytest.raises(ValueError, match="no layer can get any of these bits"):
        bitorch.sensitivity(layer, [(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))], bits=[(2, 2)])
