"""Configs of global defaults: BITorch's functions on them, and that what is set takes effect when it is read."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import bitorch
from bitorch.config import Config
from bitorch.layers import QActivation, QConv2d, QLinear
from bitorch.layers.config import LayerConfig
from bitorch.layers.config import config as layer_config
from bitorch.quantizations import InputDoReFa, ProgressiveSign, Quantization, Sign, SwishSign, WeightDoReFa
from bitorch.quantizations.config import config as quantization_config
from bitorch.quantizations.progressive_sign import config as progressive_sign_config

#: §2's table: attributes and defaults by config.
DEFAULTS: dict[str, dict[str, object]] = {
    "layer_config": {
        "debug_activated": False,
        "gradient_cancellation_threshold": 1.0,
        "input_quantization": "sign",
        "pact_bits": 4,
        "padding_value": -1.0,
        "weight_quantization": "sign",
    },
    "progressive_sign_config": {
        "progressive_sign_alpha": 4,
        "progressive_sign_beta": 10,
        "progressive_sign_scale": 0.0,
    },
    "quantization_config": {"beta": 5.0, "dorefa_bits": 1},
}


class OwnConfig(Config):
    """One of a user's."""

    name = "own_config"
    depth = 3
    label = "none"
    is_on = True
    is_off = False
    where = None
    _hidden = 1

    def method(self) -> int:
        return self.depth


@pytest.fixture(autouse=True)
def as_they_were() -> Iterator[None]:
    known = dict(bitorch.configs_by_name)
    values = {name: {a: getattr(c, a) for a in c._configurable_attributes} for name, c in known.items()}
    yield
    bitorch.configs_by_name.clear()
    bitorch.configs_by_name.update(known)
    for name, attributes in values.items():
        for attribute, value in attributes.items():
            setattr(known[name], attribute, value)


# The classes


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_attributes_and_defaults(name: str) -> None:
    config = bitorch.config_from_name(name)
    assert config.name == name
    assert config._configurable_attributes == sorted(DEFAULTS[name])
    assert {a: getattr(config, a) for a in config._configurable_attributes} == DEFAULTS[name]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_every_attribute_takes_42_and_gives_it_back(name: str) -> None:
    config: Any = bitorch.config_from_name(name)
    for attribute in config._configurable_attributes:
        getattr(config, f"set_{attribute}")(config, 42)
        assert getattr(config, f"get_{attribute}")(config) == getattr(config, attribute) == 42


def test_a_class_of_your_own() -> None:
    config: Any = OwnConfig()
    assert config._configurable_attributes == ["depth", "is_off", "is_on", "label", "where"]
    other: Any = OwnConfig(depth=7)
    config.set_depth(config, 5)
    assert (config.depth, config.get_depth(config), other.depth, OwnConfig.depth) == (5, 5, 7, 3)
    assert config.get_depth(other) == 7  # unbound: it is told the config
    assert repr(config) == "OwnConfig(depth=5, is_off=False, is_on=True, label='none', where=None)"
    with pytest.raises(TypeError, match=r"OwnConfig has no 'deep'; it has depth, is_off"):
        OwnConfig(deep=1)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copies_have_values_of_their_own(again: Any) -> None:
    config: Any = OwnConfig(depth=4)
    other = again(config)
    other.set_depth(other, 9)
    assert (config.depth, other.depth, other._configurable_attributes) == (4, 9, config._configurable_attributes)


# By name


def test_names() -> None:
    assert sorted(bitorch.config_names()) == sorted(DEFAULTS)
    assert bitorch.configs_by_name["layer_config"] is layer_config
    with pytest.raises(ValueError, match=r"no config is named 'layers'; known names: .*layer_config"):
        bitorch.config_from_name("layers")


