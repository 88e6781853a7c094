"""Data sets in CVAT's layout: one XML file for many images, or for the frames of a video."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.cvat_frames import (
    Drawn,
    Track,
    frame_finder,
    frames_here,
    known_frames,
    numbers_of,
)
from detcenter.data.layouts.cvat_xml import (
    boxes_in,
    elements,
    keys_in,
    label_of,
    labels_in,
    read_meta,
    subsets_in,
)
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, apart, image_paths, labelled
from detcenter.data.layouts.reading import (
    few,
    folders_near,
    head,
    part_file,
    report_left_out,
    size_of,
)


class Located(NamedTuple):
    """What an XML file says of a part, and where its images are."""

    file: Path
    subset: str | None  # None for all
    meta: Element
    images: list[tuple[Path, Drawn]]  # that are here, each once
    tracks: list[Track]
    frames: list[int]  # the numbers of all frames that are named or here, in order


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
    left_out = Counter[str]()
    found = located(files, part, elements, left_out, faults)
    report_left_out(left_out, found.file / (found.subset or ""), "left out")
    images = [
        NamedBoxes(path, found.file, image.width, image.height, image.boxes, image.names)
        for path, image in found.images
    ]
    used = (name for image in images for name in image.names)
    return labelled(images, classes or labels_in(found.meta, used), faults)


def located(
    files: Files,
    part: str,
    opened: Callable[[Path], Iterable[Element]],
    left_out: Counter[str],
    faults: list[Fault],
) -> Located:
    """What is drawn in a part, and on which images.

    Args:
        opened: gives the elements below the root of a file; those in the result are as it leaves
            them, which is empty by `elements`.

    Raises:
        DataError: as of `read`.
    """
    name, subset = _name_and_subset(files, part)
    file = part_file(files, name)
    drawn, tracks = _drawn_in(opened(file), file, subset, left_out, faults)
    meta, name = read_meta(file), file.relative_to(files.root).as_posix()
    here = frames_here(files, name, subset, tracks)
    numbers = numbers_of(tracks, meta, here)
    images = drawn + known_frames(tracks, meta, numbers, left_out)
    names = [image.name for image in images]
    paths = image_paths(names[: len(drawn)], _finder(files, name, file), file, faults)
    paths += image_paths(names[len(drawn) :], frame_finder(files, here, file), file, faults)
    placed = zip(apart(names, paths, file, faults), images, strict=True)
    found = [(path, image) for path, image in placed if path is not None]
    return Located(file, subset, meta, found, tracks, numbers)


def _drawn_in(
    every: Iterable[Element],
    file: Path,
    subset: str | None,
    left_out: Counter[str],
    faults: list[Fault],
) -> tuple[list[Drawn], list[Track]]:
    """What is drawn on images, and the tracks of a video; None for all subsets."""
    drawn: list[Drawn] = []
    tracks: list[Track] = []
    tasks: set[str | None] = set()
    for element in every:
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
        element=element,
    )
    for _, label, box in boxes_in(element, file, left_out, faults):
        image.names.append(label)
        image.boxes.append(box)
    drawn.append(image)


def _add_track(
    tracks: list[Track],
    element: Element,
    file: Path,
    left_out: Counter[str],
    faults: list[Fault],
) -> None:
    try:
        label = label_of(element)
    except ValueError as error:
        faults.append(Fault(file, str(error)))
        return
    boxes = {number: box for number, _, box in keys_in(element, file, left_out, faults)}
    tracks.append(Track(label, boxes, element))


def _finder(files: Files, name: str, file: Path) -> Callable[[str], Path]:
    folders = folders_near(files, name)
    return lambda image: files.image(image, folders, file)
