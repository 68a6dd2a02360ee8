"""Every Python snippet and every `bitorch` command of README and docs runs as it stands."""

from __future__ import annotations

import csv
import re
import shlex
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import bitorch
import bitorch_runtime
from bitorch.cli import main
from bitorch.deployment.capture.replay import function_name
from bitorch.deployment.capture.rules.by_function import RULES
from bitorch.deployment.passes.pipeline import READ_PIXELS
from bitorch.deployment.runtime.compile import PASSES
from bitorch.deployment.runtime.lower import lower
from bitorch.layers import QActivation, QConv1d, QConv2d, QLinear
from bitorch.layers.integer_kernels import machine_obstacle
from bitorch_runtime import operations_page
from picture_files import write_cifar10_python, write_imagenet, write_picture_folder, write_shards, write_svhn

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "runtime" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Those whose snippets run without their commands. The gallery's go on from each other: test_gallery.py runs them.
RUN_PAGES = [page for page in PAGES if page.name != "gallery.md"]
#: Written from docstrings when the site is built; and pages that benchmarks write.
API_PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
MEASURED_PAGES = sorted((ROOT / "docs" / "kernels").glob("*.md"))
# Pages of results.
NUMBERS = ("results.md", "architectures.md", "zoo.md", "examples.md", "examples-audio.md", "examples-detector.md")
# What a shell snippet may hold besides bitorch: make targets that exist, and installation.
OTHER_COMMANDS = ("make", "pip", "python")

mpl.use("agg")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows, blocks with a title, as a reader would."""
    for name, text in re.findall(
        r'^```python title="([\w.]+)"\n(.*?)^```', page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        (folder / name).write_text(text, encoding="utf-8")


def ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def write_data(page: Path, folder: Path) -> None:
    """Write the data sets that a page's commands read, as a reader has them."""
    if page.name != "data.md":
        return
    write_picture_folder(folder / "pictures", 16, 4)
    write_cifar10_python(folder / "cifar" / "cifar-10-batches-py", 16, 8)
    write_svhn(folder / "svhn", 70, 8)
    write_imagenet(folder / "imagenet", 24, 3, flat=True)
    write_shards(folder / "shards", 100, 4)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("page", RUN_PAGES, ids=ids(RUN_PAGES))
def test_python_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets of a page build on each other."""
    for package in {"hugging-face.md": ("transformers",), "gguf.md": ("transformers", "gguf")}.get(page.name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    write_files(page, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # so that snippets can import those files, as in a folder of one's own
    for file in tmp_path.glob("*.py"):
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for number, block in enumerate(blocks(page, "python")):
        exec(compile(block, f"{page.name}, snippet {number}", "exec"), namespace)
    assert blocks(page, "python") or page.name in NUMBERS, "a page without a snippet?"


@pytest.mark.parametrize("page", RUN_PAGES, ids=ids(RUN_PAGES))
def test_commands_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_files(page, tmp_path)
    write_data(page, tmp_path)
    makefile = (ROOT / "Makefile").read_text() + (ROOT / "runtime" / "checks.mk").read_text()
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["bitorch"]:
            assert main(words[1:]) == 0, "\n".join([line, *capsys.readouterr()])
        elif words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
        elif words:
            assert words[0] in OTHER_COMMANDS, line


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_no_page_is_unfinished(page: Path) -> None:
    assert not re.search(r"PLACEHOLDER|TBD|FIXME|^[A-Z_]{6,}$", page.read_text(encoding="utf-8"), re.MULTILINE)


LINKING = [*PAGES, *API_PAGES, *MEASURED_PAGES, ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", LINKING, ids=ids(LINKING))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_index_and_in_the_site() -> None:
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs)) for page in docs.rglob("*.md")} - {"README.md"}
    index, site = ((docs / "README.md").read_text(encoding="utf-8"), (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    sections = ("Start", "Guides", "Reference", "Inside", "Results")
    assert re.findall(r"^## (\w+)$", index, re.MULTILINE)[:5] == list(sections)
    assert set(re.findall(r"^  - (\w+):$", site, re.MULTILINE)) >= set(sections)
    assert set(re.findall(r"\]\(([\w/-]+\.md)\)", index.split("## Every name")[0])) == pages
    assert set(re.findall(r"^      - (?:.*: )?([\w/-]+\.md)$", site, re.MULTILINE)) == pages | {"README.md"}


def test_every_public_name_has_its_docstring_in_the_site() -> None:
    """The pages in docs/api name what the site shows; other names of a class are told in words."""
    names = {name for name in dir(bitorch) if not name.startswith("_") and name in bitorch._HOMES}
    assert documented("bitorch.md", "bitorch") | {"DoReFaConfig", "runtime_mode_type"} == names
    for module in (bitorch.quantizations, bitorch.layers, bitorch.models):
        short = module.__name__.removeprefix("bitorch.")
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        exported = set(re.findall(r"import (\w+) as \1$", source, re.MULTILINE))
        # Other names of classes, such as QLinearBase, and what is no class or function.
        aliases = {name for name in exported if getattr(getattr(module, name), "__name__", name) != name}
        constants = {"MODEL_NAMES", "ZOO_NAMES", "SVHNVariant"}
        assert documented(f"{short}.md", module.__name__) >= exported - aliases - constants
    exported = {"Settings", *bitorch.train._HOMES}
    assert documented("train.md", "bitorch.train") == exported
    runtime = {name.rpartition(".")[2] for name in documented("bitorch_runtime.md", "bitorch_runtime")}
    assert runtime >= set(bitorch_runtime.__all__) - {
        "__version__", "format", "reference"
    }  # fmt: skip


def documented(page: str, module: str) -> set[str]:
    text = (ROOT / "docs" / "api" / page).read_text(encoding="utf-8")
    return set(re.findall(rf"^::: {re.escape(module)}\.([\w.]+)$", text, re.MULTILINE))


@pytest.mark.parametrize(
    "page", [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_every_path_that_contributors_are_told_is_there(page: Path) -> None:
    """Whole paths, and names of files and folders that stand somewhere in the sources."""
    known = [
        path
        for root in ("src", "runtime/csrc", "runtime/src", "runtime/tests", "tests")
        for path in (ROOT / root).rglob("*")
    ]
    paths = re.findall(r"`([\w./<>-]+(?:/|\.py|\.h|\.inl|\.cpp))`", page.read_text(encoding="utf-8"))
    assert paths
    for told in paths:
        if (ROOT / told.rstrip("/")).exists():
            continue
        ends = "/" + told.rstrip("/")
        assert any(str(path).endswith(ends) for path in known), f"{page.name} tells of {told}"


def on_any_machine(printed: str) -> list[str]:
    """Lines without those that say what this machine's layers are trained on, where it has no kernels for it."""
    lines = printed.splitlines()
    return lines if machine_obstacle() is None else [line for line in lines if not line.startswith("trains on ")]


