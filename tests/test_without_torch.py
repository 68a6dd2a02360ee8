"""A packed model runs where PyTorch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import bitorch
import bitorch_runtime
from bitorch.models import LeNet8

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
for package in ("torch", "bitorch", "lightning"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{package} is installed here")
import numpy as np, bitorch_runtime
net = bitorch_runtime.load(sys.argv[2])
np.save(sys.argv[4], net(np.load(sys.argv[3])))
print(sorted(name.partition(".")[0] for name in sys.modules if "torch" in name))
"""


def environment(folder: Path) -> Path:
    """An interpreter of its own, with NumPy and the runtime and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = folder / "packages"
    packages.mkdir()
    for module in (np, bitorch_runtime):
        home = Path(str(module.__file__)).parent
        (packages / home.name).symlink_to(home)
        libraries = home.with_name(f"{home.name}.libs")
        if libraries.exists():
            (packages / libraries.name).symlink_to(libraries)
    return packages


def test_a_packed_model_runs_where_torch_is_not_installed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LeNet8()
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, first=8, last=8))
    packed = bitorch.deploy(model.eval(), torch.rand(1, 1, 8, 8), pixels=True)
    packed.save(tmp_path / "net.bit.safetensors")
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    np.save(tmp_path / "pixels.npy", pixels.numpy())
    files = [tmp_path / name for name in ("net.bit.safetensors", "pixels.npy", "scores.npy")]
    python = environment(tmp_path)
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-I", "-c", SCRIPT, python, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['bitorch_runtime']" or "'torch'" not in done.stdout
    with torch.no_grad():
        expected = model(pixels.float() / 255)
    assert np.array_equal(np.load(files[2]), expected.numpy())
