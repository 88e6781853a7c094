"""Enrolled classes, against loops over boxes, classes and modes in numpy."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS, KeypointRCNN, MaskRCNN, RetinaNet

from detcenter import (
    Embedding,
    EnrolledClasses,
    attach,
    box_features,
    box_logits,
    detach,
    detect_with_features,
    enroll,
    fast,
    vote,
)
from detcenter.models import terms_of
from tests.models import candidates
from tests.models.candidates import (
    boxes_in,
    check,
    detections,
    linear,
    made,
    part_of,
    sigmoid,
    softmax,
    with_candidates,
)
from tests.tiny_detectors import BUILDERS, CLASSES, Flat, batch

NEW = ["a", "b"]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def seen(model, box):
    """What the first term reads of a box of the loop."""
    if "embedding" in terms_of(model):
        return linear(terms_of(model).embedding.projections[box.level], box.vector)
    return box.vector


def enrolled(model):
    """Two classes that look like some of the model's own boxes, so that both are detected."""
    rows = np.array([seen(model, box) for box in boxes_in(model, batch(2)[0])])
    rows = torch.from_numpy(rows).float()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(5))
    taught, few = rows[order[:30]], rows[order[30:36]]
    directions = torch.nn.functional.normalize(taught, dim=1)
    nearest = torch.cdist(directions, directions[: CLASSES - 1]).argmin(1)
    fitted = EnrolledClasses.fit(taught, nearest + 1).state()["taught"]
    classes = EnrolledClasses(fitted | {"rate": 4 * fitted["rate"]})  # so that they differ more
    classes.add("a", few[:1])
    classes.add("b", few[1:])
    return classes


@pytest.fixture(params=BUILDERS)
def model(request):
    """Of every family, as it is without a term; levels of one width."""
    return with_candidates(made(request.param), 0.6)


@pytest.fixture
def images():
    return batch(2)[0]


def changed(model, classes, box):
    """The logits of a box with the enrolled classes behind."""
    direction = unit(seen(model, box)[None])[0]
    likely = []
    modes = iter(zip(*(classes.get_buffer(x).double().numpy() for x in BUFFERS), strict=True))
    rate = float(classes.get_buffer("rate"))
    for count in classes._counts:
        parts = []
        for center, offset in (next(modes) for _ in range(count)):
            parts.append(math.exp(offset - rate * sum((direction - center) ** 2)))
        likely.append(sum(parts))
    q = np.array(likely) / sum(likely)
    if not isinstance(model, RetinaNet | FCOS):
        p = softmax(box.logits)
        return np.log([p[0], *p[1:] * q[0], *p[1:].sum() * q[1:]])
    p = sigmoid(box.logits[1:])
    odds = p / (1 - p)
    return np.array([box.logits[0], *np.log([*odds * q[0], *odds.sum() * q[1:]])])


BUFFERS = ("centers", "offsets")


@pytest.mark.parametrize("kind", [*BUILDERS, KeypointRCNN], ids=str)
@pytest.mark.parametrize("embedded", [False, True])
def test_detections_are_those_of_a_loop_over_boxes_and_classes(kind, embedded, images):
    model = made(kind)
    if embedded:
        attach(model, features=Embedding(dim=8))
    with_candidates(model, 0.6)
    own, classes = detections(model, images), enrolled(model)
    plain = fast(copy.deepcopy(model), False)
    expected, count = candidates.by_loop(plain, images, lambda box: changed(plain, classes, box))
    assert count > 3
    found = torch.cat([of["labels"] for of in expected])
    assert (found >= CLASSES).sum() > 2 and (found < CLASSES).sum() > 2
    enroll(model, classes)
    for other in (fast(copy.deepcopy(model)), fast(copy.deepcopy(model), False)):
        check(detections(other, images), expected)
    check(detections(enroll(model, None), images), own, exact=True)


def test_the_classes_of_a_box_by_hand():
    """On the unit circle: at 0 and 90 degrees the taught, with a box to either side by 10."""

    def at(*degrees):
        angle = torch.tensor(degrees).deg2rad()
        return torch.stack([angle.cos(), angle.sin()], 1)

    classes = EnrolledClasses.fit(3 * at(-10.0, 10, 80, 100), torch.tensor([1, 1, 2, 2]))
    classes.add("between", at(45.0))
    assert classes.add("twice", at(135.0, 270, 270, 270)) == 2
    center = math.cos(math.radians(10))
    variance = 4 * math.sin(math.radians(10)) ** 2 / 2  # four boxes about two means
    rate = 7 / (2 * center**2)
    modes = [  # center, how many boxes, share of the class
        [((center, 0), 2, 1), ((0, center), 2, 1)],
        [((math.sqrt(0.5), math.sqrt(0.5)), 1, 1)],
        [((-math.sqrt(0.5), math.sqrt(0.5)), 1, 0.25), ((0, -1), 3, 0.75)],
    ]
    x, y = 0.6, -0.8

    def likelihood(mean, count, share):
        square = (x - mean[0]) ** 2 + (y - mean[1]) ** 2
        return share * math.exp(-rate * (square - variance / count))

    likely = [sum(likelihood(*mode) for mode in of) for of in modes]
    found = classes(torch.tensor([[5 * x, 5 * y]])).exp()
    assert found[0].tolist() == pytest.approx([v / sum(likely) for v in likely], rel=1e-4)


def test_what_is_fitted():
    torch.manual_seed(1)
    labels = torch.tensor([1] * 30 + [2] * 20 + [5] * 10)
    features = torch.randn(60, 6) + 4 * torch.eye(6)[labels]
    taught = EnrolledClasses.fit(features, labels).state()["taught"]
    rows, labels = unit(features.double().numpy()), labels.numpy()
    means = {k: rows[labels == k].mean(0) for k in (1, 2, 5)}
    squares = {(a, b): ((means[a] - means[b]) ** 2).sum() for a in means for b in means if a != b}
    within = sum(((row - means[k]) ** 2).sum() for row, k in zip(rows, labels, strict=True))
    nearest = np.mean([min(x for pair, x in squares.items() if pair[0] == k) for k in means])
    expected = {
        "centers": np.stack([*means.values()]),
        "counts": np.array([30, 20, 10]),
        "variance": within / 57,
        "rate": 7 / np.mean([*squares.values()]),
        "apart": math.sqrt(nearest + 2 * within / 57),
    }
    assert expected["rate"] < 2 / expected["variance"]
    assert taught.keys() == expected.keys()
    for name, value in expected.items():
        assert taught[name].numpy() == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_classes_that_do_not_differ_are_told_bluntly():
    torch.manual_seed(0)
    features = torch.randn(300, 16)
    classes = EnrolledClasses.fit(features, torch.arange(300) % 3 + 1)  # labels by chance
    classes.add("x", torch.randn(1, 16))
    taught = classes.state()["taught"]
    assert float(taught["rate"]) == pytest.approx(2 / float(taught["variance"]))
    odds = classes(torch.randn(200, 16))
    assert (odds[:, 1] - odds[:, 0]).abs().median() < 3


def test_boxes_that_fall_apart_are_modes():
    """As far apart as two taught classes are, and no nearer."""
    torch.manual_seed(0)
    labels = torch.arange(40) % 4 + 1
    axes = torch.eye(8)
    features = axes[labels] + 0.05 * torch.randn(40, 8)
    classes = EnrolledClasses.fit(features, labels)
    one = axes[5] + 0.05 * torch.randn(6, 8)
    other = 0.05 * torch.randn(2, 8) - axes[5]
    assert classes.add("one", one) == 1
    assert classes.add("both", torch.cat([one, other])) == 2
    modes = classes.state()["enrolled"]["both"]
    assert sorted(modes["counts"].tolist()) == [2, 6]
    near = classes(torch.stack([axes[5], -axes[5], axes[2]]))
    assert near.argmax(1).tolist()[1:] == [2, 0]  # "one" is at axis 5 too, and there alone
    assert near[0, 1] > near[0, 2]


def test_classes_come_and_go(model, images):
    own, classes = detections(model, images), enrolled(model)
    both = detections(enroll(model, classes), images)
    state = pickle.loads(pickle.dumps(classes.state()))
    check(detections(enroll(model, EnrolledClasses(**state)), images), both, exact=True)
    classes.remove("a")
    assert classes.names == ["b"]
    one = detections(enroll(model, classes), images)
    assert max(int(of["labels"].max()) for of in one) == CLASSES
    classes.remove("b")
    check(detections(model, images), own, exact=True)
    with pytest.raises(KeyError):
        classes.remove("b")
    kinds = [type(part) for part in detach(copy.deepcopy(model)).modules()]
    assert [type(part) for part in detach(enroll(model, None)).modules()] == kinds


def test_copies_and_pickles_have_them_and_a_state_dict_does_not(model, images):
    keys = model.state_dict().keys()
    expected = detections(enroll(model, enrolled(model)), images)
    assert model.state_dict().keys() == keys
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        check(detections(other, images), expected, exact=True)
        assert other.box_classes.names == NEW
    exact = copy.deepcopy(model).double()
    assert exact.box_classes.centers.dtype == torch.float32


