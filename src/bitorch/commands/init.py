"""`bitorch init`: a settings file for a folder of data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..atomic_file import write_text
from .console import print_error
from .options import parse
from .places import check_place


@dataclass(frozen=True)
class _Arguments:
    """Look into a folder of data, and write a settings file with comments that fits it, which bitorch train takes.

    It says the format, the sizes, a net, epochs, batch size and augmentation, each with its reason. Up to 300 pictures
    are opened. A file that is there is not overwritten.
    Exit code 0: written; 2: wrong arguments, a folder that holds nothing known, or a file that is there.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of the data set: of pictures in folders by class, of shards, or as an archive unpacks."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File to write. Default: the folder's name with .yaml, here."""


def run(arguments: list[str]) -> int:
    """Write the file, and say how to go on."""
    options = parse(_Arguments, arguments, "bitorch init")
    try:
        path = Path(f"{options.folder.resolve().name}.yaml") if options.out is None else options.out
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path} is there already; name another file with --out, or remove it")
        check_place("--out", path, "settings.yaml")
        # Only here: PyTorch takes seconds to import, for which --help and a wrong flag need not wait.
        from .fitting_settings import settings_text, train_command
        from .folder_look import look

        text = settings_text(look(options.folder))
        write_text(path, text)
    except (ValueError, OSError) as error:
        return print_error(error)
    print(f"{text}\n── {path} is written; train with\n  {train_command(path)}")
    return 0
