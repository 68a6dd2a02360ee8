"""What `export_onnx` and `verify_onnx` say and leave behind, whatever the dialect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import torch
from torch import nn

import bitorch
from bitorch.deployment.onnx import session
from bitorch.deployment.onnx.onnx_net import OnnxNet
from bitorch.deployment.onnx.verification import OnnxVerification, verify_onnx, verify_onnx_batches
from bitorch.models import LeNet8

IMAGE = torch.rand(1, 1, 8, 8)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net = LeNet8(width=0.25)
    bitorch.quantize_(net, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(norm.weight, -1, 1)
            nn.init.uniform_(norm.bias, 0, 1)  # so that codes are not 0 throughout
    return net.eval()


@pytest.fixture(scope="module")
def file(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    names = [str(k) for k in range(10)]
    bitorch.export_onnx(
        model,
        IMAGE,
        path=path,
        pixels=True,
        class_names=names,
        preprocessing={"size": [8, 8]},
        provenance={"run": "one"},
    )
    return path


def edited(file: Path, folder: Path, change: object) -> Path:
    """The file with a change."""
    proto = onnx.load(file)
    change(proto)  # type: ignore[operator]
    path = folder / "edited.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_metadata(file: Path) -> None:
    net = OnnxNet(file)
    assert net.class_names == tuple("0123456789")
    assert net.preprocessing == {"size": [8, 8]}
    assert net.provenance is not None
    assert net.provenance["run"] == "one"
    assert net.provenance["model"] == "LeNet8"
    assert net.provenance["bits"]["layers.3"] == [1, 2]
    assert {"bitorch", "torch", "onnx"} <= net.provenance.keys()
    assert (net.dialect, net.opset, net.is_edited) == ("integer", 21, False)
    assert (net.inputs[0].dtype, net.inputs[0].shape) == (torch.uint8, (1, 8, 8))
    assert net.outputs[0].shape == (10,)


def test_two_exports_of_one_model_are_one_file(model: nn.Module, tmp_path: Path) -> None:
    for name in ("one", "two"):
        bitorch.export_onnx(model, IMAGE, path=tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch(model: nn.Module, file: Path, batch: int) -> None:
    pixels = torch.randint(0, 256, (batch, 1, 8, 8), dtype=torch.uint8)
    verification = verify_onnx(model, file, pixels)
    assert verification, str(verification)
    assert str(verification).startswith("equal: ")


def test_an_edited_number_is_found_by_its_hash_and_by_numbers(model: nn.Module, file: Path, tmp_path: Path) -> None:
    def flip(proto: onnx.ModelProto) -> None:
        packed = [tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.UINT8]
        weight = max(packed, key=lambda tensor: len(tensor.raw_data))
        half = len(weight.raw_data) // 2  # some inputs are 0 in all images
        weight.raw_data = bytes(byte ^ 255 for byte in weight.raw_data[:half]) + weight.raw_data[half:]

    path = edited(file, tmp_path, flip)
    pixels = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
    verification = verify_onnx(model, path, pixels)
    assert not verification
    assert verification.is_edited
    assert verification.first_difference is not None
    assert "edited after it was exported" in str(verification)
    both = OnnxVerification.of_batches(verify_onnx_batches(model, OnnxNet(path), [(pixels,), (pixels,)]))
    assert not both
    assert both.is_edited


def test_an_edited_note_is_found_by_its_hash_alone(model: nn.Module, file: Path, tmp_path: Path) -> None:
    def rename(proto: onnx.ModelProto) -> None:
        proto.producer_name = "somebody"

    verification = verify_onnx(model, edited(file, tmp_path, rename), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert verification.first_difference is None
    assert not verification


def test_another_models_numbers_differ(file: Path) -> None:
    torch.manual_seed(1)
    other = LeNet8(width=0.25)
    bitorch.quantize_(other, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    verification = verify_onnx(other.eval(), file, torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8))
    assert not verification
    assert not verification.is_edited


def test_another_network_is_refused(file: Path) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10))
    bitorch.quantize_(other, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    with pytest.raises(ValueError, match="is of another network"):
        verify_onnx(other.eval(), file, torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_files_that_are_none_of_ours(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not at all")
    with pytest.raises(ValueError, match=r"net\.onnx is no ONNX file"):
        OnnxNet(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"net\.onnx was not written by bitorch\.export_onnx"):
        OnnxNet(path)

    def forget(proto: onnx.ModelProto) -> None:
        del proto.metadata_props[:]

    with pytest.raises(ValueError, match="its metadata was taken away"):
        OnnxNet(edited(file, tmp_path, forget))
    with pytest.raises(FileNotFoundError):
        OnnxNet(tmp_path / "none.onnx")


def test_an_opset_that_is_too_new_names_the_one_that_would_do(file: Path, tmp_path: Path) -> None:
    newest = session.newest_opset(60)
    assert newest >= 21

    def newer(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = newest + 2

    with pytest.raises(ValueError, match=rf"is of opset {newest + 2}, and ONNX Runtime .* takes up to {newest}: "):
        OnnxNet(edited(file, tmp_path, newer))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"dialect": "intger"},
            r"dialect must be one of 'integer', 'qcdq', 'qonnx', got 'intger'; did you mean 'integer'",
        ),
        ({"opset": 20}, r"opset must be 21 to \d+ with dialect='integer' and onnx .*, got 20; leave it out for 21"),
        ({"opset": 999}, r"got 999"),
        ({"opset": 21.0}, r"got 21\.0"),
    ],
)
def test_wrong_arguments(model: nn.Module, arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        bitorch.export_onnx(model, IMAGE, path=tmp_path / "net.onnx", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        bitorch.can_export(model, IMAGE, **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_notes_that_json_has_not(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="preprocessing must be of types that JSON has"):
        bitorch.export_onnx(model, IMAGE, path=tmp_path / "net.onnx", preprocessing={"mean": IMAGE})


def test_paths_that_cannot_be_written(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        bitorch.export_onnx(model, IMAGE, path=tmp_path)
    with pytest.raises(FileNotFoundError):
        bitorch.export_onnx(model, IMAGE, path=tmp_path / "none" / "net.onnx")


def test_an_old_file_stays_when_the_disk_is_full(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        bitorch.export_onnx(model, IMAGE, path=path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_captured_is_told_before_anything_is_written(tmp_path: Path) -> None:
    float_net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    can = bitorch.can_export(float_net, IMAGE)
    assert not can
    assert "no low-bit layer" in str(can)
    with pytest.raises(ValueError, match="no low-bit layer"):
        bitorch.export_onnx(float_net, IMAGE, path=tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_can_export_says_yes(model: nn.Module) -> None:
    assert bitorch.can_export(model, IMAGE)
    assert str(bitorch.can_export(model, IMAGE)) == "the model can be deployed"


def test_several_outputs_have_the_names_of_the_packed_net(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.middle(torch.relu(self.first(x)))
            z = self.last(torch.relu(y))
            return {"features": y, "scores": z, "again": z}

    model = Two()
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    x = torch.rand(4, 6)
    written = bitorch.export_onnx(model.eval(), x, path=tmp_path / "net.onnx")
    packed = bitorch.deploy(model, x)
    assert written.outputs == tuple(spec.name for spec in packed.outputs)
    assert verify_onnx(model, written.path, x)
    results = OnnxNet(written.path)(x)
    assert isinstance(results, dict)
    assert list(results) == list(written.outputs)


def test_metadata_is_json(file: Path) -> None:
    notes = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(notes["bitorch.class_names"])[3] == "3"
    assert len(notes["bitorch.sha256"]) == 64


def test_a_dialect_of_floats_is_compared_in_its_results(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    bitorch.export_onnx(model, IMAGE, path=path, dialect="qcdq")
    verification = verify_onnx(model, path, torch.rand(8, 1, 8, 8))
    assert verification, str(verification)
    assert [one.exact for one in verification.comparisons] == [False]
    bitorch.export_onnx(model, IMAGE, path=path, dialect="qonnx")
    with pytest.raises(ValueError, match="dialect 'qonnx', whose operators ONNX Runtime has not"):
        verify_onnx(model, path, IMAGE)
