"""Batches from loading processes against the items that they are made of."""

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from detcenter.training import as_floats, collate, on_device
from detcenter.training.transport import PackedBatch

CPU = torch.device("cpu")


def items(sizes, boxes=(2, 0, 3)):
    """Images of noise; with those numbers of boxes."""
    made = []
    for number, ((height, width), count) in enumerate(zip(sizes, boxes, strict=True)):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        labels = torch.randint(1, 5, (count,))
        name = [7, "a", 9][number]
        made.append((image, {"boxes": torch.rand(count, 4), "labels": labels, "image_id": name}))
    return made


SIZES = {"alike": [(6, 8)] * 3, "different": [(6, 8), (4, 5), (6, 8)]}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_a_batch_arrives_as_its_items(sizes, workers):
    given = items(sizes)
    (batch,) = DataLoader(given, 3, num_workers=workers, collate_fn=collate)
    images, targets = on_device(batch, CPU)
    assert len(images) == len(targets) == 3
    for image, target, (bytes_, boxes) in zip(images, targets, given, strict=True):
        assert image.dtype == torch.float32 and torch.equal(image, bytes_ / 255)
        assert target["image_id"] == boxes["image_id"] and len(target) == 3
        for key in ("boxes", "labels"):
            assert torch.equal(target[key], boxes[key]) and target[key].dtype == boxes[key].dtype


def test_a_batch_without_boxes():
    images, targets = on_device(collate(items(SIZES["alike"], (0, 0, 0))), CPU)
    assert [target["boxes"].shape for target in targets] == [(0, 4)] * 3
    assert [target["labels"].shape for target in targets] == [(0,)] * 3


def test_images_of_one_size_travel_as_one():
    """Three tensors instead of three an image."""
    packed = collate(items(SIZES["alike"]))
    assert packed.images.shape == (3, 3, 6, 8) and packed.boxes.shape == (5, 4)
    assert sum(torch.is_tensor(part) for part in packed) == 3


def test_what_pins_memory_keeps_the_batch_what_it_is(monkeypatch):
    """It builds every collection anew; without a GPU there is nothing to pin."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    packed = collate(items(SIZES["different"]))
    pinned = pin_memory(packed)
    assert isinstance(pinned, PackedBatch) and pinned.image_ids == [7, "a", 9]
    assert torch.equal(on_device(pinned, CPU)[1][2]["boxes"], packed.boxes[2:])


def test_lists_are_taken_as_they_are():
    given = items(SIZES["different"])
    images, targets = on_device(([image for image, _ in given], [t for _, t in given]), CPU)
    assert torch.equal(images[1], given[1][0] / 255)
    assert torch.equal(targets[2]["boxes"], given[2][1]["boxes"])


def test_images_of_bytes_are_moved_as_bytes_and_become_floats():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(3, 1, 3)
    found, same = as_floats([image, torch.full((3, 1, 1), 0.7)], CPU)
    torch.testing.assert_close(found[0, 0], torch.tensor([0.0, 0.2, 1.0]))
    assert same[0, 0, 0] == pytest.approx(0.7)
