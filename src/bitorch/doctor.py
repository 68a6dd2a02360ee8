"""What this machine and installation can do. Needs nothing but torch."""

from __future__ import annotations

import math
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .layers.integer_kernels import machine_obstacle
from .version import __version__

#: Distributions of each extra of bitorch.
_EXTRAS = {
    "train": ("lightning", "numpy", "pillow", "pyyaml", "rich", "scikit-learn", "tensorboard", "torchmetrics", "tyro"),
    "plots": ("matplotlib", "numpy"),
    "models": ("timm", "torchvision"),
    "hub": ("huggingface-hub", "safetensors"),
    "hf": ("safetensors", "transformers"),
    "gguf": ("gguf", "numpy", "transformers"),
    "ray": ("ray",),
    "search": ("optuna",),
    "bench": ("onnx", "onnxruntime"),
}
_RUNTIME = "bitorch-runtime"
#: CPU features that low-bit arithmetic gains from, with their names in /proc/cpuinfo, by kind of machine.
_X86_FEATURES = {
    "popcnt": "popcnt",
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512vbmi": "avx512vbmi",
}
_ARM_FEATURES = {"neon": "asimd", "dotprod": "asimddp", "i8mm": "i8mm", "sve": "sve"}
#: The same for macOS, in the output of sysctl. Arm Macs have one key per feature, Intel Macs lists of names.
_ARM_SYSCTL = {
    "neon": "hw.optional.neon",
    "dotprod": "hw.optional.arm.FEAT_DotProd",
    "i8mm": "hw.optional.arm.FEAT_I8MM",
    "sve": "hw.optional.arm.FEAT_SVE",
}
_X86_SYSCTL_LISTS = ("machdep.cpu.features", "machdep.cpu.leaf7_features")
_COMPILERS = ("g++", "clang++", "c++", "cl")

Features = dict[str, bool] | None
#: From the text and the architecture to the CPU's name and features.
Parser = Callable[[str, str], tuple[str, Features]]


def doctor_report() -> dict[str, Any]:
    """Return versions, processor, devices and what can be used, in types that JSON has.

    Keys: "versions" (a string each, None for what is not installed), "cpu" ("model", "architecture", "features": a bool
    each, or None where they cannot be found out; "usable_cores", "torch_threads"), "runtime" (of bitorch_runtime:
    "kernel", "reason", "threads"; None where it is not installed or cannot run), "devices" ("type" and "name" each),
    "abilities" ("available" and "hint" each).
    """
    runtime, hint = _runtime()
    return {
        "versions": _versions(),
        "cpu": _cpu(),
        "runtime": runtime,
        "devices": _devices(),
        "abilities": {
            **{extra: _extra(extra) for extra in _EXTRAS},
            "deploy": {"available": runtime is not None, "hint": hint},
            "integer steps": _integer_training(),
            "compile": _compile(),
        },
    }


def processor_name() -> str:
    """Return what the processor calls itself, "unknown" if that cannot be found out."""
    return _model_and_features(platform.machine())[0]


def format_report(report: Mapping[str, Any]) -> str:
    """Return a report of `doctor_report` as text."""
    cpu = report["cpu"]
    features = cpu["features"]
    has = "unknown" if features is None else " ".join(name for name, is_there in features.items() if is_there)
    lacks = "" if features is None else " ".join(name for name, is_there in features.items() if not is_there)
    runtime = report["runtime"]
    sections = {
        "versions": {name: "not installed" if v is None else v for name, v in report["versions"].items()},
        "processor": {
            "model": f"{cpu['model']} ({cpu['architecture']})",
            "has": has if has else "none of these",
            "lacks": lacks,
            "cores": f"{cpu['usable_cores']} usable, {cpu['torch_threads']} threads in torch",
            "kernels": "" if runtime is None else f"{runtime['kernel']} ({runtime['reason']})",
        },
        "devices": {device["type"]: device["name"] for device in report["devices"]},
        "abilities": {name: "yes" if a["available"] else f"no: {a['hint']}" for name, a in report["abilities"].items()},
    }
    width = max(len(name) for rows in sections.values() for name in rows)
    lines: list[str] = []
    for title, rows in sections.items():
        lines.append(title)
        lines.extend(f"  {name:{width}}  {value}" for name, value in rows.items() if value)
    return "\n".join(lines)


