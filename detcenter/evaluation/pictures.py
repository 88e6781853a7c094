"""Pictures of boxes: what is there, and what was detected."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detcenter.evaluation.detections import Detections

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # x1, y1, x2, y2

# Below this many pixels on the shorter side an image is enlarged, so that labels stay readable
# and do not cover what they name.
_SMALLEST_SIDE = 400
_GAP = 12
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_PALETTE: tuple[Colour, ...] = (
    (31, 119, 255),  # blue
    (255, 127, 14),  # orange
    (30, 160, 60),  # green
    (228, 26, 28),  # red
    (155, 77, 255),  # violet
    (255, 212, 0),  # yellow
    (0, 200, 215),  # cyan
    (255, 95, 180),  # pink
    (140, 86, 75),  # brown
    (164, 222, 2),  # lime
)


def draw_boxes(
    image: np.ndarray,
    boxes: Any,
    labels: Any,
    classes: Sequence[str],
    scores: Any = None,
) -> np.ndarray:
    """Draw boxes with the name of their class, and their score where scores are given.

    Args:
        image: uint8 [H, W, 3], RGB.
        boxes: [N, 4], xyxy in pixels of `image`.
        labels: [N] from 1; label k is named `classes[k - 1]` and always has the same colour.
        scores: [N] in [0, 1], or None.

    Returns a new uint8 [H', W', 3]: the image's own size, or a whole multiple of it where its
    shorter side is below 400 pixels.
    """
    canvas, factor = _enlarged(image)
    xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * factor
    texts = _texts(labels, classes, scores)
    colours = [_colour(int(label)) for label in labels]
    draw = ImageDraw.Draw(canvas)
    for box, colour in zip(xyxy, colours, strict=True):
        draw.rectangle(_ordered(box), outline=colour, width=_line_width(canvas))
    # Labels go over all boxes, so that no line runs through them; the most certain chooses first.
    order = np.arange(len(xyxy)) if scores is None else np.argsort(-np.asarray(scores))
    taken: list[Rectangle] = []
    for i in order:
        taken.append(_write_label(draw, canvas, xyxy[i], texts[i], colours[i], taken))
    return np.asarray(canvas).copy()


def side_by_side(
    images: Sequence[np.ndarray],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    score_threshold: float = 0.5,
) -> np.ndarray:
    """One row an image: ground truth on the left, detections from `score_threshold` on the right.

    `images` are uint8 [H, W, 3], RGB, of any sizes; all rows come out equally wide. Returns one
    uint8 [H', W', 3], or an empty picture with its titles if there are no images.
    """
    pairs = [
        _pair(image, annotation, detection, classes, score_threshold)
        for image, annotation, detection in zip(images, annotations, detections, strict=True)
    ]
    width = max([left.width for left, _ in pairs], default=_SMALLEST_SIDE)
    titles = ("ground truth", f"detections, score {score_threshold:g} or more")
    rows = [_titles(titles, width)]
    rows += [_row(_fit(left, width), _fit(right, width)) for left, right in pairs]
    return np.asarray(_stacked(rows)).copy()


def _pair(
    image: np.ndarray,
    annotation: Mapping[str, Any],
    detection: Mapping[str, Any],
    classes: Sequence[str],
    score_threshold: float,
) -> tuple[Image.Image, Image.Image]:
    truth = draw_boxes(image, annotation["boxes"], annotation["labels"], classes)
    found = Detections.of(detection)
    boxes, scores, labels = (values[found.scores >= score_threshold] for values in found)
    return (
        Image.fromarray(truth),
        Image.fromarray(draw_boxes(image, boxes, labels, classes, scores)),
    )


def _enlarged(image: np.ndarray) -> tuple[Image.Image, int]:
    picture = Image.fromarray(image).convert("RGB")
    factor = max(1, -(-_SMALLEST_SIDE // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.BICUBIC), factor


def _texts(labels: Any, classes: Sequence[str], scores: Any) -> list[str]:
    names = [classes[int(label) - 1] for label in labels]
    if scores is None:
        return names
    return [f"{name} {float(score):.2f}" for name, score in zip(names, scores, strict=True)]


def _colour(label: int) -> Colour:
    """From the palette, darker each time it starts again."""
    again, index = divmod(label - 1, len(_PALETTE))
    red, green, blue = (round(channel * 0.65**again) for channel in _PALETTE[index])
    return red, green, blue


def _ink_on(colour: Colour) -> Colour:
    brightness = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return _INK if brightness > 130 else _PAPER


def _line_width(picture: Image.Image) -> int:
    return max(2, round(min(picture.size) / 250))


def _font(picture: Image.Image) -> Any:
    return ImageFont.load_default(size=max(13, round(min(picture.size) / 32)))


def _ordered(box: np.ndarray) -> Rectangle:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, max(x1, x2), max(y1, y2)


def _write_label(
    draw: ImageDraw.ImageDraw,
    canvas: Image.Image,
    box: np.ndarray,
    text: str,
    colour: Colour,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Write at the first place that is free, or else above the box; return the place."""
    font, pad = _font(canvas), 2
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    size = (right - left + 2 * pad, bottom - top + 2 * pad)
    places = list(_places(box, size, canvas.size))
    place = next((p for p in places if not any(_meet(p, other) for other in taken)), places[0])
    draw.rectangle(place, fill=colour)
    corner = (place[0] + pad - left, place[1] + pad - top)
    draw.text(corner, text, fill=_ink_on(colour), font=font)
    return place


def _places(
    box: np.ndarray, size: tuple[float, float], limits: tuple[int, int]
) -> Iterator[Rectangle]:
    """Where a label of `size` may go: above the box, below it, inside it; never off the picture."""
    (x1, y1, x2, y2), (width, height) = _ordered(box), size
    inside = (y1, y2 - height)
    # In a small box a label would hide the object; in a large one it is clearer than below.
    roomy = y2 - y1 > 4 * height
    ys = (y1 - height, *inside, y2) if roomy else (y1 - height, y2, *inside)
    for y in [y for y in ys if 0 <= y <= limits[1] - height] or [0]:
        for x in (x1, x2 - width):
            x = max(0, min(x, limits[0] - width - 1))
            yield x, y, x + width, y + height


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _fit(picture: Image.Image, width: int) -> Image.Image:
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _row(left: Image.Image, right: Image.Image) -> Image.Image:
    row = Image.new("RGB", (left.width + _GAP + right.width, left.height), _PAPER)
    row.paste(left, (0, 0))
    row.paste(right, (left.width + _GAP, 0))
    return row


def _titles(texts: Sequence[str], width: int) -> Image.Image:
    font = ImageFont.load_default(size=max(16, round(width / 26)))
    height = round(font.size * 1.4) if isinstance(font, ImageFont.FreeTypeFont) else 24
    row = Image.new("RGB", (width * 2 + _GAP, height), _PAPER)
    draw = ImageDraw.Draw(row)
    for column, text in enumerate(texts):
        centre = (column * (width + _GAP) + width / 2, height / 2)
        draw.text(centre, text, fill=_INK, font=font, anchor="mm")
    return row


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    height = sum(row.height + _GAP for row in rows) + _GAP
    page = Image.new("RGB", (rows[0].width + 2 * _GAP, height), _PAPER)
    y = _GAP
    for row in rows:
        page.paste(row, (_GAP, y))
        y += row.height + _GAP
    return page
