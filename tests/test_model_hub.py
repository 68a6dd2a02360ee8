"""Trained weights from tables, files and folders, and nets with other ends."""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import inspect
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitorch import RuntimeMode, can_deploy, deploy, verify
from bitorch.layers import QConv2d, QConv2d_NoAct, QLinear
from bitorch.layers.config import config as layer_config
from bitorch.models import Model, Resnet18V1
from bitorch.models.lenet import LeNet
from bitorch.models.model_hub import (
    append_layers_to_model,
    apply_input_size,
    apply_output_size,
    convert_dtypes,
    download_version_table,
    get_children,
    get_input_size,
    get_matching_row,
    get_model_path,
    get_output_size,
    lightning_checkpoint_to_state_dict,
    load_from_hub,
    pop_first_layers,
    pop_last_layers,
    prepend_layers_to_model,
    set_layer_in_model,
    set_pad_value,
)

SHAPE = (1, 2, 8, 8)


class Small(Model):
    """A stem, a low-bit convolution that pads, and a classifier."""

    name = "Small"
    _model: nn.Sequential
    _default_arguments = (SHAPE, 5)

    def __init__(self, input_shape: Any, num_classes: int = 0, width: int = 8, quantizer: str = "sign") -> None:
        super().__init__(input_shape, num_classes)
        self._model = nn.Sequential(
            nn.BatchNorm2d(self._input_shape[1]),
            nn.Conv2d(self._input_shape[1], width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            QConv2d(width, width, 3, padding=1, input_quantization=quantizer),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )


def trained(**arguments: Any) -> Small:
    """A net with statistics, as after training, in eval mode."""
    torch.manual_seed(3)
    net = Small(SHAPE, 5, **arguments)
    for _ in range(3):
        net(torch.randn(8, *SHAPE[1:]))
    return net.eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def digest(file: Path) -> str:
    return base64.b64encode(hashlib.md5(file.read_bytes()).digest()).decode()


COLUMNS = ["model_name", "input_shape", "num_classes", "width", "model_hub_url", "model_digest"]


def write_table(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "versions.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A folder with a table and the weights of two nets."""
    folder = tmp_path / "hub of mine"
    folder.mkdir()
    rows = []
    for width in (4, 8):
        file = folder / f"small {width}.pt"
        torch.save(trained(width=width).state_dict(), file)
        shape = "(16, 2, 8, 8)" if width == 4 else "[1, 2, 8, 8]"
        rows.append({"model_name": "small", "input_shape": shape, "num_classes": 5, "width": "" if width == 8 else 4,
                     "model_hub_url": f"small%20{width}.pt", "model_digest": digest(file)})  # fmt: skip
    write_table(folder, *rows)
    return folder


# Leaves


def test_children_are_leaves_and_layers_with_their_quantizers() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(nn.Sequential(QConv2d(2, 3, 1), shared), shared, QLinear(3, 4))
    children = get_children(model)
    assert [path for path, _ in children] == ["0.0", "0.1", "1", "2"]
    assert [type(leaf) for _, leaf in children] == [QConv2d, nn.ReLU, nn.ReLU, QLinear]
    parametrized = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    assert [path for path, _ in get_children(nn.Sequential(parametrized))] == ["0"]
    assert get_children(nn.ReLU())[0][0] == ""
    with pytest.raises(TypeError, match="must be a torch"):
        get_children("net")  # type: ignore[arg-type]


def test_a_layer_is_put_into_a_model() -> None:
    inner = nn.Sequential(nn.ReLU())
    model, new = nn.Sequential(inner, nn.ReLU()), nn.Tanh()
    set_layer_in_model(model, "0.0", new)
    set_layer_in_model(model, ["1"], new)
    assert inner[0] is new is model[1]
    for path in ("2", "0.3", "0.0.weight", "3.1"):
        with pytest.raises(ValueError, match="there is no layer"):
            set_layer_in_model(model, path, new)
    with pytest.raises(ValueError, match="of the net itself"):
        set_layer_in_model(model, "", new)
    with pytest.raises(TypeError, match="layer must be"):
        set_layer_in_model(model, "0", nn.Tanh)  # type: ignore[arg-type]


def test_first_layers_are_popped() -> None:
    net = trained()
    before = net._model[1]
    path, size, popped = pop_first_layers(net)
    assert (path, size, type(popped)) == ("_model.1", 8, nn.Conv2d)
    assert popped is not before
    assert same(popped, before)
    assert [type(layer) for layer in list(net._model)[:3]] == [nn.Identity, nn.Identity, nn.BatchNorm2d]
    net = trained()
    path, size, popped = pop_first_layers(net, 2)
    assert (path, size, type(popped)) == ("_model.3", 8, QConv2d)
    assert type(net._model[4]) is nn.AdaptiveAvgPool2d


def test_last_layers_are_popped() -> None:
    net = trained(width=4)
    path, size, popped = pop_last_layers(net)
    assert (path, size, type(popped)) == ("_model.6", 4, nn.Linear)
    assert net(torch.rand(SHAPE)).shape == (1, 4)
    path, size, _ = pop_last_layers(net)
    assert (path, size) == ("_model.3", 4)
    assert all(type(layer) is nn.Identity for layer in list(net._model)[3:])
    with pytest.raises(ValueError, match="num_layers=3, but Small has 1 layers"):
        pop_last_layers(net, 3)
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        pop_last_layers(net, 0)


def test_sizes() -> None:
    net = trained(width=4)
    assert get_input_size(net) == (2, nn.Conv2d)
    assert get_output_size(net) == (5, nn.Linear)
    assert get_input_size(QLinear(3, 4)) == (3, QLinear)
    assert get_output_size(nn.ConvTranspose2d(3, 4, 1)) == (4, nn.ConvTranspose2d)
    assert get_input_size(nn.Sequential(nn.ReLU())) == get_output_size(nn.ReLU()) == (-1, None)


def test_other_sizes() -> None:
    net = trained()
    apply_input_size(net, [3, 16, 16])
    first = net._model[1]
    assert isinstance(first, nn.Conv2d)
    assert (first.stride, first.padding, first.bias) == ((2, 2), (1, 1), None)
    apply_output_size(net, torch.Size([11]))
    assert net(torch.rand(2, 3, 16, 16)).shape == (2, 11)
    mlp = nn.Sequential(QLinear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)).double()
    apply_input_size(mlp, [9])
    first = mlp[0]
    assert type(first) is nn.Linear
    assert first.bias is None
    assert mlp(torch.rand(2, 9).double()).shape == (2, 2)
    images = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    apply_output_size(images, [7, 1, 1])
    assert images(torch.rand(1, 2, 3, 3)).shape == (1, 7, 1, 1)
    assert type(images[1]) is nn.Identity
    with pytest.raises(NotImplementedError, match=r"\[4, 5\]"):
        apply_input_size(net, [4, 5])
    with pytest.raises(ValueError, match="is a Linear"):
        apply_output_size(net, [4, 5, 6])
    with pytest.raises(ValueError, match=r"size\[0\] must be at least 1"):
        apply_output_size(net, [0])
    with pytest.raises(TypeError, match="size must be"):
        apply_output_size(net, "10")
    assert get_output_size(net) == (11, nn.Linear)


def test_layers_in_front_and_behind() -> None:
    net = trained()
    joined = prepend_layers_to_model(net, nn.Conv2d(1, 4, 1))
    first = joined[1]
    assert isinstance(first, nn.Conv2d)
    assert first.weight.shape == (2, 4, 1, 1)
    joined = append_layers_to_model(joined, [nn.ReLU(), nn.Linear(20, 3)])
    assert joined(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert isinstance(joined[1], nn.Linear)
    assert (joined[1].in_features, joined[1].out_features) == (5, 20)
    assert len(append_layers_to_model(net, nn.Linear(5, 3))) == 2 == len(append_layers_to_model(net, nn.ReLU()))
    with pytest.raises(ValueError, match="ConvTranspose1d of 3"):
        prepend_layers_to_model(nn.ConvTranspose1d(3, 4, 1), nn.Conv1d(1, 2, 1))
    with pytest.raises(TypeError, match="layers must be"):
        append_layers_to_model(net, [nn.ReLU])  # type: ignore[list-item]


# Tables


def test_texts_are_what_they_stand_for() -> None:
    row = {"a": "3", "b": "[1, 2]", "c": "", "d": "True", "e": "Resnet18", "f": " 0.5", "g": "(1", "h": [1, "2"]}
    assert convert_dtypes(row) == {
        "a": 3, "b": (1, 2), "c": None, "d": True, "e": "Resnet18", "f": 0.5, "g": "(1", "h": (1, 2),
    }  # fmt: skip


def test_rows_match() -> None:
    both = {"model_name": "A", "input_shape": "(1, 3, 4, 4)"}
    table = [
        {**both, "width": "", "model_hub_url": "u", "model_digest": "d"},
        {**both, "width": "3", "model_hub_url": "v", "model_digest": ""},
    ]
    wanted = {"model_name": "a", "input_shape": [8, 3, 4, 4]}
    assert get_matching_row(table, wanted) is table[0]
    assert get_matching_row(table, {**wanted, "width": 3}) is table[1]
    assert get_matching_row(table, {**wanted, "width": 4}) is None
    assert get_matching_row(table, {**wanted, "depth": 4}) is None
    assert get_matching_row(table, {"model_name": "b"}) is None is get_matching_row([], wanted)
    assert get_model_path(table, wanted) == ("u", "d")
    with pytest.raises(RuntimeError, match=r"no weights for model_name=a, .*width=4; it has a with input_shape=.*; or"):
        get_model_path(table, {**wanted, "width": 4})
    with pytest.raises(RuntimeError, match=r"it has A$"):
        get_model_path(table, {"model_name": "b"})
    with pytest.raises(RuntimeError, match="has no model_digest"):
        get_model_path(table, {**wanted, "width": 3})


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(hub))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_tables_are_read(hub: Path, server: str, tmp_path: Path) -> None:
    table = download_version_table(hub)
    assert [row["width"] for row in table] == ["4", ""]
    assert table == download_version_table(hub / "versions.csv") == download_version_table(hub.as_uri())
    assert table == download_version_table(f"{server}/versions.csv")
    with pytest.raises(RuntimeError, match=r"other\.csv cannot be read: "):
        download_version_table(f"{server}/other.csv")
    with pytest.raises(RuntimeError, match="has 0 files"):
        download_version_table(tmp_path)
    with pytest.raises(RuntimeError, match="begins with ftp"):
        download_version_table("ftp://somewhere/table.csv")
    with pytest.raises(RuntimeError, match="cannot be read"):
        download_version_table(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RuntimeError, match="no column model_digest, model_hub_url, model_name"):
        download_version_table(tmp_path / "other.csv")
    with pytest.warns(UserWarning, match="going on with an empty version table"):
        assert download_version_table(tmp_path / "none.csv", no_exception=True) == []


def test_weights_are_downloaded_once(hub: Path, server: str, tmp_path: Path) -> None:
    kept = tmp_path / "deep" / "kept"
    load = partial(load_from_hub, f"{server}/versions.csv", kept, model_name="Small")
    state = load(width=4)
    wanted = trained(width=4).state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in state)
    assert [file.name for file in kept.iterdir()] == ["small 4.pt"]
    when = (kept / "small 4.pt").stat().st_mtime_ns
    (hub / "small 4.pt").unlink()  # from now on it is only here
    load(width=4)
    assert (kept / "small 4.pt").stat().st_mtime_ns == when
    (kept / "small 4.pt").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match=r"small%204\.pt cannot be read"):
        load(width=4)
    (hub / "small 4.pt").write_bytes(b"another")
    with pytest.raises(RuntimeError, match="has the MD5"):
        load(width=4)
    assert [file.read_bytes() for file in kept.iterdir()] == [b"damaged"]
    with pytest.raises(RuntimeError, match="there is no version table for model_name=Small"):
        load_from_hub("", model_name="Small")


