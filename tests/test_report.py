"""`bitorch.report`: totals that equal the file, numbers counted by hand, and models that do not deploy."""

from __future__ import annotations

import csv
import json
import os
import struct
import sys
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import bitorch
from architectures import ARCHITECTURES
from architectures_trial import Architecture
from bitorch import LowBitConfig, float_, quantize_
from bitorch.layers import QActivation, QConv2d, QLinear
from bitorch.models import MODEL_NAMES, LeNet8, build
from bitorch.quantizations import InputDoReFa, Quantization, WeightDoReFa
from bitorch.reporting.histograms import BINS, merged, plain
from bitorch.reporting.macs import count_macs
from bitorch.reporting.parts import parts_of
from bitorch.reporting.report import Report
from bitorch.reporting.rows import Levels, Row
from bitorch.reporting.tables import COLUMNS, plain_table

#: Height and width of images, where the nets have a fixed one; all others take 32.
SIZES = {**dict.fromkeys(("svhn-a", "svhn-b", "svhn-c", "svhn-d"), 40), "lenet-28": 28, "lenet-8": 8, "alexnet": 224}
WIDTHS = {
    "lenet-28": 0.25,
    "lenet-8": 0.25,
    "resnet-20": 0.25,
    "resnet-18": 0.0625,
    "mobilenet-v2": 0.5,
    "alexnet": 0.0625,
}


def zoo(name: str, bits: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    """A small model of a name, low-bit, and a batch for it."""
    torch.manual_seed(0)
    model = build(name, 3, 10, WIDTHS.get(name, 1.0))
    quantize_(model, LowBitConfig(*bits))
    size = SIZES.get(name, 32)
    return model.eval(), torch.rand(2, 3, size, size)


def row_of(found: Report, name: str) -> Row:
    return next(row for row in found.rows if row.name == name)


def check_sums(found: Report) -> None:
    """The totals are the sums of the rows, and shares of time sum to 1."""
    for field in ("parameters", "float_bytes", "packed_bytes", "macs", "bit_operations"):
        assert getattr(found.totals, field) == sum(getattr(row, field) for row in found.rows)
    assert min(row.packed_bytes for row in found.rows) >= 0
    assert sum(row.share for row in found.rows if row.share is not None) == pytest.approx(1)


class Plain(nn.Module):
    """Two layers whose costs are easily counted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.norm(self.conv(x)).flatten(1))
        return y


class Attention(nn.Module):
    """What deploys in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.inner = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x + self.token)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x = torch.fft.fft(x).real
        y: Tensor = self.head((x + self.mlp(x)).mean(1))
        return y


