"""Float weights from elsewhere, and networks of other packages, through the trainer and its commands."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bitorch import LowBitConfig, calibrate, quantize_
from bitorch.cli import main
from bitorch.models import build
from bitorch.state_dict_file import read_state_dict
from bitorch.train import Settings, evaluate, fit, load_model, prepare, read_checkpoint, read_settings
from bitorch.train.weights_file import load_weights_file
from test_train import assert_same_state, short

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


def net(num_classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("lenet-8", 1, num_classes)


def as_safetensors(state: dict[str, Tensor], path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    save_file(state, path)
    return path


def as_pytorch(wrap: Callable[[dict[str, Tensor]], Any]) -> Callable[[dict[str, Tensor], Path], Path]:
    def write(state: dict[str, Tensor], path: Path) -> Path:
        torch.save(wrap(state), path)
        return path

    return write


FORMATS = {
    "safetensors": as_safetensors,
    "state dict": as_pytorch(lambda state: state),
    "state_dict": as_pytorch(lambda state: {"epoch": 3, "state_dict": state}),
    "model": as_pytorch(lambda state: {"model": state, "args": {"lr": 0.1}}),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads_every_weight(form: str, tmp_path: Path) -> None:
    state = net(seed=1).state_dict()
    path = FORMATS[form](state, tmp_path / "weights.pth")
    model = net()
    load_weights_file(model, path, 10, new_head=False)
    assert_same_state(model.state_dict(), state)


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    state = {name: t for name, t in net(seed=1).state_dict().items() if "num_batches" not in name}
    model = net()
    load_weights_file(model, FORMATS["safetensors"](state, tmp_path / "w"), 10, new_head=False)
    assert torch.equal(model.state_dict()["layers.4.running_var"], state["layers.4.running_var"])


@pytest.mark.parametrize("new_head", [False, True])
def test_another_architecture_is_refused(new_head: bool, tmp_path: Path) -> None:
    state = net(seed=1).state_dict()
    state["layers.99.weight"] = state.pop("layers.0.weight")
    state["layers.3.weight"] = torch.zeros(64, 32, 5, 5)
    path = FORMATS["state dict"](state, tmp_path / "w.pt")
    model = net()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"w\.pt do not fit the model LeNet8: it lacks layers\.0\.weight; ") as raised:
        load_weights_file(model, path, 10, new_head=new_head)
    assert "it has besides layers.99.weight" in str(raised.value)
    assert "other shapes in layers.3.weight [64, 32, 5, 5] instead of [64, 32, 3, 3]" in str(raised.value)
    assert "--new-head" not in str(raised.value)
    assert_same_state(model.state_dict(), before)


def test_a_head_of_other_classes_is_named_or_left_out(tmp_path: Path) -> None:
    state = net(1000, seed=1).state_dict()
    path = FORMATS["safetensors"](state, tmp_path / "w")
    model = net()
    (head,) = [name for name in model.state_dict() if model.state_dict()[name].shape == (10, 128)]
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"{head} \[1000, 128\] instead of \[10, 128\]") as raised:
        load_weights_file(model, path, 10, new_head=False)
    bias = head.replace("weight", "bias")
    hint = f"{head}, {bias}: the file's head has 1000 classes, the data 10; with --new-head it is left out"
    assert hint in str(raised.value)
    assert_same_state(model.state_dict(), before)
    load_weights_file(model, path, 10, new_head=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in (head, bias) else state[name])


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "w.pt", r"w\.pt is no PyTorch file of tensors alone, or a damaged one"),
        (b"hello", "w.pt", r"w\.pt is no PyTorch file .* it does not begin like a PyTorch file"),
        (b"\x80\x02hello", "w.pt", r"w\.pt is no PyTorch file of tensors alone, or a damaged one"),
        ({}, "w.pt", r"w\.pt holds an empty mapping, and no state dict"),
        (b"abc", "w.safetensors", r"w\.safetensors is no safetensors file, or a damaged one"),
        ({"a": 3, "b": 4}, "w.pt", r"w\.pt holds a mapping with a, b, and no state dict"),
        ([torch.zeros(3)], "w.pt", r"w\.pt holds no mapping, and no state dict; save model\.state_dict\(\) alone"),
        (nn.Linear(2, 2), "w.pt", r"is no PyTorch file of tensors alone, .*; model\.state_dict\(\) has these alone"),
    ],
)
def test_other_files(content: Any, name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_state_dict(path)


def test_the_first_layer_of_a_net_for_colours_is_summed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    colours = build("lenet-8", 3, 10).eval()
    path = as_safetensors(colours.state_dict(), tmp_path / "w")
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"layers\.0\.weight: the file's is for 3 channels.*--sum-channels"):
        load_weights_file(model, path, 10)
    assert_same_state(model.state_dict(), before)
    load_weights_file(model, path, 10, sum_channels=True)
    grey = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(model.eval()(grey), colours(grey.expand(-1, 3, -1, -1)))


def test_keys_of_a_wrapped_model_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({f"module.{name}": tensor for name, tensor in net().state_dict().items()}, path)
    with pytest.raises(ValueError, match=r"all its keys begin with 'module\.': save model\.module\.state_dict\(\)"):
        load_weights_file(net(), path, 10, new_head=False)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    state = {**before, "layers.14.weight": before["layers.14.weight"] / 0}
    path = tmp_path / "w.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"w\.pt are not finite in layers\.14\.weight; take a file from before that"):
        load_weights_file(model, path, 10, new_head=False)
    assert_same_state(model.state_dict(), before)


def test_missing_file_and_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file of weights nowhere\.pt"):
        read_state_dict(Path("nowhere.pt"))
    path = as_safetensors(net().state_dict(), tmp_path / "w")
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("safetensors"):
            raise ModuleNotFoundError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="needs the package safetensors: pip install safetensors"):
        read_state_dict(path)


def test_a_run_starts_from_the_weights(tmp_path: Path) -> None:
    state = net(20, seed=1).state_dict()
    path = as_safetensors(state, tmp_path / "w")
    settings = short(weights=path, new_head=True, out=tmp_path / "run")
    run = prepare(settings)
    started = run.model.state_dict()
    assert torch.equal(started["layers.3.weight"], state["layers.3.weight"])
    result = run.train(show=False)
    assert "weights" in read_settings(result.folder / "settings.yaml")
    assert Settings.from_dict(read_settings(result.folder / "settings.yaml")) == short()
    again = read_checkpoint(result.last_checkpoint).settings
    assert again is not None
    assert (again.weights, again.new_head) == (path, True)
    path.unlink()  # a run that goes on does not need it
    assert main(["train", "--resume", str(result.last_checkpoint), "--epochs", "2"]) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": "a", "init": "b"}, "init and weights exclude each other"),
        ({"weights": "a", "resume": "b"}, "resume and weights exclude each other"),
        ({"sum_channels": True}, "sum_channels is about the weights of another program, and there are none"),
        ({"new_head": True}, "new_head is about the weights of another program, and there are none"),
        ({"model": "timm"}, "model must be one of svhn-a, .*, or timm:NAME or torchvision:NAME, .*, got 'timm'"),
    ],
)
def test_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_a_network_of_timm_trains_resumes_evaluates_and_deploys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm")
    timm_net = build("timm:test_resnet", 1, 5)
    path = as_safetensors(timm_net.state_dict(), tmp_path / "w")
    flags = [
        "--model",
        "timm:test_resnet",
        "--epochs",
        "1",
        "--batch-size",
        "700",
        "--accelerator",
        "cpu",
        "--pad-to",
        "32",
    ]
    out = tmp_path / "run"
    assert main(["train", *flags, "--weights", str(path), "--out", str(out)]) == 2
    assert "the file's head has 5 classes, the data 10; with --new-head" in capsys.readouterr().err
    assert main(["train", *flags, "--weights", str(path), "--new-head", "--out", str(out)]) == 0
    assert "AbsorbedReLU" not in capsys.readouterr().out
    last = out / "last.ckpt"
    assert main(["train", "--resume", str(last), "--epochs", "2"]) == 0
    checkpoint = read_checkpoint(last)
    assert (checkpoint.epoch, str(checkpoint)) == (2, f"{last} (timm:test_resnet, bits 1 2 6)")
    assert evaluate(last, accelerator="cpu").top1 == checkpoint.history[-1]["val/acc"]
    assert main(["deploy", str(last), "-o", str(tmp_path / "net.bit.safetensors"), "--image-size", "8", "8"]) == 0
    assert main(["eval", str(tmp_path / "net.bit.safetensors")]) == 0


def test_a_network_of_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("timm")  # they come together
    fields = {"model": "torchvision:squeezenet1_1", "pad_to": 20, "width": 1.0}
    run = prepare(short(**fields, out=tmp_path / "run"))
    assert run.settings.name == "digits-torchvision-squeezenet1_1-w1a2g6-seed0"
    with pytest.raises(ValueError, match=r"torchvision:squeezenet1_1 takes no width, got 0\.5"):
        prepare(short(**{**fields, "width": 0.5}))
    with pytest.raises(ValueError, match="squeezenet1_9"):
        prepare(short(model="torchvision:squeezenet1_9"))
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_load_model_builds_what_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    result = fit(short(model="timm:test_resnet", pad_to=16, out=tmp_path / "run"), show=False)
    model = load_model(result.last_checkpoint)
    assert_same_state(dict(model.state_dict()), read_checkpoint(result.last_checkpoint).state_dict)


@pytest.mark.parametrize("form", ["safetensors", "state dict"])
def test_a_net_from_a_file_without_batch_counters_calibrates_by_its_statistics(form: str, tmp_path: Path) -> None:
    source = net(seed=1)
    for norm in (module for module in source.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)):
        assert norm.running_var is not None
        norm.running_var.fill_(100.0)
    state = {name: t for name, t in source.state_dict().items() if "num_batches" not in name}
    model, with_counter = net(), source
    load_weights_file(model, FORMATS[form](state, tmp_path / "w"), 10)
    for norm in (module for module in with_counter.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)):
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.fill_(50)
    config = LowBitConfig(2, 2, range="calibrated")
    images = [torch.rand(8, 1, 8, 8)]
    found = []
    for each in (model, with_counter):
        quantize_(each, config)
        found.append(calibrate(each, images).ranges)
    assert found[0] == found[1]
