"""Annotations of many images in a few arrays."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from detcenter.data.annotations import Annotations
from detcenter.data.dataset import clean_annotations, clean_boxes

ARRAYS = ("boxes", "labels", "iscrowd", "difficult", "area")


def made_up(count, boxes=(0, 3, 1), **others):
    """Of a few images, boxes of them partly outside, inverted, and not finite."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(count):
        number = boxes[n % len(boxes)]
        corners = rng.uniform(-20, 60, (number, 4))
        corners[rng.random((number, 4)) < 0.1] = np.nan
        flags = rng.random((2, number)) < 0.3
        annotation = {"image_id": f"i{n}", "path": Path(f"{n}.png"), "width": 40 + n, "height": 30}
        annotation |= {"boxes": corners, "labels": rng.integers(1, 4, number)}
        annotation |= {"iscrowd": flags[0], "difficult": flags[1], "area": rng.random(number)}
        made.append(annotation | {key: of(n, number) for key, of in others.items()})
    return made


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == other[key].dtype and value.shape == other[key].shape
            np.testing.assert_array_equal(value, other[key])
        else:
            assert value == other[key] and type(value) is type(other[key])


def test_what_was_given_is_there():
    given = made_up(7, file=lambda n, _: Path(f"{n}.xml"))
    given[2]["annotated_size"] = (7, 8)
    kept = Annotations(given)
    assert len(kept) == 7
    for one, other in zip(kept, given, strict=True):
        assert_same(one, other)
    assert_same(kept[-1], given[-1])
    assert_same(pickle.loads(pickle.dumps(kept))[2], given[2])
    assert [a["image_id"] for a in kept[1:6:2]] == ["i1", "i3", "i5"]
    with pytest.raises(IndexError):
        kept[7]


def test_optional_arrays():
    given = made_up(4, bbox=lambda n, number: np.full((number, 4), n, np.float64))
    given[1]["siblings"] = np.array([True, False, True])
    kept = Annotations(given)
    assert_same(kept[1], given[1])
    assert kept[3]["bbox"].shape == (0, 4) and kept[3]["siblings"].tolist() == []
    assert kept[2]["siblings"].tolist() == [False]
    assert "bbox" not in Annotations(made_up(2))[0]


def test_none_at_all():
    assert [*Annotations([])] == []
    assert clean_annotations([])[1] == {}
    (empty,) = Annotations(made_up(1))
    assert empty["boxes"].shape == (0, 4) and empty["labels"].dtype == np.int64


@pytest.mark.parametrize("as_annotated", [False, True])
def test_boxes_are_cleaned_as_image_by_image(as_annotated, caplog):
    given = made_up(40, boxes=(5, 0, 9, 1))
    cleaned, dropped = clean_annotations(given, as_annotated)
    expected = {}
    for one, other in zip(cleaned, given, strict=True):
        boxes, keep = clean_boxes(other["boxes"], other["width"], other["height"])
        if as_annotated:
            boxes, keep = other["boxes"], np.isfinite(other["boxes"]).all(axis=1)
        arrays = {key: (boxes if key == "boxes" else other[key])[keep] for key in ARRAYS}
        assert_same(one, other | arrays)
        if not keep.all():
            expected[other["path"]] = int((~keep).sum())
    assert dropped == expected and len(expected) > 5
    assert [*dropped] == [*expected]
    assert f"dropped: {sum(expected.values())}, images: {len(expected)}" in caplog.text


def test_a_change_of_what_is_handed_out_is_not_kept():
    kept = Annotations(made_up(2))
    kept[1]["image_id"] = "another"
    assert kept[1]["image_id"] == "i1"


def test_few_objects_for_many_images():
    """What a loading process would copy: an array is over a hundred bytes without its content."""
    kept = Annotations(made_up(3000))
    arrays = [kept.image, kept.sizes, kept._ends, *kept.columns.values()]
    assert sum(array.nbytes for array in arrays) < 3000 * 120 and not kept._rest
