"""Errors planted in the annotations of a data set, after Schubert et al. (WACV 2024), section 3.

https://arxiv.org/abs/2303.06999. Of all boxes the same share gets each kind, at most one a box:

- flip: another class, all as probable.
- shift: another place and size, whose IoU with the old box lies between 0.4 and 0.7.
- drop: the box is gone.
- spawn: a box and class of another image, at a place where it overlaps nothing by 0.3 or more.

Crowds and difficult objects stay as they are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from detcenter.data import Annotation
from detcenter.evaluation.matching import box_iou

_TRIES = 10_000


class Planted(NamedTuple):
    kind: str
    image: int  # its position
    box: list[float]  # as it is annotated now; of a drop, as it was
    true_box: list[float] | None
    true_label: int | None  # from 1; None of a spawn


def plant(
    annotations: Sequence[Annotation], classes: int, share: float, seed: int
) -> tuple[list[Annotation], list[Planted]]:
    """The annotations with errors, and which these are."""
    draw = np.random.default_rng(seed)
    changed = [cast(Annotation, {**a, "boxes": a["boxes"].copy(), "labels": a["labels"].copy()})
               for a in annotations]  # fmt: skip
    every = [
        (image, box)
        for image, a in enumerate(annotations)
        for box in np.flatnonzero(~(a["iscrowd"] | a["difficult"])).tolist()
    ]
    number = round(share * len(every))
    order = [every[i] for i in draw.permutation(len(every))[: 4 * number].tolist()]
    flips, shifts, drops, copied = (order[i * number : (i + 1) * number] for i in range(4))
    spawned = [(annotations[i]["boxes"][n], int(annotations[i]["labels"][n])) for i, n in copied]
    done = [_flip(changed[i], i, n, classes, draw) for i, n in flips]
    done += [_shift(changed[i], i, n, draw) for i, n in shifts]
    done += [_drop(changed[i], i, n) for i, n in drops]
    for image in {i for i, _ in drops}:
        _remove(changed[image], [n for i, n in drops if i == image])
    done += [_spawn(changed, box, label, draw) for box, label in spawned]
    return changed, done


def _flip(a: Annotation, image: int, box: int, classes: int, draw: Any) -> Planted:
    true = int(a["labels"][box])
    a["labels"][box] = 1 + (true - 1 + draw.integers(1, classes)) % classes
    corners = a["boxes"][box].tolist()
    return Planted("flip", image, corners, corners, true)


def _shift(a: Annotation, image: int, box: int, draw: Any) -> Planted:
    true = a["boxes"][box].copy()
    sides = np.tile(true[2:] - true[:2], 2)
    limits = np.array([a["width"], a["height"]] * 2, float)
    for _ in range(_TRIES):
        moved = np.clip(true + sides * draw.uniform(-0.5, 0.5, 4), 0, limits)
        if (moved[2:] > moved[:2] + 1).all() and 0.4 <= box_iou(moved[None], true[None])[
            0, 0
        ] <= 0.7:
            a["boxes"][box] = moved
            return Planted("shift", image, moved.tolist(), true.tolist(), int(a["labels"][box]))
    raise RuntimeError(f"no shift found for {true.tolist()}")


def _drop(a: Annotation, image: int, box: int) -> Planted:
    corners = a["boxes"][box].tolist()
    return Planted("drop", image, corners, corners, int(a["labels"][box]))


def _spawn(changed: Sequence[Annotation], box: np.ndarray, label: int, draw: Any) -> Planted:
    width, height = (box[2:] - box[:2]).tolist()
    for _ in range(_TRIES):
        image = int(draw.integers(len(changed)))
        a = changed[image]
        room = a["width"] - width, a["height"] - height
        if min(room) < 0:
            continue
        x, y = (draw.uniform(0, r) for r in room)
        placed = np.array([[x, y, x + width, y + height]])
        if (box_iou(placed, a["boxes"]) < 0.3).all():
            _append(a, placed, label)
            return Planted("spawn", image, placed[0].tolist(), None, None)
    raise RuntimeError(f"no place found for a box of {width} x {height}")


def _remove(a: Any, boxes: Sequence[int]) -> None:
    keep = ~np.isin(np.arange(len(a["labels"])), boxes)
    for key in ("boxes", "labels", "iscrowd", "difficult", "area"):
        a[key] = a[key][keep]


def _append(a: Any, box: np.ndarray, label: int) -> None:
    more = {
        "boxes": box,
        "labels": np.array([label]),
        "iscrowd": np.array([False]),
        "difficult": np.array([False]),
        "area": (box[:, 2:] - box[:, :2]).prod(axis=1),
    }
    for key, value in more.items():
        a[key] = np.concatenate([a[key], value])
