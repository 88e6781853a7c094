"""`detcenter audit`: which annotations of a data set are probably wrong."""

import csv
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detcenter.audit import KINDS, Suspect, suspects_in
from detcenter.data.errors import printable
from detcenter.errors import ConfigError
from detcenter.evaluation.table import aligned
from detcenter.recipe.config import Config
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs.audited import Fold, fold_of, fold_runs
from detcenter.runs.compared import train_runs
from detcenter.runs.folder import write_whole
from detcenter.runs.side_by_side import jobs_of
from detcenter.training import TrainingError

logger = logging.getLogger("detcenter")

_SHOWN = 5  # suspects of each kind in the table


class _Named(NamedTuple):
    """A suspect in words, as the files have it."""

    kind: str
    score: float
    image: str  # its name below data.root
    label: str | None
    better_label: str | None
    box: tuple[float, ...]  # xyxy in pixels
    better_box: tuple[float, ...] | None
    reason: str


def main(args: Sequence[str]) -> None:
    """Train the folds that are not trained yet, write ``audit.json`` and ``audit.csv``."""
    parser = recipe_parser(
        "detcenter audit", "Find annotations of data.train and data.val that are probably wrong."
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=3,
        help="parts, each judged by what was trained on the others",
    )
    parser.add_argument(
        "--jobs", type=str, help="trainings at a time; null is one a GPU, auto as many as pay"
    )
    config, arguments = parse_recipe(parser, args)
    jobs = jobs_of(arguments.jobs)
    if not arguments.config:
        raise ConfigError("--config FILE is missing: the recipe whose data is looked at")
    if config.data.folds is not None:
        raise ConfigError("data.folds is for a single run; give audit --folds instead")
    if arguments.folds < 2:
        raise ConfigError(f"--folds {arguments.folds}: there are two or more parts")
    folder = Path(config.output or f"runs/audit_{Path(str(arguments.config[-1])).stem}")
    runs = fold_runs(folder, config, arguments.folds)
    failed = train_runs(runs, jobs, None)
    if failed:
        why = "; ".join(f"{path}: {why}" for path, why in failed.items())
        raise TrainingError(
            f"{len(failed)} of {len(runs)} trainings failed; the same command tries again: {why}"
        )
    folds = [fold_of(path, run) for path, run in runs.items()]
    _warn_of_unseen(folds)
    suspects = _named(folds, Path(config.data.root))
    write_whole(folder / "audit.json", json.dumps(_content(config, folds, suspects), indent=1))
    write_whole(folder / "audit.csv", _csv(suspects))
    print(_summary(folds, suspects))
    print(f"audit.json and audit.csv in {folder}")


def _warn_of_unseen(folds: Sequence[Fold]) -> None:
    """A detector that has never seen a class cannot tell who is of it."""
    for number, fold in enumerate(folds):
        seen = fold.witnesses.seen
        labels = sorted(set(fold.annotated.labels.tolist()))
        names = [fold.classes[label - 1] for label in labels if not seen[label - 1]]
        if names:
            logger.warning(
                "fold %d: all boxes of %s are in it, so that nothing is said of their labels; more "
                "--folds, or more such boxes",
                number,
                printable(", ".join(names)),
            )


def _named(folds: Sequence[Fold], root: Path) -> list[_Named]:
    """The suspects of all folds, the worst first."""
    found = [
        _in_words(suspect, fold, root)
        for fold in folds
        for suspect in suspects_in(fold.annotated, fold.witnesses, fold.missing, fold.classes)
    ]
    return sorted(found, key=lambda suspect: -suspect.score)


def _in_words(suspect: Suspect, fold: Fold, root: Path) -> _Named:
    path = fold.images[suspect.image]
    label, better = (
        None if x is None else fold.classes[x - 1] for x in (suspect.label, suspect.better_label)
    )
    return _Named(
        suspect.kind,
        suspect.score,
        path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path),
        label,
        better,
        suspect.box,
        suspect.better_box,
        suspect.reason,
    )


def _content(config: Config, folds: Sequence[Fold], suspects: Sequence[_Named]) -> dict[str, Any]:
    """Of audit.json; docs/audit.md says what its keys mean."""
    return {
        "root": config.data.root,
        "classes": folds[0].classes,
        "folds": len(folds),
        "images": sum(len(fold.images) for fold in folds),
        "boxes": sum(len(fold.annotated.labels) for fold in folds),
        "suspects": [suspect._asdict() for suspect in suspects],
    }


def _csv(suspects: Sequence[_Named]) -> str:
    corners = ("x1", "y1", "x2", "y2")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("kind", "score", "image", "label", "better_label")
    writer.writerow([*names, *corners, *(f"better_{x}" for x in corners), "reason"])
    for suspect in suspects:
        box, better = (
            ["" if x is None else f"{x:.2f}" for x in corners_of or (None,) * 4]
            for corners_of in (suspect.box, suspect.better_box)
        )
        writer.writerow(
            [
                suspect.kind,
                f"{suspect.score:.4f}",
                suspect.image,
                suspect.label or "",
                suspect.better_label or "",
                *box,
                *better,
                suspect.reason,
            ]
        )
    return text.getvalue()


def _summary(folds: Sequence[Fold], suspects: Sequence[_Named]) -> str:
    """How many suspects of each kind there are, and the worst of each."""
    boxes = sum(len(fold.annotated.labels) for fold in folds)
    images = sum(len(fold.images) for fold in folds)
    blocks = [f"{boxes} boxes in {images} images"]
    for kind in KINDS:
        of_kind = [suspect for suspect in suspects if suspect.kind == kind]
        likely = sum(suspect.score > 0.5 for suspect in of_kind)
        rows = [[f"{kind}: {likely} likely", "score", "image", "why"]]
        rows += [
            ["", f"{x.score:.2f}", printable(x.image), printable(x.reason)]
            for x in of_kind[:_SHOWN]
        ]
        blocks.append(aligned(rows, left=4) if of_kind else f"{kind}: none")
    return "\n\n".join(blocks)