def test_lightning_checkpoints(tmp_path: Path) -> None:
    net = trained()
    state = {f"model.{key}": value for key, value in net.state_dict().items()} | {"teacher.weight": torch.zeros(1)}
    checkpoint = {"state_dict": state, "hyper_parameters": argparse.Namespace(lr=0.1, model="small")}
    assert lightning_checkpoint_to_state_dict(checkpoint).keys() == net.state_dict().keys()
    with pytest.raises(ValueError, match="this one has epoch"):
        lightning_checkpoint_to_state_dict({"epoch": 3})
    with pytest.raises(ValueError, match="no key begins"):
        lightning_checkpoint_to_state_dict({"state_dict": {"a": torch.zeros(1)}})
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert same(Small.from_pretrained(tmp_path / "last.ckpt", input_shape=SHAPE, num_classes=5), net)


# Models


def test_from_a_table(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "version_table_url", hub.as_uri())
    monkeypatch.chdir(tmp_path)
    net = Small.from_pretrained(input_shape=[4, 2, 8, 8], num_classes=5)
    assert same(net, trained(width=8))  # the default, which an empty column fits
    assert (tmp_path / "bitorch_models" / "small 8.pt").is_file()
    assert same(Small.from_pretrained(input_shape=SHAPE, num_classes=5, width=4), trained(width=4))
    with pytest.raises(RuntimeError, match=r"no weights for model_name=Small, input_shape=.*num_classes=6"):
        Small.from_pretrained(input_shape=SHAPE, num_classes=6)
    monkeypatch.setattr(Small, "version_table_url", "")
    with pytest.raises(RuntimeError, match="there is no version table"):
        Small.from_pretrained(input_shape=SHAPE, num_classes=5)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "model._orig_mod.", "bare"])
