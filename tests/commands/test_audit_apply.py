"""`detcenter audit apply`: corrected data sets in their own layouts, and what is refused."""

import json
import logging
import shutil
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.recipe.decided import data_of_audit
from tests.command_line import fails

FILES = (".xml", ".json", ".txt", ".yaml", ".csv")
LAYOUTS = ("voc", "coco", "yolo", "cvat", "labelme", "label_studio", "table")


def named_boxes(part, annotation):
    names = [part.classes[label - 1] for label in annotation["labels"]]
    return [*zip(names, annotation["boxes"].tolist(), strict=True)]


def as_label_studio(root, name, part):
    tasks = []
    for a in part.annotations:
        width, height = a["width"], a["height"]
        common = {"type": "rectanglelabels", "original_width": width, "original_height": height}
        results = []
        for label, (x1, y1, x2, y2) in named_boxes(part, a):
            value = {"x": 100 * x1 / width, "width": 100 * (x2 - x1) / width}
            value |= {"y": 100 * y1 / height, "height": 100 * (y2 - y1) / height}
            value |= {"rectanglelabels": [label]}
            results.append({"id": str(len(results)), "value": value} | common)
        tasks.append({"data": {"image": a["path"].name}, "annotations": [{"result": results}]})
    (root / f"{name}.json").write_text(json.dumps(tasks))


def as_table(root, name, part):
    rows = [
        ",".join([a["path"].name, label, *(f"{corner:g}" for corner in box)])
        for a in part.annotations
        for label, box in named_boxes(part, a)
    ]
    header = "filename,class,xmin,ymin,xmax,ymax"
    (root / f"{name}.csv").write_text("\n".join([header, *rows]))


def as_cvat(root, name, part):
    tree = Element("annotations")
    for a in part.annotations:
        sides = {"width": str(a["width"]), "height": str(a["height"])}
        image = SubElement(tree, "image", {"name": a["path"].name} | sides)
        for label, box in named_boxes(part, a):
            corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(str, box), strict=True))
            SubElement(image, "box", {"label": label} | corners)
    (root / f"{name}.xml").write_bytes(tostring(tree))


def as_labelme(root, name, part):
    """Its parts are folders."""
    (root / name).mkdir()
    for a in part.annotations:
        shapes = [
            {"label": label, "points": [box[:2], box[2:]], "shape_type": "rectangle"}
            for label, box in named_boxes(part, a)
        ]
        image = (root / a["path"].name).rename(root / name / a["path"].name)
        content = {"imagePath": image.name, "shapes": shapes}
        image.with_suffix(".json").write_text(json.dumps(content))


MADE = {
    "cvat": as_cvat,
    "label_studio": as_label_studio,
    "labelme": as_labelme,
    "table": as_table,
}


@pytest.fixture(params=LAYOUTS)
def root(request, data, tmp_path):
    """The same scenes in each layout."""
    out = tmp_path / request.param
    if request.param == "voc":
        return Path(shutil.copytree(data, out))
    if request.param in MADE:
        shutil.copytree(data / "JPEGImages", out)
        logging.getLogger("detcenter").handlers.clear()  # of a command before, as in `write`
        config = DataConfig(root=str(data))
        train = training_set(config)
        for name, part in (("train", train), ("val", validation_set(config, train.classes))):
            MADE[request.param](out, name, part)
        return out
    assert main(["convert", "--data.root", str(data), "--to", request.param, str(out)]) == 0
    return out


def contents(root):
    """By image, the class and whole corners of every box."""
    config = DataConfig(root=str(root))
    train = training_set(config)
    parts = [train, validation_set(config, train.classes)]
    return {
        a["path"].relative_to(root).as_posix(): sorted(
            (part.classes[label - 1], *np.round(box).astype(int).tolist())
            for box, label in zip(a["boxes"], a["labels"], strict=True)
        )
        for part in parts
        for a in part.annotations
    }


def exact(root):
    config = DataConfig(root=str(root))
    dataset = training_set(config)
    return [
        (a["path"].relative_to(root).as_posix(), box.tolist(), dataset.classes[label - 1])
        for a in dataset.annotations
        for box, label in zip(a["boxes"], a["labels"], strict=True)
    ]


