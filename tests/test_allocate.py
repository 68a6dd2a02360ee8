"""`bitorch.allocate`: the budget is kept by the deployed file, the choice is that of the sums, the model stays."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch.allocation import costs as costs_module
from bitorch.allocation.costs import Meter
from bitorch.layers.low_bit import LowBit
from bitorch.models import ResNet20
from bitorch.reporting.deployed import Deployed
from test_sensitivity import batches, net

PAIRS = ((1, 1), (1, 2), (2, 2), (4, 4))


def uniform_bytes(pair: tuple[int, int]) -> int:
    model = net()
    bitorch.set_bits(model, pair)
    return bitorch.deploy(model.eval(), batches()[0][0][:1]).nbytes


def low_bits(model: nn.Module) -> list[tuple[int, int]]:
    layers = [module for module in model.modules() if isinstance(module, LowBit)]
    return [(layer.weight_quantization.bit_width, layer.input_quantization.bit_width) for layer in layers]


def test_the_best_mix_within_the_budget(tmp_path: Path) -> None:
    model, data = net(), batches()
    limit = uniform_bytes((2, 2)) + 40
    found = bitorch.allocate(model, data, bitorch.Budget(bytes=limit), PAIRS)
    bitorch.set_bits(model, found.rules)
    packed = bitorch.deploy(model.eval(), data[0][0][:1])
    packed.save(tmp_path / "mix.bit.safetensors")
    assert (tmp_path / "mix.bit.safetensors").stat().st_size == found.cost <= limit
    assert abs(found.predicted_cost - found.cost) <= 64  # of padding and numbers in the header
    assert [row.bits for row in found.layers] == low_bits(model)
    assert found.uniform[2].bits == (2, 2)
    assert found.uniform[2].cost == uniform_bytes((2, 2))
    assert found.predicted_loss <= found.uniform[2].predicted_loss


def test_no_other_mix_within_the_budget_is_predicted_to_be_better() -> None:
    model, data, pairs = net(), batches(), PAIRS[:3]
    limit = uniform_bytes((2, 2)) + 200
    found = bitorch.allocate(model, data, bitorch.Budget(bytes=limit), pairs)
    changes = {name: found.sensitivity.loss_changes(name) for name in ("3", "6")}
    best = {
        name: {pair: min(changes[name][other] for other in pairs[: index + 1]) for index, pair in enumerate(pairs)}
        for name in changes  # in order, so that each has the bits of those before it
    }
    losses = []
    for first, second in product(pairs, pairs):
        other = net()
        bitorch.set_bits(other, [("3", first), ("6", second)])
        if bitorch.deploy(other.eval(), data[0][0][:1]).nbytes <= limit:
            losses.append(found.sensitivity.loss + best["3"][first] + best["6"][second])
    assert found.predicted_loss == pytest.approx(min(losses), abs=1e-12)


def test_model_and_random_generator_stay() -> None:
    model, data = net(), batches()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    budget = bitorch.Budget(bytes=uniform_bytes((2, 2)))
    torch.set_rng_state(state)
    first = bitorch.allocate(model, iter(data), budget, PAIRS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert low_bits(model) == [(4, 4), (4, 4)]
    assert bitorch.allocate(model, data, budget, PAIRS) == first


def test_a_wide_budget_gives_the_most_bits_and_numbers_mean_all_pairs() -> None:
    found = bitorch.allocate(net(), batches(), bitorch.Budget(bytes=10**9), bits=(1, 4))
    assert [row.bits for row in found.layers] == [(4, 4), (4, 4)]
    assert {row.bits for row in found.uniform} == set(product((1, 4), repeat=2))


def test_a_budget_that_cannot_be_met_names_the_least_bytes_that_can() -> None:
    least = uniform_bytes((1, 1))
    with pytest.raises(ValueError, match=f"cannot be met: the fewest of these bits take {least:,} bytes"):
        bitorch.allocate(net(), batches(), bitorch.Budget(bytes=least - 1), PAIRS)
    found = bitorch.allocate(net(), batches(), bitorch.Budget(bytes=least), PAIRS)
    assert (found.cost, [row.bits for row in found.layers]) == (least, [(1, 1), (1, 1)])


def test_a_file_above_the_budget_makes_it_choose_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every mix took 300 bytes more than its layers say."""
    honest = Meter.measure

    def dearer(self: Meter, bits: dict[str, tuple[int, int]]) -> tuple[dict[str, int], int]:
        layers, whole = honest(self, bits)
        return layers, whole + 300 * (len(set(bits.values())) > 1)

    limit = uniform_bytes((2, 2)) + 100
    straight = bitorch.allocate(net(), batches(), bitorch.Budget(bytes=limit), PAIRS)
    assert len({row.bits for row in straight.layers}) == 2
    monkeypatch.setattr(costs_module.Meter, "measure", dearer)
    found = bitorch.allocate(net(), batches(), bitorch.Budget(bytes=limit), PAIRS)
    assert found.cost <= limit
    assert found.predicted_loss >= straight.predicted_loss


