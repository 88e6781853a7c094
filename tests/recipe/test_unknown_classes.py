"""data.unknown: classes that a detector is not taught."""

import json
import logging

import numpy as np
import pytest

from detcenter.cli import main
from detcenter.data import LMDBDataset, write_lmdb
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import part_of, training_set, validation_set
from detcenter.recipe.parsing import parse_recipe, recipe_parser

UNKNOWN = ["3", "8"]


def labels_by_name(annotation, names):
    return [names[label - 1] for label in annotation["labels"].tolist()]


def by_image(dataset, annotations=None, names=None):
    annotations = dataset.annotations if annotations is None else annotations
    names = names or dataset.classes
    return {
        a["path"].name: list(zip(labels_by_name(a, names), a["boxes"].tolist(), strict=True))
        for a in annotations
    }


def test_training_has_no_image_with_such_an_object(data, caplog):
    config = DataConfig(root=str(data))
    whole = training_set(config)
    with caplog.at_level(logging.INFO, "detcenter"):
        taught = training_set(DataConfig(root=str(data), unknown=UNKNOWN))
    assert taught.classes == [name for name in whole.classes if name not in UNKNOWN]
    expected = {
        name: boxes
        for name, boxes in by_image(whole).items()
        if not {label for label, _ in boxes} & {*UNKNOWN}
    }
    assert by_image(taught) == expected and 0 < len(expected) < len(whole)
    said = f"{len(expected)} of {len(whole)} training images have no such object"
    assert said in caplog.text
    image, target = taught[0]
    place = [a["path"] for a in whole.annotations].index(taught.annotations[0]["path"])
    assert np.array_equal(image, whole[place][0])
    assert len(target["boxes"]) == len(taught.annotations[0]["boxes"])


def test_or_keeps_them_without_these_boxes(data):
    whole = training_set(DataConfig(root=str(data)))
    config = DataConfig(root=str(data), unknown=UNKNOWN, keep_unknown_images=True)
    assert by_image(training_set(config)) == {
        name: [(label, box) for label, box in boxes if label not in UNKNOWN]
        for name, boxes in by_image(whole).items()
    }


def test_numbers_are_names(data):
    taught = training_set(DataConfig(root=str(data), unknown=[3, 8]))
    assert by_image(taught) == by_image(training_set(DataConfig(root=str(data), unknown=UNKNOWN)))


@pytest.mark.parametrize("folds", [None, 3])
def test_validation_knows_where_they_are(data, folds):
    config = DataConfig(root=str(data), unknown=UNKNOWN, folds=folds)
    all_known = DataConfig(root=str(data), folds=folds)
    classes = training_set(config).classes
    val = validation_set(config, classes)
    whole = validation_set(all_known, training_set(all_known).classes)
    expected = by_image(whole)
    assert by_image(val, val.with_unknown, [*classes, *UNKNOWN]) == expected
    assert any(label in UNKNOWN for boxes in expected.values() for label, _ in boxes)
    assert by_image(val) == {
        name: [(label, box) for label, box in boxes if label not in UNKNOWN]
        for name, boxes in expected.items()
    }


def test_folds_train_on_those_without_them_of_the_other_folds(data):
    for fold in range(3):
        config = DataConfig(root=str(data), folds=3, fold=fold)
        whole = by_image(training_set(config))
        config.unknown = UNKNOWN
        assert by_image(training_set(config)) == {
            name: boxes
            for name, boxes in whole.items()
            if not {label for label, _ in boxes} & {*UNKNOWN}
        }


def test_packed_data_and_category_ids(data, tmp_path):
    whole = training_set(DataConfig(root=str(data)))
    val = validation_set(DataConfig(root=str(data)), whole.classes)
    write_lmdb(tmp_path / "packed", {"train": whole, "val": val}, data)
    config = DataConfig(format="lmdb", root=str(tmp_path / "packed"), train="train", val="val")
    config.unknown = UNKNOWN
    taught = training_set(config)
    assert by_image(taught) == by_image(training_set(DataConfig(root=str(data), unknown=UNKNOWN)))
    place = LMDBDataset(tmp_path / "packed", "train").classes.index("9") + 1
    assert taught.category_ids[taught.classes.index("9")] == place
    assert taught[0][0].shape == whole[0][0].shape


def test_a_class_that_validation_lacks(data):
    """VOC's classes are those that occur: labels are those of the training set all the same."""
    config = DataConfig(root=str(data), unknown=UNKNOWN)
    classes = [*training_set(config).classes, "other"]
    val = part_of(config, "val", classes)
    assert val.classes == classes


