"""`bitorch export --onnx`, and `bitorch verify` of an ONNX file, as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from bitorch.cli import main
from bitorch.train import Settings, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(Settings(epochs=1, batch_size=100, out=folder / "run", accelerator="cpu"), show=False)
    return folder / "run" / "last.ckpt"


@pytest.fixture(scope="module")
def file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "net.onnx"
    assert main(["export", str(checkpoint), "--onnx", str(path)]) == 0
    return path


def test_export_prints_what_was_written(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    assert main(["export", str(checkpoint), "--onnx", str(path), "--float-input", "--opset", "22"]) == 0
    printed = capsys.readouterr().out
    assert "integer, opset 22" in printed
    assert "2 of 3 low-bit layers" in printed
    assert "bit for bit" in printed
    assert f"{path.stat().st_size:,} bytes" in printed
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_says_what_the_run_was(file: Path) -> None:
    notes = {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props if "{" in entry.value}
    assert notes["bitorch.provenance"]["run"]["data"] == "digits"
    assert notes["bitorch.preprocessing"]["size"] == [8, 8]


def test_verify_compares_all_test_images(checkpoint: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(checkpoint), str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is True
    assert found["images"] > 300
    assert found["codes"]["different"] == found["sums"]["different"] == 0
    assert found["codes"]["compared"] > 100_000
    assert found["net_top1"] == found["checkpoint_top1"]


def test_verify_finds_an_edited_file(
    checkpoint: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = onnx.load(file)
    proto.doc_string = "mine"
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    assert main(["verify", str(checkpoint), str(tmp_path / "net.onnx")]) == 1
    printed = capsys.readouterr().err
    assert "was edited after it was exported" in printed
    assert "First seen" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to write: name an ONNX file with --onnx net.onnx"),
        (("--onnx", "."), "is a folder; name a file in it with --onnx, such as net.onnx"),
        (("--onnx", "none/net.onnx"), "there is no folder none to write net.onnx to; make it first"),
        (("--onnx", "net.onnx", "--dialect", "integers"), "did you mean 'integer'"),
        (("--onnx", "net.onnx", "--opset", "7"), "opset must be 21 to"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(checkpoint), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
