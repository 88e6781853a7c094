"""supervision's detections and ours."""

import importlib
import sys

import numpy as np
import pytest
import supervision as sv
import torch

from detcenter.evaluation import from_supervision, interchange, to_supervision

CLASSES = ["cat", "dog", "a bird"]
FOUND = {
    "boxes": torch.tensor([[1.0, 2.0, 30.25, 40.5], [5.0, 5.0, 6.0, 9.0]]),
    "scores": torch.tensor([0.9, 0.25]),
    "labels": torch.tensor([3, 1]),
}
NOTHING = {name: values[:0] for name, values in FOUND.items()}


@pytest.mark.parametrize("found", [FOUND, NOTHING])
def test_there_and_back(found):
    theirs = to_supervision(found, CLASSES)
    assert isinstance(theirs, sv.Detections) and len(theirs) == len(found["labels"])
    back = from_supervision(theirs)
    assert back.keys() == found.keys()
    for name, values in found.items():
        assert back[name].dtype == values.dtype and torch.equal(back[name], values)


def test_it_is_what_supervision_makes_itself_but_for_background():
    # Its own reader of torchvision-like results keeps the labels, in which 0 is background.
    theirs = to_supervision(FOUND, CLASSES)
    assert theirs.class_id.tolist() == [2, 0]
    assert theirs.data["class_name"].tolist() == ["a bird", "cat"]
    np.testing.assert_allclose(theirs.area, [29.25 * 38.5, 4.0])
    surest = theirs[theirs.confidence > 0.5]
    assert surest.data["class_name"].tolist() == ["a bird"]
    scene = np.zeros((60, 60, 3), np.uint8)
    assert sv.BoxAnnotator().annotate(scene, theirs)[2, 10].any()
    merged = sv.Detections.merge([theirs, to_supervision(NOTHING, CLASSES)])
    assert from_supervision(merged)["labels"].tolist() == [3, 1]


def test_empty_ones_of_supervision():
    back = from_supervision(sv.Detections.empty())
    assert back["boxes"].shape == (0, 4) and back["labels"].dtype == torch.int64
    assert back["scores"].dtype == torch.float32


def test_what_has_no_class_or_no_name_is_refused():
    boxes = np.array([[0.0, 0, 5, 5]])
    with pytest.raises(ValueError, match="1 detections without class_id"):
        from_supervision(sv.Detections(xyxy=boxes))
    assert from_supervision(sv.Detections(xyxy=boxes, class_id=np.array([4]))) == {
        "boxes": pytest.approx(torch.tensor([[0.0, 0, 5, 5]])),
        "scores": torch.tensor([1.0]),
        "labels": torch.tensor([5]),
    }
    with pytest.raises(ValueError, match="label 3 has no name: there are 2 classes"):
        to_supervision(FOUND, ["a", "b"])


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    importlib.reload(interchange)  # the import of the module itself does not need it
    with pytest.raises(ImportError, match=r"pip install 'detcenter\[supervision\]'$"):
        interchange.to_supervision(FOUND, CLASSES)
