"""What the command line says to words that it does not know, and to files of another kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bitorch
import bitorch_runtime
from bitorch.cli import main
from bitorch.commands import bench, deploy, evaluate, export, init, predict, sweep, verify
from bitorch.commands.arguments import ReportArguments, _CheckArguments, _TrainArguments
from bitorch.commands.options import _OTHER_NAMES, wrong_option
from bitorch.known_names import DATA_NAMES
from bitorch.models import LeNet8

DATA = "digits, mnist, cifar10, cifar100, svhn, imagenet, images, webdataset, fake, or FILE.py:NAME"
KINDS = {
    "init": init._Arguments,
    "train": _TrainArguments,
    "sweep": sweep._Arguments,
    "check": _CheckArguments,
    "report": ReportArguments,
    "eval": evaluate._Arguments,
    "deploy": deploy._Arguments,
    "export": export._Arguments,
    "verify": verify._Arguments,
    "predict": predict._Arguments,
    "bench": bench._Arguments,
}


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail as a user's error does, and return its one line."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("error: ").strip()


@pytest.mark.parametrize(
    ("command", "option", "meant"),
    [
        ("train", "--learning-rate", "--lr"),
        ("train", "--learning_rate=0.1", "--lr"),
        ("train", "--batch", "--batch-size"),
        ("train", "--bit", "--bits"),
        ("train", "--num-epochs", "--epochs"),
        ("train", "--output", "--out"),
        ("train", "-o", "--out"),
        ("train", "--device", "--accelerator"),
        ("train", "--gpus", "--devices"),
        ("train", "--dataset", "--data"),
        ("train", "--data-dir", "--folder"),
        ("train", "--arch", "--model"),
        ("train", "--checkpoint", "--resume"),
        ("train", "--epohcs", "--epochs"),
        ("check", "--batchsize", "--batch-size"),
        ("report", "--learning-rate", "--lr"),
        ("eval", "--device", "--accelerator"),
        ("sweep", "--workers", "--jobs"),
        ("sweep", "--ray-address", "--address"),
        ("deploy", "--output", "--out"),
        ("verify", "--batch-size", "--batch"),
        ("predict", "--topk", "--top"),
        ("bench", "--num-threads", "--threads"),
        ("bench", "--batch-size", "--batch"),
    ],
)
def test_unknown_options_suggest(command: str, option: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of([command, option, "3"], capsys)
    assert message == f"bitorch {command} has no option {option.partition('=')[0]}; did you mean {meant}?"


def test_an_option_like_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        error_of(["train", "--zzzzz"], capsys) == "bitorch train has no option --zzzzz; bitorch train --help lists all"
    )
    assert error_of(["doctor", "--jsn"], capsys) == "bitorch doctor takes --json and nothing else, got --jsn"


def test_every_synonym_leads_to_an_option() -> None:
    options = {command: _known(kind) for command, kind in KINDS.items()}
    for name, others in _OTHER_NAMES.items():
        assert any(name in known for known in options.values()), name
        assert name not in others


def _known(kind: type) -> set[str]:
    from bitorch.commands.options import _options

    return {name for name, _ in _options(kind)}


@pytest.mark.parametrize("command", KINDS)
def test_every_option_of_a_command_is_known(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Held against what its --help lists, or --help-all where that has pages."""
    with pytest.raises(SystemExit):
        main([command, "--help-all" if command in ("train", "check", "report") else "--help"])
    words = capsys.readouterr().out.replace("│", " ").replace(",", " ").split()
    listed = {word for word in words if word.startswith("--") and word.strip("-")} - {
        "--nnodes=2",
        "--help",
        "--quantizers",
    }
    known = _known(KINDS[command])
    for option in listed:
        name = option.partition("=")[0].rstrip(".;:)]")
        if not name.startswith(("--nproc", "--rdzv")):
            assert name in known, name
    assert wrong_option(KINDS[command], ["--help"], command) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--optimizer", "adamw"], "--optimizer must be one of adam, sgd, got 'adamw'; did you mean adam?"),
        (["train", "--optimizer=SGD"], "--optimizer must be one of adam, sgd, got 'SGD'; did you mean sgd?"),
        (["train", "--precision", "16"], "--precision must be one of 32, bf16, got '16'; did you mean bf16?"),
        (["train", "--schedule", "cos"], "one of cosine, step, constant, got 'cos'; did you mean cosine?"),
        (["train", "--range", "learnt"], "did you mean learned?"),
        (["train", "--accelerator", "cuda"], "--accelerator must be one of auto, cpu, gpu, mps, got 'cuda'"),
        (["train", "--model", "lenet-9"], "did you mean lenet or lenet-8 or lenet-28?"),
        (["train", "--model", "resnet18"], "got 'resnet18'; did you mean resnet-18?"),
        (["train", "--model", "MobileNetV2"], "did you mean mobilenet-v2?"),
        (["train", "--data", "digit"], f"data must be one of {DATA}, got 'digit'; did you mean digits?"),
        (["train", "--data=MNIST"], "did you mean mnist with --folder, which reads the files of the MNIST family?"),
        (["train", "--data", "fashion-mnist"], "did you mean mnist with --folder"),
        (["eval", "x.ckpt", "--data", "celeba"], f"data must be one of {DATA}, got 'celeba'"),
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["evaluate"], "unknown command 'evaluate'; did you mean eval?"),
        (["convert"], "unknown command 'convert'; did you mean deploy?"),
        (["to-onnx"], "unknown command 'to-onnx'; did you mean export?"),
        (["to-c"], "unknown command 'to-c'; did you mean export?"),
        (["benchmark"], "unknown command 'benchmark'; did you mean bench?"),
        (["train", "--width", "1e9"], "width must be at most 64, got 1000000000.0"),
        (["train", "--pad-to", "100000"], "pad_to must be at most 1024, got 100000"),
    ],
)  # fmt: skip
def test_wrong_words_suggest(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in error_of(arguments, capsys)


def test_enumerations_of_a_settings_file_suggest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("optimizer: adamw")
    message = error_of(["train", "--config", str(tmp_path / "run.yaml")], capsys)
    assert "optimizer must be one of adam, sgd, got 'adamw'; did you mean adam?" in message


#: Command lines that need no net, and what each of them ends with.
WITHOUT_TORCH = {
    "": 2,
    "--help": 0,
    "--version": 0,
    "trian": 2,
    "train --data cifar": 2,
    "check --model lenet-9": 2,
    "deploy net.ckpt --output x": 2,
    "bench net --threads 0": 2,
    **{f"{command} --help": 0 for command in ("eval", "deploy", "export", "verify", "predict", "bench", "doctor")},
}


@pytest.mark.parametrize("line", WITHOUT_TORCH)
def test_what_needs_no_net_imports_no_torch(line: str) -> None:
    """Nor anything else that takes long, where nothing is parsed: torch takes seconds, tyro a fifth of one."""
    script = """
import sys
from bitorch.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
    words = line.split()
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == WITHOUT_TORCH[line], done.stderr
    imported = {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "bitorch" in imported
    assert not imported & {"torch", "numpy", "lightning", "torchvision", "bitorch_runtime"}
    assert len(words) > 1 or not imported & {"tyro", "rich", "yaml"}


def test_dir_lists_public_names_alone() -> None:
    names = {name for name in dir(bitorch) if not name.startswith("_")}
    packages = {"data", "hub", "layers", "models", "quantizations", "train"}
    assert names == {*bitorch._HOMES, *packages, "mode"}
    assert all(getattr(bitorch, name) is sys.modules[f"bitorch.{name}"] for name in packages)


def test_importing_bitorch_imports_no_torch_and_every_name_is_there() -> None:
    script = "import sys, bitorch; assert 'torch' not in sys.modules; bitorch.layers.QLinear; bitorch.quantize_"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    for name in bitorch._HOMES:
        expected = "LowBitConfig" if name == "DoReFaConfig" else name  # an alias
        assert getattr(getattr(bitorch, name), "__name__", expected) == expected  # a dict has none
    with pytest.raises(AttributeError, match="module 'bitorch' has no attribute 'nothing'"):
        bitorch.nothing  # noqa: B018  # type: ignore[attr-defined]
    assert [*DATA_NAMES, "or FILE.py:NAME"] == DATA.split(", ")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of every kind, by name."""
    folder = tmp_path_factory.mktemp("kinds")
    packed = folder / "net.bit.safetensors"
    torch.manual_seed(0)
    model = LeNet8()
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2))
    bitorch.deploy(model.eval(), torch.rand(1, 1, 8, 8)).save(packed)
    torch.save(model.state_dict(), folder / "weights.pt")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "image.png")
    np.save(folder / "array.npy", np.zeros((8, 8), np.uint8))
    np.savez(folder / "arrays.npz", a=np.zeros((8, 8), np.uint8))
    (folder / "archive.npy").write_bytes((folder / "arrays.npz").read_bytes())
    with (folder / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    (folder / "empty").touch()
    (folder / "text.yaml").write_text("epochs: 3\n")
    (folder / "latin.yaml").write_bytes(b"data: \xe4")
    (folder / "packed.ckpt").write_bytes(packed.read_bytes())
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    found = {path.name: str(path) for path in folder.iterdir()}
    return {**found, "zero": "/dev/zero", "missing": str(folder / "missing"), "nul": "a\0b"}


#: Commands with a file in each of their places, and what fits there.
PLACES = {
    "eval": (["eval", "FILE"], ()),
    "deploy": (["deploy", "FILE", "-o", "OUT"], ()),
    "deploy beside": (["deploy", "FILE"], ()),
    "deploy over": (["deploy", "net.bit.safetensors", "-o", "FILE"], ()),
    "export onnx": (["export", "FILE", "--onnx", "OUT"], ()),
    "export onnx over": (["export", "missing", "--onnx", "FILE"], ()),
    "verify onnx": (["verify", "missing", "none.onnx"], ()),
    "report page": (["report", "missing", "--html", "FILE"], ()),
    "export c": (["export", "FILE", "--c", "OUT"], ("net.bit.safetensors", "packed.ckpt")),
    "verify checkpoint": (["verify", "FILE", "net.bit.safetensors"], ()),
    "predict net": (["predict", "FILE", "image.png"], ("net.bit.safetensors", "packed.ckpt")),
    "bench": (["bench", "FILE", "--repeats", "1"], ("net.bit.safetensors", "packed.ckpt")),
    "report": (["report", "FILE"], ()),
    "check": (["check", "FILE"], ()),
    "train config": (["train", "--config", "FILE", "--lr", "-1"], ()),
    "train resume": (["train", "--resume", "FILE", "--out", "OUT"], ()),
    "train init": (["train", "--init", "FILE", "--out", "OUT"], ("weights.pt",)),
    "train weights": (["train", "--weights", "FILE", "--out", "OUT"], ("weights.pt",)),
    "train distil": (["train", "--distil", "FILE", "--out", "OUT"], ()),
    "train rules": (["train", "--rules", "FILE", "--out", "OUT"], ()),
    "train folder": (["train", "--data", "mnist", "--folder", "FILE", "--out", "OUT"], ()),
    "predict image": (["predict", "net.bit.safetensors", "FILE"], ("image.png", "array.npy")),
}


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="has no endless file")
@pytest.mark.parametrize("place", PLACES)
def test_files_of_another_kind_are_refused_in_one_line(
    place: str, files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, fitting = PLACES[place]
    for name, path in files.items():
        if name in fitting or (place == "eval" and name in ("net.bit.safetensors", "packed.ckpt")):
            continue
        out = str(tmp_path / "out")
        arguments = [path if word == "FILE" else out if word == "OUT" else files.get(word, word) for word in words]
        message = error_of(arguments, capsys)
        assert len(message) < 800, (name, message)
        assert not (tmp_path / "out").exists()
    for command in ("deploy", "eval", "report", "check"):
        assert "is a folder; name a checkpoint in it" in error_of([command, "/"], capsys)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no full disk")
def test_an_output_that_cannot_be_written() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "bitorch.cli", "doctor"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "error: cannot write the output: No space left on device\n")


