"""`bitorch deploy`, `predict`, `bench`, and `eval` of packed nets: what they write and print, and how they end."""

from __future__ import annotations

import json
import re
import struct
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

import bitorch_runtime
from bitorch import cli
from bitorch.cli import main
from bitorch.commands import packed_benchmark, packed_verification, rivals, rivals_engines
from bitorch.commands.image_files import read_images
from bitorch.commands.preprocessing import Preprocessing
from bitorch.commands.timing import seconds_per_call
from bitorch.data import Dataset, Images, digits, to_float
from bitorch.data.padding import pad_to_square
from bitorch.deployment.runtime.packed_model import PackedModel
from bitorch.deployment.runtime.verification import verify
from bitorch.train import Settings, fit, load_model

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short run, its packed nets from pixels and from floats, and a run with padded images."""
    folder = tmp_path_factory.mktemp("commands")
    fit(Settings(epochs=2, batch_size=100, out=folder / "run", accelerator="cpu"), show=False)
    checkpoint = str(folder / "run" / "last.ckpt")
    assert main(["deploy", checkpoint, "-o", str(folder / "net.bit.safetensors")]) == 0
    assert main(["deploy", checkpoint, "--float-input", "--out", str(folder / "floats")]) == 0
    write_mnist(folder / "mnist")
    fit(
        Settings(
            data="mnist", folder=folder / "mnist", pad_to=40, model="svhn-d", epochs=1, batch_size=8,
            out=folder / "padded", accelerator="cpu",
        ),
        show=False,
    )  # fmt: skip
    return folder


def write_mnist(folder: Path) -> None:
    """Write 12 random images of 28×28 and their labels, 0 to 9 and 0, 1, as training and as test images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 12, 28, 28) + images.tobytes())
        labels = bytes(range(10)) + bytes([0, 1])
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 12) + labels)


@pytest.fixture
def net(folder: Path) -> str:
    return str(folder / "net.bit.safetensors")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A test image as a grey PNG."""
    path = tmp_path / "digit.png"
    Image.fromarray(digits().test.images[0, 0].numpy()).save(path)
    return path


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str], lines: int = 1) -> str:
    """Run a command that must fail as a user's error does, and return what it says."""
    capsys.readouterr()
    code = main(arguments)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == lines
    return printed.err


