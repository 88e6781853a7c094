"""`detcenter similar`: the boxes of a data set that are most like one, or like what is detected."""

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from torch import nn

from detcenter.analysis import retrieval, retrieval_table
from detcenter.commands.features import check_term, datasets_of
from detcenter.commands.given_boxes import box_in_words, check_inside, parsed_box
from detcenter.data import DataError, Fault, read_image
from detcenter.data.errors import printable
from detcenter.data.splitting import name_below
from detcenter.errors import ConfigError
from detcenter.evaluation.table import aligned
from detcenter.options import similar as options
from detcenter.options.features import PARTS
from detcenter.progress import bar
from detcenter.recipe.datasets import warn_of_copies
from detcenter.recipe.parsing import parse
from detcenter.runs.checkpoints import checkpoint_in, classes_of, detector_of
from detcenter.runs.features import name_of_term
from detcenter.runs.folder import write_whole
from detcenter.runs.similar import (
    Answer,
    Searched,
    answers,
    detected_boxes,
    given_boxes,
    known_features,
    searched_in,
)

logger = logging.getLogger("detcenter")

_SHOWN = 5  # queries in the terminal
_OF_DATA = ("root", "format", "train", "val")


def main(args: Sequence[str]) -> None:
    """Write ``similar.html`` and ``similar.json``, or with ``--measure`` ``retrieval.json``."""
    checkpoint, recipe = checkpoint_in(args)
    arguments = parse(options.parser(args, recipe), args)
    _check(arguments)
    boxes = [parsed_box(text) for text in arguments.boxes]
    path = Path(arguments.image or "")
    image = None if arguments.measure else _image(path)
    if image is not None:
        check_inside(boxes, path, *image.shape[:2])
    classes = checkpoint["classes"]
    model = detector_of(checkpoint, Path(arguments.checkpoint))
    check_term(model, arguments.term)
    if image is None:
        _measure(model, arguments, classes)
        return
    queries = (
        given_boxes(model, image, boxes, arguments.term)
        if boxes
        else detected_boxes(model, image, arguments.score, arguments.term)
    )
    if not queries:
        raise ConfigError(
            f"{path}: nothing is detected with a score of {arguments.score:g} or more; give a BOX, "
            "x1,y1,x2,y2, or a lower --score"
        )
    searched = _searched(model, arguments, classes, arguments.part)
    found = answers(searched, path, queries, arguments.nearest)
    names = classes_of(checkpoint)  # of what is detected, which may be of an enrolled class
    _warn_of_missing(searched, found, names)
    _write(model, arguments, names, searched, found, path)


def _check(arguments: Namespace) -> None:
    if arguments.measure and arguments.image:
        raise ConfigError("--measure is about the data set alone; leave the image out")
    if not arguments.measure and not arguments.image:
        raise ConfigError("an image is missing: detcenter similar --checkpoint FILE IMAGE BOX")
    if arguments.part not in PARTS:
        raise ConfigError(f"--part is one of {', '.join(PARTS)}, not {arguments.part!r}")
    if arguments.nearest < 1:
        raise ConfigError(f"--nearest is {arguments.nearest}, the least is 1")
    if not 0 <= arguments.score <= 1:
        raise ConfigError(f"--score is a number from 0 to 1, not {arguments.score:g}")


def _image(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(Fault(path, "no such image"))
    return read_image(path)


def _searched(model: nn.Module, arguments: Namespace, classes: list[str], part: str) -> Searched:
    """The boxes of ``part``, with features that are taken now, or are known from before."""
    index = None if arguments.index is None else Path(arguments.index)
    datasets = datasets_of(arguments.data, part, classes)
    parts = known_features(model, datasets, arguments.data.workers, arguments.term, index)
    return searched_in(model, datasets, parts, arguments.term)


def _measure(model: nn.Module, arguments: Namespace, classes: list[str]) -> None:
    searched = _searched(model, arguments, classes, "both")
    datasets = {searched.parts[image]: of for image, (of, _) in enumerate(searched.places)}
    warn_of_copies(arguments.data, datasets["train"], datasets["val"])
    train = np.array(searched.parts)[searched.images] == "train"
    features, labels = searched.features, searched.labels
    asked, boxes = (features[~train], labels[~train]), (features[train], labels[train])
    result = retrieval(*asked, *boxes, classes, bar("ranking", "block"))
    for what, key in (("data.train", "boxes"), ("data.val", "queries")):
        missing = [name for name, row in result["by_class"].items() if not row[key]]
        if missing:
            logger.warning("not measured, no box in %s: %s", what, printable(", ".join(missing)))
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    values = _about(model, arguments, searched) | result
    write_whole(folder / "retrieval.json", json.dumps(values, indent=1, allow_nan=False))
    print(retrieval_table(result))
    print(f"{_space(model, arguments, searched)}; retrieval.json in {folder}")


def _warn_of_missing(searched: Searched, found: Sequence[Answer], classes: Sequence[str]) -> None:
    """Say which classes have no box that could have been found, but the query's own."""
    for answer in found:
        own = answer.annotated
        label = answer.query.label if own is None else int(searched.labels[own])
        others = np.flatnonzero(searched.labels == label)
        if label is not None and not set(others.tolist()) - {own}:
            logger.warning(
                "%s: no other box of its class %s is searched",
                box_in_words(answer.query.box),
                printable(classes[label - 1]),
            )


def _write(
    model: nn.Module,
    arguments: Namespace,
    classes: Sequence[str],
    searched: Searched,
    found: Sequence[Answer],
    path: Path,
) -> None:
    """The files, the page if it can be made, and a table."""
    root, folder = Path(arguments.data.root), Path(arguments.output)
    rows = [_row(answer, searched, classes, path, root) for answer in found]
    about = _about(model, arguments, searched) | {"boxes": len(searched.labels), "queries": rows}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "similar.json", json.dumps(about, indent=1, allow_nan=False))
    for row in rows[:_SHOWN]:
        print(f"{_table(row, _measure_of(searched))}\n")
    if len(rows) > _SHOWN:
        print(f"and {len(rows) - _SHOWN} more queries")
    print(_space(model, arguments, searched))
    if find_spec("jinja2") is None:
        print("the page needs jinja2, which pip install 'detcenter[report]' brings")
        print(f"similar.json in {folder}")
    else:
        write_whole(folder / "similar.html", _page(about, searched, found, path))
        print(f"similar.html and similar.json in {folder}")


