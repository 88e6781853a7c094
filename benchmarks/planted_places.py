"""How well the audit finds moved and missing boxes, by the detections of finished runs.

    python benchmarks/planted_places.py RUN [RUN ...] [--share 0.05] [--seed 0]

Errors are planted in the annotations of each run's validation images (see planted.py), and judged
by what the run detected there. Nothing is trained, and no detector has learnt from these errors:
that is for trying out a rule in a moment. planted_errors.py has the whole measurement.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planted import plant
from planted_errors import drop_numbers, kind_at, ranking_numbers
from rivals import box_losses

from detcenter.audit import missing_boxes, placement
from detcenter.data import Annotation
from detcenter.evaluation.table import aligned
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.runs.measured import detections_of, recipe_of


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--share", type=float, default=0.05, help="of the boxes, for each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the errors")
    given = parser.parse_args()
    rows = [["run", "shifts: the audit", "loss of the box", "drops: the audit"]]
    for run in given.runs:
        data = recipe_of(run).data
        classes = training_set(data).classes
        annotations = validation_set(data, classes).annotations
        changed, errors = plant(annotations, len(classes), given.share, given.seed)
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for error in errors:
            by_image[error.image].append(error._asdict())
        rows.append(
            [str(run), *map("{:.3f}".format, _found(changed, detections_of(run)[1], by_image))]
        )
    print(aligned(rows))


def _found(
    annotations: Sequence[Annotation],
    detections: Sequence[Any],
    errors: dict[int, list[dict[str, Any]]],
) -> tuple[float, float, float]:
    """The average precisions."""
    kinds = np.array(
        [kind_at(errors[i], box) for i, a in enumerate(annotations) for box in a["boxes"]]
    )
    kept = (kinds == "") | (kinds == "shift")
    by_audit, by_loss = (
        ranking_numbers(kinds[kept] == "shift", scores[kept], len(kinds))["AP"]
        for scores in (
            placement(annotations, detections).misplaced,
            box_losses(annotations, detections),
        )
    )
    missing = missing_boxes(annotations, detections)
    found = [
        (float(score), str(image), box)
        for image, box, score in zip(missing.images, missing.boxes, missing.scores, strict=True)
    ]
    drops = {str(i): [e for e in of if e["kind"] == "drop"] for i, of in errors.items()}
    return by_audit, by_loss, drop_numbers(found, drops, len(kinds))["AP"]


if __name__ == "__main__":
    main()
