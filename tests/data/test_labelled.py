"""What all layouts are turned into."""

from pathlib import Path

import pytest

from detcenter.data.layouts.labelled import NamedBoxes, apart, labelled
from tests.data.layouts import picture

FILE = Path("boxes.csv")


@pytest.mark.parametrize(
    ("names", "paths", "kept"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
        (["a.jpg", None], ["a.jpg", None], ["a.jpg", None]),
        (["old/a.jpg", "new/a.jpg"], ["a.jpg", "a.jpg"], [None, None]),
        (["old/a.jpg", "new/a.jpg"], ["new/a.jpg", "new/a.jpg"], [None, "new/a.jpg"]),
        (["x/a.jpg", "./a.jpg"], ["a.jpg", "a.jpg"], [None, "a.jpg"]),
        ([r"x\a.jpg", r"y\a.jpg"], ["x/a.jpg", "x/a.jpg"], ["x/a.jpg", None]),
        (["a%20b.jpg", "c/a b.jpg"], ["a b.jpg", "a b.jpg"], ["a b.jpg", None]),
        (["a.jpg", "a.jpg"], ["x/a.jpg", "x/a.jpg"], ["x/a.jpg", None]),
        (["q/a.jpg", "q/a.jpg"], ["x/a.jpg", "x/a.jpg"], ["x/a.jpg", None]),
        (["ba.jpg", "c/a.jpg"], ["a.jpg", "a.jpg"], [None, None]),
        (["1.json", "a.json"], ["a.jpg", "a.jpg"], [None, "a.jpg"]),
    ],
)
def test_apart(names, paths, kept):
    faults = []
    full = [path and Path("/root", path) for path in paths]
    found = apart(names, full, FILE, faults)
    assert found == [path and Path("/root", path) for path in kept]
    assert len(faults) == (kept != paths)
    assert all(fault.file == FILE for fault in faults)


def test_flags_and_classes(tmp_path):
    picture(tmp_path / "a.png")
    boxes, names = [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]], ["cow", "cat", "dog"]
    image = NamedBoxes(
        tmp_path / "a.png", FILE, 40, 30, boxes, names, [True, False, True], [False, False, True]
    )
    faults = []
    (found,), classes, categories = labelled([image], ["dog", "cat"], faults)
    assert (classes, categories) == (["dog", "cat"], [])
    assert found["labels"].tolist() == [2, 1]
    assert found["iscrowd"].tolist() == [False, True]
    assert found["difficult"].tolist() == [False, True]
    (fault,) = faults
    assert fault.file == FILE and "unknown class 'cow'" in fault.what
    (found,), classes, _ = labelled([image], None, [])
    assert classes == ["cat", "cow", "dog"] and found["labels"].tolist() == [2, 1, 3]
