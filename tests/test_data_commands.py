"""Pictures from the first command to the last: train, deploy, verify, eval, predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bitorch.cli import main
from bitorch.commands.packed_evaluation import data_options, scores_of
from bitorch.data import first_batch, load
from bitorch.deployment.runtime.packed_model import PackedModel
from picture_files import (
    encoded,
    texture,
    write_cifar10_python,
    write_imagenet,
    write_picture_folder,
    write_shards,
    write_svhn,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def test_a_folder_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class names, size, fitting and normalization are in the packed file, and the commands go by them."""
    folder, out, net = tmp_path / "set", tmp_path / "run", str(tmp_path / "net.bit.safetensors")
    write_picture_folder(folder, 12, 3, size=20)
    assert main([
        "train", "--data", "images", "--folder", str(folder), "--image-size", "8", "--channels", "1",
        "--model", "lenet-8", "--mean", "0.4", "--std", "0.3", "--crop-share", "0.9", "--crop-scale", "0.5", "1",
        "--epochs", "1", "--batch-size", "12", "--out", str(out), "--workers", "0",
    ]) == 0  # fmt: skip
    checkpoint = str(out / "last.ckpt")
    assert main(["deploy", checkpoint, "-o", net]) == 0
    assert "columns, dots, rows" in capsys.readouterr().out
    assert main(["verify", checkpoint, net]) == 0
    packed = PackedModel.load(net)
    assert list(packed.class_names or ()) == ["columns", "dots", "rows"]
    assert packed.preprocessing is not None
    assert packed.preprocessing["size"] == [8, 8]
    assert packed.preprocessing["crop_share"] == 0.9
    assert packed.provenance is not None
    assert packed.provenance["run"]["mean"] == [0.4]
    capsys.readouterr()
    found = []
    for arguments in (["eval", checkpoint], ["eval", net, "--folder", str(folder)]):
        assert main([*arguments, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["top1"])
    assert found[0] == found[1]
    # Pictures of any size, in files, are seen as in evaluation.
    paths = sorted((folder / "val").rglob("*.jpg"))
    assert main(["predict", net, *map(str, paths)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = sum(line["label"] == path.parent.name for line, path in zip(lines, paths, strict=True))
    assert right / len(paths) == pytest.approx(found[0])
    images, _ = first_batch(load("images", folder, options=data_options(packed, "images")).test, len(paths))
    assert torch.equal(scores_of(packed, images), torch.tensor([line["scores"] for line in lines]))
    # Another folder's classes go by their names, also where one is missing.
    write_picture_folder(tmp_path / "other", 2, 2, size=33, names=("rows", "dots"))
    assert main(["eval", net, "--folder", str(tmp_path / "other")]) == 0
    write_picture_folder(tmp_path / "unknown", 2, 2, names=("rows", "stars"))
    assert main(["eval", net, "--folder", str(tmp_path / "unknown")]) == 2
    assert "'stars' is none of the 3 classes" in capsys.readouterr().err


def test_wrong_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        (["--data", "images"], "needs the folder"),
        (["--image-size", "-1"], "image_size must be 0 or from 1 to 4096"),
        (["--data", "imagefolder"], "did you mean images?"),
        (["--mean", "0.5"], "mean and std belong together"),
        (["--mean", "0.5", "--std", "0.2", "--first", "8"], "a low-bit first layer clips its inputs at 0 and 1"),
        (["--mean", "imagenet"], "mean and std have 3 numbers, but images have 1 channels"),
        (["--randaugment", "2", "40"], "magnitude from 0 to 30"),
        (["--data", "digits", "--shards", "x.tar"], 'shards is for data "webdataset"'),
    ):
        assert main(["train", "--out", str(tmp_path / "run"), *flags]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "x.png").write_bytes(encoded(texture(0, 8, 0), "PNG"))
    assert main(["train", "--data", "images", "--folder", str(tmp_path / "set"), "--out", str(tmp_path / "run")]) == 2
    assert "has one class only, 'a'" in capsys.readouterr().err


def _cifar10(folder: Path) -> list[str]:
    write_cifar10_python(folder / "cifar-10-batches-py", 60, 60)
    return ["--data", "cifar10", "--model", "resnet-20", "--width", "0.5"]


def _svhn(folder: Path) -> list[str]:
    write_svhn(folder, 300, 60)
    return ["--data", "svhn", "--pad-to", "40", "--model", "svhn-d"]


def _imagenet(folder: Path) -> list[str]:
    write_imagenet(folder, 100, 20, flat=True)
    return ["--data", "imagenet", "--image-size", "32", "--mean", "imagenet", "--model", "resnet-20", "--width", "0.5"]


def _images(folder: Path) -> list[str]:
    write_picture_folder(folder, 100, 20)
    return ["--data", "images", "--image-size", "32", "--model", "resnet-20", "--width", "0.5"]


def _shards(folder: Path) -> list[str]:
    write_shards(folder, 360, 4)
    shards = ["--shards", "train-{0000..0003}.tar", "--cache", "off"]
    return ["--data", "webdataset", *shards, "--model", "resnet-20", "--width", "0.5"]


@pytest.mark.slow
@pytest.mark.parametrize("write", [_images, _cifar10, _svhn, _imagenet, _shards])
def test_textures_are_learned(
    write: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracy of at least 95 % on three textures in each official format, and the packed net has the same."""
    folder, out, net = tmp_path / "set", tmp_path / "run", str(tmp_path / "net.bit.safetensors")
    flags = [*write(folder), "--folder", str(folder), "--epochs", "6", "--batch-size", "30", "--out", str(out)]
    assert main(["train", *flags]) == 0
    assert main(["deploy", str(out / "best.ckpt"), "-o", net]) == 0
    assert main(["verify", str(out / "best.ckpt"), net]) == 0
    capsys.readouterr()
    assert main(["eval", net, "--folder", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] >= 0.95