def test_from_a_file(prefix: str, tmp_path: Path) -> None:
    net = trained()
    state = net.model().state_dict() if prefix == "bare" else {prefix + k: v for k, v in net.state_dict().items()}
    file = tmp_path / "weights.pt"
    torch.save(state, file)
    assert same(Small.from_pretrained(str(file), input_shape=SHAPE, num_classes=5), net)
    with pytest.raises(ValueError, match="do not fit Small: other shapes in"):
        Small.from_pretrained(file, input_shape=SHAPE, num_classes=6)


def test_in_another_mode(tmp_path: Path) -> None:
    net = trained()
    torch.save(net.state_dict(), tmp_path / "small.pt")
    packed = Small.from_pretrained(tmp_path / "small.pt", RuntimeMode.CPU, input_shape=SHAPE, num_classes=5).eval()
    assert type(packed._model[3]).__name__ == "PackedConv2d"
    x = torch.rand(2, *SHAPE[1:])
    with torch.no_grad():
        assert torch.equal(packed(x), net(x))


def test_wrong_sources(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        Small.from_pretrained(tmp_path / "none.pt", input_shape=SHAPE)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"it lacks .*it has besides other"):
        Small.from_pretrained(tmp_path / "other.pt", input_shape=SHAPE, num_classes=5)
    with pytest.raises(ValueError, match=r"has no config\.json"):
        Small.from_pretrained(tmp_path)


def test_arguments_are_kept_and_signatures_stay() -> None:
    class Wide(Small):
        def __init__(self, input_shape: Any, num_classes: int = 0) -> None:
            super().__init__(input_shape, num_classes, width=16)

    assert Small(SHAPE, 3, width=4)._arguments == {"input_shape": SHAPE, "num_classes": 3, "width": 4}
    assert Wide(SHAPE, 3)._arguments == {"input_shape": SHAPE, "num_classes": 3}
    assert list(inspect.signature(Wide).parameters) == ["input_shape", "num_classes"]
    with pytest.raises(TypeError, match="'depth'"):
        Small(SHAPE, depth=3)  # type: ignore[call-arg]


# Ends


def test_a_backbone(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "version_table_url", hub.as_uri())
    monkeypatch.chdir(tmp_path)
    net = Small.as_backbone(input_size=(3, 12, 12), output_size=[7])
    assert same(net._model[2:6], trained()._model[2:6])  # statistics among them
    assert net(torch.rand(2, 3, 12, 12)).shape == (2, 7)
    assert net.training
    net = Small.as_backbone(prepend_layers=nn.Conv2d(1, 6, 3, padding=1), append_layers=[nn.ReLU(), nn.Linear(9, 2)],
                            sanity_check=False)  # fmt: skip
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 2)
    features = Small.as_backbone(as_feature_extractor=True, input_shape=SHAPE, num_classes=5, width=4)
    assert features(torch.rand(SHAPE)).shape == (1, 4)


