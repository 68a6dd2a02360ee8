"""Write the page and the pictures of a notebook: `make notebook`.

The notebook stands in git without outputs. It is run in a kernel of its own, in an empty folder, and what its cells
print and draw goes into the page beside it: the site needs no Jupyter.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

_SECONDS = 600
_FOOT = (
    "\n*This page is what the notebook [{name}]({name}), which you can download and run, printed and drew when "
    "`make notebook` ran it; times are those of that machine.*\n"
)


def run(path: Path) -> Any:
    """Return a notebook, run from its first cell to its last in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell has failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=_SECONDS, startup_timeout=_SECONDS, resources=resources)
        client.execute()
    return notebook


def page(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook's page in Markdown, and the pictures that it shows, by their file names.

    Args:
        notebook: that was run. What a picture shows stands in the metadata of its cell, under "picture".
        name: of its file.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source + "\n")
            continue
        parts.append(f"```python\n{cell.source}\n```\n")
        for kind, content in _shown(cell.outputs):
            if kind == "picture":
                picture = f"{Path(name).stem}_{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(content)
                parts.append(f"![{cell.metadata['picture']}]({picture})\n")
            else:
                parts.append(f"```text\n{_trimmed(content)}\n```\n")
    return "\n".join(parts) + _FOOT.format(name=name), pictures


def _shown(outputs: Any) -> list[tuple[str, str]]:
    """Return pictures, and text that was printed, in one piece however the kernel has sent it."""
    shown: list[tuple[str, str]] = []
    for output in outputs:
        drawn = output.get("data", {}).get("image/png")
        if drawn is not None:
            shown.append(("picture", drawn))
        elif output.output_type == "stream" and output.name == "stdout":
            before = shown.pop()[1] if shown and shown[-1][0] == "text" else ""
            shown.append(("text", before + output.text))
    return shown


def _trimmed(text: str) -> str:
    """Return text without blanks at the ends of its lines."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        text, pictures = page(run(path), path.name)
        for old in path.parent.glob(f"{path.stem}_*.png"):
            old.unlink()
        for name, content in pictures.items():
            (path.parent / name).write_bytes(content)
        path.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
