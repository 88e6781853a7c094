"""COCO's files, and pycocotools reading them."""

import json

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CATEGORY_IDS = [7, 3, 90]


def write_ground_truth(path, annotations, classes):
    """A COCO annotation file, with category ids that are not the labels."""
    rows = []
    for image in annotations:
        for box, label, crowd, area in zip(
            image["boxes"].tolist(), image["labels"], image["iscrowd"], image["area"], strict=True
        ):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image["image_id"],
                    "category_id": CATEGORY_IDS[label - 1],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    images = [
        {"id": a["image_id"], "file_name": a["path"].name, "width": 400, "height": 400}
        for a in annotations
    ]
    categories = [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, classes, strict=True)]
    dataset = {"info": {}, "images": images, "categories": categories, "annotations": rows}
    path.write_text(json.dumps(dataset))


def plain_pycocotools(truth_file, result_file, category_ids=CATEGORY_IDS):
    truth = COCO(str(truth_file))
    evaluation = COCOeval(truth, truth.loadRes(str(result_file)), "bbox")
    evaluation.params.catIds = list(category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats
