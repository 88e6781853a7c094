import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from detcenter.evaluation import open_set_metrics, voc_metrics

A, B, UNKNOWN = 1, 2, 3
NUMBERS = ("WI", "AP_unknown", "U_recall", "AUROC", "FPR95", "AUROC_images", "FPR95_images")


def at(place, shift=0.0):
    """A box of 10 by 10 pixels; `shift` moves it by pixels to the right."""
    return [20 * place + shift, 0, 20 * place + 10 + shift, 10]


NOWHERE = [0, 300, 10, 310]


@pytest.fixture
def found(detection):
    """Detections of one image, from rows of box, score, unknown score and, if not 1, label."""

    def build(*rows):
        labels = [row[3] if len(row) > 3 else A for row in rows]
        built = detection([row[0] for row in rows], [row[1] for row in rows], labels)
        return built | {"unknown_scores": np.array([row[2] for row in rows], float)}

    return build


@pytest.fixture
def by_hand(annotation, found):
    """Five objects of class a at places 0 to 4, three unknown ones at 5 to 7, a threshold of 0.8:

    score  on        unknown  marked  of class a: TP  FP  open     unknown: TP  FP
    0.95   a 0       0.1                          1   0   0
    0.9    unknown 5 0.3                          1   1   1
    0.85   a 1       0.2                          2   1   1
    0.8    unknown 5 0.6                          2   2   2
    0.75   a 2       0.2                          3   2   2
    0.7    nothing   0.5                          3   3   2
    0.65   a 3       0.4                          4   3   2   <- recall 4/5
    0.6    unknown 6 0.3                          4   4   3
    0.55   a 4       0.9      yes                                           0   1
    0.5    unknown 5 0.95     yes                                           1   1
    0.45   nothing   0.85     yes                                           1   2
    0.4    unknown 6 0.9      yes                                           2   2

    A second image has no object, and two detections of low scores.
    """
    truth = annotation(1, [at(i) for i in range(8)], [1] * 5 + [2, 2, 3])
    places = [at(0), at(5), at(1), at(5), at(2), NOWHERE, at(3), at(6), at(4), at(5), NOWHERE]
    scores = [0.1, 0.3, 0.2, 0.6, 0.2, 0.5, 0.4, 0.3, 0.9, 0.95, 0.85, 0.9]
    rows = zip([*places, at(6)], np.arange(95, 39, -5) / 100, scores, strict=True)
    other = found((NOWHERE, 0.1, 0.3), (NOWHERE, 0.05, 0.7))
    return [truth, annotation(2, [])], [found(*rows), other], ["a"], 0.8


def test_after_marking_by_hand(by_hand):
    """Precision over recall of the unknown: 1/2 at 1/3, 2/4 at 2/3, and nothing beyond."""
    metrics = open_set_metrics(*by_hand)
    assert metrics["WI"] == pytest.approx(2 / 7)
    assert metrics["WI_short_of_recall"] == []
    assert metrics["A_OSE"] == 3 and isinstance(metrics["A_OSE"], int)
    assert metrics["AP_unknown"] == pytest.approx(1 / 3)
    assert metrics["U_recall"] == pytest.approx(2 / 3)
    assert metrics["undetected"] == pytest.approx(1 / 3)
    assert metrics["unknown_objects"] == 3 and metrics["images_with_unknown"] == 1


def test_unknown_scores_by_hand(by_hand):
    """Right: 0.1, 0.2, 0.2, 0.4, 0.9. On unknown objects: 0.3, 0.3, 0.6, 0.9, 0.95.

    Above 3, 3, 4, 4 and a half, and 5 of the right ones; 95 % of five are all five, up to 0.9.
    Of images: the first's are above 0.3 in 7 of 12 and equal in 2, above 0.7 in 4.
    """
    metrics = open_set_metrics(*by_hand)
    assert metrics["AUROC"] == pytest.approx(19.5 / 25)
    assert metrics["FPR95"] == pytest.approx(4 / 5)
    assert metrics["right_detections"] == metrics["detections_on_unknown"] == 5
    assert metrics["AUROC_images"] == pytest.approx((8 + 4) / 24)
    assert metrics["FPR95_images"] == pytest.approx(8 / 12)
    assert metrics["detections_without_unknown"] == 2
    assert metrics["detections_with_unknown"] == 12


