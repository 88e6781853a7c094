import numpy as np

from detcenter.report.history import groups_of
from detcenter.report.recipes import recipe_rows
from detcenter.report.runs import ReportedRun


def run(**recipe):
    return ReportedRun("", recipe, "", [], {}, [], np.zeros((0, 2)), None, "")


def test_what_differs_comes_first():
    runs = [run(a=1, b=[0.5, 2], c=True), run(a=1, b=[0.5, 3], d=None), run(a=1, b="x", c=True)]
    assert recipe_rows(runs) == [
        ("b", ["[0.5, 2]", "[0.5, 3]", "x"], True),
        ("c", ["true", "–", "true"], True),
        ("d", ["–", "null", "–"], True),
        ("a", ["1", "1", "1"], False),
    ]


def test_columns_without_numbers_are_left_out_and_all_others_are_somewhere():
    first = [{"epoch": "1", "lr": "0.1", "AP": "", "train/classification": "2", "AP_small": "nan"}]
    second = [{"epoch": "1", "AP": "0.5", "train/center/ratio": "0.1", "AP_by_class/a/b": "0.2"}]
    assert groups_of([first, second]) == {
        "Losses": ["train/classification"],
        "Average precision": ["AP"],
        "AP of classes": ["AP_by_class/a/b"],
        "Features: scatter within and between classes": ["train/center/ratio"],
        "Rate, time and memory": ["lr"],
    }