@pytest.fixture
def categories(coco):
    """Scenes of COCO's layout with the categories a, b and c, of the ids 3, 7 and 9."""
    records = [{"id": number, "name": name} for number, name in ((3, "a"), (7, "b"), (9, "c"))]
    boxes = [{"image_id": 1, "category_id": number, "bbox": [1, 1, 9, 9]} for number in (3, 9)]
    boxes.append({"image_id": 2, "category_id": 7, "bbox": [2, 2, 9, 9]})
    boxes = [{"id": n, "iscrowd": 0, "area": 81} | box for n, box in enumerate(boxes, start=1)]
    content = {"images": coco.images, "categories": records, "annotations": boxes}
    for part in ("train", "val"):
        (coco.root / f"{part}.json").write_text(json.dumps(content))
    return coco.root


def of_coco(root, **more):
    values = {"train": "train.json", "val": "val.json", "unknown": ["c"], "val_images": "images"}
    values |= {"train_images": "images", "keep_unknown_images": True, "format": "coco"}
    return DataConfig(root=str(root), **values | more)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("classes", [None, ["a", "b"], ["a", "c", "b"]])
def test_categories_keep_their_ids(categories, classes):
    config = of_coco(categories, classes=classes)
    train = training_set(config)
    val = validation_set(config, train.classes)
    for part in (train, val):
        assert (part.classes, part.category_ids) == (["a", "b"], [3, 7])
    assert by_image(val, val.with_unknown, ["a", "b", "c"]) != by_image(val)


def test_categories_of_validation(categories):
    """One without a box is of no matter, as it is without data.unknown; one that lacks is."""
    extra = {"id": 11, "name": "extra"}
    edit(categories / "val.json", lambda content: content["categories"].append(extra))
    val = validation_set(of_coco(categories), ["a", "b"])
    assert (val.classes, val.category_ids) == (["a", "b"], [3, 7])
    edit(categories / "val.json", without("b"))
    with pytest.raises(ConfigError, match="they must be the same"):
        validation_set(of_coco(categories), ["a", "b"])


def without(name):
    def change(content):
        (gone,) = [c["id"] for c in content["categories"] if c["name"] == name]
        for key, own in (("categories", "id"), ("annotations", "category_id")):
            content[key] = [record for record in content[key] if record[own] != gone]

    return change


def test_what_makes_no_sense(data):
    for unknown, what in (
        (["eight"], "no class 'eight'"),
        (["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "names all classes"),
        (["0", "1", "2", "3", "4", "5", "6", "7", "8"], "keep_unknown_images true"),
    ):
        with pytest.raises(ConfigError, match=what):
            training_set(DataConfig(root=str(data), unknown=unknown))


def test_the_recipe_may_have_numbers(recipe):
    config, _ = parse_recipe(
        recipe_parser("x", "y"), ["--config", str(recipe), "--data.unknown", "[8, 9]"]
    )
    assert config.data.unknown == [8, 9]


def test_a_class_that_the_checkpoint_was_taught(data):
    with pytest.raises(ConfigError, match="'3' is a class that the checkpoint was taught"):
        validation_set(DataConfig(root=str(data), unknown=[3]), list("0123456789"))


def test_wrong_labels_and_unknown_classes(data):
    config = DataConfig(format="digits", root=str(data), unknown=[3])
    config.digits.wrong_labels = 0.3
    with pytest.raises(ConfigError, match="would be taught under another label"):
        training_set(config)


@pytest.fixture
def own_recipe(recipe, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(recipe.read_text().replace("data:", "data:\n  unknown: [3, 8]", 1))
    return str(path)


def test_a_data_set_that_is_written_is_whole(data, own_recipe, tmp_path):
    whole = training_set(DataConfig(root=str(data)))
    packed, out = tmp_path / "packed.lmdb", tmp_path / "out"
    assert main(["pack", "--config", own_recipe, "--output", str(packed)]) == 0
    assert main(["convert", "--config", own_recipe, "--to", "coco", str(out)]) == 0
    for written in (LMDBDataset(packed, "train"), training_set(DataConfig(root=str(out)))):
        assert written.classes == whole.classes and len(written) == len(whole)


def test_check_says_if_there_is_no_such_class(own_recipe, capsys):
    assert main(["check", "--config", own_recipe]) == 0
    assert main(["check", "--config", own_recipe, "--data.unknown", "[eight]"]) == 1
    assert "data.unknown: no class 'eight'" in capsys.readouterr().out
