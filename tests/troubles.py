"""What docs/troubleshooting.md is about, made to happen: one function for each of its rows."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.cli import main
from bitorch.layers import QLinear
from bitorch.quantizations import InputDoReFa, Quantization, Sign

CONFIG = bitorch.LowBitConfig(1, 2)
ALL = bitorch.LowBitConfig(1, 2, first="same", last="same")
X, Y = torch.rand(16, 8), torch.arange(16) % 3


class Trouble:
    """A row: the messages in its first cell, and the commands in its last one."""

    def __init__(self, messages: list[str], commands: list[str]) -> None:
        self.messages, self.commands = messages, commands

    def is_met(self, text: str) -> bool:
        """Say whether a text has the messages; … stands for anything."""
        for message in self.messages:
            start = 0
            for part in message.split("…"):
                found = text.find(part.strip(), start)
                if found < 0:
                    return False
                start = found + len(part.strip())
        return True

    def is_raised(self, call: Callable[[], Any], kind: type[Exception] = ValueError) -> None:
        """Assert that a call fails with the messages."""
        with pytest.raises(kind) as caught:
            call()
        assert self.is_met(str(caught.value)), str(caught.value)

    def do(self, index: int = 0, **names: Any) -> dict[str, Any]:
        """Carry out a command, and return the names that it has then."""
        names = {"torch": torch, "bitorch": bitorch, "bitorch_runtime": bitorch_runtime, **names}
        command = self.commands[index]
        if command.startswith("bitorch "):
            assert main(shlex.split(command)[1:]) == 0, command
        else:
            exec(command, names)
        return names


def mlp() -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8, 3))


def converted(config: bitorch.LowBitConfig = CONFIG) -> nn.Sequential:
    model = mlp()
    bitorch.quantize_(model, config)
    return model.eval()


def weight_of(model: nn.Sequential, index: int) -> Tensor:
    weight = model[index].weight
    assert isinstance(weight, Tensor)
    return weight


class Ending(nn.Module):
    """Two layers, and what a command does to their output or input."""

    def __init__(self, change: str = "", start: str = "") -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 1)
        self.change, self.start = change, start
        bitorch.quantize_(self, ALL)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        names = {"x": x}
        exec(self.start, names)
        names = {"y": self.last(torch.relu(self.first(names["x"])))}
        exec(self.change, names)
        return names["y"]


class Two(nn.Module):
    """A model of two inputs."""

    def __init__(self, config: bitorch.LowBitConfig = ALL) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        bitorch.quantize_(self, config)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        scores: Tensor = self.last(torch.relu(self.first(u) + v))
        return scores


def table_for_model(trouble: Trouble) -> None:
    model = mlp()
    table: Any = bitorch.quantize_(model, CONFIG)
    trouble.is_raised(lambda: table(X), TypeError)
    model = mlp()
    trouble.do(model=model, config=CONFIG)
    assert model(X).shape == (16, 3)


def parametrized(trouble: Trouble) -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)))
    trouble.is_raised(lambda: bitorch.quantize_(model, ALL))
    trouble.do(model=model)
    assert isinstance(bitorch.quantize_(model, ALL), bitorch.Conversion)


def rule_without_layer(trouble: Trouble) -> None:
    model = mlp()
    trouble.is_raised(lambda: bitorch.quantize_(model, [("*", CONFIG), ("layer9.*", None)]))
    trouble.do(model=model, config=ALL)
    assert type(model[3]) is nn.Linear


def lost_zeros(trouble: Trouble) -> None:
    model = mlp()
    with torch.no_grad():
        weight_of(model, 3)[:6] = 0
    assert trouble.is_met(str(bitorch.quantize_(copy.deepcopy(model), bitorch.LowBitConfig(2, 2))))
    trouble.do(model=model)
    layer = model[3]
    assert isinstance(layer, QLinear)
    assert int((layer.weight_codes() == 0).sum()) >= 48


def borders(trouble: Trouble) -> None:
    def sum_of_one_pixel(model: nn.Module) -> float:
        return float(model(torch.ones(1, 1, 1, 1)).detach())

    ends = [nn.Conv2d(1, 1, 1, bias=False) for _ in range(2)]
    inner = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    for layer, weight in ((ends[0], 1.0), (inner, 0.5), (ends[1], 1.0)):
        nn.init.constant_(layer.weight, weight)
    model = nn.Sequential(ends[0], inner, ends[1])
    other = copy.deepcopy(model)
    bitorch.quantize_(other, bitorch.LowBitConfig(1, 1, sign="sign"))
    assert sum_of_one_pixel(other) == 0.5
    trouble.do(model=model)
    assert sum_of_one_pixel(model) == -3.5


def steps_of_a_frozen_layer(trouble: Trouble) -> None:
    model = converted(bitorch.LowBitConfig(4, 4, range="learned", first="same"))
    weight_of(model, 0).requires_grad_(False)
    assert any(p.requires_grad for p in model[0].parameters())
    trouble.do(model=model)
    assert not any(p.requires_grad for p in model[0].parameters())
    frozen = mlp()
    frozen[0].requires_grad_(False)
    bitorch.quantize_(frozen, bitorch.LowBitConfig(4, 4, range="learned", first="same"))
    assert not any(p.requires_grad for p in frozen[0].parameters())


def unset_range(trouble: Trouble) -> None:
    model = converted(bitorch.LowBitConfig(4, 4, range="learned"))
    trouble.is_raised(lambda: model(X), RuntimeError)
    trouble.do(model=model, batches=[X])
    assert model(X).isfinite().all()


def stale_step(trouble: Trouble) -> None:
    model = converted(bitorch.LowBitConfig(4, 4, range="learned"))
    bitorch.calibrate(model, [X])
    nn.init.normal_(weight_of(model, 3), std=9)
    assert trouble.is_met(str(bitorch.check(model, (X, Y))))
    trouble.do(model=model, batches=[X])
    assert not trouble.is_met(str(bitorch.check(model, (X, Y))))


def no_normalization(trouble: Trouble) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.uniform_(weight_of(model, 0), 0, 1)
    other = copy.deepcopy(model)
    bitorch.quantize_(other, CONFIG)
    assert trouble.is_met(str(bitorch.check(other, (50 + X, Y))))
    trouble.do(model=model, batches=[50 + X])
    assert not trouble.is_met(str(bitorch.check(model, (50 + X, Y))))


def nan_loss(trouble: Trouble) -> None:
    model = converted()
    with torch.no_grad():
        weight_of(model, 3)[0, 0] = torch.nan
    assert nn.functional.cross_entropy(model(X), Y).isnan()
    found = trouble.do(model=model, x=X, y=Y)["found"]
    assert [(finding.layer, finding.what) for finding in found.findings] == [("3", "non-finite parameter")]


def float_labels(trouble: Trouble) -> None:
    model = converted()
    trouble.is_raised(lambda: bitorch.check(model, (X, Y.float())))
    assert trouble.do(model=model, x=X, y=Y.float())["found"].loss == "cross-entropy"


def ignored_labels(trouble: Trouble) -> None:
    labels = Y.clone()
    labels[3] = 255
    model = converted()
    trouble.is_raised(lambda: bitorch.check(model, (X, labels)))
    assert trouble.do(model=model, x=X, y=labels)["found"].loss == "CrossEntropyLoss"


def several_inputs(trouble: Trouble) -> None:
    config = bitorch.LowBitConfig(1, 2, range="calibrated", first="same", last="same")
    trouble.is_raised(lambda: bitorch.calibrate(Two(config), [X]))
    for index in range(2):
        model = Two(config)
        trouble.do(index, model=model, u=X, v=X, y=Y)
        assert model(X, X).shape == (16, 3)


def large_checkpoint(trouble: Trouble) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    bitorch.quantize_(model, ALL)
    torch.save(model.state_dict(), "net.pt")
    assert Path("net.pt").stat().st_size > 2 * 256 * 256 * 4
    trouble.do(model=model, x=torch.rand(1, 256))
    assert Path("net.bit.safetensors").stat().st_size < Path("net.pt").stat().st_size / 16


def training_mode(trouble: Trouble) -> None:
    model = converted().train()
    trouble.is_raised(lambda: bitorch.deploy(model, X))
    trouble.do(model=model)
    assert isinstance(bitorch.deploy(model, X), bitorch.PackedModel)


def float_net(trouble: Trouble) -> None:
    model = mlp().eval()
    trouble.is_raised(lambda: bitorch.deploy(model, X))
    trouble.do(model=model, config=CONFIG)
    assert isinstance(bitorch.deploy(model.eval(), X), bitorch.PackedModel)


def _is_kept_in_part(trouble: Trouble, model: nn.Module, x: Tensor) -> None:
    trouble.is_raised(lambda: bitorch.deploy(model, x))
    partly = trouble.do(model=model, x=x)["partly"]
    assert torch.equal(partly(x), model(x))


class Sine(nn.Module):
    """A function that has no operation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def sine(trouble: Trouble) -> None:
    model = nn.Sequential(nn.Linear(8, 8), Sine(), nn.Linear(8, 8), nn.Linear(8, 3))
    bitorch.quantize_(model, CONFIG)
    _is_kept_in_part(trouble, model.eval(), X)


