"""Single boxes of COCO files changed."""

import json
from collections.abc import Mapping, Sequence

from detcenter.data.dataset import Annotation
from detcenter.data.layouts.coco_records import Record, boxes_of, read_records, sides_of
from detcenter.data.layouts.corrected.changes import Changed, Correction, positions, stays
from detcenter.data.layouts.files import Files


def corrected(
    files: Files, images: Sequence[Changed], categories: Mapping[str, Mapping[str, int | str]]
) -> dict[str, bytes]:
    """The files that change, by their names below the root.

    Args:
        categories: ids of the classes, by part.

    Raises:
        NotThere: a box that is to be changed.
    """
    contents = dict[str, tuple[Record, list[Record]]]()
    for image in images:
        name = files.find(image.part.replace("\\", "/")) or image.part
        if name not in contents:
            records = read_records(files.root / name, faults=[])
            own = {id(record) for record in records.content["annotations"]}
            if any(id(box) not in own for box in records.boxes):  # ids had to be put right
                records.content["annotations"] = [*records.boxes]
            contents[name] = records.content, records.boxes
        content, boxes = contents[name]
        of_image = [box for box in boxes if box["image_id"] == image.annotation["image_id"]]
        ids = categories[image.part]
        correct_coco(content, of_image, image.annotation, ids, image.corrections)
    return {name: json.dumps(content).encode() for name, (content, _) in contents.items()}


def correct_coco(
    content: Record,
    records: Sequence[Record],
    annotation: Annotation,
    categories: Mapping[str, int | str],
    corrections: Sequence[Correction],
) -> None:
    """Change the boxes of one image in the content of a COCO file, in place.

    A box that is moved loses its polygon, and has its own area.

    Args:
        records: of the image's boxes, which are entries of the content.
        categories: ids of the classes.
    """
    names = {number: name for name, number in categories.items()}
    boxes = boxes_of(sides_of([*records]))
    of_records = [names.get(record["category_id"], "") for record in records]
    found = positions(annotation, boxes, of_records, corrections)
    for at, change in zip(found, corrections, strict=True):
        if change.new_box is None or change.new_label is None:
            assert at is not None
            content["annotations"] = [r for r in content["annotations"] if r is not records[at]]
            continue
        if at is None:
            ids = [r["id"] for r in content["annotations"] if type(r.get("id")) is int]
            record: Record = {"id": max(ids, default=0) + 1, "image_id": annotation["image_id"]}
            record |= {"iscrowd": 0}
            content["annotations"].append(record)
        else:
            record = records[at]
        record["category_id"] = categories[change.new_label]
        if at is None or not stays(change):
            x1, y1, x2, y2 = map(float, change.new_box)
            sides = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            record |= sides | {"segmentation": []}
            record.pop("keypoints", None)
            record.pop("num_keypoints", None)
