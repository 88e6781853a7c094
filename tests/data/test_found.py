"""Layouts as people have them, read by `data.format: auto`; counts are those of what was made."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from detcenter.data import DataError
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.parts import part_for, role_in
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.layouts import resolved
from tests.data.layouts import OBJECT, PAGE, picture


def xml(path, boxes=1, name="cat", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(OBJECT.format(name, 2, 3, 11 + k, 22) for k in range(boxes))
    path.write_text(PAGE.format(name="as it was called before", objects=objects), **options)


def json_of(path, images, categories=({"id": 1, "name": "cat"},)):
    """A COCO file; `images` are file names with their number of boxes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": k, "file_name": name, "width": 40, "height": 30}
        for k, name in enumerate(images, start=1)
    ]
    boxes = [
        {"id": 100 * k + n, "image_id": k, "category_id": 1, "bbox": [1, 2, 10 + n, 20]}
        for k, count in enumerate(images.values(), start=1)
        for n in range(count)
    ]
    content = {"images": rows, "annotations": boxes, "categories": categories}
    path.write_text(json.dumps(content))


def found(root, **options):
    """Images and boxes of both parts, by the names of images below the root."""
    parts, faults = read_parts(DataConfig(root=str(root), **options))
    assert not faults, faults
    return {
        part: {
            a["path"].relative_to(root).as_posix(): len(a["labels"]) for a in dataset.annotations
        }
        for part, dataset in parts.items()
    }


def voc_with_other_names(root):
    for part, names in (("train", "abc"), ("val", "de")):
        for name in names:
            picture(root / "photos" / f"{name}.JPG")
            picture(root / "masks" / f"{name}.png")  # of the same names, and no images of the set
            xml(root / "labels_xml" / f"{name}.xml", boxes=2)
        (root / f"{part}.txt").write_text("\n".join(names))
    return {"photos/a.JPG": 2, "photos/b.JPG": 2, "photos/c.JPG": 2}, {
        "photos/d.JPG": 2,
        "photos/e.JPG": 2,
    }


def xml_beside_images_in_parts(root):
    for part, names in (("train", "ab"), ("test", "ac")):  # an a of its own in each
        for name in names:
            picture(root / part / f"{name}.jpg")
            xml(root / part / f"{name}.xml", boxes=1 if part == "train" else 3)
    return {"train/a.jpg": 1, "train/b.jpg": 1}, {"test/a.jpg": 3, "test/c.jpg": 3}


def folders_in_parts(root):
    for part, name in (("train", "a"), ("valid", "a"), ("test", "b")):
        picture(root / "set" / part / "images" / f"{name}.png")
        xml(root / "set" / part / "annotations" / f"{name}.xml")
    return {"set/train/images/a.png": 1}, {"set/valid/images/a.png": 1}


def nested_voc(root):
    for camera in ("cam1", "cam2"):
        for name in ("a", "b"):
            picture(root / "JPEGImages" / camera / f"{name}.jpg")
            xml(root / "Annotations" / camera / f"{name}.xml", boxes=2, name=camera)
    sets = root / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "trainval.txt").write_text("cam1/a\ncam2/a\ncam2/b")
    (sets / "test.txt").write_text("cam1/b")
    return (
        {f"JPEGImages/{name}.jpg": 2 for name in ("cam1/a", "cam2/a", "cam2/b")},
        {"JPEGImages/cam1/b.jpg": 2},
    )


def lists_of_all_kinds(root):
    lines = [
        "a.jpg",
        "JPEGImages/b.jpg",
        "/home/somebody/VOC/JPEGImages/c.jpg",
        r"C:\data\VOC\JPEGImages\d.jpg",
        '"e"',
        "JPEGImages/f.jpg Annotations/f.xml",
        "g 1",
        "two words",
        "a 'name'",
        "h -1",  # not of the class that the list is for
    ]
    for name in [*"abcdefghi", "two words", "a 'name'"]:
        picture(root / "JPEGImages" / f"{name}.jpg")
        xml(root / "Annotations" / f"{name}.xml")
    sets = root / "ImageSets" / "Layout"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("\n".join(lines))
    (sets / "val.txt").write_text("'i.xml'\n")
    names = [*"abcdefg", "two words", "a 'name'"]
    return {f"JPEGImages/{name}.jpg": 1 for name in names}, {"JPEGImages/i.jpg": 1}


def images_beside_json(root):
    for name in ("a", ".hidden", "b"):
        picture(root / f"{name}.jpg")
    json_of(root / "my_train.json", {"a.jpg": 2, ".hidden.jpg": 1})
    json_of(root / "my_val.json", {"b.jpg": 1})
    return {"a.jpg": 2, ".hidden.jpg": 1}, {"b.jpg": 1}


def coco_of_2017(root):
    for part in ("train", "val"):
        picture(root / f"{part}2017" / "1.jpg")  # of one name in both
        json_of(root / "annotations" / f"instances_{part}2017.json", {"1.jpg": 1})
        json_of(root / "annotations" / f"person_keypoints_{part}2017.json", {"1.jpg": 1})
        (root / "annotations" / f"captions_{part}2017.json").write_text('{"images": []}')
    return {"train2017/1.jpg": 1}, {"val2017/1.jpg": 1}


def names_of_other_machines(root):
    for name in ("cam 1/ä.jpg", "cam 1/b.jpg", "c.jpg", "val/a%20b.jpg"):
        picture(root / "images" / name)
    images = {quote("cam 1/ä.jpg"): 1, r"cam 1\b.jpg": 2, "/home/somebody/set/images/c.jpg": 1}
    json_of(root / "train.json", images)
    json_of(root / "val.json", {"val/a%20b.jpg": 1})
    train = {"images/cam 1/ä.jpg": 1, "images/cam 1/b.jpg": 2, "images/c.jpg": 1}
    return train, {"images/val/a%20b.jpg": 1}


def roboflow(root):
    kind = {"id": 0, "name": "animals", "supercategory": "none"}
    cat = {"id": 1, "name": "cat", "supercategory": "animals"}
    for part in ("train", "valid", "test"):
        picture(root / part / f"{part}_jpg.rf.0123.jpg")
        file = root / part / "_annotations.coco.json"
        json_of(file, {f"{part}_jpg.rf.0123.jpg": 2}, [kind, cat])
    return {"train/train_jpg.rf.0123.jpg": 2}, {"valid/valid_jpg.rf.0123.jpg": 2}


def yolo(root):
    for part, names in (("train", "ab"), ("valid", "c")):
        for name in names:
            picture(root / part / "images" / f"{name}.jpg")
            label = root / part / "labels" / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("" if name == "b" else "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n")
    yaml = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, dog]\n"
    (root / "data.yaml").write_text(yaml)
    return {"train/images/a.jpg": 2, "train/images/b.jpg": 0}, {"valid/images/c.jpg": 2}


def table(root):
    rows = {
        "train": "a.jpg,40,30,cat,1,2,9,9\na.jpg,40,30,dog,3,4,9,9",
        "test": "b.jpg,40,30,cat,1,1,9,9",
    }
    for part, text in rows.items():
        header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        (root / f"{part}_labels.csv").write_text(header + text)
    for name in "ab":
        picture(root / "images" / f"{name}.jpg")
    return {"images/a.jpg": 2}, {"images/b.jpg": 1}


def labelme(root):
    for part, name in (("train", "a"), ("val", "b")):
        picture(root / part / f"{name}.jpg")
        shape = {"label": "cat", "shape_type": "rectangle", "points": [[9, 9], [1, 2]]}
        page = {"shapes": [shape] * 3, "imagePath": f"{name}.jpg", "imageData": None}
        size = {"imageWidth": 40, "imageHeight": 30}
        (root / part / f"{name}.json").write_text(json.dumps(page | size))
    return {"train/a.jpg": 3}, {"val/b.jpg": 3}


def label_studio(root):
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    region = {"type": "rectanglelabels", "original_width": 40, "original_height": 30}
    for part, name in (("train", "a"), ("val", "b")):
        picture(root / "images" / f"8c0b5f3a-{name}.jpg")
        task = {
            "id": 1,
            "data": {"image": f"/data/upload/3/8c0b5f3a-{name}.jpg"},
            "annotations": [{"was_cancelled": False, "result": [region | {"value": value}] * 2}],
        }
        (root / f"{part}.json").write_text(json.dumps([task]))
    return {"images/8c0b5f3a-a.jpg": 2}, {"images/8c0b5f3a-b.jpg": 2}


def cvat(root):
    box = '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="9" occluded="0"></box>'
    for part, name in (("train", "a"), ("val", "b")):
        picture(root / "images" / f"{name}.jpg")
        image = f'<image id="0" name="{name}.jpg" width="40" height="30">{box * 2}</image>'
        (root / f"{part}.xml").write_text(
            f"<annotations><version>1.1</version>{image}</annotations>"
        )
    return {"images/a.jpg": 2}, {"images/b.jpg": 2}


LAYOUTS = [
    voc_with_other_names,
    xml_beside_images_in_parts,
    folders_in_parts,
    nested_voc,
    lists_of_all_kinds,
    images_beside_json,
    coco_of_2017,
    names_of_other_machines,
    roboflow,
    yolo,
    table,
    labelme,
    label_studio,
    cvat,
]


@pytest.mark.parametrize("make", LAYOUTS)
def test_a_layout_is_found_with_all_its_images_and_boxes(make, tmp_path):
    train, val = make(tmp_path)
    assert found(tmp_path) == {"train": train, "val": val}


def unsplit(root, images=20):
    for k in range(images):
        picture(root / "all" / f"{k}.png", width=40 + k)
        xml(root / "all" / f"{k}.xml")


def test_an_unsplit_folder_is_parted_by_a_seed(tmp_path, caplog):
    unsplit(tmp_path)
    caplog.set_level("INFO")
    first = found(tmp_path)
    assert "data.format voc, data.train ., data.val 0.2" in caplog.text
    assert len(first["train"]) == 16 and len(first["val"]) == 4
    assert not first["train"].keys() & first["val"].keys()
    assert found(tmp_path) == first
    assert found(tmp_path, val_seed=1) != first
    assert len(found(tmp_path, train="all", val=0.5)["val"]) == 10


def test_an_image_more_moves_few_others(tmp_path):
    unsplit(tmp_path)
    before = found(tmp_path)["val"].keys()
    picture(tmp_path / "all" / "new.png", width=90)
    xml(tmp_path / "all" / "new.xml")
    assert len(before - found(tmp_path)["val"].keys()) <= 1


def test_copies_of_an_image_are_never_parted(tmp_path):
    for k in range(12):
        picture(tmp_path / f"{k}_jpg.rf.aa.png", width=40 + k)
        picture(tmp_path / f"{k}_jpg.rf.bb.png", width=70 + k)  # augmented
        for name in (f"{k}_jpg.rf.aa", f"{k}_jpg.rf.bb", f"copy of {k}"):
            xml(tmp_path / f"{name}.xml")
        shutil.copy(tmp_path / f"{k}_jpg.rf.bb.png", tmp_path / f"copy of {k}.png")
    for seed in range(5):
        parts = found(tmp_path, val=0.3, val_seed=seed)
        number = {
            part: {Path(name).stem.removeprefix("copy of ").partition("_")[0] for name in names}
            for part, names in parts.items()
        }
        assert len(parts["val"]) == 12 and not number["train"] & number["val"]


def test_images_that_are_all_copies_of_one(tmp_path):
    unsplit(tmp_path, images=1)
    shutil.copy(tmp_path / "all" / "0.png", tmp_path / "all" / "1.png")
    xml(tmp_path / "all" / "1.xml")
    with pytest.raises(ConfigError, match="2 images, all copies of one"):
        found(tmp_path)


@pytest.mark.parametrize("val", [0.0, 1.0, -0.5, 3.0])
def test_a_fraction_that_is_none(tmp_path, val):
    unsplit(tmp_path, images=2)
    with pytest.raises(ConfigError, match="data.val is .*between 0 and 1"):
        found(tmp_path, val=val)


def test_several_layouts_in_one_folder(tmp_path, caplog):
    caplog.set_level("INFO")
    unsplit(tmp_path, images=2)
    json_of(tmp_path / "train.json", {"0.png": 1, "1.png": 5})
    assert sum(len(part) for part in found(tmp_path).values()) == 2
    assert "it has coco too: data.format chooses" in caplog.text
    assert sum(sum(p.values()) for p in found(tmp_path, format="coco").values()) == 6


def test_nothing_that_is_known(tmp_path):
    picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"no annotations of voc, .*holds 1 files with .jpg"):
        resolved(DataConfig(root=str(tmp_path)))
    with pytest.raises(ConfigError, match="is no folder"):
        resolved(DataConfig(root=str(tmp_path / "a.jpg")))


def test_the_class_of_no_boxes_that_roboflow_adds(tmp_path, caplog):
    roboflow(tmp_path)
    parts, _ = read_parts(DataConfig(root=str(tmp_path)))
    assert parts["train"].classes == parts["val"].classes == ["cat"]
    assert parts["train"].category_ids == [1]
    assert "left out the category 'animals'" in caplog.text


def test_classes_of_coco_are_chosen(coco):
    coco.categories += [{"id": 7, "name": "dog"}, {"id": 3, "name": "cow"}]
    coco.boxes[1]["category_id"] = 7
    coco.write()
    coco.config.classes = ["dog", "cat"]
    parts, faults = read_parts(coco.config)
    assert not faults and parts["train"].classes == ["dog", "cat"]
    assert [a["labels"].tolist() for a in parts["train"].annotations] == [[2], [1], [2]]
    coco.config.classes = ["dog"]
    parts, _ = read_parts(coco.config)
    assert [a["labels"].tolist() for a in parts["train"].annotations] == [[], [1], []]
    coco.config.classes = ["dgo"]
    with pytest.raises(DataError, match="no category 'dgo'; did you mean 'dog'"):
        read_parts(coco.config)


def test_ids_that_are_text_in_one_place(coco):
    coco.boxes[0] |= {"image_id": "1", "category_id": "5"}
    coco.images[1]["id"] = "2"
    coco.write()
    parts, faults = read_parts(coco.config)
    assert not faults
    assert [len(a["labels"]) for a in parts["train"].annotations] == [1, 1, 1]


