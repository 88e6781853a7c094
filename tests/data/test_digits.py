import os

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.ops import box_iou

from detcenter.data import DataError, VOCDataset, make_digits
from detcenter.data.digits import split_samples
from detcenter.data.scenes import STYLES, make_scene


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "set"
    make_digits(folder, train=30, val=12)
    return folder


def files(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_scenes(root):
    for image_set, count in (("train", 30), ("val", 12)):
        data = VOCDataset(root, image_set, classes=[str(digit) for digit in range(10)])
        assert len(data) == count
        for image, target in data:
            assert image.shape == (3, 160, 160)
            assert 2 <= len(target["boxes"]) <= 6
            ious = box_iou(target["boxes"], target["boxes"]).fill_diagonal_(0)
            assert ious.max() <= 0.05
            sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
            assert sides.max() <= 60 and sides.max(dim=1).values.min() >= 15


def test_split_apart_and_complete():
    digits = load_digits().target
    split = split_samples(0)
    together = np.concatenate([split["train"], split["val"]])
    assert sorted(together) == list(range(1797))
    for digit in range(10):
        count = (digits == digit).sum()
        assert (digits[split["val"]] == digit).sum() == count // 3


def test_equal_arguments_give_equal_files(root, tmp_path):
    make_digits(tmp_path / "again", train=30, val=12)
    assert files(tmp_path / "again") == files(root)


def test_another_seed_gives_other_scenes(root, tmp_path):
    make_digits(tmp_path / "other", train=2, val=1, seed=1)
    name = "JPEGImages/train_00001.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (root / name).read_bytes()


def test_boxes_are_tight_around_the_ink():
    # One sample, a full square of ink: the box must be where the scene is of one flat colour.
    images, digits = np.ones((1, 8, 8)), np.array([5])
    for seed in range(10):
        scene, boxes, names = make_scene(
            images, digits, np.random.default_rng(seed), [(5, "plain")]
        )
        assert (names == 0).all()  # the first of the classes
        for left, top, right, bottom in boxes[-1:]:  # drawn last: nothing lies over it
            inside = scene[top:bottom, left:right].reshape(-1, 3).astype(int)
            assert np.ptp(inside, axis=0).max() == 0
            around = scene[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1].astype(int)
            assert np.ptp(around.reshape(-1, 3), axis=0).max() > 20


def test_the_same_set_is_left_alone(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    make_digits(root, train=30, val=12)
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"train": 31}, {"val": 13}])
def test_another_set_is_not_overwritten(root, change):
    before = files(root)
    with pytest.raises(DataError) as caught:
        make_digits(root, **({"train": 30, "val": 12} | change))
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)
    assert files(root) == before


def test_a_strange_folder_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="choose another root"):
        make_digits(tmp_path, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_will_do(tmp_path):
    make_digits(tmp_path, train=1, val=1)
    assert len(VOCDataset(tmp_path, "val")) == 1


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    import detcenter.data.digits as module

    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "make_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        make_digits(tmp_path / "set", train=3, val=1)
    assert os.listdir(tmp_path) == []


def digits_in(root, image_set):
    data = VOCDataset(root, image_set)
    counts = np.bincount(
        np.concatenate([a["labels"] for a in data.annotations]), minlength=len(data.classes) + 1
    )
    return dict(zip(data.classes, counts[1:].tolist(), strict=True))


def test_digits_and_styles_are_the_classes(tmp_path):
    make_digits(tmp_path / "set", train=60, val=5, digits=(3, 8), styles=("plain", "hollow"))
    counts = digits_in(tmp_path / "set", "train")
    assert list(counts) == ["3", "3-hollow", "8", "8-hollow"]
    assert min(counts.values()) > 0.6 * max(counts.values())


def test_styles_look_apart_and_boxes_stay_tight():
    images, digits = np.ones((1, 8, 8)), np.array([5])
    parts = {}
    for style in STYLES:
        scene, boxes, found = make_scene(
            images, digits, np.random.default_rng(0), classes=[(5, style)]
        )
        left, top, right, bottom = boxes[-1]
        inside = scene[top:bottom, left:right].astype(int)
        ink = np.abs(inside - inside[0, (right - left) // 2]).max(axis=2) < 30  # a row of ink
        parts[style] = ink.mean()
        assert (found == 0).all()
        assert ink[0].mean() > 0.9 and ink[-1].mean() > 0.9
        assert ink[:, 0].mean() > 0.4 and ink[:, -1].mean() > 0.4
    assert parts["plain"] == 1
    assert parts["hollow"] < parts["striped"] < parts["underlined"] < 1


def test_imbalance_is_of_train_alone(tmp_path):
    make_digits(tmp_path / "set", train=150, val=100, imbalance=50)
    train, val = (digits_in(tmp_path / "set", part) for part in ("train", "val"))
    total = sum(train.values())
    expected = np.geomspace(50, 1, 10) / np.geomspace(50, 1, 10).sum() * total
    found = np.array([train.get(str(digit), 0) for digit in range(10)])
    assert (np.abs(found - expected) < 4 * np.sqrt(expected) + 1).all()
    assert min(val.values()) > 0.4 * max(val.values())


def test_val_does_not_depend_on_train(root, tmp_path):
    make_digits(tmp_path / "set", train=5, val=12, imbalance=10, wrong_labels=0.5)
    for name in ("Annotations/val_00012.xml", "JPEGImages/val_00012.jpg"):
        assert (tmp_path / "set" / name).read_bytes() == (root / name).read_bytes()


def test_wrong_labels_change_nothing_else(root, tmp_path):
    make_digits(tmp_path / "set", train=30, val=12, wrong_labels=0.3)
    clean, wrong = (VOCDataset(folder, "train") for folder in (root, tmp_path / "set"))
    changed = []
    for a, b in zip(clean.annotations, wrong.annotations, strict=True):
        assert (a["boxes"] == b["boxes"]).all()
        assert a["path"].read_bytes() == b["path"].read_bytes()
        changed += (a["labels"] != b["labels"]).tolist()
    assert np.mean(changed) == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(changed)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"digits": (3, 10)},
        {"digits": (3, 3)},
        {"digits": ()},
        {"styles": ("bold",)},
        {"imbalance": 0.5},
        {"wrong_labels": 1.5},
        {"wrong_labels": 0.5, "digits": (3,)},
    ],
)
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_digits(tmp_path / "set", train=1, val=1, **wrong)
    assert not (tmp_path / "set").exists()
