import os

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.ops import box_iou

from detcenter.data import DataError, VOCDataset, make_digits
from detcenter.data.digits import make_scene, split_samples


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
        scene, boxes, names = make_scene(images, digits, np.random.default_rng(seed))
        assert (names == 5).all()
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
