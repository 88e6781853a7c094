"""`detcenter convert`: what it writes, as readers that are not ours see it, and read back."""

import io
import json
import os
import shlex
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from detcenter.cli import main
from detcenter.data import COCODataset, DetectionDataset, VOCDataset, write_voc, write_yolo
from detcenter.data.errors import DataError
from detcenter.data.layouts import written, yolo
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.found import LAYOUTS
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.parsing import data_parser, parse
from tests.command_line import fails
from tests.data.layouts import OBJECT, picture

DIFFICULT = OBJECT.replace("<bndbox>", "<difficult>1</difficult><bndbox>")
SHARED = Path(os.environ.get("DETCENTER_DATA") or Path(__file__).parents[3] / "shared") / "data"


def options(config):
    keys = ("format", "root", "train", "val", "train_images", "val_images", "on_error")
    values = {key: getattr(config, key) for key in keys if getattr(config, key) is not None}
    return [text for key, value in values.items() for text in (f"--data.{key}", str(value))]


def convert(config, to, out, *args):
    return main(["convert", *options(config), "--to", to, str(out), *args])


def printed_config(capsys):
    """What the last line of the output reads the result with."""
    args = shlex.split(capsys.readouterr().out.splitlines()[-1])
    return parse(data_parser("", "", DataConfig(), skip=set()), args).data


def with_pycocotools(root, part):
    """{file name: [(class, box, is a crowd)]}"""
    with redirect_stdout(io.StringIO()):
        coco = COCO(root / "annotations" / f"instances_{part}.json")
    found = {image["file_name"]: [] for image in coco.imgs.values()}
    for box in coco.loadAnns(coco.getAnnIds()):
        x, y, width, height = box["bbox"]
        name = coco.cats[box["category_id"]]["name"]
        place = coco.imgs[box["image_id"]]["file_name"]
        found[place].append((name, [x, y, x + width, y + height], bool(box["iscrowd"])))
    assert len(coco.anns) == sum(map(len, found.values()))
    assert all((root / "images" / name).is_file() for name in found)
    return found


