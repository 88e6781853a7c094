"""What stays of an annotation when its box or its class is changed, in each layout."""

from pathlib import Path
from xml.etree.ElementTree import fromstring, tostring

import numpy as np
import pytest

from detcenter.data.layouts.corrected.changes import Correction, NotThere, positions
from detcenter.data.layouts.corrected.coco import correct_coco
from detcenter.data.layouts.corrected.voc import correct_voc
from detcenter.data.layouts.corrected.yolo import corrected_yolo
from detcenter.data.layouts.voc_xml import read_objects
from detcenter.data.layouts.yolo_labels import read_rows

IMAGE = {"image_id": 1, "path": Path("a.jpg"), "width": 100, "height": 50}


def test_of_equal_boxes_each_correction_means_another():
    boxes = np.array([[1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 9], [-5, 1, 120, 9]], float)
    names = ["cat", "dog", "cat", "cat"]
    remove = Correction([1, 1, 9, 9], "cat", None, None)
    clipped = Correction([0, 1, 100, 9], "cat", None, None)
    add = Correction(None, None, [1, 1, 2, 2], "cat")
    assert positions(IMAGE, boxes, names, [remove, add, remove, clipped]) == [0, None, 2, 3]
    with pytest.raises(NotThere, match=r"no box \[1, 1, 9, 9\] of class 'cat'"):
        positions(IMAGE, boxes, names, [remove] * 3)


def coco():
    polygon = [[10, 10, 30, 10, 30, 20]]
    return [
        {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 10], "area": 99}
        | {"segmentation": polygon, "keypoints": [1], "num_keypoints": 1, "iscrowd": 0, "own": "x"},
        {"id": 9, "image_id": 2, "category_id": 4, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0},
    ]


def corrected_coco(*corrections):
    records = coco()
    content = {"annotations": [*records], "info": "stays"}
    correct_coco(content, records[:1], IMAGE, {"cat": 3, "dog": 4}, corrections)
    assert content["info"] == "stays" and content["annotations"][-1] is not records[0]
    return content["annotations"]


def test_coco_with_another_class_keeps_all_else():
    first, _ = corrected_coco(Correction([10, 10, 30, 20], "cat", [10, 10, 30, 20], "dog"))
    assert first == coco()[0] | {"category_id": 4}


def test_coco_that_is_moved_has_no_polygon():
    first, second = corrected_coco(Correction([10, 10, 30, 20], "cat", [12, 10, 30, 24], "cat"))
    assert first == {
        "id": 7,
        "image_id": 1,
        "category_id": 3,
        "bbox": [12, 10, 18, 14],
        "area": 252,
        "segmentation": [],
        "iscrowd": 0,
        "own": "x",
    }
    assert second == coco()[1]


def test_coco_removed_and_added():
    assert corrected_coco(Correction([10, 10, 30, 20], "cat", None, None)) == coco()[1:]
    *before, new = corrected_coco(Correction(None, None, [1, 2, 4, 8], "dog"))
    assert before == coco()
    assert new == {
        "id": 10,
        "image_id": 1,
        "category_id": 4,
        "bbox": [1, 2, 3, 6],
        "area": 18,
        "segmentation": [],
        "iscrowd": 0,
    }


PAGE = """<annotation><filename>a.jpg</filename><object><name>cat</name><pose>Left</pose>
<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>
<bndbox><xmin>41</xmin><ymin>11</ymin><xmax>60</xmax><ymax>20</ymax></bndbox></object></annotation>"""


def corrected_voc(*corrections, page=PAGE):
    tree = fromstring(page)
    classes = ["cat", "dog"]
    correct_voc(tree, read_objects(tree, "file", classes, []), classes, IMAGE, corrections)
    again = fromstring(tostring(tree))
    assert again.findtext("filename") == "a.jpg"
    found = read_objects(again, "file", classes, faults := [])
    assert not faults
    return again, [(classes[x.label - 1], x.box) for x in found]


