"""Exports of Label Studio, as JSON and as JSON-MIN."""

import json
import math

import pytest

from detcenter.data.layouts import label_studio
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, warnings, write

WHOLE = {"original_width": 40, "original_height": 30, "image_rotation": 0}


def region(x=10, y=20, width=30, height=40, rotation=0, label="cat", **others):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    value |= {"rectanglelabels": [label]}
    return {"id": "r1", "type": "rectanglelabels", "value": value, **WHOLE, **others}


def task(*annotations, image="/data/upload/3/8c0b5f3a-a.jpg", **others):
    return {"id": 1, "data": {"image": image}, "annotations": [*annotations], **others}


def drawn(*results, **others):
    return {"id": 9, "was_cancelled": False, "result": [*results], **others}


@pytest.fixture
def root(tmp_path):
    picture(tmp_path / "a.jpg")
    return tmp_path


def export(root, *tasks, name="project.json"):
    write(root / name, json.dumps([*tasks]))


CAT = ("cat", [4, 6, 16, 18])


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/3/8c0b5f3a-a.jpg",
        "/data/upload/8c0b5f3a-a.jpg",
        "/data/local-files/?d=mine/photos/a.jpg",
        "/data/local-files/?d=mine%5Cphotos%5Ca.jpg",
        "s3://bucket/photos/a.jpg",
        "https://example.com:8080/photos/a.jpg?signature=1&expires=2",
        r"C:\photos\a.jpg",
        "a.jpg",
    ],
)
def test_names_of_images(root, image):
    export(root, task(drawn(region()), image=image))
    assert parts(label_studio, root) == ["project.json"]
    assert sound(label_studio, root, "project.json") == {"a.jpg": [CAT]}


def test_an_upload_that_kept_its_name(tmp_path):
    picture(tmp_path / "media/upload/3/8c0b5f3a-a.jpg")
    picture(tmp_path / "a.jpg", 20, 20)
    export(tmp_path, task(drawn(region()), image="/data/upload/3/8c0b5f3a-a.jpg"))
    (tmp_path / "media/upload/3/8c0b5f3a-a.jpg").rename(tmp_path / "8c0b5f3a-a.jpg")
    assert [*sound(label_studio, tmp_path, "project.json")] == ["8c0b5f3a-a.jpg"]


def test_two_uploads_of_one_name(root):
    tasks = [task(drawn(region()), image=f"/data/upload/{k}{k * 7}-a.jpg") for k in "12"]
    export(root, *tasks)
    labelled, faults = read(label_studio, root, "project.json")
    assert labelled.annotations == []
    assert len(faults) == 1 and "would be the same image" in faults[0]


def test_an_upload_that_is_not_here(root):
    export(root, task(drawn(region()), image="/data/upload/3/8c0b5f3a-b.jpg"))
    _, (fault,) = read(label_studio, root, "project.json")
    assert fault == f"{root}/data/upload/3/8c0b5f3a-b.jpg: image file not found, named by " + str(
        root / "project.json"
    )


def polygon(points, kind="polygonlabels"):
    return {"id": "r2", "type": kind, "value": {"points": points, kind: ["dog"]}, **WHOLE}


def ellipse(**value):
    return region() | {"type": "ellipselabels", "value": value | {"ellipselabels": ["cat"]}}


@pytest.mark.parametrize(
    ("result", "box"),
    [
        (region(), CAT),
        (region(original_width=400, original_height=300), ("cat", [40, 60, 160, 180])),
        (polygon([[10, 10], [50, 20], [25, 50]]), ("dog", [4, 3, 20, 15])),
        (ellipse(x=50, y=50, radiusX=25, radiusY=10, rotation=0), ("cat", [10, 12, 30, 18])),
        (ellipse(x=50, y=50, radiusX=25, radiusY=10, rotation=90), ("cat", [17, 5, 23, 25])),
        (region(label="cat") | {"original_width": None}, CAT),
    ],
)
def test_shapes(tmp_path, result, box):
    width, height = result["original_width"] or 40, result["original_height"]
    picture(tmp_path / "a.jpg", width, height)
    export(tmp_path, task(drawn(result)))
    assert sound(label_studio, tmp_path, "project.json") == {"a.jpg": [box]}


@pytest.mark.parametrize("angle", [90, 37.5, 270, 345.4, -20])
def test_turned_about_the_top_left_corner_clockwise(root, angle):
    """By complex numbers: turning is a multiplication, clockwise as y points down."""
    export(root, task(drawn(region(50, 40, 10, 20, angle))))
    ((_, box),) = sound(label_studio, root, "project.json")["a.jpg"]
    turn = complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    corners = [complex(20, 12) + side * turn for side in (0, 4, 4 + 6j, 6j)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    assert box == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-3)


def test_a_quarter_turn_by_hand(root):
    export(root, task(drawn(region(50, 40, 10, 20, 90))))
    assert sound(label_studio, root, "project.json") == {"a.jpg": [("cat", [14, 12, 20, 16])]}