def with_elementtree(root, part):
    """{name: [(class, box, is difficult)]}, corners by VOC's definition."""
    found = {}
    for name in (root / "ImageSets" / "Main" / f"{part}.txt").read_text("utf-8").split("\n")[:-1]:
        tree = ElementTree.parse(root / "Annotations" / f"{name}.xml")
        assert (root / "JPEGImages" / tree.findtext("filename")).is_file()
        assert tree.findtext("filename").rpartition(".")[0] == name
        rows = found.setdefault(name, [])
        for thing in tree.findall("object"):
            corners = [float(thing.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin")]
            ends = [float(thing.findtext(f"bndbox/{k}")) for k in ("xmax", "ymax")]
            box = [corners[0] - 1, corners[1] - 1, *ends]
            rows.append((thing.findtext("name"), box, thing.findtext("difficult") == "1"))
    return found


def by_hand(root, part):
    """{name: [(class, box, False)]} of YOLO's text files, scaled by the images as they are."""
    content = yaml.safe_load((root / "data.yaml").read_text("utf-8"))
    found = {}
    for image in sorted((root / content[part]).iterdir()):
        file = root / content[part].replace("images", "labels") / f"{image.stem}.txt"
        width, height = Image.open(image).size
        rows = found.setdefault(image.stem, [])
        for line in file.read_text().splitlines():
            label, cx, cy, w, h = line.split(" ")
            left, top = float(cx) * width, float(cy) * height
            half, halves = float(w) * width / 2, float(h) * height / 2
            box = [left - half, top - halves, left + half, top + halves]
            rows.append((content["names"][int(label)], box, False))
    return found


READERS = {"coco": with_pycocotools, "voc": with_elementtree, "yolo": by_hand}


def read_back(to, root, capsys):
    """The part "train" by our own reader, with what the last line of the output says."""
    if to == "yolo":
        faults = []
        read = yolo.read(Files(root), "train", None, faults)
        assert faults == []
        return DetectionDataset(read.annotations, read.classes)
    parts, faults = read_parts(printed_config(capsys))
    assert faults == []
    return parts["train"]


def assert_boxes(found, expected, within):
    """Both [(class, box, flag)], in one order."""
    assert [(row[0], row[2]) for row in found] == [(row[0], row[2]) for row in expected]
    boxes, others = (
        np.array([row[1] for row in rows]).reshape(-1, 4) for rows in (found, expected)
    )
    np.testing.assert_allclose(boxes, others, rtol=0, atol=within)


def spread(coco):
    """Boxes of fractions, a crowd, a negative and two classes, in two files of other images."""
    coco.categories = [{"id": 9, "name": "zebra"}, {"id": 5, "name": "ape"}]
    coco.boxes = [
        {"id": 1, "image_id": 1, "category_id": 9, "bbox": [0.1, 0.7, 10 / 3, 20.2], "area": 7.5},
        {"id": 2, "image_id": 1, "category_id": 5, "bbox": [39.25, 29, 0.75, 1], "iscrowd": 0},
        {"id": 3, "image_id": 3, "category_id": 5, "bbox": [3, 4, 30, 20], "iscrowd": 1},
        {"id": 4, "image_id": 3, "category_id": 5, "bbox": [13, 14, 5, 6]},
    ]
    for name in ("d", "e"):
        picture(coco.root / "others" / f"{name}.png", 64, 48)
    coco.write()
    val = {
        "images": [{"id": 8, "file_name": "d.png"}, {"id": 7, "file_name": "e.png"}],
        "annotations": [{"id": 3, "image_id": 7, "category_id": 9, "bbox": [1, 2, 60.5, 33.3]}],
        "categories": coco.categories,
    }
    (coco.root / "val.json").write_text(json.dumps(val))
    coco.config.val, coco.config.val_images = "val.json", "others"
    return coco


A = [("zebra", [0.1, 0.7, 0.1 + 10 / 3, 20.9], False), ("ape", [39.25, 29, 40, 30], False)]
C = [("ape", [3, 4, 33, 24], True), ("ape", [13, 14, 18, 20], False)]
E = [("zebra", [1, 2, 61.5, 35.3], False)]


def test_coco_to_coco_keeps_numbers_ids_areas_and_crowds(coco, tmp_path, capsys):
    out = tmp_path / "below" / "out"
    assert convert(spread(coco).config, "coco", out) == 0
    counts = "3 images and 4 boxes of data.train, 2 images and 1 boxes of data.val in "
    assert capsys.readouterr().out.startswith(counts)
    train, val = (with_pycocotools(out, part) for part in ("train", "val"))
    # Below the folder that holds both.
    assert [*train] == ["images/a.png", "images/b.png", "images/c.png"]
    assert_boxes(train["images/a.png"], A, 1e-9)
    assert train["images/b.png"] == [] and val["others/d.png"] == []
    assert_boxes(train["images/c.png"], C, 1e-9)
    assert_boxes(val["others/e.png"], E, 1e-9)
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert [box["area"] for box in content["annotations"]] == [7.5, 0.75, 600, 30]
    assert content["categories"] == [{"id": 5, "name": "ape"}, {"id": 9, "name": "zebra"}]
    val_content = json.loads((out / "annotations" / "instances_val.json").read_text())
    assert [(i["id"], i["width"], i["height"]) for i in val_content["images"]] == [
        (8, 64, 48),
        (7, 64, 48),
    ]


def test_coco_to_voc_shifts_corners_and_makes_crowds_difficult(coco, tmp_path, capsys, caplog):
    assert convert(spread(coco).config, "voc", tmp_path / "out") == 0
    train, val = (with_elementtree(tmp_path / "out", part) for part in ("train", "val"))
    assert_boxes(train["images_a"][:1], A[:1], 1e-9)
    # 0.75 x 1 pixels: nothing that VOC's corners can say; 1.01 x 1.01 that start where it does
    assert_boxes(train["images_a"][1:], [("ape", [39.25, 29, 40.26, 30.01], False)], 1e-9)
    assert train["images_b"] == [] and val["others_d"] == []
    assert_boxes(train["images_c"], C, 0)
    assert_boxes(val["others_e"], E, 1e-9)
    assert "boxes of a pixel or less: 1; VOC's layout cannot say so" in caplog.text
    assert "crowd boxes: 1; VOC's layout has no such flag, they are written as diff" in caplog.text
    text = (tmp_path / "out" / "Annotations" / "images_c.xml").read_text()
    assert "<xmin>14</xmin><ymin>15</ymin><xmax>18</xmax><ymax>20</ymax>" in text
    # Ours reads what was there before, of the narrow box too, which ends where the image does.
    read = VOCDataset(tmp_path / "out", "train", ["ape", "zebra"])
    original = COCODataset(coco.root / "images", coco.file)
    assert_same(read, original, 1e-9)
    assert read.annotations[2]["difficult"].tolist() == [True, False]


def test_coco_to_yolo_leaves_crowds_out(coco, tmp_path, capsys, caplog):
    assert convert(spread(coco).config, "yolo", tmp_path / "out") == 0
    assert "3 images and 3 boxes of data.train" in capsys.readouterr().out
    train, val = (by_hand(tmp_path / "out", part) for part in ("train", "val"))
    assert [*train] == ["a", "b", "c"] and [*val] == ["d", "e"]
    assert_boxes(train["a"], A, 1e-4)
    assert train["b"] == [] and val["d"] == []
    assert_boxes(train["c"], C[1:], 1e-4)
    assert_boxes(val["e"], E, 1e-4)
    assert "crowd boxes: 1; YOLO's layout has no such flag, they are left out" in caplog.text
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "ape", 1: "zebra"},
    }
    assert (tmp_path / "out" / "labels" / "train" / "b.txt").read_text() == ""


