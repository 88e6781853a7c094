"""Which annotations of a data set are probably wrong, by detectors that have not seen them.

Arrays go in and come out: nothing here knows models, data sets or files.
"""

from detcenter.audit.boxes import Missing, Placement, missing_boxes, placement
from detcenter.audit.classes import (
    Opinions,
    class_opinions,
    look_alikes,
    mixed,
    wrong_label_scores,
)
from detcenter.audit.suspects import (
    KINDS,
    Annotated,
    BoxScores,
    Suspect,
    Witnesses,
    box_scores,
    suspects_in,
)

__all__ = [
    "KINDS",
    "Annotated",
    "BoxScores",
    "Missing",
    "Opinions",
    "Placement",
    "Suspect",
    "Witnesses",
    "box_scores",
    "class_opinions",
    "look_alikes",
    "missing_boxes",
    "mixed",
    "placement",
    "suspects_in",
    "wrong_label_scores",
]
