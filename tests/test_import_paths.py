"""Names are where the docs say, and `import bitorch` is enough to reach the submodules."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import bitorch

PAGE = (Path(__file__).parent.parent / "docs" / "bitorch.md").read_text(encoding="utf-8")
PATHS = re.findall(r"^\| `(bitorch[\w.]*)` \| (.*) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("module", "names"), PATHS)
def test_import_paths_of_the_docs(module: str, names: str) -> None:
    found = import_module(module)
    for name in re.findall(r"`(\w+)`", names):
        assert hasattr(found, name), f"{module}.{name}"
        above = module.rpartition(".")[0]
        again = getattr(import_module(above), name, None) if above else None
        assert name in ("config", "STE", "Config") or again is None or again is getattr(found, name)


def test_there_are_paths() -> None:
    assert len(PATHS) == 48


SUBMODULES = ("allocation", "calibration", "checking", "conversion", "data", "deployment", "layers", "models", "plots",
              "quantizations", "reporting", "train")  # fmt: skip


def test_submodules_are_there_after_import_bitorch() -> None:
    script = f"""
import sys, bitorch
late = [name for name in ("models", "deployment", "reporting", "train", "plots") if f"bitorch.{{name}}" in sys.modules]
assert not late, late
assert "lightning" not in sys.modules and "bitorch_runtime" not in sys.modules
for name in {SUBMODULES}:
    assert getattr(bitorch, name) is sys.modules[f"bitorch.{{name}}"]
bitorch.models.LeNet8, bitorch.layers.qconv1d.QConv1d, bitorch.quantizations.sign.Sign
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["modells", "_models", "__wrapped__", "train2"])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'bitorch' has no attribute '{name}'"):
        getattr(bitorch, name)
    assert "models" in dir(bitorch)
