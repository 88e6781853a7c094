import numpy as np
from PIL import Image

from detcenter.data import PooledDataset, VOCDataset, make_digits


def test_images_of_both_parts_in_the_order_chosen(tmp_path):
    make_digits(tmp_path / "digits", train=3, val=2)
    parts = [VOCDataset(tmp_path / "digits", name) for name in ("train", "val")]
    pooled = PooledDataset(parts, [4, 0, 2])
    names = ["val_00002.jpg", "train_00001.jpg", "train_00003.jpg"]
    assert [a["path"].name for a in pooled.annotations] == names
    assert [a["image_id"] for a in pooled.annotations] == [5, 1, 3]
    for i, (name, (image, target)) in enumerate(zip(names, pooled, strict=True)):
        pixels = np.asarray(Image.open(tmp_path / "digits" / "JPEGImages" / name))
        np.testing.assert_array_equal(pooled.image(i), pixels)
        np.testing.assert_array_equal(image.permute(1, 2, 0), pixels)
        assert target["image_id"] == [5, 1, 3][i]
    np.testing.assert_array_equal(pooled.annotations[0]["boxes"], parts[1].annotations[1]["boxes"])


def test_each_part_reads_its_own(tmp_path, monkeypatch):
    make_digits(tmp_path / "digits", train=1, val=1)
    parts = [VOCDataset(tmp_path / "digits", name) for name in ("train", "val")]
    Image.new("RGB", (160, 160)).save(tmp_path / "black.png")
    black = tmp_path / "black.png"
    monkeypatch.setattr(parts[1], "source", lambda index: (black, black))
    pooled = PooledDataset(parts, [0, 1])
    assert pooled[0][0].max() > 0 and pooled[1][0].max() == 0
