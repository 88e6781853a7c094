"""Every row of docs/bad_data.md."""

import json
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detcenter.cli import main
from detcenter.data import COCODataset, DataError, Fault, VOCDataset, build_transform, read_image
from detcenter.errors import ConfigError
from detcenter.recipe.datasets import read_parts, training_set, validation_set, warn_of_copies
from tests.data.layouts import OBJECT, Coco, Voc, picture, skipping

LAYOUTS = pytest.mark.parametrize("layout", [Coco, Voc])
DOCS = Path(__file__).parents[2] / "docs" / "bad_data.md"


def made(layout, tmp_path):
    data = layout(tmp_path / "data")
    data.write()
    return data


def stops(data, *said, faults=1):
    """Whether training stops with so many faults, those that are said among them."""
    with pytest.raises(DataError) as caught:
        training_set(data.config)
    message = str(caught.value)
    assert all(text in message for text in said), message
    assert len(message.splitlines()) == (1 if faults == 1 else faults + 1), message
    return message


def left(data):
    """The images that skipping leaves, with their boxes."""
    dataset = training_set(skipping(data.config))
    for index in range(len(dataset)):
        dataset[index]
    return {a["path"].stem: len(a["labels"]) for a in dataset.annotations}


ALL = {"a": 1, "b": 1, "c": 1}
WITHOUT_B = {"a": 1, "c": 1}


def cut(path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-9000])


@LAYOUTS
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(cut, id="truncated"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("<html>404</html>"), id="no image"),
    ],
)
def test_image_file(layout, spoil, tmp_path, caplog):
    data = made(layout, tmp_path)
    spoil(data.image("b"))
    stops(data, "b.png: not a readable image")
    assert left(data) == WITHOUT_B
    assert "left out 1 fault in 1 file" in caplog.text and "images left: 2" in caplog.text


@LAYOUTS
def test_image_with_another_ending(layout, tmp_path):
    data = made(layout, tmp_path)
    picture(data.image("b"), format="JPEG")
    assert training_set(data.config)[1][0].shape == (3, 30, 40)


@pytest.mark.parametrize("preset", ["none", "light", "ssd"])
def test_image_of_one_pixel(preset, coco):
    picture(coco.image("b"), 1, 1)
    coco.images[1] |= {"width": 1, "height": 1}
    coco.boxes[1]["bbox"] = [0, 0, 1, 1]
    coco.write()
    dataset = training_set(coco.config)
    dataset.transform = build_transform(32, preset)
    for _ in range(20):
        image, target = dataset[1]
        assert image.shape == (3, 32, 32) and len(target["boxes"]) <= 1
    assert validation_set(coco.config, ["cat"]).annotations[1]["boxes"].tolist() == [[0, 0, 1, 1]]


