"""Detect without torch: python docs/onnx_example.py best.onnx photo.jpg ..."""

import json
import sys

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def fitted(image, size, sides):
    """The image as the model was trained on it: averaged where it shrinks."""
    (height, width), (rows, columns) = size, image.shape[:2]
    if sides is not None:  # it keeps its shape
        short, long = min(rows, columns), max(rows, columns)
        scale = min(sides[0] / short, sides[1] / long, height / rows, width / columns)
        height, width = (max(1, round(side * scale)) for side in (rows, columns))
    shrinks = height < rows and width < columns
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)


def detect(session, image, threshold=0.5):
    """(class, score, box) of what is in a uint8 image [H, W, 3], boxes xyxy in its pixels."""
    contract = json.loads(session.get_modelmeta().custom_metadata_map["detcenter"])
    small = fitted(image, contract["size"], contract["sides"])
    rows, columns = small.shape[:2]
    batch = np.zeros((1, 3, *contract["size"]), np.uint8)
    batch[0, :, :rows, :columns] = small.transpose(2, 0, 1)
    sizes = {} if contract["sides"] is None else {"sizes": np.array([[rows, columns]])}
    found = session.run(["boxes", "scores", "labels"], {"images": batch, **sizes})
    boxes, scores, labels = (values[0] for values in found)
    back = np.array([image.shape[1] / columns, image.shape[0] / rows] * 2)
    shown = (labels > 0) & (scores >= threshold)
    names = [contract["classes"][label - 1] for label in labels[shown]]
    return list(zip(names, scores[shown].tolist(), (boxes[shown] * back).tolist(), strict=True))


if __name__ == "__main__":
    model = onnxruntime.InferenceSession(sys.argv[1])
    for name in sys.argv[2:]:
        for row in detect(
            model, np.array(ImageOps.exif_transpose(Image.open(name)).convert("RGB"))
        ):
            print(name, *row)