def decision(kind, image, box, label, decided="accept", number=0, **new):
    row = {"kind": kind, "image": image, "number": None if label is None else number}
    return row | {"box": box, "label": label, "decision": decided} | new


def write(path, root, decisions):
    logging.getLogger("detcenter").handlers.clear()  # of a command before, whose output has ended
    content = {"data": data_of_audit(DataConfig(root=str(root))), "decisions": decisions}
    path.write_text(json.dumps(content))
    return path


def state(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_kind_of_change_in_every_layout(root, tmp_path, capsys):
    before, original = contents(root), state(root)
    (a, box_a, label_a), (_, box_b, label_b), *_ = boxes = exact(root)
    assert boxes[1][0] == a  # in one image
    c, box_c, label_c = boxes[-1]
    other = "1" if label_a != "1" else "2"
    added = [3.0, 4.0, 20.0, 30.0]
    file = write(
        tmp_path / "decisions.json",
        root,
        [
            decision("wrong label", a, box_a, label_a, new_label=other, new_box=box_a),
            decision("surplus", a, box_b, label_b, number=1, new_label=None, new_box=None),
            decision("badly placed", c, box_c, label_c, new_label=label_c, new_box=[5, 6, 40, 50]),
            decision("missing", c, added, None, "class", new_label="7", new_box=added),
            decision("missing", a, added, None, "reject"),
        ],
    )
    out = tmp_path / "out"
    assert main(["audit", "apply", str(file), "--output", str(out)]) == 0
    said, _ = capsys.readouterr()
    for line in ("labels changed: 1", "boxes removed: 1", "boxes moved: 1", "boxes added: 1"):
        assert line in said
    expected = {name: list(rows) for name, rows in before.items()}

    def row(label, box):
        return (label, *np.round(box).astype(int).tolist())

    expected[a].remove(row(label_b, box_b))
    expected[a].remove(row(label_a, box_a))
    expected[a].append(row(other, box_a))
    expected[c].remove(row(label_c, box_c))
    expected[c] += [row(label_c, [5, 6, 40, 50]), row("7", added)]
    assert contents(out) == {name: sorted(rows) for name, rows in expected.items()}
    assert state(root) == original  # as they were
    images = [path for path in out.rglob("*.jpg")]
    assert images and all(path.is_symlink() for path in images)
    assert not any(p.is_symlink() for p in out.rglob("*") if p.suffix in FILES)


def test_decisions_about_one_box_are_put_together(root, tmp_path):
    (image, box, label), (_, box_b, label_b), *_ = exact(root)
    other = "1" if label != "1" else "2"
    moved = [5, 6, 40, 50]
    rows = [
        decision("badly placed", image, box, label, new_label=label, new_box=moved),
        decision("wrong label", image, box, label, new_label=other, new_box=box),
        decision("wrong label", image, box_b, label_b, number=1, new_label=other, new_box=box_b),
        decision("surplus", image, box_b, label_b, number=1, new_label=None, new_box=None),
    ]
    before = contents(root)[image]
    file = write(tmp_path / "d.json", root, rows)
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    after = contents(tmp_path / "out")[image]
    assert (other, *moved) in after and len(after) == len(before) - 1


def test_new_boxes_end_where_their_image_ends(root, tmp_path):
    (image, box, label), *_ = exact(root)
    over = {"new_label": label, "new_box": [-6, 3, 40, 1000]}
    file = write(tmp_path / "d.json", root, [decision("badly placed", image, box, label, **over)])
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    height = max(y for rows in contents(root).values() for *_, y in rows)
    found = [row for row in contents(tmp_path / "out")[image] if row[:4] == (label, 0, 3, 40)]
    assert len(found) == 1 and height <= found[0][4] < 1000


def test_what_nothing_was_decided_about_stays_to_the_byte(root, tmp_path):
    (image, box, label), *_ = exact(root)
    new = {"new_label": "1" if label != "1" else "2", "new_box": box}
    file = write(tmp_path / "d.json", root, [decision("wrong label", image, box, label, **new)])
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    differing = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix in FILES
        and path.is_file()
        and path.read_bytes() != (tmp_path / "out" / path.relative_to(root)).read_bytes()
    ]
    assert len(differing) == 1