def assert_same(one, other, within):
    for a, b in zip(one.annotations, other.annotations, strict=True):
        np.testing.assert_allclose(a["boxes"], b["boxes"], rtol=0, atol=within)
        names = [[d.classes[label - 1] for label in x["labels"]] for d, x in ((one, a), (other, b))]
        assert names[0] == names[1]
        assert a["path"].resolve() == b["path"].resolve()
        assert (a["width"], a["height"]) == (b["width"], b["height"])


def test_voc_to_coco_to_voc(voc, tmp_path, capsys, caplog):
    flagged = DIFFICULT.format("dog", 1.5, 2.25, 40, 30)
    voc.page("a", OBJECT.format("cat", 2, 3, 11, 22), flagged)
    voc.page("b")
    assert convert(voc.config, "coco", tmp_path / "coco") == 0
    assert "boxes flagged difficult: 2; COCO's layout has no such flag" in caplog.text
    between = printed_config(capsys)
    assert convert(between, "voc", tmp_path / "voc again") == 0
    again = printed_config(capsys)
    assert again.classes == ["cat", "dog"]
    original = VOCDataset(voc.root, "list")
    for config in (between, again):
        (parts, faults) = read_parts(config)
        assert faults == []
        for part in parts.values():
            assert_same(part, original, 1e-9)
    text = (tmp_path / "voc again" / "Annotations" / "a.xml").read_text()
    assert "<xmin>1.5</xmin><ymin>2.25</ymin><xmax>40</xmax><ymax>30</ymax>" in text


def test_difficult_boxes_stay(voc, tmp_path, caplog):
    flagged = DIFFICULT.format("cat", 1, 2, 40, 30)
    voc.page("a", OBJECT.format("cat", 2, 3, 11, 22), flagged)
    expected = [("cat", [1, 2, 11, 22], False), ("cat", [0, 1, 40, 30], False)]
    assert convert(voc.config, "yolo", tmp_path / "yolo") == 0
    assert_boxes(by_hand(tmp_path / "yolo", "train")["a"], expected, 1e-4)
    assert "boxes flagged difficult: 2; YOLO's layout has no such flag" in caplog.text
    assert convert(voc.config, "voc", tmp_path / "voc again") == 0
    flags = [row[2] for row in with_elementtree(tmp_path / "voc again", "train")["a"]]
    assert flags == [False, True]


NAMES = ["a & b", 'it\'s <"so">', "猫", "yes", "7", "a: [b]", "- c", "кот 'x'", "#", "a, b"]