def test_only_what_is_above_the_threshold_is_marked(by_hand):
    """The highest unknown score, 0.95, is not above itself; 0.9 leaves the surer on unknown 5."""
    *case, _ = by_hand
    assert open_set_metrics(*case, 0.95) == open_set_metrics(*case, math.inf)
    assert open_set_metrics(*case, 0.9)["AP_unknown"] == pytest.approx(1 / 3)


def test_nothing_is_marked(by_hand):
    """Recall 4/5 is at the seventh as before; five detections are on unknown objects."""
    *case, _ = by_hand
    metrics, before = open_set_metrics(*case, math.inf), open_set_metrics(*by_hand)
    assert metrics["A_OSE"] == 5 and metrics["WI"] == pytest.approx(2 / 7)
    assert metrics["AP_unknown"] == metrics["U_recall"] == 0
    same = [key for key in metrics if "AUROC" in key or "FPR95" in key or "detect" in key]
    assert len(same) == 9 and all(metrics[key] == before[key] for key in same)


def test_all_are_marked(by_hand):
    """The second and the eighth, of twelve, are the first on unknown 5 and 6: 1/2, 2/8."""
    *case, _ = by_hand
    metrics, before = open_set_metrics(*case, -math.inf), open_set_metrics(*by_hand)
    assert metrics["A_OSE"] == 0 and math.isnan(metrics["WI"])
    assert metrics["WI_short_of_recall"] == ["a"]
    assert metrics["AP_unknown"] == pytest.approx(1 / 3 * (1 / 2 + 2 / 8))
    assert metrics["U_recall"] == pytest.approx(2 / 3)
    assert metrics["AUROC"] == before["AUROC"] and metrics["FPR95"] == before["FPR95"]


def test_wilderness_impact_divides_means(annotation, found):
    """Class a: 1 open of 2. Class b: 0 of 4. Not the mean of 1/2 and 0/4, but 1/2 / (6/2)."""
    truth = annotation(1, [at(0), at(1), at(2)], [A, B, UNKNOWN])
    of_a = (at(2), 0.9, 0, A), (at(0), 0.8, 0, A)
    of_b = *[(NOWHERE, 0.9, 0, B)] * 3, (at(1), 0.8, 0, B)
    metrics = open_set_metrics([truth], [found(*of_a, *of_b)], ["a", "b"], 1)
    assert metrics["WI"] == pytest.approx(1 / 6)


def test_wilderness_impact_is_read_where_recall_is_nearest(annotation, found):
    """Of four objects, 3/4 is nearer to 0.8 than 4/4, and what is after it is not read."""
    truth = annotation(1, [at(i) for i in range(5)], [A] * 4 + [UNKNOWN])
    rows = [(at(0), 0.9, 0), (at(4), 0.8, 0), (at(1), 0.7, 0), (at(2), 0.6, 0), (at(4), 0.5, 0)]
    metrics = open_set_metrics([truth], [found(*rows, (at(3), 0.4, 0))], ["a"], 1)
    assert metrics["WI"] == pytest.approx(1 / 4) and metrics["WI_short_of_recall"] == []


def test_a_class_short_of_recall_is_read_at_its_highest_and_named(annotation, found):
    """Class a finds one of two, at its second detection. The one after that is not read.

    Class b has objects but no detection, class c detections on unknown objects but no objects.
    """
    truth = annotation(1, [at(0), at(1), at(2), at(3)], [A, A, B, 4])
    rows = [(at(3), 0.9, 0, A), (at(0), 0.8, 0, A), (at(3), 0.7, 0, A), (at(3), 0.9, 0, 3)]
    metrics = open_set_metrics([truth], [found(*rows)], ["a", "b", "c"], 1)
    assert metrics["WI"] == pytest.approx(1 / 2)
    assert metrics["WI_short_of_recall"] == ["a", "b"]
    assert metrics["A_OSE"] == 3


def test_a_class_that_finds_nothing_is_read_at_its_first_detection(annotation, found):
    truth = annotation(1, [at(0), at(3)], [A, UNKNOWN])
    rows = found((at(3), 0.9, 0), (NOWHERE, 0.8, 0), (NOWHERE, 0.7, 0))
    metrics = open_set_metrics([truth], [rows], ["a", "b"], 1)
    assert metrics["WI"] == 1 and metrics["WI_short_of_recall"] == ["a"]


