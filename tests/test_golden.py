"""Programs as they were: operations, arrays, layouts, kernels and results of every golden net, as text.

A difference is no fault by itself, but each must be meant. `python tests/test_golden.py` writes the files in
tests/golden anew, as far as this machine has the kernels; look at `git diff` afterwards, and say in the commit message
what changed and why.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

import bitorch_runtime
from bitorch import PackedModel, deploy
from golden_nets import GOLDEN, Golden
from golden_text import blocks, plan_text, planned_by, program_text, results_text

FOLDER = Path(__file__).with_name("golden")
WORKER = Path(__file__).with_name("golden_plans.py")
#: Operations that only tests of their own hold: a net's file needs the plans of all tables of kernels.
WITHOUT_NET = {"linear_weight_only", "linear_groups"}
#: All tables of kernels that there are, of any machine.
KERNELS = ("portable", "avx2", "avx512", "avx512-vpopcntdq", "neon", "neon-dotprod")
HERE = bitorch_runtime.cpu()["kernels"]

Plans = Mapping[str, Mapping[str, Any]]


def packed_net(golden: Golden) -> PackedModel:
    return deploy(golden.model(), *golden.example(), pixels=golden.setting.pixels)


def pack_all(folder: Path) -> dict[str, PackedModel]:
    """Deploy every net, and write its file, and inputs beside it where its results are kept."""
    packed = {}
    for golden in GOLDEN:
        model = packed[golden.name] = packed_net(golden)
        model.save(folder / f"{golden.name}.packed")
        if golden.exact:
            inputs = [x.mul(256).to(torch.uint8) if golden.setting.pixels else x for x in golden.example()]
            np.savez(folder / f"{golden.name}.npz", *[x.numpy() for x in inputs])
    return packed


def plans(folder: Path, kernels: str, *, fused: bool) -> Plans:
    """What `golden_plans.py` finds, with one table of kernels.

    The plans that are kept are those without fused kernels: these are chosen by what they cost on the CPU at hand.
    """
    environment = os.environ | {"BITORCH_KERNEL": kernels, "OMP_NUM_THREADS": "1", "BITORCH_FUSED": str(int(fused))}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: Plans = json.loads(done.stdout)
    return found


def title(golden: Golden) -> str:
    config = ", ".join(f"{key}={value}" for key, value in golden.setting.config.items())
    slopes = {"rising": "positive", "both": "of both signs"}[golden.setting.slopes]
    pixels = "; pixels" if golden.setting.pixels else ""
    return f"{golden.net}: {config}; slopes of BatchNorms {slopes}{pixels}"


def check(golden: Golden, block: str, found: str) -> None:
    """Fail with a diff unless a block of a net's file is the text that was found."""
    file = FOLDER / f"{golden.name}.txt"
    expected = blocks(file.read_text()).get(block, "") if file.exists() else ""
    if found != expected:
        lines = difflib.unified_diff(
            expected.splitlines(), found.splitlines(), f"tests/golden/{file.name}", "now", lineterm="", n=2
        )
        diff = "\n".join(lines)
        pytest.fail(f"{golden.name}: {block} has changed; if that is meant: python tests/test_golden.py\n{diff}", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


@pytest.fixture(scope="module")
def packed(folder: Path) -> dict[str, PackedModel]:
    return pack_all(folder)


@pytest.fixture(scope="module", params=KERNELS)
def planned(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Plans]:
    kernels: str = request.param
    if kernels not in HERE:
        pytest.skip(f"this CPU cannot run {kernels}")
    request.getfixturevalue("packed")  # only here: it takes most of a minute, and a skipped test needs none
    return kernels, plans(folder, kernels, fused=False)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_programs(golden: Golden, packed: dict[str, PackedModel]) -> None:
    check(golden, "program", program_text(title(golden), packed[golden.name]))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_plans(golden: Golden, planned: tuple[str, Plans]) -> None:
    kernels, found = planned
    check(golden, planned_by(kernels), plan_text(kernels, found[golden.name]["plan"]))


@pytest.mark.parametrize("golden", [golden for golden in GOLDEN if golden.exact], ids=lambda golden: golden.name)
def test_results(golden: Golden, planned: tuple[str, Plans]) -> None:
    """The same numbers of every table of kernels, and the same as ever."""
    _, found = planned
    check(golden, "results", results_text(found[golden.name]["results"]))


def test_fused_results(folder: Path, packed: dict[str, PackedModel]) -> None:
    """And the same where kernels and operations are fused."""
    for kernels in HERE:
        found = plans(folder, kernels, fused=True)
        for golden in (golden for golden in GOLDEN if golden.exact):
            check(golden, "results", results_text(found[golden.name]["results"]))


def test_every_file_belongs_to_a_net() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {golden.name for golden in GOLDEN}


def test_the_nets_have_every_operation(packed: dict[str, PackedModel]) -> None:
    found = {operation["op"] for model in packed.values() for operation in model.program()[0]}
    assert found | WITHOUT_NET == set(bitorch_runtime._native.operations())


def renew() -> None:
    """Write all files; plans of tables that this machine has not stay as they are."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as name:
        packed = pack_all(Path(name))
        found = {kernels: plans(Path(name), kernels, fused=False) for kernels in HERE if kernels in KERNELS}
    for file in FOLDER.iterdir():
        if file.stem not in packed:
            file.unlink()
    for golden in GOLDEN:
        file = FOLDER / f"{golden.name}.txt"
        text = blocks(file.read_text()) if file.exists() else {}
        text["program"] = program_text(title(golden), packed[golden.name])
        for kernels, by_net in found.items():
            text[planned_by(kernels)] = plan_text(kernels, by_net[golden.name]["plan"])
        text.pop("results", None)
        if golden.exact:
            text["results"] = results_text(found["portable"][golden.name]["results"])
        order = ("program", "results", *map(planned_by, KERNELS))
        file.write_text("\n\n".join(text[block] for block in order if block in text) + "\n")


if __name__ == "__main__":
    renew()
