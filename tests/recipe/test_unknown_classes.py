"""data.unknown: classes that a detector is not taught."""

import logging

import numpy as np
import pytest

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
