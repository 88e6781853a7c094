"""What the files beside YOLO's labels say: the classes by name, and where the parts are."""

import logging
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from detcenter.data.errors import DataError, Fault, printable
from detcenter.data.layouts.files import Files, leads_out
from detcenter.data.layouts.reading import below, few, head, read_text

logger = logging.getLogger("detcenter")

_MOST = 100_000  # classes; an index far beyond would fill the memory with names
_CLASS_LISTS = {"_darknet.labels", "classes.names", "classes.txt", "obj.names"}
_USUAL = {"data.yaml", "data.yml", "obj.data"}
KEYS = ("train", "val", "test")
_NOTHING = {"", "~", "null", "none"}  # as YAML's null is written


class Declared(NamedTuple):
    """What a data.yaml, or darknet's obj.data, says."""

    name: str  # of the file, below the root
    classes: list[str] | None
    path: str  # which the parts are below, as it is written
    parts: dict[str, list[str]]  # "train", "val", "test": folders or lists, as they are written
    keypoints: bool  # labels hold more than boxes
    nc: int | None = None  # the number of classes, where it is said


@cache  # once, though every part is read with it
def warn_of_count(file: Path, count: int, names: int) -> None:
    """Say that a file counts more or fewer classes than it names."""
    what = f"it counts {count} classes and names {names}; the names are taken"
    logger.warning("%s: %s", printable(str(file)), what)


def declared(files: Files, faults: list[Fault]) -> list[Declared]:
    """All such files by `rank`; those that cannot be read go to `faults`."""
    names = sorted(files.ending(".yaml", ".yml", ".data"), key=rank)
    found = []
    for name in few(names):
        try:
            read = _of_darknet if name.lower().endswith(".data") else _of_yaml
            declaration = read(files, name)
        except DataError as error:
            faults += error.args if _is_meant(files, name) else ()
        else:
            if declaration is not None:
                found.append(declaration)
    return found


def rank(name: str) -> tuple[int, bool]:
    """Less for a file nearer to the root, and there for one with the usual name."""
    return name.count("/"), posixpath.basename(name).lower() not in _USUAL


def _is_meant(files: Files, name: str) -> bool:
    """Whether a file that cannot be read is of a data set, by its name or its keys."""
    keys = head(files.root / name, 1 << 20)
    return rank(name)[1] is False or re.search(rb"(?m)^\W*(train|val)\b\W*[:=]", keys) is not None


def _of_yaml(files: Files, name: str) -> Declared | None:
    file = files.root / name
    if not re.search(rb"\b(names|nc)\b", head(file, 1 << 20)):
        return None
    try:
        # Without types: a class may be called "no", or 0.
        content: Any = yaml.load(read_text(file), yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        what = f"not readable as YAML ({' '.join(str(error).split())})"
        raise DataError(Fault(file, what)) from error
    if not isinstance(content, dict) or not ("names" in content or "nc" in content):
        return None
    if "val" not in content and "valid" in content:
        content["val"] = content["valid"]
    parts = {key: _texts(content.get(key)) for key in KEYS}
    path = content.get("path")
    return Declared(
        name,
        _classes(content, file),
        path if isinstance(path, str) else "",
        {key: places for key, places in parts.items() if places},
        bool(content.get("kpt_shape")),
        _index(content.get("nc")),
    )


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.lower() not in _NOTHING]


def _classes(content: dict[Any, Any], file: Path) -> list[str] | None:
    names: Any = content.get("names")
    if not names:
        count = _index(content.get("nc"))
        return None if count is None else [str(index) for index in range(count)]
    items = [*names.items()] if isinstance(names, dict) else [*enumerate(names)]
    if isinstance(names, str) or not all(isinstance(name, str) for _, name in items):
        raise DataError(
            Fault(file, "'names' is neither a list of names nor a name for each number")
        )
    by_index = {_index(str(key)): name for key, name in items}
    if None in by_index:
        raise DataError(Fault(file, "'names' has a key that is not the number of a class"))
    last = max(index for index in by_index if index is not None)
    return unlike([by_index.get(index, str(index)) for index in range(last + 1)])


def _index(text: Any) -> int | None:
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,6}", text.strip()):
        return int(text) if int(text) < _MOST else None
    return None


def unlike(names: list[str]) -> list[str]:
    """Those that several classes have with their number behind."""
    several = (
        {name for name in names if names.count(name) > 1} if len({*names}) < len(names) else ()
    )
    return [f"{name} ({n})" if name in several else name for n, name in enumerate(names)]


def _of_darknet(files: Files, name: str) -> Declared | None:
    text = read_text(files.root / name) if b"=" in head(files.root / name) else ""
    rows = [line.partition("=") for line in text.splitlines() if "=" in line]
    content = {key.strip(): value.strip() for key, _, value in rows}
    if not content.keys() & {"names", "classes"}:
        return None
    parts = {
        "train": content.get("train"),
        "val": content.get("valid"),
        "test": content.get("test"),
    }
    empty = Declared(name, None, "", {key: [text] for key, text in parts.items() if text}, False)
    empty = empty._replace(nc=_index(content.get("classes")))
    listed = place(files, empty, content.get("names", ""))
    return empty._replace(classes=_lines(files, listed) if listed else None)


def place(files: Files, declaration: Declared, written: str) -> str | None:
    """The folder or file below the root that is written there, perhaps on another machine: then
    the longest end of it that is here."""
    for name in _ends(declaration, written):
        if below(files, name):
            return name
        found = files.find(name)
        if found is not None:
            return found
    return None


def _ends(declaration: Declared, written: str) -> Iterator[str]:
    bases = dict.fromkeys([posixpath.dirname(declaration.name), ""])
    whole = [name.replace("\\", "/") for name in (f"{declaration.path}/{written}", written)]
    if leads_out(written):
        whole.reverse()
    for name in whole:
        for base in bases:
            joined = posixpath.normpath(posixpath.join(base, name))
            if not leads_out(joined):
                yield joined
    for name in whole:
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            yield from (posixpath.join(base, *parts[start:]) for base in bases)


def class_list(files: Files, folder: str) -> list[str] | None:
    """The lines of the list of classes, such as classes.txt, that is nearest to a folder."""
    names = [n for n in files.names if posixpath.basename(n).lower() in _CLASS_LISTS]
    return _lines(files, max(names, key=lambda n: _shared(n, folder))) if names else None


def _shared(name: str, folder: str) -> int:
    """How many folders both are in, less those that only the name is in."""
    own, other = posixpath.dirname(name).split("/"), folder.split("/")
    same = sum(a == b for a, b in zip(own, other, strict=False))
    return same - (len(own) - same)


def _lines(files: Files, name: str) -> list[str]:
    """An empty line takes a number too, which its class is called by; those at the end do not."""
    lines = [line.strip() for line in read_text(files.root / name).rstrip().splitlines()[:_MOST]]
    return unlike([line or str(number) for number, line in enumerate(lines)])
