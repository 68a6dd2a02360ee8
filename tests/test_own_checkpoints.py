"""Checkpoints of Trainers of the user's own: with a Classifier, any module, or a state dict alone, and --model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitorch
from bitorch.data import digits, to_float
from bitorch.own_code import read_own
from bitorch.train import Classifier, load_model, read_checkpoint
from own_files import NETS, command_runner

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:GPU available but not used",
    "ignore:You defined a `validation_step`",
)
SHAPE = ["--input-shape", 1, 8, 8]
ARGUMENTS: list[object] = ["--model", "mine.py:Net", "--bits", 1, 2, 32]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("mine.py").write_text(NETS, encoding="utf-8")


@pytest.fixture(name="run")
def _run(capsys: pytest.CaptureFixture[str]) -> Any:
    return command_runner(capsys)


class OwnModule(pl.LightningModule):
    """A module that knows nothing of this library, with a net under a name and something beside it."""

    def __init__(self, net: nn.Module, name: str, *others: str) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, net)
        for other in others:
            setattr(self, other, net_of())
        self.scale = nn.Parameter(torch.ones(()))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.scale * getattr(self, self.name)(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def net_of(name: str = "Net") -> nn.Module:
    net = read_own(f"mine.py:{name}").function(num_classes=10)
    assert isinstance(net, nn.Module)
    return net


def low_bit(config: bitorch.LowBitConfig | None = None) -> nn.Module:
    net = net_of()
    bitorch.quantize_(net, bitorch.LowBitConfig(1, 2) if config is None else config)
    return net


def train(module: pl.LightningModule, path: str = "own.ckpt") -> None:
    images = digits().train
    pairs = TensorDataset(to_float(images.images[:256]), images.labels[:256])
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(pairs, 64))
    trainer.save_checkpoint(path)


def test_a_classifier_through_every_command(run: Any) -> None:
    train(Classifier(low_bit(), 10))
    assert read_checkpoint("own.ckpt").settings is None
    deployed = run("deploy", "own.ckpt", *ARGUMENTS, *SHAPE)
    assert "mine.py:Net" in deployed
    assert "equal" in deployed
    assert "predictions       │ all equal" in run(
        "verify", "own.ckpt", "own.bit.safetensors", *ARGUMENTS, "--data", "digits"
    )
    whole = json.loads(run("eval", "own.ckpt", *ARGUMENTS, "--data", "digits", "--json"))
    packed = json.loads(run("eval", "own.bit.safetensors", "--data", "digits", "--json"))
    assert whole["top1"] == packed["top1"] > 0.1
    assert whole["model"] == "mine.py:Net"
    rows = json.loads(run("report", "own.ckpt", *ARGUMENTS, "--data", "digits", "--json"))["rows"]
    assert {"stem", "body", "head"} <= {row["name"] for row in rows}
    run("check", "own.ckpt", *ARGUMENTS, "--data", "digits", "--batch-size", 256)
    timed = run("bench", "own.bit.safetensors", "--model", "mine.py:Net", "--repeats", 1)
    assert "not measured: float twin" not in timed


def test_what_is_not_said_is_asked_for(run: Any) -> None:
    train(Classifier(low_bit(), 10))
    Path("x.bit.safetensors").write_bytes(b"")
    assert "own.ckpt does not say how its model is built; name what makes it with --model" in run(
        "deploy", "own.ckpt", code=2
    )
    assert "own.ckpt has low-bit layers (body 1 2) and does not say how they compute; say it with --bits or" in run(
        "deploy", "own.ckpt", "--model", "mine.py:Net", *SHAPE, code=2
    )
    assert "say it with --input-shape C H W" in run("deploy", "own.ckpt", *ARGUMENTS, code=2)
    assert "own.ckpt does not say what it was trained on; name the data with --data" in run(
        "eval", "own.ckpt", *ARGUMENTS, code=2
    )
    for command in ("report", "check"):
        message = run(command, "own.ckpt", code=2)
        assert "on which data; say it with --model, --data, --bits or --rules" in message
        assert "say it with --data" in run(command, "own.ckpt", *ARGUMENTS, code=2)


@pytest.mark.parametrize("bits", [(2, 2, 32), (1, 4, 32), (32, 32, 32)])
def test_bits_that_are_not_the_checkpoints(run: Any, bits: tuple[int, int, int]) -> None:
    train(Classifier(low_bit(), 10))
    data = ["--data", "digits"]
    for command in (["deploy", "own.ckpt", *SHAPE], ["eval", "own.ckpt", *data], ["report", "own.ckpt", *data]):
        message = run(*command, "--model", "mine.py:Net", "--bits", *bits, code=2)
        assert "are not those of own.ckpt, body 1 2 (bits of weights and activations)" in message


def test_rules_in_place_of_bits(run: Any) -> None:
    Path("rules.yaml").write_text(
        "- {weight_bits: 2, activation_bits: 4, first: float, last: same}\n", encoding="utf-8"
    )
    net = net_of()
    bitorch.quantize_(net, bitorch.load_rules("rules.yaml"))
    train(Classifier(net, 10))
    run("deploy", "own.ckpt", "--model", "mine.py:Net", "--rules", "rules.yaml", *SHAPE)
    message = run("deploy", "own.ckpt", *ARGUMENTS, "--rules", "rules.yaml", *SHAPE, code=2)
    assert "--rules say what each layer got, and so do --bits; leave one of them out" in message


def test_a_net_that_comes_low_bit_needs_no_bits(run: Any) -> None:
    train(Classifier(net_of("low_bit"), 10))
    run("deploy", "own.ckpt", "--model", "mine.py:low_bit", *SHAPE)
    message = run("deploy", "own.ckpt", "--model", "mine.py:low_bit", "--bits", 2, 4, 32, *SHAPE, code=2)
    assert "the model has low-bit layers already, which stay as they are; leave bits and rules out" in message
    run("report", "own.ckpt", "--model", "mine.py:low_bit", "--bits", 2, 4, 32, "--data", "digits")


def test_a_checkpoint_that_says_its_bits_takes_no_others(run: Any) -> None:
    run("train", "--model", "mine.py:Net", "--epochs", 1, "--batch-size", 256, "--out", "run", "--accelerator", "cpu")
    message = run("deploy", "run/last.ckpt", "--bits", 1, 2, 32, code=2)
    assert "run/last.ckpt says which bits its layers have; leave bits and rules out" in message
    assert "says images" in (message := run("deploy", "run/last.ckpt", "--input-shape", 3, 8, 8, code=2)) or (
        "run/last.ckpt is of images (1, 8, 8) [C, H, W], and input_shape is (3, 8, 8)" in message
    )
    run("deploy", "run/last.ckpt", "--out", "net.bit.safetensors")
    message = run("eval", "net.bit.safetensors", "--model", "mine.py:Net", code=2)
    assert "a packed net holds its layers, so leave out --model" in message


@pytest.mark.parametrize("name", ["model", "net", "backbone"])
def test_any_module_that_holds_the_net(run: Any, name: str) -> None:
    net = low_bit()
    train(OwnModule(net, name))
    loaded = load_model("own.ckpt", "mine.py:Net", config=bitorch.LowBitConfig(1, 2))
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded(x), net.eval()(x))
    run("deploy", "own.ckpt", *ARGUMENTS, *SHAPE)
    run("verify", "own.ckpt", "own.bit.safetensors", *ARGUMENTS, "--data", "digits")
    run("eval", "own.ckpt", *ARGUMENTS, "--data", "digits")
    run("report", "own.ckpt", *ARGUMENTS, "--data", "digits")
    message = run("deploy", "own.ckpt", *SHAPE, code=2)
    assert "not a checkpoint of bitorch's Classifier; of one with the weights of your own model, name what" in message
    message = run("deploy", "own.ckpt", "--model", "mine.py:Net", *SHAPE, code=2)
    assert "own.ckpt may have low-bit layers and does not say how they compute" in message


def test_a_module_that_holds_several_nets() -> None:
    net = low_bit()
    train(OwnModule(net, "model", "averaged"))  # as "model" it is the one
    loaded = load_model("own.ckpt", "mine.py:Net", config=bitorch.LowBitConfig(1, 2))
    assert torch.equal(loaded.get_parameter("stem.weight"), net.get_parameter("stem.weight"))
    train(OwnModule(low_bit(), "net", "averaged"))
    with pytest.raises(ValueError, match=r"holds several nets like Net, under net\., averaged\.; save the state dict"):
        load_model("own.ckpt", "mine.py:Net", config=bitorch.LowBitConfig(1, 2))


def test_a_run_starts_from_any_checkpoint_with_its_weights(run: Any) -> None:
    net = net_of()
    train(OwnModule(net, "backbone"))
    start = ["--init", "own.ckpt", "--range", "learned", "--epochs", 1, "--batch-size", 256, "--accelerator", "cpu"]
    run("train", "--model", "mine.py:Net", "--lr", 1e-20, *start, "--out", "run")
    trained = read_checkpoint("run/last.ckpt").state_dict["stem.weight"]
    assert torch.equal(trained, net.get_parameter("stem.weight"))
    assert "does not fit the model LeNet8" in run("train", *start, code=2)


def test_a_state_dict_alone(run: Any) -> None:
    net = low_bit()
    torch.save(net.state_dict(), "weights.pt")
    run("deploy", "weights.pt", *ARGUMENTS, *SHAPE, "--out", "net.bit.safetensors")
    torch.save({"state_dict": net.state_dict()}, "wrapped.pt")
    assert load_model("wrapped.pt", "mine.py:Net", config=bitorch.LowBitConfig(1, 2)).state_dict().keys()
    larger = {**net.state_dict(), "other.weight": torch.zeros(1)}
    torch.save(larger, "larger.pt")
    message = run("deploy", "larger.pt", *ARGUMENTS, *SHAPE, code=2)
    assert "larger.pt does not fit the model Net: it has besides other.weight" in message
    torch.save({"net." + name: tensor for name, tensor in list(net.state_dict().items())[1:]}, "smaller.pt")
    assert "does not fit the model Net: it lacks stem.weight" in run("deploy", "smaller.pt", *ARGUMENTS, *SHAPE, code=2)


def test_what_is_passed_in_python() -> None:
    net = low_bit()
    train(Classifier(net, 10))
    x = torch.rand(2, 1, 8, 8)
    expected = net.eval()(x)
    for model in (net_of(), net_of, lambda num_classes: net_of()):
        assert torch.equal(load_model("own.ckpt", model, config=bitorch.LowBitConfig(1, 2))(x), expected)
    assert torch.equal(load_model("own.ckpt", net)(x), expected)
    with pytest.raises(ValueError, match="input_shape must be three numbers, channels, height and width"):
        load_model("own.ckpt", net, input_shape=(8, 8))
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module or a function that returns one, got 3"):
        load_model("own.ckpt", 3)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(
        ValueError, match="does not say the shape of its images, which model lenet-8 needs; pass input_shape"
    ):
        load_model("own.ckpt", "lenet-8", config=bitorch.LowBitConfig(1, 2))
    with pytest.raises(ValueError, match="does not fit the model LeNet8: it has the layers body 1 2"):
        load_model("own.ckpt", "lenet-8", config=bitorch.LowBitConfig(1, 2), input_shape=(1, 8, 8))
