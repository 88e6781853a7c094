"""Single boxes of VOC's files changed."""

import copy
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from detcenter.data.dataset import Annotation
from detcenter.data.layouts.corrected.changes import Changed, Correction, positions, stays
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.voc_xml import Object, boxes_in, read_objects, read_xml


def corrected(files: Files, images: Sequence[Changed], classes: list[str]) -> dict[str, bytes]:
    """The files that change, by their names below the root.

    Raises:
        NotThere: a box that is to be changed.
    """
    made = {}
    for image in images:
        file = image.annotation["file"]
        tree = read_xml(file)
        objects = read_objects(tree, file, classes, faults=[])
        correct_voc(tree, objects, classes, image.annotation, image.corrections)
        name = file.relative_to(files.root).as_posix()
        made[name] = tostring(tree, encoding="utf-8", xml_declaration=True)
    return made


def correct_voc(
    tree: Element,
    objects: Sequence[Object],
    classes: Sequence[str],
    annotation: Annotation,
    corrections: Sequence[Correction],
) -> None:
    """Change the boxes in a VOC annotation, in place; new corners are whole pixels, from 1."""
    names = [classes[thing.label - 1] for thing in objects]
    parents = {child: parent for parent in tree.iter() for child in parent}
    found = positions(annotation, boxes_in(objects), names, corrections)
    for at, change in zip(found, corrections, strict=True):
        if at is None:
            _append(tree, change)
            continue
        thing = objects[at]
        siblings = thing.element.findall("bndbox")
        if change.new_box is None or change.new_label is None:
            thing.element.remove(thing.bounds)
            if len(siblings) == 1:
                parents[thing.element].remove(thing.element)
            continue
        element, bounds = thing.element, thing.bounds
        if len(siblings) > 1:  # the others keep their class
            element = copy.deepcopy(element)
            bounds = element.findall("bndbox")[siblings.index(bounds)]
            for other in element.findall("bndbox"):
                if other is not bounds:
                    element.remove(other)
            thing.element.remove(thing.bounds)
            parents[thing.element].append(element)
        _text(element, "name", change.new_label)
        if not stays(change):
            _write_corners(bounds, change)


def _append(tree: Element, change: Correction) -> None:
    assert change.new_label is not None
    element = SubElement(tree, "object")
    SubElement(element, "name").text = change.new_label
    SubElement(element, "difficult").text = "0"
    bounds = SubElement(element, "bndbox")
    _write_corners(bounds, change)


def _write_corners(bounds: Element, change: Correction) -> None:
    """The first pixel is 1, the last one belongs to the box, and a single one is read as no box."""
    assert change.new_box is not None
    x1, y1, x2, y2 = np.round(np.asarray(change.new_box, np.float64)).astype(int).tolist()
    corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": max(x2, x1 + 2), "ymax": max(y2, y1 + 2)}
    for key, value in corners.items():
        _text(bounds, key, str(value))


def _text(element: Element, key: str, value: str) -> None:
    place = element.find(key)
    (SubElement(element, key) if place is None else place).text = value
