"""Ranges, methods and rules through the trainer and its commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

import bitorch
from bitorch.cli import main
from bitorch.deployment.runtime.packed_model import PackedModel
from bitorch.layers.low_bit import LowBit
from bitorch.quantizations import InputCalibrated, InputLSQ, InputPACT, Sign, WeightLSQ
from bitorch.train import NonFiniteError, Settings, evaluate, fit, load_model, prepare, read_checkpoint, read_settings
from bitorch.train.bits_in_force import bits_in_force
from test_train import assert_same_state, short

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name

SHORT = ["--epochs", "1", "--batch-size", "700", "--accelerator", "cpu"]

RULES = """
- weight_bits: 2
  activation_bits: 4
  range: calibrated
- match: layers.7
  weight_bits: 1
  activation_bits: 2
  gradient_bits: 6
- match: layers.3
  float: true
"""


def low_bit_layer(settings: Settings) -> LowBit:
    return next(module for module in prepare(settings).model.modules() if isinstance(module, LowBit))


@pytest.mark.parametrize(
    ("fields", "weight", "activation"),
    [
        ({"range": "calibrated"}, "WeightDoReFa", InputCalibrated),
        ({"range": "learned"}, "WeightLSQ", InputLSQ),
        ({"range": "learned", "learned_by": "pact"}, "WeightDoReFa", InputPACT),
        ({"weights_method": "twn", "bits": (2, 1, 32), "sign": "sign"}, "WeightTWN", Sign),
        ({"weights_method": "lsq", "weight_scale": "channel"}, "WeightLSQ", None),
        ({"weights_method": "absmax", "bits": (4, 4, 32), "group_size": 8}, "WeightAbsMax", None),
    ],
)
def test_settings_reach_the_layers(
    fields: dict[str, Any], weight: str, activation: type | None, tmp_path: Path
) -> None:
    settings = short(**fields, out=tmp_path / "run")
    layer = low_bit_layer(settings)
    assert type(layer.weight_quantization).__name__ == weight
    assert activation is None or type(layer.input_quantization) is activation
    assert Settings.from_dict(read_settings(tmp_path / "run" / "settings.yaml")) == short(**fields)
    if fields.get("weight_scale") == "channel":
        assert layer.weight_scale().dim() > 0
    if "group_size" in fields:
        assert layer.weight_scale().shape == layer.weight.shape


def test_gradients_reach_the_layers(tmp_path: Path) -> None:
    layer = low_bit_layer(short(gradients="luq", out=tmp_path / "run"))
    assert type(layer.gradient_quantization).__name__ == "GradientLUQ"
    config = short(range="calibrated", calibration="percentile", percentile=99.0).config
    assert (config.calibration, config.percentile) == ("percentile", 99.0)


@pytest.mark.parametrize("kind", ["calibrated", "learned"])
def test_ranges_are_calibrated_before_training_and_not_again(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert main(["train", *SHORT, "--bits", "2", "2", "32", "--range", kind, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "inputs seen" in printed
    assert "clipped" in printed
    last = out / "last.ckpt"
    model = load_model(last)
    ranges = {name: t for name, t in model.state_dict().items() if ".activation_function." in name}
    assert ranges
    assert all(tensor.isfinite().all() for tensor in ranges.values())
    assert evaluate(last, accelerator="cpu").top1 == read_checkpoint(last).history[-1]["val/acc"]

    def calibrate(*arguments: Any) -> None:
        raise AssertionError("ranges of a checkpoint are kept")

    monkeypatch.setattr("bitorch.train.assemble.calibrate", calibrate)
    assert main(["train", "--resume", str(last), "--epochs", "2"]) == 0
    assert "inputs seen" not in capsys.readouterr().out
    assert main(["check", str(last)]) in (0, 1)


def test_calibration_takes_training_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = bitorch.calibrate

    def calibrate(model: torch.nn.Module, batches: Any) -> bitorch.Calibration:
        seen.extend(batches)
        return original(model, seen)

    monkeypatch.setattr("bitorch.train.assemble.calibrate", calibrate)
    state = torch.get_rng_state()
    prepare(short(batch_size=100, calibration_batches=3, range="calibrated", shift=1, out=tmp_path / "run"))
    assert [tuple(images.shape) for images, _ in seen] == [(100, 1, 8, 8)] * 3
    assert all(images.is_floating_point() and images.min() >= 0 and images.max() <= 1 for images, _ in seen)
    assert torch.equal(torch.get_rng_state(), state)


def test_ranges_of_a_new_net_are_those_of_normalized_activations(tmp_path: Path) -> None:
    """Its BatchNorms know nothing yet: without their statistics the ranges would be those of a net that shrinks."""
    run = prepare(short(bits=(2, 4, 32), range="calibrated", out=tmp_path / "run"))
    assert run.calibration is not None
    assert all(0.8 < row.high < 4 for row in run.calibration.ranges)
    unit = prepare(short(bits=(2, 4, 32), out=tmp_path / "unit")).model.state_dict()
    ranged = run.model.state_dict()
    assert all(torch.equal(unit[name], ranged[name]) for name in unit if "running" not in name and "num_" not in name)
    assert prepare(short(model="resnet-20", pad_to=12, range="calibrated", out=tmp_path / "other")).calibration


def test_a_float_checkpoint_starts_a_run_with_ranges(tmp_path: Path) -> None:
    twin = fit(short(bits=(32, 32, 32), out=tmp_path / "twin"), show=False)
    run = prepare(short(bits=(2, 2, 32), range="learned", init=twin.last_checkpoint, out=tmp_path / "run"))
    assert run.calibration is not None
    state = run.model.state_dict()
    float_state = read_checkpoint(twin.last_checkpoint).state_dict
    assert all(torch.equal(state[name], float_state[name]) for name in float_state)
    steps = [m.step for m in run.model.modules() if isinstance(m, InputLSQ | WeightLSQ)]
    assert len(steps) == 6
    assert all(step.isfinite().all() and (step > 0).all() for step in steps)


def test_a_resumed_run_with_learned_ranges_ends_as_a_straight_one(tmp_path: Path) -> None:
    fields = {"bits": (2, 2, 6), "range": "learned", "batch_size": 250, "schedule": "constant"}
    straight = fit(short(**fields, epochs=2, out=tmp_path / "straight"), show=False)
    first = fit(short(**fields, epochs=1, out=tmp_path / "first"), show=False)
    resumed = fit(short(**fields, epochs=2, resume=first.last_checkpoint), show=False)
    assert_same_state(
        read_checkpoint(straight.last_checkpoint).state_dict, read_checkpoint(resumed.last_checkpoint).state_dict
    )


def test_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(RULES)
    out = tmp_path / "run"
    assert main(["train", *SHORT, "--rules", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits-lenet-8-mixed-seed0 in ")
    assert "2: layers.7" in printed
    assert "inputs seen" in printed
    path.unlink()  # the checkpoint knows them
    last = out / "last.ckpt"
    assert str(read_checkpoint(last)) == f"{last} (lenet-8, rules mixed.yaml)"
    bits = bits_in_force(load_model(last))
    assert bits["layers.7"] == (1, 2, 6)
    assert "layers.3" not in bits
    assert main(["train", "--resume", str(last), "--epochs", "2"]) == 0
    assert main(["eval", str(last), "--accelerator", "cpu"]) == 0
    assert main(["check", str(last)]) in (0, 1)
    assert evaluate(last, accelerator="cpu").bits is None


def test_rules_in_a_packed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(RULES.replace("  range: calibrated\n", ""))
    out = tmp_path / "run"
    assert main(["train", *SHORT, "--rules", str(path), "--out", str(out)]) == 0
    packed = tmp_path / "net.bit.safetensors"
    assert main(["deploy", str(out / "last.ckpt"), "-o", str(packed)]) == 0
    assert "lenet-8, rules mixed.yaml" in capsys.readouterr().out
    assert main(["eval", str(packed)]) == 0
    provenance = PackedModel.load(packed).provenance
    assert provenance is not None
    assert provenance["run"]["rules"][1] == {
        "match": "layers.7", "weight_bits": 1, "activation_bits": 2, "gradient_bits": 6,
    }  # fmt: skip
    assert "bits" not in provenance["run"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"rules": "a.yaml", "bits": (2, 2, 32)},
            "rules say what each layer gets, and so does bits; leave one of them",
        ),
        ({"rules": "a.yaml", "range": "learned", "last": "8"}, "and so does last, range; leave one of them out"),
        ({"range": "wide"}, "range must be one of unit, calibrated, learned, dynamic, got 'wide'"),
        ({"weights_method": "twn"}, "weights='twn' are ternary and take 2 bits, got weight_bits=1"),
        ({"group_size": 32}, "group_size=32 needs weights='absmax' or 'absmean' or 'twn', got weights=None"),
        ({"rules": "a.yaml", "weights_method": "absmax", "group_size": 32}, "does weights_method, group_size; leave"),
        ({"sign": "sign"}, "it needs activation_bits=1 and range=.unit., got activation_bits=2"),
        ({"percentile": 40.0, "calibration": "percentile"}, "percentile"),
        ({"calibration_batches": 0}, "calibration_batches must be at least 1, got 0"),
    ],
)
def test_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)


def test_wrong_rules_are_a_user_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mixed.yaml"
    for text, message in (
        ("- match: layers.99\n  weight_bits: 1\n  activation_bits: 2\n", "layers.99"),
        ("- match: layers.3\n  weightbits: 1\n", "entry 1: unknown key 'weightbits'"),
    ):
        path.write_text(text)
        assert main(["train", *SHORT, "--rules", str(path), "--out", str(tmp_path / "run")]) == 2
        assert message in capsys.readouterr().err
    assert main(["train", *SHORT, "--rules", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_kept_on_resume(tmp_path: Path) -> None:
    result = fit(short(range="calibrated", out=tmp_path / "run"), show=False)
    with pytest.raises(ValueError, match=r"gradients is 'signed', but the run of .* has 'dorefa'"):
        prepare(short(range="calibrated", gradients="signed", epochs=2, resume=result.last_checkpoint))
    with pytest.raises(ValueError, match=r"does not fit the model LeNet8: it lacks layers\.3\.activation"):
        prepare(short(range="learned", learned_by="pact", epochs=2, resume=result.last_checkpoint))


@pytest.mark.parametrize(
    ("fields", "has_unused"),
    [
        ({"range": "learned", "bits": (2, 2, 6)}, False),
        ({"range": "learned", "bits": (32, 2, 6)}, True),
        ({"range": "learned", "bits": (2, 32, 6), "learned_by": "pact"}, True),
        ({"bits": (32, 2, 6)}, False),
    ],
)
def test_several_processes_take_steps_of_quantizers_that_are_off(
    tmp_path: Path, fields: dict[str, Any], has_unused: bool
) -> None:
    """They get no gradient, which DistributedDataParallel must know."""
    settings = short(out=tmp_path, devices=2, batch_size=180, **fields)
    strategy = prepare(settings)._strategy()
    assert isinstance(strategy, DDPStrategy)
    assert strategy._ddp_kwargs == {"find_unused_parameters": has_unused}


def test_a_range_that_collapses_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = prepare(short(range="learned", learned_by="pact", epochs=3, out=tmp_path / "run"))
    quantizer = next(module for module in run.model.modules() if isinstance(module, InputPACT))

    epochs: list[Any] = []

    def collapse(*_: Any) -> None:  # in the second epoch, and with no gradient to bring it back
        if epochs:
            quantizer.alpha.requires_grad_(False).fill_(-1.0)

    run.model.register_forward_pre_hook(collapse)
    with pytest.raises(
        NonFiniteError, match=r"epoch 2: the learned range of \S+ has collapsed .* rule.*last\.ckpt"
    ) as stop:
        run.train(on_epoch=epochs.append, show=False)
    assert stop.value.checkpoint is not None
    kept = read_checkpoint(stop.value.checkpoint)
    alphas = [value for name, value in kept.state_dict.items() if name.endswith("alpha")]
    assert alphas
    assert all(alpha > 0 for alpha in alphas)
