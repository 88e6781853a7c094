import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detcenter.data import COCODataset, DataError
from detcenter.data.layouts.coco_records import _all_plain, read_records


def box(number, image, category, bbox, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox} | more


@pytest.fixture
def content():
    return {
        "images": [
            {"id": 30, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 4, "file_name": "sub/b.png"},
            {"id": 0, "file_name": "c.png", "width": 40, "height": 30},
        ],
        "annotations": [
            box(1, 30, 90, [1, 2, 10, 20], area=120.5, iscrowd=0),
            box(2, 30, 0, [5, 5, 20.5, 10], iscrowd=1, area=9.0),
            box(3, 4, 7, [30, 20, 100, 100]),
        ],
        "categories": [
            {"id": 90, "name": "last"},
            {"id": 0, "name": "zero"},
            {"id": 7, "name": "seven"},
        ],
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "c.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    return tmp_path


def load(folder, content):
    file = folder / "boxes.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return COCODataset(folder, file)


def error(folder, content):
    with pytest.raises(DataError) as caught:
        load(folder, content)
    fault = caught.value.args[0]
    assert "\n" not in str(fault) and "boxes.json" in str(fault)
    return str(fault)


def test_category_ids_with_zero_and_gaps(folder, content):
    data = load(folder, content)
    assert data.category_ids == [0, 7, 90]
    assert data.classes == ["zero", "seven", "last"]
    labels = [data.category_ids[k - 1] for a in data.annotations for k in a["labels"]]
    assert labels == [90, 0, 7]


def test_boxes_and_flags(folder, content):
    first = load(folder, content).annotations[0]
    assert first["image_id"] == 30 and first["path"] == folder / "a.png"
    assert first["boxes"].tolist() == [[1, 2, 11, 22], [5, 5, 25.5, 15]]
    assert first["iscrowd"].tolist() == [False, True]
    assert first["area"].tolist() == [120.5, 9.0]
    assert not first["difficult"].any()


def test_missing_size_area_and_crowd(folder, content):
    second = load(folder, content).annotations[1]
    assert (second["width"], second["height"]) == (40, 30)
    assert second["boxes"].tolist() == [[30, 20, 40, 30]]
    assert second["area"].tolist() == [10000]  # as annotated, before clipping
    assert second["iscrowd"].tolist() == [False]


def test_crowd_is_not_in_targets_and_negatives_stay(folder, content):
    data = load(folder, content)
    assert len(data) == 3
    assert data[0][1]["boxes"].tolist() == [[1, 2, 11, 22]]
    assert data[0][1]["labels"].tolist() == [3]
    assert data[2][1]["boxes"].shape == (0, 4) and data[2][1]["image_id"] == 0


def test_as_pycocotools_reads_it(folder, content):
    data = load(folder, content)
    reference = COCO(str(folder / "boxes.json"))
    for annotation in data.annotations:
        found = reference.loadAnns(reference.getAnnIds(imgIds=[annotation["image_id"]]))
        assert [a["category_id"] for a in found] == [
            data.category_ids[k - 1] for k in annotation["labels"]
        ]
        corners = np.array([a["bbox"][:2] for a in found]).reshape(-1, 2)
        np.testing.assert_allclose(annotation["boxes"][:, :2], corners)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"images"', "\x00"])
def test_not_coco(folder, text):
    error(folder, text)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_list(folder, content, key):
    del content[key]
    assert f"'{key}'" in error(folder, content)


@pytest.mark.parametrize(
    "kind, index, key",
    [
        ("images", 0, "id"),
        ("images", 0, "file_name"),
        ("annotations", 0, "bbox"),
        ("annotations", 0, "image_id"),
        ("annotations", 0, "category_id"),
        ("categories", 1, "name"),
    ],
)
def test_missing_key(folder, content, kind, index, key):
    del content[kind][index][key]
    message = error(folder, content)
    assert f"'{key}'" in message and kind in message


@pytest.mark.parametrize("key, value", [("image_id", 31), ("category_id", 1), ("image_id", [30])])
def test_unknown_reference(folder, content, key, value):
    content["annotations"][1][key] = value
    message = error(folder, content)
    assert "annotation 2" in message and key in message and str(value) in message


@pytest.mark.parametrize("bbox", [[1, 2, 3], None, "1 2 3 4", [1, 2, 3, "4"], [1, 2, 3, None]])
def test_bad_box(folder, content, bbox):
    content["annotations"][2]["bbox"] = bbox
    assert "annotation 3" in error(folder, content)


def test_ids_must_be_integers_and_unique(folder, content):
    content["images"][1]["id"] = 30
    assert "30 occurs twice" in error(folder, content)
    content["images"][1]["id"] = 1.5
    assert "1.5 is not an integer or text" in error(folder, content)


def test_missing_image_names_the_path(folder, content):
    (folder / "sub" / "b.png").unlink()
    assert str(folder / "sub" / "b.png") in error(folder, content)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: annotation file not found"):
        COCODataset(tmp_path, tmp_path / "none.json")


def test_categories_of_one_name_are_told_apart_by_their_id(folder, content):
    content["categories"][0]["name"] = "zero"
    assert load(folder, content).classes == ["zero (0)", "seven", "zero (90)"]


POLYGONS = {
    "of COCO": [[1, 2.5, -3e-2, 4], [5, 6, 7, 8, 9, 10]],
    "none": [],
    "nested": [[[1, 2]], []],
    "a mask": {"counts": [1, 2, 3], "size": [30, 40]},
    "a mask in short": {"counts": 'a"segmentation":[1]\\', "size": [30, 40]},
    "text": '"segmentation": [1, 2]',
    "nothing": None,
}


@pytest.mark.parametrize("kind", POLYGONS)
@pytest.mark.parametrize("indent", [None, 1])
def test_polygons_change_nothing(kind, indent, coco):
    coco.boxes[0]["area"] = 12.5
    coco.write()
    plain = COCODataset(coco.root / "images", coco.file)
    for box in coco.boxes:
        box["segmentation"] = POLYGONS[kind]
    coco.boxes[1] = {"segmentation": POLYGONS[kind]} | coco.boxes[1]
    coco.categories[0]["name"] = '"segmentation": [3]'
    content = {"images": coco.images, "annotations": coco.boxes, "categories": coco.categories}
    coco.file.write_text(json.dumps(content, indent=indent))
    found = COCODataset(coco.root / "images", coco.file)
    assert found.classes == ['"segmentation": [3]']
    for one, other in zip(found.annotations, plain.annotations, strict=True):
        assert {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}
    assert read_records(coco.file, []).boxes[0]["segmentation"] == POLYGONS[kind]


@pytest.mark.parametrize("end", ["", "]", ", 2", "]}", '], "area"'])
def test_json_that_ends_in_a_polygon(end, coco):
    coco.write()
    text = coco.file.read_text().replace('{"id": 3, "image_id"', '{"segmentation": [[1, 2], [3')
    start = text.index('"segmentation"') + len('"segmentation": [[1, 2], [3')
    coco.file.write_text(text[:start] + end)
    with pytest.raises(DataError) as caught:
        COCODataset(coco.root / "images", coco.file)
    with pytest.raises(ValueError) as plain:
        json.loads(coco.file.read_text())
    assert str(plain.value) in str(caught.value)


def test_one_odd_box_changes_no_other(coco):
    """Where all are plain they are looked at together, otherwise each by itself."""
    rng = np.random.default_rng(0)
    coco.boxes = [
        {
            "id": n,
            "image_id": int(rng.integers(1, 4)),
            "category_id": 5,
            "bbox": rng.uniform(1, 9, 4).tolist(),
            "iscrowd": [0, 1, True, 0.0, None][n % 5],
            "area": [3, 2.5, -1, "none", None, 10**40, np.nan][n % 7],
        }
        for n in range(70)
    ]
    coco.write()
    plain = COCODataset(coco.root / "images", coco.file)
    assert _all_plain(coco.boxes, {1: {}, 2: {}, 3: {}}, {5: {}})
    for odd in (
        {"id": 7, "image_id": 1, "category_id": 6, "bbox": [1, 2, 3, 4]},
        {"id": 7, "image_id": [1], "category_id": 5, "bbox": [1, 2, 3, 4]},
        {"id": 7, "image_id": 1.0, "category_id": 5, "bbox": [1, 2, 3, 4]},
        {"id": 7, "image_id": True, "category_id": 5, "bbox": [1, 2, 3, 4]},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3]},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 10**40]},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, True]},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": "1234"},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": 2},
        {"id": 7, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], "iscrowd": [0]},
        {"id": 7, "image_id": 1, "category_id": 5},
        dict(coco.boxes[8]),
        5,
    ):
        made = coco.boxes
        coco.boxes = [*made[:30], odd, *made[30:]]
        coco.write()
        coco.boxes, faults = made, []
        found = COCODataset(coco.root / "images", coco.file, faults=faults)
        assert len(faults) == 1, odd
        for one, other in zip(found.annotations, plain.annotations, strict=True):
            assert {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}
