"""`detcenter audit`: which annotations of a data set are probably wrong."""

import csv
import io
import json
import logging
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from detcenter.audit import KINDS, Suspect, look_alikes, suspects_in
from detcenter.commands.launching import launch_of
from detcenter.data.errors import printable
from detcenter.data.findings import near_copies
from detcenter.data.splitting import name_below
from detcenter.errors import ConfigError
from detcenter.evaluation.table import aligned
from detcenter.options import audit as options
from detcenter.progress import bar
from detcenter.recipe.config import Config, DataConfig
from detcenter.recipe.corrected import write_corrected
from detcenter.recipe.datasets import look_through
from detcenter.recipe.decided import data_of_audit, decided
from detcenter.recipe.groups import write_groups
from detcenter.recipe.layouts import resolved
from detcenter.recipe.parsing import parse, parse_recipe
from detcenter.runs.audited import Fold, fold_of, fold_runs
from detcenter.runs.compared import train_all
from detcenter.runs.folder import write_whole

logger = logging.getLogger("detcenter")

_SHOWN = 5  # suspects of each kind in the table
_NEIGHBOURS = 4  # boxes that are shown beside a wrong label, of either class


def main(args: Sequence[str]) -> None:
    """``audit`` and ``audit apply``."""
    if args[:1] == ["apply"]:
        _apply(args)
    else:
        _audit(args)


def _apply(args: Sequence[str]) -> None:
    """Write the data set that decisions on the page are of, with what they change."""
    arguments = parse(options.apply_parser(), args)
    data, corrections = decided(Path(arguments.decisions), arguments.root)
    changes = write_corrected(data, corrections, Path(arguments.output))
    for what, number in sorted(changes.items()):
        print(f"{what}: {number}")
    if not changes:
        print("nothing is changed: no decision says so")
    print(f"the data set, with links to its images: --data.root {arguments.output}")


def _audit(args: Sequence[str]) -> None:
    """Train the folds that are not trained yet, write ``audit.html``, ``.json`` and ``.csv``."""
    config, arguments = parse_recipe(options.audit_parser(), args)
    _check(config, arguments)
    folder = Path(config.output or f"runs/audit_{Path(str(arguments.config[-1])).stem}")
    config.data.groups = config.data.groups or _near_copies(config.data, folder)
    runs = fold_runs(folder, config, arguments.folds)
    train_all(runs, launch_of(arguments, folder))
    folds = [fold_of(path, run) for path, run in runs.items()]
    _warn_of_unseen(folds)
    _write(folder, config, folds, _mean_results(runs), arguments.show)


def _near_copies(data: DataConfig, folder: Path) -> str | None:
    """The file of near copies among the images, which is made before the first fold is trained."""
    file = folder / "groups.json"
    if not file.exists():
        if any(folder.glob("fold_*")):
            return None  # trained by an earlier version, or beside a comparison
        if data.format == "lmdb":
            return None  # images are not looked at
        if find_spec("imagehash") is None:
            logger.warning(
                "near copies of an image may be parted, so that a wrong label is learnt from the "
                "copy; pip install 'detcenter[check]' brings imagehash, which finds them"
            )
            return None
        _, seen, _ = look_through(data, gray=True)
        folder.mkdir(parents=True, exist_ok=True)
        pairs = near_copies(seen, bar("looking for near copies"))
        number = write_groups(file, Path(data.root), seen, pairs)
        logger.info("groups of near copies, each in one fold: %d, see %s", number, file)
    return str(file) if json.loads(file.read_text()) else None


def _mean_results(runs: Iterable[Path]) -> dict[str, float]:
    """How good the detectors of the folds are, by the annotations as they are."""
    results = [json.loads((folder / "results.json").read_text()) for folder in runs]
    found = {key: [of[key] for of in results if of[key] is not None] for key in ("AP", "AP50")}
    return {key: float(np.mean(values)) for key, values in found.items() if values}


def _check(config: Config, arguments: Namespace) -> None:
    """Before hours of training."""
    if config.data.folds is not None:
        raise ConfigError("data.folds is for a single run; give audit --folds instead")
    if config.data.unknown:
        raise ConfigError("data.unknown: an audit looks at all classes; leave it out")
    if arguments.folds < 2:
        raise ConfigError(f"--folds {arguments.folds}: there are two or more parts")
    if resolved(config.data).format == "lmdb":
        logger.warning(
            "data.format lmdb: detcenter audit apply corrects no packed data; to correct it, audit "
            "the data set that it was packed from"
        )


def _write(
    folder: Path, config: Config, folds: Sequence[Fold], results: dict[str, float], show: int
) -> None:
    """The files, the page if it can be made, and a table."""
    found = _suspects(folds)
    rows = [_row(suspect, fold, Path(config.data.root)) for suspect, fold in found]
    content = _content(config, folds, rows) | results
    write_whole(folder / "audit.json", json.dumps(content, indent=1, allow_nan=False))
    write_whole(folder / "audit.csv", _csv(rows))
    print(_summary(content))
    if find_spec("jinja2") is None:
        print("the page needs jinja2, which pip install 'detcenter[report]' brings")
        print(f"audit.json and audit.csv in {folder}")
    else:
        write_whole(folder / "audit.html", _page(content, folds, found[:show]))
        print(f"audit.html, audit.json and audit.csv in {folder}")


