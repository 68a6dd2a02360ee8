"""What a config of global defaults is, as BITorch has them: named attributes, and options on a command line."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Any, ClassVar

#: Types of values whose options are read by them; of any other an option takes text.
_READ_BY_TYPE = (int, float, str)


class Config:
    """Base class of global defaults. A subclass sets `name` and any number of plain attributes, and is made once.

    The public attributes that are not callable are what is configured. For each one, `A`, an instance has the functions
    `get_A` and `set_A`, which take the config as their first argument: `config.get_A(config)`,
    `config.set_A(config, value)`. Values are not checked here, but where they are used.

    Args:
        values: other values than the class has, by name.

    Raises:
        TypeError: there is no attribute of that name.
    """

    name: ClassVar[str] = "config"

    def __init__(self, **values: Any) -> None:
        names = [name for name in dir(self) if not name.startswith("_") and name != "name"]
        self._configurable_attributes = [name for name in names if not callable(getattr(self, name))]
        for attribute in self._configurable_attributes:
            setattr(self, f"get_{attribute}", partial(_get, attribute))
            setattr(self, f"set_{attribute}", partial(_set, attribute))
        for attribute, value in values.items():
            if attribute not in self._configurable_attributes:
                raise TypeError(
                    f"{type(self).__name__} has no {attribute!r}; it has {', '.join(self._configurable_attributes)}"
                )
            setattr(self, attribute, value)

    def add_config_arguments(self, parser: ArgumentParser) -> None:
        """Add a group of options to a parser, one for each attribute: `--a-b` for `a_b`.

        The present value is an option's default, and its type how the text is read; of a value that is neither a number
        nor a text, such as a quantizer, the option takes a text. For a bool it is a flag that turns the value round.
        """
        group = parser.add_argument_group(self.name)
        for attribute in self._configurable_attributes:
            value = getattr(self, attribute)
            option = f"--{attribute.replace('_', '-')}"
            if isinstance(value, bool):
                group.add_argument(
                    option, dest=attribute, default=value, action="store_false" if value else "store_true"
                )
            else:
                kind = type(value) if isinstance(value, _READ_BY_TYPE) else str
                group.add_argument(option, dest=attribute, default=value, type=kind, required=False)

    def apply_args_to_configuration(self, args: Namespace) -> None:
        """Take all values from what a parser with these options has read.

        Raises:
            ValueError: some are not there; then none is taken.
        """
        missing = [name for name in self._configurable_attributes if not hasattr(args, name)]
        if missing:
            raise ValueError(
                f"the arguments have no {', '.join(missing)}, which {self.name} takes; add its options to the parser, "
                "with add_config_arguments"
            )
        for attribute in self._configurable_attributes:
            setattr(self, attribute, getattr(args, attribute))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._configurable_attributes)
        return f"{type(self).__name__}({values})"


def _get(attribute: str, config: Config) -> Any:
    return getattr(config, attribute)


def _set(attribute: str, config: Config, value: Any) -> None:
    setattr(config, attribute, value)