def test_readme_shows_what_it_prints(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And fits a person in a hurry."""
    readme = ROOT / "README.md"
    monkeypatch.chdir(tmp_path)
    exec(blocks(readme, "python")[0], {})
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert on_any_machine(printed) == on_any_machine(blocks(readme, "text")[0].rstrip("\n"))
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 120


def test_conversion_table_of_the_docs_is_current(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table in converting.md is what its snippet prints."""
    page = ROOT / "docs" / "converting.md"
    namespace: dict[str, object] = {}
    printed: list[str] = []
    namespace["print"] = lambda table: printed.append(str(table))
    exec(blocks(page, "python")[0], namespace)
    assert [on_any_machine(printed[0])] == [on_any_machine(blocks(page, "text")[0].rstrip("\n"))]


def test_page_of_operations_is_what_the_table_makes() -> None:
    """`make docs-operations` writes it."""
    assert (ROOT / "docs" / "operations.md").read_text(encoding="utf-8") == operations_page.page()


def test_every_public_name_is_in_the_table_of_names() -> None:
    table = (ROOT / "docs" / "README.md").read_text(encoding="utf-8").split("## Every name")[1]
    names = {name for name in dir(bitorch) if not name.startswith("_")}
    public = {
        name
        for name in names
        if name in bitorch._HOMES or getattr(getattr(bitorch, name), "__module__", "").startswith("bitorch.")
    }
    assert set(re.findall(r"`(\w+)`", table)) == public


def test_deploying_lists_what_can_be_deployed() -> None:
    """The tables in deploying.md have every function that has a rule, and every pass."""
    section = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8").split("## What can be deployed")[1]
    listed = set(re.findall(r"`([A-Za-z_0-9]+)`", section))
    functions = {function_name(function) for function in RULES}
    # Operators and what only modules call; `reciprocal` has a rule that says why not.
    spelled = {name for name in functions if hasattr(torch, name) or hasattr(torch.nn.functional, name)}
    internal = {name for name in spelled if name.endswith("_with_indices")} | {"reciprocal"}
    assert spelled - internal <= listed
    assert {step.name for step in (READ_PIXELS, *PASSES)} | {lower.__name__} <= listed
    assert {layer.__name__ for layer in (QConv1d, QConv2d, QLinear, QActivation)} <= listed


def test_deploying_shows_what_can_deploy_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "deploying.md"
    (snippet,) = (block for block in blocks(page, "python") if "bitorch.can_deploy" in block)
    exec(snippet, {"torch": torch, "bitorch": bitorch})
    assert capsys.readouterr().out in blocks(page, "text")


def test_claims_about_int8_are_those_of_the_tables() -> None:
    """README and kernels.md say on how many layers which bits are faster than the faster int8 engine."""
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    page = " ".join((ROOT / "docs" / "kernels.md").read_text(encoding="utf-8").split())
    one, two = (slower_than_int8(ROOT / "docs" / "kernels" / f"layers{suffix}.csv") for suffix in ("", "-2-threads"))
    assert "faster than float and faster than int8" not in readme
    assert "With 1 or 2 bits of weights and of activations most layers are faster than int8, too" in readme
    few = [one[bits][0] for bits in ("W1A1", "W1A2", "W2A1", "W2A2")]
    layers = one["W4A4"][1]
    slow = f"W4A4 is slower than the faster int8 engine in {one['W4A4'][0]} of the {layers} layers"
    assert f"{slow} [measured](kernels/layers.md), W8A8 in {one['W8A8'][0]};" in page
    assert f"W1A1 to W2A2 are slower in {min(few)} to {max(few)} of them" in page
    assert max(few) < layers / 2
    assert f"W2A2 is slower than the faster of them in {two['W2A2'][0]} of the {two['W2A2'][1]} layers" in page


def slower_than_int8(path: Path) -> dict[str, tuple[int, int]]:
    """By bits: in how many layers they are slower than the faster int8 engine, and how many layers there are."""
    seconds: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["seconds"]:
                seconds.setdefault(row["layer"], {})[row["contestant"]] = float(row["seconds"])
    ratios: dict[str, list[bool]] = {}
    for found in seconds.values():
        int8 = min(value for name, value in found.items() if name.endswith("int8"))
        for name, value in found.items():
            ratios.setdefault(name, []).append(value > int8)
    return {name: (sum(slower), len(slower)) for name, slower in ratios.items()}
