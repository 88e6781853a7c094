"""Every finding: what it is said of, and what is so near that it is not."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import detcenter.data.findings
from detcenter.data.checks import look_at
from detcenter.data.findings import (
    Part,
    all_findings,
    box_findings,
    class_findings,
    copy_findings,
    light_findings,
    name_findings,
    near_copies,
    near_copy_findings,
    size_findings,
    unit_findings,
)
from detcenter.data.findings.near import near_hashes
from detcenter.data.looks import Look

DOCS = Path(__file__).parents[2] / "docs" / "check.md"


def image(boxes, labels=None, width=640, height=480, path="a.jpg", crowd=(), difficult=()):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    numbers = np.arange(len(boxes))
    return {
        "image_id": 1,
        "path": Path(path),
        "width": width,
        "height": height,
        "boxes": boxes,
        "labels": np.array([1] * len(boxes) if labels is None else labels, np.int64),
        "iscrowd": np.isin(numbers, crowd),
        "difficult": np.isin(numbers, difficult),
        "area": np.ones(len(boxes)),
    }


def part(*images, classes=("cat", "dog"), name="train", looks=None):
    return Part(name, images, list(classes), looks or {})


def found(findings):
    """How many there are of each kind."""
    return {finding.kind: finding.total for finding in findings if finding is not None}


def one(findings, kind):
    [finding] = [finding for finding in findings if finding is not None and finding.kind == kind]
    return finding


# Single boxes


@pytest.mark.parametrize(
    "kind, box",
    [
        ("not_finite", [np.nan, 0, 5, 5]),
        ("not_finite", [0, 0, np.inf, 5]),
        ("inverted", [20, 10, 10, 20]),
        ("no_area", [5, 5, 5, 20]),
        ("below_a_pixel", [5, 5, 5.5, 20]),
        ("outside", [640, 5, 660, 20]),
        ("outside", [-20, 5, 0, 20]),
        ("larger_than_image", [-1, 5, 642, 20]),
        ("clipped", [600, 5, 641.5, 20]),
        ("clipped", [-1.5, 5, 20, 20]),
        (None, [5, 5, 6, 6]),
        (None, [-1, -1, 641, 481]),  # a tool's rounding, or a count from 1
        (None, [639, 5, 641, 20]),
    ],
)
def test_a_single_box(kind, box):
    expected = {} if kind is None else {kind: 1}
    assert found(box_findings(part(image([[9, 9, 99, 99], box])))) == expected


def test_boxes_are_counted_and_their_images_shown():
    flat = [5, 5, 5, 20]
    images = image([[9, 9, 99, 99], flat, flat], labels=[1, 2, 1]), image([]), image([flat])
    finding = one(box_findings(part(*images)), "no_area")
    assert finding.total == 3 and finding.severity == "warning" and finding.parts == ("train",)
    first, second = finding.examples
    assert first.text == "a.jpg: dog [5, 5, 5, 20] and 1 more"
    assert first.shown == (("train", 0, (1, 2)),) and second.shown == (("train", 2, (0,)),)


# Boxes over others

BOX = [100, 100, 200, 200]


@pytest.mark.parametrize(
    "kind, other, label",
    [
        ("box_twice", BOX, 1),
        ("box_with_two_names", BOX, 2),
        ("box_almost_twice", [100, 100, 200, 191], 1),  # an IoU of 0.91
        ("box_almost_twice", [96, 100, 200, 200], 1),  # further left, 100 / 104
        ("box_with_two_names", [104, 100, 200, 200], 2),
        (None, [100, 100, 200, 189], 1),
        (None, [112, 100, 212, 200], 1),
    ],
)
def test_a_box_over_another(kind, other, label):
    expected = {} if kind is None else {kind: 1}
    assert found(box_findings(part(image([BOX, other], labels=[1, label])))) == expected


def test_boxes_of_one_object():
    several = image([BOX, [0, 0, 9, 9], [20, 0, 29, 9]])
    several["siblings"] = np.array([False, True, True])
    finding = one(box_findings(part(image([BOX]), several)), "boxes_of_one_object")
    assert finding.total == 2 and finding.examples[0].shown == (("train", 1, (1, 2)),)


def test_a_box_that_is_there_three_times_is_two_too_many():
    finding = one(box_findings(part(image([BOX, [0, 0, 9, 9], BOX, BOX]))), "box_twice")
    assert finding.total == 2 and finding.examples[0].shown == (("train", 0, (0, 2, 3)),)


def test_boxes_of_crowds_and_of_other_images_are_no_copies():
    assert found(box_findings(part(image([BOX, BOX], crowd=[1]), image([BOX])))) == {}


def test_overlaps_are_those_of_a_naive_loop():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(8):
        boxes = np.repeat(rng.uniform(0, 300, (30, 2)), 2, axis=0)
        boxes = np.concatenate([boxes, boxes + np.repeat(rng.uniform(5, 90, (30, 2)), 2, 0)], 1)
        boxes[1::2] += rng.normal(0, 1, (30, 4))
        images.append(image(rng.permutation(boxes), labels=rng.integers(1, 3, 60)))
    expected = 0
    for a in images:
        for j in range(60):
            expected += any(naive_iou(a["boxes"][i], a["boxes"][j]) > 0.9 for i in range(j))
    assert 20 < expected < 240
    counts = found(box_findings(part(*images)))
    both = sum(
        any(
            naive_iou(a["boxes"][i], a["boxes"][j]) > 0.9 and a["labels"][i] == a["labels"][j]
            for i in range(j)
        )
        and any(
            naive_iou(a["boxes"][i], a["boxes"][j]) > 0.9 and a["labels"][i] != a["labels"][j]
            for i in range(j)
        )
        for a in images
        for j in range(60)
    )
    assert counts["box_almost_twice"] + counts["box_with_two_names"] == expected + both


def naive_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


# Units


def sound_boxes(count=24, seed=0):
    """Somewhere in 640 x 480, as parts of it."""
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 0.7, (count, 2)), rng.uniform(0.1, 0.3, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    boxes[0, 2:] = 0.99
    return boxes


@pytest.mark.parametrize(
    "scale, kind",
    [
        ([1, 1, 1, 1], "relative"),
        ([100, 100, 100, 100], "percent"),
        ([640, 480, 640, 480], None),
        ([2, 2, 2, 2], None),  # small, but in no unit
        ([80, 80, 80, 80], None),  # in a corner, but they do not reach 100
    ],
)
def test_units(scale, kind):
    findings = [*unit_findings(part(image(sound_boxes() * scale)))]
    assert found(findings) == ({} if kind is None else {kind: 24})
    assert all(finding.severity == "fault" for finding in findings)


def test_a_few_small_boxes_are_not_relative():
    boxes = np.concatenate([sound_boxes(2) * [640, 480, 640, 480], sound_boxes(9)])
    assert found(unit_findings(part(image(boxes)))) == {}
    assert found(unit_findings(part(image(sound_boxes(3))))) == {}
    assert found(unit_findings(part(image(sound_boxes(), width=1, height=1)))) == {}


def test_few_boxes_in_small_images_may_be_in_a_corner():
    boxes = sound_boxes(6) * 100
    assert found(unit_findings(part(image(boxes, width=200, height=200)))) == {}
    assert found(unit_findings(part(image(boxes, width=800, height=800)))) == {"percent": 6}


def test_corners_where_sizes_are_due():
    corners = sound_boxes() * [640, 480, 640, 480]
    read = corners.copy()
    read[:, 2:] += corners[:, :2]  # as if they were width and height
    out = (read[:, 2:] > [641, 481]).any(axis=1).sum()
    assert out >= 12
    finding = one(unit_findings(part(image(read))), "corners")
    assert finding.total == out and finding.severity == "fault"
    read[0] = [300, 300, 310, 900]  # 10 wide: not a corner right of 300
    assert found(unit_findings(part(image(read)))) == {}
    assert found(unit_findings(part(image(corners + [0, 0, 300, 300])))) == {}


@pytest.mark.parametrize("first", [0, 1])  # pixel that the tool counts from
def test_sizes_where_corners_are_due(first):
    read = sound_boxes() * [640, 480, 640, 480]
    read[:, 2:] -= read[:, :2]
    read[:, :2] -= first
    inverted = (read[:, 2:] < read[:, :2]).any(axis=1).sum()
    assert 12 <= inverted < 24
    finding = one(all_findings([part(image(read))]), "sizes")
    assert finding.total == inverted and finding.severity == "fault"
    assert "inverted" not in found(all_findings([part(image(read))]))
    read[0] = [300, 300, 400, 20]  # 400 wide: not from 300 on
    assert found(unit_findings(part(image(read)))) == {}


def test_corners_in_the_wrong_order_are_no_sizes():
    corners = sound_boxes() * [640, 480, 640, 480]
    swapped = part(image(corners[:, [2, 3, 0, 1]]))
    assert found(unit_findings(swapped)) == {} and found(box_findings(swapped))["inverted"] == 24
    few = corners / 4  # all in the upper left, and as sizes they fit
    few[:4] = few[:4, [2, 3, 0, 1]]
    assert found(unit_findings(part(image(few)))) == {}  # four of 24
    assert found(unit_findings(part(image(few[1:8])))) == {}  # three of seven
    assert found(unit_findings(part(image(few[:20])))) == {"sizes": 4}  # as this says


# Classes


def test_classes_with_few_boxes_or_none():
    many = [[k, k, k + 9, k + 9] for k in range(10)]
    images = image(many), image([[1, 1, 9, 9]] * 9, labels=[2] * 9)
    findings = [*class_findings(part(*images, classes=["cat", "dog", "cow"]))]
    assert found(findings) == {"class_without_boxes": 1, "class_with_few_boxes": 1}
    assert one(findings, "class_without_boxes").examples[0].text == "cow: none"
    few = one(findings, "class_with_few_boxes")
    assert few.examples[0].text == "dog: 9 boxes" and few.severity == "remark"


def test_crowd_and_difficult_boxes_only():
    images = image([BOX, BOX], labels=[1, 2], crowd=[0]), image([BOX, BOX], labels=[1, 1])
    findings = [*class_findings(part(*images))]
    assert "class_ignored" not in found(findings) and "image_ignored" not in found(findings)
    ignored = image([BOX, BOX], labels=[2, 2], crowd=[0], difficult=[1])
    findings = [*class_findings(part(image([BOX]), ignored))]
    assert one(findings, "class_ignored").examples[0].text == "dog: 2 boxes"
    assert one(findings, "image_ignored").examples[0].shown == (("train", 1, ()),)


@pytest.mark.parametrize(
    "names, counts, kind",
    [
        (["Traffic light", "traffic_light"], [50, 50], "names_alike"),
        (["stop-sign", "STOP SIGN"], [1, 90], "names_alike"),
        (["bus ", "bus"], [9, 9], "names_alike"),
        (["person", "persn"], [90, 2], "names_one_letter"),
        (["persons", "person"], [2, 90], "names_one_letter"),
        (["carrot", "parrot"], [40, 50], None),
        (["cat", "car"], [90, 2], None),
        (["digit 1", "digit 2"], [90, 2], None),
        (["person", "prison"], [90, 2], None),
        (["white-pawn", "black-pawn"], [90, 2], None),
        (["crane", "plane"], [90, 2], None),
    ],
)
def test_names(names, counts, kind):
    labels = np.repeat([1, 2], counts)
    boxes = np.tile([1, 1, 9, 9], (len(labels), 1))
    findings = [*name_findings([part(image(boxes, labels), classes=names)])]
    assert found(findings) == ({} if kind is None else {kind: 1})
    if kind is not None:
        text = one(findings, kind).examples[0].text
        for name, count in zip(names, counts, strict=True):
            assert f"{name} ({count} box" in text


# Images


def looked(width, height, turned=False):
    return {Path("a.jpg"): Look(width=width, height=height, turned=turned)}


@pytest.mark.parametrize(
    "annotated, look, kind",
    [
        ((160, 120), (80, 60), "size_scaled"),
        ((161, 120), (80, 60), "size_scaled"),  # rounded
        ((60, 80), (80, 60), "size_swapped"),
        ((60, 80), (80, 60, True), "size_unturned"),
        ((100, 60), (80, 60), "size_other"),
        ((80, 60), (80, 60), None),
        ((80, 60), (80, 60, True), None),
        ((60, 60), (60, 60), None),
        ((0, 0), (80, 60), None),
    ],
)
def test_sizes(annotated, look, kind):
    of = image([[1, 1, 9, 9]], width=annotated[0], height=annotated[1])
    findings = [*size_findings(part(of, looks=looked(*look)))]
    assert found(findings) == ({} if kind is None else {kind: 1})
    if kind is not None:
        width, height = annotated
        said = f"a.jpg: 80x60, annotated as {width}x{height}"
        assert one(findings, kind).examples[0].text == said


def test_the_size_as_annotated_counts_not_the_one_that_was_put_right():
    of = image([[1, 1, 70, 9]], width=80, height=60) | {"annotated_size": (60, 80)}
    assert found(size_findings(part(of, looks=looked(80, 60)))) == {"size_swapped": 1}


def saved(tmp_path, name, pixels, **options):
    path = tmp_path / name
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def lights(tmp_path, *pixels):
    paths = [saved(tmp_path, f"{k}.png", of) for k, of in enumerate(pixels)]
    images = [image([], path=path) for path in paths]
    return [*light_findings(part(*images, looks=look_at(paths)))]


def test_12_bits_in_16(tmp_path):
    values = np.linspace(0, 4095, 300, dtype=np.uint16).reshape(20, 15)
    findings = lights(tmp_path, values, values // 2)
    assert found(findings) == {"range": 2, "nearly_black": 2}
    what = "16-bit images of 12 bits: values up to 4095 of 65535; they look dark"
    assert one(findings, "range").what == what
    assert one(findings, "range").examples[1].text == "1.png: values up to 2047 of 65535"
    assert found(lights(tmp_path, values, values * 5)) == {"nearly_black": 1}


def test_nearly_black(tmp_path):
    dark = np.random.default_rng(0).integers(0, 17, (60, 80, 3), dtype=np.uint8)
    assert found(lights(tmp_path, dark)) == {"nearly_black": 1}
    assert found(lights(tmp_path, dark + 9)) == {}
    lamp, blue = dark.copy(), dark.copy()
    lamp[:12, :10] = 255  # 2.5 % of the image: a night with a lamp
    blue[..., 2] = 90
    assert found(lights(tmp_path, lamp, blue)) == {}


# Copies


@pytest.fixture(scope="module")
def scene():
    """A picture with something at all scales, and two objects on it."""
    rng = np.random.default_rng(3)
    noise = sum(
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (s, s, 3), dtype=np.uint8)).resize((320, 240), 3),
            np.float64,
        )
        for s in (4, 8, 16, 48)
    )
    return np.clip((noise / 4 - 128) * 1.8 + 128, 0, 255).astype(np.uint8)


def with_object(pixels, x, y, side=24):
    changed = pixels.copy()
    there = changed[y : y + side, x : x + side]
    there[:] = 0 if there.mean() > 127 else 255
    return changed, [[x, y, x + side, y + side]]


def images_in(paths, boxes, name, looks):
    made = [
        image(of, width=looks[path].width, height=looks[path].height, path=path)
        for path, of in zip(paths, boxes, strict=True)
    ]
    return part(*made, name=name, looks=looks)


def test_equal_images(tmp_path, scene):
    names = ["a", "b", "c", "d"]
    paths = [saved(tmp_path, f"{name}.png", scene) for name in names]
    saved(tmp_path, "d.png", scene[:100])
    looks = look_at(paths)
    train = images_in([paths[k] for k in (0, 1, 3)], [[]] * 3, "train", looks)
    val = images_in([paths[2]], [[]], "val", looks)
    findings = [*copy_findings([train, val])]
    assert found(findings) == {"copies": 1, "copies_across": 1}
    across = one(findings, "copies_across")
    assert across.parts == ("train", "val") and across.severity == "warning"
    assert across.examples[0].text == "a.png and c.png"
    assert across.examples[0].shown == (("train", 0, ()), ("val", 0, ()))
    assert one(findings, "copies").severity == "remark"
    assert found(copy_findings([images_in(paths[2:], [[], []], "train", looks), val])) == {
        "copies_across": 1
    }


def changed_copies(tmp_path, picture):
    width, height = picture.size
    smaller = picture.resize((width // 2, height // 2))
    brighter = picture.point(lambda value: int(value * 0.8 + 20))
    moved = picture.transform(picture.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1))
    return [
        saved(tmp_path, "quality.jpg", picture, quality=30),
        saved(tmp_path, "smaller.jpg", smaller, quality=80),
        saved(tmp_path, "brighter.png", brighter),
        saved(tmp_path, "blurred.png", picture.filter(ImageFilter.GaussianBlur(1))),
        saved(tmp_path, "moved.png", moved),
    ]


def near_findings(parts):
    return near_copy_findings(parts, near_copies(parts))


def test_near_copies(tmp_path, scene):
    pixels, boxes = with_object(scene, 100, 100)
    original = saved(tmp_path, "a.png", pixels)
    for copy in changed_copies(tmp_path, Image.fromarray(pixels)):
        looks = look_at([original, copy], gray=True)
        factor = looks[copy].width / 320
        train = images_in([original], [boxes], "train", looks)
        val = images_in([copy], [np.array(boxes) * factor], "val", looks)
        findings = [*near_findings([train, val])]
        assert found(findings) == {"near_copies_across": 1}, copy
        assert findings[0].examples[0].text == f"a.png and {copy.name}"
        assert found(copy_findings([train, val])) == {}
        both = part(*train.annotations, *val.annotations, looks=looks)
        assert found(near_findings([both])) == {"near_copies": 1}


def test_equal_images_are_no_near_copies(tmp_path, scene):
    paths = [saved(tmp_path, name, scene) for name in ("a.png", "b.png")]
    looks = look_at(paths, gray=True)
    assert found(near_findings([images_in(paths, [[], []], "train", looks)])) == {}


def noisy(pixels, rng):
    return np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)


def test_a_camera_that_stands_still_makes_no_copies(tmp_path, scene):
    rng = np.random.default_rng(0)
    frames = [with_object(scene, x, y) for x, y in [(100, 100), (180, 60), (40, 170), (250, 30)]]
    paths = [
        saved(tmp_path, f"{k}.png", noisy(pixels, rng)) for k, (pixels, _) in enumerate(frames)
    ]
    looks = look_at(paths, gray=True)
    assert found(near_findings([images_in(paths, [[]] * 4, "train", looks)])) == {}


def test_pale_objects_that_moved_make_no_copies(tmp_path, scene):
    rng = np.random.default_rng(0)
    paths = [saved(tmp_path, f"{k}.png", noisy(scene, rng)) for k in range(2)]
    looks = look_at(paths, gray=True)
    same = [[[10, 10, 20, 20], [90, 90, 99, 99]], [[11, 10, 21, 20], [50, 50, 59, 59]]]
    assert found(near_findings([images_in(paths, same, "train", looks)])) == {"near_copies": 1}
    other = [[[10, 10, 20, 20], [90, 90, 99, 99]], [[20, 10, 30, 20], [50, 50, 59, 59]]]
    assert found(near_findings([images_in(paths, other, "train", looks)])) == {}
    assert found(near_findings([images_in(paths, [same[0], []], "train", looks)])) == {}


def test_pictures_of_nothing_are_no_copies(tmp_path):
    paths = [
        saved(tmp_path, f"{value}.png", np.full((40, 40, 3), value, np.uint8))
        for value in (0, 1, 250, 255)
    ]
    looks = look_at(paths, gray=True)
    assert found(near_findings([images_in(paths, [[]] * 4, "train", looks)])) == {}


def test_near_hashes_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    bits = rng.random((40, 256)) < 0.5
    flips = [bits ^ (rng.random(bits.shape) < share) for share in (0.03, 0.08, 0.11)]
    bits = np.concatenate([bits, *flips])
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    expected = {(i, j) for i, j in np.argwhere(distances <= 24).tolist() if i < j}
    pairs = near_hashes(bits).tolist()
    assert len(pairs) == len(expected) > 60 and {(i, j) for i, j in pairs} == expected
    assert near_hashes(bits[:1]).shape == (0, 2)


def test_the_table_has_every_kind_and_its_test():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|.*\| `(test_\w+)` \|$", DOCS.read_text(), re.M)
    package = Path(detcenter.data.findings.__file__).parent
    code = "".join(file.read_text() for file in package.glob("*.py"))
    tested = Path(__file__).read_text()
    assert len(rows) == 31 == len({kind for kind, _, _ in rows})
    for kind, _, test in rows:
        assert f'"{kind.removesuffix("_across")}"' in code and f'"{kind}"' in tested, kind
        assert test in globals(), test
