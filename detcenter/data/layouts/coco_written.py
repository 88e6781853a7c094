"""Parts of a data set as files in COCO's layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detcenter.data.dataset import Annotation, DetectionDataset
from detcenter.data.layouts.written import (
    Parts,
    Place,
    Progress,
    image_names,
    link_image,
    paths_of,
    warn_of,
)


def write_coco(
    out: Path, parts: Parts, place: Place = link_image, progress: Progress = iter
) -> dict[str, int]:
    """Write annotations/instances_<part>.json, and the images below images, in their sub-folders.

    Areas and the ids of images and categories are those of the parts. A difficult box becomes an
    ordinary one. See `written` for the rest.
    """
    warn_of(parts, "difficult", "COCO's layout has no such flag, they are written as others are")
    names = image_names(paths_of(parts))
    written = {}
    for name, part in parts.items():
        for annotation in progress(part.annotations):
            place(annotation["path"], out / "images" / names[annotation["path"]])
        content = _coco_content(part, names)
        file = out / "annotations" / f"instances_{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
        written[name] = len(content["annotations"])
    return written


def _coco_content(part: DetectionDataset, names: Mapping[Path, str]) -> dict[str, list[Any]]:
    images = [
        {
            "id": annotation["image_id"],
            "file_name": names[annotation["path"]],
            "width": annotation["width"],
            "height": annotation["height"],
        }
        for annotation in part.annotations
    ]
    boxes = [box for a in part.annotations for box in _coco_boxes(a, part.category_ids)]
    categories = zip(part.category_ids, part.classes, strict=True)
    return {
        "images": images,
        "annotations": [{"id": number} | box for number, box in enumerate(boxes, start=1)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }


def _coco_boxes(annotation: Annotation, category_ids: list[int | str]) -> list[dict[str, Any]]:
    boxes = annotation["boxes"]
    columns = (
        annotation["labels"].tolist(),
        np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist(),
        annotation["area"].tolist(),
        annotation["iscrowd"].tolist(),
    )
    return [
        {
            "image_id": annotation["image_id"],
            "category_id": category_ids[label - 1],
            "bbox": bbox,
            "area": area,
            "iscrowd": int(crowd),
            "segmentation": [],  # which some readers do not do without
        }
        for label, bbox, area, crowd in zip(*columns, strict=True)
    ]
