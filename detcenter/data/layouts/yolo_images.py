"""Which images a part of a data set in YOLO's layout has."""

import posixpath
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import is_image
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import apart, image_paths
from detcenter.data.layouts.reading import below, head, read_text
from detcenter.data.layouts.yolo_names import KEYS, Declared, declared, place, rank

_FIRST = 40  # lines of a list, which tell that it is one


class Part(NamedTuple):
    """Where the images of a part are."""

    places: list[str]  # folders and lists of images, below the root
    source: Path  # that says so
    declaration: Declared | None
    near: list[str]  # folders that lists may be relative to


def part_of(files: Files, part: str, faults: list[Fault]) -> Part:
    """Where a part is: a key, else a folder or list; a data.yaml that is due but broken is a fault.

    Raises:
        DataError: there is none, or it cannot be told which.
    """
    broken: list[Fault] = []
    declarations = declarations_of(files, broken)
    mine = [declaration for declaration in declarations if part in declaration.parts]
    ahead = [fault for fault in broken if not mine or _rank(files, fault) < rank(mine[0].name)]
    if ahead and (mine or part in KEYS):
        raise DataError(ahead[0])
    if mine:
        _check_one(files, mine, part)
        return _declared_part(files, mine[0], part)
    name = posixpath.normpath(part.replace("\\", "/"))
    listed = files.find(name)
    if listed is None and not below(files, name):
        raise DataError(Fault(files.root / part, "no such folder, list, or key of data.yaml"))
    declaration = _nearest(declarations, name)
    if declaration is None or not is_above(declaration.name, name):
        faults += [f for f in broken if is_above(f.file.relative_to(files.root).as_posix(), name)]
    return Part([listed or name], files.root / name, declaration, [])


def _rank(files: Files, fault: Fault) -> tuple[int, bool]:
    return rank(fault.file.relative_to(files.root).as_posix())


def _declared_part(files: Files, declaration: Declared, part: str) -> Part:
    _check_places(files, declaration, part)
    _check_distinct(files, declaration, part)
    path = place(files, declaration, ".") or ""
    near = [posixpath.dirname(declaration.name), path]
    places = places_of(files, declaration, part)
    return Part(places, files.root / declaration.name, declaration, near)


def _check_one(files: Files, declarations: list[Declared], part: str) -> None:
    """Files of equal rank may say the same, but not this and that."""
    first = declarations[0]
    for other in declarations[1:]:
        if rank(other.name) != rank(first.name) or not is_here(files, other):
            continue
        places = [places_of(files, declaration, part) for declaration in (first, other)]
        if places[0] != places[1] or first.classes != other.classes:
            what = f"{first.name} and {other.name} both say what {part} is"
            what += "; set data.root to the folder of one, or move the other away"
            raise DataError(Fault(files.root, what))


def _nearest(declarations: list[Declared], name: str) -> Declared | None:
    """The one above a folder or list that is nearest to it; else one that is not far down."""
    above = [declaration for declaration in declarations if is_above(declaration.name, name)]
    if above:
        return max(above, key=lambda declaration: declaration.name.count("/"))
    return next((d for d in declarations if d.name.count("/") < 2), None)


def is_above(file: str, name: str) -> bool:
    """Whether a file is in a folder that holds, or is, another folder or file."""
    folder = posixpath.dirname(file)
    return folder == "" or f"{name}/".startswith(f"{folder}/")


def declarations_of(files: Files, broken: list[Fault]) -> list[Declared]:
    """As `declared`, those ahead that name a place which is here.

    Files far down, such as those that come with YOLO's code, only speak of what is below them.
    """
    found = []
    for declaration in declared(files, broken):
        places = [name for key in declaration.parts for name in places_of(files, declaration, key)]
        own = [name for name in places if is_above(declaration.name, name)]
        if declaration.name.count("/") < 2 or not declaration.parts or (own and own == places):
            found.append(declaration)
    return sorted(found, key=lambda declaration: not is_here(files, declaration))


def is_here(files: Files, declaration: Declared) -> bool:
    """Whether a folder or list of any of its parts is below the root."""
    return any(places_of(files, declaration, part) for part in declaration.parts)


def places_of(files: Files, declaration: Declared, part: str) -> list[str]:
    """The folders and lists of a part that are here."""
    found = [place(files, declaration, written) for written in declaration.parts[part]]
    return [name for name in found if name is not None]


def _check_places(files: Files, declaration: Declared, part: str) -> None:
    written = declaration.parts[part]
    missing = [path for path in written if place(files, declaration, path) is None]
    if missing:
        folders = dict.fromkeys(posixpath.dirname(name) or "." for name in files.images())
        there = ", ".join([*folders][:6]) + (", …" if len(folders) > 6 else "")
        what = f"{part}: {shortened(', '.join(missing))} is not below the root"
        what += f"; images are in {there}" if there else ", nor any image"
        raise DataError(Fault(files.root / declaration.name, what))


def _check_distinct(files: Files, declaration: Declared, part: str) -> None:
    """Two paths of another machine may be shortened to one folder here."""
    for other, written in declaration.parts.items():
        same = {*places_of(files, declaration, other)} & {*places_of(files, declaration, part)}
        if same and written != declaration.parts[part]:
            what = f"{part} and {other} would both be {min(same)}; put both where it says"
            raise DataError(Fault(files.root / declaration.name, what))


def images_of(files: Files, part: Part, faults: list[Fault]) -> list[Path]:
    names: list[str] = []
    paths: list[Path | None] = []
    for name in part.places:
        if below(files, name):
            images = [n for n in below(files, name) if is_image(n)]
            names += images
            paths += [files.root / image for image in images]
        else:
            folders = [*dict.fromkeys([posixpath.dirname(name), *part.near, ""])]
            listed = _entries(files, read_text(files.root / name), folders)
            names += listed
            paths += _listed(files, listed, files.root / name, folders, faults)
    return [path for path in apart(names, paths, part.source, faults) if path is not None]


def _entries(files: Files, text: str, folders: list[str]) -> list[str]:
    """The lines of a list, without comments: those after "#", unless an image is called so."""
    lines = [line.strip() for line in text.splitlines()]
    return [
        line
        for line in lines
        if line and (line[0] != "#" or any(files.find(posixpath.join(f, line)) for f in folders))
    ]


def _listed(
    files: Files, names: list[str], file: Path, folders: list[str], faults: list[Fault]
) -> list[Path | None]:
    return image_paths(names, lambda name: files.image(name, folders, file), file, faults)


def lists_images(files: Files, name: str) -> bool:
    """Whether a text file is a list of images, some of which are here, by its first lines."""
    lines = head(files.root / name).decode("utf-8-sig", errors="replace").splitlines()
    entries = _entries(files, "\n".join(lines[:_FIRST]), [""])
    images = [line for line in entries if is_image(line)]
    return len(images) > len(entries) / 2 and any(_has_image(files, line) for line in images)


def _has_image(files: Files, image: str) -> bool:
    try:
        files.image(image, [""], files.root)
    except DataError:
        return False
    return True