def _warn_of_unseen(folds: Sequence[Fold]) -> None:
    """A detector that has never seen a class cannot tell who is of it."""
    for number, fold in enumerate(folds):
        seen = fold.witnesses.seen
        labels = sorted(set(fold.annotated.labels.tolist()))
        names = [fold.dataset.classes[label - 1] for label in labels if not seen[label - 1]]
        if names:
            logger.warning(
                "fold %d: all boxes of %s are in it, so that they are not judged; more --folds, or "
                "more such boxes",
                number,
                printable(", ".join(names)),
            )


def _suspects(folds: Sequence[Fold]) -> list[tuple[Suspect, Fold]]:
    """Those of all folds, the worst first."""
    found = [(suspect, fold) for fold in folds for suspect in _of_fold(fold)]
    return sorted(found, key=lambda pair: -pair[0].score)


def _of_fold(fold: Fold) -> list[Suspect]:
    return suspects_in(fold.annotated, fold.witnesses, fold.missing, fold.dataset.classes)


def _row(suspect: Suspect, fold: Fold, root: Path) -> dict[str, Any]:
    """A suspect as the files have it; docs/audit.md says what the keys mean."""
    label, better = (
        None if x is None else fold.dataset.classes[x - 1]
        for x in (suspect.label, suspect.better_label)
    )
    return {
        "kind": suspect.kind,
        "score": suspect.score,
        "image": name_below(fold.path(suspect.image), root),
        "label": label,
        "better_label": better,
        "number": suspect.number,
        "box": suspect.box,
        "better_box": suspect.better_box,
        "reason": suspect.reason,
    }


def _content(
    config: Config, folds: Sequence[Fold], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "data": data_of_audit(config.data),
        "classes": folds[0].dataset.classes,
        "folds": len(folds),
        "images": sum(len(fold.dataset) for fold in folds),
        "boxes": sum(len(fold.annotated.labels) for fold in folds),
        "suspects": rows,
    }


def _page(
    content: dict[str, Any], folds: Sequence[Fold], found: Sequence[tuple[Suspect, Fold]]
) -> str:
    from detcenter.report.audit_page import Entry, audit_page  # needs the extra

    places = {fold.path(i): (fold.dataset, i) for fold in folds for i in range(len(fold.dataset))}

    def image(path: Path) -> np.ndarray:
        dataset, index = places[path]
        return dataset.image(index)

    entries = [
        Entry(
            path=fold.path(suspect.image),
            of_label=_look_alikes(fold, suspect, suspect.label),
            of_better=_look_alikes(fold, suspect, suspect.better_label),
            **row,
        )
        for (suspect, fold), row in zip(found, content["suspects"], strict=False)
    ]
    title = Path(content["data"]["root"]).resolve().name
    progress = bar("making the page")
    return audit_page(title, content["data"], content["classes"], entries, image, progress)


def _look_alikes(
    fold: Fold, suspect: Suspect, label: int | None
) -> list[tuple[Path, tuple[float, ...]]]:
    """Beside a wrong label: boxes that bear the given or the better one, by image and corners."""
    if suspect.position is None or label is None or suspect.kind != "wrong label":
        return []
    columns = fold.directions, fold.annotated.labels, suspect.position, label, _NEIGHBOURS
    return [
        (fold.path(fold.annotated.images[n]), tuple(fold.annotated.boxes[n].tolist()))
        for n in look_alikes(*columns)
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    corners = ("x1", "y1", "x2", "y2")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("kind", "score", "image", "label", "better_label")
    writer.writerow([*names, *corners, *(f"better_{x}" for x in corners), "reason"])
    for row in rows:
        boxes = [*row["box"], *(row["better_box"] or [None] * 4)]
        writer.writerow(
            [
                row["kind"],
                f"{row['score']:.4f}",
                *("" if row[key] is None else row[key] for key in names[2:]),
                *("" if x is None else f"{x:.2f}" for x in boxes),
                row["reason"],
            ]
        )
    return text.getvalue()


def _summary(content: dict[str, Any]) -> str:
    """How many suspects of each kind there are, and the worst of each."""
    blocks = [f"{content['boxes']} boxes in {content['images']} images"]
    if "AP" in content:
        blocks.append(
            f"AP {content['AP']:.3f}, AP50 {content['AP50']:.3f} (means of the folds): what these "
            "detectors cannot tell apart, the list cannot either"
        )
    for kind in KINDS:
        of_kind = [row for row in content["suspects"] if row["kind"] == kind]
        likely = sum(row["score"] > 0.5 for row in of_kind)
        rows = [[f"{kind}: {likely} likely", "score", "image", "why"]]
        rows += [
            ["", f"{row['score']:.2f}", printable(row["image"]), printable(row["reason"])]
            for row in of_kind[:_SHOWN]
        ]
        blocks.append(aligned(rows, left=4) if of_kind else f"{kind}: none")
    return "\n\n".join(blocks)
