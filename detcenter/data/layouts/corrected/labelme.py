"""Single boxes of LabelMe's files changed."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.data.dataset import Annotation
from detcenter.data.layouts.corrected.changes import (
    Changed,
    Correction,
    positions,
    stays,
)
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.labelme import boxes_in
from detcenter.data.layouts.reading import read_json


def corrected(files: Files, images: Sequence[Changed]) -> dict[str, bytes]:
    """The files that change, by their names below the root; every image that is read has one.

    Raises:
        NotThere: a box that is to be changed.
    """
    made = {}
    for image in images:
        file = image.annotation["file"]
        content = read_json(file)
        correct_labelme(content, file, image.annotation, image.corrections)
        text = json.dumps(content, ensure_ascii=False, indent=2)  # as LabelMe
        name = file.relative_to(files.root).as_posix()
        made[name] = text.encode(errors="backslashreplace")  # half a surrogate pair, as JSON
    return made


def correct_labelme(
    content: dict[str, Any], file: Path, annotation: Annotation, corrections: Sequence[Correction]
) -> None:
    """Change the boxes in the content of a LabelMe file, in place.

    A shape that is moved becomes a rectangle, without a mask.
    """
    shapes = [*boxes_in(content["shapes"], file, Counter(), [])]
    boxes = np.array([box for _, _, box in shapes], np.float64).reshape(-1, 4)
    found = positions(annotation, boxes, [name for _, name, _ in shapes], corrections)
    for at, change in zip(found, corrections, strict=True):
        if change.new_box is None:
            assert at is not None
            content["shapes"] = [s for s in content["shapes"] if s is not shapes[at][0]]
            continue
        x1, y1, x2, y2 = change.new_box
        points = [[x1, y1], [x2, y2]]
        shape: dict[str, Any]
        if at is None:
            shape = {"label": change.new_label, "points": points, "group_id": None}
            shape |= {"description": "", "shape_type": "rectangle", "flags": {}}
            content["shapes"].append(shape)
            continue
        shape = shapes[at][0]
        shape["label"] = change.new_label
        if not stays(change):
            shape |= {"points": points, "shape_type": "rectangle"}
            shape.pop("mask", None)