def test_backbones_that_cannot_be(tmp_path: Path) -> None:
    source = tmp_path / "small.pt"
    torch.save(trained().state_dict(), source)
    make = partial(Small.as_backbone, source=source, input_shape=SHAPE, num_classes=5)
    more = nn.Linear(5, 2)
    with pytest.raises(ValueError, match="input_size and prepend_layers say two things"):
        make(input_size=(3, 8, 8), prepend_layers=more)
    with pytest.raises(ValueError, match="output_size and append_layers"):
        make(output_size=[3], append_layers=more)
    with pytest.raises(ValueError, match="output_size and as_feature_extractor"):
        make(output_size=[3], as_feature_extractor=True)
    with pytest.raises(RuntimeError, match=r"does not take a batch \[2, 2, 8, 8\]"):
        make(prepend_layers=nn.Flatten())
    make(prepend_layers=nn.Flatten(), sanity_check=False)
    for cls in (Small, Model, LeNet):
        with pytest.raises(NotImplementedError, match="has no version_table_url"):
            cls.as_backbone()
        with pytest.raises(NotImplementedError):
            cls._load_default_model()


# Weights that BITorch has trained


def padded_with(value: float, x: Tensor, layer: QConv2d) -> Tensor:
    """What a convolution gives whose border is a value, from its definition."""
    q = nn.functional.pad(layer.input_quantization(x), (1, 1, 1, 1), value=value)
    return nn.functional.conv2d(q, layer.weight_quantization(layer.weight))


def test_padding_with_minus_one_loads_and_deploys(tmp_path: Path) -> None:
    """InputDoReFa pads with −1 in BITorch, with 0 here."""
    file = tmp_path / "bitorch.pt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in trained().state_dict().items()}}, file)
    make = partial(Small.from_pretrained, file, input_shape=SHAPE, num_classes=5, quantizer="inputdorefa")
    here, theirs = make().eval(), make(pad_value=-1).eval()
    x = torch.rand(4, *SHAPE[1:])
    layer = theirs._model[3]
    assert isinstance(layer, QConv2d)
    assert layer.pad_value == -1
    assert here._model[3].pad_value == 0
    inside = theirs._model[:3](x)
    torch.testing.assert_close(layer(inside), padded_with(-1, inside, layer))
    assert not torch.equal(here(x), theirs(x))
    packed = deploy(theirs, x[:1])
    torch.testing.assert_close(packed(x), theirs(x).detach())
    assert verify(theirs, packed, x).first_difference is None


@pytest.mark.slow
def test_a_resnet_that_was_trained_with_minus_one_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_config, "input_quantization", "inputdorefa")
    trained_there = Resnet18V1((1, 3, 32, 32), 10)
    trained_there(torch.rand(4, 3, 32, 32))
    torch.save(trained_there.state_dict(), tmp_path / "resnet.pt")
    net = Resnet18V1.from_pretrained(tmp_path / "resnet.pt", input_shape=(1, 3, 32, 32), num_classes=10, pad_value=-1)
    layers = [layer for layer in net.modules() if isinstance(layer, QConv2d)]
    assert {(layer.pad_value, layer.kernel_size) for layer in layers} == {(-1, (3, 3)), (0, (1, 1))}
    x = torch.rand(2, 3, 32, 32)
    packed = deploy(net.eval(), x)
    assert verify(net, packed, x).first_difference is None


def test_only_convolutions_that_say_nothing_get_the_value() -> None:
    net = nn.Sequential(
        QConv2d(2, 2, 3, padding=1, input_quantization="inputdorefa"),
        QConv2d(2, 2, 3, input_quantization="inputdorefa"),
        QConv2d(2, 2, 3, padding=1, input_quantization="sign", pad_value=1),
        QConv2d_NoAct(2, 2, 3, padding=1),
    )
    set_pad_value(net, -1)
    assert [layer.pad_value for layer in net] == [-1, 0, 1, -1]


def test_a_net_of_the_zoo_under_the_keys_of_bitorch(tmp_path: Path) -> None:
    net = LeNet((1, 1, 28, 28), 10, lenet_version=0)
    assert next(iter(net.state_dict())) == "_model.0.weight"
    torch.save(net.state_dict(), tmp_path / "lenet.pt")
    loaded = LeNet.from_pretrained(tmp_path / "lenet.pt", input_shape=(1, 1, 28, 28), num_classes=10, lenet_version=0)
    assert same(net, loaded)
    assert can_deploy(loaded.eval(), torch.rand(1, 1, 28, 28))
