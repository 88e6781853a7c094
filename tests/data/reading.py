"""What tests of the layouts' readers share."""

import logging

import pytest

from detcenter.data.errors import DataError
from detcenter.data.layouts.files import Files


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def parts(layout, root):
    return layout.find_parts(Files(root))


def read(layout, root, part, classes=None):
    """Boxes by class and by image, in short, and the faults."""
    faults = []
    return layout.read(Files(root), part, classes, faults), [str(fault) for fault in faults]


def boxes(labelled, root):
    """What was read: for every image its boxes with their classes, rounded to a thousandth."""
    return {
        a["path"].relative_to(root).as_posix(): [
            (labelled.classes[label - 1], [round(v, 3) for v in box])
            for label, box in zip(a["labels"], a["boxes"].tolist(), strict=True)
        ]
        for a in labelled.annotations
    }


def sound(layout, root, part, classes=None):
    labelled, faults = read(layout, root, part, classes)
    assert faults == []
    return boxes(labelled, root)


def refused(layout, root, part):
    """The one line that says why nothing can be read."""
    with pytest.raises(DataError) as caught:
        layout.read(Files(root), part, None, [])
    (line,) = str(caught.value).splitlines()
    return line


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