def test_features_and_logits_are_what_they_were(model, images):
    boxes = [torch.tensor([[5.0, 5.0, 30.0, 32.0]])] * 2
    before = [box_features(model, images, boxes), box_logits(model, images, boxes)]
    enroll(model, enrolled(model))
    for one, other in zip(
        before, [box_features(model, images, boxes), box_logits(model, images, boxes)], strict=True
    ):
        assert all(map(torch.equal, one, other))
    found = detect_with_features(model, images)
    check([{k: x for k, x in of.items() if k != "features"} for of in found], model(images), True)


def test_training_does_not_change(model):
    given = batch(2)
    both = [model, enroll(copy.deepcopy(model), enrolled(model))]
    losses = []
    for one in both:
        torch.manual_seed(7)
        losses.append(one.train()(*given))
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, rtol=1e-5, atol=1e-6)


def test_a_vote_comes_first(images):
    model = attach(made("ssd"), features=Embedding(dim=8))
    with_candidates(model, 0.6)
    classes = enrolled(model)
    voted = detections(vote(copy.deepcopy(model), 1.0), images)
    both = detections(enroll(vote(model, 1.0), classes), images)
    assert {int(x) for of in both for x in of["labels"]} >= {CLASSES, CLASSES + 1}
    check(detections(enroll(copy.deepcopy(model), None), images), voted, exact=True)
    alone = detections(vote(model, None), images)
    scores = [torch.cat([of["scores"] for of in one]) for one in (both, alone)]
    assert len(scores[0]) != len(scores[1]) or not torch.allclose(*scores)


def test_the_classes_go_with_the_term_that_they_are_told_by(images):
    model = attach(made("ssd"), features=Embedding(dim=8))
    with_candidates(model, 0.6)
    attach(model, name="other", features="cell")
    own = detections(model, images)
    enroll(model, enrolled(model))
    expected = detections(model, images)
    check(detections(detach(copy.deepcopy(model), "other"), images), expected, exact=True)
    check(detections(detach(model, "center"), images), own, exact=True)
    plain = enroll(with_candidates(made("ssd"), 0.6), enrolled(made("ssd").eval()))
    with pytest.raises(ValueError, match="attach first, then enroll"):
        attach(plain)


@pytest.mark.filterwarnings("ignore")
def test_traces_take_other_images(model, images):
    part_of(model).detections_per_img = 1000
    enroll(model, enrolled(model))
    traced = torch.jit.trace(Flat(fast(model)), images[0], check_trace=False)
    for image in (images[0], 3 * images[0].flip(1) - 1):
        found = traced(image)
        (expected,) = detections(model, [image])
        assert len(found[0]) > 0
        for one, key in zip(found, ("boxes", "scores", "labels"), strict=True):
            torch.testing.assert_close(one, expected[key], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_enrolled(images):
    rows, labels = torch.randn(4, 32), torch.tensor([1, 1, 2, 2])
    classes = EnrolledClasses.fit(rows, labels)
    with pytest.raises(TypeError, match="Mask R-CNN has a mask for each class"):
        enroll(made(MaskRCNN), classes)
    with pytest.raises(TypeError, match="not Linear"):
        enroll(nn.Linear(1, 1), classes)
    with pytest.raises(ValueError, match="the classes have 5 features, the boxes of this model 32"):
        enroll(made("ssd"), EnrolledClasses.fit(torch.randn(4, 5), labels))
    for wrong, message in (
        (torch.randn(2, 5), r"features are \[N, 32\], not \[2, 5\]"),
        (torch.zeros(0, 32), "there are no boxes"),
        (torch.full((1, 32), math.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            classes.add("x", wrong)
    assert classes.names == []
    with pytest.raises(ValueError, match="features .N, D. and labels .N."):
        EnrolledClasses.fit(rows, labels[:2])
    with pytest.raises(ValueError, match="there are no boxes"):
        EnrolledClasses.fit(rows[:0], labels[:0])


def test_one_taught_class_and_single_boxes():
    """All stays finite."""
    for labels in ([1], [1, 1, 1], [1, 2, 3]):
        classes = EnrolledClasses.fit(torch.eye(4)[: len(labels)], torch.tensor(labels))
        classes.add("x", torch.eye(4)[3:])
        found = classes(torch.eye(4)).exp()
        assert found.isfinite().all() and found[3].argmax() == 1 and found[0].argmax() == 0
