import pickle

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from detcenter.data import WithinSides, build_transform
from detcenter.data.crops import iou_crop, place
from detcenter.data.transforms import RandomWindow, SeededTransform

RED, GREEN = [20, 30, 70, 80], [90, 10, 150, 60]
PARTS = ("photometric", "zoom_out", "crop", "flip", "rotate90")


@pytest.fixture
def scene():
    """A red and a green rectangle on dark blue, 160 wide and 120 high."""
    image = np.full((120, 160, 3), (10, 10, 40), dtype=np.uint8)
    for channel, (left, top, right, bottom) in enumerate((RED, GREEN)):
        image[top:bottom, left:right] = 0
        image[top:bottom, left:right, channel] = 230
    return image, np.array([RED, GREEN], dtype=np.float32), np.array([1, 2])


def painted(image, channel):
    """The box of the pixels in which one colour leads the others, or None."""
    others = np.delete(image, channel, axis=2).max(axis=2)
    lead = image[..., channel].astype(int) - others
    rows, columns = np.nonzero(lead > 0.5 * lead.max())
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def every_part():
    for preset in ("ssd", "light", "none"):
        yield pytest.param(preset, {}, id=preset)
        yield pytest.param(preset, {"rotate90": True}, id=f"{preset}-rotate90")
    for part in PARTS:
        yield pytest.param("none", {part: True}, id=part)
    for part in PARTS[1:3]:
        yield pytest.param("ssd", dict.fromkeys(PARTS, False) | {part: True}, id=f"ssd-{part}")


@pytest.mark.parametrize("preset, switches", list(every_part()))
@pytest.mark.parametrize("size", [96, (150, 230)])
def test_boxes_stay_on_their_objects(scene, preset, switches, size):
    transform = build_transform(size, preset, **switches)
    expected = (96, 96) if size == 96 else size
    seen = 0
    for seed in range(60):
        torch.manual_seed(seed)
        image, boxes, labels = transform(*scene)
        assert image.dtype == np.uint8 and image.shape == (*expected, 3)
        assert boxes.dtype == np.float32 and labels.dtype == np.int64
        for box, label in zip(boxes, labels, strict=True):
            np.testing.assert_allclose(box, painted(image, label - 1), atol=2)
            seen += 1
    assert seen > 60


def test_resize_alone_is_exact(scene):
    image, boxes, labels = build_transform((240, 320), "none")(*scene)
    np.testing.assert_allclose(boxes, 2 * np.array([RED, GREEN]), atol=1e-4)
    assert labels.tolist() == [1, 2]


def test_size_is_height_and_width(scene):
    assert build_transform((50, 70), "ssd")(*scene)[0].shape == (50, 70, 3)


@pytest.mark.parametrize("preset", ["ssd", "light", "none"])
def test_no_boxes(scene, preset):
    transform = build_transform(64, preset, rotate90=True)
    for seed in range(20):
        torch.manual_seed(seed)
        image, boxes, labels = transform(scene[0], np.zeros((0, 4), np.float32), np.zeros(0, int))
        assert image.shape == (64, 64, 3)
        assert boxes.shape == (0, 4) and boxes.dtype == np.float32
        assert labels.shape == (0,) and labels.dtype == np.int64


@pytest.mark.parametrize("preset", ["ssd", "light"])
def test_boxes_are_never_degenerate(preset):
    rng = np.random.default_rng(0)
    image = np.zeros((90, 70, 3), dtype=np.uint8)
    corners = rng.uniform(0, [70, 90], size=(40, 2))
    sides = rng.uniform(0, 1, size=(40, 2)) ** 4 * 30 + 1e-6
    boxes = np.concatenate([corners, corners + sides], axis=1).clip(0, [70, 90, 70, 90])
    transform = build_transform(48, preset, rotate90=True)
    for seed in range(100):
        torch.manual_seed(seed)
        _, moved, labels = transform(image, boxes.astype(np.float32), np.arange(1, 41))
        assert np.isfinite(moved).all() and (moved >= 0).all() and (moved <= 48).all()
        assert ((moved[:, 2:] - moved[:, :2]).prod(axis=1) >= 1).all()
        assert len(moved) == len(labels)


def test_small_boxes_are_dropped(scene):
    boxes = np.array([[0, 0, 8, 8], [0, 0, 16, 9]], dtype=np.float32)  # at 1/10: 0.64 and 1.44
    _, moved, labels = build_transform((12, 16), "none")(scene[0], boxes, np.array([1, 2]))
    assert labels.tolist() == [2]


