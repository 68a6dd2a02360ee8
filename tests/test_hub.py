"""Nets as folders and as repositories of the Hugging Face hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bitorch.hub
from bitorch import LowBitConfig, PackedModel, Rule, calibrate, deploy, quantize_
from bitorch.layers import QConv2d
from bitorch.layers.config import config as layer_config
from bitorch.models import DLRM, LeNet8, Model, SingleIndexDLRM, models_by_name, register_custom_model
from bitorch.quantizations import InputDoReFa, Quantization, WeightLSQ

pytest.importorskip("huggingface_hub")
SHAPE = (1, 1, 8, 8)


class Tiny(Model):
    """One low-bit convolution."""

    name = "Tiny"
    _model: nn.Sequential

    def __init__(self, input_shape: Any, num_classes: int = 0, width: int = 4) -> None:
        super().__init__(input_shape, num_classes)
        self._model = nn.Sequential(
            nn.Conv2d(self._input_shape[1], width, 3),
            nn.BatchNorm2d(width),
            QConv2d(width, width, 3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )


class Half(Quantization):
    """Half of its input; for names of one's own."""

    bit_width = 32

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    register_custom_model(Tiny)
    yield
    del models_by_name["tiny"]


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, *SHAPE[1:], generator=torch.Generator().manual_seed(5))


def trained(net: nn.Module) -> Any:
    net.train()
    net(torch.randn(16, *SHAPE[1:]))
    return net.eval()


def same_results(one: Any, other: Any) -> bool:
    with torch.no_grad():
        return torch.equal(one(images()), other(images()))


def test_a_net_of_the_zoo_does_not_depend_on_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_config, "input_quantization", "inputdorefa")
    net = trained(Tiny(SHAPE, 3, width=6))
    net._model[2].gradient_cancellation_threshold = 0.5
    net._model[2].pad_value = -1
    bitorch.hub.save(net, tmp_path / "net")
    monkeypatch.undo()
    for loaded in (bitorch.hub.load(tmp_path / "net"), Tiny.from_pretrained(tmp_path / "net").eval()):
        assert isinstance(loaded, Tiny)
        layer: Any = loaded._model[2]
        assert isinstance(layer.input_quantization, InputDoReFa)
        assert (layer.pad_value, layer.gradient_cancellation_threshold) == (-1, 0.5)
        assert same_results(net, loaded)
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip


def test_a_learned_step_of_a_zoo_net_comes_along(tmp_path: Path) -> None:
    net = Tiny(SHAPE, 3)
    layer: Any = net._model[2]
    layer.weight_quantization = WeightLSQ(3)
    with torch.no_grad():
        layer.weight_quantization.step.mul_(1.25)
    bitorch.hub.save(trained(net), tmp_path)
    loaded: Any = bitorch.hub.load(tmp_path)
    assert same_results(net, loaded)
    assert loaded._model[2].weight_quantization.bit_width == 3


def test_a_zoo_net_that_was_converted(tmp_path: Path) -> None:
    config = LowBitConfig(2, 2, range="calibrated")
    net = Tiny(SHAPE, 3)
    quantize_(net, [Rule("_model.0", config)])
    calibrate(net, [images()])
    trained(net)
    with pytest.raises(ValueError, match="of one that quantize_ has converted, pass its config"):
        bitorch.hub.save(net, tmp_path)
    bitorch.hub.save(net, tmp_path, config=[Rule("_model.0", config)])
    assert same_results(net, bitorch.hub.load(tmp_path))
    with pytest.raises(ValueError, match="Tiny, converted, and not a plain Tiny"):
        Tiny.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        LowBitConfig(1, 2),
        LowBitConfig(2, 3, range="learned", learned_by="lsq+", first=8),
        [Rule("*", LowBitConfig(weights=WeightLSQ(2, channels=1), activation_bits=4)), Rule(nn.Linear, None)],
    ],
    ids=["config", "learned", "rules"],
)
def test_a_converted_net(config: Any, tmp_path: Path) -> None:
    net = LeNet8()
    quantize_(net, config)
    if isinstance(config, LowBitConfig) and config.range == "learned":
        calibrate(net, [images()])
    trained(net)
    bitorch.hub.save(net, tmp_path, config=config, card="Trained on digits.", license="mit")
    model = LeNet8()
    loaded: Any = bitorch.hub.load(tmp_path, model)
    assert same_results(net, loaded)
    assert not loaded.training
    assert not any(isinstance(module, QConv2d) for module in model.modules())  # it was copied
    card = (tmp_path / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: "bitorch"\n')
    assert 'license: "mit"' in card
    assert f"bitorch.hub.load('{tmp_path}', model)" in card
    assert card.endswith("Trained on digits.\n")
    with pytest.raises(ValueError, match="holds a LeNet8 that was converted: pass model"):
        bitorch.hub.load(tmp_path)
    with pytest.raises(ValueError, match=r"quantizes in other layers|do not fit|matches no layer"):
        bitorch.hub.load(tmp_path, nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)))


def test_a_packed_net(tmp_path: Path) -> None:
    packed = deploy(trained(Tiny(SHAPE, 3)), images(), class_names=["a", "b", "c"])
    bitorch.hub.save(packed, tmp_path)
    loaded = bitorch.hub.load(str(tmp_path))
    assert isinstance(loaded, PackedModel)
    assert loaded.class_names == ("a", "b", "c")
    assert same_results(packed, loaded)
    assert (tmp_path / "net.bit.safetensors").stat().st_size == packed.nbytes
    assert f"{packed.nbytes:,} bytes" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="kind packed, which is built without a model"):
        bitorch.hub.load(tmp_path, LeNet8())
    with pytest.raises(ValueError, match="takes no config"):
        bitorch.hub.save(packed, tmp_path, config=LowBitConfig(1, 1))
    with pytest.raises(ValueError, match="and not a plain Tiny"):
        Tiny.from_pretrained(tmp_path)


