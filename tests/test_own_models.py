"""Nets in files of the user's own: through every command, and found again, or not run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bitorch.train import Settings, fit, load_model, prepare, read_checkpoint
from own_files import NETS, command_runner

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning", "ignore:GPU available but not used"
)
TRAIN = ["--epochs", "1", "--batch-size", "256", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("mine.py").write_text(NETS, encoding="utf-8")


@pytest.fixture(name="run")
def _run(capsys: pytest.CaptureFixture[str]) -> Any:
    return command_runner(capsys)


def change() -> None:
    Path("mine.py").write_text(NETS + "\n# another comment\n", encoding="utf-8")


def test_every_command_finds_the_net_again(run: Any) -> None:
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    read = read_checkpoint("run/best.ckpt")
    assert read.settings is not None
    assert read.settings.model == "mine.py:net"
    assert read.model_sha256 is not None
    assert Path("run/mine.py").read_bytes() == Path("mine.py").read_bytes()
    deployed = run("deploy", "run/best.ckpt")
    assert "mine.py:net, bits 1 2 6" in deployed
    net = "run/best.bit.safetensors"
    assert "equal, bit for bit" in run("verify", "run/best.ckpt", net)
    accuracy = json.loads(run("eval", "run/best.ckpt", "--json"))
    assert accuracy["model"] == "mine.py:net"
    assert json.loads(run("eval", net, "--json"))["top1"] == accuracy["top1"]
    rows = json.loads(run("report", "run/best.ckpt", "--json"))
    assert {"stem", "body", "head"} <= {row["name"] for row in rows["rows"]}
    run("check", "run/best.ckpt", "--batch-size", "256")
    run("train", "--resume", "run/last.ckpt", "--epochs", "2")
    assert "mine.py:net" in run("bench", net, "--repeats", "1")
    assert "not measured: float twin" not in run("bench", net, "--repeats", "1", "--model", "mine.py:net")
    run("train", "--model", "mine.py:net", "--init", "run/last.ckpt", "--distil", "run/last.ckpt", "--out", "b", *TRAIN)


def test_a_run_is_found_from_its_folder(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    monkeypatch.chdir("run")
    run("deploy", "best.ckpt")
    run("train", "--resume", "last.ckpt", "--epochs", "2")
    assert len(read_checkpoint("last.ckpt").history) == 2


#: With a run in the folder run.
ON_CHECKPOINTS = (
    ["deploy", "run/best.ckpt"],
    ["verify", "run/best.ckpt", "run/best.bit.safetensors"],
    ["eval", "run/best.ckpt"],
    ["report", "run/best.ckpt"],
    ["check", "run/best.ckpt", "--batch-size", "256"],
    ["train", "--resume", "run/last.ckpt", "--epochs", "2"],
)


def test_a_file_that_has_changed(run: Any) -> None:
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    run("deploy", "run/best.ckpt")
    change()
    for command in ON_CHECKPOINTS:
        message = run(*command, code=2)
        assert "run/" in message
        assert "mine.py has changed since: its SHA-256 was" in message
        assert message.rstrip().endswith("say --model mine.py:net")
    message = run("train", "--distil", "run/last.ckpt", *TRAIN, code=2)
    assert "has the model of --distil mine.py:net" in message
    assert "say --distil-model mine.py:net" in message
    with pytest.raises(ValueError, match="has changed since"):
        load_model("run/best.ckpt")
    run("train", "--distil", "run/last.ckpt", "--distil-model", "mine.py:net", "--out", "b", *TRAIN)
    run("eval", "run/best.ckpt", code=2)
    for command in ON_CHECKPOINTS:
        run(*command, "--model", "mine.py:net")


def test_the_file_as_it_was_lies_beside_the_checkpoint(run: Any) -> None:
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    change()
    run("eval", "run/best.ckpt", code=2)
    run("eval", "run/best.ckpt", "--model", "run/mine.py:net")
    run("eval", "run/best.ckpt")  # as it was named before


def test_a_file_that_is_gone(run: Any) -> None:
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    Path("mine.py").rename("moved.py")
    message = run("eval", "run/best.ckpt", code=2)
    assert "run/best.ckpt has the model mine.py:net, which is not here" in message
    assert "name it with --model PATH/TO/mine.py:net" in message
    run("eval", "run/best.ckpt", "--model", "moved.py:net")
    run("train", "--resume", "run/last.ckpt", "--model", "moved.py:net", "--epochs", "2")


def test_what_somebody_gives_is_not_run(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("mine.py").write_text(f"{NETS}\nopen('ran', 'w').close()\n", encoding="utf-8")
    run("train", "--model", "mine.py:net", "--out", "run", *TRAIN)
    run("deploy", "run/best.ckpt")
    Path("ran").unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    for name in [name for name in sys.modules if name.startswith("bitorch_own_mine")]:
        del sys.modules[name]
    config = ["train", "--config", "run/settings.yaml"]
    for command in (*ON_CHECKPOINTS, config, ["train", "--distil", "run/best.ckpt"]):
        assert "has not been run here before" in run(*command, code=2)
    run("bench", "run/best.bit.safetensors", "--repeats", "1")
    assert not Path("ran").exists()
    run(*config, "--model", "mine.py:net", "--out", "b")
    assert Path("ran").exists()


#: One file each, so that naming one names no other.
OTHER_OWN = {
    "data": """