def test_an_overlap_counts_from_more_than_iou_on(annotation, found):
    """Unlike in `voc_metrics`. Boxes of 10 by 5 within 10 by 10 have IoU 1/2 exactly."""
    truth = annotation(1, [at(0), at(1)], [A, UNKNOWN])

    def metrics(height, label, threshold, iou=0.5):
        boxes = [[*at(place)[:3], height] for place in (0, 1)]
        rows = [(box, 0.9, score, A) for box, score in zip(boxes, (0, 1), strict=True)]
        assert math.isclose(voc_metrics([truth], [found(*rows)], ["a"])["mAP_12"], 1)
        return open_set_metrics([truth], [found(*rows)], ["a", "b"], threshold, iou)

    exact, more = metrics(5, A, 2), metrics(5.25, A, 2)
    assert exact["A_OSE"] == 0 and more["A_OSE"] == 1
    assert exact["undetected"] == 1 and more["undetected"] == 0
    assert exact["right_detections"] == exact["detections_on_unknown"] == 0
    assert more["right_detections"] == more["detections_on_unknown"] == 1
    assert exact["WI_short_of_recall"] == ["a"] and more["WI_short_of_recall"] == []
    assert metrics(5, A, 0.5)["U_recall"] == 0 and metrics(5.25, A, 0.5)["U_recall"] == 1
    assert metrics(5.25, A, 2, iou=0.75)["A_OSE"] == 0
    assert metrics(5, A, 2, iou=0.4)["A_OSE"] == 1


@pytest.mark.parametrize("flag", ["crowd", "difficult"])
def test_ignored_unknown_objects_count_nowhere(annotation, found, flag):
    """Image 1 has an ordinary unknown object and an ignored one, image 2 an ignored one only."""
    first = annotation(1, [at(0), at(1), at(2)], [A, UNKNOWN, UNKNOWN], **{flag: [2]})
    second = annotation(2, [at(3)], [UNKNOWN], **{flag: [0]})
    third = annotation(3, [])
    rows = [(at(0), 0.9, 0.1, A), (at(1), 0.8, 0.3, A), (at(2), 0.7, 0.3, A)]
    more = [(at(2), 0.6, 0.9, A), (at(1), 0.5, 0.9, A), (NOWHERE, 0.4, 0.9, A)]
    detections = [found(*rows, *more), found((at(3), 0.3, 0.2, B)), found((NOWHERE, 0.2, 0.5, B))]
    metrics = open_set_metrics([first, second, third], detections, ["a", "b"], 0.6)
    assert metrics["unknown_objects"] == metrics["images_with_unknown"] == 1
    assert metrics["A_OSE"] == 1
    assert metrics["AP_unknown"] == metrics["U_recall"] == 1
    assert metrics["right_detections"] == 1 and metrics["detections_on_unknown"] == 2
    assert metrics["detections_without_unknown"] == 1 and metrics["detections_with_unknown"] == 6
    assert metrics["undetected"] == 0
    empty = [found()] * 3
    assert open_set_metrics([first, second, third], empty, ["a", "b"], 0.6)["undetected"] == 1


def test_an_ignored_unknown_object_is_not_read_as_open(annotation, found):
    truth = annotation(1, [at(0), at(1), at(2)], [A, UNKNOWN, UNKNOWN], difficult=[1])
    rows = found((at(1), 0.9, 0, A), (at(2), 0.8, 0, A), (at(0), 0.7, 0, A))
    assert open_set_metrics([truth], [rows], ["a", "b"], 1)["WI"] == pytest.approx(1 / 3)


def test_the_nearest_unknown_object_decides_whether_it_is_ignored(annotation, found):
    """IoU 1 with the difficult one and 8/12 with the ordinary one, which is detected all the same.

    The other way around it counts.
    """
    case = annotation(1, [at(0), at(0, 2)], [UNKNOWN, UNKNOWN], difficult=[0])
    metrics = open_set_metrics([case], [found((at(0), 0.9, 0))], ["a", "b"], 1)
    assert metrics["A_OSE"] == metrics["detections_on_unknown"] == metrics["undetected"] == 0
    case = annotation(1, [at(0), at(0, 2)], [UNKNOWN, UNKNOWN], difficult=[1])
    metrics = open_set_metrics([case], [found((at(0), 0.9, 0))], ["a", "b"], 1)
    assert metrics["A_OSE"] == metrics["detections_on_unknown"] == 1


