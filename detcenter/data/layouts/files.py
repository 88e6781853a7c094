"""The files of a data set, found by the names that annotation files give them."""

import itertools
import ntpath
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import is_image
from detcenter.data.layouts.parts import role_in

_ODD = {"\\", ":"}
"""Characters of names on another system, that may lead out of a folder there."""


class Files:
    """All files below a folder, in links to folders too, but not in hidden folders.

    Attributes:
        root: the folder.
        names: where they are below it, in order, folders separated by "/". Hidden files are left
            out here; they are found if somebody names them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        every = sorted(names_below(root))
        self.names = [name for name in every if not posixpath.basename(name).startswith(".")]
        self._by_name = {name: name for name in every}

    @cached_property
    def _by_lower(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in self._by_name:
            found.setdefault(_folded(name), name)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        """The images by their names without ending."""
        found: dict[str, list[str]] = {}
        for name in filter(is_image, self._by_name):
            found.setdefault(posixpath.splitext(name)[0], []).append(name)
        return found

    @cached_property
    def _by_own_name(self) -> dict[str, list[str]]:
        """Likewise, without the folders too."""
        found: dict[str, list[str]] = {}
        for name in filter(is_image, self._by_name):
            own_name = posixpath.basename(posixpath.splitext(name)[0])
            found.setdefault(own_name, []).append(name)
        return found

    def ending(self, *endings: str) -> list[str]:
        """The names with one of these endings, which are in lower case."""
        return [name for name in self.names if name.lower().endswith(endings)]

    def images(self) -> list[str]:
        return [name for name in self.names if is_image(name)]

    def find(self, name: str) -> str | None:
        """The file of this name, or of the same but for upper and lower case."""
        return self._by_name.get(name) or self._by_lower.get(_folded(name))

    def image(self, name: str, folders: Sequence[str], named_by: Path) -> Path:
        """The image that is called `name`, as tools write it.

        Backslashes may separate folders, an URL's escapes may be in it, and it may be the path on
        another machine: then its end counts, the longest that is the name of a file here.

        Args:
            folders: below the root, "" for the root itself; the first that has it.
            named_by: the annotation file.

        Raises:
            DataError: there is none.
        """
        first = f"{folders[0]}/{name}" if folders[0] else name
        if first in self._by_name and not _ODD.intersection(name):  # as nearly always, and quick
            return self.root / first
        for spelled in _spellings(name):
            for folder in folders:
                found = self.find(posixpath.join(folder, spelled))
                if found is not None:
                    return self.root / found
        where = self.root / folders[0]
        if leads_out(name):
            raise DataError(Fault(named_by, f"the name {name!r} leads out of {where}"))
        raise DataError(Fault(where / name, f"image file not found, named by {named_by}"))

    def images_of(self, stem: str) -> list[str]:
        """The images of this name without its ending."""
        return self._by_stem.get(stem, [])

    def image_of(self, stem: str) -> str | None:
        """The first of `images_of`."""
        return next(iter(self.images_of(stem)), None)

    def images_like(self, stem: str, ending: str) -> list[str]:
        """The images that may go with the annotation file of this name and ending.

        Of the images with the same own name, those whose folders agree most: at their end
        (labels/cam1/a and images/cam1/a), then at their beginning (train/labels and
        train/images); then those in a folder that is called for images, as masks have the same
        names. Not those of another part, nor those that have an annotation file beside them.
        """
        found = self._by_own_name.get(posixpath.basename(stem), [])
        part = role_in(posixpath.dirname(stem))
        likely = [
            (_likeness(name, stem), name)
            for name in found
            if part is None or role_in(posixpath.dirname(name)) in (part, None)
            if self.find(posixpath.splitext(name)[0] + ending) is None
        ]
        most = max((likeness for likeness, _ in likely), default=None)
        return [name for likeness, name in likely if likeness == most]

    def folder_holding(self, names: Sequence[str], near: str) -> str | None:
        """The folder that most of these images are named relative to; None if none is here.

        Args:
            near: the annotation file; of folders that hold as many, the one most like it.
        """
        held: dict[str, int] = {}
        for name in names:
            for folder in next(filter(None, map(self._folders_with, _spellings(name))), []):
                held[folder] = held.get(folder, 0) + 1
        return max(
            held, key=lambda folder: (held[folder], *_likeness(f"{folder}/x", near)), default=None
        )

    def _folders_with(self, end: str) -> list[str]:
        """The folders from which an image has this name."""
        own_name = posixpath.basename(posixpath.splitext(end)[0])
        found = [f"/{name}" for name in self._by_own_name.get(own_name, [])]
        return [
            name[1 : len(name) - len(end)].rstrip("/")
            for name in found
            if _folded(name).endswith(f"/{_folded(end)}")
        ]


def _folded(name: str) -> str:
    """For comparing: in lower case, and with accents as one sign (Macs write two)."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).lower()


def leads_out(name: str) -> bool:
    """Whether a name is not that of a file below a folder that it is relative to."""
    return any(_leads_out(spelled) for spelled in (name, name.replace("\\", "/")))


def _leads_out(name: str) -> bool:
    absolute = posixpath.isabs(name) or ntpath.isabs(name) or os.path.splitdrive(name)[0] != ""
    return absolute or os.path.normpath(name).split(os.sep)[0] == ".."


def _spellings(name: str) -> Iterator[str]:
    """The name itself, without escapes, and then its ever shorter ends."""
    whole = dict.fromkeys([name, name.replace("\\", "/"), unquote(name).replace("\\", "/")])
    for spelled in whole:
        if not _leads_out(spelled):
            yield posixpath.normpath(spelled)
    for spelled in whole:
        yield from ends_of(spelled)


def ends_of(name: str) -> Iterator[str]:
    """The name, without and without more of the folders before it, "..", drives and roots."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _likeness(image: str, other: str) -> tuple[int, int, bool, bool]:
    """How much the folders of two files agree; more is more."""
    a, b = (posixpath.dirname(name).split("/") for name in (image, other))
    at_end = _agreeing(a[::-1], b[::-1])
    same_part = role_in(posixpath.dirname(image)) == role_in(other)
    named = any(re.search("image|img|photo|pictures", part.lower()) for part in a)
    return at_end, _agreeing(a, b), same_part, named


def _agreeing(a: Sequence[str], b: Sequence[str]) -> int:
    pairs = zip(a, b, strict=False)
    return len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])


def names_below(root: Path, leave_out: Path | None = None) -> Iterator[str]:
    """The files below a folder, "/" between folders, in any order; hidden folders are left out.

    Folders, linked ones too, are entered once, `leave_out` only if it is `root`.
    """
    left_out = set() if leave_out is None else {os.path.realpath(leave_out)}
    seen = left_out - {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(os.path.relpath(folder, root)).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in files)
