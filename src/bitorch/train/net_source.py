"""Where a run's net comes from: an architecture with a name, a file of the user's own, or what is passed in Python."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..known_names import GIVEN_PREFIX, is_given
from ..models import build
from ..models.own import GivenNet, build_given
from ..own_code import OwnCode, find_own, is_own, run_own
from ..recorded_code import find_recorded, remember


@dataclass(frozen=True)
class NetSource:
    """What makes a float net, or one whose layers are low-bit already.

    Attributes:
        name: as Settings.model has it.
        width: factor on the channels of an architecture with a name.
        given: the user's own code, a module or a function; None for an architecture with a name.
    """

    name: str
    width: float = 1.0
    given: GivenNet | OwnCode | None = None

    @property
    def sha256(self) -> str | None:
        """Of the source: of the user's file, or of the function or class that was passed; None where it has none."""
        if isinstance(self.given, OwnCode):
            return self.given.sha256
        if self.given is None or isinstance(self.given, nn.Module):
            return None
        with suppress(OSError, TypeError):
            return hashlib.sha256(inspect.getsource(self.given).encode()).hexdigest()
        return None

    @property
    def is_passed(self) -> bool:
        """Whether it was passed in Python, and is not named by a text."""
        return self.given is not None and not isinstance(self.given, OwnCode)

    @property
    def path(self) -> Path | None:
        """The user's file, None where there is none."""
        return self.given.path if isinstance(self.given, OwnCode) else None

    def build(self, shape: Sequence[int] | None, num_classes: int | None) -> nn.Module:
        """Return a new net for images of a shape [C, H, W] and so many classes, as far as they are known.

        Raises:
            ValueError, TypeError, ImportError: see `bitorch.models.build` and `build_given`; ValueError too for an
                architecture with a name where shape or classes are not known.
        """
        if self.given is not None:
            known = None if shape is None else (shape[0], shape[1], shape[2])
            return build_given(self.given, self.name, shape=known, num_classes=num_classes)
        if shape is None or num_classes is None:
            raise ValueError(f"model {self.name} needs the shape of the images and the number of classes")
        return build(self.name, shape[0], num_classes, self.width, (shape[1], shape[2]))


def named_source(name: str, width: float = 1.0, *, seed: int = 0) -> NetSource:
    """Return the source that the user names: what he names is run.

    Args:
        name: as Settings.model.
        width: as Settings.width.
        seed: for what the user's file draws while it is run.

    Raises:
        FileNotFoundError, ValueError: see `read_own`; ValueError too for a width that the net does not take.
    """
    if is_given(name):
        raise ValueError(
            f"model {name} was passed in Python, as fit(settings, model=…); pass it again, or name it in a file with "
            "--model FILE.py:NAME"
        )
    if not is_own(name):
        return NetSource(name, width)
    _check_no_width(name, width)
    file = find_own(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        own = run_own(file)
    remember(file)
    return NetSource(name, width, own)


def recorded_source(
    name: str, width: float, sha256: str | None, *, said_by: str, what: str = "model", option: str = "--model"
) -> NetSource:
    """Return the source that a checkpoint names: the user's own code runs only if he has run it here before, as it is.

    Args:
        name, width: as its settings have them.
        sha256: of the source, as it has it.
        said_by: the checkpoint, for messages.
        what: the net is, for messages.
        option: by which the user names it himself.

    Raises:
        FileNotFoundError, ValueError: see `find_recorded` and `run_own`; ValueError too for a net that was passed.
    """
    if is_given(name):
        raise ValueError(
            f"{said_by} is of a net that was passed in Python, {name.removeprefix(GIVEN_PREFIX)}; pass it again as "
            f"model=, or name it in a file with {option} FILE.py:NAME"
        )
    if not is_own(name):
        return NetSource(name, width)
    with torch.random.fork_rng(devices=[]):
        return NetSource(name, width, run_own(find_recorded(name, sha256, said_by=said_by, what=what, option=option)))


def given_source(given: GivenNet | str, width: float = 1.0) -> NetSource:
    """Return the source of what is passed in Python: a module, what returns one, or a name as `named_source` takes.

    Raises:
        TypeError: neither. FileNotFoundError, ValueError: see `named_source`.
    """
    if isinstance(given, str):
        return named_source(given, width)
    return NetSource(given_name(given), width, given)


def given_name(given: Any) -> str:
    """Return what a run calls a net that was passed in Python: "python-" and the name of its class or function."""
    if not isinstance(given, nn.Module) and not callable(given):
        raise TypeError(f"model must be a torch.nn.Module or a function that returns one, got {given!r}")
    name = type(given).__name__ if isinstance(given, nn.Module) else getattr(given, "__name__", type(given).__name__)
    return GIVEN_PREFIX + (re.sub(r"\W", "", name) or "model")


def _check_no_width(name: str, width: float) -> None:
    if width != 1:
        raise ValueError(f"model {name} takes no width, got {width}; say it in the file")
