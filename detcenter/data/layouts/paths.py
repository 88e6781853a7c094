"""From the names in annotation files, which come from strangers, to files."""

import ntpath
import os
import posixpath
from pathlib import Path

from detcenter.data.errors import DataError, Fault


def path_below(folder: Path, name: str, named_by: Path) -> Path:
    """`folder / name`; backslashes separate folders, unless there is a file of just that name.

    Raises:
        DataError: `name` leads out of `folder`; the fault is that of the file `named_by`. (A link
            inside that leads out is the person's own.)
    """
    slashed = name.replace("\\", "/")
    if _leads_out(name) or _leads_out(slashed):
        raise DataError(Fault(named_by, f"the name {name!r} leads out of {folder}"))
    path = folder / name
    return path if slashed == name or os.path.isfile(path) else folder / slashed


def _leads_out(name: str) -> bool:
    absolute = posixpath.isabs(name) or ntpath.isabs(name) or os.path.splitdrive(name)[0] != ""
    return absolute or os.path.normpath(name).split(os.sep)[0] == ".."