def test_a_data_set_that_was_moved(root, tmp_path):
    (image, box, label), *_ = exact(root)
    rows = [decision("surplus", image, box, label, new_label=None, new_box=None)]
    file = write(tmp_path / "d.json", root, rows)
    moved = root.rename(root.with_name("moved"))
    args = ["audit", "apply", str(file), "--root", str(moved), "--output", str(tmp_path / "out")]
    assert main(args) == 0
    assert (
        sum(map(len, contents(tmp_path / "out").values()))
        == sum(map(len, contents(moved).values())) - 1
    )


def test_decisions_of_other_data_change_nothing(root, tmp_path, capsys):
    (image, box, label), *_ = exact(root)
    remove = {"new_label": None, "new_box": None}
    out = tmp_path / "out"
    for row, said in (
        (decision("surplus", "none.jpg", box, label, **remove), "there is no image none.jpg"),
        (decision("surplus", image, [1, 2, 3, 4], label, **remove), "has no box [1, 2, 3, 4] of"),
        (decision("surplus", image, box, "x", **remove), "of class 'x'"),
        (
            decision("wrong label", image, box, label, new_label="x", new_box=box),
            "there is no class 'x'",
        ),
        (
            decision("badly placed", image, box, label, new_label=label, new_box=[900, 1, 999, 9]),
            "[900, 1, 999, 9] is outside of",
        ),
    ):
        file = write(tmp_path / "d.json", root, [row])
        line = fails(capsys, "audit", "apply", file, "--output", out)
        assert said in line and "Nothing was written" in line and not out.exists()


def test_a_box_that_is_there_twice_is_two_boxes(data, tmp_path, capsys):
    root = Path(shutil.copytree(data, tmp_path / "data"))
    file = sorted((root / "Annotations").iterdir())[0]
    text = file.read_text()
    thing = text[text.index("<object>") : text.index("</object>") + len("</object>")]
    file.write_text(text.replace(thing, thing + thing, 1))
    (image, box, label), (again, box_b, _), *_ = exact(root)
    assert image == again and box == box_b
    remove = {"new_label": None, "new_box": None}
    rows = [decision("surplus", image, box, label, number=n, **remove) for n in (0, 1)]
    path = write(tmp_path / "d.json", root, rows)
    assert main(["audit", "apply", str(path), "--output", str(tmp_path / "out")]) == 0
    assert "boxes removed: 2" in capsys.readouterr().out
    assert len(contents(tmp_path / "out")[image]) == len(contents(root)[image]) - 2


def coco_root(data, tmp_path):
    out = tmp_path / "coco"
    assert main(["convert", "--data.root", str(data), "--to", "coco", str(out)]) == 0
    return out


@pytest.mark.parametrize("key", ["train", "val_images"])
def test_nothing_is_written_outside_of_the_output(data, tmp_path, capsys, key):
    root = coco_root(data, tmp_path)
    file = write(tmp_path / "d.json", root, [])
    content = json.loads(file.read_text())
    for value in (str(root / "annotations/instances_train.json"), "../coco/images"):
        content["data"][key] = value
        file.write_text(json.dumps(content))
        before = state(root)
        line = fails(capsys, "audit", "apply", file, "--output", tmp_path / "out")
        assert f"data.{key}: the name" in line and "leads out" in line
        assert state(root) == before


def test_categories_of_one_name(data, tmp_path):
    """They are told apart as they are read: by their ids."""
    root = coco_root(data, tmp_path)
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["name"] = "digit"
        file.write_text(json.dumps(content))
    (image, box, label), *_ = exact(root)
    other = next(name for name in training_set(DataConfig(root=str(root))).classes if name != label)
    rows = [decision("wrong label", image, box, label, new_label=other, new_box=box)]
    rows += [decision("missing", image, [1, 1, 9, 9], None, new_label=other, new_box=[1, 1, 9, 9])]
    file = write(tmp_path / "d.json", root, rows)
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    found = contents(tmp_path / "out")[image]
    assert (other, *np.round(box).astype(int).tolist()) in found and (other, 1, 1, 9, 9) in found


