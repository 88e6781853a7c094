"""What the XML file of a VOC annotation says, if it can be read."""

import os
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shortened
from typing import TypedDict
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from detcenter.data.errors import DataError, Fault, nearest
from detcenter.data.images import MAX_PIXELS


class Object(TypedDict):
    """What an <object> says."""

    label: int  # from 1
    box: list[float]  # xyxy pixels, from 0
    difficult: bool


def read_xml(path: Path) -> Element:
    """The root element; entities, which could expand without end or read files, are refused.

    Raises:
        DataError: no such file, or not the XML of an annotation.
    """
    if not os.path.isfile(path):
        raise DataError(Fault(path, "annotation file not found"))
    try:
        tree: Element | None = parse(path).getroot()
    except DefusedXmlException as error:
        what = f"refused, for it declares entities ({type(error).__name__})"
        raise DataError(Fault(path, what)) from error
    except (ParseError, ValueError, LookupError, OSError) as error:
        what = f"not readable as XML ({' '.join(str(error).split())})"
        raise DataError(Fault(path, what)) from error
    assert tree is not None  # a document without one is a ParseError
    if tree.tag != "annotation" and tree.find(".//object") is None:
        raise DataError(Fault(path, f"<{tree.tag}> without an <object>, not a VOC annotation"))
    return tree


def read_objects(
    tree: Element, file: Path, classes: list[str], faults: list[Fault]
) -> list[tuple[Element, Object]]:
    """The objects that can be read, beside their elements; the others go to `faults`."""
    found = []
    for element in tree.iter("object"):
        try:
            found.append((element, _object(element, file, classes)))
        except DataError as error:
            faults += error.args
    return found


def boxes_in(objects: Iterable[Object]) -> np.ndarray:
    """float64 [M, 4], xyxy pixels; inf where numbers are too large."""
    return np.array([thing["box"] for thing in objects], dtype=np.float64).reshape(-1, 4)


def _object(element: Element, file: Path, classes: list[str]) -> Object:
    name = text_in(element, "name", file)
    if name not in classes:
        raise DataError(Fault(file, f"unknown class {name!r}; {nearest(name, classes)}"))
    bounds = element.find("bndbox")
    if bounds is None:
        raise DataError(Fault(file, "an <object> has no <bndbox>"))
    box = [_number(bounds, key, file) for key in ("xmin", "ymin", "xmax", "ymax")]
    xmin, ymin, xmax, ymax = box
    if xmax > xmin and ymax > ymin:
        box = [xmin - 1, ymin - 1, xmax, ymax]
    # Otherwise it has no area as annotated: unshifted it keeps none, and is dropped with the rest.
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return Object(label=classes.index(name) + 1, box=box, difficult=difficult)


def text_in(element: Element, key: str, file: Path) -> str:
    """The text of <key> below `element`.

    Raises:
        DataError: there is none.
    """
    text = (element.findtext(key) or "").strip()
    if not text:
        raise DataError(Fault(file, f"<{element.tag}> has no <{key}>"))
    return text


def _number(element: Element, key: str, file: Path) -> float:
    text = text_in(element, key, file)
    try:
        return float(text)
    except ValueError:
        raise DataError(Fault(file, f"<{key}> is {shortened(text)}, not a number")) from None


def size_in(tree: Element, key: str) -> int:
    """The annotated size in pixels, 0 where it is missing or nonsense."""
    try:
        value = float(tree.findtext(f"size/{key}") or 0)
    except ValueError:
        return 0
    return int(value) if 0 < value <= MAX_PIXELS else 0
