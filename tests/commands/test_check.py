"""`detcenter check`, and what --fix makes of bad data."""

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from detcenter import cli
from detcenter.cli import main
from detcenter.data import COCODataset, DataError, DetectionDataset, Fault, VOCDataset
from tests.command_line import fails
from tests.data.layouts import OBJECT


def check(data, *args):
    keys = {"format": data.config.format, "root": data.root}
    keys |= {"train": data.config.train, "val": data.config.val}
    options = [text for key, value in keys.items() for text in (f"--data.{key}", str(value))]
    return main(["check", *options, *map(str, args)])


def spoil_coco(coco):
    """A fault of every kind, and boxes to clip and to drop."""
    for k, name in enumerate("defgh", start=4):
        coco.images.append({"id": k, "file_name": f"{name}.png", "width": 40, "height": 30})
        coco.boxes.append({"id": k, "image_id": k, "category_id": 5, "bbox": [5, 5, 9.5, 9]})
    for name in "def":
        coco.image(name).write_bytes(coco.image("a").read_bytes())
    coco.image("d").write_bytes(coco.image("a").read_bytes()[:60])
    coco.images[5]["file_name"] = r"in\f.png"
    (coco.root / "images" / "in").mkdir()
    coco.image("f").rename(coco.image("in/f"))
    coco.images[6]["file_name"] = "../../g.png"
    coco.boxes[0] |= {"bbox": [-5, 2, 10, 90], "segmentation": [[1, 2, 3, 4, 5, 6]], "score": 0.1}
    coco.boxes += [
        {"id": 20, "image_id": 2, "category_id": 5, "bbox": [3, 3, 0, 9]},
        {"id": 21, "image_id": 2, "category_id": 5, "bbox": "none"},
        {"id": 22, "image_id": 99, "category_id": 5, "bbox": [3, 3, 9, 9]},
        {"id": 23, "image_id": 2, "category_id": 77, "bbox": [3, 3, 9, 9]},
        dict(coco.boxes[2]),
    ]
    coco.write(info={"year": 2020}, licenses=[])


def test_clean_data(coco, voc, capsys):
    for data in (coco, voc):
        assert check(data) == 0
        said = capsys.readouterr().out
        assert re.search(r"data.train +3 +0 +3 +0 +0 +0\n", said) and said.endswith("\nno faults\n")
        assert re.search(r"cat +3 +3\n", said)


def test_all_faults_are_listed(coco, capsys):
    spoil_coco(coco)
    assert check(coco) == 1
    said = capsys.readouterr().out
    assert re.search(r"data.train +5 +0 +5 +0 +0 +1\n", said)
    _, listed = said.split("7 faults in 3 files:\n")
    for line, words in zip(
        listed.splitlines(),
        [
            "boxes.json: annotation 21 has bbox 'none', not four numbers",
            "boxes.json: annotation 22 has unknown image_id 99",
            "boxes.json: annotation 23 has unknown category_id 77",
            "boxes.json: annotation 3 occurs twice",
            "boxes.json: the name '../../g.png' leads out of",
            "h.png: image file not found",
            "d.png: not a readable image",
        ],
        strict=True,
    ):
        assert words in line


def test_fix_of_json(coco, tmp_path, capsys):
    spoil_coco(coco)
    before = {path: path.read_bytes() for path in coco.root.rglob("*") if path.is_file()}
    out = tmp_path / "fixed"
    assert check(coco, "--fix", out) == 1
    assert f"--data.root {out}" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in coco.root.rglob("*") if path.is_file()}

    skipped = COCODataset(coco.root / "images", coco.file, faults=[])
    skipped.annotations = [
        *skipped.annotations[:3],
        *skipped.annotations[4:],
    ]  # d, of which the reader sees the header only
    coco.root = out
    assert check(coco) == 0
    assert re.search(r"data.train +5 +0 +5 +0 +0 +0\n", capsys.readouterr().out)
    fixed = COCODataset(out / "images", out / "boxes.json")
    assert_same(fixed, skipped)
    content = json.loads((out / "boxes.json").read_text())
    assert content["info"] == {"year": 2020} and content["categories"] == coco.categories
    assert content["images"][3]["file_name"].endswith("e.png")
    assert content["images"][4]["file_name"].endswith("in/f.png")
    assert content["annotations"][0] == coco.boxes[0] | {"bbox": [0, 2, 5, 28], "area": 140}
    areas = {k: {"area": np.prod(coco.boxes[k]["bbox"][2:])} for k in (1, 2, 4, 5)}
    assert content["annotations"][1:] == [coco.boxes[k] | areas[k] for k in (1, 2, 4, 5)]