def test_faulty_records_stay_where_they_are_skipped(data, tmp_path):
    root = coco_root(data, tmp_path)
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"].insert(0, {"id": 999, "image_id": 1, "category_id": 77, "bbox": [1]})
    path.write_text(json.dumps(content))
    logging.getLogger("detcenter").handlers.clear()
    dataset = training_set(DataConfig(root=str(root), on_error="skip"))
    a = dataset.annotations[0]
    image, box = a["path"].relative_to(root).as_posix(), a["boxes"][0].tolist()
    label = dataset.classes[a["labels"][0] - 1]
    row = decision("surplus", image, box, label, new_label=None, new_box=None)
    data_section = data_of_audit(DataConfig(root=str(root), on_error="skip"))
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"data": data_section, "decisions": [row]}))
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    new = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert len(new["annotations"]) == len(content["annotations"]) - 1
    assert new["annotations"][0] == content["annotations"][0]


def test_the_given_class_again_changes_nothing(data, tmp_path, capsys):
    (image, box, label), *_ = exact(data)
    row = decision("wrong label", image, box, label, "class", new_label=label, new_box=box)
    file = write(tmp_path / "d.json", data, [row])
    assert main(["audit", "apply", str(file), "--output", str(tmp_path / "out")]) == 0
    assert "nothing is changed" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(data)


def test_two_images_with_one_label_file(data, tmp_path, capsys):
    root = tmp_path / "yolo"
    assert main(["convert", "--data.root", str(data), "--to", "yolo", str(root)]) == 0
    image = sorted((root / "images/train").iterdir())[0]
    shutil.copyfile(image, image.with_suffix(".png"))
    rows = [
        decision("surplus", name, box, label, new_label=None, new_box=None)
        for name, box, label in exact(root)
        if name.startswith(f"images/train/{image.stem}.")
    ]
    file = write(tmp_path / "d.json", root, rows)
    line = fails(capsys, "audit", "apply", file, "--output", tmp_path / "out")
    assert "the label file of several images" in line


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"decisions": [], "data": {}}',
        '{"decisions": 1, "data": 2}',
        "\u0000",
    ],
)
def test_no_file_of_decisions(content, tmp_path, capsys):
    file = tmp_path / "decisions.json"
    file.write_text(content)
    line = fails(capsys, "audit", "apply", file, "--output", tmp_path / "out")
    assert "decisions.json is no file of decisions" in line


def test_decisions_that_make_no_sense(data, tmp_path, capsys):
    rows = [
        decision("wrong label", "a.jpg", [5, 5, 1, 1], "1", new_label="2", new_box=[1, 1, 5, 5])
    ]
    file = write(tmp_path / "d.json", data, rows)
    line = fails(capsys, "audit", "apply", file, "--output", tmp_path / "out")
    assert "[5.0, 5.0, 1.0, 1.0] is no box" in line


def test_where_it_may_be_written(data, tmp_path, capsys):
    file = write(tmp_path / "d.json", data, [])
    assert "inside data.root" in fails(capsys, "audit", "apply", file, "--output", data / "new")
    assert "not an empty folder" in fails(capsys, "audit", "apply", file, "--output", tmp_path)
    missing = tmp_path / "none.json"
    assert "none.json: No such file" in fails(
        capsys, "audit", "apply", missing, "--output", tmp_path / "out"
    )


def test_packed_data_are_not_written(data, tmp_path, capsys):
    file = write(tmp_path / "d.json", data, [])
    content = json.loads(file.read_text())
    content["data"] |= {"format": "lmdb", "train": "a", "val": "b"}
    file.write_text(json.dumps(content))
    line = fails(capsys, "audit", "apply", file, "--output", tmp_path / "out")
    assert "data.format lmdb: a packed data set is not corrected" in line
