import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from detcenter.data import DataError, DetectionDataset


def an_image(path, width=40, height=30, colour=(255, 51, 0)):
    Image.new("RGB", (width, height), colour).save(path)
    return path


def an_annotation(path, boxes, **changes):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    flags = np.zeros(len(boxes), dtype=bool)
    return {
        "image_id": 7,
        "path": Path(path),
        "width": 40,
        "height": 30,
        "boxes": boxes,
        "labels": np.arange(1, len(boxes) + 1),
        "iscrowd": flags,
        "difficult": flags,
        "area": np.arange(1, len(boxes) + 1, dtype=np.float32),
    } | changes


CLASSES = [f"c{k}" for k in range(1, 9)]


def test_item(tmp_path):
    path = an_image(tmp_path / "a.png")
    image, target = DetectionDataset([an_annotation(path, [[1, 2, 11, 22]])], CLASSES)[0]
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40) and image.is_contiguous()
    assert image[:, 0, 0].tolist() == [255, 51, 0]
    assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64
    assert target["boxes"].tolist() == [[1, 2, 11, 22]]
    assert target["labels"].tolist() == [1]
    assert target["image_id"] == 7


def test_a_seed_alone_decides_what_the_transform_draws(tmp_path):
    def noise(image, boxes, labels):
        return np.full_like(image, int(torch.randint(256, ()))), boxes, labels

    dataset = DetectionDataset([an_annotation(an_image(tmp_path / "a.png"), [])], CLASSES, noise)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    drawn = [torch.rand(1), dataset[0, 5][0], torch.rand(1), dataset[0, 5][0], dataset[0, 6][0]]
    assert torch.equal(torch.cat([drawn[0], drawn[2]]), expected)  # nothing else is disturbed
    assert torch.equal(drawn[1], drawn[3]) and not torch.equal(drawn[1], drawn[4])


def test_empty_target(tmp_path):
    path = an_image(tmp_path / "a.png")
    _, target = DetectionDataset([an_annotation(path, [])], CLASSES)[0]
    assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
    assert target["labels"].shape == (0,) and target["labels"].dtype == torch.int64


BAD = [
    [-5, -5, 10, 10],  # reaches out: clipped
    [5, 5, 5, 20],  # no width
    [20, 10, 10, 20],  # inverted
    [30, 20, 100, 100],  # clipped
    [50, 50, 60, 60],  # outside
    [np.nan, 0, 5, 5],
    [0, 0, np.inf, 5],
    [1, 1, 2, 2],
]


def test_boxes_are_clipped_and_dropped(caplog):
    data = DetectionDataset([an_annotation("a.png", BAD)], CLASSES)
    kept = data.annotations[0]
    assert kept["boxes"].tolist() == [[0, 0, 10, 10], [30, 20, 40, 30], [1, 1, 2, 2]]
    assert kept["boxes"].dtype == np.float64
    assert kept["labels"].tolist() == [1, 4, 8]
    assert kept["area"].tolist() == [1, 4, 8]
    assert len(kept["iscrowd"]) == len(kept["difficult"]) == 3


def test_the_given_annotations_stay_as_they_are():
    given = an_annotation("a.png", BAD)
    DetectionDataset([given], CLASSES)
    np.testing.assert_array_equal(given["boxes"], np.array(BAD, dtype=np.float32))


def test_dropped_boxes_are_reported_once(caplog, tmp_path):
    path = an_image(tmp_path / "x.png")
    flat = [[5, 5, 5, 20], [1, 1, 2, 2]]
    annotations = [an_annotation(f"{name}.png", flat) for name in "abcde"]
    annotations.append(an_annotation(path, [[1, 1, 2, 2]]))
    with caplog.at_level(logging.WARNING, logger="detcenter"):
        data = DetectionDataset(annotations, CLASSES)
        data[5], data[5]
    (record,) = caplog.records
    assert record.name == "detcenter"
    message = record.getMessage()
    assert "dropped: 5" in message and "a.png, b.png, c.png" in message
    assert "d.png" not in message and "x.png" not in message


