"""Single boxes of Label Studio's exports changed."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.data.layouts.corrected.changes import Changed, positions, stays
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.label_studio import (
    Export,
    Task,
    annotated_size,
    boxes_in,
    read_export,
)
from detcenter.data.layouts.label_studio_regions import LABELS, Record, Region, labels_of
from detcenter.data.layouts.reading import part_file

_SHAPE = ("x", "y", "width", "height", "rotation", "points", "closed", "radiusX", "radiusY")
_RECTANGLE = {"polygon": "rectangle", "ellipse": "rectangle"}
_RECTANGLE |= dict.fromkeys(("polygonlabels", "ellipselabels"), "rectanglelabels")


def corrected(files: Files, images: Sequence[Changed]) -> dict[str, bytes]:
    """The files that change, by their names below the root.

    Raises:
        NotThere: a box that is to be changed.
    """
    exports = dict[Path, tuple[Export, dict[str, Record]]]()
    for image in images:
        file = part_file(files, image.part)
        if file not in exports:
            export = read_export(files, image.part, Counter(), faults=[])
            exports[file] = export, _controls(export.tasks.values())
        export, controls = exports[file]
        _correct(export, image, controls)
    return {
        file.relative_to(files.root).as_posix(): json.dumps(export.content).encode()
        for file, (export, _) in exports.items()
    }


def _correct(export: Export, image: Changed, controls: dict[str, Record]) -> None:
    """Change the boxes of one image in the content of an export, in place.

    A region that is moved becomes an upright rectangle. Of several labels in a region one that is
    moved leaves it.
    """
    path = image.annotation["path"]
    task = export.tasks[path]
    size = annotated_size(task, path)
    drawn = boxes_in(task, size, export.file, Counter(), faults=[])
    boxes = np.array([box.box for box in drawn], np.float64).reshape(-1, 4)
    names = [box.name for box in drawn]
    found = positions(image.annotation, boxes, names, image.corrections)
    changes = [*zip(found, image.corrections, strict=True)]
    labels = {n: _labels_of(region) for n, region in enumerate(task.regions)}
    moved = dict[int, Sequence[float]]()
    for at, change in sorted(changes, key=lambda pair: pair[1].new_box is not None):
        box = None if at is None else drawn[at]
        if box is not None:
            labels[box.region][box.label] = change.new_label
        if change.new_box is None or change.new_label is None or (box and stays(change)):
            continue
        if box is not None and _only(labels[box.region]):
            moved[box.region] = change.new_box
            continue
        if box is not None:
            labels[box.region][box.label] = None
        _add(task, change.new_box, change.new_label, size, controls)
    for n in {drawn[at].region for at in found if at is not None}:
        _write(task, task.regions[n], labels[n])
        if n in moved:
            _move(task.regions[n], _percent(moved[n], size), controls)


def _labels_of(region: Region) -> list[Any]:
    given = labels_of(region.said)
    return [*given] if isinstance(given, list) else [given]


def _only(labels: Sequence[Any]) -> bool:
    return sum(label is not None for label in labels) == 1


def _value(result: Record) -> Record:
    """What says shape or labels: JSON-MIN has that alone."""
    value = result.get("value")
    return value if isinstance(value, dict) else result


def _percent(box: Sequence[float], size: tuple[int, int]) -> Record:
    (x1, y1, x2, y2), (width, height) = map(float, box), size
    sides = {"x": x1 / width, "y": y1 / height, "width": (x2 - x1) / width}
    sides |= {"height": (y2 - y1) / height}
    return {key: 100 * side for key, side in sides.items()} | {"rotation": 0}


def _write(task: Task, region: Region, labels: Sequence[Any]) -> None:
    """Give a region the labels that are left; without any it goes."""
    left = [label for label in labels if label is not None]
    if not left:
        return _remove(task, region)
    key = next(key for key in LABELS if region.said.get(key))
    value = next(value for value in map(_value, region.results) if key in value)
    value[key] = left if isinstance(value[key], list) else left[0]


def _remove(task: Task, region: Region) -> None:
    """With all results of its id, and the relations from it and to it."""
    own, number = {id(result) for result in region.results}, region.results[0].get("id")

    def is_of_it(result: Any) -> bool:
        if id(result) in own:
            return True
        if task.results is None or number is None or not isinstance(result, dict):
            return False
        return number in (result.get("id"), result.get("from_id"), result.get("to_id"))

    for results in _lists(task):
        results[:] = [result for result in results if not is_of_it(result)]


def _lists(task: Task) -> list[list[Any]]:
    """Those that hold what is drawn."""
    if task.results is not None:
        return [task.results]
    return [value for value in task.record.values() if isinstance(value, list)]


def _move(region: Region, sides: Record, controls: dict[str, Record]) -> None:
    for result in region.results:
        value = _value(result)
        if any(key in value for key in _SHAPE):
            for key in _SHAPE:
                value.pop(key, None)
            value |= sides
        for key in ("polygonlabels", "ellipselabels"):
            if key in value:
                value["rectanglelabels"] = value.pop(key)
        kind = _RECTANGLE.get(str(result.get("type")).lower())
        if kind is not None:
            result |= {"type": kind, **controls.get(kind, {})}


def _controls(tasks: Iterable[Task]) -> dict[str, Record]:
    """What kinds of results are of, as the first of a kind has it: their controls in the tool.

    In JSON-MIN, by the key of its labels, the list that a region is in.
    """
    found = dict[str, Record]()
    for task in tasks:
        for result in (result for region in task.regions for result in region.results):
            names: Record = {k: result[k] for k in ("from_name", "to_name") if k in result}
            if names:
                found.setdefault(str(result.get("type")).lower(), names)
        for name, results in task.record.items() if task.results is None else ():
            items = results if isinstance(results, list) else []
            for item in (item for item in items if isinstance(item, dict)):
                for key in (key for key in LABELS if item.get(key)):
                    found.setdefault(key, {"list": name})
    return found


def _add(
    task: Task,
    box: Sequence[float],
    label: str,
    size: tuple[int, int],
    controls: dict[str, Record],
) -> None:
    """As the tool writes a rectangle; shape and label apart where the file has them so."""
    key = (
        "labels"
        if "rectanglelabels" not in controls and "labels" in controls
        else "rectanglelabels"
    )
    names = next((controls[k] for k in (key, *LABELS) if k in controls), {})
    sides = _percent(box, size)
    common: Record = {"original_width": size[0], "original_height": size[1]}
    named = sides | {key: [label]}
    if task.results is None:
        name = names.get("list", "label")
        while not isinstance(task.record.setdefault(name, []), list):  # something else
            name += "_"
        task.record[name].append(named | common)
        return
    taken = [result.get("id") for result in task.results if isinstance(result, dict)]
    common |= {"id": next(new for n in count(1) if (new := f"added{n}") not in taken)}
    common |= {"image_rotation": 0, "origin": "manual"}
    shape = next((controls[k] for k in ("rectangle", "polygon", "ellipse") if k in controls), None)
    if key == "labels" and shape is not None:
        task.results.append(common | shape | {"type": "rectangle", "value": sides})
    names = {"from_name": "label", "to_name": "image"} | names
    task.results.append(common | names | {"type": key, "value": named})