#: The product of models and bits, of which the fast tests have one for each model that is small.
CASES = [
    pytest.param(name, bits, id=f"{name} {bits}", marks=[] if bits == fast and name != "svhn-a" else pytest.mark.slow)
    for name, fast in zip(MODEL_NAMES, cycle([(1, 2), (4, 4), (8, 8), (1, 1)]), strict=False)
    for bits in ((1, 1), (1, 2), (2, 2), (4, 4), (8, 8))
]


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_bytes_sum_to_those_of_the_file(name: str, bits: tuple[int, int], tmp_path: Path) -> None:
    model, x = zoo(name, bits)
    found = bitorch.report(model, x, repeats=1)
    packed = bitorch.deploy(model, x[:1])
    packed.save(tmp_path / "net")
    assert found.deployment == "whole"
    assert found.totals.packed_bytes == packed.nbytes == os.path.getsize(tmp_path / "net")
    check_sums(found)
    layers = [n for n, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    assert all(row_of(found, n).deploys and row_of(found, n).packed_bytes > 0 for n in layers)
    assert all(row_of(found, n).kernel for n in layers)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_networks_from_elsewhere(architecture: Architecture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = architecture.build()
    parameters = sum(p.numel() for p in model.parameters())
    quantize_(model, LowBitConfig(2, 2))
    model.eval()
    x = architecture.images(2)
    found = bitorch.report(model, x, repeats=1)
    check_sums(found)
    assert found.totals.parameters == parameters
    assert found.packed is not None
    found.packed.save(tmp_path / "net")
    assert found.totals.packed_bytes == os.path.getsize(tmp_path / "net")
    float_(model)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(x[:1])
    assert found.totals.macs == counter.get_total_flops() // 2


METHODS: list[dict[str, Any]] = [
    {"range": "calibrated"},
    {"range": "learned"},
    {"range": "learned", "learned_by": "lsq+"},
    {"range": "learned", "learned_by": "pact"},
    {"weights": "twn"},
    {"weights": "absmean"},
    {"weights": "twn", "weight_scale": "channel"},
    {"weights": "dorefa", "weight_scale": "channel"},
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method(method: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = LeNet8(width=0.25)
    quantize_(model, LowBitConfig(2, 2, **method))
    x = torch.rand(8, 1, 8, 8)
    if "range" in method:
        bitorch.calibrate(model, [x])
    found = bitorch.report(model, x, repeats=1)
    assert found.totals.packed_bytes == bitorch.deploy(model.eval(), x[:1]).nbytes
    row = row_of(found, "layers.3")
    levels = 3 if method.get("weights") in ("twn", "absmean") else 4
    assert row.weight_levels is not None
    assert row.weight_levels.possible == levels
    assert row.weights is not None
    assert len(row.weights.levels) == row.weight_levels.seen
    assert row.activation_range is not None
    assert row.activation_range.low is not None
    assert row.activation_range.high is not None
    quantizer = model.get_submodule("layers.3").input_quantization  # of the layer, whose input is what layers.2 gives
    assert isinstance(quantizer, Quantization)
    values = quantizer(torch.linspace(-1e3, 1e3, 4001)).detach()
    assert (row.activation_range.low, row.activation_range.high) == pytest.approx(
        (float(values.min()), float(values.max()))
    )


def test_a_range_that_is_not_set() -> None:
    model = LeNet8(width=0.25)
    quantize_(model, LowBitConfig(2, 2, range="calibrated"))
    with pytest.raises(ValueError, match=r"bitorch\.calibrate\(model, batches\)"):
        bitorch.report(model, torch.rand(2, 1, 8, 8))


def test_numbers_counted_by_hand() -> None:
    model = Plain()
    quantize_(model, LowBitConfig(2, 4, 6, first="same"))
    found = bitorch.report(model, torch.rand(3, 2, 5, 5), repeats=1)
    conv, norm, fc = (row_of(found, name) for name in ("conv", "norm", "fc"))
    assert (conv.kind, conv.bits, conv.weight_shape, conv.output_shape) == (
        "QConv2d",
        "W2A4G6",
        (4, 2, 3, 3),
        (4, 5, 5),
    )
    assert (conv.parameters, conv.float_bytes) == (72, 288)
    assert (conv.macs, conv.bit_operations) == (4 * 25 * 18, 4 * 25 * 18 * 2 * 4)
    # 18 weights of 2 bits for each channel are 5 bytes; how many thresholds or stages there are is the program's.
    assert conv.packed_bytes >= 4 * 5
    assert (norm.parameters, norm.float_bytes, norm.macs) == (8, 4 * 4 * 4 + 8, 0)
    assert (fc.kind, fc.bits, fc.macs, fc.bit_operations) == ("Linear", "", 300, 300 * 32 * 32)
    assert fc.float_bytes == 4 * 303
    assert (fc.weight_bits, fc.activation_bits, fc.gradient_bits) == (None, None, None)


def test_float_bytes_are_those_of_a_safetensors_file() -> None:
    model, x = zoo("resnet-20", (1, 2))
    data = save(model.state_dict())
    (header,) = struct.unpack_from("<Q", data)
    assert bitorch.report(model, x, repeats=1).totals.float_bytes == len(data) - 8 - header


def test_parameters_are_those_of_the_model() -> None:
    model, x = zoo("lenet-8", (1, 2))
    found = bitorch.report(model, x, repeats=1)
    assert found.totals.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.Conv2d(4, 6, 3, padding="same", dilation=2),
    ],
)
def test_macs_are_half_of_pytorchs_flops(layer: nn.Module) -> None:
    model, x = nn.Sequential(layer), torch.rand(1, 4, 7, 9)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert bitorch.report(model, x, repeats=1).totals.macs == counter.get_total_flops() // 2


def test_macs_of_attention_and_of_one_image() -> None:
    model, x = Attention().eval(), torch.rand(3, 5, 8)
    macs = count_macs(model, parts_of(model), [x[:1]])
    assert macs["attention"] == 5 * 8 * 24 + 2 * (5 * 5 * 8) + 5 * 8 * 8
    assert bitorch.report(model, x, repeats=1).totals.macs == sum(macs.values())
    assert sum(macs.values()) == macs["attention"] + 5 * (64 + 2 * 128) + 24


def test_exact_sums_in_several_passes_count_once() -> None:
    model = nn.Sequential(nn.Linear(2000, 4), nn.Linear(4, 4))
    quantize_(model, LowBitConfig(8, 8, first="same"))
    assert row_of(bitorch.report(model, torch.rand(1, 2000), repeats=1), "0").macs == 8000


def test_products_outside_of_layers_have_a_row() -> None:
    class Gram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(x)
            return y @ y.transpose(1, 2)

    found = bitorch.report(Gram(), torch.rand(2, 3, 4), repeats=1)
    assert row_of(found, "other operations").macs == 3 * 3 * 4
    check_sums(found)


def test_dead_levels_show() -> None:
    model = nn.Sequential(
        QLinear(4, 4, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1, variant="paper")),
        nn.Linear(4, 2),
    )
    layer = model[0]
    assert isinstance(layer, QLinear)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(4, 4) + 0.1)
    row = row_of(bitorch.report(model, torch.full((2, 4), 0.4), repeats=1), "0")
    assert (row.weight_levels, row.activation_levels) == (Levels(1, 2), Levels(1, 4))
    assert str(row.activation_levels) == "1/4"
    with torch.no_grad():
        layer.weight[0, 0] = -1
    row = row_of(bitorch.report(model, torch.tensor([[0.0, 0.3, 0.4, 1.0]]), repeats=1), "0")
    assert (row.weight_levels, row.activation_levels) == (Levels(2, 2), Levels(3, 4))