def test_a_packed_net_goes_into_a_pipe(files: dict[str, str], tmp_path: Path) -> None:
    """`-o /dev/stdout` and a link keep what they are; a folder's file of the same name is not touched."""
    packed = bitorch.PackedModel.load(files["net.bit.safetensors"])
    script = f"import bitorch; bitorch.PackedModel.load({files['net.bit.safetensors']!r}).save('/dev/stdout')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert len(done.stdout) == packed.nbytes
    (tmp_path / "net.bit.safetensors").write_bytes(done.stdout)
    assert repr(bitorch.PackedModel.load(tmp_path / "net.bit.safetensors")) == repr(packed)


@pytest.mark.parametrize(
    "provenance",
    [
        {"torch_shapes": 5},
        {"torch_shapes": {"inputs": 5, "outputs": [[10]]}},
        {"torch_shapes": {"inputs": [["a"]]}},
        {"torch_shapes": {"inputs": [[-1, -64]]}},
        {"torch_shapes": {"outputs": [{}]}},
        {"run": {"bits": 5, "model": ["x"]}},
        {"run": {"model": "lenet-8", "width": 1e9}, "input_shape": [1, 8, 8], "num_classes": 10},
        {"run": {"model": "lenet-8"}, "input_shape": [1], "num_classes": 10**12},
        {"run": {"model": "lenet-8"}, "input_shape": [{}, 8, 8], "num_classes": "x"},
        {"run": [], "input_shape": 3},
    ],
)
def test_a_provenance_of_anything_is_read_or_refused(
    provenance: dict[str, object], files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operations, arrays, info = bitorch_runtime.format.read(files["net.bit.safetensors"])
    path = tmp_path / "crafted.bit.safetensors"
    bitorch_runtime.save(path, operations, arrays, provenance={**info["provenance"], **provenance})
    for command in (["eval", str(path), "--data", "digits"], ["bench", str(path), "--repeats", "1"]):
        code = main(command)
        printed = capsys.readouterr()
        assert (code, printed.err.count("\n")) in ((0, 0), (2, 1))
        assert code == 0 or "crafted.bit.safetensors: the provenance has torch_shapes" in printed.err
