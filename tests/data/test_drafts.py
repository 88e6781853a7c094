"""JPEGs that are decoded smaller against the same decoded whole."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detcenter.data import (
    DetectionDataset,
    LMDBDataset,
    PooledDataset,
    WithinSides,
    build_transform,
    write_lmdb,
)
from detcenter.data.images import read_image, read_reduced

WIDTH, HEIGHT = 1001, 803
BOX = (200.0, 96.0, 800.0, 405.0)


def photo(path, turned=False, mode="RGB", **options):
    """A white box on dark blue with a soft pattern."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.full((HEIGHT, WIDTH, 3), (10, 10, 60), dtype=np.uint8)
    pixels[..., 1] = 40 + 30 * np.sin(rows / 40) * np.cos(columns / 50)
    left, top, right, bottom = map(int, BOX)
    pixels[top:bottom, left:right] = 240
    exif = Image.Exif()
    if turned:
        pixels, exif[0x0112] = np.ascontiguousarray(np.rot90(pixels)), 6  # clockwise to be upright
    Image.fromarray(pixels).convert(mode).save(path, exif=exif, **options)
    return path


def data_set(path, draft, transform=None):
    boxes = np.array([BOX, (0, 0, WIDTH, HEIGHT)])
    flags = np.zeros(2, bool)
    annotation = {
        "image_id": 1,
        "path": path,
        "width": WIDTH,
        "height": HEIGHT,
        "boxes": boxes,
        "labels": np.array([1, 2]),
        "iscrowd": flags,
        "difficult": flags,
        "area": np.ones(2),
    }
    dataset = DetectionDataset([annotation], ["a", "b"], transform)
    dataset.draft = draft
    return dataset


@pytest.mark.parametrize(
    "least, factor", [(803, 1), (402, 1), (401, 2), (201, 2), (200, 4), (100, 8), (10, 8)]
)
def test_both_sides_keep_the_least(tmp_path, least, factor):
    image, found = read_reduced(photo(tmp_path / "a.jpg"), least)
    assert found == factor and min(image.shape[:2]) >= min(least, HEIGHT)
    assert image.shape == (-(-HEIGHT // factor), -(-WIDTH // factor), 3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_about_the_means_of_those_that_they_stand_for(tmp_path, turned, mode):
    path = photo(tmp_path / "a.jpg", turned, mode, quality=95)
    image, factor = read_reduced(path, 200)
    whole = read_image(path)[: HEIGHT // 4 * 4, : WIDTH // 4 * 4]
    means = whole.reshape(HEIGHT // 4, 4, WIDTH // 4, 4, 3).mean(axis=(1, 3))
    away = np.abs(image[: HEIGHT // 4, : WIDTH // 4] - means)
    assert factor == 4 and away.mean() < 1


def test_other_formats_stay_whole(tmp_path):
    image, factor = read_reduced(photo(tmp_path / "a.png"), 100)
    assert factor == 1 and np.array_equal(image, read_image(tmp_path / "a.png"))


def test_boxes_are_scaled_with_the_image(tmp_path):
    dataset = data_set(photo(tmp_path / "a.jpg"), draft=True)
    dataset.transform = lambda *item: item
    dataset.transform.least = 200
    image, target = dataset[0]
    assert image.shape == (3, 201, 251) and not dataset.size_reported
    expected = [np.array(BOX) / 4, [0, 0, WIDTH / 4, HEIGHT / 4]]
    np.testing.assert_allclose(target["boxes"], expected, atol=1e-4)
    rows, columns = np.nonzero(image[0].numpy() > 128)
    painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(painted, np.array(BOX) / 4, atol=1)


@pytest.mark.parametrize("size", [48, (40, 60), WithinSides(48, 80)])
@pytest.mark.parametrize("preset", ["none", "light"])
def test_what_a_model_gets_is_nearly_the_same(tmp_path, size, preset):
    path, transform = photo(tmp_path / "a.jpg"), build_transform(size, preset, photometric=False)
    items = []
    for draft in (False, True):
        torch.manual_seed(3)
        items.append(data_set(path, draft, transform)[0])
    (whole, target), (smaller, other) = items
    assert whole.shape == smaller.shape
    assert torch.equal(target["labels"], other["labels"])
    assert (target["boxes"] - other["boxes"]).abs().max() < 0.6
    if preset == "none":
        assert np.abs(whole.numpy().astype(int) - smaller.numpy()).mean() < 2  # of 255
        assert not torch.equal(whole, smaller)


@pytest.mark.parametrize("preset", ["none", "light", "ssd"])
def test_a_crop_is_never_enlarged(preset):
    least = build_transform(100, preset).least
    smallest = {"none": 1, "light": 0.75, "ssd": 0.3}[preset]
    assert least * smallest >= 100 and least >= 200


def test_packed_and_pooled_alike(tmp_path):
    transform = build_transform(48, "none")
    plain = data_set(photo(tmp_path / "a.jpg"), True, transform)
    write_lmdb(tmp_path / "packed", {"train": plain}, tmp_path)
    for other in (LMDBDataset(tmp_path / "packed", "train"), PooledDataset([plain], [0])):
        other.transform, other.draft = transform, True
        assert torch.equal(other[0][0], plain[0][0])
        assert other.decoding(0)[1] == 3 * 101 * 126  # at 1/8


def test_what_is_kept_is_what_was_decoded(tmp_path):
    path, transform = photo(tmp_path / "a.jpg"), build_transform(48, "none")
    for draft in (True, False):
        expected = data_set(path, draft, transform)[0]
        cached = data_set(path, draft, transform)
        name, size = cached.decoding(0)
        cached.keep(tmp_path, [name])
        for _ in range(2):
            image, target = cached[0]
            assert torch.equal(image, expected[0])
            assert torch.equal(target["boxes"], expected[1]["boxes"])
        sizes = [file.stat().st_size for file in tmp_path.iterdir() if not file.suffix]
        assert size + 12 in sizes
    assert len(sizes) == 2


def test_a_wrong_size_is_still_reported(tmp_path, caplog):
    dataset = data_set(photo(tmp_path / "a.jpg"), True, build_transform(48, "none"))
    (annotation,) = dataset.annotations
    dataset.annotations = [annotation | {"width": 1500}]
    dataset[0]
    assert "annotated as 1500x803" in caplog.text
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (HEIGHT, WIDTH, 3)