@pytest.mark.parametrize("to", READERS)
def test_class_names_that_bite(to, coco, tmp_path, capsys):
    coco.categories = [{"id": k, "name": name} for k, name in enumerate(NAMES)]
    box = {"image_id": 1, "bbox": [1, 2, 10, 20]}
    coco.boxes = [box | {"id": k, "category_id": k} for k in range(len(NAMES))]
    coco.write()
    assert convert(coco.config, to, tmp_path / "out") == 0
    found = READERS[to](tmp_path / "out", "train")
    assert [row[0] for row in next(iter(found.values()))] == NAMES
    assert read_back(to, tmp_path / "out", capsys).classes == NAMES


@pytest.mark.parametrize("name", ["", " a", "a\n", "a\x00b", "\ud800"])
def test_class_names_that_xml_does_not_give_back(name, coco, tmp_path, capsys):
    coco.write(categories=[{"id": 5, "name": name}])
    args = ("convert", *options(coco.config), "--to", "voc", tmp_path / "out")
    assert "VOC's layout cannot hold the class name" in fails(capsys, *args)
    for to in ("coco", "yolo"):
        assert convert(coco.config, to, tmp_path / "out" / to) == 0
        found = READERS[to](tmp_path / "out" / to, "train")
        assert next(iter(found.values()))[0][0] == name


FILES = [
    "photo 1.png",
    "photo_1.png",
    "sub/photo 1.png",
    "sub_photo_1.jpg",
    "sub/кот & 'x'.png",
    "images/x.PNG",
    "#%41.png",
    "a.b.png",
    "a.png.png",
    "A.B.png",
    "line\nbreak.png",
    "bell\x07.png",
    "caf\udce9.png",  # a file's name in Latin-1, as Python has it
    "猫\u200d.bmp",
]


@pytest.mark.parametrize("to", READERS)
def test_image_names_that_bite(to, coco, tmp_path, capsys):
    """Every image is another one in size, and its box says which it is."""
    coco.images, coco.boxes = [], []
    for k, name in enumerate(FILES, start=1):
        picture(coco.root / "images" / name, 40 + k, 30)
        coco.images.append({"id": k, "file_name": name})
        coco.boxes.append({"id": k, "image_id": k, "category_id": 5, "bbox": [0, 0, 40 + k, 9]})
    coco.write()
    assert convert(coco.config, to, tmp_path / "out") == 0
    found = READERS[to](tmp_path / "out", "train")
    assert len({name.casefold() for name in found}) == len(found) == len(FILES)
    assert all(name.isprintable() and name.encode() for name in found if "猫" not in name)
    assert sorted(rows[0][1][2] for rows in found.values()) == pytest.approx(
        [*range(41, 41 + len(FILES))]
    )
    folder = {"coco": "images", "voc": "JPEGImages", "yolo": "images/train"}[to]
    files = {
        file.relative_to(tmp_path / "out" / folder).with_suffix("").as_posix(): file
        for file in (tmp_path / "out" / folder).rglob("*")
        if file.is_file()
    }
    for name, rows in found.items():
        stem = str(Path(name).with_suffix("")) if to == "coco" else name
        assert Image.open(files[stem]).width == pytest.approx(rows[0][1][2])
    if to == "coco":
        assert {"photo 1.png", "sub/photo 1.png", "sub/кот & 'x'.png"} <= found.keys()
    else:
        assert not any(character in name for name in found for character in " /'")
    original = COCODataset(coco.root / "images", coco.file)
    read = read_back(to, tmp_path / "out", capsys)
    for part in (original, read):
        part.annotations = sorted(part.annotations, key=lambda annotation: annotation["width"])
    assert_same(read, original, 1e-9)


def test_hidden_images_are_shown():
    """Readers of folders pass hidden files over."""
    paths = [Path("x") / name for name in (".a.png", "_a.png", "b/.c.png", ".d/e.png")]
    assert [*written.image_names(paths).values()] == ["_a.png", "_a-2.png", "b/_c.png", "_d/e.png"]
    assert written.image_names([]) == {}