def test_quantizers_of_ones_own_need_a_name(tmp_path: Path) -> None:
    net = Tiny(SHAPE, 3)
    net._model[2].input_quantization = Half()
    trained(net)
    with pytest.raises(ValueError, match=r"input_quantization of _model\.2 is a Half, which a file has no name for"):
        bitorch.hub.save(net, tmp_path)
    assert list(tmp_path.iterdir()) == []
    bitorch.hub.save(net, tmp_path, quantizers={"half": Half})
    with pytest.raises(ValueError, match="'half', which is not known here"):
        bitorch.hub.load(tmp_path)
    assert same_results(net, bitorch.hub.load(tmp_path, quantizers={"half": Half}))


def test_dlrm_comes_back(tmp_path: Path) -> None:
    net = DLRM(13, [7, 9, 8], bottom_mlp_layer_sizes="[4]", top_mlp_layer_sizes=[5, 1], embedding_dimension=4).eval()
    bitorch.hub.save(net, tmp_path)
    loaded = bitorch.hub.load(tmp_path)
    assert isinstance(loaded, DLRM)
    x: tuple[torch.Tensor, ...] = torch.rand(2, 13), *[torch.tensor([[1], [6]])] * 3
    assert torch.equal(SingleIndexDLRM(net)(*x), SingleIndexDLRM(loaded)(*x))


def test_what_cannot_be_built_again_is_not_saved(tmp_path: Path) -> None:
    net = Tiny(SHAPE, 3)
    net._model[5] = nn.Linear(4, 9)
    with pytest.raises(ValueError, match=r"is not as it was built: other shapes in _model\.5\.weight"):
        bitorch.hub.save(net, tmp_path)
    with pytest.raises(ValueError, match=r"was built with torch\.float32"):
        bitorch.hub.save(_with_dtype(), tmp_path)
    with pytest.raises(ValueError, match=r"is none of bitorch\.models' zoo"):
        bitorch.hub.save(nn.Linear(2, 2), tmp_path)
    with pytest.raises(ValueError, match="has no low-bit layer"):
        bitorch.hub.save(nn.Linear(2, 2), tmp_path, config=LowBitConfig(1, 1))
    with pytest.raises(TypeError, match="net must be"):
        bitorch.hub.save({}, tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def _with_dtype() -> Tiny:
    net = Tiny(SHAPE, 3)
    net._arguments["dtype"] = torch.float32
    return net


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        bitorch.hub.load(tmp_path / "none" / "there")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        bitorch.hub.load(tmp_path)
    file = tmp_path / "config.json"
    for text, what in {
        "{": "is no JSON", "[]": 'has no "format"', '{"format": "other"}': 'has no "format"',
        '{"format": "bitorch hub, 1", "kind": "new"}': "of kind 'new'",
        '{"format": "bitorch hub, 1", "kind": "zoo", "model": "Tiny"}': "has no arguments, quantizers",
    }.items():  # fmt: skip
        file.write_text(text)
        with pytest.raises(ValueError, match=what):
            bitorch.hub.load(tmp_path)
    with pytest.raises(ValueError, match="is a file; name the folder"):
        bitorch.hub.load(file)
    bitorch.hub.save(Tiny(SHAPE, 3), tmp_path)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "model": "Unknown"}))
    with pytest.raises(ValueError, match="no model is named 'Unknown'"):
        bitorch.hub.load(tmp_path)
    file.write_text(json.dumps({**content, "arguments": {"input_shape": SHAPE, "depth": 3}}))
    with pytest.raises(ValueError, match=r"arguments that Tiny does not take: .*'depth'"):
        bitorch.hub.load(tmp_path)
    file.write_text(json.dumps({**content, "arguments": [], "quantizers": 3}))
    with pytest.raises(ValueError, match="something else than a mapping for arguments, quantizers"):
        bitorch.hub.load(tmp_path)


class FakeHub:
    """In place of HfApi: repositories are folders below one."""

    root: Path

    def __init__(self, token: str | None = None) -> None:
        assert token in (None, "secret")

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> str:
        assert exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str, revision: str | None) -> None:
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)


def test_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub.root = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    asked = []

    def snapshot_download(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert allow_patterns == ["config.json", "*.safetensors"]
        asked.append((repo_id, revision))
        return str(FakeHub.root / repo_id)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    net = trained(Tiny(SHAPE, 3))
    assert bitorch.hub.push(net, "me/tiny-net", token="secret") == "https://huggingface.co/me/tiny-net"
    assert "bitorch.hub.load('me/tiny-net')" in (FakeHub.root / "me/tiny-net/README.md").read_text()
    assert same_results(net, bitorch.hub.load("me/tiny-net", revision="v1"))
    assert same_results(net, Tiny.from_pretrained("me/tiny-net").eval())
    assert asked == [("me/tiny-net", "v1"), ("me/tiny-net", None)]
    bitorch.hub.push(deploy(net, images()), "me/packed")
    assert isinstance(bitorch.hub.load("me/packed"), PackedModel)
    with pytest.raises(ValueError, match="zoo"):
        bitorch.hub.push(nn.Linear(2, 2), "me/other")
    assert not (FakeHub.root / "me/other").exists()
