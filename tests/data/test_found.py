"""Layouts as people have them, read by `data.format: auto`; counts are those of what was made."""

import json
import shutil
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from detcenter.data import DataError
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.parts import part_for, role_in
from detcenter.data.layouts.voc import find_parts
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


def test_images_that_nobody_labelled_are_counted(tmp_path, caplog):
    unsplit(tmp_path, images=4)
    picture(tmp_path / "all" / "none.png", width=90)
    picture(tmp_path / "all" / "0.jpg", width=40)  # a mask, say, of the image 0.png
    picture(tmp_path / "elsewhere" / "other.png")
    assert sum(map(len, found(tmp_path).values())) == 4
    said = [text for text in caplog.messages if "without an XML file" in text]
    assert len(said) == 1 and said[0].endswith("left out images without an XML file: 1 (none.png)")


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


def test_one_file_for_two_folders_of_images(coco):
    coco.write()
    shutil.copytree(coco.root / "images", coco.root / "others")
    coco.config.train_images, coco.config.val_images = "images", "others"
    parts, faults = read_parts(coco.config)
    assert not faults
    folders = {part: {a["path"].parent.name for a in of.annotations} for part, of in parts.items()}
    assert folders == {"train": {"images"}, "val": {"others"}}


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


def test_a_link_to_a_folder_above_is_followed_once(tmp_path):
    picture(tmp_path / "a" / "b.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert Files(tmp_path).names == ["a/b.jpg"]


def test_several_parts_that_are_as_good_are_one_line(tmp_path):
    for name in ("cat_train", "dog_train", "val"):
        picture(tmp_path / "images" / f"{name}.jpg")
        json_of(tmp_path / f"{name}.json", {f"{name}.jpg": 1})
    with pytest.raises(DataError, match=r"could be data.train: cat_train.json, dog_train.json;"):
        found(tmp_path)
    assert len(found(tmp_path, train="dog_train.json")["val"]) == 1
    for name in ("cat_train", "dog_train", "val"):
        (tmp_path / f"{name}.json").rename(tmp_path / f"{name.replace('train', 'x')[:5]}.json")
    with pytest.raises(DataError, match=r"several parts, and no name says"):
        (tmp_path / "val.json").unlink()
        found(tmp_path)


def test_folders_that_are_in_no_part_are_said(tmp_path, caplog):
    for part in ("train", "extra", "val"):
        picture(tmp_path / part / f"{part}.jpg")
        xml(tmp_path / part / f"{part}.xml")
    assert [*found(tmp_path)["train"]] == ["train/train.jpg"]
    assert "annotation files are in no part, and are left out: extra" in caplog.text


def test_a_list_is_one_whatever_its_first_lines_are(tmp_path):
    for name in "abc":
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        xml(tmp_path / "Annotations" / f"{name}.xml")
    (tmp_path / "train.txt").write_text("# mine\n\ngone\na\nb\n")
    (tmp_path / "val.txt").write_text("c\n")
    parts, faults = read_parts(DataConfig(root=str(tmp_path)))
    assert len(parts["train"]) == 2 and len(parts["val"]) == 1
    assert len(faults) == 1 and "gone.xml: annotation file not found" in str(faults[0])


def test_images_of_other_files_and_parts_are_not_taken(tmp_path):
    for name in "ab":
        xml(tmp_path / "lot1" / f"{name}.xml")
        xml(tmp_path / "lot2" / f"{name}.xml")
        picture(tmp_path / "lot2" / f"{name}.jpg")
    picture(tmp_path / "lot1" / "a.jpg", width=50)
    _, faults = read_parts(DataConfig(root=str(tmp_path)))
    assert len(faults) == 1 and "lot1/b" in str(faults[0])
    shutil.move(tmp_path / "lot1", tmp_path / "train")
    shutil.move(tmp_path / "lot2", tmp_path / "val")
    for name in "ab":
        (tmp_path / "val" / f"{name}.xml").unlink()
    xml(tmp_path / "val" / "a.xml")
    _, faults = read_parts(DataConfig(root=str(tmp_path)))
    assert len(faults) == 1 and "train/b" in str(faults[0])


def test_of_several_images_the_texts_of_the_file_decide(tmp_path):
    for camera in ("cam1", "cam2"):
        for width, name in enumerate("abc", start=40):
            picture(tmp_path / "photos" / camera / f"{name}.jpg", width)
    for name, text in (("a", "<path>C:\\x\\cam2\\a.jpg</path>"), ("b", "<folder>cam1</folder>")):
        xml(tmp_path / "xml" / f"{name}.xml")
        page = (tmp_path / "xml" / f"{name}.xml").read_text()
        page = page.replace("as it was called before.png", f"{name}.jpg")
        (tmp_path / "xml" / f"{name}.xml").write_text(page.replace("<size>", text + "<size>"))
    xml(tmp_path / "xml" / "c.xml")
    parts, faults = read_parts(DataConfig(root=str(tmp_path)))
    paths = [a["path"] for part in parts.values() for a in part.annotations]
    assert {path.relative_to(tmp_path / "photos").as_posix() for path in paths} == {
        "cam2/a.jpg",
        "cam1/b.jpg",
    }
    assert "its image may be 'photos/cam1/c.jpg' or 'photos/cam2/c.jpg'" in str(faults[0])


@pytest.mark.parametrize(
    "start", ['<annotation verified="yes">', '<annotation xmlns="https://example.org/voc">']
)
def test_roots_of_xml_as_tools_write_them(voc, start):
    for name in "abc":
        text = voc.xml(name).read_text().replace("<annotation>", start)
        voc.xml(name).write_text(text)
    assert find_parts(Files(voc.root)) == ["list"]
    assert len(found(voc.root, train="list", val="list")["train"]) == 3


def test_several_voc_roots_each_have_their_own_files(tmp_path):
    for root in ("A", "B"):
        for name in "ab":
            picture(tmp_path / root / "JPEGImages" / f"{name}.jpg")
            xml(tmp_path / root / "Annotations" / f"{name}.xml", boxes=1 if root == "A" else 2)
        (tmp_path / root / "ImageSets" / "Main").mkdir(parents=True)
        (tmp_path / root / "ImageSets" / "Main" / "train.txt").write_text("a\nb")
    with pytest.raises(DataError, match="could be data.train: A/ImageSets/Main/train.txt, B/"):
        found(tmp_path)
    parts = found(tmp_path, train="B/ImageSets/Main/train.txt", val="A/ImageSets/Main/train.txt")
    assert parts["train"] == {"B/JPEGImages/a.jpg": 2, "B/JPEGImages/b.jpg": 2}


def test_categories_are_no_kinds_of_themselves(tmp_path):
    categories = [{"id": k, "name": n, "supercategory": n} for k, n in ((1, "cat"), (2, "dog"))]
    for part in ("train", "val"):
        picture(tmp_path / f"{part}.jpg")
        json_of(tmp_path / f"{part}.json", {f"{part}.jpg": 1}, categories)
    parts, faults = read_parts(DataConfig(root=str(tmp_path)))
    assert not faults and parts["train"].classes == ["cat", "dog"]


def test_a_kind_with_boxes_in_training_alone_is_in_both_parts(tmp_path):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "tabby", "supercategory": "cat"}]
    for part in ("train", "val"):
        picture(tmp_path / f"{part}.jpg")
        json_of(tmp_path / f"{part}.json", {f"{part}.jpg": 1}, categories)
    text = (tmp_path / "val.json").read_text().replace('"category_id": 1', '"category_id": 2')
    (tmp_path / "val.json").write_text(text)
    parts, faults = read_parts(DataConfig(root=str(tmp_path)))
    assert not faults and parts["train"].classes == parts["val"].classes == ["cat", "tabby"]


def test_accents_that_macs_write_as_two_signs(tmp_path):
    picture(tmp_path / "images" / unicodedata.normalize("NFD", "é.jpg"), width=50)
    picture(tmp_path / "images" / "b.jpg")
    json_of(tmp_path / "train.json", {"é.jpg": 1, "b.jpg": 1})
    assert sum(map(len, found(tmp_path).values())) == 2


def test_parts_by_their_names():
    assert role_in("annotations/instances_val2017.json") == "val"
    assert role_in("train/_annotations.coco.json") == "train"
    assert role_in("restraint.json") is None and role_in("/x") is None and role_in("") is None
    assert part_for("train", ["trainval", "train", "val", "test"]) == "train"
    assert part_for("train", ["trainval", "train", "test"]) == "trainval"
    assert part_for("val", ["trainval", "train", "test"]) == "test"
    assert part_for("val", ["train"]) is None
    assert part_for("train", ["trainset.csv", "testset.csv"]) == "trainset.csv"
    assert part_for("train", ["trainval", "val", "test"]) == "trainval"
    assert part_for("val", ["trainval", "val", "test"]) == "test"  # val's images are trained on
    assert part_for("train", ["dice_train.json", "train2017.json"]) == "train2017.json"
