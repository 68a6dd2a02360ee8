"""`bitorch predict FOLDER`: labels by names of folders, accuracy, confusions, CSV, and files that cannot be read."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import bitorch
from bitorch.cli import main
from bitorch.commands.folder_prediction import Tally
from bitorch.commands.pictures_below import pictures_below
from bitorch.commands.prediction_tables import summary
from bitorch.deployment.runtime.packed_model import PackedModel

NAMES = ("dark", "mid grey", "hell", "Übel")
PIXELS = {"dark": 10, "mid grey": 120, "hell": 250, "Übel": 66}


class ByBrightness(nn.Module):
    """Scores of four classes by the mean of the image: the class whose brightness is nearest."""

    def __init__(self) -> None:
        super().__init__()
        centers = torch.tensor([PIXELS[name] / 255 for name in NAMES])
        self.head = nn.Linear(16, len(NAMES))
        with torch.no_grad():  # −(m − c)² without m²: 2mc − c²
            self.head.weight.copy_(2 * centers[:, None].expand(-1, 16) / 16)
            self.head.bias.copy_(-(centers**2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(x.flatten(1))
        return scores


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "net.bit.safetensors"
    model = ByBrightness()
    bitorch.quantize_(model, bitorch.LowBitConfig(8, 8, weights="lsq", first="same", last="same"))
    packed = bitorch.deploy(model.eval(), torch.rand(1, 1, 4, 4), pixels=True, class_names=NAMES)
    packed.save(path)
    return str(path)


def write(path: Path, value: int, size: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, dtype=np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of each class, one of which is not what its folder says; and files that are no pictures."""
    root = tmp_path / "my pictures"
    for name in NAMES:
        for index in range(3):
            write(root / "val" / name / f"{index}.png", PIXELS[name] + index)
    write(root / "val" / "dark" / "wrong.png", 245)
    (root / "val" / "labels.txt").write_text("0")
    write(root / ".hidden" / "dark" / "0.png", 250)
    return root


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_accuracy_and_confusions(net: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, confusions = tmp_path / "seen.csv", tmp_path / "confusions.csv"
    assert main(["predict", net, str(pictures), "--csv", str(table), "--confusions", str(confusions)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == (
        f"{pictures}: 13 pictures, 1 other file left out\n"
        "accuracy 92.31%: 12 of 13 are what their folders say\n"
        "\n"
        "rows: what folders say; columns: what the net sees\n"
        "          dark  mid grey  hell  Übel   right\n"
        "────────────────────────────────────────────\n"
        "dark         3         ·     1     ·   75.0%\n"
        "mid grey     ·         3     ·     ·  100.0%\n"
        "hell         ·         ·     3     ·  100.0%\n"
        "Übel         ·         ·     ·     3  100.0%\n"
    )
    rows = lines_of(table)
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    (wrong,) = (row for row in rows if row["right"] == "0")
    assert (Path(wrong["file"]).name, wrong["label"], wrong["class"], wrong["predicted"]) == (
        "wrong.png", "dark", "2", "hell",
    )  # fmt: skip
    assert Counter(row["right"] for row in rows) == {"1": 12, "0": 1}
    whole = {row["label"]: row for row in lines_of(confusions)}
    assert [int(whole["dark"][name]) for name in NAMES] == [3, 0, 1, 0]
    assert list(whole) == list(NAMES)


def test_the_folder_says_what_the_net_alone_says(net: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Held against the packed model on the same pixels, one by one."""
    assert main(["predict", net, str(pictures), "--json"]) == 0
    printed = capsys.readouterr()
    assert "accuracy 92.31%" in printed.err
    packed = PackedModel.load(net)
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) == 13
    for line in lines:
        pixels = torch.from_numpy(np.array(Image.open(line["file"])))[None, None]
        scores = packed(pixels)
        assert isinstance(scores, torch.Tensor)
        assert line["class"] == int(scores.argmax())
        assert line["scores"] == pytest.approx(scores[0].tolist())
        assert line["folder"] == Path(line["file"]).parent.name


def test_a_class_folder_by_itself(net: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", net, str(pictures / "val" / "dark")]) == 0
    assert "accuracy 75.00%: 3 of 4" in capsys.readouterr().out
    write(pictures / "val" / "dark" / "hell" / "nearest.png", PIXELS["hell"])
    assert main(["predict", net, str(pictures / "val")]) == 0
    assert "accuracy 92.86%: 13 of 14" in capsys.readouterr().out


def test_without_labels_classes_are_counted(net: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = pictures / "flat"
    flat.mkdir()
    for index, path in enumerate(sorted((pictures / "val").rglob("*.png"))):
        shutil.copy(path, flat / f"{index:02}.png")
    assert main(["predict", net, str(flat)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" not in printed
    assert "hell             4" in printed


def test_files_that_cannot_be_read(net: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "val" / "hell" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    write(pictures / "val" / "hell" / "large.png", 250, size=5)
    whole = (pictures / "val" / "hell" / "0.png").read_bytes()
    (pictures / "val" / "hell" / "cut.png").write_bytes(whole[:50])
    assert main(["predict", net, str(pictures)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 3
    assert all(name in printed.err for name in ("broken.jpg", "large.png is 5×5 pixels", "cut.png"))
    assert "13 pictures, 3 that cannot be read, 1 other file left out" in printed.out
    assert "accuracy 92.31%: 12 of 13" in printed.out


def test_only_files_that_cannot_be_read(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    assert main(["predict", net, str(tmp_path)]) == 2
    assert capsys.readouterr().out == f"{tmp_path}: 0 pictures, 1 that cannot be read\n"


def test_a_folder_that_no_class_is_called(net: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "val" / "Übel").rename(pictures / "val" / "Uebel")
    (pictures / "val" / "hell").rename(pictures / "val" / "Hell")
    assert main(["predict", net, str(pictures)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy 85.71%: 6 of 7" in printed
    assert "no class is called Hell (3 pictures without a label; is hell meant?)" in printed
    assert "no class is called Uebel (3 pictures without a label" in printed


def test_a_folder_without_pictures(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert main(["predict", net, str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no picture in {tmp_path}, but 1 other file; pictures end in .png, .jpg and the like, or in "
        ".npy\n"
    )


def test_more_than_one_chunk_stays_in_order(net: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "many"
    for index in range(150):
        write(root / NAMES[index % 4] / f"{index:03}.png", PIXELS[NAMES[index % 4]])
    np.save(root / "dark" / "a batch.npy", np.full((3, 4, 4), 10, dtype=np.uint8))
    assert main(["predict", net, str(root), "--csv", str(tmp_path / "x.csv")]) == 0
    assert "accuracy 100.00%: 153 of 153" in capsys.readouterr().out
    rows = lines_of(tmp_path / "x.csv")
    assert [row["index"] for row in rows if row["file"].endswith(".npy")] == ["0", "1", "2"]
    assert [row["predicted"] for row in rows] == [row["label"] for row in rows]


def test_many_classes_show_the_pairs(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(30))
    tally = Tally(names, pictures=62)
    for index, name in enumerate(names):
        tally.confusion[name, name] = 2
        tally.confusion[name, names[(index + 1) % 30]] = 5 if index == 7 else 0
    (tmp_path / "x.png").write_bytes(b"")
    text = summary(tally, pictures_below(tmp_path))
    assert "what is confused most" in text
    assert "class 7      class 8          5" in text


def test_places_are_checked_first(net: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", net, str(pictures), "--csv", str(tmp_path / "none" / "x.csv")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["predict", net, str(pictures), "--confusions", str(tmp_path)]) == 2
    assert "is a folder; name a file in it with --confusions" in capsys.readouterr().err
