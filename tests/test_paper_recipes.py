"""The recipes of the papers, on small files in the official formats: killed and resumed they end as straight runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import cifar10
import imagenet
import svhn
from bitorch.train import Settings, Trainable
from courses import Course, lsq_course
from literature import FLOAT, TABLE1, TABLE2, Bits, Method, reported
from picture_files import write_cifar10_python, write_imagenet, write_shards, write_svhn
from reproduction import METHODS, Options, Plan, Row, line_of, method_of, run_name, settings_of

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning's own use of a PyTorch name
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

# Does jobs of a file: runs of recipes that kill themselves, with all of their group, at a step. With --fork each has a
# process, because importing takes longer than training; else one comes after the other, and Lightning's launcher runs
# the script once more for a second process.
SCRIPT = """
import json, os, signal, sys
from importlib import import_module

import tyro

sys.path.insert(0, sys.argv[1])
jobs = json.load(open("jobs.json"))
recipes = [import_module(job["recipe"]) for job in jobs]

from bitorch.train import Trainable

steps = []
make_step = Trainable.training_step

def do(recipe, job):
    def training_step(self, *args):
        steps.append(1)
        if len(steps) == job["kill_at"]:
            os.killpg(0, signal.SIGKILL)
        return make_step(self, *args)

    Trainable.training_step = training_step
    recipe.main(tyro.cli(getattr(recipe, job["options_type"]), args=job["flags"]))

for recipe, job in zip(recipes, jobs):
    if "--fork" not in sys.argv:
        do(recipe, job)
    elif os.fork() == 0:
        os.setsid()
        do(recipe, job)
        os._exit(0)
    else:
        assert os.wait()[1] == signal.SIGKILL
"""


@dataclass(frozen=True)
class Case:
    """A recipe and a short run of it.

    Attributes:
        recipe: name of its module.
        options_type: name of its options.
        main: what it does with them.
        write: writes the official files into a folder.
        flags: of the run, but for folder and out.
        run: the name of its folder.
        images: for training.
        batch: images per step of all processes.
    """

    recipe: str
    options_type: type[Any]
    main: Callable[[Any], None]
    write: Callable[[Path], None]
    flags: str
    run: str
    images: int
    batch: int

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.images // self.batch


CASES = (
    Case(
        "svhn",
        svhn.SVHNOptions,
        svhn.main,
        lambda folder: write_svhn(folder, 24, 8, extra=8),
        "--nets D --bits 1 1 4",
        "svhn-d-dorefa-w1a1g4-seed0",
        32,
        8,
    ),
    Case(
        "cifar10",
        cifar10.CIFAR10Options,
        cifar10.main,
        lambda folder: write_cifar10_python(folder / "cifar-10-batches-py", 6, 8),
        "--methods lsq --bits 2 3 --width 0.25",
        "resnet-20-lsq-w2a3g32-seed0",
        30,
        10,
    ),
    Case(
        "imagenet",
        imagenet.ImageNetOptions,
        imagenet.main,
        lambda folder: write_imagenet(folder, 4, 2, flat=True),
        "--methods dorefa --bits 1 2 6 --width 0.0625",
        "alexnet-dorefa-w1a2g6-seed0",
        12,
        4,
    ),
)


def flags(case: Case, folder: Path) -> list[str]:
    common = f"--epochs 2 --batch-size {case.batch} --workers 0 --accelerator cpu"
    return ["--folder", str(folder / "files"), *common.split(), *case.flags.split()]


def trained(case: Case, folder: Path, name: str) -> int:
    """Train into a folder in this process; return the number of steps that it took."""
    import tyro

    options = tyro.cli(case.options_type, args=[*flags(case, folder), "--out", str(folder / name)])
    steps: list[int] = []
    make_step = Trainable.training_step

    def training_step(self: Trainable, batch: Any, batch_idx: int) -> Tensor:
        steps.append(batch_idx)
        return make_step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()):
        patch.setattr(Trainable, "training_step", training_step)
        case.main(options)
    return len(steps)


def job(case: Case, folder: Path, out: str, *, kill_at: int = 0, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """A run for the script; one that is not to be killed without kill_at."""
    return {
        "recipe": case.recipe,
        "options_type": case.options_type.__name__,
        "flags": [*flags(case, folder), "--out", str(folder / out), *more],
        "kill_at": kill_at,
    }


def run_script(folder: Path, *jobs: dict[str, Any], more: tuple[str, ...] = ()) -> int:
    """Run the script in a group of its own; return the first process's exit code."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    # A launcher's variables, should the tests themselves run under one, would make this a part of its group.
    launcher = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launcher}
    environment |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, str(folder / "script.py"), str(RECIPES), *more],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


