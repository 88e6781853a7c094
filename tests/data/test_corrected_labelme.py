"""Single boxes of LabelMe's files changed: read again, they and no others are other ones."""

import json
from functools import partial

import pytest

from detcenter.data.layouts import labelme
from detcenter.data.layouts.corrected.changes import Changed, Correction, NotThere
from detcenter.data.layouts.corrected.labelme import corrected
from detcenter.data.layouts.files import Files
from tests.data import test_labelme
from tests.data.layouts import picture
from tests.data.reading import read, sound
from tests.data.test_labelme import CAT


def shape(kind="rectangle", points=((1, 2), (11, 22)), label="cat", **others):
    flags = {"group_id": 3, "flags": {"hurt": True}, "own": "größer"}
    drawn = {"label": label, "points": [*map(list, points)], "shape_type": kind}
    return drawn | flags | others


page = partial(test_labelme.page, flags={"dark": True}, imageData="iVBO")


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    return tmp_path


def apply(root, *corrections, part=".", image="a.png"):
    """The text that is written, what is in it, and what is read of it."""
    labelled, _ = read(labelme, root, part)
    (annotation,) = (a for a in labelled.annotations if a["path"] == root / image)
    changed = [Changed(annotation, part, corrections)]
    ((name, content),) = corrected(Files(root), changed).items()
    assert root / name == annotation["file"]
    (root / name).write_bytes(content)
    text = content.decode()
    return text, json.loads(text), read(labelme, root, part)


SHAPES = {
    "rectangle": (shape(points=[(11, 22), (1, 2)]), [1, 2, 11, 22]),
    "polygon": (shape("polygon", [(5, 1), (9.5, 8), (2, 6)]), [2, 1, 9.5, 8]),
    "old": ({"label": "cat", "points": [[5, 1], [9.5, 8], [2, 6]]}, [2, 1, 9.5, 8]),
    "circle": (shape("circle", [(10, 12), (13, 16)]), [5, 7, 15, 17]),
    "mask": (shape("mask", [(3, 4), (8, 9)], mask="iVBO"), [3, 4, 8, 9]),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_another_class_and_the_same_shape(root, kind):
    drawn, box = SHAPES[kind]
    line = shape("line")
    page(root / "a.json", line, drawn, shape())
    before = json.loads((root / "a.json").read_text())
    page(root / "b.json", shape())
    text, content, _ = apply(root, Correction(box, "cat", box, "dog"))
    assert content["shapes"] == [line, drawn | {"label": "dog"}, shape()]
    assert [*content] == [*before] and content | {"shapes": 0} == before | {"shapes": 0}
    assert text == json.dumps(content, ensure_ascii=False, indent=2) and "\\u" not in text
    assert sound(labelme, root, ".") == {"a.png": [("dog", box), CAT], "b.png": [CAT]}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_that_is_moved_is_a_rectangle(root, kind):
    drawn, box = SHAPES[kind]
    page(root / "a.json", drawn, shape("point", [(1, 1)]))
    _, content, _ = apply(root, Correction(box, "cat", [3.1234, 4, 39.5, 30], "cat"))
    new = {"points": [[3.1234, 4], [39.5, 30]], "shape_type": "rectangle"}
    kept = {key: value for key, value in drawn.items() if key != "mask"}
    assert content["shapes"] == [kept | new, shape("point", [(1, 1)])]
    assert sound(labelme, root, ".") == {"a.png": [("cat", [3.123, 4, 39.5, 30])]}


def test_removed_and_added(root):
    page(root / "a.json", shape(), shape("polygon", [(5, 1), (9, 8), (2, 6)], "dog"), shape())
    remove = Correction(CAT[1], "cat", None, None)
    add = Correction(None, None, [0, 0, 5, 5.25], "dog")
    _, content, _ = apply(root, remove, add)
    assert sound(labelme, root, ".") == {
        "a.png": [("dog", [2, 1, 9, 8]), CAT, ("dog", [0, 0, 5, 5.25])]
    }
    assert content["shapes"][-1] == {
        "label": "dog",
        "points": [[0, 0], [5, 5.25]],
        "group_id": None,
        "description": "",
        "shape_type": "rectangle",
        "flags": {},
    }


def test_a_box_that_is_not_there(root):
    page(root / "a.json", shape())
    with pytest.raises(NotThere, match=r"no box \[1, 2, 11, 23\]"):
        apply(root, Correction([1, 2, 11, 23], "cat", None, None))


def test_the_file_of_an_image_elsewhere(tmp_path):
    picture(tmp_path / "images/x.png")
    page(tmp_path / "labels/1.json", shape(), imagePath=r"C:\me\x.png")
    apply(tmp_path, Correction(CAT[1], "cat", CAT[1], "dog"), part="labels", image="images/x.png")
    assert sound(labelme, tmp_path, "labels") == {"images/x.png": [("dog", CAT[1])]}


def test_what_is_wrong_in_the_file_stays(root):
    wrong = shape(points=[(1, 2)])
    page(root / "a.json", 7, wrong, shape(), note="\ud800")
    _, content, (_, faults) = apply(root, Correction(CAT[1], "cat", CAT[1], "dog"))
    assert content["shapes"] == [7, wrong, shape(label="dog")] and content["note"] == "\ud800"
    assert len(faults) == 2