def _about(model: nn.Module, arguments: Namespace, searched: Searched) -> dict[str, Any]:
    """What was compared, and where; docs/similar.md says what the keys mean."""
    return {
        "checkpoint": arguments.checkpoint,
        "term": arguments.term or name_of_term(model) or None,
        "measure": _measure_of(searched),
        "data": {key: getattr(arguments.data, key) for key in _OF_DATA},
        "parts": sorted(set(searched.parts)),
    }


def _measure_of(searched: Searched) -> str:
    return "cosine" if searched.on_sphere else "distance"


def _space(model: nn.Module, arguments: Namespace, searched: Searched) -> str:
    """What is compared, in words."""
    term = name_of_term(model, arguments.term)
    read = (
        f"what the term {term!r} reads"
        if term
        else "the detector's own vectors (the checkpoint has no term)"
    )
    return (
        f"{len(searched.labels):,} boxes of data.{' and data.'.join(sorted(set(searched.parts)))}, "
        f"by {_measure_of(searched)} of {read}"
    )


def _row(
    answer: Answer, searched: Searched, classes: Sequence[str], path: Path, root: Path
) -> dict[str, Any]:
    """A query as the file has it."""
    query, own = answer.query, answer.annotated
    key = "similarity" if searched.on_sphere else "distance"
    neighbours = [
        {
            "class": classes[searched.labels[row] - 1],
            "label": int(searched.labels[row]),
            key: closeness,
            "box": searched.boxes[row].tolist(),
            "image": name_below(searched.paths[searched.images[row]], root),
            "part": searched.parts[searched.images[row]],
            "relation": relation,
        }
        for row, closeness, relation in answer.neighbours
    ]
    return {
        "image": str(path),
        "box": list(query.box),
        "detected": None if query.label is None else classes[query.label - 1],
        "score": query.score,
        "annotated": None if own is None else classes[searched.labels[own] - 1],
        "neighbours": neighbours,
    }


def _table(row: dict[str, Any], measure: str) -> str:
    key = "similarity" if measure == "cosine" else "distance"
    rows = [["class", "box", "image", measure, ""]]
    rows += [
        [
            printable(of["class"]),
            box_in_words(of["box"]),
            printable(of["image"]),
            f"{of[key]:.3f}",
            of["relation"] or "",
        ]
        for of in row["neighbours"]
    ]
    head = f"{printable(row['image'])} {box_in_words(row['box'])}{_known(row)}"
    return f"{head}\n{aligned(rows, left=3)}"


def _known(row: dict[str, Any]) -> str:
    """What is known of a query's class, in words."""
    said = []
    if row["detected"] is not None:
        said.append(f"detected as {printable(row['detected'])} ({row['score']:.2f})")
    if row["annotated"] is not None:
        said.append(f"annotated as {printable(row['annotated'])}")
    return f": {', '.join(said)}" if said else ""


def _page(about: dict[str, Any], searched: Searched, found: Sequence[Answer], path: Path) -> str:
    from detcenter.report.similar_page import Shown, similar_page  # needs the extra

    def image(number: int | None) -> np.ndarray:
        if number is None:
            return read_image(path)
        dataset, place = searched.places[number]
        return dataset.image(place)

    key, rows = "similarity" if searched.on_sphere else "distance", []
    for answer, row in zip(found, about["queries"], strict=True):
        query = Shown(
            None,
            answer.query.box,
            row["annotated"] or row["detected"] or "",
            row["image"],
            [*filter(None, [_known(row).removeprefix(": "), box_in_words(row["box"])])],
        )
        neighbours = [
            Shown(
                int(searched.images[neighbour.row]),
                tuple(of["box"]),
                of["class"],
                of["image"],
                [f"{about['measure']} {of[key]:.3f}", *filter(None, [of["relation"]])],
                of["relation"] is not None,
            )
            for neighbour, of in zip(answer.neighbours, row["neighbours"], strict=True)
        ]
        rows.append((query, neighbours))
    said = f"The nearest of {about['boxes']:,} annotated boxes by {about['measure']} of features"
    return similar_page(f"Like what is in {path.name}", said, rows, image, bar("making the page"))
