"""Data sets in CVAT's layout: one XML file for many images, or for the frames of a video."""

import posixpath
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import is_image
from detcenter.data.layouts.cvat_xml import (
    box_in,
    elements,
    frames_in,
    label_of,
    labels_in,
    read_meta,
    subsets_in,
)
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, apart, image_paths, labelled
from detcenter.data.layouts.reading import (
    below,
    few,
    folders_near,
    head,
    part_file,
    report_left_out,
    size_of,
)


class Drawn(NamedTuple):
    """What is drawn on an image, or on the frame of a video."""

    name: str  # of the image, its subset ahead
    width: int  # pixels
    height: int
    boxes: list[list[float]]
    names: list[str]


class Track(NamedTuple):
    """An object of a video: its boxes by frame, None where it is out of sight or no box."""

    label: str
    boxes: dict[int, list[float] | None]


def find_parts(files: Files) -> list[str]:
    """Names of the XML files that can be read here; if one has several subsets, one for each, with
    "/" and the subset behind."""
    found = []
    for name in few(files.ending(".xml")):
        if re.search(rb"<annotations[\s>]", head(files.root / name, 1024)):
            try:
                subsets = subsets_in(read_meta(files.root / name))
            except DataError:
                continue
            found += [f"{name}/{subset}" for subset in subsets] if len(subsets) > 1 else [name]
    return found


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of an XML file, or of one of its subsets, with the boxes around their shapes.

    Points and lines are left out and counted. Of a video the frames are read that are here as
    images; those without objects have no boxes.

    Args:
        part: the name of the XML file, or that, "/" and the subset.
        classes: in the order of their labels; None takes the file's own, in its order.

    Raises:
        DataError: no such file, or not CVAT's.
    """
    name, subset = _name_and_subset(files, part)
    file, left_out = part_file(files, name), Counter[str]()
    drawn, tracks = _drawn_in(file, subset, left_out, faults)
    meta, name = read_meta(file), file.relative_to(files.root).as_posix()
    here = _frames_here(files, name, subset, tracks)
    frames = _frames(tracks, meta, here, left_out)
    report_left_out(left_out, file / (subset or ""), "left out")
    names = [image.name for image in (*drawn, *frames)]
    paths = image_paths(names[: len(drawn)], _finder(files, name, file), file, faults)
    paths += image_paths(names[len(drawn) :], _frame_finder(files, here, file), file, faults)
    images = [
        NamedBoxes(path, file, *image[1:])
        for path, image in zip(apart(names, paths, file, faults), drawn + frames, strict=True)
        if path is not None
    ]
    used = (name for image in images for name in image.names)
    return labelled(images, classes or labels_in(meta, used), faults)


def _drawn_in(
    file: Path, subset: str | None, left_out: Counter[str], faults: list[Fault]
) -> tuple[list[Drawn], list[Track]]:
    """What is drawn on images, and the tracks of a video; None for all subsets."""
    drawn: list[Drawn] = []
    tracks: list[Track] = []
    tasks: set[str | None] = set()
    for element in elements(file):
        if subset is not None and element.get("subset") != subset:
            continue
        if element.tag == "image":
            _add_image(drawn, element, file, left_out, faults)
        elif element.tag == "track":
            tasks.add(element.get("task_id"))
            _add_track(tracks, element, file, left_out, faults)
    if len(tasks) > 1:
        raise DataError(Fault(file, "frames of several videos; export each task by itself"))
    return drawn, tracks


def _name_and_subset(files: Files, part: str) -> tuple[str, str | None]:
    end = part.lower().find(".xml/")
    if end < 0 or files.find(part) is not None:
        return part, None
    return part[: end + 4], part[end + 5 :]


def _add_image(
    drawn: list[Drawn],
    element: Element,
    file: Path,
    left_out: Counter[str],
    faults: list[Fault],
) -> None:
    name, subset = element.get("name"), element.get("subset")
    if not name:
        faults.append(Fault(file, "an <image> has no name"))
        return
    image = Drawn(
        f"{subset}/{name}" if subset else name,
        size_of(element.get("width")),
        size_of(element.get("height")),
        boxes=[],
        names=[],
    )
    for shape in element:
        try:
            box = box_in(shape, left_out)
            if box is not None:
                image.names.append(label_of(shape))
                image.boxes.append(box)
        except ValueError as error:
            faults.append(Fault(file, f"{name!r}: {error}"))
    drawn.append(image)


def _add_track(
    tracks: list[Track],
    element: Element,
    file: Path,
    left_out: Counter[str],
    faults: list[Fault],
) -> None:
    try:
        track = Track(label_of(element), {})
    except ValueError as error:
        faults.append(Fault(file, str(error)))
        return
    for shape in element:
        try:
            if re.fullmatch(r"[0-9]{1,9}", shape.get("frame", "")) is None:
                raise ValueError(f"a <{shape.tag}> has the frame {shape.get('frame')!r}")
            outside = shape.get("outside") == "1"
            box = None if outside else box_in(shape, left_out)
            track.boxes[int(shape.get("frame", ""))] = box
        except ValueError as error:
            faults.append(Fault(file, f"track {element.get('id')!r}: {error}"))
    tracks.append(track)


def _finder(files: Files, name: str, file: Path) -> Callable[[str], Path]:
    folders = folders_near(files, name)
    return lambda image: files.image(image, folders, file)


def _frames_here(
    files: Files, name: str, subset: str | None, tracks: list[Track]
) -> dict[int, list[str]]:
    """Images by the number at the end of their names, in the nearest folder with such a frame."""
    wanted = {frame for track in tracks for frame in track.boxes}
    if not wanted:
        return {}
    for folder in folders_near(files, name):
        for inside in (posixpath.join(folder, subset or ""), folder):
            found: dict[int, list[str]] = {}
            for image in below(files, inside.strip("/")):
                stem = posixpath.splitext(posixpath.basename(image))[0]
                number = re.search(r"([0-9]{1,9})[^0-9]*$", stem)
                is_here = posixpath.dirname(image) == inside.strip("/")
                if is_here and number and is_image(image):
                    found.setdefault(int(number[1]), []).append(image)
            if wanted & found.keys():
                return found
    return {}


def _frames(
    tracks: list[Track], meta: Element, here: dict[int, list[str]], left_out: Counter[str]
) -> list[Drawn]:
    """Frames that a track names, and those without objects that are here."""
    width, height = (size_of(meta.findtext(f".//original_size/{k}")) for k in ("width", "height"))
    annotated = frames_in(meta)
    named = {frame for track in tracks for frame in track.boxes}
    numbers = named | {number for number in here if number in annotated}
    unknown = _between_keys(tracks, sorted(numbers))
    if unknown:
        left_out["frames between key frames, export them all"] = len(unknown)
    frames = {n: Drawn(str(n), width, height, [], []) for n in sorted(numbers - unknown)}
    for track in tracks:
        for number, box in track.boxes.items():
            if box is not None and number in frames:
                frames[number].boxes.append(box)
                frames[number].names.append(track.label)
    return [*frames.values()]


def _between_keys(tracks: list[Track], numbers: Sequence[int]) -> set[int]:
    """Frames that a track passes over while its object is in sight: nobody says where it is."""
    unknown: set[int] = set()
    for track in tracks:
        keys = sorted(track.boxes)
        for first, last in zip(keys, keys[1:], strict=False):
            if track.boxes[first] is not None:
                start, end = bisect_right(numbers, first), bisect_left(numbers, last)
                unknown.update(numbers[start:end])
    return unknown


def _frame_finder(files: Files, here: dict[int, list[str]], file: Path) -> Callable[[str], Path]:
    def find(number: str) -> Path:
        images = here.get(int(number), [])
        if len(images) > 1:
            what = f"frame {number} may be {images[0]!r} or {images[1]!r}"
            raise DataError(Fault(file, what))
        if not images:
            what = f"image file not found, named by {file}"
            raise DataError(Fault(file.parent / "images" / f"frame_{int(number):06}.png", what))
        return files.root / images[0]

    return find
