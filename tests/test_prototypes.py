"""Quantizers as prototypes in a config: what layers get, what contradicts, and how files and commands name them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig
from bitorch.cli import main
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    GradientLUQ,
    GradientSigned,
    Identity,
    InputCalibrated,
    InputDoReFa,
    InputDynamic,
    InputLSQ,
    InputPACT,
    ProgressiveSign,
    Quantization,
    RSign,
    ScheduledQuantizer,
    Sign,
    SteHeaviside,
    SwishSign,
    WeightAbsMax,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightPowerOfTwo,
    WeightSEQ,
    WeightTTQ,
    WeightTWN,
    quantizations_by_name,
)
from bitorch.quantizations.names import built_in_quantizers
from bitorch.train import Settings
from own_affine import Affine

PROTOTYPES: list[Quantization] = [
    ApproxSign(),
    GradientDoReFa(6, noise=False),
    GradientLUQ(4),
    GradientSigned(4),
    Identity(),
    InputCalibrated(3, calibration="percentile", percentile=99.0),
    InputDoReFa(2, variant="paper"),
    InputDynamic(4),
    InputLSQ(3, offset=True),
    InputPACT(4),
    ProgressiveSign(use_global_scaling=False, initial_scale=0.25),
    RSign(3, 2),
    ScheduledQuantizer(steps=4),
    Sign(),
    SteHeaviside(),
    SwishSign(beta=3.0),
    WeightDoReFa(1, variant="paper", per_channel=True),
    WeightLSQ(2),
    WeightLSQ(2, channels=3),
    WeightSEQ(2, channels=3),
    WeightPowerOfTwo(3, per_channel=True),
    WeightTTQ(0.1),
    WeightTWN(per_channel=True),
    WeightAbsMax(4, group_size=2),
    WeightAbsMean(per_channel=True),
    Affine(4),
]


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(quantizations_by_name)
    yield
    quantizations_by_name.clear()
    quantizations_by_name.update(before)


@pytest.mark.parametrize("prototype", PROTOTYPES, ids=repr)
def test_another_one_is_like_it_and_has_learned_nothing(prototype: Quantization) -> None:
    layer = QConv2d(3, 3, 3)
    for parameter in prototype.parameters():
        parameter.data.fill_(0.5)
    other = prototype.for_layer(layer)
    assert type(other) is type(prototype)
    assert repr(other) == repr(prototype)
    assert other.arguments() == prototype.arguments()
    assert not any(torch.equal(one, torch.full_like(one, 0.5)) for one in other.parameters())


def test_every_class_of_the_library_is_in_the_table_above() -> None:
    assert {type(prototype) for prototype in PROTOTYPES} - {Affine} == set(built_in_quantizers.values())


def test_sizes_are_those_of_the_layer() -> None:
    layer = QConv2d(5, 7, 3)
    weight = WeightLSQ(2, channels=1).for_layer(layer)
    assert weight.channels == 7
    assert weight.step.shape == (7,)
    assert WeightLSQ(2).for_layer(layer).step.shape == ()
    shift = RSign(1, 0).for_layer(layer)
    assert (shift.channels, shift.dimensions) == (5, 2)
    assert RSign(1, 0).for_layer(QLinear(4, 3)).shift.shape == (4,)


def test_an_argument_that_is_kept_nowhere() -> None:
    class Forgetful(Sign):
        def __init__(self, strength: float) -> None:
            super().__init__()

    with pytest.raises(
        TypeError, match=r"keeps its argument 'strength' in no attribute .* keep self\.strength, or define"
    ):
        LowBitConfig(1, activations=Forgetful(2.0))


def config(**changes: Any) -> LowBitConfig:
    fields: dict[str, Any] = {
        "weights": WeightLSQ(2, channels=1),
        "activations": InputLSQ(3, offset=True),
        "gradients": GradientDoReFa(6),
    }
    return LowBitConfig(**{**fields, **changes})


def test_bits_are_those_of_the_prototypes() -> None:
    made = config()
    assert (made.weight_bits, made.activation_bits, made.gradient_bits) == (2, 3, 6)
    assert config(weight_bits=2, activation_bits=3, gradient_bits=6) == made


def test_configs_are_equal_by_what_they_say() -> None:
    assert config() == config()
    assert hash(config()) == hash(config())
    assert config() != config(weights=WeightLSQ(2))
    assert config() != config(activations=InputLSQ(3))
    assert config() != config(gradients=GradientDoReFa(6, noise=False))
    assert config() != "config"
    for other in (pickle.loads(pickle.dumps(config())), copy.deepcopy(config()), dataclasses.replace(config())):
        assert other == config()
    assert "weights=WeightLSQ(bits=2, channels=1)" in repr(config())


def test_each_layer_gets_its_own() -> None:
    made = config(last="same")
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    table = bitorch.quantize_(model, made)
    assert [(row.weight_bits, row.activation_bits, row.gradient_bits) for row in table.layers[1:]] == [(2, 3, 6)] * 2
    first, second = model[1], model[2]
    assert isinstance(first, QLinear)
    assert isinstance(second, QLinear)
    assert first.weight_quantization is not second.weight_quantization
    assert first.weight_quantization is not made.weights
    assert repr(second.weight_quantization) == "WeightLSQ(bits=2, channels=3)"
    again = bitorch.quantize_(model, config(last="same"))
    assert [row.note for row in again.layers[1:]] == ["low-bit already"] * 2
    with pytest.raises(ValueError, match="is low-bit already, with other quantizers"):
        bitorch.quantize_(model, config(last="same", activations=InputPACT(3)))


@pytest.mark.parametrize(
    ("activations", "weights", "kinds"),
    [
        (InputLSQ(3, offset=True), WeightLSQ(2), (InputLSQ, WeightLSQ)),
        (Sign(), WeightTWN(), (InputDoReFa, WeightDoReFa)),
        (Affine(2), WeightDoReFa(1, variant="paper"), (Affine, WeightDoReFa)),
    ],
)
def test_ends_of_8_bits(
    activations: Quantization, weights: Quantization, kinds: tuple[type[Quantization], type[Quantization]]
) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    bitorch.quantize_(model, LowBitConfig(activations=activations, weights=weights, first=8, last=8))
    for end in (model[0], model[2]):
        assert isinstance(end, QLinear)
        assert (type(end.input_quantization), type(end.weight_quantization)) == kinds
        assert (end.input_quantization.bit_width, end.weight_quantization.bit_width) == (8, 8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LowBitConfig(weights=WeightLSQ(2)), TypeError, "activation_bits is missing: give it, or activations="),
        (lambda: LowBitConfig(activation_bits=2), TypeError, "weight_bits is missing: give it, or weights="),
        (
            lambda: config(weight_bits=4),
            ValueError,
            r"weight_bits=4 contradicts weights=WeightLSQ\(bits=2, channels=1\)",
        ),
        (lambda: config(gradient_bits=4), ValueError, "gradient_bits=4 contradicts gradients="),
        (lambda: config(range="learned"), ValueError, "says how activations are quantized, and so does range;"),
        (lambda: config(sign="sign"), ValueError, "and so does sign;"),
        (lambda: config(weight_scale="channel"), ValueError, "weight_scale='channel' is for methods by name"),
        (lambda: config(gradient_noise=False), ValueError, "give the quantizer noise=False"),
        (
            lambda: config(weights=WeightLSQ),
            TypeError,
            "weights must be a quantizer such as .*; did you mean WeightLSQ",
        ),
        (lambda: config(activations="lsq"), TypeError, "activations must be a quantizer such as InputLSQ"),
        (lambda: config(gradients=Sign()), TypeError, "gradients must be a quantizer such as GradientDoReFa"),
        (lambda: config(weights=GradientDoReFa(2)), TypeError, "weights must be a quantizer such as WeightLSQ"),
        (lambda: LowBitConfig(1, 2, weights="lsqq"), ValueError, "or a quantizer such as WeightLSQ"),  # type: ignore[arg-type]
        (lambda: config(pad_value=-1), ValueError, "is for activations of ±1"),
    ],
)
def test_contradictions_are_errors(make: Callable[[], LowBitConfig], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_signs_take_their_borders() -> None:
    assert LowBitConfig(1, activations=Sign(), pad_value=-1).pad_value == -1


def test_weights_beside_learned_activations_are_learned_too() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    bitorch.quantize_(model, LowBitConfig(2, activations=InputLSQ(2)))
    assert isinstance(model[1].weight_quantization, WeightLSQ)


def test_dicts_name_them() -> None:
    fields = json.loads(json.dumps(config().to_dict()))
    assert fields["weights"] == {"name": "weightlsq", "bits": 2, "channels": 1}
    assert LowBitConfig.from_dict(fields) == config()
    own = config(activations=Affine(3))
    with pytest.raises(
        ValueError, match=r"activations is a Affine, which a file has no name for; .*quantizers=\{\"affine\""
    ):
        own.to_dict()
    fields = own.to_dict({"mine": Affine})
    assert fields["activations"] == {"name": "mine", "bits": 3}
    assert LowBitConfig.from_dict(fields, {"mine": Affine}) == own
    with pytest.raises(ValueError, match="activations names the quantizer 'mine', which is not known here"):
        LowBitConfig.from_dict(fields)


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_rules_files_name_them(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rules.{ending}"
    rules = [("*", config(activations=Affine(3))), ("last", LowBitConfig(2, 2, weights=WeightTWN()))]
    with pytest.raises(ValueError, match="a file has no name for"):
        bitorch.save_rules(path, rules)
    assert not path.exists()
    bitorch.save_rules(path, rules, quantizers={"affine": Affine})
    assert [rule.config for rule in bitorch.load_rules(path, quantizers={"affine": Affine})] == [c for _, c in rules]
    with pytest.raises(ValueError, match="entry 1: activations names the quantizer 'affine', which is not known here"):
        bitorch.load_rules(path)
    bitorch.quantizations.register_custom_quantization(Affine)
    assert bitorch.load_rules(path)[0].config == rules[0][1]


def test_rules_files_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("- weight_bits: 3\n  weights: weightlsq\n  activations: {name: lsq, bits: 2, offset: true}\n")
    (rule,) = bitorch.load_rules(path)
    assert rule.config == LowBitConfig(weights=WeightLSQ(3), activations=InputLSQ(2, offset=True))
    for text, message in (
        ("weights: nothing\n  weight_bits: 2\n  activation_bits: 2", "weights names the quantizer 'nothing'"),
        ("weights: {bits: 2}\n  activation_bits: 2", "weights must name a quantizer, as"),
        ("weights: {name: weightlsq, bitz: 2}\n  activation_bits: 2", "weightlsq cannot be made with"),
        ("weights: {name: weightlsq, bits: 9}\n  activation_bits: 2", "bits must be one of"),
        ("weights: {name: weightlsq, bits: 2}", "has no activation_bits; give it"),
        ("weights: {name: weightlsq, bits: 2}\n  weight_bits: 3\n  activation_bits: 2", "weight_bits=3 contradicts"),
    ):
        path.write_text(f"- {text}\n")
        with pytest.raises(ValueError, match=f"entry 1: .*{message}"):
            bitorch.load_rules(path)


def test_settings_name_them() -> None:
    settings = Settings(weights_method="weightlsq", activations="lsq", bits=(2, 3, 32))
    assert settings.config == LowBitConfig(weights=WeightLSQ(2), activations=InputLSQ(3), absorb_relu=True)
    assert Settings.from_dict(settings.to_dict()) == settings
    with pytest.raises(ValueError, match="weights_method names the quantizer 'mine', which is not known here"):
        Settings(weights_method="mine")


OWN = """
import torch
from bitorch.quantizations import InputDoReFa, WeightDoReFa

