"""Importing torchvision, also beside a torch that its C++ operators were not built for.

They are for detection; a classifier needs none of them, nor does torchmetrics, which imports torchvision where it is
installed. But importing torchvision registers the shapes of two, and fails where they do not exist. Declaring them lets
the import succeed; called, they still say that they are missing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
from types import ModuleType

import torch

#: What torchvision registers shapes for while it is imported, whether or not its C++ operators could be loaded.
_SCHEMAS = dict.fromkeys(("nms", "qnms"), "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")


def import_torchvision() -> ModuleType:
    """Return torchvision.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    for _ in range(len(_SCHEMAS)):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None or missing[1] not in _SCHEMAS:
                raise
            _declare(missing[1])
    return importlib.import_module("torchvision")


def import_torchvision_if_installed() -> None:
    """Import torchvision where there is one, so that what imports it later does not fail with its operators.

    Where a package is missing that torchvision itself needs, who imports it later is told.
    """
    if importlib.util.find_spec("torchvision") is not None:
        with contextlib.suppress(ModuleNotFoundError):
            import_torchvision()


@functools.cache
def _declare(operator: str) -> torch.library.Library:
    """Declare an operator of torchvision, once; the declaration lives as long as the object returned, which is kept."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(operator + _SCHEMAS[operator])
    return library