def test_images_of_one_name_in_both_parts(coco, tmp_path):
    """Those of different folders get apart, those that are the same image are one."""
    val = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}
    (coco.root / "val.json").write_text(json.dumps(val | {"categories": coco.categories}))
    coco.config.val = "val.json"
    picture(coco.root / "others" / "a.png", 50, 30)
    for folder, count in (("images", 3), ("others", 4)):
        coco.config.val_images = folder
        if folder == "images":  # else VOC would have two lists of boxes for it
            val["annotations"] = json.loads(coco.file.read_text())["annotations"][:1]
        else:
            val["annotations"] = []
        (coco.root / "val.json").write_text(json.dumps(val | {"categories": coco.categories}))
        for to, below in (("coco", "images"), ("voc", "JPEGImages")):
            out = tmp_path / f"{to} {folder}"
            assert convert(coco.config, to, out) == 0
            assert sum(file.is_file() for file in (out / below).rglob("*")) == count
            assert len(READERS[to](out, "train")) == 3
            [boxes] = READERS[to](out, "val").values()
            assert len(boxes) == len(val["annotations"])


def test_an_image_with_two_lists_of_boxes(coco, tmp_path, capsys):
    coco.images.append({"id": 4, "file_name": "a.png", "width": 40, "height": 30})
    coco.write()
    for to in ("voc", "yolo"):
        args = ("convert", *options(coco.config), "--to", to, tmp_path / "out" / to)
        line = fails(capsys, *args)
        assert "a.png: occurs twice with different boxes" in line
        assert [*(tmp_path / "out").iterdir()] == []
    out = tmp_path / "out" / "coco"
    assert convert(coco.config, "coco", out) == 0
    content = json.loads((out / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in content["images"]].count("a.png") == 2


def test_yolo_wants_endings_of_images(coco, tmp_path, capsys):
    coco.image("b").rename(coco.root / "images" / "b.dat")
    coco.images[1]["file_name"] = "b.dat"
    coco.write()
    line = fails(capsys, "convert", *options(coco.config), "--to", "yolo", tmp_path / "out")
    assert "b.dat: YOLO's layout tells images by their ending" in line
    for to in ("coco", "voc"):
        assert convert(coco.config, to, tmp_path / "out" / to) == 0
        assert_same(
            read_parts(printed_config(capsys))[0]["val"],
            COCODataset(coco.root / "images", coco.file),
            1e-9,
        )


def test_sizes_are_those_of_the_images(coco, tmp_path, caplog):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter: 60 wide, 80 high when upright
    picture(coco.image("a"), 80, 60, exif=turned)
    coco.boxes[0]["bbox"] = [30, 3, 30, 77]
    coco.images[0] |= {"width": 80, "height": 80}
    coco.write()
    assert convert(coco.config, "yolo", tmp_path / "yolo") == 0
    line = (tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text()
    assert line == "0 0.75 0.51875 0.5 0.9625\n"
    assert "images of another size than annotated: 1 (a.png)" in caplog.text
    assert convert(coco.config, "voc", tmp_path / "voc") == 0
    text = (tmp_path / "voc" / "Annotations" / "a.xml").read_text()
    assert "<width>60</width><height>80</height>" in text


def test_links_and_copies(voc, tmp_path, monkeypatch):
    def no_links(self, target):
        raise OSError("no links here")

    assert convert(voc.config, "voc", tmp_path / "links") == 0
    assert convert(voc.config, "voc", tmp_path / "copies", "--copy") == 0
    monkeypatch.setattr(Path, "symlink_to", no_links)
    assert convert(voc.config, "voc", tmp_path / "fallen back") == 0
    for name, linked in (("links", True), ("copies", False), ("fallen back", False)):
        image = tmp_path / name / "JPEGImages" / "a.png"
        assert image.is_symlink() == linked
        assert image.read_bytes() == voc.image("a").read_bytes()


def test_faults_as_on_error_says(voc, tmp_path, capsys, caplog):
    voc.image("b").write_bytes(b"")
    voc.names.append("d")
    voc.write()
    args = ["convert", *options(voc.config), "--to", "coco", str(tmp_path / "out")]
    assert main(args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "detcenter convert: 2 faults in 2 files:" and len(lines) == 3
    assert [*tmp_path.iterdir()] == [voc.root]
    assert main([*args, "--data.on_error", "skip"]) == 0
    assert "left out 2 faults in 2 files" in caplog.text
    assert "2 images and 2 boxes of data.train" in capsys.readouterr().out
    assert [*with_pycocotools(tmp_path / "out", "train")] == ["a.png", "c.png"]


def test_other_classes_are_refused_whatever_is_skipped(coco, tmp_path, capsys):
    other = json.loads(coco.file.read_text()) | {"categories": [{"id": 5, "name": "dog"}]}
    (coco.root / "other.json").write_text(json.dumps(other))
    coco.config.val, coco.config.on_error = "other.json", "skip"
    line = fails(capsys, "convert", *options(coco.config), "--to", "yolo", tmp_path / "out")
    assert "'other.json' has other classes than data.train" in line


def test_it_is_whole_or_not_there(voc, tmp_path, capsys, monkeypatch):
    def stop(image, target):
        if image.name == "c.png":
            assert (tmp_path / "out.partial" / "JPEGImages" / "a.png").exists()
            raise KeyboardInterrupt
        link(image, target)

    link = written.link_image
    monkeypatch.setattr("detcenter.commands.convert.link_image", stop)
    args = ("convert", *options(voc.config), "--to", "voc", tmp_path / "out")
    assert main([str(arg) for arg in args]) == 130
    assert [*tmp_path.iterdir()] == [voc.root]
    monkeypatch.undo()
    capsys.readouterr()
    (tmp_path / "out.partial").mkdir()
    assert "out.partial is there already" in fails(capsys, *args)
    assert (tmp_path / "out.partial").is_dir()
    (tmp_path / "out.partial").rmdir()
    (tmp_path / "out").mkdir()
    assert convert(voc.config, "voc", tmp_path / "out") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "voc"]


def test_wrong_use_is_one_line(voc, tmp_path, capsys):
    (tmp_path / "full" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(voc.root)
    start = ("convert", *options(voc.config))
    out = tmp_path / "out"
    for args, said in (
        ((*start, "--to", "pascal", out), "invalid choice: 'pascal' (choose from 'coco', "),
        ((*start, out), "required: to"),
        ((*start, "--to", "coco"), "required: out"),
        ((*start, "--to", "coco", tmp_path / "full"), "exists and is not an empty folder"),
        ((*start, "--to", "coco", voc.root), "exists and is not an empty folder"),
        ((*start, "--to", "coco", voc.root / "new"), "is inside data.root"),
        ((*start, "--to", "coco", tmp_path / "link" / "new"), "is inside data.root"),
        ((*start, "--to", "coco", out, "--data.root", tmp_path / "none"), "is no folder"),
        ((*start, "--to", "coco", out, "--data.root", out, "--data.format", "digits"), "inside"),
        ((*start, "--to", "coco", out, "--data.format", "lmdb"), "data.format is lmdb: convert"),
        ((*start, "--to", "coco", out, "--data.folds", 3), "unknown --data.folds"),
        ((*start, "--to", "coco", out, "--config", tmp_path / "no.yaml"), "no.yaml: No such"),
    ):
        assert said in fails(capsys, *args)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link", "voc"]


@pytest.mark.parametrize("to", READERS)
def test_it_is_found_out_again(to, coco, tmp_path):
    """By the root alone, though both parts are told apart by nothing but their names."""
    if to not in LAYOUTS:
        pytest.skip(f"no reader of {to} yet")
    assert convert(spread(coco).config, to, tmp_path / "out") == 0
    parts, faults = read_parts(DataConfig(root=str(tmp_path / "out")))
    assert faults == []
    originals, _ = read_parts(coco.config)
    for name, part in parts.items():
        original = originals[name]
        original.annotations = sorted(original.annotations, key=lambda a: a["path"].name)
        part.annotations = sorted(part.annotations, key=lambda a: a["path"].resolve().name)
        if to == "yolo":
            for annotation in originals[name].annotations:
                for key in ("boxes", "labels"):
                    annotation[key] = annotation[key][~annotation["iscrowd"]]
        assert_same(part, originals[name], 1e-4)


def test_a_fraction_held_out_becomes_a_part(coco, tmp_path, capsys):
    for width, name in enumerate("abc", start=40):  # copies would stay in one part
        picture(coco.image(name), width, 30)
    coco.config.val = 0.34
    assert convert(coco.config, "yolo", tmp_path / "out") == 0
    assert "2 images and 2 boxes of data.train, 1 images and 1 boxes" in capsys.readouterr().out
    train, val = (by_hand(tmp_path / "out", part).keys() for part in ("train", "val"))
    assert {*train} | {*val} == {*"abc"}
    held_out = read_parts(coco.config)[0]["val"].annotations[0]["path"].stem
    assert [*val] == [held_out]


def test_a_recipe_names_the_data(recipe, tmp_path, capsys):
    assert main(["convert", "--config", str(recipe), "--to", "coco", str(tmp_path / "out")]) == 0
    assert "8 images and" in capsys.readouterr().out
    assert len(with_pycocotools(tmp_path / "out", "val")) == 4


def test_writers_take_any_data_set(annotation, tmp_path, caplog):
    """As a library: more parts than two, of other names."""
    rng = np.random.default_rng(0)
    parts = {}
    for part in ("one", "two", "three"):
        picture(tmp_path / "images" / f"{part}.png", 400, 400)
        corners = rng.uniform(0, 300, (40, 2))
        boxes = np.hstack([corners, corners + rng.uniform(0.001, 100, (40, 2))])
        entry = annotation(1, boxes, rng.integers(1, 3, 40))
        entry |= {"path": tmp_path / "images" / f"{part}.png", "boxes": boxes}
        parts[part] = DetectionDataset([entry], ["a", "b"])
    assert write_yolo(tmp_path / "yolo", parts) == dict.fromkeys(parts, 40)
    assert write_voc(tmp_path / "voc", parts) == dict.fromkeys(parts, 40)
    for part, original in parts.items():
        [rows] = by_hand(tmp_path / "yolo", part).values()
        boxes = original.annotations[0]["boxes"]
        np.testing.assert_allclose([row[1] for row in rows], boxes, rtol=0, atol=1e-4)
        read = VOCDataset(tmp_path / "voc", part).annotations[0]["boxes"]
        narrow = boxes[:, 2:] - boxes[:, :2] <= 1
        np.testing.assert_allclose(read[:, :2], boxes[:, :2], rtol=0, atol=1e-9)
        np.testing.assert_allclose(read[:, 2:][~narrow], boxes[:, 2:][~narrow], rtol=0, atol=1e-9)
        np.testing.assert_allclose((read[:, 2:] - read[:, :2])[narrow], 1.01, rtol=0, atol=1e-9)
    with pytest.raises(DataError, match="cannot hold the class name"):
        write_voc(tmp_path / "no", {"one": DetectionDataset([], ["a "])})


@pytest.mark.parametrize(
    ("config", "train", "val"),
    [
        (
            DataConfig("coco", f"{SHARED}/dice", "instances_train.json", "instances_val.json"),
            (200, 1487),
            (50, 308),
        ),
        (DataConfig("voc", f"{SHARED}/bccd", "train", "test"), (205, 2804), (72, 945)),
    ],
    ids=["dice", "bccd"],
)
@pytest.mark.parametrize("to", READERS)
def test_case(to, config, train, val, tmp_path, capsys):
    """Counts taken from the JSON and XML files, and class by class from the reader."""
    if not Path(config.root).is_dir():
        pytest.skip("the cases are not there")
    assert convert(config, to, tmp_path / "out") == 0
    parts, _ = read_parts(config)
    for part, counts in (("train", train), ("val", val)):
        found = READERS[to](tmp_path / "out", part)
        assert (len(found), sum(map(len, found.values()))) == counts
        classes = parts[part].classes
        labels = [label for a in parts[part].annotations for label in a["labels"]]
        names = Counter(row[0] for rows in found.values() for row in rows)
        assert names == Counter(classes[label - 1] for label in labels)
        by_stem = {Path(name).stem: rows for name, rows in found.items()}
        for a in parts[part].annotations:
            boxes = np.array([row[1] for row in by_stem[a["path"].stem]]).reshape(-1, 4)
            np.testing.assert_allclose(boxes, a["boxes"], rtol=0, atol=1e-4)
