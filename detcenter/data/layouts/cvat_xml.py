"""What CVAT's XML files say, if they can be read."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shortened
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse, parse

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.shapes import around, around_ellipse, around_turned

_BOXES = {"box", "polygon", "ellipse", "mask"}
_OTHERS = {"polyline", "points", "cuboid", "skeleton"}


def elements(file: Path) -> Iterator[Element]:
    """The elements below the root, one after the other: files of videos are large.

    Raises:
        DataError: no XML, not CVAT's, or one with entities, which could expand without end.
    """
    depth = 0
    with _readable(file), file.open("rb") as opened:
        for event, element in iterparse(opened, events=("start", "end")):
            if depth == 0:
                _check_root(element, file)
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 1:
                yield element
                element.clear()


def read_tree(file: Path) -> Element:
    """The root with all that is in it.

    Raises:
        DataError: as of `elements`.
    """
    with _readable(file):
        root = parse(file).getroot()
    assert root is not None
    _check_root(root, file)
    return root


def _check_root(element: Element, file: Path) -> None:
    if element.tag != "annotations":
        what = f"<{element.tag}> instead of <annotations>, not a file of CVAT's"
        raise DataError(Fault(file, what))


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except DefusedXmlException as error:
        what = f"refused, for it declares entities ({type(error).__name__})"
        raise DataError(Fault(file, what)) from error
    except (ParseError, LookupError, OSError) as error:
        what = f"not readable as XML ({' '.join(str(error).split())})"
        raise DataError(Fault(file, what)) from error


def read_meta(file: Path) -> Element:
    """What is said of the file as a whole; without anything in it where nothing is."""
    for element in elements(file):
        if element.tag == "meta":
            return element
        if element.tag in ("image", "track"):
            break
    return Element("meta")


def subsets_in(meta: Element) -> list[str]:
    texts = [element.text or "" for element in meta.iter("subset")]
    texts = texts or [line for e in meta.iter("subsets") for line in (e.text or "").splitlines()]
    return [*dict.fromkeys(text.strip() for text in texts if text.strip())]


def labels_in(meta: Element, used: Iterable[str]) -> list[str]:
    """In the file's order, without those of a type that is no box, unless they are used."""
    declared: dict[str, None] = {}
    used = dict.fromkeys(used)
    for label in meta.iter("label"):
        name = (label.findtext("name") or "").strip()
        no_box = label.findtext("type") in {*_OTHERS, "tag"} or label.find("parent") is not None
        if name and (name in used or not no_box):
            declared[name] = None
    return [*declared] or sorted(used)


def frames_in(meta: Element) -> range:
    """The numbers of a video's frames that were to be annotated; none if that is not said."""
    texts = [[e.text or "" for e in meta.iter(key)] for key in ("start_frame", "stop_frame")]
    numbers = [int(t[0]) for t in texts if len(t) == 1 and re.fullmatch(r"[0-9]{1,9}", t[0])]
    step = re.search(r"step\s*=\s*([1-9][0-9]{0,8})\b", meta.findtext(".//frame_filter") or "")
    if len(numbers) < 2:
        return range(0)
    return range(numbers[0], numbers[1] + 1, int(step[1]) if step else 1)


def boxes_in(
    image: Element, file: Path, left_out: Counter[str], faults: list[Fault]
) -> Iterator[tuple[Element, str, list[float]]]:
    """The shapes of an <image> that are boxes, their classes, and xyxy in pixels."""
    for shape in image:
        try:
            box = box_in(shape, left_out)
            if box is not None:
                yield shape, label_of(shape), box
        except ValueError as error:
            faults.append(Fault(file, f"{image.get('name')!r}: {error}"))


def keys_in(
    track: Element, file: Path, left_out: Counter[str], faults: list[Fault]
) -> Iterator[tuple[int, Element, list[float] | None]]:
    """The frames of a <track>, its shapes there, and xyxy in pixels: None out of sight, and of a
    shape that is no box. Of a frame that occurs twice the last one counts."""
    for shape in track:
        try:
            if re.fullmatch(r"[0-9]{1,9}", shape.get("frame", "")) is None:
                raise ValueError(f"a <{shape.tag}> has the frame {shape.get('frame')!r}")
            box = None if shape.get("outside") == "1" else box_in(shape, left_out)
            yield int(shape.get("frame", "")), shape, box
        except ValueError as error:
            faults.append(Fault(file, f"track {track.get('id')!r}: {error}"))


def box_in(shape: Element, left_out: Counter[str]) -> list[float] | None:
    """xyxy in pixels; None for a shape that is no box.

    Raises:
        ValueError: what is wrong with it.
    """
    if shape.tag not in _BOXES:
        if shape.tag in _OTHERS:
            left_out[shape.tag] += 1
        return None
    if shape.tag == "polygon":
        return around(_points(shape))
    if shape.tag == "mask":
        left, top, width, height = _numbers(shape, "left", "top", "width", "height")
        return [left, top, left + width, top + height]
    (angle,) = _numbers(shape, "rotation") if shape.get("rotation") else (0.0,)
    if shape.tag == "ellipse":
        cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
        return around_ellipse((cx, cy), (rx, ry), angle)
    x1, y1, x2, y2 = box = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    return around_turned(box, angle, ((x1 + x2) / 2, (y1 + y2) / 2))


def label_of(element: Element) -> str:
    """Raises:
    ValueError: there is none.
    """
    label = (element.get("label") or "").strip()
    if not label:
        raise ValueError(f"a <{element.tag}> has no label")
    return label


def _points(shape: Element) -> list[list[float]]:
    text = shape.get("points", "")
    try:
        points = [[float(number) for number in pair.split(",")] for pair in text.split(";")]
    except ValueError:
        points = []
    if len(points) < 3 or any(len(point) != 2 for point in points):
        raise ValueError(f"a polygon has points {shortened(text)}, not three or more x,y")
    return points


def _numbers(shape: Element, *keys: str) -> list[float]:
    try:
        return [float(shape.get(key, "")) for key in keys]
    except ValueError:
        given = ", ".join(f"{key}={shortened(shape.get(key))}" for key in keys)
        raise ValueError(f"a <{shape.tag}> has {given}, not numbers") from None