def test_the_input_stays_as_it_is(scene):
    copies = [array.copy() for array in scene]
    for seed in range(10):
        torch.manual_seed(seed)
        build_transform(96, "ssd", rotate90=True)(*scene)
    for array, copy in zip(scene, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def draws(transform, scene, count):
    return [transform(*scene) for _ in range(count)]


def test_torch_seed_governs_and_nothing_else_does(scene):
    transform = build_transform(64, "ssd", rotate90=True)
    torch.manual_seed(3)
    first = draws(transform, scene, 8)
    torch.manual_seed(3)
    np.random.seed(5)
    again = draws(pickle.loads(pickle.dumps(transform)), scene, 8)
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len({image.tobytes() for image, _, _ in first}) == 8


class Repeated(Dataset):
    def __init__(self, scene, transform):
        self.scene, self.transform = scene, transform

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return self.transform(*self.scene)[0].tobytes()


def test_workers_differ_and_are_reproducible(scene):
    def epoch(seed):
        torch.manual_seed(seed)
        loader = DataLoader(Repeated(scene, build_transform(64)), num_workers=2, collate_fn=list)
        return [item for batch in loader for item in batch]

    first = epoch(0)
    assert len(set(first)) == 16
    assert epoch(0) == first
    assert epoch(1) != first


def test_parts_are_independent_of_each_other(scene):
    """Albumentations seeds all steps alike, so that equal chances come true together."""
    transform = SeededTransform([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])
    red_box = scene[1][:1]
    counts = np.zeros((2, 2), dtype=int)
    torch.manual_seed(0)
    for _ in range(400):
        _, boxes, _ = transform(scene[0], red_box, np.array([1]))
        counts[int(boxes[0, 0] != RED[0]), int(boxes[0, 1] != RED[1])] += 1
    # 100 expected of each, with a standard deviation of 8.7
    assert counts.min() > 60 and counts.max() < 140


def test_iou_crop_is_distributed_as_torchvisions():
    """Mean area of the crops, mean boxes kept, and share of whole images, by 600 draws each."""
    boxes = np.array([[20, 30, 70, 80], [90, 10, 150, 60], [5, 90, 25, 115]], dtype=np.float64)
    theirs = v2.RandomIoUCrop()
    given = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(120, 160))
    blank = tv_tensors.Image(torch.zeros(1, 120, 160))
    torch.manual_seed(0)
    expected, found = [], []
    rng = np.random.default_rng(0)
    options = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    for _ in range(600):
        params = theirs.make_params([blank, given])
        kept = int(params["is_within_crop_area"].sum()) if params else 3
        area = params["height"] * params["width"] / 19200 if params else 1.0
        expected.append((area, kept, not params))
        left, top, right, bottom = iou_crop(np.array([0, 0, 160, 120]), boxes, options, 0.3, rng)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        kept = ((centres > [left, top]) & (centres < [right, bottom])).all(axis=1).sum()
        area = (right - left) * (bottom - top) / 19200
        found.append((area, kept, area == 1))
    error = np.std(expected, axis=0) * np.sqrt(2 / 600)
    assert (np.abs(np.mean(expected, axis=0) - np.mean(found, axis=0)) < 4 * error).all()


@pytest.mark.parametrize("min_iou", [0.1, 0.3, 0.5])
def test_crop_overlaps_a_box_by_the_drawn_iou(min_iou):
    box = np.array([[10.0, 10.0, 90.0, 70.0]])
    rng = np.random.default_rng(0)
    for _ in range(50):
        left, top, right, bottom = iou_crop(np.array([0, 0, 120, 100]), box, (min_iou,), 0.3, rng)
        common = (min(right, 90) - max(left, 10)) * (min(bottom, 70) - max(top, 10))
        assert common / (4800 + (right - left) * (bottom - top) - common) >= min_iou


def test_an_impossible_crop_keeps_the_whole():
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    window = np.array([0, 0, 120, 100])
    rng = np.random.default_rng(0)
    assert iou_crop(window, box, (0.9,), 0.3, rng).tolist() == window.tolist()


def test_boxes_with_their_centre_outside_are_dropped():
    step = RandomWindow((100, 100))
    window = np.array([50, 0, 100, 100])
    source, target = place(window, (100, 100), (100, 100))
    boxes = np.array([[0.2, 0.1, 0.78, 0.5, 1], [0.3, 0.1, 0.8, 0.5, 2]], dtype=np.float32)
    shown = {"window": window, "source": source, "target": target, "shape": (100, 100, 3)}
    shown["size"] = (100, 100)
    moved = step.apply_to_bboxes(boxes, **shown)
    np.testing.assert_allclose(moved, [[0, 0.1, 0.6, 0.5, 2]], atol=1e-6)