@pytest.mark.parametrize("flag", ["crowd", "difficult"])
def test_a_detection_on_a_known_and_an_unknown_object(annotation, found, flag):
    """A right one is known, a second one unknown. Both are open-set errors, as is an ignored one.

    Place 1 has a known object that is ignored, and an unknown one.
    """
    boxes = [at(0), at(0, 1), at(1), at(1, 1)]
    truth = annotation(1, boxes, [A, UNKNOWN, A, UNKNOWN], **{flag: [2]})
    rows = [(at(0), 0.9, 0.5, A), (at(0), 0.8, 0.5, A), (at(1), 0.95, 0.5, A)]
    metrics = open_set_metrics([truth], [found(*rows)], ["a", "b"], 1)
    assert metrics["right_detections"] == metrics["detections_on_unknown"] == 1
    assert metrics["A_OSE"] == 3
    # Read at the second: the ignored one is in FP_open, as the public code has it, not in TP + FP.
    assert metrics["WI"] == 2
    rows[2] = (at(1), 0.95, 0.5, B)
    assert open_set_metrics([truth], [found(*rows)], ["a", "b"], 1)["detections_on_unknown"] == 2


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (19, 19), (20, 19), (21, 20), (60, 57)])
def test_fpr_accepts_the_lowest_scores_that_make_95_percent(annotation, found, count, rank):
    """Known scores are 1 to `count`; of the unknown one is at each of them and one above all."""
    known = found(*[(NOWHERE, 0.5, score) for score in range(1, count + 1)])
    unknown = found(*[(NOWHERE, 0.5, score) for score in range(1, count + 2)])
    truths = [annotation(1, []), annotation(2, [at(0)], [2])]
    metrics = open_set_metrics(truths, [known, unknown], ["a"], 99)
    assert metrics["FPR95_images"] == pytest.approx(rank / (count + 1))


@pytest.mark.parametrize("count", [1, 7, 20, 60, 61, 200])
@pytest.mark.parametrize("seed", range(3))
def test_separation_equals_scikit_learn(annotation, found, seed, count):
    rng = np.random.default_rng(seed)
    known, unknown = rng.integers(0, 12, count) / 8, rng.integers(2, 15, 50) / 8
    sides = [found(*[(NOWHERE, 0.5, score) for score in scores]) for scores in (known, unknown)]
    truths = [annotation(1, []), annotation(2, [at(0)], [2])]
    metrics = open_set_metrics(truths, sides, ["a"], 99)
    is_known, scores = np.repeat([1, 0], [count, 50]), -np.concatenate([known, unknown])
    assert metrics["AUROC_images"] == pytest.approx(roc_auc_score(is_known, scores), abs=1e-12)
    false, true, _ = roc_curve(is_known, scores, drop_intermediate=False)
    assert metrics["FPR95_images"] == pytest.approx(false[true >= 0.95][0], abs=1e-12)


def exact_iou(a, b):
    a, b = ([Fraction(float(x)) for x in box] for box in (a, b))
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - shared
    return shared / both


def objects_of(annotation, labels):
    """Boxes of an image with one of the labels, each with whether it is ignored."""
    columns = (annotation[key] for key in ("boxes", "labels", "difficult", "iscrowd"))
    return [
        (box, bool(difficult or crowd))
        for box, label, difficult, crowd in zip(*columns, strict=True)
        if label in labels
    ]


def nearest(box, objects, iou):
    """Place of the object that a box overlaps most, the first of several; None up to `iou`."""
    overlaps = [exact_iou(box, other) for other, _ in objects]
    if not overlaps or max(overlaps) <= iou:
        return None
    return overlaps.index(max(overlaps))


def outcomes(rows, annotations, labels, iou):
    """ "right", "ignored" or "wrong" for each row, of detections of one class in order of score."""
    taken, result = set(), []
    for row in rows:
        objects = objects_of(annotations[row["image"]], labels)
        place = nearest(row["box"], objects, iou)
        if place is None or (row["image"], place) in taken:
            result.append("wrong")
        elif objects[place][1]:
            result.append("ignored")
        else:
            taken.add((row["image"], place))
            result.append("right")
    return result


def naive_curve(results, objects):
    """Recall and precision after each row."""
    points = []
    for end in range(1, len(results) + 1):
        right, wrong = (results[:end].count(kind) for kind in ("right", "wrong"))
        points.append((right / objects, right / max(right + wrong, 1)))
    return points


def naive_separation(known, unknown):
    if not known or not unknown:
        return math.nan, math.nan
    wins = sum((u > k) + (u == k) / 2 for k in known for u in unknown)
    enough = [t for t in known if 100 * sum(k <= t for k in known) >= 95 * len(known)]
    accepted = sum(u <= min(enough) for u in unknown)
    return wins / len(known) / len(unknown), accepted / len(unknown)