def predictions(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["predict", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return [json.loads(line) for line in printed.out.splitlines()]


def scores(packed: PackedModel, x: Tensor) -> Tensor:
    y = packed(x)
    assert isinstance(y, Tensor)
    return y


class TestDeploy:
    def test_the_packed_net_predicts_what_the_model_does(self, folder: Path) -> None:
        images = digits().test.images
        model = load_model(folder / "run" / "last.ckpt")
        with torch.no_grad():
            expected = model(to_float(images))
        for name, x in (("net.bit.safetensors", images), ("floats", to_float(images))):
            found = scores(PackedModel.load(folder / name), x)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(found.argmax(1), expected.argmax(1))

    def test_what_the_file_says(self, folder: Path) -> None:
        packed = PackedModel.load(folder / "net.bit.safetensors")
        assert packed.class_names == tuple("0123456789")
        assert packed.preprocessing == {"channels": 1, "size": [8, 8], "padding": [0, 0, 0, 0], "scale": "1/255"}
        assert packed.provenance is not None
        run = packed.provenance["run"]
        assert (run["model"], run["bits"], run["data"], run["epochs"]) == ("lenet-8", [1, 2, 6], "digits", 2)
        assert packed.provenance["input_shape"] == [1, 8, 8]
        assert 0 < packed.provenance["accuracy"] <= 1
        # A file is given away: it shall not tell where its author keeps things.
        assert str(folder).encode() not in (folder / "net.bit.safetensors").read_bytes()

    def test_what_is_printed(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "net.bit.safetensors"
        arguments = ["deploy", str(folder / "run" / "best.ckpt"), "--out", str(out), "--show-passes"]
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert "── captured\nx [1×8×8] = input(" in printed
        assert "uint8 [batch, 1, 8, 8]" in printed
        assert "equal:" in printed
        assert "754,088 bytes" in printed
        assert f"{out.stat().st_size:,} bytes, {754_088 / out.stat().st_size:.1f} times smaller" in printed

    def test_the_default_name_and_a_second_time(self, folder: Path) -> None:
        path = folder / "run" / "best.bit.safetensors"
        assert main(["deploy", str(folder / "run" / "best.ckpt")]) == 0
        before = path.read_bytes()
        assert main(["deploy", str(folder / "run" / "best.ckpt")]) == 0
        assert path.read_bytes() == before

    def test_user_errors(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint, packed = str(folder / "run" / "last.ckpt"), str(tmp_path / "net.safetensors")
        save_file({"x": torch.zeros(1)}, packed)
        for arguments, message in (
            (["missing.ckpt"], "there is no checkpoint missing.ckpt"),
            ([str(folder / "mnist" / "t10k-labels-idx1-ubyte")], "is not a checkpoint, or a damaged one"),
            ([packed], "it is a safetensors file, such as a packed net; name the checkpoint that it was deployed from"),
            ([checkpoint, "-o", str(tmp_path)], "is a folder; name a file in it with --out"),
            ([checkpoint, "-o", str(tmp_path / "no" / "net")], "make it first"),
            ([checkpoint, "-o", checkpoint], "is the checkpoint itself"),
            ([checkpoint, "--image-size", "6", "6"], "as the run padded nothing, 8×8, got 6×6"),
        ):
            assert message in error_of(["deploy", *arguments], capsys)
        assert list(tmp_path.iterdir()) == [Path(packed)]

    def test_a_float_net_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fit(Settings(bits=(32, 32, 32), epochs=1, batch_size=700, out=tmp_path / "float"), show=False)
        capsys.readouterr()
        assert main(["deploy", str(tmp_path / "float" / "last.ckpt")]) == 2
        assert "quantize_" in capsys.readouterr().err
        assert not (tmp_path / "float" / "last.bit.safetensors").exists()

    def test_a_net_that_differs_is_not_written(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class Different:
            def __bool__(self) -> bool:
                return False

            def __str__(self) -> str:
                return "differs first in 'layers.3'"

        monkeypatch.setattr("bitorch.commands.from_checkpoint.verify", lambda *arguments: Different())
        out = tmp_path / "net"
        assert main(["deploy", str(folder / "run" / "last.ckpt"), "-o", str(out)]) == 1
        assert capsys.readouterr().err == "error: the packed net differs first in 'layers.3'\n"
        assert not out.exists()

    def test_padded_images(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint, net = str(folder / "padded" / "last.ckpt"), tmp_path / "net"
        assert main(["deploy", checkpoint, "-o", str(net)]) == 0
        packed = PackedModel.load(net)
        assert packed.preprocessing == {"channels": 1, "size": [28, 28], "padding": [6, 6, 6, 6], "scale": "1/255"}
        assert packed.class_names is None
        pixels = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        (line,) = predictions([str(net), str(tmp_path / "x.png")], capsys)
        padded = np.zeros((1, 1, 40, 40), np.uint8)
        padded[0, 0, 6:34, 6:34] = pixels
        assert np.float32(line["scores"]).tolist() == scores(packed, torch.from_numpy(padded))[0].tolist()
        assert "label" not in line
        assert main(["eval", str(net), "--folder", str(folder / "mnist"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["eval", checkpoint, "--json", "--accelerator", "cpu"]) == 0
        expected = json.loads(capsys.readouterr().out)
        assert (found["top1"], found["top5"], found["images"]) == (expected["top1"], expected["top5"], 12)
        assert "needs the folder" in error_of(["eval", str(net)], capsys)

    def test_padded_images_without_their_data(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        checkpoint, net = str(folder / "padded" / "last.ckpt"), tmp_path / "net"
        (folder / "mnist").rename(folder / "moved")
        try:
            message = error_of(["deploy", checkpoint, "-o", str(net)], capsys)
            assert "padded its images to 40×40" in message
            assert "say it with --image-size HEIGHT WIDTH" in message
            assert "got 41×28" in error_of(["deploy", checkpoint, "--image-size", "41", "28"], capsys)
            assert main(["deploy", checkpoint, "-o", str(net), "--image-size", "27", "28"]) == 0
        finally:
            (folder / "moved").rename(folder / "mnist")
        assert PackedModel.load(net).preprocessing == {
            "channels": 1, "size": [27, 28], "padding": [6, 6, 7, 6], "scale": "1/255",
        }  # fmt: skip


class TestEval:
    @pytest.mark.parametrize("name", ["net.bit.safetensors", "floats"])
    def test_equal_to_the_checkpoint(self, folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert main(["eval", str(folder / name), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["eval", str(folder / "run" / "last.ckpt"), "--json", "--accelerator", "cpu"]) == 0
        expected = json.loads(capsys.readouterr().out)
        assert found.pop("checkpoint") == str(folder / name)
        del expected["checkpoint"]
        expected.pop("evaluated", None)  # on packed weights, which a packed file has anyway
        assert found.pop("loss") == pytest.approx(expected.pop("loss"), abs=1e-6)
        assert found == expected

    def test_table(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["eval", net, "--data", "digits"]) == 0
        printed = capsys.readouterr().out
        assert "lenet-8, bits 1 2 6" in printed
        assert "360" in printed

    def test_user_errors(self, net: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        bare = tmp_path / "bare.bit.safetensors"
        bitorch_runtime.save(bare, *PackedModel.load(net).program())
        (tmp_path / "broken.bit.safetensors").write_bytes(b"no net")
        mnist = ["--data", "mnist", "--folder", str(folder / "mnist")]
        for arguments, message in (
            ([str(tmp_path / "missing.bit.safetensors")], "No such file"),
            ([str(tmp_path / "broken.bit.safetensors")], "broken.bit.safetensors: "),
            ([str(bare)], "does not say what its net was trained on; name the data set with --data"),
            ([net, "--accelerator", "gpu"], "a packed net runs on the CPU"),
            ([net, *mnist], "takes images [1, 8, 8] [C, H, W], the data set has [1, 28, 28]"),
        ):
            assert message in error_of(["eval", *arguments], capsys)
        assert main(["eval", str(bare), "--data", "digits"]) == 0


class TestVerify:
    @pytest.mark.parametrize("name", ["net.bit.safetensors", "floats"])
    def test_a_whole_test_set(self, folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint, net = str(folder / "run" / "last.ckpt"), str(folder / name)
        capsys.readouterr()
        assert main(["verify", checkpoint, net, "--batch", "77", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert main(["eval", checkpoint, "--json", "--accelerator", "cpu"]) == 0
        evaluation = json.loads(capsys.readouterr().out)
        images = digits().test.images
        whole = verify(load_model(checkpoint), PackedModel.load(net), images if "net" in name else to_float(images))
        for kind in ("sums", "codes", "floats"):
            compared = sum(c.elements for c in whole.comparisons if c.exact and c.kind == kind)
            assert 0 < found[kind]["compared"] == compared
            assert (found[kind]["different"], found[kind]["largest"]) == (0, 0)
        summed = sum(c.elements for c in whole.comparisons if not c.exact)
        assert 0 < found["summed_floats"]["compared"] == summed
        assert (found["images"], found["equal"], found["first_difference"]) == (360, True, None)
        assert found["checkpoint_top1"] == found["net_top1"] == pytest.approx(evaluation["top1"], abs=1e-6)
        assert found["other_predictions"] == []
        assert found["largest_score_difference"] < 1e-4

    def test_table(self, folder: Path, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["verify", str(folder / "run" / "last.ckpt"), net, "--data", "digits"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "tensors: equal, bit for bit" in printed
        assert "DIFFER" not in printed
        assert "│ predictions │ all equal │" in printed

    def test_padded_images(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint, net = str(folder / "padded" / "last.ckpt"), str(tmp_path / "net")
        assert main(["deploy", checkpoint, "-o", net]) == 0
        capsys.readouterr()
        assert main(["verify", checkpoint, net, "--batch", "5", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == 12

    def test_a_net_that_differs(
        self, folder: Path, net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        operations, arrays = PackedModel.load(net).program()
        (name,) = (operation["weight"] for operation in operations if operation["op"] == "linear_float")
        changed = arrays[name].copy()
        changed[:] = changed[::-1]
        other = tmp_path / "other"
        bitorch_runtime.save(other, operations, {**arrays, name: changed})
        checkpoint = str(folder / "run" / "last.ckpt")
        capsys.readouterr()
        assert main(["verify", checkpoint, str(other), "--batch", "100"]) == 1
        printed = capsys.readouterr()
        assert "DIFFER, by up to" in printed.out
        assert printed.err.startswith("error: the packed net differs first in ")
        assert "(linear_float): " in printed.err
        assert printed.err.endswith("First seen in images 0 to 99.\n")
        assert main(["verify", checkpoint, str(other), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["first_difference"]["operation"] == "linear_float"
        assert not found["equal"]
        test = digits().test
        expected, others = (scores(PackedModel.load(path), test.images).argmax(1) for path in (net, other))
        assert found["checkpoint_top1"] == float((expected == test.labels).double().mean())
        assert found["net_top1"] == float((others == test.labels).double().mean())
        assert found["other_predictions"] == (expected != others).nonzero().flatten().tolist() != []

    def test_other_predictions_alone_are_a_difference(
        self, folder: Path, net: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        checkpoint = str(folder / "run" / "last.ckpt")
        found = replace(packed_verification.verify_packed(checkpoint, net), other_predictions=(3, 5, 8, 9, 10, 11))
        monkeypatch.setattr(packed_verification, "verify_packed", lambda *arguments, **more: found)
        capsys.readouterr()
        assert main(["verify", checkpoint, net]) == 1
        printed = capsys.readouterr()
        assert "│ 6 DIFFER" in printed.out
        assert printed.err.startswith("error: another class in 6 of 360 images (3, 5, 8, 9, 10, …), although every")

    def test_user_errors(self, net: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint = str(folder / "run" / "last.ckpt")
        for arguments, message in (
            ([checkpoint, "missing"], "missing"),
            (["missing", net], "there is no checkpoint missing"),
            ([net, checkpoint], "last.ckpt: "),
            ([checkpoint, net, "--batch", "0"], "batch must be at least 1, got 0"),
            ([str(folder / "padded" / "last.ckpt"), net], "takes images [1, 8, 8] [C, H, W], the data set has [1, 28"),
        ):
            assert message in error_of(["verify", *arguments], capsys)

    def test_another_network_is_a_users_error(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fit(Settings(bits=(2, 2, 32), epochs=1, batch_size=700, out=tmp_path / "other"), show=False)
        net = str(folder / "net.bit.safetensors")
        message = error_of(["verify", str(tmp_path / "other" / "last.ckpt"), net], capsys)
        assert "the program is of another network" in message


class TestPredict:
    def test_one_line_for_each_image(
        self, net: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images = digits().test.images[:3]
        np.save(tmp_path / "batch.npy", images[:, 0].numpy())
        batch = str(tmp_path / "batch.npy")
        lines = predictions([net, str(picture), batch, "--top", "3"], capsys)
        expected = scores(PackedModel.load(net), images)
        assert [(line["file"], line.get("index")) for line in lines] == [
            (str(picture), None), (batch, 0), (batch, 1), (batch, 2),
        ]  # fmt: skip
        for line, row in zip(lines, expected[[0, 0, 1, 2]], strict=True):
            assert np.float32(line["scores"]).tolist() == row.tolist()
            chances = row.double().softmax(0)
            best = chances.topk(3)
            assert [entry["class"] for entry in line["top"]] == best.indices.tolist()
            assert [entry["probability"] for entry in line["top"]] == pytest.approx(best.values.tolist(), abs=1e-6)
            assert (line["class"], line["label"]) == (int(row.argmax()), str(int(row.argmax())))
            assert line["probability"] == line["top"][0]["probability"]
        assert list(lines[0]) == ["file", "class", "label", "probability", "scores", "top"]

    def test_softmax_at_the_end_of_the_net_is_not_repeated(
        self, net: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (expected,) = predictions([net, str(picture)], capsys)
        operations, arrays = PackedModel.load(net).program()
        *others, output = operations
        for log in (False, True):
            last = {"op": "softmax", "input": output["input"], "output": "p", "log": log}
            bitorch_runtime.save(tmp_path / "net", [*others, last, {**output, "input": "p"}], arrays)
            (line,) = predictions([str(tmp_path / "net"), str(picture)], capsys)
            assert line["probability"] == pytest.approx(expected["probability"], abs=2e-6)
            assert line["scores"] != expected["scores"]

    def test_broken_images_do_not_keep_the_others(
        self, net: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        broken = tmp_path / "broken.png"
        broken.write_bytes(picture.read_bytes()[:60])
        capsys.readouterr()
        assert main(["predict", net, str(broken), str(picture)]) == 2
        printed = capsys.readouterr()
        assert json.loads(printed.out)["file"] == str(picture)
        assert printed.err.startswith(f"error: {broken} is ")
        assert printed.err.count("\n") == 1

    def test_user_errors(
        self, net: str, folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        image = str(picture)
        (tmp_path / "text.png").write_text("no image")
        (tmp_path / "empty").mkdir()
        for arguments, message in (
            ([net], "name at least one image"),
            ([net, image, "missing.png"], "there is no image file or folder missing.png"),
            ([net, str(tmp_path / "empty")], f"there is no picture in {tmp_path / 'empty'}"),
            (["missing", image], "missing"),
            ([str(folder / "run" / "last.ckpt"), image], "last.ckpt: "),
            ([net, image, "--top", "11"], "--top 11: must be from 1 to 10, the number of classes"),
            ([net, str(tmp_path / "text.png")], "text.png is no image that Pillow can read"),
        ):
            assert message in error_of(["predict", *arguments], capsys)

    def test_nets_that_are_no_classifiers(
        self, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        begin = {"op": "input", "output": "x", "dtype": "float32", "shape": [1, 8, 8], "order": "nchw"}
        end = {"op": "output", "input": "x", "order": "nchw"}
        bitorch_runtime.save(tmp_path / "net", [begin, end], {})
        assert "must give scores, float32 [batch, classes]" in error_of(
            ["predict", str(tmp_path / "net"), str(picture)], capsys
        )
        vector = {"op": "input", "output": "x", "dtype": "float32", "shape": [8]}
        bitorch_runtime.save(tmp_path / "net", [vector, {"op": "output", "input": "x"}], {})
        assert "must take one image [batch, C, H, W]" in error_of(
            ["predict", str(tmp_path / "net"), str(picture)], capsys
        )

    def test_preprocessing_that_is_not_known(
        self, net: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        program = PackedModel.load(net).program()
        for fields, message in (
            (
                {"channels": 1, "size": [8, 8], "crop": [8, 8]},
                "has 'crop', and only channels, size, padding, ",
            ),
            ({"channels": 1, "size": [8, 8], "mean": [0.5]}, "must have both mean and std, 1 numbers each"),
            ({"channels": 1, "size": [8, 8], "mean": [0.5], "std": [0]}, "and std above 0"),
            ({"channels": 1, "size": [8, 8], "mean": [0.5], "std": [0.2]}, "but its net takes pixels as they are"),
            ({"channels": 1, "size": [8, 8], "scale": "2"}, "scale '2'"),
            ({"channels": 1, "size": [8]}, "all integers"),
            ({"channels": True, "size": [8, 8]}, "all integers"),
            ({"channels": 1, "size": [7, 8]}, "gives images [1, 7, 8], but its net takes [1, 8, 8]"),
        ):
            bitorch_runtime.save(tmp_path / "net", *program, preprocessing=fields)
            assert message in error_of(["predict", str(tmp_path / "net"), str(picture)], capsys)

    def test_borders_are_those_of_training(self) -> None:
        pixels = torch.randint(0, 256, (3, 1, 5, 8), dtype=torch.uint8)
        images = Images(pixels, torch.tensor([0, 1, 2]), 3)
        expected = pad_to_square(Dataset("x", images, images), 12).test.images
        preprocessing = Preprocessing.padded((1, 12, 12), (5, 8))
        assert preprocessing.padding == (3, 2, 4, 2)
        assert torch.equal(preprocessing.inputs(pixels, torch.uint8), expected)
        assert torch.equal(preprocessing.inputs(pixels, torch.float32), to_float(expected))

    def test_mean_and_std(
        self, folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        packed = PackedModel.load(folder / "floats")
        fields = Preprocessing(1, (8, 8), mean=(0.5,), std=(0.25,)).to_dict()
        bitorch_runtime.save(tmp_path / "net", *packed.program(), preprocessing=fields)
        (line,) = predictions([str(tmp_path / "net"), str(picture)], capsys)
        x = (to_float(digits().test.images[:1]) - 0.5) / 0.25
        assert np.float32(line["scores"]).tolist() == scores(packed, x)[0].tolist()


GREY, COLOUR = Preprocessing(1, (6, 5)), Preprocessing(3, (6, 5))


def read(path: Path, preprocessing: Preprocessing, *, pixels: bool = True, resize: bool = False) -> Tensor:
    return read_images(path, preprocessing, pixels=pixels, resize=resize)[0]


class TestImages:
    @pytest.fixture
    def rgb(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8))

    @pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "CMYK"])
    def test_kinds_of_pictures(self, rgb: Image.Image, mode: str, tmp_path: Path) -> None:
        path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
        saved = rgb.convert(mode)
        saved.save(path)
        for preprocessing, wanted in ((GREY, "L"), (COLOUR, "RGB")):
            found = read(path, preprocessing)
            expected = np.array(saved.convert(wanted)).reshape(6, 5, -1).transpose(2, 0, 1)
            assert found.dtype == torch.uint8
            assert np.array_equal(found[0].numpy(), expected)
            assert torch.equal(read(path, preprocessing, pixels=False), to_float(found))

    def test_orientation(self, tmp_path: Path) -> None:
        pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90° to the right
        Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
        assert np.array_equal(read(tmp_path / "x.png", GREY)[0, 0].numpy(), np.rot90(pixels, -1))

    def test_transparency(self, rgb: Image.Image, tmp_path: Path) -> None:
        rgb.putalpha(255)
        rgb.save(tmp_path / "opaque.png")
        assert np.array_equal(read(tmp_path / "opaque.png", COLOUR)[0].permute(1, 2, 0), np.array(rgb)[..., :3])
        rgb.putpixel((2, 2), (1, 2, 3, 254))
        rgb.save(tmp_path / "x.png")
        expected = np.array(rgb)[..., :3]
        expected[2, 2] = [round((254 * value + 255) / 255) for value in (1, 2, 3)]  # on white
        found = read(tmp_path / "x.png", COLOUR)[0].permute(1, 2, 0)
        assert np.array_equal(found, expected)

    def test_more_than_8_bits(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((6, 5), 40000, np.uint16)).save(tmp_path / "x.png")
        assert read(tmp_path / "x.png", GREY).unique().tolist() == [40000 >> 8]
        Image.fromarray(np.zeros((6, 5), np.float32)).save(tmp_path / "x.tiff")
        with pytest.raises(ValueError, match=r"x\.tiff has pixels of Pillow's mode 'F', and only 8 or 16 bits"):
            read(tmp_path / "x.tiff", GREY)

    def test_another_size(self, rgb: Image.Image, tmp_path: Path) -> None:
        large = rgb.resize((15, 12), Image.Resampling.NEAREST)
        large.save(tmp_path / "x.png")
        with pytest.raises(
            ValueError, match=r"x.png is 12×15 pixels \(height×width\), and the net takes 6×5; --resize"
        ):
            read(tmp_path / "x.png", COLOUR)
        found = read(tmp_path / "x.png", COLOUR, resize=True)
        expected = np.array(large.resize((5, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(found[0].numpy().astype(int) - expected).max() <= 1
        np.save(tmp_path / "x.npy", (np.array(large) / 255).astype(np.float32))
        assert (read(tmp_path / "x.npy", COLOUR, resize=True).int() - found).abs().max() <= 1
        floats = read(tmp_path / "x.npy", COLOUR, pixels=False, resize=True)
        assert (floats * 255 - found).abs().max() <= 1

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        channels=st.sampled_from([1, 3, 4]),
        size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
        batch=st.none() | st.integers(1, 4),
        layout=st.sampled_from(["first", "last", "none"]),
        dtype=st.sampled_from(["uint8", "float16", "float32", "float64"]),
        fortran=st.booleans(),
    )
    def test_arrays(
        self, tmp_path: Path, channels: int, size: tuple[int, int], batch: int | None, layout: str, dtype: str,
        fortran: bool,
    ) -> None:  # fmt: skip
        if layout == "none":
            channels = 1
        count = 1 if batch is None else batch
        images = np.random.default_rng(count).integers(0, 256, (count, channels, *size), dtype=np.uint8)
        array: Any = {"first": images, "last": images.transpose(0, 2, 3, 1), "none": images[:, 0]}[layout]
        array = array if dtype == "uint8" else (array / 255).astype(dtype)
        array = array[0] if batch is None else array
        # One image without its channel, alone in a batch, is an image [1, H, W] as well.
        is_batch = batch is not None and not (layout == "none" and batch == 1)
        np.save(tmp_path / "x.npy", np.asfortranarray(array) if fortran else array)
        preprocessing = Preprocessing(channels, size)
        found, found_batch = read_images(tmp_path / "x.npy", preprocessing, pixels=True, resize=False)
        assert np.array_equal(found.numpy(), images)
        assert found_batch == is_batch
        floats = read(tmp_path / "x.npy", preprocessing, pixels=False)
        assert floats.dtype == torch.float32
        torch.testing.assert_close(floats, to_float(found), rtol=0, atol=3e-4)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((6, 5), np.int64), "holds int64; it must be uint8 pixels or floats"),
            (np.full((6, 5), 255.0), r"floats that are not all in \[0, 1\]; pixels 0 to 255 must be uint8"),
            (np.full((6, 5), np.nan), "floats that are not all in"),
            (np.full((6, 5), 0.5 / 255), "no multiples of 1/255, and the net takes uint8 pixels"),
            (np.zeros((0, 6, 5), np.uint8), "an empty array"),
            (np.zeros(30, np.uint8), r"has the shape \[30\]; for a net of 1 channels it must be \[H, W\]"),
            (np.zeros((2, 3, 6, 5), np.uint8), r"has the shape \[2, 3, 6, 5\]"),
            (np.array([{}]), "is no .npy file of numbers"),
        ],
    )  # fmt: skip
    def test_wrong_arrays(self, array: Any, message: str, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match=rf"x\.npy.*{message}"):
            read(tmp_path / "x.npy", GREY)

    def test_other_damage(self, rgb: Image.Image, tmp_path: Path) -> None:
        (tmp_path / "x.npy").write_bytes(b"no array")
        with pytest.raises(ValueError, match=r"x\.npy is no \.npy file"):
            read(tmp_path / "x.npy", GREY)
        rgb.save(tmp_path / "x.jpg")
        content = (tmp_path / "x.jpg").read_bytes()
        for end in range(0, len(content) - 2, 37):
            (tmp_path / "x.jpg").write_bytes(content[:end])
            with pytest.raises(ValueError, match=r"x\.jpg is "):
                read(tmp_path / "x.jpg", COLOUR)
        with pytest.raises(ValueError, match=r"images of 2 channels, which only \.npy files can hold"):
            read(tmp_path / "x.jpg", Preprocessing(2, (6, 5)))


class TestBench:
    def test_json(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        threads = torch.get_num_threads(), bitorch_runtime.get_num_threads()
        capsys.readouterr()
        assert main(["bench", net, "--repeats", "2", "--batch", "3", "--threads", "2", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (torch.get_num_threads(), bitorch_runtime.get_num_threads()) == threads
        assert (found["batch"], found["threads"]) == (3, 2)
        assert found["versions"]["torch"] == torch.__version__
        engines = set(found["milliseconds"]) | set(found["not_measured"])
        assert engines == {
            "packed", "PyTorch float32", "PyTorch float32, channels_last", "ONNX Runtime float32", "ONNX Runtime int8",
            "OpenVINO float32", "OpenVINO int8",
        }  # fmt: skip
        operations = sum(row["seconds"] for row in found["operations"])
        assert found["rest_seconds"] == pytest.approx(found["call_seconds"] - operations)
        assert all(value > 0 for value in found["milliseconds"].values())
        packed = PackedModel.load(net)
        assert [row["op"] for row in found["operations"]] == [row["op"] for row in packed.operations()]
        assert sum(row["macs"] for row in found["operations"]) == 3 * sum(row["macs"] for row in packed.operations())

    def test_tables(self, net: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rivals_engines, "find_spec", lambda name: None if name == "onnxruntime" else object())
        monkeypatch.setattr(packed_benchmark, "seconds_per_call", lambda calls, rounds: dict.fromkeys(calls, 0.002))
        monkeypatch.setattr(packed_benchmark, "fastest_call", lambda call, repeats: 0.5)
        assert main(["bench", net, "--repeats", "1", "--batch", "4"]) == 0
        printed = capsys.readouterr().out
        assert bitorch_runtime.cpu()["name"] in printed
        assert "1 thread, kernels" in printed
        assert "│ packed                         │        0.500 │" in printed
        assert "1.00×" in printed
        for engine in ("ONNX Runtime float32", "ONNX Runtime int8", "OpenVINO float32", "OpenVINO int8"):
            assert f'not measured: {engine}: needs onnxruntime: pip install ".[bench]"' in printed
        assert "conv2d_float" in printed
        *_, total, rest, call = printed.splitlines()
        of_operations, of_rest = (float(re.findall(r"\d[\d,.]*", line)[0].replace(",", "")) for line in (total, rest))
        assert call == f"call{'500,000.0':>{call.index('500,000.0') + 5}}"
        assert of_operations + of_rest == pytest.approx(500_000, abs=0.2)
        assert len({line.index(".") for line in (rest, call)} | {total.index(".")}) == 1

    def test_int8_rivals_compute_the_twin(self, net: str) -> None:
        """In 8 bits, close to what PyTorch computes in float32; and one that computes something else is told."""
        pytest.importorskip("onnxruntime")
        pytest.importorskip("openvino")
        twin = rivals_engines.Twin(rivals.float_twin(PackedModel.load(net)), torch.rand(2, 1, 8, 8), 1)
        calls, reasons = rivals_engines.in_engines(twin)
        assert (set(calls), reasons) == ({engine.name for engine in rivals_engines.ENGINES}, {})
        with pytest.raises(RuntimeError, match="does not compute what PyTorch computes: scores differ by"):
            twin.check(-twin.expected.numpy(), 0.25)

    def test_an_engine_that_cannot(self, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(twin: rivals_engines.Twin) -> Any:
            raise RuntimeError("Exception from a.cpp:1:\nCheck 'x' failed\nshapes are inconsistent.\n\n")

        engine = rivals_engines.Engine("Some engine", (), fails)
        monkeypatch.setattr(rivals_engines, "ENGINES", (engine,))
        twin = rivals_engines.Twin(torch.nn.Identity(), torch.rand(1, 1), 1)
        assert rivals_engines.in_engines(twin) == ({}, {"Some engine": "shapes are inconsistent."})

    def test_a_file_that_does_not_say_what_it_is(
        self, net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bitorch_runtime.save(tmp_path / "net", *PackedModel.load(net).program())
        assert main(["bench", str(tmp_path / "net"), "--repeats", "1"]) == 0
        assert "not measured: float twin: the file does not say how its net is built" in capsys.readouterr().out

    def test_user_errors(self, net: str, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, message in (
            (["missing"], "missing"),
            ([net, "--threads", "0"], "--threads 0: must be from 1 to 256"),
            ([net, "--batch", "0"], "--batch 0: must be from 1"),
            ([net, "--repeats", "0"], "--repeats 0: must be from 1"),
        ):
            assert message in error_of(["bench", *arguments], capsys)

    def test_the_twin_is_the_float_net(self, net: str) -> None:
        twin = rivals.float_twin(PackedModel.load(net))
        assert not twin.training
        assert {type(module).__name__ for module in twin.modules()}.isdisjoint({"QConv2d", "QLinear"})
        assert twin(torch.rand(1, 1, 8, 8)).shape == (1, 10)

    def test_times_are_those_of_the_calls(self) -> None:
        seconds = seconds_per_call({"slow": lambda: time.sleep(0.05), "fast": lambda: None}, rounds=5)
        assert 0.05 <= seconds["slow"] < 0.2
        assert seconds["fast"] < 1e-3


@pytest.mark.parametrize(
    ("command", "package", "message"),
    [
        ("deploy", "bitorch_runtime", "needs bitorch_runtime: pip install ./runtime in a checkout of bitorch"),
        ("bench", "bitorch_runtime", "needs bitorch_runtime: pip install ./runtime"),
        ("predict", "PIL", 'needs PIL: pip install ".[train]"'),
        ("deploy", "tyro", 'needs tyro: pip install ".[train]"'),
    ],
)
def test_missing_packages(
    command: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == package else object())
    assert message in error_of([command, "x"], capsys)


def test_the_demos_last_part(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "recipes"))
    recipe = import_module("digits_deployed")
    monkeypatch.setattr(recipe, "_ROUNDS", 1)
    checkpoint, out, console = folder / "run" / "best.ckpt", tmp_path / "net.bit.safetensors", Console(width=80)
    assert recipe.deploy_and_compare(checkpoint, checkpoint, out, console)
    printed = capsys.readouterr().out
    assert f"{PackedModel.load(out).nbytes:,}" in printed
    assert "verified: equal:" in printed
    assert max(map(len, printed.splitlines())) <= 80
    monkeypatch.setattr(recipe, "scores_of", lambda packed, images: torch.eye(10)[torch.zeros(len(images)).long()])
    assert not recipe.deploy_and_compare(checkpoint, checkpoint, out, console)
    assert "THE PACKED NET IS NOT THE TRAINED ONE: another class in " in capsys.readouterr().out
