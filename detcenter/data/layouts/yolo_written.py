"""Parts of a data set as files in YOLO's layout."""

import posixpath
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detcenter.data.dataset import Annotation
from detcenter.data.errors import DataError, Fault
from detcenter.data.images import is_image
from detcenter.data.layouts.written import (
    Parts,
    Place,
    Progress,
    image_names,
    link_image,
    paths_of,
    warn_of,
    write_text,
)


def write_yolo(
    out: Path, parts: Parts, place: Place = link_image, progress: Progress = iter
) -> dict[str, int]:
    """Write data.yaml, images/<part> and labels/<part>, without sub-folders.

    A text file an image, a line a box: class from 0, then center, width and height as parts of the
    image, to 9 digits. Images without boxes have an empty file. A crowd box is left out, since it
    is no object; a difficult one becomes an ordinary one. See `written` for the rest.

    Raises:
        DataError: an image whose name has not the ending of one, or that occurs with different
            boxes.
    """
    warn_of(parts, "iscrowd", "YOLO's layout has no such flag, they are left out")
    warn_of(parts, "difficult", "YOLO's layout has no such flag, they are written as others are")
    written = {}
    for name, part in parts.items():
        images, labels = out / "images" / name, out / "labels" / name
        for folder in (images, labels):
            folder.mkdir(parents=True)
        # Flat: many readers find the labels of an image by the last "images" in its path.
        names = image_names(paths_of({name: part}), flat=True)
        for annotation in progress(part.annotations):
            path = annotation["path"]
            stem = posixpath.splitext(names[path])[0]
            if not is_image(names[path]):
                what = "YOLO's layout tells images by their ending, and this is that of none"
                raise DataError(Fault(path, f"{what}; rename it"))
            write_text(labels / f"{stem}.txt", _yolo_lines(annotation), path)
            place(path, images / names[path])
        written[name] = sum(int((~a["iscrowd"]).sum()) for a in part.annotations)
    # Without "path": then the others are relative to this file, wherever it is.
    content: dict[str, Any] = {name: f"images/{name}" for name in parts}
    content["names"] = dict(enumerate(next(iter(parts.values())).classes))
    write_text(out / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
    return written


def _yolo_lines(annotation: Annotation) -> str:
    keep = ~annotation["iscrowd"]
    boxes, labels = annotation["boxes"][keep], annotation["labels"][keep]
    size = [annotation["width"], annotation["height"]]
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 / size, (boxes[:, 2:] - boxes[:, :2]) / size
    rows = zip(labels.tolist(), np.hstack([centers, sides]).tolist(), strict=True)
    return "".join(
        f"{label - 1} {' '.join(f'{number:.9g}' for number in row)}\n" for label, row in rows
    )