def test_zoom_out_fills_with_the_mean_colour():
    image = np.full((50, 50, 3), 255, dtype=np.uint8)
    switches = dict.fromkeys(PARTS, False) | {"zoom_out": True}
    transform = build_transform(100, "ssd", **switches)
    ratios = []
    torch.manual_seed(0)
    for _ in range(300):
        moved, boxes, _ = transform(image, np.array([[0, 0, 50, 50]], np.float32), np.array([1]))
        white, mean = ((moved == colour).all(axis=2) for colour in (255, (124, 116, 104)))
        assert (white | mean).all() and white.any()
        ratios.append(100 / (boxes[0, 2] - boxes[0, 0]))
    zoomed = np.array([ratio for ratio in ratios if ratio > 1.01])
    assert 0.4 < len(zoomed) / 300 < 0.6
    assert 1 < zoomed.min() < 1.2 and 3.7 < zoomed.max() < 4.2
    assert 2.25 < zoomed.mean() < 2.75


def test_photometric_changes_colours_only(scene):
    transform = build_transform((120, 160), "none", photometric=True)
    torch.manual_seed(0)
    results = draws(transform, scene, 20)
    assert len({image.tobytes() for image, _, _ in results}) > 10
    for _, boxes, _ in results:
        np.testing.assert_allclose(boxes, scene[1], atol=1e-3)


@pytest.mark.parametrize("part", PARTS[1:4])
def test_a_part_switched_off_stays_off(scene, part):
    others = dict.fromkeys(PARTS, False)
    torch.manual_seed(0)
    on = draws(build_transform((120, 160), "ssd", **(others | {part: True})), scene, 20)
    off = draws(build_transform((120, 160), "ssd", **others), scene, 20)
    assert any(len(b) != 2 or not np.allclose(b, scene[1], atol=1e-3) for _, b, _ in on)
    assert all(np.array_equal(image, scene[0]) for image, _, _ in off)


def test_unknown_names_name_the_nearest():
    with pytest.raises(ValueError, match="unknown transform preset 'sdd'; did you mean 'ssd'"):
        build_transform(64, "sdd")
    with pytest.raises(ValueError, match="switch 'flips'; did you mean 'flip'"):
        build_transform(64, flips=True)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (500, 375, (800, 1067)),
        (375, 500, (1067, 800)),
        (1000, 200, (267, 1333)),
        (40, 40, (800, 800)),
    ],
)
def test_sides_are_bounded_as_torchvisions_transform_bounds_them(width, height, expected):
    size = WithinSides(800, 1333).size_of(width, height)
    assert size == expected
    theirs = GeneralizedRCNNTransform(800, 1333, [0, 0, 0], [1, 1, 1])
    batch, _ = theirs([torch.rand(3, *size)])  # what we make needs no further resizing
    assert batch.image_sizes == [size]


def test_a_canvas_is_not_exceeded_either():
    assert WithinSides(40, 80, (40, 64)).size_of(100, 50) == (32, 64)
    assert WithinSides(40, 80, (40, 64)).size_of(50, 100) == (40, 20)
    assert WithinSides(40, 80, (80, 80)).size_of(100, 50) == (40, 80)


def test_an_image_keeps_its_aspect_ratio_and_boxes_move_along():
    image = np.zeros((60, 90, 3), dtype=np.uint8)
    image[20:40, 30:60] = 255
    boxes = np.array([[30, 20, 60, 40]], dtype=np.float32)
    transform = build_transform(WithinSides(120, 200), "none")
    resized, moved, _ = transform(image, boxes, np.array([1]))
    assert resized.shape == (120, 180, 3)
    np.testing.assert_allclose(moved, [[60, 40, 120, 80]])
    assert resized[45:75, 65:115].min() == 255 and resized[:35].max() == 0


def test_turned_cropped_and_zoomed_images_stay_within_their_sides():
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    transform = build_transform(WithinSides(48, 64), "ssd", rotate90=True)
    shapes = set()
    for _ in range(30):
        resized, moved, _ = transform(
            image, np.array([[30, 20, 60, 40]], dtype=np.float32), np.array([1])
        )
        height, width = resized.shape[:2]
        shapes.add((height, width))
        assert min(height, width) <= 48 and max(height, width) <= 64
        assert (moved >= 0).all() and (moved[:, [0, 2]] <= width).all()
    assert len(shapes) > 5