def test_shape_and_labels_as_results_of_their_own(root):
    value = {key: region()["value"][key] for key in ("x", "y", "width", "height", "rotation")}
    results = [
        {"id": "r", "type": "rectangle", "value": value, **WHOLE},
        {"id": "r", "type": "labels", "value": value | {"labels": ["cat", "pet"]}, **WHOLE},
        {"id": "r", "type": "choices", "value": value | {"choices": ["blurred"]}, **WHOLE},
        {"id": "c", "type": "choices", "value": {"choices": ["indoors"]}},
        {"from_id": "r", "to_id": "s", "type": "relation"},
    ]
    export(root, task(drawn(*results)))
    assert sound(label_studio, root, "project.json") == {"a.jpg": [CAT, ("pet", CAT[1])]}


def test_who_annotated_and_who_did_not(tmp_path, caplog):
    for name in "abcde":
        picture(tmp_path / f"{name}.jpg")
    first, second = drawn(region()), drawn(region(label="dog"))
    cancelled = drawn(region(label="cow"), was_cancelled=True)
    export(
        tmp_path,
        task(cancelled, first, second, image="a.jpg"),
        task(drawn(), image="b.jpg"),
        task(cancelled, image="c.jpg"),
        task(image="d.jpg", predictions=[{"result": [region()]}]),
        {"id": 5, "data": {"image": "e.jpg"}, "completions": [first]},
    )
    found = sound(label_studio, tmp_path, "project.json")
    assert found == {"a.jpg": [CAT], "b.jpg": [], "e.jpg": [CAT]}
    (line,) = warnings(caplog)
    counts = ("further annotations of a task: 1", "skipped tasks: 1", "without annotation: 1")
    assert all(text in line for text in counts)


def test_json_min(root, caplog):
    picture(root / "b.jpg")
    box = {**region()["value"], "original_width": 40, "original_height": 30}
    turned = box | {"rotation": 90, "rectanglelabels": ["dog"]}
    shape = {key: value for key, value in box.items() if key != "rectanglelabels"}
    common = {"image": "/data/upload/1/8c0b5f3a-a.jpg", "id": 1, "annotator": 1}
    export(
        root,
        common | {"label": [turned], "annotation_id": 12},
        common
        | {"label": [box, turned], "annotation_id": 11, "fine": [shape | {"choices": ["x"]}]},
        {"image": "b.jpg", "id": 2, "annotator": 1, "annotation_id": 13, "weather": "sunny"},
        {"image": "c.jpg", "id": 3},
    )
    assert parts(label_studio, root) == ["project.json"]
    found = sound(label_studio, root, "project.json")
    assert found == {"a.jpg": [CAT, ("dog", [-8, 6, 4, 18])], "b.jpg": []}
    (line,) = warnings(caplog)
    assert "further annotations of a task: 1" in line and "without annotation: 1" in line


def test_regions_that_are_no_boxes(root, caplog):
    brush = {"id": "b", "type": "brushlabels", "value": {"rle": [1], "brushlabels": ["cat"]}}
    point = {"id": "k", "type": "keypointlabels", "value": {"x": 1, "y": 2, "width": 1}}
    export(root, task(drawn(region(), brush, point)))
    assert sound(label_studio, root, "project.json") == {"a.jpg": [CAT]}
    assert "no boxes: 2" in warnings(caplog)[0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (region(x="1"), "a region has x, y, sides and rotation ['1'"),
        (region(height=10**400), "not numbers"),
        (region(label=None), "has the labels [None]"),
        (region() | {"value": {"x": 1, "y": 2, "width": 3, "height": 4}}, "has the labels None"),
        (region(image_rotation=90), "an image that is turned in Label Studio"),
        (polygon([[1, 2], [3, 4]]), "a polygon has points [[1, 2], [3, 4]]"),
        (polygon([[1, 2], [3, 4], [5]]), "not three or more x and y"),
    ],
)
def test_a_wrong_region_is_left_out_alone(root, wrong, why):
    export(root, task(drawn(wrong | {"id": "w"}, region())))
    labelled, faults = read(label_studio, root, "project.json")
    assert boxes(labelled, root) == {"a.jpg": [CAT]}
    assert len(faults) == 1 and why in faults[0] and "project.json" in faults[0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (7, "not an object but 7"),
        (task(7, drawn(7, region()), image="gone.jpg"), "gone.jpg: image file not found, named by"),
        (task(drawn(region()), image="data:image/png;base64,iVBO"), "no file; write it out"),
        (task(drawn(region()), image=3), "task 1: no image is named"),
        (task(annotations=3), "'annotations' is not a list"),
        (task({"result": 3}), "'result' is not a list"),
    ],
)
def test_a_wrong_task_is_left_out_alone(root, wrong, why):
    export(root, wrong, task(drawn(region())))
    labelled, faults = read(label_studio, root, "project.json")
    assert boxes(labelled, root) == {"a.jpg": [CAT]}
    assert len(faults) == 1 and why in faults[0]


def test_what_is_no_export(root):
    write(root / "coco.json", '{"images": [], "annotations": [{"rectanglelabels": 1}]}')
    write(root / "list.json", "[1, 2]")
    write(root / "empty.json", "")
    write(root / "broken.json", '[{"rectanglelabels"')
    assert parts(label_studio, root) == ["broken.json"]
    assert "not readable as JSON" in refused(label_studio, root, "broken.json")
    assert "not a list of tasks" in refused(label_studio, root, "coco.json")
    assert "annotation file not found" in refused(label_studio, root, "../x.json")