def test_fix_of_one_file_for_two_folders_of_images(coco, tmp_path):
    coco.write()
    shutil.copytree(coco.root / "images", coco.root / "others")
    keys = "--data.train_images", "images", "--data.val_images", "others"
    assert check(coco, "--fix", tmp_path / "fixed", *keys) == 0
    for folder in ("images", "others"):
        assert len(COCODataset(tmp_path / "fixed" / folder, tmp_path / "fixed/boxes.json")) == 3


def assert_same(fixed, skipped):
    for one, other in zip(fixed.annotations, skipped.annotations, strict=True):
        np.testing.assert_array_equal(one["boxes"], other["boxes"])
        np.testing.assert_array_equal(one["labels"], other["labels"])
        assert one["path"].resolve() == other["path"].resolve()


def test_ids_of_boxes_are_made_unique(coco, tmp_path):
    coco.boxes[1]["id"] = 1
    coco.write()
    assert check(coco, "--fix", tmp_path / "fixed") == 0
    content = json.loads((tmp_path / "fixed" / "boxes.json").read_text())
    assert [row["id"] for row in content["annotations"]] == [1, 2, 3]


def spoil_voc(voc):
    for name in ("d", "e", "photo 1", "f"):
        voc.image(name).write_bytes(voc.image("a").read_bytes())
        voc.page(name, OBJECT.format("cat", 2, 3, 11, 22))
        voc.names.append(name)
    voc.page("a", OBJECT.format("cat", -5, 5, 20, 90), OBJECT.format("cat", 40, 5, 60, 9))
    voc.page("b", OBJECT.format("cat", 7, 7, 7, 7), OBJECT.format("cat", "x", 2, 3, 4))
    voc.xml("d").write_text("<annotation>")
    voc.image("e").write_bytes(b"")
    voc.image("f").unlink()
    voc.names += ["a", "../g", "missing"]
    voc.write()


def test_fix_of_xml(voc, tmp_path, capsys):
    spoil_voc(voc)
    before = {path: path.read_bytes() for path in voc.root.rglob("*") if path.is_file()}
    out = tmp_path / "fixed"
    assert check(voc, "--fix", out) == 1
    assert "7 faults in 6 files:" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in voc.root.rglob("*") if path.is_file()}

    skipped = VOCDataset(voc.root, "list", faults=[])
    skipped.annotations = [*skipped.annotations[:3], *skipped.annotations[4:]]  # without e
    original, voc.root = voc.root, out
    assert check(voc) == 0
    assert re.search(r"data.train +4 +1 +4 +0 +0 +0\n", capsys.readouterr().out)
    assert voc.list.name == "list.txt"
    fixed = VOCDataset(out, "list")
    assert_same(fixed, skipped)
    assert fixed.annotations[0]["boxes"].tolist() == [[0, 4, 20, 30], [39, 4, 40, 9]]
    text = (out / "Annotations" / "a.xml").read_text()
    assert "<xmin>1</xmin>" in text and "<ymax>30</ymax>" in text
    assert (original / "Annotations" / "c.xml").read_bytes() == voc.xml("c").read_bytes()


def test_fix_overwrites_nothing(coco, tmp_path, capsys):
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "x").touch()
    file.touch()
    args = ("check", "--data.format", "coco", "--data.train", "boxes.json")
    for out in (full, file, coco.root):
        line = fails(capsys, *args, "--data.root", coco.root, "--fix", out)
        assert "exists and is not an empty folder" in line
    line = fails(capsys, *args, "--data.train_images", "../x", "--fix", tmp_path / "new")
    assert "data.train_images: the name '../x' leads out of" in line
    line = fails(capsys, "check", "--data.format", "digits", "--fix", tmp_path / "new")
    assert "--fix is for data.format voc and coco" in line


def test_what_training_would_refuse_is_a_fault(coco, capsys):
    other = coco.root / "other.json"
    coco.write(categories=[{"id": 5, "name": "dog"}])
    other.write_text(coco.file.read_text())
    coco.write(annotations=[])
    coco.config.val = "other.json"
    assert check(coco) == 1
    said = capsys.readouterr().out
    assert "boxes.json: no objects to learn from" in said
    assert "other.json: other classes than data.train 'boxes.json'" in said
    other.write_text("{}")
    assert check(coco) == 2
    assert "other.json: no list 'images'" in capsys.readouterr().err


