"""What the XML file of a VOC annotation says, if it can be read."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detcenter.data.errors import DataError, Fault
from detcenter.data.layouts.reading import size_of
from detcenter.errors import nearest

# What tools write for <difficult>.
_FLAGS = dict.fromkeys(("0", "0.0", "false", "no", "n", "f", "none", ""), False)
_FLAGS |= dict.fromkeys(("1", "1.0", "true", "yes", "y", "t"), True)


class Object(NamedTuple):
    """What a <bndbox> of an <object> says; some tools put several into one."""

    element: Element  # the <object>
    bounds: Element  # the <bndbox>
    label: int  # from 1
    box: list[float]  # xyxy pixels, from 0
    difficult: bool


def read_xml(path: Path) -> Element:
    """The root element; entities, which could expand without end or read files, are refused.

    It may be in any encoding that it declares and Python knows.

    Raises:
        DataError: no such file, or not the XML of an annotation.
    """
    tree = _parsed(path)
    if tree.tag != "annotation" and tree.find(".//object") is None:
        raise DataError(Fault(path, f"<{tree.tag}> without an <object>, not a VOC annotation"))
    return tree


def _parsed(path: Path) -> Element:
    """The root element of any XML file, as in `read_xml`."""
    if not os.path.isfile(path):
        raise DataError(Fault(path, "annotation file not found"))
    try:
        tree: Element = fromstring(_in_utf8(path.read_bytes()))
    except DefusedXmlException as error:
        what = f"refused, for it declares entities ({type(error).__name__})"
        raise DataError(Fault(path, what)) from error
    except (ParseError, ValueError, LookupError, OSError) as error:
        what = f"not readable as XML ({' '.join(str(error).split())})"
        raise DataError(Fault(path, what)) from error
    if "}" in tree.tag:  # in a namespace
        for element in tree.iter():
            element.tag = element.tag.rpartition("}")[2]
    return tree


_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
_OF_EXPAT = {"utf-8", "utf8", "utf-16", "us-ascii", "iso-8859-1"}


def _in_utf8(content: bytes) -> bytes:
    """The parser knows a few encodings, Python those of the whole world: GB2312, Shift JIS."""
    declared = _DECLARATION.match(content)
    if declared is None or declared[1].decode().lower() in _OF_EXPAT:
        return content
    return content[declared.end() :].decode(declared[1].decode()).encode()


def read_objects(
    tree: Element, file: Path, classes: list[str], faults: list[Fault]
) -> list[Object]:
    """The boxes that can be read; what is wrong with the others goes to `faults`."""
    found: list[Object] = []
    for element in tree.iter("object"):
        try:
            found += _objects(element, file, classes)
        except DataError as error:
            faults += error.args
    return found


def boxes_in(objects: Iterable[Object]) -> np.ndarray:
    """float64 [M, 4], xyxy pixels; inf where numbers are too large."""
    return np.array([thing.box for thing in objects], dtype=np.float64).reshape(-1, 4)


def name_in(element: Element, file: Path) -> str:
    """The class of an <object>.

    Raises:
        DataError: there is none, or several.
    """
    if len(element.findall("name")) > 1:
        raise DataError(Fault(file, f"an <object> has {len(element.findall('name'))} <name>"))
    return _text_in(element, "name", file)


def _objects(element: Element, file: Path, classes: list[str]) -> list[Object]:
    name = name_in(element, file)
    if name not in classes:
        raise DataError(Fault(file, f"unknown class {name!r}; {nearest(name, classes)}"))
    if element.find("bndbox") is None:
        raise DataError(Fault(file, "an <object> has no <bndbox>"))
    flag = (element.findtext("difficult") or "0").strip().lower()
    if flag not in _FLAGS:
        raise DataError(Fault(file, f"<difficult> is {shortened(flag)}, neither 0 nor 1"))
    label = classes.index(name) + 1
    return [
        Object(element, bounds, label, _box(bounds, file), _FLAGS[flag])
        for bounds in element.findall("bndbox")
    ]


def _box(bounds: Element, file: Path) -> list[float]:
    xmin, ymin, xmax, ymax = (_number(bounds, k, file) for k in ("xmin", "ymin", "xmax", "ymax"))
    if xmax > xmin and ymax > ymin:
        return [xmin - 1, ymin - 1, xmax, ymax]
    # It has no area as annotated: unshifted it keeps none, and is dropped with the rest.
    return [xmin, ymin, xmax, ymax]


def _text_in(element: Element, key: str, file: Path) -> str:
    text = (element.findtext(key) or "").strip()
    if not text:
        raise DataError(Fault(file, f"<{element.tag}> has no <{key}>"))
    return text


def _number(bounds: Element, key: str, file: Path) -> float:
    if len(bounds.findall(key)) > 1:
        raise DataError(Fault(file, f"a <bndbox> has {len(bounds.findall(key))} <{key}>"))
    text = _text_in(bounds, key, file)
    try:
        return float(text)
    except ValueError:
        raise DataError(Fault(file, f"<{key}> is {shortened(text)}, not a number")) from None


def size_in(tree: Element, key: str) -> int:
    """The annotated size in pixels, 0 where it is missing or nonsense."""
    return size_of(tree.findtext(f"size/{key}"))