def test_ranges_and_what_is_clipped() -> None:
    model = nn.Sequential(QLinear(4, 4, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2)))
    row = row_of(bitorch.report(model, torch.tensor([[-2.0, 0.5, 1.0, 3.0], [0.0, 1.5, 0.25, 0.5]]), repeats=1), "0")
    found = row.activation_range
    assert found is not None
    assert (found.minimum, found.maximum, found.low, found.high) == (-2, 3, 0, 1)
    assert (found.below, found.above) == (1 / 8, 2 / 8)


def test_a_sign_clips_nothing_and_nan_is_left_out() -> None:
    model = nn.Sequential(QLinear(4, 4))
    x = torch.tensor([[-2.0, 0.5, torch.inf, 3.0]])
    found = row_of(bitorch.report(model, x, repeats=1), "0")
    assert found.activation_range is not None
    assert (found.activation_range.low, found.activation_range.below, found.activation_range.above) == (None,) * 3
    assert (found.activation_range.minimum, found.activation_range.maximum) == (-2, 3)
    assert found.activation_levels == Levels(2, 2)


def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = QConv2d(2, 2, 1, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.conv(x) + 5)
            return y

    model = Twice().eval()
    x = torch.rand(2, 2, 3, 3)
    found = bitorch.report(model, x, repeats=1)
    row = row_of(found, "conv")
    assert row.macs == 2 * 9 * 4
    assert row.activation_range is not None
    assert row.activation_range.minimum == pytest.approx(float(x.min()))
    assert row.activation_range.maximum > 4
    assert row.activation_range.above == pytest.approx(0.5)
    assert row.activations is not None
    assert sum(row.activations.counts[0]) == 2 * x.numel()
    assert found.totals.packed_bytes == bitorch.deploy(model, x).nbytes


