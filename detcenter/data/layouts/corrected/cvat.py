"""Single boxes of CVAT's files changed, on images and in the frames of videos."""

import copy
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from detcenter.data.dataset import Annotation
from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.corrected.changes import (
    Changed,
    Correction,
    positions,
    stays,
)
from detcenter.data.layouts.cvat import Located, located
from detcenter.data.layouts.cvat_xml import boxes_in, keys_in, read_tree
from detcenter.data.layouts.files import Files

_GEOMETRY = (
    *("xtl", "ytl", "xbr", "ybr", "rotation", "points"),
    *("cx", "cy", "rx", "ry", "rle", "left", "top", "width", "height"),
)
_MANUAL = {"source": "manual"}
_PLAIN = {"occluded": "0", "z_order": "0"}


class Video(NamedTuple):
    """A file with tracks, and what it says of a part."""

    tree: Element
    said: Located
    shapes: list[dict[int, Element]]  # of each track, by frame


def corrected(files: Files, images: Sequence[Changed]) -> dict[str, bytes]:
    """The files that change, by their names below the root.

    Raises:
        NotThere: a box that is to be changed.
        DataError: one whose track passes over frames behind it.
    """
    tree_of = cache(read_tree)
    parts = dict.fromkeys(image.part for image in images)
    # All of them before anything changes: parts may be of one file.
    known = {part: located(files, part, tree_of, Counter(), []) for part in parts}
    videos = {part: _video(tree_of(said.file), said) for part, said in known.items()}
    drawn = {part: dict(said.images) for part, said in known.items()}
    for annotation, part, corrections in images:
        place = drawn[part][annotation["path"]]
        if place.element is not None:
            correct_image(place.element, known[part].file, annotation, corrections)
        else:
            correct_frame(videos[part], int(place.name), annotation, corrections)
    changed = dict.fromkeys(said.file for said in known.values())
    return {
        file.relative_to(files.root).as_posix(): tostring(
            tree_of(file), encoding="utf-8", xml_declaration=True
        )
        for file in changed
    }


def correct_image(
    element: Element, file: Path, annotation: Annotation, corrections: Sequence[Correction]
) -> None:
    """Change the boxes in an <image>, in place. A shape that is moved becomes a <box>."""
    shapes = [*boxes_in(element, file, Counter(), [])]
    boxes = np.array([box for *_, box in shapes], np.float64).reshape(-1, 4)
    found = positions(annotation, boxes, [name for _, name, _ in shapes], corrections)
    for at, change in zip(found, corrections, strict=True):
        if change.new_box is None or change.new_label is None:
            assert at is not None
            element.remove(shapes[at][0])
            continue
        shape = SubElement(element, "box", _MANUAL | _PLAIN) if at is None else shapes[at][0]
        shape.set("label", change.new_label)
        if at is None or not stays(change):
            _become_box(shape, change)


def correct_frame(
    video: Video, number: int, annotation: Annotation, corrections: Sequence[Correction]
) -> None:
    """Change the boxes of tracks in one frame, in place; in others they stay.

    A track has one class, and to CVAT shapes of one kind. So a box of another class, or one that
    was a polygon and is moved, leaves its track in this frame and gets a track of its own.

    Raises:
        DataError: it would leave a track that passes over frames from here to its next one, where
            nobody says where the object is.
    """
    tracks = video.said.tracks
    seen = [k for k, track in enumerate(tracks) if track.boxes.get(number) is not None]
    boxes = np.array([tracks[k].boxes[number] for k in seen], np.float64).reshape(-1, 4)
    found = positions(annotation, boxes, [tracks[k].label for k in seen], corrections)
    for at, change in zip(found, corrections, strict=True):
        if at is not None:
            _change_key(video, seen[at], number, annotation, change)
            continue
        given = tracks[0].element.attrib  # all are of one task
        of_task = {key: value for key, value in given.items() if key in ("task_id", "subset")}
        shape = Element("box", _PLAIN)
        _become_box(shape, change)
        _add_track(video, _MANUAL | of_task, change, number, shape)


def _change_key(
    video: Video, track: int, number: int, annotation: Annotation, change: Correction
) -> None:
    shape = video.shapes[track][number]
    moved = change.new_box is not None and not stays(change)
    if change.new_label == change.label and not moved:
        return
    if change.new_label != change.label or shape.tag != "box":
        own = copy.deepcopy(shape)
        _leave(video, track, number)
        if moved:
            _become_box(own, change)
        if change.new_box is not None:
            _add_track(video, video.said.tracks[track].element.attrib, change, number, own)
        return
    _become_box(shape, change)
    _hold(video.shapes[track], number)


def _video(tree: Element, said: Located) -> Video:
    keys = (keys_in(track.element, said.file, Counter(), []) for track in said.tracks)
    return Video(tree, said, [{number: shape for number, shape, _ in of} for of in keys])


def _leave(video: Video, track: int, number: int) -> None:
    """Out of sight in one frame."""
    keys, frames = video.shapes[track], video.said.frames
    later = min((key for key in keys if key > number), default=None)
    behind = bisect_right(frames, number)
    if later is not None and frames[behind] < later:
        name = video.said.tracks[track].element.get("id")
        what = (
            f"a box of track {name!r} cannot be taken away from frame {number}: the next shape is "
            f"of frame {later}, and nobody says where the object is in between; export all frames"
        )
        raise DataError(Fault(video.said.file, what))
    keys[number].set("outside", "1")
    _hold(keys, number)


def _hold(keys: dict[int, Element], number: int) -> None:
    """Make key frames of a shape that changed and those beside it, which hold the others: CVAT
    imports key frames alone, and makes up what is between them."""
    before = max((key for key in keys if key < number), default=number)
    behind = min((key for key in keys if key > number), default=number)
    for key in {before, number, behind}:
        keys[key].set("keyframe", "1")


def _add_track(
    video: Video, attributes: dict[str, str], change: Correction, number: int, shape: Element
) -> None:
    """A track of one frame, which ends at the next one of the video."""
    assert change.new_label is not None
    ids = (element.get("id", "") for element in video.tree.iter("track"))
    last = max((int(name) for name in ids if re.fullmatch("[0-9]{1,9}", name)), default=-1)
    new = {"id": str(last + 1), "label": change.new_label}
    track = SubElement(video.tree, "track", attributes | new)
    frames = video.said.frames
    behind = bisect_right(frames, number)
    for frame, outside in [(number, "0"), *((frame, "1") for frame in frames[behind : behind + 1])]:
        key = copy.deepcopy(shape)
        key.attrib |= {"frame": str(frame), "outside": outside, "keyframe": "1"}
        track.append(key)


def _become_box(shape: Element, change: Correction) -> None:
    """With two decimals, as CVAT writes them; attributes that are no geometry stay."""
    assert change.new_box is not None
    shape.tag = "box"
    for key in _GEOMETRY:
        shape.attrib.pop(key, None)
    for key, value in zip(("xtl", "ytl", "xbr", "ybr"), change.new_box, strict=True):
        shape.set(key, f"{value:.2f}")