def test_nothing_dropped_nothing_said(caplog):
    with caplog.at_level(logging.INFO, logger="detcenter"):
        DetectionDataset([an_annotation("a.png", [[-3, 1, 9, 90]])], CLASSES)
    assert not caplog.records


def test_boxes_fit_the_image_as_it_is(caplog, tmp_path):
    path = an_image(tmp_path / "a.png", width=20, height=10)
    data = DetectionDataset([an_annotation(path, [[0, 0, 40, 30], [25, 0, 35, 5]])], CLASSES)
    with caplog.at_level(logging.WARNING, logger="detcenter"):
        _, target = data[0]
        data[0]
    assert target["boxes"].tolist() == [[0, 0, 20, 10]]
    assert target["labels"].tolist() == [1]
    (record,) = caplog.records
    assert "20x10" in record.getMessage() and "40x30" in record.getMessage()


@pytest.mark.parametrize("keep_difficult, labels", [(False, [3]), (True, [2, 3])])
def test_crowd_and_difficult(tmp_path, keep_difficult, labels):
    boxes = [[1, 1, 9, 9], [2, 2, 9, 9], [3, 3, 9, 9], [4, 4, 9, 9]]
    annotation = an_annotation(
        an_image(tmp_path / "a.png"),
        boxes,
        iscrowd=np.array([True, False, False, True]),
        difficult=np.array([False, True, False, True]),
    )
    data = DetectionDataset([annotation], CLASSES, keep_difficult=keep_difficult)
    assert data[0][1]["labels"].tolist() == labels
    assert data.annotations[0]["labels"].tolist() == [1, 2, 3, 4]


def test_transform_gets_arrays_and_gives_the_item(tmp_path):
    def moved(image, boxes, labels):
        assert image.shape == (30, 40, 3) and image.dtype == np.uint8
        assert boxes.dtype == np.float32 and labels.dtype == np.int64
        return image[:10, :20], boxes + 1, labels + 1

    annotation = an_annotation(an_image(tmp_path / "a.png"), [[1, 2, 11, 22]])
    image, target = DetectionDataset([annotation], CLASSES, transform=moved)[0]
    assert image.shape == (3, 10, 20)
    assert target["boxes"].tolist() == [[2, 3, 12, 23]]
    assert target["labels"].tolist() == [2]


@pytest.mark.parametrize("label", [0, 9, -1])
def test_label_without_class(label):
    annotation = an_annotation("a.png", [[1, 1, 2, 2]], labels=np.array([label]))
    with pytest.raises(DataError, match=f"a.png: label {label} is outside 1..8"):
        DetectionDataset([annotation], CLASSES)


def test_missing_image_names_the_path(tmp_path):
    path = tmp_path / "gone.png"
    with pytest.raises(DataError, match="gone.png"):
        DetectionDataset([an_annotation(path, [])], CLASSES)[0]


def test_items_do_not_share_memory_with_the_annotations(tmp_path):
    annotation = an_annotation(an_image(tmp_path / "a.png"), [[1, 2, 11, 22]])
    data = DetectionDataset([annotation], CLASSES)
    data[0][1]["boxes"].mul_(3)
    data[0][1]["labels"].add_(3)
    assert data[0][1]["boxes"].tolist() == [[1, 2, 11, 22]]
    assert data[0][1]["labels"].tolist() == [1]


def test_through_a_data_loader(tmp_path):
    annotation = an_annotation(an_image(tmp_path / "a.png"), [[1, 2, 11, 22]])
    data = DetectionDataset([annotation] * 4, CLASSES)
    loader = DataLoader(data, batch_size=2, num_workers=1, collate_fn=list)
    assert [target["image_id"] for batch in loader for _, target in batch] == [7] * 4
