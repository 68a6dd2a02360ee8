"""Low-bit LSTM, GRU and RNN: drop-ins for PyTorch's, held to loops over single steps of single sequences."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import bitorch
from bitorch import LowBitConfig, PartialDeployment, calibrate, deploy, float_, quantize_, set_bits
from bitorch.deployment.partial.packed_layers import PackedLinear
from bitorch.layers import QGRU, QLSTM, QRNN, QGRUCell, QLinear, QLSTMCell, QRNNCell
from bitorch.quantizations import (
    GradientDoReFa,
    Identity,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    RangeQuantization,
    WeightDoReFa,
    WeightLSQ,
)

Floats = NDArray[np.float64]
KINDS: dict[str, tuple[Any, Any]] = {
    "LSTM": (nn.LSTM, QLSTM),
    "GRU": (nn.GRU, QGRU),
    "RNN": (nn.RNN, QRNN),
}
CELLS: dict[str, tuple[Any, Any]] = {
    "LSTM": (nn.LSTMCell, QLSTMCell),
    "GRU": (nn.GRUCell, QGRUCell),
    "RNN": (nn.RNNCell, QRNNCell),
}
FLOAT: dict[str, Any] = {
    "input_quantization": Identity(),
    "weight_quantization": Identity(),
    "gradient_cancellation_threshold": 0.0,
}
SHAPES: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "proj_size": 4, "batch_first": True},
]


def ranges(bits: int = 2) -> dict[str, Any]:
    """Quantizers that know numbers below 0."""
    quantizer = InputCalibrated(bits)
    quantizer.fit_(torch.randn(300, generator=torch.Generator().manual_seed(0)))
    return {**FLOAT, "input_quantization": quantizer, "weight_quantization": WeightDoReFa(2, variant="paper")}


def close(one: Any, other: Any, tolerance: float = 2e-6) -> None:
    if isinstance(one, PackedSequence):
        assert torch.equal(one.batch_sizes, other.batch_sizes)
        one, other = one.data, other.data
    if isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            close(a, b, tolerance)
    else:
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def summed(result: Any) -> Tensor:
    """A number that depends on all of a result, each number in another way."""
    if isinstance(result, PackedSequence):
        result = result.data
    if isinstance(result, tuple):
        return torch.stack([summed(one) for one in result]).sum()
    weights = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
    total: Tensor = (result * weights).sum()
    return total


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("settings", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_without_quantizers_it_is_pytorchs(kind: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    if kind != "LSTM" and "proj_size" in settings:
        settings = (
            {"num_layers": 2, "nonlinearity": "relu"} if kind == "RNN" else {"num_layers": 2, "batch_first": True}
        )
    float_class, low_bit_class = KINDS[kind]
    layer = float_class(5, 7, **settings)
    twin = low_bit_class(5, 7, **settings, **FLOAT)
    twin.load_state_dict(layer.state_dict(), strict=True)
    assert list(twin.state_dict()) == list(layer.state_dict())
    x = torch.randn(4, 6, 5)
    lengths = [4, 6, 2, 1]
    batch_first = settings.get("batch_first", False)
    padded = torch.randn(4, 6, 5) if batch_first else torch.randn(6, 4, 5)
    packed = pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = layer.proj_size if layer.proj_size else 7
    for given, batch in ((x, len(x) if batch_first else 6), (x[0], None), (packed, 4)):
        rows = [count, hidden] if batch is None else [count, batch, hidden]
        state: Any = torch.randn(rows)
        if kind == "LSTM":
            state = (state, torch.randn([*rows[:-1], 7]))
        for hx in (None, state):
            results = layer(given, hx), twin(given, hx)
            close(results[1], results[0])
            gradients = [
                torch.autograd.grad(summed(result), list(module.parameters()), allow_unused=True)
                for result, module in zip(results, (layer, twin), strict=True)
            ]
            close(gradients[1], gradients[0], 1e-4)


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def levels(x: Floats, width: float, zero: int, n: int) -> Floats:
    """Values on a calibrated range."""
    q = np.clip(np.rint(np.clip(x.astype(np.float32) / np.float32(width) + np.float32(zero / n), 0, 1) * n), 0, n)
    values: Floats = (q - zero) * width / n
    return values


def oracle(module: Any, x: Floats, state: list[Floats], suffix: str) -> list[Floats]:
    """One step after the other of one sequence [length, inputs], in float64; the states after each."""
    parameters = {name: value.detach().double().numpy() for name, value in module.named_parameters()}
    quantizer = module.get_submodule("ih_l0").input_quantization
    width, zero, n = float(quantizer.width()), int(quantizer.zero()), quantizer.max_code

    def product(kind: str, values: Floats) -> Floats:
        weight = parameters[f"weight_{kind}_{suffix}"]
        t = np.tanh(weight)
        low_bit = 2 * np.rint(3 * (t / (2 * np.abs(t).max()) + 0.5)) / 3 - 1  # eq. 9 and 10 with 2 bits
        result: Floats = low_bit @ levels(values, width, zero, n) + parameters.get(f"bias_{kind}_{suffix}", 0.0)
        return result

    seen = []
    for row in x:
        i, h = product("ih", row), product("hh", state[0])
        if module.mode == "LSTM":
            a, b, c, d = np.split(i + h, 4)
            cell = sigmoid(b) * state[1] + sigmoid(a) * np.tanh(c)
            state = [sigmoid(d) * np.tanh(cell), cell]
            if module.proj_size:
                state[0] = product("hr", state[0])
        elif module.mode == "GRU":
            (ir, iz, in_), (hr, hz, hn) = np.split(i, 3), np.split(h, 3)
            z = sigmoid(iz + hz)
            state = [(1 - z) * np.tanh(in_ + sigmoid(ir + hr) * hn) + z * state[0]]
        else:
            state = [np.tanh(i + h)]
        seen.append(state[0])
    return [np.stack(seen), *state]


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True}, {"proj_size": 4}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_single_steps_of_single_sequences(kind: str, settings: dict[str, Any]) -> None:
    if kind != "LSTM" and "proj_size" in settings:
        settings = {"bias": False}
    torch.manual_seed(1)
    module = KINDS[kind][1](5, 7, **settings, **ranges(4))
    sequences = [torch.randn(length, 5) for length in (6, 4, 4, 1)]
    packed, last = module(pack_sequence(sequences))
    last = last if kind == "LSTM" else (last,)
    outputs = torch.nn.utils.rnn.unpack_sequence(packed)
    sizes = [4 if settings.get("proj_size") else 7, 7][: 2 if kind == "LSTM" else 1]
    for number, (sequence, output) in enumerate(zip(sequences, outputs, strict=True)):
        zeros = [np.zeros(size) for size in sizes]
        h, *final = oracle(module, sequence.double().numpy(), zeros, "l0")
        np.testing.assert_allclose(output[:, : sizes[0]].detach().numpy(), h, atol=2e-6)
        for one, expected in zip(last, final, strict=True):
            np.testing.assert_allclose(one[0, number].detach().numpy(), expected, atol=2e-6)
        if module.bidirectional:
            h, *final = oracle(module, sequence.double().numpy()[::-1], zeros, "l0_reverse")
            np.testing.assert_allclose(output[:, 7:].detach().numpy(), h[::-1], atol=2e-6)
            np.testing.assert_allclose(last[0][1, number].detach().numpy(), final[0], atol=2e-6)


def plainly(module: Any, x: Tensor) -> Tensor:
    """What a layer of one direction gives, with every quantizer called at every step, as autograd sees it."""

    def product(name: str, values: Tensor) -> Tensor:
        part = module.get_submodule(name)
        return F.linear(part.activation(values), part.weight_quantization(part.weight), part.bias)

    h = x.new_zeros(x.shape[1], 7)
    c, seen = h, []
    for row in x:
        i, f, g, o = (product("ih_l0", row) + product("hh_l0", h)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        seen.append(h)
    return torch.stack(seen)


@pytest.mark.parametrize("quantizers", ["calibrated", "learned"])
def test_gradients_are_those_of_plain_steps(quantizers: str) -> None:
    torch.manual_seed(2)
    more = ranges(4)
    if quantizers == "learned":
        learned = InputLSQ(4, offset=True)
        learned.fit_(torch.randn(300))
        more |= {"input_quantization": learned, "weight_quantization": WeightLSQ(2)}
    module = QLSTM(5, 7, **more)
    x = torch.randn(6, 3, 5, requires_grad=True)
    ours = torch.autograd.grad(summed(module(x)[0]), [x, *module.parameters()])
    plain = torch.autograd.grad(summed(plainly(module, x)), [x, *module.parameters()])
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5)
    assert all(bool(one.any()) for one in ours[:5])  # of the input, the weights and the biases


def test_a_step_of_a_sequence_is_a_sample_of_its_gradient() -> None:
    torch.manual_seed(0)
    module = QGRU(5, 7, **ranges(8) | {"gradient_quantization": GradientDoReFa(8, noise=False)})
    plain = copy.deepcopy(module)
    for part in plain.projections().values():
        part.gradient_quantization = None
    x = torch.randn(3, 2, 5)
    ours, theirs = (torch.autograd.grad(summed(m(x)[0]), list(m.parameters())) for m in (module, plain))
    for one, other in zip(ours, theirs, strict=True):
        assert not torch.equal(one, other)
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.05 * float(other.abs().max()))


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_steps_of_layers(kind: str) -> None:
    torch.manual_seed(3)
    layer, cell = KINDS[kind][1](5, 7, **ranges()), CELLS[kind][1](5, 7, **ranges())
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}, strict=False)
    x = torch.randn(4, 2, 5)
    outputs, _ = layer(x)
    state = None
    for step, expected in zip(x, outputs, strict=True):
        state = cell(step, state)
        h = state[0] if kind == "LSTM" else state
        assert torch.equal(h, expected)
    single, batch = cell(x[0, 0]), cell(x[0, :1])
    close(single, (batch[0][0], batch[1][0]) if kind == "LSTM" else batch[0])
    float_class, low_bit_class = CELLS[kind]
    float_cell = float_class(5, 7)
    twin = low_bit_class(5, 7, **FLOAT)
    twin.load_state_dict(float_cell.state_dict(), strict=True)
    close(twin(x[0]), float_cell(x[0]))


def test_the_weight_is_quantized_once_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = QLSTM(5, 7, **ranges())
    calls = []
    codes = WeightDoReFa.codes

    def counted(self: WeightDoReFa, x: Tensor) -> Tensor:
        calls.append(x.shape)
        return codes(self, x)

    monkeypatch.setattr(WeightDoReFa, "codes", counted)
    module(torch.randn(9, 2, 5))
    assert len(calls) == 2


def test_hooks_see_every_step() -> None:
    module: Any = QLSTM(5, 7, **ranges())
    x = torch.randn(9, 2, 5)
    expected = module(x)[0]
    for watched in (module.hh_l0, module.hh_l0.activation, module.hh_l0.weight_quantization):
        seen: list[nn.Module] = []
        handle = watched.register_forward_hook(lambda part, *_, seen=seen: seen.append(part))
        assert torch.equal(module(x)[0], expected)
        assert len(seen) == 9
        handle.remove()


def test_dropout_between_layers_in_training_alone() -> None:
    module = QLSTM(5, 7, 2, dropout=0.5, **ranges())
    x = torch.randn(9, 2, 5)
    assert not torch.equal(module(x)[0], module(x)[0])
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


class Tagger(nn.Module):
    """Recurrent layers of all kinds, and a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True, proj_size=3)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.cell = nn.LSTMCell(5, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(self.lstm(x)[0])
        h, c = self.cell(y[:, 0])
        logits: Tensor = self.head(self.cell(y[:, -1], (h, c))[0])
        return logits


CONFIG = LowBitConfig(2, 4, range="learned", learned_by="lsq+", first="same")


def tagger() -> tuple[Tagger, Tensor]:
    torch.manual_seed(0)
    model, x = Tagger(), torch.randn(5, 9, 6)
    quantize_(model, CONFIG)
    calibrate(model, [x])
    return model.eval(), x


def test_conversion_and_back() -> None:
    torch.manual_seed(0)
    model, x = Tagger(), torch.randn(5, 9, 6)
    expected, state = model(x), copy.deepcopy(model.state_dict())
    parameters = list(model.parameters())
    table = quantize_(model, CONFIG)
    rows = {row.name: (row.became, row.weight_bits, row.activation_bits) for row in table.layers}
    assert rows["lstm"] == ("QLSTM", 2, 4)
    assert rows["gru"] == ("QGRU", 2, 4)
    assert rows["cell"] == ("QLSTMCell", 2, 4)
    assert isinstance(model.lstm, QLSTM)
    assert isinstance(model.lstm.hh_l1_reverse, QLinear)
    assert set(state) <= set(model.state_dict())
    now = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in now for parameter in parameters)
    model.load_state_dict(state, strict=True)  # that of a float model
    calibrate(model, [x])
    assert not torch.equal(model(x), expected)
    assert "quantizer" not in str(quantize_(model, CONFIG))  # the second time nothing changes
    float_(model)
    assert type(model.lstm) is nn.LSTM
    assert type(model.cell) is nn.LSTMCell
    assert model.state_dict().keys() == state.keys()
    assert torch.equal(model(x), expected)
    model.lstm.flatten_parameters()
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))