def naive_metrics(annotations, detections, classes, threshold, iou):
    """Box by box, class by class, pair by pair."""
    known = range(1, len(classes) + 1)
    others = {int(x) for a in annotations for x in a["labels"]} - set(known)
    rows = []
    for image, detection in enumerate(detections):
        columns = (detection[key] for key in ("boxes", "labels", "scores", "unknown_scores"))
        for box, label, score, unknown in zip(*columns, strict=True):
            objects = objects_of(annotations[image], others)
            place = nearest(box, objects, iou)
            on = place is not None and not objects[place][1]
            row = {"image": image, "box": box, "label": label, "score": score, "on": on}
            rows.append(row | {"unknown": unknown})
    rows.sort(key=lambda row: -row["score"])

    def count(labels):
        return sum(not ignored for a in annotations for _, ignored in objects_of(a, labels))

    unknown_objects = count(others)
    marked = [row for row in rows if row["unknown"] > threshold]
    unmarked = [row for row in rows if row["unknown"] <= threshold]
    opens, totals, short = [], [], []
    for label in known:
        if count([label]) == 0:
            continue
        mine = [row for row in unmarked if row["label"] == label]
        results = outcomes(mine, annotations, [label], iou)
        recalls = [recall for recall, _ in naive_curve(results, count([label]))]
        if max(recalls, default=0) < 0.8:
            short.append(classes[label - 1])
        if mine:
            end = min(range(len(mine)), key=lambda i: abs(recalls[i] - 0.8)) + 1
            opens.append(sum(row["on"] for row in mine[:end]))
            totals.append(end - results[:end].count("ignored"))
    defined = unknown_objects and sum(totals)
    points = naive_curve(outcomes(marked, annotations, others, iou), unknown_objects or math.nan)
    rises = zip([0.0, *(recall for recall, _ in points)], points, strict=False)
    steps = [
        (recall - before) * max(p for _, p in points[i:])
        for i, (before, (recall, _)) in enumerate(rises)
    ]
    by_label = {}
    for label in known:
        mine = [row for row in rows if row["label"] == label]
        for row, result in zip(mine, outcomes(mine, annotations, [label], iou), strict=True):
            by_label[id(row)] = result
    right = [row["unknown"] for row in rows if by_label[id(row)] == "right"]
    wrong = [row["unknown"] for row in rows if by_label[id(row)] == "wrong" and row["on"]]
    without = [i for i, a in enumerate(annotations) if not objects_of(a, others)]
    having = [i for i, a in enumerate(annotations) if not all(x for _, x in objects_of(a, others))]
    of_without = [row["unknown"] for row in rows if row["image"] in without]
    of_having = [row["unknown"] for row in rows if row["image"] in having]
    missed = 0
    for image, annotation in enumerate(annotations):
        for box, ignored in objects_of(annotation, others):
            mine = [row["box"] for row in rows if row["image"] == image]
            missed += not ignored and not any(exact_iou(box, other) > iou for other in mine)
    auroc, fpr = naive_separation(right, wrong)
    auroc_images, fpr_images = naive_separation(of_without, of_having)
    return {
        "WI": np.mean(opens) / np.mean(totals) if defined else math.nan,
        "WI_short_of_recall": short,
        "A_OSE": sum(row["on"] for row in unmarked),
        "AP_unknown": sum(steps) if unknown_objects else math.nan,
        "U_recall": max((r for r, _ in points), default=0) if unknown_objects else math.nan,
        "AUROC": auroc,
        "FPR95": fpr,
        "right_detections": len(right),
        "detections_on_unknown": len(wrong),
        "AUROC_images": auroc_images,
        "FPR95_images": fpr_images,
        "images_with_unknown": len(having),
        "detections_without_unknown": len(of_without),
        "detections_with_unknown": len(of_having),
        "undetected": missed / unknown_objects if unknown_objects else math.nan,
        "unknown_objects": unknown_objects,
    }