def squeezed(trouble: Trouble) -> None:
    trouble.is_raised(lambda: bitorch.deploy(Ending("y = y.squeeze()"), X))
    packed = bitorch.deploy(Ending(trouble.commands[0]), X)
    assert packed.outputs[0].shape == ()


def fixed_batch(trouble: Trouble) -> None:
    images = X.reshape(16, 2, 4)
    trouble.is_raised(lambda: bitorch.deploy(Ending(start="x = x.view(16, -1)"), images))
    assert bitorch.deploy(Ending(start=trouble.commands[0]), images).outputs[0].shape == (1,)


class TenTimes(InputDoReFa):
    """Values that the codes do not follow."""

    def quantize(self, x: Tensor) -> Tensor:
        return 10 * super().quantize(x)


def own_values(trouble: Trouble) -> None:
    layers = [
        QLinear(8, 8, input_quantization=quantizer, weight_quantization=Sign())
        for quantizer in (TenTimes(2), InputDoReFa(2))
    ]
    _is_kept_in_part(trouble, nn.Sequential(*layers).eval(), X)


def own_grid(trouble: Trouble) -> None:
    class Ternary(Quantization):
        name = "troubled ternary"
        bit_width = 2
        max_code = 1

        def codes(self, x: Tensor) -> Tensor:
            return x.sign() * (x.abs() > x.abs().mean())

        def scale(self, x: Tensor) -> Tensor:
            return x.detach().abs().mean()

        def quantize(self, x: Tensor) -> Tensor:
            return self.codes(x) * self.scale(x)

    model = nn.Sequential(QLinear(8, 8, input_quantization=InputDoReFa(2), weight_quantization=Ternary())).eval()
    trouble.is_raised(lambda: bitorch.deploy(model, X))
    trouble.do(Ternary=Ternary)
    assert torch.equal(bitorch.deploy(model, X)(X), model(X))  # type: ignore[arg-type]  # one output