def test_registration() -> None:
    first, second = OwnConfig(), OwnConfig()
    bitorch.register_custom_config(first)
    assert bitorch.config_from_name("own_config") is first
    bitorch.register_custom_config(second)  # overwrites, without a word
    assert bitorch.config_from_name("own_config") is second
    assert "own_config" in bitorch.config_names()
    with pytest.raises(TypeError, match=r"takes an instance of a subclass of bitorch\.Config, got <class"):
        bitorch.register_custom_config(OwnConfig)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Config needs a class attribute `name`"):
        bitorch.register_custom_config(Config())


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    script = """
import sys, bitorch
assert "torch" not in sys.modules
bitorch.Config
from bitorch.config import Config
assert "torch" not in sys.modules and bitorch.Config is Config
assert "layer_config" in bitorch.configs_by_name
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Command lines


def test_options_of_all_configs() -> None:
    bitorch.register_custom_config(OwnConfig())
    parser = ArgumentParser()
    bitorch.add_config_args(parser)
    titles = [group.title for group in parser._action_groups]
    assert titles[2:] == bitorch.config_names()
    line = "--dorefa-bits 3 --input-quantization inputdorefa --padding-value 0 --debug-activated --is-on --depth 8"
    args = parser.parse_args(line.split())
    assert (args.depth, args.is_on, args.is_off, args.label) == (8, False, False, "none")
    bitorch.apply_args_to_configuration(args)
    assert quantization_config.dorefa_bits == 3
    assert (layer_config.input_quantization, layer_config.padding_value) == ("inputdorefa", 0.0)
    assert layer_config.debug_activated is True
    assert QConv2d(2, 2, 3).input_quantization.bit_width == 3


def test_defaults_of_options_are_the_present_values() -> None:
    layer_config.debug_activated, quantization_config.beta, layer_config.input_quantization = True, 2, Sign()
    parser = ArgumentParser()
    bitorch.add_config_args(parser)
    args = parser.parse_args([])
    assert (args.debug_activated, args.beta, args.input_quantization) == (True, 2, layer_config.input_quantization)
    assert parser.parse_args(["--debug-activated"]).debug_activated is False
    assert parser.parse_args(["--input-quantization", "approxsign"]).input_quantization == "approxsign"
    with pytest.raises(SystemExit):  # the type of the present value, which is an int
        parser.parse_args(["--beta", "2.5"])


def test_arguments_that_lack_some_change_nothing() -> None:
    with pytest.raises(ValueError, match="have no beta, which quantization_config takes; add its options"):
        quantization_config.apply_args_to_configuration(Namespace(dorefa_bits=2))
    assert quantization_config.dorefa_bits == 1


# What is set takes effect


def test_read_when_a_layer_is_built() -> None:
    early = QConv2d(2, 2, 3, padding=1)
    layer_config.input_quantization, layer_config.weight_quantization = "approxsign", "swishsign"
    layer_config.padding_value, layer_config.gradient_cancellation_threshold = 1.0, 0.5
    quantization_config.beta = 2.0
    late = QConv2d(2, 2, 3, padding=1)
    assert (early.input_quantization.name, late.input_quantization.name) == ("sign", "approxsign")
    assert isinstance(late.weight_quantization, SwishSign)
    assert late.weight_quantization.beta == 2.0
    assert (early.pad_value, late.pad_value) == (-1.0, 1.0)
    assert (early.gradient_cancellation_threshold, late.gradient_cancellation_threshold) == (1.0, 0.5)
    assert QActivation().gradient_cancellation_threshold == 0.5


def test_bits_are_read_when_a_quantizer_is_built() -> None:
    quantization_config.dorefa_bits = 3
    assert (InputDoReFa().bit_width, WeightDoReFa().bit_width) == (3, 3)
    assert (InputDoReFa.bit_width, WeightDoReFa.bit_width) == (1, 1)  # of the classes: frozen at import


def test_the_scale_of_progressive_signs_is_read_at_every_forward() -> None:
    shared, x = ProgressiveSign(), torch.tensor([0.5])
    assert shared(x) == 0.5
    progressive_sign_config.progressive_sign_scale = 0.05  # T = 1/2
    assert shared(x) == 1.0
    progressive_sign_config.progressive_sign_alpha = 1
    assert shared(x) == 1.0  # as it was built
    assert ProgressiveSign()(x) == 0.5
    assert ProgressiveSign.default_transform(0.7) == 0.0


# Quantizers by LayerConfig


def test_quantization_function() -> None:
    config, shared = LayerConfig(), Sign()
    assert config.get_quantization_function(shared) is shared
    found: Quantization = config.get_quantization_function("weightdorefa")
    assert isinstance(found, WeightDoReFa)
    assert config.get_quantization_function("weightdorefa") is not found
    with pytest.raises(ValueError, match="no quantization is named 'nothing'"):
        config.get_quantization_function("nothing")


@pytest.mark.parametrize("wrong", [Sign, None, 1, torch.relu])
@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_what_is_no_quantizer(wrong: Any, kind: type[Exception]) -> None:
    """A TypeError, and the ValueError of BITorch."""
    with pytest.raises(kind, match="quantization must be a Quantization instance or the name of one, got"):
        LayerConfig().get_quantization_function(wrong)
    if wrong is not None:
        with pytest.raises(kind, match="weight_quantization must be"):
            QLinear(2, 2, weight_quantization=wrong)
        with pytest.raises(kind, match="activation must be"):
            QActivation(wrong)


def test_a_scale_that_global_scaling_ignores() -> None:
    for kind in (RuntimeWarning, ValueError):
        with pytest.raises(kind, match=r"initial_scale=0\.5 has no effect with use_global_scaling=True"):
            ProgressiveSign(initial_scale=0.5)
