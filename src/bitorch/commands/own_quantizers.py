"""The option --quantizers: files with quantizers of the user's own, which settings, rules and checkpoints then name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

OPTION = "--quantizers"


def split_option(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the files that the option names, which may stand several times, and all other arguments.

    Raises:
        ValueError: the option without a file.
    """
    files, others = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, has_value, value = argument.partition("=")
        if name != OPTION:
            others.append(argument)
            continue
        file = value if has_value else next(remaining, "")
        if file == "" or file.startswith("-"):
            raise ValueError(f"{OPTION} needs a Python file, such as {OPTION} my_quantizers.py")
        files.append(file)
    return files, others


def register_files(files: Sequence[str]) -> None:
    """Run Python files, and make the quantizers that they define known by their names.

    Only what the user names on the command line is run: no rules file and no checkpoint can name code.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one that defines no quantizer with a name of its own, or with the name of another one.
    """
    for file in files:
        _register(Path(file))


def _register(path: Path) -> None:
    from ..quantizations import Quantization, register_custom_quantization
    from ..quantizations.names import built_in_quantizers

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which {OPTION} names")
    module = _run(path)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Quantization) and value.__module__ == module.__name__
    ]
    named = [cls for cls in own if "name" in vars(cls)]
    if not named:
        raise ValueError(f"{path} defines no quantizer: a subclass of Quantization with a `name` of its own")
    for cls in named:
        if cls.name in built_in_quantizers:
            raise ValueError(
                f"{path}: the name {cls.name!r} of {cls.__name__} belongs to the library; choose another one"
            )
        register_custom_quantization(cls)


def _run(path: Path) -> ModuleType:
    """Run a file as a module of its own."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; its name ends in .py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