@pytest.fixture
def open_case(random_case):
    """Known classes a to d, of which c has detections but no objects, and d objects only.

    Two unknown classes, the most of objects. Some images have no objects, some no detections.
    """

    def build(seed):
        annotations, detections, _ = random_case(seed, crowd=0.1, difficult=0.2, tied=True)
        rng = np.random.default_rng(seed)
        for truth, found in zip(annotations, detections, strict=True):
            renamed = np.array([0, 1, 2, 5])[truth["labels"]]
            changed = rng.random(len(renamed)) < 0.3
            truth["labels"] = np.where(changed, rng.integers(4, 7, len(renamed)), renamed)
            labels = np.where(found["labels"] == 3, rng.integers(1, 4, len(found["labels"])), 0)
            found["labels"] = np.where(labels > 0, labels, found["labels"])
            if rng.random() < 0.15:
                found |= {"boxes": found["boxes"][:0], "scores": np.zeros(0), "labels": labels[:0]}
            found["unknown_scores"] = rng.integers(0, 8, len(found["labels"])) / 8
        return annotations, detections, ["a", "b", "c", "d"]

    return build


@pytest.mark.parametrize("iou", [0.3, 0.5])
@pytest.mark.parametrize("threshold", [0.3, 0.75, math.inf])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definitions_written_as_loops(open_case, seed, threshold, iou):
    case = open_case(seed)
    metrics = open_set_metrics(*case, threshold, iou)
    expected = naive_metrics(*case, threshold, iou)
    assert metrics.keys() == expected.keys()
    assert metrics.pop("WI_short_of_recall") == expected.pop("WI_short_of_recall")
    assert metrics == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert not any(math.isnan(metrics[key]) for key in NUMBERS)


@pytest.mark.parametrize("images", [0, 2])
@pytest.mark.parametrize("rows", [0, 1])
def test_without_objects_there_is_nothing_to_measure(annotation, found, images, rows):
    detections = [found(*[(NOWHERE, 0.5, 0.5)] * rows)] * images
    annotations = [annotation(i, []) for i in range(images)]
    metrics = open_set_metrics(annotations, detections, ["a"], 0.4)
    assert all(math.isnan(metrics[key]) for key in (*NUMBERS, "undetected"))
    assert metrics["A_OSE"] == metrics["unknown_objects"] == metrics["images_with_unknown"] == 0
    assert metrics["WI_short_of_recall"] == []
    assert metrics["detections_without_unknown"] == rows * images


def test_without_unknown_objects_the_wilderness_is_not_measured(annotation, found):
    truths = [annotation(1, [at(0)])]
    metrics = open_set_metrics(truths, [found((at(0), 0.9, 0))], ["a"], 1)
    assert all(math.isnan(metrics[key]) for key in (*NUMBERS, "undetected"))
    assert metrics["right_detections"] == 1 and metrics["WI_short_of_recall"] == []


def test_without_detections(annotation, found):
    truths = [annotation(1, [at(0), at(1)], [1, 2])]
    metrics = open_set_metrics(truths, [found()], ["a"], 1)
    assert metrics["AP_unknown"] == metrics["U_recall"] == metrics["A_OSE"] == 0
    assert metrics["undetected"] == 1 and metrics["WI_short_of_recall"] == ["a"]
    assert all(math.isnan(metrics[key]) for key in ("WI", *NUMBERS[3:]))


def test_takes_tensors(by_hand):
    annotations, detections, *rest = by_hand
    tensors = [{key: torch.as_tensor(x) for key, x in found.items()} for found in detections]
    assert open_set_metrics(annotations, tensors, *rest) == open_set_metrics(*by_hand)


def test_refuses_what_does_not_fit(annotation, found):
    truth, rows = annotation(7, [at(0)]), found((at(0), 0.9, 0.5), (at(1), 0.8, 0.5))
    with pytest.raises(ValueError, match="1 annotations and 2 detections"):
        open_set_metrics([truth], [rows, rows], ["a"], 1)
    short = rows | {"unknown_scores": np.zeros(1)}
    with pytest.raises(ValueError, match="2 labels and 1 unknown_scores in image 7"):
        open_set_metrics([truth], [short], ["a"], 1)
    with pytest.raises(ValueError, match="2 boxes, 1 scores and 2 labels"):
        open_set_metrics([truth], [rows | {"scores": np.zeros(1)}], ["a"], 1)
    with pytest.raises(ValueError, match="label 2 of 1 classes in image 7"):
        open_set_metrics([truth], [rows | {"labels": np.array([1, 2])}], ["a"], 1)
    with pytest.raises(ValueError, match="nan in image 7"):
        open_set_metrics([truth], [rows | {"unknown_scores": np.array([0, np.nan])}], ["a"], 1)