def test_categories_with_ids_of_text(coco):
    coco.categories = [{"id": "b", "name": "cat"}, {"id": "a", "name": "dog"}]
    for box in coco.boxes:
        box["category_id"] = "b"
    coco.write()
    parts, _ = read_parts(coco.config)
    assert parts["train"].classes == ["dog", "cat"] and parts["train"].category_ids == ["a", "b"]


def test_all_images_missing_is_one_line(coco):
    coco.write()
    (coco.root / "images").rename(coco.root / "pictures")
    coco.config.train_images = "images"
    with pytest.raises(ConfigError) as caught:
        read_parts(coco.config)
    said = str(caught.value)
    assert "none of the 3 images that boxes.json names" in said and "data.train_images" in said
    assert "they are in pictures" in said and "\n" not in said
    shutil.rmtree(coco.root / "pictures")
    coco.config.train_images = None
    with pytest.raises(ConfigError, match="none of the 3 images .* set data.root"):
        read_parts(coco.config)


def test_a_folder_where_a_file_is_due(coco):
    coco.write()
    coco.config.train = "images"
    with pytest.raises(DataError, match="images: a folder; the annotation file"):
        read_parts(coco.config)


def test_two_names_of_one_image_are_a_fault(coco, voc):
    coco.images[1]["file_name"] = "old/a.png"
    coco.write()
    _, faults = read_parts(coco.config)
    assert [f for f in faults if "'a.png' and 'old/a.png' would be the same image" in f.what]
    voc.names = ["a", "b", "other/a"]
    voc.write()
    (voc.root / "Annotations" / "other").mkdir()
    shutil.copy(voc.xml("a"), voc.xml("other/a"))
    _, faults = read_parts(voc.config)
    assert len(faults) == 1 and "would be the same image" in faults[0].what


def test_images_of_another_case(coco):
    coco.write()
    coco.image("b").rename(coco.root / "images" / "B.PNG")
    parts, faults = read_parts(coco.config)
    assert not faults and parts["train"].annotations[1]["path"].name == "B.PNG"


def test_objects_with_several_boxes(voc):
    two = OBJECT.format("cat", 2, 3, 11, 22).replace(
        "</object>",
        "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>",
    )
    voc.page("b", two)
    parts, faults = read_parts(voc.config)
    assert not faults
    boxes = parts["train"].annotations[1]["boxes"].tolist()
    assert boxes == [[1, 2, 11, 22], [4, 4, 9, 9]]
    assert parts["train"].annotations[1]["siblings"].tolist() == [True, True]


@pytest.mark.parametrize("tag", ["name", "xmin"])
def test_what_an_object_has_twice(voc, tag):
    once = f"<{tag}>cat</{tag}>" if tag == "name" else f"<{tag}>2</{tag}>"
    voc.page("b", OBJECT.format("cat", 2, 3, 11, 22).replace(once, once + once))
    _, faults = read_parts(voc.config)
    assert len(faults) == 1 and f"has 2 <{tag}>" in faults[0].what


@pytest.mark.parametrize("flag", ["1", "True", " true ", "1.0", "0", "False", ""])
def test_difficult_as_tools_write_it(voc, flag):
    flagged = OBJECT.format("cat", 2, 3, 11, 22).replace(
        "<bndbox>", f"<difficult>{flag}</difficult><bndbox>"
    )
    voc.page("b", flagged)
    parts, _ = read_parts(voc.config)
    assert bool(parts["train"].annotations[1]["difficult"][0]) is (
        flag.strip().lower() in ("1", "true", "1.0")
    )


@pytest.mark.parametrize("encoding", ["GB2312", "gbk", "Shift_JIS", "windows-1251", "utf-16"])
def test_encodings_that_xml_declares(voc, encoding):
    name = "кот" if encoding == "windows-1251" else "猫"
    page = voc.xml("b").read_text().replace(">cat<", f">{name}<")
    voc.xml("b").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{page}'.encode(encoding))
    parts, faults = read_parts(voc.config)
    assert not faults and parts["train"].classes == ["cat", name]


def test_a_link_to_a_folder_above_is_followed_once(tmp_path):
    picture(tmp_path / "a" / "b.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert Files(tmp_path).names == ["a/b.jpg"]


def test_parts_by_their_names():
    assert role_in("annotations/instances_val2017.json") == "val"
    assert role_in("train/_annotations.coco.json") == "train"
    assert role_in("restraint.json") is None and role_in("/x") is None and role_in("") is None
    assert part_for("train", ["trainval", "train", "val", "test"]) == "train"
    assert part_for("train", ["trainval", "train", "test"]) == "trainval"
    assert part_for("val", ["trainval", "train", "test"]) == "test"
    assert part_for("val", ["train"]) is None
