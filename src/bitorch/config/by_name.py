"""The configs of global defaults by name, and their options on a command line."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..config_base import Config
from ..layers.config import config as layer_config
from ..quantizations.config import config as quantization_config
from ..quantizations.progressive_sign import config as progressive_sign_config

#: The library's own, and those that `register_custom_config` has added.
configs_by_name: dict[str, Config] = {
    config.name: config for config in (layer_config, progressive_sign_config, quantization_config)
}


def config_names() -> list[str]:
    """Return the names of all configs."""
    return list(configs_by_name)


def config_from_name(name: str) -> Config:
    """Return the config of that name; ValueError, with the known names, if there is none."""
    if name not in configs_by_name:
        raise ValueError(f"no config is named {name!r}; known names: {', '.join(config_names())}")
    return configs_by_name[name]


def register_custom_config(config: Config) -> None:
    """Add a config of your own under its `name`, in place of another one with that name.

    Raises:
        TypeError: it is no instance of a subclass of Config. ValueError: its class has no `name` of its own.
    """
    if not isinstance(config, Config):
        raise TypeError(f"register_custom_config takes an instance of a subclass of bitorch.Config, got {config!r}")
    if config.name == Config.name:
        raise ValueError(f"{type(config).__name__} needs a class attribute `name`")
    configs_by_name[config.name] = config


def add_config_args(parser: ArgumentParser) -> None:
    """Add the options of all configs to a parser, a group for each; see `Config.add_config_arguments`."""
    for config in configs_by_name.values():
        config.add_config_arguments(parser)


def apply_args_to_configuration(args: Namespace) -> None:
    """Take the values of all configs from what a parser has read; see `Config.apply_args_to_configuration`."""
    for config in configs_by_name.values():
        config.apply_args_to_configuration(args)
