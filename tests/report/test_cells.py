import numpy as np
import pytest

from detcenter.evaluation import confusion_matrix
from detcenter.report.cells import crops_of_cells
from detcenter.report.crops import CropSheet


@pytest.mark.parametrize("seed", range(4))
def test_every_case_of_the_matrix_has_its_crop(confused_case, seed):
    annotations, detections, classes = confused_case(seed, crowd=0.2, difficult=0.2)
    case = annotations, detections, classes
    sheet = CropSheet(most=5000)
    (crops,) = crops_of_cells([detections], annotations, len(classes), 0.2, sheet)
    matrix = confusion_matrix(*case, score=0.2)
    assert matrix.max() <= 24 and matrix[-1].any() and matrix[:, -1].any()
    for row in range(4):
        for column in range(4):
            assert len(crops.get(f"{row}-{column}", [])) == matrix[row, column]


def test_the_surest_first_with_their_image_and_score(annotation, detection):
    boxes = [[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]]
    annotations = [annotation(5, boxes), annotation(9, boxes[:1])]
    detections = [
        detection(boxes[:2], [0.6, 0.9], [2, 2]),
        detection(boxes[:2], [0.7, 0.8], [2, 1]),
    ]
    sheet = CropSheet(most=100)
    (crops,) = crops_of_cells([detections], annotations, 2, 0.5, sheet)
    scores = {cell: [(image, score) for _, image, score in rows] for cell, rows in crops.items()}
    assert scores == {
        "0-1": [(0, 0.9), (1, 0.7), (0, 0.6)],
        "0-2": [(0, None)],
        "2-0": [(1, 0.8)],
    }
    assert crops["2-0"][0][0] == sheet.register(1, np.array(boxes[1]))
    assert crops["0-2"][0][0] == sheet.register(0, np.array(boxes[2]))


def test_a_small_sheet_has_something_of_every_wrong_cell(annotation, detection):
    boxes = [[50 * k, 0, 50 * k + 40, 40] for k in range(8)]
    labels = [1, 1, 1, 1, 2, 2, 1, 2]
    found = detection(boxes, np.linspace(0.9, 0.6, 8), [2, 2, 2, 2, 1, 1, 1, 2])
    sheet = CropSheet(most=4)
    (crops,) = crops_of_cells([[found]], [annotation(1, boxes, labels)], 2, 0.5, sheet)
    assert {cell: len(rows) for cell, rows in crops.items()} == {"0-1": 2, "1-0": 2}


def test_a_cell_has_24_at_most_and_runs_have_cells_of_their_own(annotation, detection):
    boxes = [[50 * k, 0, 50 * k + 40, 40] for k in range(30)]
    truth = annotation(1, boxes)
    runs = [[detection(boxes, np.full(30, 0.9), [2] * 30)], [detection()]]
    crops = crops_of_cells(runs, [truth], 2, 0.5, CropSheet(most=100))
    assert [{cell: len(rows) for cell, rows in of.items()} for of in crops] == [
        {"0-1": 24},
        {"0-2": 24},
    ]