class Own(InputDoReFa):
    name = "own"

class OwnWeight(WeightDoReFa):
    name = "ownweight"

    def __init__(self, bits: int) -> None:
        super().__init__(bits, variant="paper")
"""


def test_the_command_line_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(OWN)
    train = ["train", "--weights-method", "ownweight", "--activations", "own", "--bits", "2", "2", "32",
             "--epochs", "1", "--out", str(run), "--batch-size", "512"]  # fmt: skip
    assert main(train) == 2
    assert "names the quantizer 'ownweight', which is not known here" in capsys.readouterr().err
    assert main([*train, "--quantizers", str(file)]) == 0
    model = bitorch.train.load_model(run / "last.ckpt")
    assert {type(m.weight_quantization).__name__ for m in model.modules() if isinstance(m, QConv2d)} == {"OwnWeight"}
    packed = tmp_path / "net.bit.safetensors"
    assert main(["deploy", str(run / "last.ckpt"), "--out", str(packed)]) == 0
    quantizations_by_name.pop("own")
    capsys.readouterr()
    assert main(["eval", str(run / "last.ckpt")]) == 2
    assert "activations names the quantizer 'own', which is not known here" in capsys.readouterr().err
    assert main(["eval", str(run / "last.ckpt"), f"--quantizers={file}"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quantizers"], "--quantizers needs a Python file"),
        (["--quantizers", "missing.py"], "there is no file missing.py, which --quantizers names"),
    ],
)
def test_wrong_files_of_quantizers(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_files_without_quantizers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    for text, message in (
        ("from bitorch.quantizations import Sign\n", "defines no quantizer"),
        ("from bitorch.quantizations import Sign\nclass Mine(Sign):\n    name = 'sign'\n", "belongs to the library"),
    ):
        file.write_text(text)
        assert main(["doctor", "--quantizers", str(file)]) == 2
        assert message in capsys.readouterr().err


def test_used_tensors(tmp_path: Path) -> None:
    """A prototype that was trained gives layers without what it learned."""
    prototype = InputLSQ(2)
    prototype.fit_(torch.rand(100))
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    bitorch.quantize_(model, LowBitConfig(2, activations=prototype))
    quantizer = model[1].input_quantization
    assert isinstance(quantizer, InputLSQ)
    assert not quantizer.is_set
    x: Tensor = torch.rand(16, 4)
    bitorch.calibrate(model, [x])
    assert quantizer.is_set
