"""Images with more objects than detections count."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detcenter.evaluation.matching import objects_in


def limit_remarks(
    annotations: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    max_detections: int = 100,
    detections_per_img: int | None = None,
) -> list[str]:
    """A line for each limit that keeps perfect detections from AP 1, with the key that moves it.

    Args:
        max_detections: how many of an image and class COCO's numbers count.
        detections_per_img: how many a model gives in an image; None if no model is measured.
    """
    remarks = []
    labels = [objects_in(annotation)[1] for annotation in annotations]
    most = [int(np.bincount(of_image, minlength=1).max()) for of_image in labels]
    if max(most, default=0) > max_detections:
        worst = int(np.argmax(most))
        name, label = annotations[worst]["path"].name, int(np.bincount(labels[worst]).argmax())
        remarks.append(
            f"{_images(most, max_detections)} more than {max_detections} objects of one class (the "
            f"most: {name}, {most[worst]} of {classes[label - 1]}), but COCO counts the best "
            f"{max_detections} detections of a class in an image, so that perfect ones cannot "
            f"reach AP 1; evaluation.max_detections: {most[worst]} counts all"
        )
    totals = [len(of_image) for of_image in labels]
    if detections_per_img is not None and max(totals, default=0) > detections_per_img:
        worst = int(np.argmax(totals))
        remarks.append(
            f"{_images(totals, detections_per_img)} more objects than the {detections_per_img} "
            f"detections that the model gives in an image (the most: "
            f"{annotations[worst]['path'].name}, {totals[worst]}); train it with "
            f"model.detections_per_img: {totals[worst]} or more"
        )
    return remarks


def _images(counts: Sequence[int], most: int) -> str:
    number = sum(count > most for count in counts)
    return "1 validation image has" if number == 1 else f"{number} validation images have"