def parse_cpuinfo(text: str, architecture: str) -> tuple[str, Features]:
    """Return the CPU's name and features from the text of Linux's /proc/cpuinfo; "unknown" and None if not there."""
    fields = _fields(text)
    model = fields.get("model name", fields.get("Model", "unknown"))
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = _known_features(architecture)
    if not flags or known is None:
        return model, None
    return model, {name: flag in flags for name, flag in known.items()}


def parse_sysctl(text: str, architecture: str) -> tuple[str, Features]:
    """Return the same from the output of macOS's `sysctl hw.optional machdep.cpu`."""
    fields = _fields(text)
    model = fields.get("machdep.cpu.brand_string", "unknown")
    if architecture == "arm64" and text:
        return model, {name: fields.get(key) == "1" for name, key in _ARM_SYSCTL.items()}
    names = {name.replace("_", "") for key in _X86_SYSCTL_LISTS for name in fields.get(key, "").lower().split()}
    return model, {name: name in names for name in _X86_FEATURES} if names else None


def _known_features(architecture: str) -> dict[str, str] | None:
    if architecture.lower() in ("x86_64", "amd64", "i386", "i686"):
        return _X86_FEATURES
    return _ARM_FEATURES if architecture.lower() in ("aarch64", "arm64") else None


def _fields(text: str) -> dict[str, str]:
    """Return `key: value` lines; of a key that occurs for each core, the first."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _versions() -> dict[str, str | None]:
    optional = sorted({name for names in _EXTRAS.values() for name in names} | {_RUNTIME})
    return {
        "python": platform.python_version(),
        "bitorch": __version__,
        "torch": torch.__version__,
        **{name: _installed_version(name) for name in optional},
    }


def _installed_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    architecture = platform.machine()
    model, features = _model_and_features(architecture)
    return {
        "model": model,
        "architecture": architecture,
        "features": features,
        "usable_cores": _usable_cores(),
        "torch_threads": torch.get_num_threads(),
    }


def _model_and_features(architecture: str) -> tuple[str, Features]:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        return parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"), architecture)
    if sys.platform == "darwin":
        # Exit code 1 only says that one of the two names does not exist.
        output = subprocess.run(["/usr/sbin/sysctl", "hw.optional", "machdep.cpu"], capture_output=True, text=True)
        return parse_sysctl(output.stdout, architecture)
    return platform.processor() if platform.processor() else "unknown", None


def _usable_cores() -> int:
    """Return how many cores this process may use: a container or a scheduler may give it less than there are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        microseconds, period = quota.read_text().split()
        if microseconds != "max":
            cores = min(1 if cores is None else cores, math.ceil(int(microseconds) / int(period)))
    return 1 if cores is None else cores


def _devices() -> list[dict[str, str]]:
    devices = [{"type": "cpu", "name": platform.machine()}]
    if torch.cuda.is_available():
        devices += [
            {"type": f"cuda:{index}", "name": torch.cuda.get_device_name(index)}
            for index in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        devices.append({"type": "mps", "name": "Apple GPU"})
    return devices


def _extra(name: str) -> dict[str, Any]:
    missing = [package for package in _EXTRAS[name] if _installed_version(package) is None]
    hint = f'{", ".join(missing)} missing: pip install ".[{name}]" in a checkout of bitorch' if missing else ""
    return {"available": not missing, "hint": hint}


def _runtime() -> tuple[dict[str, Any] | None, str]:
    """Return what bitorch_runtime computes with, or None and why there is nothing."""
    try:
        import bitorch_runtime

        cpu = bitorch_runtime.cpu()
    except ModuleNotFoundError as error:
        return None, f"{error.name} missing: pip install ./runtime in a checkout of bitorch"
    except (ImportError, ValueError) as error:
        return None, str(error)
    return {name: cpu[name] for name in ("kernel", "reason", "threads")}, ""


def _integer_training() -> dict[str, Any]:
    """Whether low-bit layers can compute their training steps on integers; else they compute them on floats."""
    why = machine_obstacle()
    return {"available": why is None, "hint": "" if why is None else f"{why}; floats are taken, for the same numbers"}


def _compile() -> dict[str, Any]:
    """torch.compile writes C++ and builds it as a Python extension module."""
    candidates = [os.environ["CXX"]] if "CXX" in os.environ else list(_COMPILERS)
    if not any(shutil.which(name) for name in candidates):
        hint = f"torch.compile needs a C++ compiler, and {', '.join(candidates)} cannot be found"
        return {"available": False, "hint": hint}
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        return {"available": False, "hint": f"torch.compile needs {header}, from the package of Python's headers"}
    return {"available": True, "hint": ""}