from bitorch.data import digits
def make(): return digits()
""",
    "loss": """
import torch.nn.functional as F
def make(output, target): return F.cross_entropy(output, target)
""",
    "metric": """
def make(output, target): return (output.argmax(1) == target).float().mean()
make.higher_is_better = True
""",
}


def test_no_function_of_somebody_else_is_run(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags = ["--model", "mine.py:net"]
    for name, text in OTHER_OWN.items():
        Path(f"{name}.py").write_text(f"{text}\nopen('{name} ran', 'w').close()\n", encoding="utf-8")
        flags += [f"--{name}", f"{name}.py:make"]
    run("train", *flags, "--out", "run", *TRAIN)
    run("deploy", "run/last.ckpt", "--out", "run/best.bit.safetensors")
    assert len([*Path().glob("* ran")]) == 3
    for path in Path().glob("* ran"):
        path.unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    for name in [name for name in sys.modules if name.startswith("bitorch_own_")]:
        del sys.modules[name]
    for command in (
        *ON_CHECKPOINTS[1:], ["sensitivity", "run/best.ckpt"], ["allocate", "run/best.ckpt", "--budget", "5kB"],
        ["train", "--config", "run/settings.yaml"],
    ):  # fmt: skip
        message = run(*command, "--model", "mine.py:net", code=2)
        assert "has not been run here before" in message or "does not say" in message, command
    assert not [*Path().glob("* ran")]
    Path("given.yaml").write_text("distil: run/best.ckpt\ndistil_model: data.py:make\n", encoding="utf-8")
    assert "given.yaml has the distil_model data.py:make" in run("train", "--config", "given.yaml", *TRAIN, code=2)
    assert not [*Path().glob("* ran")]


def test_data_that_does_not_say_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = "[torch.utils.data.TensorDataset(torch.rand(64, 3, 8, 8), torch.randint(0, 3, (64,)))] * 2"
    net = "def net(num_classes):\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, num_classes))"
    Path("all.py").write_text(f"import torch\ndef data():\n    return tuple({data})\n{net}\n", encoding="utf-8")
    settings = Settings(data="all.py:data", model="all.py:net", out=tmp_path / "run")
    with pytest.raises(TypeError, match=r"all\.py:net needs num_classes, and the data does not say .* \"num_classes\""):
        prepare(settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py", "model 'mine.py' is a file; say what in it makes the net, as mine.py:NAME"),
        ("mine.py:ner", "has no 'ner'; did you mean"),
        ("gone.py:net", "model: there is no such file: gone.py"),
        ("mine.py:nothing", "model mine.py:nothing must return a torch.nn.Module, got NoneType"),
        ("mine.py:needs", "needs depth; it is offered num_classes, channels, image_size"),
        ("mine.py:raises", "in raises: return Net(width=undefined): NameError: name 'undefined' is not defined"),
        (
            "mine.py:other_classes",
            "model mine.py:other_classes returns [2, 7] for a batch of 2 images, expected [2, 10]",
        ),
        ("mine.py:other_channels", "model mine.py:other_channels cannot take the 1×8×8 images of digits: mine.py:"),
        ("mine.py:NoParameters", "the model has no layer that can be converted"),
        ("mine.py:Raises", "in forward: return y[:, self.missing]: AttributeError"),
        ("mine.py:Nothing", "returns a NoneType without a floating-point tensor; model mine.py:Nothing must return"),
        ("python-Net", "was passed in Python"),
    ],
)
def test_what_is_no_net_for_the_images(run: Any, name: str, message: str) -> None:
    assert message in run("train", "--model", name, *TRAIN, code=2)
    assert not Path("runs").exists()


def test_a_net_without_parameters_even_as_float(run: Any) -> None:
    message = run("train", "--model", "mine.py:NoParameters", "--bits", 32, 32, 32, *TRAIN, code=2)
    assert "no layer that can be converted" in message or "nothing to train" in message


def test_a_teacher_that_is_made_needs_a_teacher() -> None:
    with pytest.raises(ValueError, match=r"distil_model must be left out without distil, got 'mine\.py:net'"):
        Settings(distil_model="mine.py:net")


def test_a_width_is_for_nets_with_names(run: Any) -> None:
    message = run("train", "--model", "mine.py:net", "--width", 2, *TRAIN, code=2)
    assert "model mine.py:net takes no width, got 2.0; say it in the file" in message


def test_a_module_of_a_package(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_nets_package").mkdir()
    Path("own_nets_package/__init__.py").write_text("", encoding="utf-8")
    Path("mine.py").rename("own_nets_package/nets.py")
    monkeypatch.syspath_prepend(Path.cwd())
    run("train", "--model", "own_nets_package.nets:net", "--out", "run", *TRAIN)
    assert "own_nets_package.nets:net" in run("deploy", "run/best.ckpt")
    assert Path("run/nets.py").is_file()
    Path("own_nets_package/nets.py").write_text(NETS + "\n", encoding="utf-8")
    assert "has changed since" in run("deploy", "run/best.ckpt", code=2)


def test_a_script_that_trains_when_it_is_imported(run: Any) -> None:
    script = f"{NETS}\nfrom bitorch.train import Settings, fit\nfit(Settings(epochs=1), model=Net)\n"
    Path("script.py").write_text(script, encoding="utf-8")
    message = run("train", "--model", "script.py:Net", *TRAIN, code=2)
    assert "fit(Settings(epochs=1), model=Net): RuntimeError: a training run is started while script.py is" in message
    assert "put what a script does behind `if __name__ == '__main__':`" in message
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["Net", "ready", "named", "lazy", "lazy_module"])
def test_classes_modules_and_named_logits(run: Any, name: str) -> None:
    run("train", "--model", f"mine.py:{name}", "--out", "run", *TRAIN)
    run("deploy", "run/last.ckpt")
    run("verify", "run/last.ckpt", "run/last.bit.safetensors")
    run("eval", "run/last.bit.safetensors")


def test_the_run_is_named_after_the_net(run: Any) -> None:
    Path("nets").mkdir()
    Path("mine.py").rename("nets/mine.py")
    run("train", "--model", "nets/mine.py:net", *TRAIN)
    assert [path.name for path in Path("runs").iterdir()] == ["digits-mine-net-w1a2g6-seed0"]
    provenance = run("deploy", "runs/digits-mine-net-w1a2g6-seed0/last.ckpt")
    assert "nets/mine.py:net" in provenance
    content = Path("runs/digits-mine-net-w1a2g6-seed0/last.bit.safetensors").read_bytes()
    assert b'"model": "mine.py:net"' in content.replace(b"\\", b"").replace(b'":"', b'": "')
    assert b"nets/mine" not in content


def test_low_bit_layers_stay_as_they_came(run: Any) -> None:
    printed = run("train", "--model", "mine.py:low_bit", "--out", "run", *TRAIN)
    assert "as it came" in printed
    read = read_checkpoint("run/last.ckpt")
    assert read.bits == {"body": [2, 4, 32]}
    assert read.settings is not None
    assert read.settings.bits == (2, 4, 32)
    run("train", "--resume", "run/last.ckpt", "--epochs", "2")
    run("deploy", "run/last.ckpt")
    run("verify", "run/last.ckpt", "run/last.bit.safetensors")
    run("report", "run/last.ckpt")
    message = run("train", "--model", "mine.py:low_bit", "--bits", 1, 1, 32, *TRAIN, code=2)
    assert "model mine.py:low_bit has low-bit layers already (body), which stay as they are" in message
    message = run("train", "--model", "mine.py:low_bit", "--first", "8", *TRAIN, code=2)
    assert "leave them out, or let it return a float model" in message


def test_a_run_from_python() -> None:
    made = []

    def make(num_classes: int, channels: int) -> torch.nn.Module:
        made.append((num_classes, channels))
        return torch.nn.Sequential(
            torch.nn.Conv2d(channels, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3),
            torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, num_classes),
        )  # fmt: skip

    settings = Settings(epochs=2, batch_size=256, accelerator="cpu", out=Path("whole"))
    whole = fit(settings, model=make, show=False)
    assert made == [(10, 1)]
    one = prepare(Settings(epochs=1, batch_size=256, accelerator="cpu", out=Path("a"), schedule="constant"), model=make)
    assert one.settings.model == "python-make"
    one.train(show=False)
    resumed = Settings(epochs=2, batch_size=256, accelerator="cpu", resume=Path("a/last.ckpt"), schedule="constant")
    fit(resumed, model=make, show=False)
    constant = Settings(epochs=2, batch_size=256, accelerator="cpu", out=Path("c"), schedule="constant")
    fit(constant, model=make, show=False)
    one_run, two_runs = (load_model(path, make).state_dict() for path in ("a/last.ckpt", "c/last.ckpt"))
    assert all(torch.equal(one_run[name], two_runs[name]) for name in two_runs)
    with pytest.raises(
        ValueError, match=r"last\.ckpt is of a net that was passed in Python, make; pass it again as mod"
    ):
        load_model(whole.last_checkpoint)


def test_a_function_that_has_changed_is_not_resumed() -> None:
    namespace: dict[str, Any] = {}
    for name, lines in (("one", NETS), ("two", NETS.replace("Net(num_classes, channels)", "Net(num_classes)"))):
        Path(f"{name}.py").write_text(lines, encoding="utf-8")
        exec(compile(lines, f"{name}.py", "exec"), namespace)
        namespace[name] = namespace["net"]
    settings = Settings(epochs=1, batch_size=256, accelerator="cpu", out=Path("run"))
    fit(settings, model=namespace["one"], show=False)
    resumed = Settings(epochs=2, batch_size=256, accelerator="cpu", resume=Path("run/last.ckpt"))
    with pytest.raises(ValueError, match=r"the source of net has changed since the run of run/last\.ckpt"):
        fit(resumed, model=namespace["two"], show=False)


def test_modules_from_python_are_copied() -> None:
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(),
        torch.nn.Linear(16, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 10),
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = fit(Settings(epochs=1, batch_size=256, accelerator="cpu", out=Path("run")), model=net, show=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert type(net[4]) is torch.nn.Linear
    assert read_checkpoint(result.last_checkpoint).model_sha256 is None
    assert load_model(result.last_checkpoint, net).state_dict().keys() >= before.keys()
    with pytest.raises(ValueError, match="model is passed, and settings have model='resnet-20'; leave one of them out"):
        prepare(Settings(model="resnet-20"), model=net)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn.Module or a function that returns one, got 3"):
        prepare(Settings(), model=3)  # type: ignore[arg-type]  # the mistake under test
