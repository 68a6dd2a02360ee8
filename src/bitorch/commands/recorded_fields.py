"""Settings that files give: those of --config and of checkpoints, in which code of the user's own may be named."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..known_names import is_given
from ..own_code import is_own
from ..recorded_code import find_recorded

if TYPE_CHECKING:
    from ..train.checkpoint import Checkpoint

#: Settings that may name code of the user's own.
OWN_FIELDS = ("model", "distil_model", "data", "loss", "metric")


def fields_from_files(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the fields that --config and --resume give, which the flags then override.

    Raises:
        ValueError, OSError: a wrong settings file or checkpoint, or one that names code that must not be run.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--resume", type=Path)
    try:
        files, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # a flag without its value: tyro says so
        return {}
    fields: dict[str, Any] = {}
    if files.config is not None:
        from ..train.settings_file import read_settings

        fields = read_settings(files.config)
        fields = with_own_code(fields, {}, files.config, arguments)
    resume = fields.get("resume") if files.resume is None else files.resume
    if resume is not None:
        fields = {**fields_of_run(resume, arguments, [*fields]), "resume": resume, **fields}
    return fields


def fields_of_run(path: str | Path, arguments: Sequence[str], others: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings of a checkpoint's run, without its places.

    Args:
        path: the checkpoint.
        arguments: the command line, whose flags count more.
        others: names of fields that count more, too.
    """
    from ..train.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    if checkpoint.settings is None:
        return {}
    # A resumed run goes on in the folder of its checkpoint, which may have been moved.
    fields = checkpoint.settings.without_places().to_dict()
    return with_own_code(fields, _hashes(checkpoint), path, arguments, others)


def fields_of_net(path: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a checkpoint whose net is looked at. What it does not say the flags must.

    Raises:
        ValueError: flags that are missing for a checkpoint of another Trainer.
    """
    from ..train.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path, any_module=True)
    if checkpoint.settings is None:
        needed = {"--model": ["--model"], "--data": ["--data"], "--bits or --rules": ["--bits", "--rules"]}
        config = is_named("--config", arguments)
        missing = [told for told, options in needed.items() if not any(is_named(o, arguments) for o in options)]
        if missing and not config:
            raise ValueError(
                f"{path} does not say how its net is built and on which data; say it with {', '.join(missing)} (the "
                "bits of the model itself, if it comes with low-bit layers)"
            )
        return {}
    fields = checkpoint.settings.without_places().to_dict()
    return with_own_code(fields, _hashes(checkpoint), path, arguments)


def _hashes(checkpoint: Checkpoint) -> dict[str, str | None]:
    return {"model": checkpoint.model_sha256, "data": checkpoint.data_fingerprint}


def with_own_code(
    fields: Mapping[str, Any],
    hashes: Mapping[str, str | None],
    said_by: str | Path,
    arguments: Sequence[str],
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Return fields of a file with code of the user's own where it is now; what flags replace is not looked at.

    Raises:
        FileNotFoundError, ValueError: it is not there, has changed, or was not run here before.
    """
    found = dict(fields)
    for name in OWN_FIELDS:
        value, option = fields.get(name), f"--{name.replace('_', '-')}"
        if name in others or is_named(option, arguments) or not isinstance(value, str):
            continue
        if is_own(value):
            found[name] = find_recorded(value, hashes.get(name), said_by=str(said_by), what=name, option=option).text
        elif is_given(value):
            raise ValueError(
                f"{said_by} has {name} that were passed in Python, {value}; go on in Python, or name what takes their "
                f"place with {option}"
            )
    return found


def is_named(option: str, arguments: Sequence[str]) -> bool:
    """Return whether an option stands on a command line."""
    return any(argument == option or argument.startswith(f"{option}=") for argument in arguments)
