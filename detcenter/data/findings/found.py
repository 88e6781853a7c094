"""What is looked through, and what was found in it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from detcenter.data.dataset import Annotation
from detcenter.data.errors import printable
from detcenter.data.looks import Look

MOST_EXAMPLES = 100  # of a finding that are kept; its total is of all

Severity = Literal["fault", "warning", "remark"]


class Part(NamedTuple):
    """A part of a data set, as its files have it: boxes may be any numbers."""

    name: str  # as the recipe calls it, "train" or "val"
    annotations: Sequence[Annotation]
    classes: Sequence[str]  # without background; label k is `classes[k - 1]`
    looks: Mapping[Path, Look]  # by the path of the image; empty where there are no image files

    def look(self, index: int) -> Look:
        """At the image of an annotation; one that knows nothing if it was not looked at."""
        return self.looks.get(self.annotations[index]["path"], Look())


class Shown(NamedTuple):
    """An image, with the boxes in it that are meant."""

    part: str
    image: int  # the number of its annotation
    boxes: tuple[int, ...] = ()


class Example(NamedTuple):
    text: str  # one line, that names the image or the class
    shown: tuple[Shown, ...] = ()


class Finding(NamedTuple):
    """One kind of thing that is, or may be, wrong."""

    kind: str  # a word for programs, that stays
    severity: Severity  # a fault stops training, a warning is said in it, a remark is not
    what: str  # a line for people
    parts: tuple[str, ...]
    total: int  # of what `what` names
    examples: tuple[Example, ...]  # the first `MOST_EXAMPLES`


def in_words(finding: Finding) -> str:
    """A finding in one line, with the first example."""
    more = ", …" if len(finding.examples) > 1 else ""
    return printable(f"{finding.what}: {finding.total} ({finding.examples[0].text}{more})")


class Boxes(NamedTuple):
    """All boxes of a part in one array, with the images that they are of; N in all."""

    values: np.ndarray  # float64 [N, 4], xyxy pixels as in the file
    image: np.ndarray  # int64 [N], the number of the annotation
    number: np.ndarray  # int64 [N], the number in it
    labels: np.ndarray  # int64 [N]
    ignored: np.ndarray  # bool [N], whether it is a crowd
    sizes: np.ndarray  # float64 [N, 2], width and height of its image

    @property
    def sides(self) -> np.ndarray:
        """float64 [N, 2], width and height."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values[:, 2:] - self.values[:, :2]


def boxes_of(part: Part) -> Boxes:
    """All boxes of a part."""
    annotations = part.annotations
    counts = np.array([len(a["labels"]) for a in annotations], np.int64)
    sizes = [[a["width"], a["height"]] for a in annotations]
    return Boxes(
        _joined([a["boxes"] for a in annotations], np.float64).reshape(-1, 4),
        np.repeat(np.arange(len(counts)), counts),
        np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts),
        _joined([a["labels"] for a in annotations], np.int64),
        _joined([a["iscrowd"] for a in annotations], np.bool_),
        np.repeat(np.array(sizes, np.float64).reshape(-1, 2), counts, axis=0),
    )


def _joined(arrays: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)


def of_boxes(
    kind: str,
    severity: Severity,
    what: str,
    part: Part,
    boxes: Boxes,
    chosen: np.ndarray,
    over: np.ndarray | None = None,
) -> Finding | None:
    """A finding of single boxes: an example is an image with all of them.

    Args:
        chosen: their numbers, rising.
        over: of each the number of another box, which is shown too.
    """
    if len(chosen) == 0:
        return None
    images, starts = np.unique(boxes.image[chosen], return_index=True)
    examples: list[Example] = []
    rows_by_image = np.split(np.arange(len(chosen)), starts[1:])
    for image, rows in zip(images.tolist(), rows_by_image, strict=True):
        if len(examples) == MOST_EXAMPLES:
            break
        mine = chosen[rows]
        shown = mine if over is None else np.union1d(mine, over[rows])
        text = _of_image(part, image, boxes.number[mine].tolist())
        if over is not None:
            other = part.classes[boxes.labels[over[rows[0]]] - 1]
            text += f", over {other}"
        numbers = tuple(boxes.number[shown].tolist())
        examples.append(Example(text, (Shown(part.name, image, numbers),)))
    return Finding(kind, severity, what, (part.name,), len(chosen), tuple(examples))


def of_images(
    kind: str, severity: Severity, what: str, part: Part, images: Iterable[tuple[int, str]]
) -> Finding | None:
    """A finding of single images, of each its number and what is to be said of it."""
    found = list(images)
    if not found:
        return None
    examples = tuple(
        Example(f"{part.annotations[i]['path'].name}: {text}", (Shown(part.name, i),))
        for i, text in found[:MOST_EXAMPLES]
    )
    return Finding(kind, severity, what, (part.name,), len(found), examples)


def _of_image(part: Part, image: int, numbers: Sequence[int]) -> str:
    annotation = part.annotations[image]
    box = ", ".join(f"{x:.6g}" for x in annotation["boxes"][numbers[0]])
    name = part.classes[annotation["labels"][numbers[0]] - 1]
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return f"{annotation['path'].name}: {name} [{box}]{more}"