def test_voc_boxes_that_share_an_object_keep_their_class():
    tree, found = corrected_voc(Correction([10, 10, 30, 20], "cat", [10, 10, 30, 20], "dog"))
    assert sorted(found) == [("cat", [40, 10, 60, 20]), ("dog", [10, 10, 30, 20])]
    assert [x.text for x in tree.iter("pose")] == ["Left", "Left"]


def test_voc_removed_one_after_the_other():
    first = Correction([10, 10, 30, 20], "cat", None, None)
    second = Correction([40, 10, 60, 20], "cat", None, None)
    assert corrected_voc(first)[1] == [("cat", [40, 10, 60, 20])]
    tree, found = corrected_voc(first, second)
    assert found == [] and tree.find("object") is None


def test_voc_in_whole_pixels_that_are_read_as_a_box():
    new = Correction(None, None, [5.4, 6.6, 20.5, 30.2], "dog")
    thin = Correction([10, 10, 30, 20], "cat", [8.1, 8.2, 8.4, 20.0], "cat")
    _, found = corrected_voc(new, thin)
    assert ("dog", [5, 7, 20, 30]) in found and ("cat", [8, 8, 10, 20]) in found


LABELS = "0 0.2 0.3 0.2 0.2\n\n1 0.5 0.2 0.9 0.2 0.9 0.8\n"


def corrected_label(tmp_path, *corrections):
    file = tmp_path / "a.txt"
    file.write_text(LABELS)
    lines = LABELS.splitlines()
    return corrected_yolo(read_rows(file, []), lines, ["cat", "dog"], False, IMAGE, corrections)


def test_yolo_polygons_stay_until_they_are_moved(tmp_path):
    box = [50, 10, 90, 40]
    other = corrected_label(tmp_path, Correction(box, "dog", box, "cat"))
    assert other == "0 0.2 0.3 0.2 0.2\n\n0 0.5 0.2 0.9 0.2 0.9 0.8\n"
    moved = corrected_label(tmp_path, Correction(box, "dog", [60, 10, 80, 40], "dog"))
    assert moved == "0 0.2 0.3 0.2 0.2\n\n1 0.6 0.2 0.8 0.2 0.8 0.8 0.6 0.8\n"


def test_yolo_removed_and_added(tmp_path):
    remove = Correction([10, 10, 30, 20], "cat", None, None)
    add = Correction(None, None, [0, 0, 100, 50], "cat")
    polygon = "1 0.5 0.2 0.9 0.2 0.9 0.8"
    assert corrected_label(tmp_path, remove, add) == f"\n{polygon}\n0 0 0 1 0 1 1 0 1\n"


def test_yolo_key_points_stay_and_are_unseen_of_a_new_box(tmp_path):
    file, text = tmp_path / "a.txt", "0\t0.2\t0.3\t0.2\t0.2\t0.2\t0.3\t2\n"
    file.write_text(text)
    changes = [
        Correction([10, 10, 30, 20], "cat", [10, 10, 40, 20], "dog"),
        Correction(None, None, [0, 0, 100, 50], "cat"),
    ]
    names = ["cat", "dog"]
    found = corrected_yolo(read_rows(file, []), text.splitlines(), names, True, IMAGE, changes)
    assert found == "1 0.25 0.3 0.3 0.2 0.2 0.3 2\n0 0.5 0.5 1 1 0 0 0\n"


def test_yolo_lines_with_tabs(tmp_path):
    file, text = tmp_path / "a.txt", "0\t0.2\t0.3\t0.2\t0.2\n"
    file.write_text(text)
    change = Correction([10, 10, 30, 20], "cat", [10, 10, 30, 20], "dog")
    names = ["cat", "dog"]
    found = corrected_yolo(read_rows(file, []), text.splitlines(), names, False, IMAGE, [change])
    assert found == "1 0.2\t0.3\t0.2\t0.2\n"