def test_layers_that_are_left_out_keep_their_bits_and_count() -> None:
    model = net()
    found = bitorch.allocate(model, batches(), bitorch.Budget(bytes=10**9), [(1, 1)], layers=["6"])
    assert [rule.match for rule in found.rules] == ["6"]
    bitorch.set_bits(model, found.rules)
    assert found.cost == bitorch.deploy(model.eval(), batches()[0][0][:1]).nbytes


def test_milliseconds() -> None:
    found = bitorch.allocate(net(), batches(), bitorch.Budget(milliseconds=1e3), PAIRS, repeats=2)
    assert [row.bits for row in found.layers] == [(4, 4), (4, 4)]
    assert 0 < found.cost < 1e3
    assert "milliseconds are those of one image in the packed program" in str(found)
    with pytest.raises(ValueError, match=r"a budget of 0\.0001 ms cannot be met: the fewest of these bits take"):
        bitorch.allocate(net(), batches(), bitorch.Budget(milliseconds=1e-4), PAIRS, repeats=1)


class Turned(nn.Module):
    """Deploys in parts: whether it is a graph depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x if float(x.sum()) > 0 else -x)
        return logits


def test_a_model_that_deploys_in_parts() -> None:
    data = batches()
    found = bitorch.allocate(Turned(), data, bitorch.Budget(bytes=10**9), PAIRS)
    assert "state_dict of the partially packed model" in found.costs_are
    row = next(row for row in bitorch.report(Turned(), data[0][0][:1]).rows if row.name == "inner.3")
    assert found.layers[0].cost == row.packed_bytes
    timed = bitorch.allocate(Turned(), data, bitorch.Budget(milliseconds=1e3), PAIRS, repeats=1)
    assert "in PyTorch with packed layers" in timed.costs_are


def test_milliseconds_need_something_that_deploys(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(model: nn.Module, parts: dict[str, nn.Module], *rest: object) -> Deployed:
        return Deployed("none", problems=("a reason",), bytes=dict.fromkeys(parts, 1))

    monkeypatch.setattr(costs_module, "deployed", nothing)
    with pytest.raises(ValueError, match="needs a model that deploys: a reason; use a budget of bytes"):
        bitorch.allocate(net(), batches(), bitorch.Budget(milliseconds=1.0), PAIRS)


def test_bits_that_deploy_otherwise_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = iter(["whole", "none"])

    def varying(model: nn.Module, parts: dict[str, nn.Module], *rest: object) -> Deployed:
        return Deployed(next(kinds), problems=("a reason",), bytes=dict.fromkeys(parts, 1))

    monkeypatch.setattr(costs_module, "deployed", varying)
    with pytest.raises(ValueError, match=r"deploys differently with W1A2 \(none in place of whole\).*a reason"):
        bitorch.allocate(net(), batches(), bitorch.Budget(bytes=10**9), PAIRS)


def test_it_prints_and_becomes_json() -> None:
    found = bitorch.allocate(net(), batches(), bitorch.Budget(bytes=10**9), [(1, 1), (2, 2)])
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "was", "gets", "bytes", "loss", "change"]
    assert lines[2].split()[:3] == ["3", "W4A4", "W2A2"]
    assert lines[4].startswith(
        f"{found.cost:,} bytes (predicted {found.predicted_cost:,} bytes); bytes are those of the"
    )
    assert lines[-1].startswith("W2A2 in all layers: ")
    fields = json.loads(json.dumps(found.to_dict()))
    assert fields["budget"] == {"bytes": 10**9}
    assert fields["layers"][0]["bits"] == [2, 2]


def test_the_prediction_is_close_to_the_file_of_a_resnet() -> None:
    """Up to 4 bits codes come from thresholds, from 5 bits on from scales and BatchNorm: other arrays, other header."""
    torch.manual_seed(0)
    model = ResNet20(in_channels=1, width=4)
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 2))
    data = [(torch.rand(8, 1, 8, 8), torch.arange(8))]
    found = bitorch.allocate(model, data, bitorch.Budget(bytes=24_000), [(1, 2), (2, 2), (2, 6)])
    assert {row.bits[1] for row in found.layers} >= {2, 6}
    assert found.cost <= 24_000
    assert 0 <= found.predicted_cost - found.cost < 128


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 1000}, TypeError, "budget must be a bitorch.Budget"),
        ({"repeats": 0}, ValueError, "repeats must be at least 1"),
        ({"repeats": 1.0}, TypeError, "repeats must be an int"),
        ({"data": []}, ValueError, "data is empty"),
        ({"bits": (0,)}, ValueError, "0"),
        ({"layers": ["7"]}, ValueError, "layers: "),
        ({"model": nn.Linear(4, 3)}, ValueError, "no low-bit layer"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    given: dict[str, object] = {"model": net(), "data": batches(), "budget": bitorch.Budget(bytes=10**9), **arguments}
    with pytest.raises(error, match=message):
        bitorch.allocate(**given)  # type: ignore[arg-type]
