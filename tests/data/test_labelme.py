"""LabelMe's files: a JSON beside every image."""

import json

import pytest

from detcenter.data.layouts import labelme
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, warnings, write


def shape(kind="rectangle", points=((1, 2), (11, 22)), label="cat", **others):
    return {"label": label, "points": [*map(list, points)], "shape_type": kind, **others}


def page(path, *shapes, **others):
    content = {"version": "5.5.0", "flags": {}, "shapes": [*shapes]}
    named = {
        "imagePath": f"{path.stem}.png",
        "imageData": None,
        "imageHeight": 30,
        "imageWidth": 40,
    }
    write(path, json.dumps(content | named | others))


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    return tmp_path


CAT = ("cat", [1, 2, 11, 22])


@pytest.mark.parametrize(
    ("drawn", "box"),
    [
        (shape(), [1, 2, 11, 22]),
        (shape(points=[(11, 2), (1, 22)]), [1, 2, 11, 22]),
        (shape(points=[(11, 22), (1, 2)]), [1, 2, 11, 22]),
        (shape(points=[(1, 2), (11, 2), (11, 22), (1, 22)]), [1, 2, 11, 22]),
        (shape("polygon", [(5, 1), (9.5, 8), (2, 6)]), [2, 1, 9.5, 8]),
        (shape(None, [(5, 1), (9.5, 8), (2, 6)]), [2, 1, 9.5, 8]),
        (shape("circle", [(10, 12), (13, 16)]), [5, 7, 15, 17]),
        (shape("mask", [(3, 4), (8, 9)], mask="iVBO"), [3, 4, 8, 9]),
        (shape("oriented_rectangle", [(5, 1), (9, 5), (5, 9), (1, 5)]), [1, 1, 9, 9]),
    ],
)
def test_shapes(root, drawn, box):
    page(root / "a.json", drawn)
    assert parts(labelme, root) == ["."]
    assert sound(labelme, root, ".") == {"a.png": [("cat", box)]}


def test_points_and_lines_are_no_boxes(root, caplog):
    page(root / "a.json", shape("line"), shape("point", [(1, 2)]), shape())
    page(root / "b.json", shape("linestrip"), shape("line"))
    write(root / "settings.json", "{}")
    assert sound(labelme, root, ".") == {"a.png": [CAT], "b.png": []}
    (line,) = warnings(caplog)
    assert all(text in line for text in ("line: 2", "point: 1", "linestrip: 1", "JSON files: 1"))


@pytest.mark.parametrize(
    "path", ["../images/x.png", r"C:\me\images\x.png", "/home/me/x.png", "x.png", "%78.png"]
)
def test_an_image_elsewhere(tmp_path, path):
    picture(tmp_path / "images/x.png")
    page(tmp_path / "labels/1.json", shape(), imagePath=path)
    assert parts(labelme, tmp_path) == ["labels"]
    assert sound(labelme, tmp_path, "labels") == {"images/x.png": [CAT]}


def test_the_image_beside_the_file_comes_first(root):
    """Files are copied and renamed, and what is in them stays."""
    page(root / "a.json", shape(), imagePath="b.png")
    page(root / "b.json", imagePath=r"..\gone.png")
    assert sound(labelme, root, ".") == {"a.png": [CAT], "b.png": []}


def test_folders_are_parts(tmp_path):
    for folder in ("train", "val/indoors"):
        picture(tmp_path / folder / "a.png")
        page(tmp_path / folder / "a.json", shape())
    assert parts(labelme, tmp_path) == ["train", "val"]
    assert [*sound(labelme, tmp_path, "val")] == ["val/indoors/a.png"]


@pytest.mark.parametrize("above, named", [(["train", "val"], ["train", "val"]), (["."], ["."])])
def test_folders_in_parts_are_read_together(tmp_path, above, named):
    """Folders of two cameras are no parts: nobody wants one of them alone."""
    for folder in (f"{part}/{camera}" for part in above for camera in ("cam1", "cam2")):
        picture(tmp_path / folder / "a.png")
        page(tmp_path / folder / "a.json", shape())
    assert parts(labelme, tmp_path) == named
    images = [image for part in named for image in sound(labelme, tmp_path, part)]
    assert len(images) == 2 * len(above)


def test_a_part_behind_many_folders_is_found(tmp_path):
    for folder in [f"train/{day:02}" for day in range(60)] + ["val/00"]:
        for name in "abcde":
            page(tmp_path / f"{folder}/{name}.json", shape())
    assert parts(labelme, tmp_path) == ["train", "val"]


def test_an_image_that_is_only_in_the_file(root):
    page(root / "c.json", shape(), imageData="iVBORw0KGgo=")
    page(root / "d.json", shape())
    page(root / "a.json", shape())
    labelled, faults = read(labelme, root, ".")
    assert [*boxes(labelled, root)] == ["a.png"]
    assert "c.json" in faults[0] and "labelme_export_json" in faults[0]
    assert "d.png: image file not found, named by" in faults[1] and len(faults) == 2


def test_two_files_of_one_image(root):
    page(root / "a.json", shape())
    page(root / "1.json", imagePath="a.png")
    labelled, faults = read(labelme, root, ".")
    assert boxes(labelled, root) == {"a.png": [CAT]}
    assert len(faults) == 1 and "'1.json' and 'a.json' would be the same image" in faults[0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (7, "an entry of 'shapes' is not an object but 7"),
        (shape(points=[(1, 2)]), "a rectangle has points [[1, 2]]"),
        (shape("polygon"), "not 3 or more x and y"),
        (shape(points=[(1, 2, 3), (4, 5, 6)]), "not 2 or more x and y"),
        (shape(points=[(1, "2"), (4, 5)]), "not 2 or more x and y"),
        (shape(points=[(1, 10**400), (4, 5)]), "not 2 or more x and y"),
        (shape(label=None), "a shape has the label None"),
        (shape(label=" "), "a shape has the label ' '"),
    ],
)
def test_a_wrong_shape_is_left_out_alone(root, wrong, why):
    page(root / "a.json", wrong, shape())
    labelled, faults = read(labelme, root, ".")
    assert boxes(labelled, root) == {"a.png": [CAT]}
    assert len(faults) == 1 and why in faults[0] and "a.json" in faults[0]


def test_a_wrong_file_is_left_out_alone(root):
    page(root / "a.json", shape())
    write(root / "b.json", "{")
    write(root / "c.json", '{"imagePath": "b.png", "shapes": 3}')
    labelled, faults = read(labelme, root, ".")
    assert boxes(labelled, root) == {"a.png": [CAT]}
    assert "not readable as JSON" in faults[0] and "'shapes' is not a list" in faults[1]


def test_what_is_not_labelme(root):
    write(root / "coco.json", '{"images": [], "annotations": [], "categories": []}')
    assert parts(labelme, root) == []
    assert "no folder with JSON files of LabelMe" in refused(labelme, root, ".")
    assert "no folder with JSON files of LabelMe" in refused(labelme, root, "train")


def test_what_is_left_out_is_said_once_though_a_file_is_read_for_each_part(root, caplog):
    page(root / "a.json", shape("line"), shape())
    sound(labelme, root, ".")
    sound(labelme, root, ".")
    page(root / "a.json", shape("line"), shape("line"), shape())
    sound(labelme, root, ".")
    assert [line.rpartition("(")[2] for line in warnings(caplog)] == ["line: 1)", "line: 2)"]
