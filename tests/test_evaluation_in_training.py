"""Validation, `bitorch eval`, `sensitivity` and `allocate` on packed weights: the numbers that they had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitorch
from bitorch.cli import main
from bitorch.deployment.partial.evaluation_pass import EvaluationPass
from bitorch.input_error import InputError
from bitorch.train import Classifier, Result, Settings, Task, Trainable, evaluate, fit, prepare
from bitorch.train.progress import quiet_lightning


def settings(folder: Path, **changes: Any) -> Settings:
    """A run of four steps."""
    own = {
        "epochs": 2,
        "batch_size": 700,
        "bits": (1, 2, 6),
        "schedule": "constant",
        "accelerator": "cpu",
        "out": folder,
    }
    return Settings(**{"data": "digits", "model": "lenet-8", "width": 0.5, **own, **changes})


def rows(result: Result) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds_per_step"} for row in result.history]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("runs")
    return {choice: fit(settings(folder / choice, evaluation=choice), show=False) for choice in ("auto", "unpacked")}


def test_a_run_is_the_same(runs: dict[str, Result]) -> None:
    states = {
        name: torch.load(result.last_checkpoint, weights_only=True)["state_dict"] for name, result in runs.items()
    }
    assert rows(runs["auto"]) == rows(runs["unpacked"])
    assert states["auto"].keys() == states["unpacked"].keys()
    assert all(torch.equal(tensor, states["unpacked"][key]) for key, tensor in states["auto"].items())


@pytest.mark.parametrize("options", [{"range": "learned"}, {"warm_start": "bits", "warm_start_epochs": 2, "epochs": 3},
                                     {"precision": "bf16"}], ids=lambda options: next(iter(options)))  # fmt: skip
def test_runs_of_other_kinds_are_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    packed, own = (
        fit(settings(tmp_path / choice, evaluation=choice, **options), show=False) for choice in ("auto", "unpacked")
    )
    assert rows(packed) == rows(own)


def test_a_resumed_run_is_a_straight_one(tmp_path: Path, runs: dict[str, Result]) -> None:
    half = fit(settings(tmp_path, epochs=1), show=False)
    whole = fit(settings(tmp_path, resume=half.last_checkpoint), show=False)
    assert rows(whole) == rows(runs["unpacked"])


def test_a_run_says_what_it_is_evaluated_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(settings(tmp_path / "run"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("evaluates", "epoch"))]
    assert lines[:3] == [
        "evaluates on packed weights: layers.3, layers.7, layers.11",
        "evaluates on packed weights: layers.3, layers.7",
        "evaluates as it trains: layers.11 (packing takes longer than what a pass of so few inputs saves)",
    ]
    assert [line[:5] for line in lines[3:]] == ["epoch", "epoch"]


def test_what_cannot_be_packed_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer 'layers\.3' cannot be evaluated on packed weights, as a layer"):
        prepare(settings(tmp_path, evaluation="packed", exact=False))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="evaluation must be"):
        settings(tmp_path, evaluation="int8")


@pytest.mark.parametrize("choice", ["auto", "packed", "unpacked"])
def test_evaluate(runs: dict[str, Result], choice: Any) -> None:
    found = evaluate(runs["auto"].last_checkpoint, evaluation=choice)
    assert (found.loss, found.top1) == (evaluate(runs["auto"].last_checkpoint, evaluation="unpacked").loss,
                                        runs["auto"].last_accuracy)  # fmt: skip
    names = {"auto": ("layers.3", "layers.7"), "packed": ("layers.3", "layers.7", "layers.11"), "unpacked": ()}
    assert found.evaluated.packed == names[choice]
    with pytest.raises(ValueError, match="evaluation must be one of"):
        evaluate(runs["auto"].last_checkpoint, evaluation="int8")  # type: ignore[arg-type]


def test_the_command(runs: dict[str, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(runs["auto"].last_checkpoint)
    assert main(["eval", checkpoint]) == 0
    assert "\nevaluates on packed weights: layers.3, layers.7\n" in capsys.readouterr().out
    assert main(["eval", checkpoint, "--evaluation", "unpacked", "--json"]) == 0
    reasons = dict.fromkeys(("layers.3", "layers.7", "layers.11"), 'evaluation="unpacked"')
    assert json.loads(capsys.readouterr().out)["evaluated"] == {"packed": [], "unpacked": reasons}
    packed = str(tmp_path / "net.safetensors")
    assert main(["deploy", checkpoint, "--out", packed]) == 0
    capsys.readouterr()
    assert main(["eval", packed, "--evaluation", "packed"]) == 0
    assert main(["eval", packed, "--evaluation", "unpacked"]) == 2
    assert "a packed net has nothing else than packed weights" in capsys.readouterr().err


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3), nn.BatchNorm2d(24),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 2, 6))
    return model


def samples(count: int = 64) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % 3
    return TensorDataset(torch.rand(count, 1, 8, 8, generator=generator) * labels[:, None, None, None] / 2, labels)


def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, callbacks=list(callbacks), **options,
    )  # fmt: skip


class Losses(pl.Callback):
    """A user's callback that looks at what there is in validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.keys: list[list[str]] = []

    def on_validation_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        self.keys.append(list(module.state_dict()))
        assert not any("forward" in vars(part) for part in module.modules())

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["val/loss"]))


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_callbacks_and_averaged_weights(averaged: bool) -> None:
    losses: dict[str, list[float]] = {}
    for choice in ("packed", "unpacked"):
        seen = Losses()
        classifier = Classifier(small_net(), 3, evaluation=choice)
        callbacks = [seen, EMAWeightAveraging(decay=0.5)] if averaged else [seen]
        with quiet_lightning():
            trainer(*callbacks, max_epochs=2).fit(
                classifier, DataLoader(samples(), batch_size=32), DataLoader(samples(), batch_size=64)
            )
        losses[choice] = seen.losses
        assert all(keys == seen.keys[0] for keys in seen.keys)
        assert classifier.evaluated is not None
        assert classifier.evaluated.packed == (("3",) if choice == "packed" else ())
    assert losses["packed"] == losses["unpacked"]
    assert len(set(losses["packed"])) == len(losses["packed"]) > 1


@pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers")
def test_a_pass_that_breaks_off_leaves_nothing_behind() -> None:
    model = small_net()

    def fails(output: Any, target: Tensor) -> Tensor:
        raise RuntimeError("a loss of the user's")

    broken = Trainable(model, Task.of(fails), evaluation="packed")
    with quiet_lightning(), pytest.raises(InputError, match="of the user's"):
        trainer().validate(broken, DataLoader(samples(), batch_size=64), verbose=False)
    assert not any("forward" in vars(part) for part in model.modules())


@pytest.mark.parametrize("renew", [False, True])
def test_sensitivity_is_the_same(renew: bool) -> None:
    model, data = small_net(), list(DataLoader(samples(), batch_size=32))
    found = {
        choice: bitorch.sensitivity(model, data, (1, 2, 8), renew_statistics=renew, evaluation=choice)
        for choice in ("packed", "unpacked")
    }
    assert found["packed"].rows == found["unpacked"].rows
    assert len(found["packed"].rows) == 8
    assert found["packed"].loss == found["unpacked"].loss
    assert "evaluates on packed weights: 3" in str(found["packed"])
    assert found["packed"].to_dict()["evaluated"] == {"packed": ["3"], "unpacked": {}}
    with pytest.raises(ValueError, match="evaluation must be one of"):
        bitorch.sensitivity(model, data, evaluation="int8")  # type: ignore[arg-type]


def test_allocation_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = small_net().eval(), list(DataLoader(samples(), batch_size=64))
    calls: list[str] = []
    made = EvaluationPass.__init__

    def counted(self: EvaluationPass, model: nn.Module, choice: Any, **options: Any) -> None:
        calls.append(choice)
        made(self, model, choice, **options)

    monkeypatch.setattr(EvaluationPass, "__init__", counted)
    found = [
        bitorch.allocate(model, data, bitorch.Budget(bytes=9000), ((1, 1), (2, 2)), evaluation=choice)
        for choice in ("packed", "unpacked")
    ]
    assert calls == ["packed"] * 3 + ["unpacked"] * 3  # as it is, one trial, and the mix
    assert (found[0].loss, found[0].accuracy, found[0].layers) == (found[1].loss, found[1].accuracy, found[1].layers)
