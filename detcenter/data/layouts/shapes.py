"""The boxes that hold other shapes, in pixels. Angles are degrees, clockwise as y points down."""

from collections.abc import Sequence

import numpy as np


def around(points: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
    """The box, xyxy, around at least one point (x, y)."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    box: list[float] = np.concatenate([points.min(axis=0), points.max(axis=0)]).tolist()
    return box


def around_turned(box: Sequence[float], angle: float, pivot: tuple[float, float]) -> list[float]:
    """The box around one, xyxy, that is turned about a pivot (x, y)."""
    if angle == 0:
        return [*box]
    x1, y1, x2, y2 = box
    with np.errstate(all="ignore"):  # of boxes that are dropped
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], dtype=np.float64) - pivot
        return around(corners @ np.array([[cos, sin], [-sin, cos]]) + pivot)


def around_ellipse(
    center: tuple[float, float], radii: tuple[float, float], angle: float
) -> list[float]:
    """The box around an ellipse that is turned about its center; its half sides are
    hypot(rx cos, ry sin) and hypot(rx sin, ry cos)."""
    (cx, cy), (rx, ry) = center, radii
    with np.errstate(all="ignore"):
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        half = np.hypot(rx * cos, ry * sin), np.hypot(rx * sin, ry * cos)
    return [float(v) for v in (cx - half[0], cy - half[1], cx + half[0], cy + half[1])]
