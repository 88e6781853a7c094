"""Which images are in a part of a VOC data set: by lists of all kinds of lines, or by folder."""

import posixpath
import re
from pathlib import Path
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import ENDINGS
from detcenter.data.layouts.files import Files, ends_of, leads_out
from detcenter.data.layouts.parts import role_of
from detcenter.data.layouts.reading import below, head, read_text


class Entry(NamedTuple):
    """An image of a part, as a list names it."""

    name: str
    page: str  # the XML file's name below the root; it need not be there
    named_by: Path


def listed(files: Files, part: str) -> list[Entry]:
    """The images of a part, whose XML files may be missing.

    A line of a list is a name as in VOC (what a second column of -1 says of is left out), or a
    path, with or without its ending, in quotes or not, or an image's and its XML file's.

    Raises:
        DataError: there is no such list, nor a folder with XML files.
    """
    found = list_of(files, part)
    if found is None:
        inside = below(files, posixpath.normpath(part.replace("\\", "/")))
        there = [name for name in inside if name.lower().endswith(".xml")]
        if not there:
            raise DataError(Fault(files.root / "ImageSets/Main" / f"{part}.txt", _no_part(files)))
        return [Entry(without_ending(name), name, files.root / name) for name in there]
    path = files.root / found
    pages, lines = _Pages(files, found), read_text(path).splitlines()
    entries = (_entry(_unquoted(line.strip(), pages), pages, path) for line in lines)
    return [entry for entry in entries if entry is not None]


def lists_in(files: Files) -> list[str]:
    """The names of the parts that lists make."""
    return [_part_name(name) for name in files.ending(".txt") if _is_list(files, name)]


def list_of(files: Files, part: str) -> str | None:
    """The list that a part's name means, if it means one: its name below the root."""
    name = part.replace("\\", "/")
    for candidate in (f"ImageSets/Main/{name}.txt", f"ImageSets/{name}.txt", f"{name}.txt", name):
        found = files.find(candidate)
        if found is not None and found.lower().endswith(".txt"):
            return found
    others = [n for n in files.ending(".txt") if n.endswith(f"/{name}.txt") and _in_sets(n)]
    return others[0] if others else None


def _in_sets(name: str) -> bool:
    return "imagesets" in name.lower().split("/")[:-1]


def _is_list(files: Files, name: str) -> bool:
    """Those of ImageSets, and lists beside them, one of whose first lines names an XML file."""
    if _in_sets(name):
        return True
    if role_of(name) is None:
        return False
    pages = _Pages(files, name)
    lines = head(files.root / name).decode("utf-8-sig", "replace").splitlines()[:20]
    entries = (_entry(_unquoted(line.strip(), pages), pages, files.root / name) for line in lines)
    return any(entry is not None and files.find(entry.page) is not None for entry in entries)


def _part_name(name: str) -> str:
    """ImageSets/Main/train.txt is called train, another list by its name."""
    in_main = re.fullmatch(r"ImageSets/Main/(.+)\.txt", name)
    return in_main[1] if in_main else name


def _no_part(files: Files) -> str:
    lists = [_part_name(name) for name in files.ending(".txt") if _in_sets(name)]
    if lists:
        return f"image set not found; the folder holds {', '.join(lists)}"
    return (
        "image set not found, nor a folder of XML files of this name; VOC's root holds "
        "Annotations, ImageSets/Main and JPEGImages"
    )


class _Pages:
    """The XML files, by every end of their names.

    Args:
        listed: the list that names them; those beside its own ImageSets come first.
    """

    def __init__(self, files: Files, listed: str) -> None:
        self.files = files
        before = re.match("(.*/)?ImageSets/", listed)
        self._annotations = f"{(before and before[1]) or ''}Annotations"
        self._by_stem: dict[str, list[str]] = {}
        for name in files.ending(".xml"):
            self._by_stem.setdefault(posixpath.basename(without_ending(name)), []).append(name)

    def of(self, name: str) -> str | None:
        """The one that a line of a list means."""
        spelled = name.replace("\\", "/")
        stems = [name, spelled, without_ending(spelled)]
        for stem in dict.fromkeys(stems):
            if not leads_out(stem):
                found = self.files.find(posixpath.normpath(f"{self._annotations}/{stem}.xml"))
                if found is not None:
                    return found
        for stem in dict.fromkeys(stems):
            for end in ends_of(stem):
                found = self._ending_with(end)
                if found is not None:
                    return found
        return None

    def _ending_with(self, end: str) -> str | None:
        pages = self._by_stem.get(posixpath.basename(end), [])
        found = [page for page in pages if f"/{without_ending(page)}".endswith(f"/{end}")]
        return found[0] if len(found) == 1 else None


def _unquoted(line: str, pages: _Pages) -> str:
    """Without the quotes around it, unless a name ends with one."""
    return line if pages.of(line) is not None else line.strip("\"'").strip()


def _entry(line: str, pages: _Pages, named_by: Path) -> Entry | None:
    """None for an empty line or a comment, and for what is not of the class that a list is for."""
    page = pages.of(line) if line else None
    if not line or page is not None:  # "photo 1" may be a name
        return Entry(line, page, named_by) if page else None
    if line.startswith("#"):
        return None
    row = re.fullmatch(r"(.*?)\s+(-1|0|1)", line)
    if row is not None:
        return None if row[2] == "-1" else _entry(row[1], pages, named_by)
    pair = re.fullmatch(r"(.+\S)[\s,;]+(\S+\.xml)", line, re.IGNORECASE)
    if pair is not None and pages.of(pair[2]) is not None:
        return _entry(pair[2], pages, named_by)
    stem = line.replace("\\", "/")
    return Entry(line, f"Annotations/{stem}.xml", named_by)


def without_ending(name: str) -> str:
    """The name without the ending of an image or an XML file."""
    stem, ending = posixpath.splitext(name)
    return stem if ending.lower() in {*ENDINGS, ".xml"} else name