def test_quantizers_of_parts_are_calibrated_trained_and_told() -> None:
    model, x = tagger()
    lstm, gru, cell = (cast(Any, layer) for layer in (model.lstm, model.gru, model.cell))
    parts = [part for layer in (lstm, gru, cell) for part in layer.projections().values()]
    assert len(parts) == 12 + 2 + 2
    for part in parts:
        quantizer = part.input_quantization
        assert isinstance(quantizer, RangeQuantization)
        assert quantizer.is_set
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    labels = torch.arange(5) % 3
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-5:]) < losses[0]
    report = bitorch.report(model.eval(), x)
    assert {"lstm.ih_l0", "lstm.hr_l1_reverse", "gru.hh_l0", "cell.ih"} <= {row.name for row in report.rows}
    set_bits(model, [("lstm.hh_*", (4, 8))])
    assert lstm.hh_l0.weight_quantization.bit_width == 4
    assert lstm.ih_l0.weight_quantization.bit_width == 2
    assert str(bitorch.check(model, (x, labels)))


@pytest.mark.parametrize("bits", [(1, 2), (2, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("range", ["unit", "learned"])
def test_matrices_are_packed_and_give_the_same_bits(bits: tuple[int, int], range: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Tagger(), torch.randn(5, 9, 6)
    more: Mapping[str, Any] = {} if range == "unit" else {"range": "learned", "learned_by": "lsq+"}
    quantize_(model, LowBitConfig(*bits, first="same", **more))
    if more:
        calibrate(model, [x])
    model.eval()
    deployed = deploy(model, x, partial=True)
    became = {row.name: row.became for row in deployed.rows}
    assert became["lstm.hh_l1"] == became["cell.ih"] == "PackedLinear"
    assert became["lstm"] == "as it was"
    with torch.no_grad():
        expected = model(x)
        for batch in (x, x[:1], x[:, :1]):
            assert torch.equal(deployed(batch), model(batch))
    net: Any = deployed.model
    for module in (net.lstm, net.gru, net.cell):
        assert isinstance(module.get_submodule("ih_l0" if module is not net.cell else "ih"), PackedLinear)
        assert not list(module.parameters(recurse=False))
        assert not any(isinstance(one, Tensor) for one in getattr(module, "_flat_weights", ()))
    deployed.save(tmp_path / "net.pt")
    loaded = PartialDeployment.load(tmp_path / "net.pt", model)
    clone = copy.deepcopy(deployed)
    for other in (loaded, clone, pickle.loads(pickle.dumps(deployed))):
        assert torch.equal(other(x), expected)
    assert "hh_l0" in str(deployed)


def test_whole_deployment_names_the_layer_and_the_remedy() -> None:
    model, x = tagger()
    with pytest.raises(ValueError, match=r"lstm.*recurrent(.|\n)*partial=True"):
        deploy(model, x)


def test_copies_and_dtypes() -> None:
    model, x = tagger()
    with torch.no_grad():
        expected = model(x)
        for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(clone(x), expected)
            for parameter in clone.parameters():
                parameter.mul_(0.5)
            assert not torch.equal(clone(x), expected)
        assert torch.equal(model(x), expected)
        double = copy.deepcopy(model).double()
        assert double(x.double()).dtype == torch.float64
    state = torch.func.functional_call(model, {name: value * 0 for name, value in model.named_parameters()}, (x,))
    assert not torch.equal(state, expected)


BAD: list[tuple[Any, Any, type[Exception], str]] = [
    (torch.randn(4, 3, 6), None, ValueError, r"must have the shape \[length, batch, 5\].*got \[4, 3, 6\]"),
    (torch.randn(5), None, ValueError, "must have the shape"),
    ("text", None, TypeError, "must be a tensor or a PackedSequence, got str"),
    (torch.randn(0, 3, 5), None, ValueError, "has no steps"),
    (torch.randn(4, 3, 5), torch.zeros(1, 3, 7), TypeError, "a pair of tensors, h and c, got Tensor"),
    (torch.randn(4, 3, 5), (torch.zeros(1, 3, 7), None), TypeError, "a pair of tensors"),
    (torch.randn(4, 3, 5), (torch.zeros(1, 2, 7), torch.zeros(1, 3, 7)), ValueError, r"\[1, 3, 7\], got \[1, 2, 7\]"),
    (torch.randn(4, 5), (torch.zeros(1, 3, 7), torch.zeros(1, 3, 7)), ValueError, r"\[1, 7\], got"),
    (pack_sequence([torch.randn(2, 6)]), None, ValueError, r"\[steps, 5\], got \[2, 6\]"),
]


@pytest.mark.parametrize(("x", "state", "kind", "message"), BAD)
def test_wrong_arguments(x: Any, state: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        QLSTM(5, 7, **FLOAT)(x, state)


def test_wrong_arguments_of_cells() -> None:
    cell = QGRUCell(5, 7, **FLOAT)
    with pytest.raises(ValueError, match=r"\[batch, 5\]"):
        cell(torch.randn(2, 6))
    with pytest.raises(ValueError, match=r"\[2, 7\], got \[2, 6\]"):
        cell(torch.randn(2, 5), torch.randn(2, 6))
    with pytest.raises(TypeError, match="a pair of tensors"):
        QLSTMCell(5, 7, **FLOAT)(torch.randn(2, 5), torch.randn(2, 7))
    with pytest.raises(ValueError, match="no quantization is named"):
        QGRU(5, 7, input_quantization="nothing")


def test_names_take_the_defaults() -> None:
    module: Any = QRNN(5, 7, nonlinearity="relu", input_quantization=InputDoReFa(2))
    quantizers = [part.input_quantization for part in module.projections().values()]
    assert len({id(one) for one in quantizers}) == 2  # each has its own
    before = module.weight_ih_l0.clone()
    module.reset_parameters()
    assert not torch.equal(before, module.weight_ih_l0)
