"""The notebook runs in Jupyter from its first cell to its last, and the page in the site is what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat

import notebook_page

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NOTEBOOK = FOLDER / "float_to_packed.ipynb"


def cells() -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = content["cells"]
    return found


def test_the_notebook_is_kept_without_outputs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


def test_the_page_has_the_cells_of_the_notebook_and_all_pictures() -> None:
    """`make notebook` writes it."""
    page = NOTEBOOK.with_suffix(".md").read_text(encoding="utf-8")
    code = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    assert re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE) == code
    assert all("".join(cell["source"]) in page for cell in cells() if cell["cell_type"] == "markdown")
    shown = re.findall(r"\]\((float_to_packed_\d+\.png)\)", page)
    assert shown == sorted(path.name for path in FOLDER.glob("*.png"))
    assert len(shown) == len([cell for cell in cells() if "picture" in cell["metadata"]])


def test_what_is_printed_is_one_piece_however_it_is_sent() -> None:
    pieces = [nbformat.v4.new_output("stream", name=name, text=f"{name}\n") for name in ("stdout", "stderr", "stdout")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("f()", outputs=pieces)])
    text, _ = notebook_page.page(notebook, "one.ipynb")
    assert text.startswith("```python\nf()\n```\n\n```text\nstdout\nstdout\n```\n")


def test_the_notebook_runs_and_makes_the_page() -> None:
    text, pictures = notebook_page.page(notebook_page.run(NOTEBOOK), NOTEBOOK.name)
    kept = NOTEBOOK.with_suffix(".md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if not re.search(r"\d|trains on ", line)] == [
        line for line in kept.splitlines() if not re.search(r"\d|trains on ", line)
    ]
    assert list(pictures) == re.findall(r"\]\((float_to_packed_\d+\.png)\)", kept)
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
