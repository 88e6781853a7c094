import logging

import numpy as np
import pytest
from PIL import Image

from detcenter.data import DataError, VOCDataset, find_classes

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def thing(name, box, difficult=0):
    return OBJECT.format(name=name, box=box, difficult=difficult)


def write(root, name, *objects, size=SIZE, filename=None, image=".jpg"):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    filename = f"{name}{image}" if filename is None else filename
    page = f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{name}.xml").write_text(page)
    if image:
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}{image}")


def list_images(root, image_set, *lines):
    (root / "ImageSets" / "Main" / f"{image_set}.txt").write_text("\n".join(lines))


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "one", thing("dog", (1, 1, 40, 30)), thing("cat", (11, 6, 20, 15), 1))
    write(tmp_path, "two", thing("ant", (3, 4, 5, 6)), image=".png")
    write(tmp_path, "three")
    list_images(tmp_path, "train", "one", "", "three", "")
    list_images(tmp_path, "val", "two")
    return tmp_path


def error(root, **options):
    with pytest.raises(DataError) as caught:
        VOCDataset(root, **({"image_set": "train"} | options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_annotations(root):
    data = VOCDataset(root, "train")
    assert len(data) == 2 and [a["image_id"] for a in data.annotations] == [1, 2]
    first = data.annotations[0]
    # 1-based and inclusive: the whole image is (1, 1, 40, 30) in the file.
    assert first["boxes"].tolist() == [[0, 0, 40, 30], [10, 5, 20, 15]]
    assert first["area"].tolist() == [1200, 100]
    assert first["labels"].tolist() == [3, 2]
    assert first["difficult"].tolist() == [False, True]
    assert not first["iscrowd"].any()
    assert (first["width"], first["height"]) == (40, 30)
    assert first["path"] == root / "JPEGImages" / "one.jpg"
    assert data.annotations[1]["boxes"].shape == (0, 4)


def test_iou_is_the_devkits(root):
    a, b = (3, 4, 12, 13), (8, 9, 20, 21)
    write(root, "one", thing("dog", a), thing("dog", b))
    first, second = VOCDataset(root, "train").annotations[0]["boxes"]

    def iou(a, b, one):
        width = min(a[2], b[2]) - max(a[0], b[0]) + one
        height = min(a[3], b[3]) - max(a[1], b[1]) + one
        sizes = [(box[2] - box[0] + one) * (box[3] - box[1] + one) for box in (a, b)]
        return width * height / (sum(sizes) - width * height)

    assert iou(first, second, 0) == pytest.approx(iou(a, b, 1))


def test_classes_are_found_in_all_annotations(root):
    assert find_classes(root) == ["ant", "cat", "dog"]
    assert (
        VOCDataset(root, "train").classes == VOCDataset(root, "val").classes == find_classes(root)
    )


def test_given_classes_give_the_order(root):
    data = VOCDataset(root, "train", classes=["dog", "cat", "ant"])
    assert data.annotations[0]["labels"].tolist() == [1, 2]


def test_difficult_is_left_out_of_targets(root):
    assert VOCDataset(root, "train")[0][1]["labels"].tolist() == [3]
    assert VOCDataset(root, "train", keep_difficult=True)[0][1]["labels"].tolist() == [3, 2]


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 9, 5), (5, 5, 5, 5), (9, 5, 5, 9)])
def test_boxes_without_area_as_annotated(root, box, caplog):
    write(root, "one", thing("dog", box), thing("cat", (1, 1, 2, 2)))
    with caplog.at_level(logging.WARNING, logger="detcenter"):
        data = VOCDataset(root, "train")
    assert data.annotations[0]["labels"].tolist() == [2]
    assert "one.jpg" in caplog.text


def test_class_specific_sets(root):
    list_images(root, "dog_train", "one  1", "two -1", "three  0")
    names = [a["path"].stem for a in VOCDataset(root, "dog_train").annotations]
    assert names == ["one", "three"]


@pytest.mark.parametrize(
    "size",
    ["", "<size><width>0</width><height>0</height></size>", SIZE.replace("40", "forty")],
)
def test_missing_size_comes_from_the_image(root, size):
    write(root, "one", thing("dog", (1, 1, 90, 90)), size=size)
    first = VOCDataset(root, "train").annotations[0]
    assert (first["width"], first["height"]) == (40, 30)
    assert first["boxes"].tolist() == [[0, 0, 40, 30]]