def test_quantizers_by_themselves_have_rows() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), QActivation(InputDoReFa(2)), QConv2d(2, 2, 1))
    found = bitorch.report(model, torch.rand(1, 1, 4, 4), repeats=1)
    row = row_of(found, "1")
    assert (row.kind, row.bits, row.parameters) == ("QActivation", "A2", 0)
    assert row.activation_levels is not None
    assert [r.name for r in found.rows][:3] == ["0", "1", "2"]


def test_the_model_and_the_random_generator_stay() -> None:
    model, x = zoo("lenet-8", (1, 2))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    bitorch.report(model, x, repeats=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_deploys_in_parts() -> None:
    model = Attention()
    quantize_(model, LowBitConfig(2, 2, first="same"))
    x = torch.rand(2, 5, 8)
    found = bitorch.report(model, x, repeats=2)
    partial = bitorch.deploy(model.eval(), x, partial=True)
    state = partial.model.state_dict().values()
    assert found.deployment == "partial"
    assert found.totals.packed_bytes == sum(t.numel() * t.element_size() for t in state)
    check_sums(found)
    assert row_of(found, "inner").deploys
    assert row_of(found, "inner").kernel not in ("", "PyTorch")
    assert not row_of(found, "head").deploys
    assert row_of(found, "head").kernel == "PyTorch"
    assert row_of(found, "attention.out_proj").deploys
    assert row_of(found, "attention.q_projection").deploys
    assert "softmax" in row_of(found, "attention").note
    assert any("fft" in problem for problem in found.problems)
    assert "state_dict" in found.bytes_are
    assert row_of(found, "(model)").weight_shape == (1, 1, 8)


def test_projections_of_attention_have_rows() -> None:
    model = Attention()
    quantize_(model, LowBitConfig(2, 2, first="same"))
    found = bitorch.report(model, torch.rand(1, 5, 8), repeats=1)
    rows = [row_of(found, f"attention.{name}_projection") for name in "qkv"]
    assert [row.weight_shape for row in rows] == [(8, 8)] * 3
    assert [row.macs for row in rows] == [5 * 64] * 3
    assert all(row.weight_levels is not None and row.weights is not None for row in rows)
    assert [row.parameters for row in rows] == [64 + 8] * 3  # rows of the attention's parameters
    assert row_of(found, "attention").parameters == 0
    assert found.totals.parameters == sum(p.numel() for p in model.parameters())


def test_a_layer_that_is_not_called_says_so() -> None:
    row = row_of(bitorch.report(Attention(), torch.rand(1, 5, 8), repeats=1), "attention.out_proj")
    assert (row.note, row.output_shape, row.macs, row.parameters) == ("its forward is not called", (), 0, 72)


def test_a_float_model() -> None:
    found = bitorch.report(Plain(), torch.rand(1, 2, 5, 5), repeats=2)
    assert found.deployment == "none"
    assert any("no low-bit layer" in problem for problem in found.problems)
    assert {row.bits for row in found.rows} == {""}
    assert found.totals.packed_bytes == found.totals.float_bytes
    assert {row.kernel for row in found.rows} == {"PyTorch"}
    assert found.totals.milliseconds is not None
    check_sums(found)


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = zoo("lenet-8", (1, 2))
    expected = bitorch.report(model, x, repeats=1)
    monkeypatch.setitem(sys.modules, "bitorch_runtime", None)
    found = bitorch.report(model, x)
    assert found.deployment == "unknown"
    assert "pip install ./runtime" in "\n".join(found.notes)
    assert "pip install ./runtime" in str(found)
    assert all(row.deploys is None and row.milliseconds is None and row.kernel == "" for row in found.rows)
    assert found.totals.macs == expected.totals.macs
    # 64 times 64·3·3 weights of one bit, and a scale
    assert row_of(found, "layers.7").packed_bytes == -(-row_of(found, "layers.7").parameters // 8) + 4


def test_a_shared_weight_counts_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    quantize_(model, LowBitConfig(1, 1, first="same", last="same"))
    found = bitorch.report(model, torch.rand(1, 4), repeats=1)
    assert found.totals.parameters == 16
    assert found.totals.float_bytes == 64
    assert found.totals.packed_bytes == bitorch.deploy(model.eval(), torch.rand(1, 4)).nbytes


def test_a_packed_model_is_reported_as_it_is() -> None:
    model, x = zoo("lenet-8", (1, 2))
    names = [f"class {index}" for index in range(10)]
    packed = bitorch.deploy(model, x, pixels=True, class_names=names)
    found = bitorch.report(model, x, packed=packed, repeats=1)
    assert found.packed is packed
    assert found.totals.packed_bytes == packed.nbytes
    assert row_of(found, "file header").packed_bytes == packed.nbytes - sum(
        a.nbytes for a in packed.program()[1].values()
    )
    with pytest.raises(ValueError, match="pass its own model"):
        bitorch.report(model, torch.rand(1, 3, 9, 9), packed=packed)
    with pytest.raises(TypeError, match="PackedModel"):
        bitorch.report(model, x, packed="net")  # type: ignore[arg-type]


def test_a_packed_model_from_a_file_is_reported_as_the_one_that_wrote_it(tmp_path: Path) -> None:
    """Files do not say which module an operation is of: the model does."""
    model, x = zoo("lenet-28", (4, 4))
    packed = bitorch.deploy(model, x, pixels=True)
    packed.save(tmp_path / "net")
    loaded = bitorch.PackedModel.load(tmp_path / "net")
    assert loaded.owners is None
    found = [bitorch.report(model, x, packed=one, repeats=1).rows for one in (packed, loaded)]
    assert [(r.name, r.packed_bytes, r.kernel) for r in found[0]] == [
        (r.name, r.packed_bytes, r.kernel) for r in found[1]
    ]
    other, _ = zoo("lenet-28", (1, 2))
    with pytest.raises(ValueError, match="of another network"):
        bitorch.report(other, x, packed=loaded, repeats=1)


def test_operations_belong_to_the_module_that_computes_them() -> None:
    """Whatever functions and layers are called: here a function of the block has the name of a layer."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))
            self.linear = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.linear(nn.functional.linear(x, self.weight))
            return y

    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Block(), nn.Linear(3, 2))
    quantize_(model, LowBitConfig(2, 2, first="same", last="same"))
    packed = bitorch.deploy(model.eval(), torch.rand(1, 4))
    assert packed.owners is not None
    names = [operation["op"] for operation in packed.program()[0]]
    assert [*zip(names, packed.owners.operations, packed.owners.readers, strict=True)] == [
        ("input", None, None),
        ("quantize", "0", "0"),
        ("linear", "0", None),
        ("linear_float", "2", "2.linear"),
        ("linear", "2.linear", "3"),
        ("linear", "3", None),
        ("output", None, None),
    ]
    assert set(packed.owners.arrays.values()) == {"0", "1", "2", "2.linear", "3"}


def test_a_quantizer_without_a_grid() -> None:
    class Mine(Quantization):
        def quantize(self, x: Tensor) -> Tensor:
            return x

    model = nn.Sequential(QLinear(4, 4, input_quantization=Mine(), weight_quantization=Mine()))
    found = bitorch.report(model, torch.rand(1, 4), repeats=1)
    row = row_of(found, "0")
    assert (row.weight_bits, row.activation_bits, row.bits) == (32, 32, "")
    assert (row.weight_levels, row.activation_levels) == (None, None)
    assert found.deployment == "none"
    assert row.bit_operations == 16 * 32 * 32


def test_dict_and_csv(tmp_path: Path) -> None:
    model, x = zoo("lenet-8", (1, 2))
    found = bitorch.report(model, x, repeats=1)
    content = found.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["totals"]["packed_bytes"] == found.totals.packed_bytes
    found.to_csv(tmp_path / "report.csv")
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        *lines, total = csv.DictReader(file)
    assert [line["name"] for line in lines] == [row.name for row in found.rows]
    assert sum(int(line["packed_bytes"]) for line in lines) == int(total["packed_bytes"]) == found.totals.packed_bytes
    assert total["name"] == "total"
    assert {path.name for path in tmp_path.iterdir()} == {"report.csv"}
    with pytest.raises(FileNotFoundError, match=r"nowhere/report\.csv"):
        found.to_csv(tmp_path / "nowhere" / "report.csv")


def test_texts() -> None:
    model, x = zoo("lenet-8", (1, 2))
    found = bitorch.report(model, x, repeats=1)
    lines = str(found).splitlines()
    assert lines[0].startswith("LeNet8: deploys as one packed file")
    assert lines[2].split()[:2] == ["layer", "kind"]
    assert Counter(line.split()[0] for line in lines if line)["total"] == 1
    console = Console(width=300, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - closed with the test
    console.print(found)
    text = console.export_text()
    assert all(row.name in text for row in found.rows)
    console.file.close()


def words(table: str) -> list[str]:
    """All but the names of rows, of which one has a space, and the rules."""
    return [word for line in table.replace("file header", "file").splitlines() for word in line.split()[1:]]


@pytest.mark.parametrize("width", [20, 80, 120, 1000])
def test_a_table_for_a_terminal_has_every_cell_in_lines_that_fit(width: int) -> None:
    found = bitorch.report(*zoo("lenet-8", (1, 2)), repeats=1)
    tables = [block for block in plain_table(found, width).split("\n\n") if block.startswith("layer")]
    whole = str(found).split("\n\n")[1]
    assert Counter(word for block in tables for word in words(block)) == Counter(words(whole))
    assert {block.split()[0] for block in tables} == {"layer"}
    assert width == 20 or max(len(line) for block in tables for line in block.splitlines()) <= width
    assert len(tables) == {20: len(COLUMNS) - 1, 1000: 1}.get(width, len(tables))


def test_histograms() -> None:
    one, other = plain(torch.tensor([0.0, 1.0, torch.nan])), plain(torch.tensor([3.0, 3.0]))
    assert one is not None
    assert other is not None
    assert (one.low, one.high, one.counts[0][0], one.counts[0][-1], len(one.counts[0])) == (0, 1, 1, 1, BINS)
    both = merged(one, other)
    assert (both.low, sum(both.counts[0])) == (0, 4)
    assert both.counts[0][-1] == 2
    assert plain(torch.tensor([torch.nan])) is None
    assert plain(torch.zeros(0)) is None


def test_weight_histogram_has_a_series_for_each_level() -> None:
    model = nn.Sequential(QLinear(8, 8, weight_quantization=WeightDoReFa(2), input_quantization=InputDoReFa(2)))
    weights = row_of(bitorch.report(model, torch.rand(1, 8), repeats=1), "0").weights
    assert weights is not None
    assert sum(map(sum, weights.counts)) == 64
    assert weights.levels == pytest.approx([-1, -1 / 3, 1 / 3, 1])


def test_bad_input() -> None:
    model = Plain()
    x = torch.rand(2, 2, 5, 5)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        bitorch.report("net", x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an example is missing"):
        bitorch.report(model)
    with pytest.raises(TypeError, match=r"example 0 must be a tensor, got ndarray; torch\.as_tensor"):
        bitorch.report(model, x.numpy())
    with pytest.raises(ValueError, match="a batch of at least one"):
        bitorch.report(model, x[:0])
    with pytest.raises(ValueError, match=r"the model's forward fails on the example, of shape \[2, 2, 4, 4\]"):
        bitorch.report(model, x[:, :, 1:, 1:])
    with pytest.raises(ValueError, match="batches of"):
        bitorch.report(model, x, x[:1])
    with pytest.raises(ValueError, match="has no shape yet"):
        bitorch.report(nn.Sequential(nn.LazyLinear(3)), x)
    with pytest.raises(ValueError, match="meta"):
        bitorch.report(nn.Linear(2, 2, device="meta"), x)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        bitorch.report(model, x, repeats=0)
    with pytest.raises(TypeError, match="repeats must be an int"):
        bitorch.report(model, x, repeats=1.5)  # type: ignore[arg-type]