def dict_for_example(trouble: Trouble) -> None:
    model = Two().eval()
    batch = {"u": X, "v": X}
    trouble.is_raised(lambda: bitorch.deploy(model, batch), TypeError)  # type: ignore[call-overload]  # that is the trouble
    assert len(trouble.do(model=model, batch=batch)["packed"].inputs) == 2


def window_in_padding(trouble: Trouble) -> None:
    pool = nn.MaxPool2d((2, 1), (1, 1), (1, 0), dilation=(3, 1))
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1), pool, nn.ReLU())
    bitorch.quantize_(model, ALL)
    _is_kept_in_part(trouble, model.eval(), torch.rand(2, 1, 2, 2))


def floats_for_pixels(trouble: Trouble) -> None:
    packed = bitorch.deploy(converted(), X, pixels=True)
    trouble.is_raised(lambda: packed(X), TypeError)
    assert trouble.do(packed=packed, x=X)["scores"].shape == (16, 3)


def no_batch(trouble: Trouble) -> None:
    packed = bitorch.deploy(converted(), X)
    trouble.is_raised(lambda: packed(X[0]))
    assert trouble.do(packed=packed, x=X[0])["scores"].shape == (1, 3)


def memory_limit(trouble: Trouble) -> None:
    bitorch.deploy(converted(), X).save("net.bit.safetensors")
    trouble.is_raised(lambda: bitorch_runtime.load("net.bit.safetensors", memory_limit=1000))
    assert trouble.do(path="net.bit.safetensors")["net"](X.numpy()).shape == (16, 3)