def numbers(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and tensor of a checkpoint, with its place, but for times and folders."""
    if isinstance(content, dict | list | tuple):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            if key not in ("seconds_per_step", "out", "resume"):
                yield from numbers(value, f"{place}/{key}")
    else:
        yield place, content


def same_checkpoints(one: Path, other: Path) -> bool:
    contents = [dict(numbers(torch.load(path, weights_only=True))) for path in (one, other)]
    assert contents[0].keys() == contents[1].keys()
    assert sum(isinstance(value, Tensor) for value in contents[0].values()) > 20
    return all(
        torch.equal(value, contents[1][place]) if isinstance(value, Tensor) else value == contents[1][place]
        for place, value in contents[0].items()
    )


def folder_of(case: Case, folder: Path) -> Path:
    """Return the folder of a case, with the official files in it."""
    case.write(folder / case.recipe / "files")
    return folder / case.recipe


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.slow
def test_killed_runs_end_as_straight_ones(tmp_path: Path) -> None:
    folders = [folder_of(case, tmp_path) for case in CASES]
    jobs = [job(case, folder, "killed", kill_at=case.steps + 2) for case, folder in zip(CASES, folders, strict=True)]
    assert run_script(tmp_path, *jobs, more=("--fork",)) == 0
    for case, folder in zip(CASES, folders, strict=True):
        killed = folder / "killed" / case.run
        assert (killed / "last.ckpt").is_file()
        assert not (killed / "outcome.json").exists()
        assert trained(case, folder, "straight") == 2 * case.steps
        assert trained(case, folder, "killed") == case.steps
        assert same_checkpoints(killed / "last.ckpt", folder / "straight" / case.run / "last.ckpt")
        straight, resumed = ((folder / name / "results.json").read_text() for name in ("straight", "killed"))
        assert straight == resumed
        assert trained(case, folder, "killed") == 0  # a run that is done is read


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("case", CASES, ids=[case.recipe for case in CASES])
def test_killed_runs_of_two_processes_end_as_straight_ones(case: Case, tmp_path: Path) -> None:
    folder, two = folder_of(case, tmp_path), ("--devices", "2")
    assert run_script(tmp_path, job(case, folder, "killed", kill_at=case.steps + 2, more=two)) == -signal.SIGKILL
    resumed, straight = (folder / name / case.run / "last.ckpt" for name in ("killed", "straight"))
    assert not (resumed.parent / "outcome.json").exists()
    before = resumed.read_bytes()
    assert run_script(tmp_path, *(job(case, folder, out, more=two) for out in ("straight", "killed"))) == 0
    assert resumed.read_bytes() != before
    assert same_checkpoints(resumed, straight)
    tables = [json.loads((folder / name / "results.json").read_text()) for name in ("killed", "straight")]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 1


def test_one_table_has_all_runs_and_what_papers_report_of_them(tmp_path: Path) -> None:
    write_svhn(tmp_path / "files", 16, 8)
    for bits in ((1, 1, 4), (1, 2, 6)):
        with redirect_stdout(StringIO()) as said:
            svhn.main(
                svhn.SVHNOptions(
                    folder=tmp_path / "files", out=tmp_path / "out", nets=("D",), bits=(bits,), extra=False, epochs=1,
                    batch_size=8, workers=0, accelerator="cpu",
                )
            )  # fmt: skip
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["bits"] for entry in found] == [[1, 1, 4], [1, 2, 6]]
    assert [[number["accuracy"] for number in entry["reported"]] for entry in found] == [[0.846], []]
    assert [(entry["epochs"], entry["epochs_of_paper"]) for entry in found] == [(1, 200)] * 2
    outcome = json.loads((tmp_path / "out" / "svhn-d-dorefa-w1a1g4-seed0" / "outcome.json").read_text())
    assert found[0]["last"] == outcome["history"][-1]["val/acc"]
    text = (tmp_path / "out" / "results.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| svhn-d")]
    assert "84.6%, DoReFa-Net, arXiv 1606.06160, table 1 (as remembered) |" in rows[0]
    assert rows[1].endswith("| – |")
    assert said.getvalue().endswith(f"{text}\n")
    with pytest.raises(ValueError, match="has svhn-d-dorefa-w1a2g6-seed0 already; call the command with --resume"):
        svhn.main(
            svhn.SVHNOptions(
                folder=tmp_path / "files", out=tmp_path / "out", nets=("D",), bits=((1, 2, 6),), extra=False,
                resume=False,
            )
        )  # fmt: skip


def test_plans_have_the_rows_of_their_tables() -> None:
    rows = svhn.plan(svhn.SVHNOptions()).rows
    assert len(rows) == len({row.name for row in rows}) == 4 * len(TABLE1)
    alexnet = imagenet.rows(imagenet.ImageNetOptions())
    assert {row.bits for row in alexnet} == {bits for bits, _ in TABLE2}
    assert all(reported(row.net, row.method, row.bits, "random") for row in alexnet)
    for grid in (cifar10.plan(cifar10.CIFAR10Options()).rows, imagenet.rows(imagenet.ImageNetOptions(net="resnet-18"))):
        assert [row.method for row in grid] == ["float", *["dorefa"] * 3, *["pact"] * 3, *["lsq"] * 3]
        assert all(reported(row.net, row.method, row.bits, "float") for row in grid if row.method in ("dorefa", "pact"))


@pytest.mark.parametrize(
    ("net", "method", "bits", "accuracies"),
    [
        ("svhn-a", "dorefa", (8, 8, 8), []),
        ("svhn-c", "dorefa", (8, 8, 8), [0.970]),
        ("svhn-b", "float", FLOAT, [0.975]),
        ("alexnet", "dorefa", (1, 2, 6), [0.461]),
        ("resnet-20", "pact", (2, 2, 32), [0.897]),
        ("resnet-20", "lsq", (2, 2, 32), []),
        ("resnet-18", "float", FLOAT, [0.702, 0.705]),
        ("resnet-18", "lsq", (3, 3, 32), [0.702]),
        ("resnet-18", "pact", (1, 2, 32), []),
    ],
)
def test_reported(net: str, method: Method, bits: Bits, accuracies: list[float]) -> None:
    assert [number.accuracy for number in reported(net, method, bits, "random")] == accuracies


def _plans() -> list[tuple[Plan, Options]]:
    options = [
        (svhn.plan, svhn.SVHNOptions()),
        (cifar10.plan, cifar10.CIFAR10Options()),
        (imagenet.plan, imagenet.ImageNetOptions()),
        (imagenet.plan, imagenet.ImageNetOptions(net="resnet-18")),
    ]
    return [(make(each), each) for make, each in options]  # type: ignore[operator]  # each its own options


def test_a_row_is_known_again_by_the_settings_of_its_run() -> None:
    for plan, options in _plans():
        for row in plan.rows:
            line = line_of(settings_of(row, plan, options), plan)
            assert Row(line.net, line.method, line.bits) == row
            assert (line.start, line.epochs) == ("random", line.epochs_of_paper)


def test_methods_are_those_of_the_papers() -> None:
    config = {method: Settings(bits=(2, 2, 32), **fields).config for method, fields in METHODS.items()}
    assert (config["dorefa"].range, config["dorefa"].first, config["dorefa"].last) == ("unit", "float", "float")
    assert (config["pact"].range, config["pact"].learned_by, config["pact"].first) == ("learned", "pact", "float")
    assert (config["lsq"].weights, config["lsq"].learned_by) == ("lsq", "lsq")
    assert (config["lsq"].first, config["lsq"].last) == (8, 8)
    with pytest.raises(ValueError, match="was trained by none of float, dorefa, pact, lsq"):
        method_of(Settings(bits=(2, 2, 32), weights_method="twn"))


def test_low_bit_nets_start_from_float_weights_and_the_float_net_does_not(tmp_path: Path) -> None:
    options = cifar10.CIFAR10Options(init=tmp_path / "last.ckpt", seed=3)
    plan = cifar10.plan(options)
    runs = {run_name(row, options): settings_of(row, plan, options) for row in plan.rows}
    assert runs.pop("resnet-20-float-seed3").init is None
    assert "resnet-20-lsq-w2a2g32-init-seed3" in runs
    assert {settings.init for settings in runs.values()} == {tmp_path / "last.ckpt"}
    assert line_of(runs["resnet-20-pact-w3a3g32-init-seed3"], plan).start == "float"


def test_schedules_move_with_the_number_of_epochs() -> None:
    course = Course(100, 128, {"lr": 0.1}, milestones=(30, 60, 85, 95), gamma=0.2)
    assert course.fields_for(100) == {"lr": 0.1, "schedule": "step", "milestones": (30, 60, 85, 95), "gamma": 0.2}
    assert course.fields_for(10)["milestones"] == (3, 6, 8)
    assert course.fields_for(1) == {"lr": 0.1, "schedule": "constant"}
    assert Course(9, 8, {"schedule": "cosine"}).fields_for(3) == {"schedule": "cosine"}
    decays = [lsq_course(90, 256, (bits, bits, 32)).fields["weight_decay"] for bits in (2, 3, 4, 8)]
    assert decays == [0.25e-4, 0.5e-4, 1e-4, 1e-4]


def test_images_of_a_step_are_shared_by_the_processes() -> None:
    options = svhn.SVHNOptions(devices=2)
    plan = svhn.plan(options)
    assert settings_of(plan.rows[0], plan, options).batch_size == 64
    odd = svhn.SVHNOptions(devices=2, batch_size=5)
    with pytest.raises(ValueError, match="batch_size must be a multiple of devices, got 5 images per step for 2"):
        settings_of(plan.rows[0], plan, odd)


def test_missing_files_say_where_they_are_had(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder must be given: train_32x32\.mat, .*http://ufldl\.stanford\.edu"):
        svhn.main(svhn.SVHNOptions())
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder: .*https://www\.cs\.toronto\.edu/~kriz/"):
        cifar10.main(cifar10.CIFAR10Options(folder=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"has no files of CIFAR-10: cifar-10-python\.tar\.gz"):
        cifar10.main(cifar10.CIFAR10Options(folder=tmp_path))
    write_svhn(tmp_path, 4, 4)
    with pytest.raises(FileNotFoundError, match=r"has no train_32x32\.mat and .* and extra_32x32\.mat: "):
        svhn.main(svhn.SVHNOptions(folder=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"init: .* is not there; train the row float first"):
        svhn.main(svhn.SVHNOptions(folder=tmp_path, extra=False, init=tmp_path / "none.ckpt"))


def test_what_is_missing_of_imagenet(tmp_path: Path) -> None:
    assert imagenet.missing(tmp_path) == "train/n…, one folder for each synset"
    write_imagenet(tmp_path, 1, 1, flat=True)
    assert imagenet.missing(tmp_path) == ""
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    assert imagenet.missing(tmp_path) == "meta.mat for the pictures in val"
    with pytest.raises(FileNotFoundError, match=r"has no meta\.mat .*: ILSVRC2012_img_train\.tar.*image-net\.org"):
        imagenet.main(imagenet.ImageNetOptions(folder=tmp_path))


def test_imagenet_is_read_from_tar_files(tmp_path: Path) -> None:
    write_shards(tmp_path / "tars", 12, 2)
    write_shards(tmp_path / "tars", 6, 1, prefix="val", seed=1)
    options = imagenet.ImageNetOptions(
        folder=tmp_path / "tars", shards="train-{0000..0001}.tar", val_shards="val-0000.tar", methods=("float",),
        width=1 / 16, epochs=1, batch_size=6, workers=0, accelerator="cpu", out=tmp_path / "out",
    )  # fmt: skip
    with redirect_stdout(StringIO()):
        imagenet.main(options)
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1
    with pytest.raises(ValueError, match="shards and val_shards belong together"):
        imagenet.main(imagenet.ImageNetOptions(folder=tmp_path, shards="train-0000.tar"))


def test_the_page_has_the_costs_that_the_commands_print() -> None:
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    with redirect_stdout(StringIO()) as said:
        svhn.main(svhn.SVHNOptions(cost=True, bits=((1, 1, 4),)))
        cifar10.main(cifar10.CIFAR10Options(cost=True, methods=("pact",), bits=((2, 2),)))
        imagenet.main(imagenet.ImageNetOptions(cost=True, methods=("dorefa",), bits=((1, 2, 6),)))
        imagenet.main(imagenet.ImageNetOptions(cost=True, net="resnet-18", bits=((2, 2, 32),)))
    lines = said.getvalue().splitlines()
    assert len(lines) == 10
    assert [line for line in lines if line not in page] == []
