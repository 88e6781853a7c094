"""The frames of a video in CVAT's layout, and the objects that are tracked through them."""

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
from detcenter.data.layouts.cvat_xml import frames_in
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.reading import below, folders_near, size_of


class Drawn(NamedTuple):
    """What is drawn on an image, or on the frame of a video."""

    name: str  # of the image, its subset ahead
    width: int  # pixels
    height: int
    boxes: list[list[float]]
    names: list[str]
    element: Element | None  # the <image>; None of a frame, whose name is its number


class Track(NamedTuple):
    """An object of a video: its boxes by frame, None where it is out of sight or no box."""

    label: str
    boxes: dict[int, list[float] | None]
    element: Element  # the <track>


def frames_here(
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


def numbers_of(tracks: list[Track], meta: Element, here: dict[int, list[str]]) -> list[int]:
    """The frames that a track names, and those without objects that are here."""
    annotated = frames_in(meta)
    named = {frame for track in tracks for frame in track.boxes}
    return sorted(named | {number for number in here if number in annotated})


def known_frames(
    tracks: list[Track], meta: Element, numbers: list[int], left_out: Counter[str]
) -> list[Drawn]:
    """Of these frames those of which all boxes are known."""
    width, height = (size_of(meta.findtext(f".//original_size/{k}")) for k in ("width", "height"))
    unknown = _between_keys(tracks, numbers)
    if unknown:
        left_out["frames between key frames, export them all"] = len(unknown)
    known = [number for number in numbers if number not in unknown]
    frames = {n: Drawn(str(n), width, height, [], [], None) for n in known}
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


def frame_finder(files: Files, here: dict[int, list[str]], file: Path) -> Callable[[str], Path]:
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
