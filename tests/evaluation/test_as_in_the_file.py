"""COCO files of other frameworks: all twelve numbers are pycocotools', on the files as they are."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detcenter.data import COCODataset
from detcenter.evaluation import coco_metrics, load_results
from detcenter.evaluation.coco import COCO_KEYS

from .coco_files import plain_pycocotools

# Boxes inside, at and beyond the edges of an image of 100 x 80; decimals, so that sums are rounded.
places = st.sampled_from([-20.0, -5.0, 0.0, 0.1, 13.2, 30.7, 60.0, 79.9, 95.3, 100.0, 120.5])
sides = st.sampled_from([0.0, 0.3, 10.0, 20.1, 33.3, 36.0, 92.98, 100.0])
moves = st.sampled_from([-4.0, 0.0, 0.0, 0.1, 2.5])
objects = st.fixed_dictionaries(
    {
        "bbox": st.tuples(places, places, sides, sides).map(list),
        "category_id": st.sampled_from([9, 2, 40]),
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "area": st.sampled_from([0.5, 400.0, 1024.0, 9216.0, 20000.7]),
    }
)
scores = st.sampled_from([0.1, 0.25, 0.5, 1 / 3, 0.9])
images = st.lists(
    st.tuples(st.lists(objects, max_size=4), st.lists(objects, max_size=3)), min_size=1, max_size=4
)


def written(folder, images, ids, draw):
    """The two files: of every object a moved copy or more, and some boxes anywhere."""
    truth = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 100, "height": 80}
            for i, _ in zip(ids, images, strict=False)
        ],
        "annotations": [],
        "categories": [{"id": 40, "name": "c"}, {"id": 2, "name": "a"}, {"id": 9, "name": "b"}],
    }
    results = []
    for image_id, (there, anywhere) in zip(ids, images, strict=False):
        for box in there:
            truth["annotations"].append(
                box | {"id": len(truth["annotations"]) + 1, "image_id": image_id}
            )
        for box in [*there, *there, *anywhere]:
            x, y, width, height = box["bbox"]
            moved = [x + draw(moves), y + draw(moves), width, height]
            results.append(
                {
                    "image_id": image_id,
                    "category_id": box["category_id"],
                    "bbox": moved,
                    "score": draw(scores),
                }
            )
    files = folder / "truth.json", folder / "results.json"
    for file, content in zip(files, (truth, results), strict=True):
        file.write_text(json.dumps(content))
    return files


def measured(truth_file, result_file, backend):
    dataset = COCODataset(None, truth_file)
    ids = [annotation["image_id"] for annotation in dataset.annotations]
    found = load_results(result_file, ids, dataset.category_ids)
    metrics = coco_metrics(dataset.annotations, found, dataset.classes, backend)
    return [metrics[key] for key in COCO_KEYS]


def expected(truth_file, result_file):
    with contextlib.redirect_stdout(io.StringIO()):
        stats = plain_pycocotools(truth_file, result_file, [2, 9, 40])
    return np.where(stats < 0, np.nan, stats)


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
@settings(max_examples=300, deadline=None)
@given(images, st.permutations([7, 0, -3, 12]) | st.permutations(["10", "9", "b", "a"]), st.data())
def test_all_twelve_numbers_are_pycocotools(tmp_path_factory, backend, images, ids, data):
    files = written(tmp_path_factory.mktemp("case"), images, ids, data.draw)
    if json.loads(files[1].read_text()):  # of no detections pycocotools makes an error
        want = expected(*files)
        np.testing.assert_allclose(measured(*files, backend), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["pycocotools", "hotcoco"])
def test_an_iou_that_is_exactly_a_threshold_is_a_match(tmp_path, backend):
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 640, "height": 480}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [13.2, 381.39, 36.0, 92.98]}
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    row = {"image_id": 1, "category_id": 1, "bbox": [9.2, 381.39, 36.0, 92.98], "score": 0.9}
    for name, content in (("truth", truth), ("results", [row])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    # 32 / 40 = 0.8, so seven of ten thresholds
    (ap, *_) = measured(tmp_path / "truth.json", tmp_path / "results.json", backend)
    assert ap == pytest.approx(0.7, abs=1e-12)


@pytest.mark.parametrize("box", [[-5, -5, 20, 20], [200, 200, 10, 10], [90, 70, 40, 40]])
def test_truth_that_reaches_out_of_its_image_is_not_cut(tmp_path, box):
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
        "categories": [{"id": 1, "name": "a"}],
    }
    row = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.9}
    for name, content in (("truth", truth), ("results", [row])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for backend in ("pycocotools", "hotcoco"):
        (ap, *_) = measured(tmp_path / "truth.json", tmp_path / "results.json", backend)
        assert ap == pytest.approx(1.0, abs=1e-12)


def test_an_annotation_with_the_id_0_may_be_found(tmp_path):
    """pycocotools takes a match with it for none."""
    files = [tmp_path / name for name in ("truth.json", "results.json")]
    truth = {
        "images": [{"id": 0, "file_name": "a.png", "width": 100, "height": 80}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 2, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 2, "name": "a"}],
    }
    row = {"image_id": 0, "category_id": 2, "bbox": [5, 5, 20, 20], "score": 0.9}
    for file, content in zip(files, (truth, [row]), strict=True):
        file.write_text(json.dumps(content))
    assert measured(*files, "pycocotools")[0] == pytest.approx(1.0)
