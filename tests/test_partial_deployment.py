"""A partial deployment is a model, and has a file."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch
from bitorch import PartialDeployment
from bitorch.layers import QLinear
from bitorch.quantizations import InputDoReFa, WeightDoReFa


class Net(nn.Module):
    """Convolutions and layers on tokens, with a float norm between them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3)
        self.second = nn.Conv2d(width, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 8)
        self.last = nn.Linear(8, 3)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        y = self.second(self.first(x)).flatten(2).transpose(1, 2)
        y = F.gelu(self.hidden(self.norm(y)))
        return {"scores": self.last(y).mean(1) * scale}


RANGES = ("unit", "calibrated", "learned")


def net(range_: Any = "unit", *, seed: int = 0, bits: int = 2, width: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    model = Net(width)
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=bits, range=range_, last=8))
    return model.eval()


def trained(range_: Any = "unit") -> nn.Module:
    model = net(range_, seed=1)
    if range_ != "unit":
        bitorch.calibrate(model, [torch.randn(8, 1, 6, 6)])
    return model


X = torch.randn(2, 1, 6, 6)


def test_it_is_called_like_a_model() -> None:
    model = trained()
    deployment = bitorch.deploy(model, X, partial=True)
    with torch.no_grad():
        expected = model(X, scale=2.0)["scores"]
        assert torch.equal(deployment(X, scale=2.0)["scores"], expected)
        assert torch.equal(deployment.eval()(X, scale=2.0)["scores"], expected)
    assert isinstance(deployment, nn.Module)
    assert not any(module.training for module in deployment.modules())
    assert "model.second.packed_weight" in deployment.state_dict()
    assert str(deployment).splitlines()[0].startswith("layer")
    assert bitorch.report(deployment, X, repeats=1).deployment in ("none", "partial")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_and_pickles(copied: Callable[[PartialDeployment], PartialDeployment]) -> None:
    deployment = bitorch.deploy(trained(), X, partial=True)
    other = copied(deployment)
    with torch.no_grad():
        assert torch.equal(other(X)["scores"], deployment(X)["scores"])
    assert other.rows == deployment.rows
    assert str(other) == str(deployment)


@pytest.mark.parametrize("range_", RANGES)
def test_files(range_: str, tmp_path: Path) -> None:
    model = trained(range_)
    deployment = bitorch.deploy(model, X, partial=True)
    deployment.save(tmp_path / "net.pt")
    new = net(range_)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    loaded = PartialDeployment.load(tmp_path / "net.pt", new)
    with torch.no_grad():
        assert torch.equal(loaded(X)["scores"], model(X)["scores"])
    assert loaded.rows == deployment.rows
    after = new.state_dict()
    assert all(torch.equal(after[name], tensor) | bool(tensor.isnan().all()) for name, tensor in before.items())
    assert not any(tensor.requires_grad for tensor in loaded.state_dict().values())
    again = tmp_path / "again.pt"
    loaded.save(again)
    with torch.no_grad():
        assert torch.equal(PartialDeployment.load(str(again), model)(X)["scores"], model(X)["scores"])


def test_attention_and_shared_layers(tmp_path: Path) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = QLinear(8, 8, weight_quantization=WeightDoReFa(2), input_quantization=InputDoReFa(2))
            self.one, self.two = layer, layer
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x)[0]
            z: Tensor = self.two(self.one(y))
            return z

    def make() -> nn.Module:
        model = Shared()
        bitorch.quantize_(
            model, bitorch.LowBitConfig(weight_bits=2, activation_bits=2, first="same", last="same"), {"attention"}
        )
        return model.eval()

    model, x = make(), torch.rand(2, 5, 8)
    bitorch.deploy(model, x, partial=True).save(tmp_path / "net.pt")
    loaded = PartialDeployment.load(tmp_path / "net.pt", make())
    assert loaded.model.one is loaded.model.two
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))


def test_other_models(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    bitorch.deploy(trained(), X, partial=True).save(path)
    for model, said in (
        (net(bits=3), r"layer 'second' is .*\"activation_bits\": 2.* there, and .*\"activation_bits\": 3"),
        (net(width=7), r"of another model: layer 'second'"),
        (net("calibrated"), r"of another model: of the tensors second\.input_quantization\.… it lacks"),
        (Net().eval(), r"layer 'second' is packed there, and the model has a Conv2d"),
        (nn.Sequential(net()).eval(), r"'second' is packed there, and the model has no layer of this name"),
        (net().train(), r"in training mode"),
    ):
        with pytest.raises(ValueError, match=said):
            PartialDeployment.load(path, model)
    with pytest.raises(TypeError, match="got str"):
        PartialDeployment.load(path, "net")  # type: ignore[arg-type]


class Hostile:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code of a file was run",)


@pytest.mark.parametrize(
    "content",
    [
        Hostile(),
        {"format": "bitorch partial deployment, 1", "layers": Hostile(), "state": {}},
        3,
        {},
        {"format": "bitorch partial deployment, 1"},
        {"format": "bitorch partial deployment, 1", "layers": {"second": "{}"}, "state": {}},
        {"format": "bitorch partial deployment, 1", "layers": {1: "{}"}, "state": {}},
        {"format": "bitorch partial deployment, 1", "layers": {}, "state": {"count": 3}},
        {"format": "bitorch partial deployment, 1", "layers": {}, "state": {}},
        {
            "format": "bitorch partial deployment, 1",
            "layers": {},
            "state": {"count": torch.zeros(1).expand(10**6, 10**6)},
        },
    ],
)
def test_files_that_are_none(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"net\.pt is (no file of a partial deployment|of another model)"):
        PartialDeployment.load(path, net())


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        PartialDeployment.load(tmp_path / "none.pt", net())
    with pytest.raises(IsADirectoryError):
        PartialDeployment.load(tmp_path, net())
    with pytest.raises(OSError, match="net"):
        bitorch.deploy(trained(), X, partial=True).save(tmp_path / "none" / "net.pt")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    if not path.exists():
        bitorch.deploy(trained(), X, partial=True).save(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    other = tmp_path / "other.pt"
    other.write_bytes(damaged)
    try:
        loaded = PartialDeployment.load(other, net())
    except ValueError as error:
        assert "other.pt" in str(error)  # noqa: PT017
        return
    expected = PartialDeployment.load(path, net()).state_dict()  # the bit was one of zip's own
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_a_state_that_is_more_than_tensors(tmp_path: Path) -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> str:
            return "more"

        def set_extra_state(self, state: str) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return x

    model = nn.Sequential(
        QLinear(4, 4, weight_quantization=WeightDoReFa(1), input_quantization=InputDoReFa(1)), Extra()
    )
    deployment = bitorch.deploy(model.eval(), torch.rand(2, 4), partial=True)
    with pytest.raises(ValueError, match=r"more than tensors: 1\._extra_state"):
        deployment.save(tmp_path / "net.pt")
    assert not list(tmp_path.iterdir())
