"""Images and boxes prepared for a whole batch, against torchvision's way image by image."""

import copy

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detcenter.adoption import adopt
from detcenter.batched import transform
from detcenter.batched.transform import BatchedTransform

STATISTICS = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(autouse=True, params=["one by one", "together"])
def way(request, monkeypatch):
    """As on a CPU, and as on a GPU."""
    if request.param == "together":
        monkeypatch.setattr(transform, "_ONE_BY_ONE", set())


def both(**options):
    plain = GeneralizedRCNNTransform(*options.pop("sides", (40, 90)), *STATISTICS, **options)
    batched = copy.deepcopy(plain)
    adopt(batched, BatchedTransform)
    return plain, batched


def images_and_targets(sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, *size, generator=generator).to(dtype) for size in sizes]
    targets = []
    for number, (height, width) in enumerate(sizes):
        boxes = torch.rand(number, 4, generator=generator) * 20
        targets.append(
            {
                "boxes": boxes.to(dtype),
                "labels": torch.arange(number),
                "keypoints": 30 * torch.rand(number, 5, 3, generator=generator),
                "masks": torch.randint(2, (number, height, width), generator=generator).byte(),
            }
        )
    return images, targets


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def assert_same(got, expected):
    (batch, targets), (expected_batch, expected_targets) = got, expected
    assert_equal(batch.tensors, expected_batch.tensors)
    assert batch.tensors.is_contiguous()
    assert batch.image_sizes == expected_batch.image_sizes
    assert_equal(targets, expected_targets)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [[(33, 47)] * 4, [(33, 47), (60, 31), (33, 47)], [(64, 64)] * 2])
@pytest.mark.parametrize(
    "options",
    [
        {"sides": (64, 64), "fixed_size": (64, 64), "size_divisible": 1},
        {"sides": (50, 40), "fixed_size": (70, 50), "size_divisible": 1},
        {"sides": ([32, 40, 55], 60)},
        {"sides": (40, 45)},
        {"_skip_resize": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_pixels_boxes_and_random_numbers_are_torchvisions(training, sizes, options):
    plain, batched = (x.train(training) for x in both(**options))
    images, targets = images_and_targets(sizes)
    torch.manual_seed(3)
    expected, state = plain(images, targets), torch.get_rng_state()
    torch.manual_seed(3)
    assert_same(batched(images, targets), expected)
    assert torch.equal(torch.get_rng_state(), state)
    again, _ = images_and_targets(sizes)
    assert_equal(images, again)  # they are not written into
    assert batched(images)[1] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("side", [30, 80])
def test_so_they_are_of_images_with_channels_last(dtype, side):
    plain, batched = both(sides=(side, side), fixed_size=(side, side))
    images, targets = images_and_targets([(47, 33)] * 3, dtype)
    images = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
    views = [image[:, 2:-3, 4:] for image in images]
    turned = [image.transpose(1, 2) for image in images]
    for given in (images, views, turned, [image[:1].expand(3, -1, -1) for image in images]):
        found = [{"boxes": target["boxes"]} for target in targets]
        assert_same(batched(given, found), plain(given, found))


def test_steps_of_ones_own_are_taken():
    plain, batched = both(fixed_size=(64, 64))
    images, targets = images_and_targets([(33, 47)] * 2)
    for one in (plain, batched):
        one.normalize = lambda image: image * 2
    assert_same(batched(images, targets), plain(images, targets))


def test_statistics_may_change_and_inference_does_not_spoil_training():
    plain, batched = both(fixed_size=(64, 64))
    images, targets = images_and_targets([(33, 47)] * 2)
    for mean in ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5]):
        plain.image_mean = batched.image_mean = mean
        with torch.inference_mode():
            assert_same(batched(images, targets), plain(images, targets))
    images = [image.requires_grad_() for image in images]
    batched(images)[0].tensors.sum().backward()
    assert all(image.grad.any() for image in images)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8).byte()])
def test_wrong_images_fail_with_torchvisions_words(wrong):
    plain, batched = both()
    with pytest.raises((ValueError, TypeError)) as expected:
        plain([wrong])
    with pytest.raises(type(expected.value)) as got:
        batched([wrong])
    assert str(got.value) == str(expected.value)


def test_detections_go_back_as_torchvisions():
    before, after = [(20, 30), (64, 50), (9, 9)], [(40, 60), (70, 55), (31, 77)]
    generator = torch.Generator().manual_seed(0)

    def detections():
        for count in (3, 0, 2):
            low = 5 * torch.rand(count, 2, generator=generator)
            yield {
                "boxes": torch.cat([low, low + 3], 1),
                "scores": torch.rand(count, generator=generator),
                "masks": torch.rand(count, 1, 28, 28, generator=generator),
                "keypoints": torch.rand(count, 17, 3, generator=generator),
            }

    found = list(detections())
    plain, batched = (x.eval() for x in both())
    expected = plain.postprocess([dict(x) for x in found], before, after)
    got = batched.postprocess([dict(x) for x in found], before, after)
    assert_equal(got, expected)
    assert batched.postprocess([], [], []) == []
    assert batched.train().postprocess(found, before, after) is found