def test_a_size_that_a_box_contradicts_comes_from_the_image(root):
    swapped = "<size><width>30</width><height>40</height></size>"
    write(root, "one", thing("dog", (31, 1, 40, 30)), size=swapped)
    assert VOCDataset(root, "train").annotations[0]["boxes"].tolist() == [[30, 0, 40, 30]]


def test_file_name_may_be_stale_or_missing(root):
    write(root, "one", thing("dog", (1, 1, 9, 9)), filename="IMG_1.JPG")
    write(root, "three", thing("dog", (1, 1, 9, 9)), filename="")
    stems = [a["path"].name for a in VOCDataset(root, "train").annotations]
    assert stems == ["one.jpg", "three.jpg"]


def test_file_name_is_heeded_where_no_image_has_the_annotations_name(root):
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "other.png")
    write(root, "one", thing("dog", (1, 1, 9, 9)), filename="other.png")
    # a stale <filename>, of a copied annotation say, does not win over the image of that name
    assert VOCDataset(root, "train").annotations[0]["path"].name == "one.jpg"
    (root / "JPEGImages" / "one.jpg").unlink()
    assert VOCDataset(root, "train").annotations[0]["path"].name == "other.png"


def test_names_with_spaces_and_a_class_column(root):
    (root / "Annotations" / "a b.xml").write_text((root / "Annotations" / "one.xml").read_text())
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "a b.jpg")
    lists = root / "ImageSets" / "Main"
    (lists / "dog_train.txt").write_text("a b  1\none -1\n\n one 0\n")
    names = [a["path"].name for a in VOCDataset(root, "dog_train").annotations]
    assert names == ["a b.jpg", "one.jpg"]
    (lists / "latin.txt").write_bytes("ä".encode("latin-1"))
    with pytest.raises(DataError, match="latin.txt: not a text file in UTF-8"):
        VOCDataset(root, "latin")


def test_coordinates_may_be_fractions(root):
    write(root, "one", thing("dog", ("1.5", " 2.25 ", "8.5", "9.0")))
    assert VOCDataset(root, "train").annotations[0]["boxes"].tolist() == [[0.5, 1.25, 8.5, 9.0]]


def test_unknown_class(root):
    message = error(root, classes=["dogs", "cat"])
    assert "one.xml" in message and "'dog'" in message and "did you mean 'dogs'" in message


def test_missing_set_names_the_others(root):
    message = error(root, image_set="test")
    assert "test.txt" in message and "train, val" in message


def test_missing_root(tmp_path):
    message = error(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message and "JPEGImages" in message


def test_missing_annotation(root):
    (root / "Annotations" / "one.xml").unlink()
    assert str(root / "Annotations" / "one.xml") in error(root)


def test_missing_image(root):
    (root / "JPEGImages" / "one.jpg").unlink()
    assert str(root / "JPEGImages" / "one.jpg") in error(root)


ENTITY = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'


@pytest.mark.parametrize("text", ["", "<annotation>\n<object>\n", "{}", ENTITY])
def test_broken_xml(root, text):
    (root / "Annotations" / "one.xml").write_text(text)
    assert str(root / "Annotations" / "one.xml") in error(root)


@pytest.mark.parametrize(
    "objects, key",
    [
        (thing("dog", ("x", 1, 2, 3)), "xmin"),
        (thing("dog", (1, 1, 2, "")), "ymax"),
        (thing("", (1, 1, 2, 3)), "name"),
        ("<object><name>dog</name></object>", "bndbox"),
    ],
)
def test_bad_object(root, objects, key):
    write(root, "one", objects)
    message = error(root, classes=["dog"])
    assert str(root / "Annotations" / "one.xml") in message and f"<{key}>" in message


def test_no_objects_anywhere(tmp_path):
    write(tmp_path, "one")
    list_images(tmp_path, "train", "one")
    assert "no annotated objects" in error(tmp_path)


def test_nan_is_no_coordinate(root):
    write(root, "one", thing("dog", ("nan", 1, 2, 3)), thing("cat", (1, 1, 2, 2)))
    boxes = VOCDataset(root, "train").annotations[0]["boxes"]
    np.testing.assert_array_equal(boxes, [[0, 0, 2, 2]])