def test_a_list_of_faults_is_printed_whole(coco, capsys):
    coco.image("a").write_bytes(b"")
    coco.image("c").write_bytes(b"")
    recipe = coco.root / "recipe.yaml"
    recipe.write_text(json.dumps({"data": vars(coco.config) | {"digits": {}, "augment": {}}}))
    assert main(["train", "--config", str(recipe), "--output", str(coco.root / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "detcenter train: 2 faults in 2 files:" and len(lines) == 3
    assert "a.png: not a readable image" in lines[1] and "c.png: not a" in lines[2]


class Faulty(DetectionDataset):
    def __getitem__(self, index):
        raise DataError(Fault("a.png", "broken\x1b[31m"), Fault("b.png", "broken"))


def test_a_list_of_faults_passes_through_a_worker():
    annotation = {"image_id": 1, "path": None, "width": 1, "height": 1, "boxes": np.zeros((0, 4))}
    annotation |= {key: np.zeros(0, int) for key in ("labels", "iscrowd", "difficult", "area")}
    with pytest.raises(DataError) as caught:
        next(iter(DataLoader(Faulty([annotation], []), num_workers=1)))
    expected = "2 faults in 2 files:\n  a.png: broken\\x1b[31m\n  b.png: broken"
    assert cli._for_a_person(caught.value) == expected
    error = pickle.loads(pickle.dumps(DataError(Fault("a.png", "x"), Fault("b.png", "y"))))
    assert error.args[1] == Fault("b.png", "y")


# Findings: what each is said of is in tests/data/test_findings.py.


def apart(data):
    """Three images that are not alike, of 160 x 120, in place of those of one colour."""
    rng = np.random.default_rng(0)
    for name in "abc":
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((160, 120)).save(data.image(name))
    for image in data.images:
        image |= {"width": 160, "height": 120}


def test_findings_in_a_table(coco, capsys):
    apart(coco)
    coco.boxes += [dict(coco.boxes[1], id=9), dict(coco.boxes[1], id=10, bbox=[1, 2, 10, 0])]
    coco.images[2] |= {"width": 320, "height": 240}
    coco.write()
    assert check(coco) == 0
    said = capsys.readouterr().out
    for part in ("train", "val"):
        for row in (
            f"warning +boxes that are there twice, .* data.{part} +1 +b.png: cat .1, 2, 11, 22., o",
            f"warning +boxes without width or height; dropped +data.{part} +1 +b.png: cat",
            f"warning +images smaller or .* data.{part} +1 +c.png: 160x120, annotated as 320x240",
            f"remark +classes with fewer than 10 boxes +data.{part} +1 +cat: 5 boxes",
        ):
            assert re.search(row, said), row
    assert re.search(
        "warning +images equal, .* of data.train +data.train, data.val +3 +a.png", said
    )
    assert said.endswith("\nno faults\n")


def test_findings_for_programs(coco, tmp_path, capsys):
    apart(coco)
    coco.boxes += [{"id": 9, "image_id": 2, "category_id": 5, "bbox": [1, 2, float("nan"), 9]}]
    coco.image("a").write_bytes(b"")
    coco.write()
    assert check(coco, "--json", tmp_path / "found.json") == 1
    found = json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)
    assert found["parts"]["train"] == {
        "images": 2,
        "images_without_boxes": 0,
        "boxes": 2,
        "difficult": 0,
        "crowd": 0,
        "dropped": 1,
    }
    assert found["classes"] == {"cat": {"train": 2, "val": 2}} and found["near_copies_looked_for"]
    [fault] = found["faults"]
    assert fault["file"] == str(coco.image("a")) and "not a readable image" in fault["what"]
    [nan] = [f for f in found["findings"] if (f["kind"], f["parts"]) == ("not_finite", ["val"])]
    assert (nan["severity"], nan["count"]) == ("warning", 1)
    [image] = nan["examples"][0]["images"]
    assert image["path"] == str(coco.image("b")) and image["image_id"] == 2
    assert image["boxes"] == [{"number": 1, "class": "cat", "xyxy": [1, 2, None, 11]}]


def test_severe_findings_are_faults(coco, capsys):
    apart(coco)
    coco.boxes = [
        {"id": k, "image_id": 1 + k % 3, "category_id": 5, "bbox": [k / 9, 0.1, 0.1, 0.2]}
        for k in range(8)
    ]
    coco.write()
    assert check(coco) == 1
    said = capsys.readouterr().out
    assert re.search("fault +boxes look like parts of the image, 0 to 1", said)
    assert "no faults" not in said and "below a pixel" not in said  # one cause, one line
    line = fails(capsys, *training(coco))
    assert (
        "boxes.json: boxes look like parts of the image, 0 to 1; they must be pixels: 8 (" in line
    )


def training(coco):
    recipe = coco.root / "recipe.yaml"
    recipe.write_text(json.dumps({"data": vars(coco.config) | {"digits": {}, "augment": {}}}))
    return "train", "--config", recipe, "--output", coco.root / "run"


def test_one_line_where_near_copies_cannot_be_looked_for(coco, capsys, monkeypatch):
    monkeypatch.setattr("detcenter.commands.check.find_spec", lambda name: None)
    assert check(coco) == 0
    said = capsys.readouterr().out
    assert "near copies of images were not looked for: that needs imagehash, which pip" in said


def test_near_copies_for_folds(coco, tmp_path, capsys):
    apart(coco)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((160, 120))
    picture.save(coco.image("a"))
    picture.save(coco.image("c"), "JPEG", quality=90)
    coco.boxes = [
        {"id": n, "image_id": n, "category_id": 5, "bbox": [10, 10, 40, 40]} for n in (1, 2, 3)
    ]
    coco.write()
    file = tmp_path / "groups.json"
    assert check(coco, "--groups", file) == 0
    names = [Path(coco.image(name)).relative_to(coco.root).as_posix() for name in "ac"]
    assert json.loads(file.read_text()) == [names]
    assert f"--data.groups {file} keeps in one fold: 1" in capsys.readouterr().out


def test_groups_need_imagehash(coco, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    args = ("check", "--data.root", coco.root, "--groups", tmp_path / "groups.json")
    line = fails(capsys, *args)
    assert "--groups" in line and "imagehash" in line and "detcenter[check]" in line


def test_fix_drops_copies_and_writes_flags_and_areas(coco, tmp_path, capsys):
    coco.boxes[0] |= {"iscrowd": "0", "area": 150.5}
    coco.boxes[1] |= {"iscrowd": 0, "area": "none"}
    coco.boxes[2] |= {"iscrowd": "true", "area": 0}
    coco.boxes += [dict(coco.boxes[1], id=7), dict(coco.boxes[1], id=8, bbox=[1, 2, 10, 20.5])]
    coco.write()
    before = coco.file.read_bytes()
    assert check(coco, "--fix", tmp_path / "fixed") == 0
    said = capsys.readouterr().out
    for line in (
        "copies of boxes left out: 1",
        "crowd flags written as 0 or 1: 2",
        "areas of boxes written: 3",
    ):
        assert line in said.splitlines()
    rows = json.loads((tmp_path / "fixed" / "boxes.json").read_text())["annotations"]
    assert [(row["id"], row["iscrowd"], row["area"]) for row in rows] == [
        (1, 0, 150.5),
        (2, 0, 200),
        (8, 0, 205),
        (3, 1, 200),
    ]
    assert coco.file.read_bytes() == before


def test_fix_drops_copies_of_objects(voc, tmp_path, capsys):
    one, other = OBJECT.format("cat", 2, 3, 11, 22), OBJECT.format("cat", 2, 3, 11, 23)
    voc.page("b", one, other, one)
    assert check(voc, "--fix", tmp_path / "fixed") == 0
    assert "copies of boxes left out: 1" in capsys.readouterr().out
    fixed = VOCDataset(tmp_path / "fixed", "list")
    assert fixed.annotations[1]["boxes"].tolist() == [[1, 2, 11, 22], [1, 2, 11, 23]]
    assert (tmp_path / "fixed/Annotations/a.xml").read_bytes() == voc.xml("a").read_bytes()


def test_a_file_that_cannot_be_written_stops_before_the_check(coco, tmp_path, capsys):
    args = (
        "check",
        "--data.format",
        "coco",
        "--data.root",
        coco.root,
        "--data.train",
        "boxes.json",
    )
    for option in ("--json", "--html"):
        for file in (tmp_path, tmp_path / "none" / "x"):
            assert "not a file in a folder that is there" in fails(capsys, *args, option, file)


def test_a_page(coco, tmp_path, capsys):
    apart(coco)
    coco.write()
    assert check(coco, "--html", tmp_path / "data.html") == 0
    page = (tmp_path / "data.html").read_text(encoding="utf-8")
    assert "images equal, byte by byte, to one of data.train" in page and "data:image/webp" in page