def header(path, width, height):
    """A PNG without its pixels: whoever asks for them gets another error."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")


@LAYOUTS
def test_image_of_400_million_pixels(layout, tmp_path):
    data = made(layout, tmp_path)
    header(data.image("b"), 20_000, 20_000)
    stops(data, "b.png: an image of 20000x20000 pixels, more than 178,956,970 in all")
    assert left(data) == WITHOUT_B
    header(data.image("b"), 13_000, 13_000)  # within the bound: it is decoded, or tried to be
    stops(data, "b.png: not a readable image")


def test_image_of_100_million_pixels(tmp_path):
    header(tmp_path / "a.png", 10_000, 10_000)
    code = "import sys; from detcenter.data import read_image; read_image(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    # It is within the bound, so that its pixels are asked for; and PIL does not warn of it.
    assert "not a readable image" in done.stderr and "Decompression" not in done.stderr


BOXES = {
    "not a number": ("nan", 0, 5, 5),
    "infinite": (0, 0, "inf", 5),
    "too large a number": ("-1e300", 0, "-1e299", 5),
    "negative": (-20, -20, -5, -5),
    "inverted": (20, 10, 10, 20),
    "zero area": (5, 5, 5, 20),
    "far outside": (500, 500, 600, 600),
}


@LAYOUTS
@pytest.mark.parametrize("box", [pytest.param(box, id=name) for name, box in BOXES.items()])
def test_box(layout, box, tmp_path, caplog):
    data = made(layout, tmp_path)
    data.spoil_box(*box)
    dataset = training_set(data.config)
    assert dataset.annotations[1]["boxes"].tolist() == [[1, 2, 11, 22]]
    assert dataset.dropped == {data.image("b"): 1}
    assert "boxes without area dropped: 1, images: 1 (b.png)" in caplog.text


@LAYOUTS
def test_box_that_reaches_out(layout, tmp_path):
    data = made(layout, tmp_path)
    data.spoil_box(-10, 5, 90, 90)
    boxes = training_set(data.config).annotations[1]["boxes"]
    assert boxes.tolist() == [[1, 2, 11, 22], [0, 5, 40, 30]]


@pytest.mark.parametrize(
    "box",
    [
        ["1", 2, 3, 4],
        [True, 2, 3, 4],
        [1, 2, 3, None],
        [1, 2, 3],
        "1 2 3 4",
        None,
        [10**40, 2, 3, 4],
    ],
)
def test_box_that_is_not_four_numbers_in_json(coco, box):
    coco.boxes[1]["bbox"] = box
    coco.write()
    stops(coco, "boxes.json: annotation 2 has bbox", "not four numbers")
    assert left(coco) == {"a": 1, "b": 0, "c": 1}


@pytest.mark.parametrize("box", [("ten", 1, 20, 20), (1, 1, "", 20), ("0x1", 1, 20, 20)])
def test_box_that_is_not_four_numbers_in_xml(voc, box):
    voc.page("b", OBJECT.format("cat", *box), OBJECT.format("cat", 1, 1, 9, 9))
    stops(voc, "b.xml: <")
    assert left(voc) == ALL


def test_unknown_class_in_xml(voc):
    voc.page("b", OBJECT.format("cow", 1, 1, 9, 9), OBJECT.format("cat", 1, 1, 9, 9))
    voc.config.classes = ["cat"]
    stops(voc, "b.xml: unknown class 'cow'")
    assert left(voc) == ALL


@pytest.mark.parametrize("category", [6, "6", True, None, [5]])
def test_unknown_class_in_json(coco, category):
    coco.boxes[1]["category_id"] = category
    coco.write()
    stops(coco, "boxes.json: annotation 2 has unknown category_id")
    assert left(coco) == {"a": 1, "b": 0, "c": 1}


@LAYOUTS
def test_annotation_without_image_file(layout, tmp_path):
    data = made(layout, tmp_path)
    data.image("b").unlink()
    stops(data, "b.", "image file not found")
    assert left(data) == WITHOUT_B


@pytest.mark.parametrize("image", [4, "4", True, None])
def test_annotation_of_an_unknown_image(coco, image):
    coco.boxes.append({"id": 4, "image_id": image, "category_id": 5, "bbox": [1, 1, 9, 9]})
    coco.write()
    stops(coco, "boxes.json: annotation 4 has unknown image_id")
    assert left(coco) == ALL


def test_image_without_annotation_in_json(coco):
    del coco.boxes[1]
    coco.write()
    assert left(coco) == {"a": 1, "b": 0, "c": 1}
    training_set(coco.config)


def test_image_without_annotation_file(voc):
    voc.xml("b").unlink()
    stops(voc, "b.xml: annotation file not found")
    assert left(voc) == WITHOUT_B


@LAYOUTS
def test_image_that_nothing_names(layout, tmp_path):
    data = made(layout, tmp_path)
    data.image("d").write_bytes(b"broken, and no matter")
    assert len(training_set(data.config)) == 3


def test_image_id_twice(coco):
    coco.images.append(dict(coco.images[1]))
    coco.write()
    stops(coco, "boxes.json: images id 2 occurs twice")
    assert left(coco) == ALL  # the same image
    coco.images[-1]["file_name"] = "c.png"
    coco.write()
    stops(coco, "boxes.json: images id 2 occurs twice")
    assert left(coco) == WITHOUT_B  # which of them the box belongs to is not known


@pytest.mark.parametrize("number", [True, None, 2.0, [2]])
def test_image_id_that_is_neither_integer_nor_text(coco, number):
    coco.images[1]["id"] = number
    del coco.boxes[1]
    coco.write()
    stops(coco, "boxes.json: images id", "is not an integer or text")
    assert left(coco) == WITHOUT_B


@pytest.mark.parametrize("flag", [0, 1, 0.0, 1.0, True, False, None, "0", "1", "True", " false "])
def test_crowd_flags_as_exporters_write_them(coco, flag):
    coco.boxes[0]["iscrowd"] = flag
    coco.write()
    (annotation, *_) = COCODataset(coco.root / "images", coco.file).annotations
    assert bool(annotation["iscrowd"][0]) is (flag in (1, "1", "True"))


@pytest.mark.parametrize("area", [0, None, "400", -3])
def test_area_that_is_none(coco, area):
    coco.boxes[0]["area"] = area
    coco.write()
    (annotation, *_) = COCODataset(coco.root / "images", coco.file).annotations
    assert annotation["area"].tolist() == [200.0]


@pytest.mark.parametrize("flag", [2, -1, 0.5, "yes", [], {}])
def test_a_crowd_flag_that_says_neither(coco, flag):
    coco.boxes[0]["iscrowd"] = flag
    coco.write()
    stops(coco, "has iscrowd", "neither 0 nor 1")


def test_category_id_twice(coco):
    coco.write(categories=[{"id": 5, "name": "cat"}, {"id": 5, "name": "dog"}])
    stops(coco, "boxes.json: categories id 5 occurs twice")
    with pytest.raises(DataError, match="occurs twice"):
        left(coco)


def test_annotation_id_twice(coco):
    other = coco.boxes[1] | {"bbox": [5, 5, 9, 9]}
    coco.boxes.append(other)
    coco.write()
    assert left(coco) == {"a": 1, "b": 2, "c": 1}  # two boxes, whatever they are called
    coco.boxes.append(dict(other))
    coco.write()
    stops(coco, "boxes.json: annotation 2 occurs twice")
    assert left(coco) == {"a": 1, "b": 2, "c": 1}  # the copy adds nothing


def test_name_twice_in_an_image_set(voc):
    voc.names.append("b")
    voc.write()
    stops(voc, "list.txt: the name 'b' occurs twice")
    assert left(voc) == ALL


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"a.png": [1, 2, 3, 4]}', "<annotation/>", "[" * 100_000]
)
def test_json_that_is_not_coco(coco, text):
    coco.file.write_text(text)
    stops(coco, "boxes.json: ")
    with pytest.raises(DataError):
        left(coco)


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("entry", [None, 7, "a.png", [], {}])
def test_json_with_an_entry_that_is_none(coco, kind, entry):
    rows = {"images": coco.images, "annotations": coco.boxes}[kind]
    rows.append(entry)
    coco.write()
    stops(coco, f"boxes.json: {kind} with id" if entry == {} else "is not an object")
    assert left(coco) == ALL


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_json_in_another_encoding(coco, encoding):
    coco.categories[0]["name"] = "kätzchen"
    content = {"images": coco.images, "annotations": coco.boxes, "categories": coco.categories}
    coco.file.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    if encoding == "utf-8-sig":
        assert training_set(coco.config).classes == ["kätzchen"]
    else:
        stops(coco, "boxes.json: not a text file in UTF-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation><object>",
        "{}",
        "<html>404</html>",
        '<?xml version="1.0" encoding="x"?><a/>',
    ],
)
def test_xml_that_is_not_voc(voc, text):
    voc.xml("b").write_text(text)
    stops(voc, "b.xml: ")
    assert left(voc) == WITHOUT_B


EXPANDING = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
EXTERNAL = '<!ENTITY e11 SYSTEM "file:///etc/hostname">'


@pytest.mark.parametrize(
    "entities",
    [
        pytest.param(f'<!ENTITY e0 "ha">{EXPANDING}', id="expanding"),
        pytest.param(EXTERNAL, id="external"),
    ],
)
def test_xml_with_entities(voc, entities):
    page = voc.xml("b").read_text().replace(">cat<", ">&e11;<")
    voc.xml("b").write_text(f"<!DOCTYPE annotation [{entities}]>{page}")
    start = time.monotonic()
    stops(voc, "b.xml: refused, for it declares entities")
    assert left(voc) == WITHOUT_B
    assert time.monotonic() - start < 10


OUTSIDE = ["../../outside.png", "x/../../../outside.png", r"..\..\outside.png", r"C:\outside.png"]


@pytest.mark.parametrize("name", [*OUTSIDE, "/ROOT/outside.png", r"\\host\share\outside.png"])
def test_name_in_json_that_leads_out(coco, name):
    picture(coco.root.parent / "outside.png")
    coco.images[1]["file_name"] = name.replace("ROOT", str(coco.root.parent))
    coco.write()
    stops(coco, "boxes.json: the name", "leads out of")
    assert left(coco) == WITHOUT_B


@pytest.mark.parametrize("name", ["../../outside", r"..\..\outside", "/ROOT/outside"])
def test_name_in_an_image_set_that_leads_out(voc, name):
    picture(voc.root.parent / "outside.png")
    (voc.root.parent / "outside.xml").write_text(voc.xml("b").read_text())
    voc.names[1] = name.replace("ROOT", str(voc.root.parent))
    voc.write()
    stops(voc, "list.txt: the name", "leads out of")
    assert left(voc) == WITHOUT_B


@pytest.mark.parametrize("name", OUTSIDE)
def test_name_in_xml_that_leads_out(voc, name):
    picture(voc.root.parent / "outside.png")
    text = voc.xml("b").read_text().replace("b.png", name)
    voc.xml("b").write_text(text)
    assert left(voc) == ALL  # tools leave such names behind; the image beside it is taken
    voc.image("b").unlink()
    stops(voc, "b.xml: the name", "leads out of")
    assert left(voc) == WITHOUT_B


@LAYOUTS
def test_link_that_leads_out(layout, tmp_path):
    data = made(layout, tmp_path)
    picture(tmp_path / "elsewhere.png")
    data.image("b").unlink()
    data.image("b").symlink_to(tmp_path / "elsewhere.png")
    assert len(training_set(data.config)) == 3


NAMES = ["two words", "photo 1", "bär 猫 Ω", "in/a folder/b", "a%20b#c", "e\u0301"]


@LAYOUTS
@pytest.mark.parametrize("name", NAMES)
def test_name_that_is_unusual(layout, name, tmp_path):
    data = made(layout, tmp_path)
    rename(data, name, name)
    dataset = training_set(data.config)
    assert dataset.annotations[1]["path"] == data.image(name)
    assert len(dataset[1][1]["labels"]) == 1


@LAYOUTS
@pytest.mark.parametrize(
    "name, file", [(r"in\a folder\b", "in/a folder/b"), (r"not\a folder", r"not\a folder")]
)
def test_name_with_windows_separators(layout, name, file, tmp_path):
    data = made(layout, tmp_path)
    rename(data, name, file)
    assert training_set(data.config).annotations[1]["path"] == data.image(file)


def rename(data, name, file):
    """Name the image b otherwise in the annotations, and on the disk."""
    data.image(file).parent.mkdir(parents=True, exist_ok=True)
    data.image("b").rename(data.image(file))
    if isinstance(data, Voc):
        data.xml(file).parent.mkdir(parents=True, exist_ok=True)
        data.xml("b").rename(data.xml(file))
        data.names[1] = name
    else:
        data.images[1]["file_name"] = f"{name}.png"
    data.write()


def test_name_that_is_no_name(coco):
    for name in ("", None, 7, "a\0b.png", "x" * 5000, "."):
        coco.images[1]["file_name"] = name
        coco.write()
        assert "\0" not in stops(coco)
        assert left(coco) == WITHOUT_B


def test_no_boxes_in_json(coco):
    coco.write(annotations=[])
    with pytest.raises(ConfigError, match="has no objects to learn from"):
        training_set(coco.config)
    assert len(validation_set(coco.config, ["cat"])) == 3


def test_no_boxes_in_xml(voc):
    for name in "abc":
        voc.page(name)
    stops(voc, "voc: no annotated objects")
    voc.config.classes = ["cat"]
    with pytest.raises(ConfigError, match="has no objects to learn from"):
        training_set(voc.config)
    assert len(validation_set(voc.config, ["cat"])) == 3


def four_boxes(coco, *boxes):
    """Boxes of an image of 160 x 120, in place of the others."""
    picture(coco.image("b"), 160, 120)
    coco.images[1] |= {"width": 160, "height": 120}
    coco.boxes = [
        {"id": k, "image_id": 2, "category_id": 5, "bbox": box} for k, box in enumerate(boxes, 1)
    ]
    coco.write()


CORNERS = [12, 15, 44, 47], [63, 61, 91, 89], [111, 37, 138, 64], [120, 80, 150, 110]


def test_boxes_as_parts_of_the_image(coco):
    four_boxes(coco, *([x / 160, y / 120, 0.2, 0.2] for x, y, _, _ in CORNERS))
    stops(coco, "boxes look like parts of the image, 0 to 1; they must be pixels: 4 (b.png")
    with pytest.raises(DataError, match="0 to 1"):  # it would learn nothing
        training_set(skipping(coco.config))


def test_boxes_in_percent(coco):
    boxes = [[x / 1.6, y / 1.2, 93.8 - x / 1.6, 95 - y / 1.2] for x, y, _, _ in CORNERS]
    four_boxes(coco, *([*box] for box in boxes * 8))
    for number, box in enumerate(coco.boxes):  # no copies
        box["bbox"][0] += number / 9
    picture(coco.image("b"), 640, 480)
    coco.images[1] |= {"width": 640, "height": 480}
    coco.write()
    stops(coco, "boxes look like percent of the image, 0 to 100; they must be pixels: 32 (b.png")


def test_corners_where_sizes_are_due(coco):
    four_boxes(coco, *CORNERS)
    stops(coco, "look like two corners where a corner, width and height are due: 3 (b.png")
    four_boxes(coco, *([x, y, 30, 30] for x, y, _, _ in CORNERS))
    assert len(training_set(coco.config).annotations[1]["boxes"]) == 4


def warned(config, caplog):
    """What is said when both parts are read."""
    caplog.clear()
    train = training_set(config)
    val = validation_set(config, train.classes)
    for dataset in (train, val):
        for index in range(len(dataset)):
            dataset[index]
    warn_of_copies(config, train, val)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_size_that_is_not_the_annotated_one(coco, caplog):
    for image in coco.images[:2]:
        image |= {"width": 80, "height": 60}
    coco.images[2] |= {"width": 30, "height": 40}
    coco.write()
    said = warned(coco.config, caplog)
    for part in ("train", "val"):
        scaled, swapped = [line for line in said if line.startswith(f"data.{part}: ")][:2]
        assert "smaller or larger than annotated" in scaled
        assert scaled.endswith("other size: 2 (a.png: 40x30, annotated as 80x60, …)")
        assert swapped.endswith("may lie across: 1 (c.png: 40x30, annotated as 30x40)")
    assert len(said) == 5  # and the copies


def test_size_before_the_turn(coco, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(coco.image("b"), exif=exif)
    coco.boxes[1]["bbox"] = [1, 2, 10, 20]
    coco.write()
    said = warned(coco.config, caplog)
    assert "annotated without their EXIF turn" in said[0]
    assert said[0].endswith(": 1 (b.png: 30x40, annotated as 40x30)")


def test_image_in_both_parts(coco, caplog):
    other = coco.root / "other.json"
    for number, name in enumerate("abc"):
        picture(coco.image(name), 40, 30, compress_level=number)
        Image.new("RGB", (40, 30), (number, 0, 0)).save(coco.image(name))
    (coco.root / "images" / "copy.png").write_bytes(coco.image("b").read_bytes())
    Image.new("RGB", (40, 30), (99, 0, 0)).save(coco.image("d"))
    coco.write()
    coco.images = [
        {"id": 1, "file_name": "copy.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "d.png", "width": 40, "height": 30},
    ]
    coco.boxes = coco.boxes[:2]
    coco.file = other
    coco.write()
    coco.config.val = "other.json"
    [said] = warned(coco.config, caplog)
    assert said.startswith("data.val: images equal, byte by byte, to one of data.train: 1 (b.png")
    coco.images[0]["file_name"] = "d.png"
    coco.images.pop()
    coco.boxes.pop()
    coco.write()
    assert warned(coco.config, caplog) == []


def test_crowds_only(coco):
    for box in coco.boxes:
        box["iscrowd"] = 1
    coco.write()
    with pytest.raises(ConfigError, match="has no objects to learn from: boxes that are crowds: 3"):
        training_set(coco.config)


@pytest.mark.parametrize("flag", ["1", "True", "1.0"])
def test_difficult_objects_only(voc, flag):
    for name in "abc":
        thing = OBJECT.format("cat", 2, 3, 11, 22)
        voc.page(name, thing.replace("<name>", f"<difficult>{flag}</difficult><name>"))
    with pytest.raises(ConfigError, match="difficult: 3; data.keep_difficult: true is for them"):
        training_set(voc.config)
    voc.config.keep_difficult = True
    assert len(training_set(voc.config)) == 3


def test_12_bits_in_a_file_of_16(coco, caplog, capsys):
    values = np.linspace(0, 4095, 1200, dtype=np.uint16).reshape(30, 40)
    Image.fromarray(values).save(coco.image("b"))
    assert training_set(coco.config)[1][0].max() == 16  # read as 16 bits are
    main(["check", "--data.root", str(coco.root), "--data.format", "coco",
          "--data.train", "boxes.json", "--data.val", "boxes.json"])  # fmt: skip
    assert "16-bit images of 12 bits: values up to 4095 of 65535" in capsys.readouterr().out


@LAYOUTS
def test_no_sound_image(layout, tmp_path):
    data = made(layout, tmp_path)
    for name in "abc":
        data.image(name).write_bytes(b"")
    stops(data, "3 faults in 3 files:", faults=3)
    with pytest.raises(ConfigError, match="is empty: all its images are at fault"):
        training_set(skipping(data.config))


def test_many_faults(coco):
    coco.image("a").write_bytes(b"")
    coco.boxes += [{"id": k, "image_id": k, "category_id": 5, "bbox": []} for k in range(4, 74)]
    coco.boxes += [{"id": k, "image_id": 1, "category_id": 5, "bbox": []} for k in range(74, 84)]
    coco.write()
    with pytest.raises(DataError) as caught:
        training_set(coco.config)
    said, a, b, c = str(caught.value).splitlines()  # one cause, one line
    assert said == "81 faults in 2 files:" and "a.png: not a readable image" in c
    assert a.endswith("annotation 4 has unknown image_id 4 (and 69 more like this)")
    assert b.endswith("annotation 74 has bbox [], not four numbers (and 9 more like this)")


def test_faults_of_many_causes():
    faults = [Fault(Path("a.json"), "no " + "x" * k) for k in range(60)]
    lines = str(DataError(*faults)).splitlines()
    assert len(lines) == 52 and lines[-1] == "  and 10 more; `detcenter check` lists all"


def test_faults_in_both_parts(coco):
    other = coco.root / "other.json"
    coco.boxes[0]["bbox"] = []
    coco.write()
    other.write_text(coco.file.read_text())
    coco.config.val = "other.json"
    stops(coco, "2 faults in 2 files", "boxes.json: annotation 1", "other.json: annot", faults=2)


def test_library_readers_raise_by_themselves(coco, voc):
    coco.boxes[0]["bbox"] = []
    coco.write()
    voc.xml("b").write_text("")
    with pytest.raises(DataError, match="annotation 1 has bbox"):
        COCODataset(coco.root / "images", coco.file)
    with pytest.raises(DataError, match="b.xml: not readable as XML"):
        VOCDataset(voc.root, "list")
    with pytest.raises(DataError, match="not found"):
        read_image(voc.root / "none.png")


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


def test_one_file_name_under_two_ids(coco, caplog):
    coco.images[1]["file_name"] = "a.png"
    coco.write()
    _, faults = read_parts(coco.config)
    assert not faults
    said = [text for text in caplog.messages if "'images' with a file_name" in text]
    assert len(said) == 1 and "another has: 1;" in said[0]


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


@pytest.mark.parametrize("flag", ["1", "True", " true ", "1.0", "yes", "0", "False", "no", ""])
def test_difficult_as_tools_write_it(voc, flag):
    flagged = OBJECT.format("cat", 2, 3, 11, 22).replace(
        "<bndbox>", f"<difficult>{flag}</difficult><bndbox>"
    )
    voc.page("b", flagged)
    parts, _ = read_parts(voc.config)
    assert bool(parts["train"].annotations[1]["difficult"][0]) is (
        flag.strip().lower() in ("1", "true", "1.0", "yes")
    )


@pytest.mark.parametrize("encoding", ["GB2312", "gbk", "Shift_JIS", "windows-1251", "utf-16"])
def test_encodings_that_xml_declares(voc, encoding):
    name = "кот" if encoding == "windows-1251" else "猫"
    page = voc.xml("b").read_text().replace(">cat<", f">{name}<")
    voc.xml("b").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{page}'.encode(encoding))
    parts, faults = read_parts(voc.config)
    assert not faults and parts["train"].classes == ["cat", name]


def test_the_table_names_every_test_of_this_file_and_no_other():
    rows = re.findall(r"^\|.*\| `(test_\w+)(?:\[(.+)\])?` \|$", DOCS.read_text(), re.MULTILINE)
    here = {name for name in globals() if name.startswith("test_")}
    here.remove("test_the_table_names_every_test_of_this_file_and_no_other")
    assert {name for name, _ in rows} == here
    given = {(name, case) for name, case in rows if case}
    named = {name for name, _ in given}
    assert given == {(name, case) for name in named for case in cases(globals()[name])}


def cases(test):
    """The names that a test gives to its parameters."""
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    return {param.id for mark in marks for param in mark.args[1] if hasattr(param, "id")}