def damaged_file(trouble: Trouble) -> None:
    path = Path("net.bit.safetensors")
    packed = bitorch.deploy(converted(), X)
    packed.save(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    trouble.is_raised(lambda: bitorch.PackedModel.load(path))
    trouble.do(packed=packed, path=path)
    assert bitorch.PackedModel.load(path).nbytes == len(content)


def nan_input(trouble: Trouble) -> None:
    model = converted()
    packed: Any = bitorch.deploy(model, X)
    x = torch.full_like(X, torch.nan)
    assert model(x).isnan().all()
    hidden = model[:6]
    assert hidden(x).isnan().all()
    assert packed(x).isfinite().all()
    x = trouble.do(x=x)["x"]
    assert torch.allclose(packed(x), model(x), atol=1e-5)


def same_net(trouble: Trouble) -> None:
    model = converted()
    assert trouble.do(model=model, packed=bitorch.deploy(model, X), x=X)["found"]


def profile(trouble: Trouble) -> None:
    assert "linear" in str(trouble.do(packed=bitorch.deploy(converted(), X), x=X)["found"])


def _fails(trouble: Trouble, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    try:
        code: object = main(shlex.split(line))
    except SystemExit as stopped:  # as argument parsers do
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert trouble.is_met(error), error


def wrong_option(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    _fails(trouble, "train --data digits --model lenet-8 --bits 1 2 6 --learning-rate 0.002 --out runs/b", capsys)
    trouble.do()


def wrong_data(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    _fails(trouble, "check --data digitz --model lenet-8 --bits 1 2 6", capsys)
    trouble.do()


def damaged_checkpoint(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("runs/a/last.ckpt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _fails(trouble, "eval runs/a/last.ckpt", capsys)
    trouble.do()


def deep_settings(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("[" * 20_000)
    _fails(trouble, "check --config bad.yaml", capsys)
    trouble.do()


def asks_the_file(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split("deploy runs/a/best.ckpt -o net.bit.safetensors")) == 0
    trouble.do()


def asks_the_doctor(trouble: Trouble, capsys: pytest.CaptureFixture[str]) -> None:
    trouble.do()
    assert "bitorch-runtime" in capsys.readouterr().out


#: By the first cell of the row.
TROUBLES: dict[str, Callable[[Trouble], None]] = {
    "`Conversion cannot be called: … in place`": table_for_model,
    "`its weight is parametrized; first …`": parametrized,
    "`rule 2 (layer9.*) matches no layer; there are …`": rule_without_layer,
    "`75% of the weights are 0 and become 0.333: there is no level at 0`": lost_zeros,
    "borders of ±1 layers are not those of BITorch": borders,
    "a frozen backbone has steps that train": steps_of_a_frozen_layer,
    "`the range of InputLSQ is not set; call …`": unset_range,
    "`step does not fit the weight: …` from `check`": stale_step,
    "`no normalization: … are far from the range 0 … 1` from `check`": no_normalization,
    "the loss is NaN": nan_loss,
    "`do not say which loss; pass loss=, …`": float_labels,
    "`there are labels 0…255, but the model has 3 classes; …`": ignored_labels,
    "`batch 0 has 1 input, but forward(u, v) needs 2`": several_inputs,
    "training is no faster than in float, and its checkpoint no smaller": large_checkpoint,
    "`the model is in training mode (…). Call model.eval() first`": training_mode,
    "`the model has no low-bit layer. Convert it …`": float_net,
    "`sin cannot be deployed. …`": sine,
    "`for a batch of 1 the model gives [], …`": squeezed,
    "`the model's forward fails on a batch of 2, …`": fixed_batch,
    "`has a quantize or forward of its own, which its codes do not follow …`": own_values,
    '`set grid = "signed" on Ternary: …`': own_grid,
    "`got dict; pass its tensors one by one, …`": dict_for_example,
    "`lies wholly in padding …`": window_in_padding,
    "`the dtype is torch.float32, but must be torch.uint8 …`": floats_for_pixels,
    "`the shape is [8], but must be [batch, 8]; …`": no_batch,
    "`raise the limit if you trust where the program comes from`": memory_limit,
    "`the content does not have the SHA-256 that the file states: …`": damaged_file,
    "the model gives NaN, and the packed net numbers": nan_input,
    "is it the same net?": same_net,
    "which kernels run, and where the time goes": profile,
}
#: Likewise, of the command line; they find a run in runs/a.
COMMAND_TROUBLES: dict[str, Callable[[Trouble, pytest.CaptureFixture[str]], None]] = {
    "`bitorch train has no option --learning-rate …`": wrong_option,
    "`digitz …` is no data": wrong_data,
    "`is not a checkpoint, or a damaged one: …`": damaged_checkpoint,
    "`nested too deeply …`": deep_settings,
    "does the file answer as the checkpoint?": asks_the_file,
    "is it as fast as it should be?": asks_the_file,
    "something is missing": asks_the_doctor,
}
