"""detcenter.vote, against a loop over boxes and classes in numpy."""

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
    attach,
    box_features,
    detach,
    detect_with_features,
    fast,
    set_l2_softmax,
    vote,
)
from detcenter.models import family_of, terms_of
from detcenter.models.exact import with_exact_boxes
from detcenter.training import averaged
from detcenter.waits import counted_waits, pretended_cuda
from tests.models import candidates
from tests.models.candidates import (
    boxes_in,
    check,
    detections,
    linear,
    made,
    own_scores,
    part_of,
    seen_in,
    sigmoid,
    softmax,
    with_candidates,
)
from tests.tiny_detectors import BUILDERS, SIZE, Flat, batch


def opinionated(model):
    """With an embedding that is as sure of its classes as a trained one, and with 3 candidates in
    10 boxes or so."""
    attach(model, features=Embedding(dim=8))
    with torch.no_grad():
        terms_of(model).embedding.classifier.weight *= 20
        for projection in terms_of(model).embedding.projections:
            projection.weight *= 3
    return with_candidates(model, 0.3)


@pytest.fixture(params=BUILDERS)
def model(request):
    """Of every family."""
    return opinionated(made(request.param))


@pytest.fixture
def ssd():
    return opinionated(made("ssd"))


@pytest.fixture
def images():
    return batch(2)[0]


def opinion(embedding, box):
    """The embedding's posterior."""
    at = linear(embedding.projections[box.level], box.vector)
    return softmax(linear(embedding.classifier, at))


def geometric_mean(own, other, weight):
    mean = np.array([p ** (1 - weight) * q**weight for p, q in zip(own, other, strict=True)])
    return mean / mean.sum()


def mixed(model, box, other, weight):
    """The logits of a box with the posterior ``other`` mixed in."""
    if not isinstance(model, RetinaNet | FCOS):
        p = softmax(box.logits)
        p_object = p[1:].sum()
        return np.log([p[0], *p_object * geometric_mean(p[1:] / p_object, other, weight)])
    p = sigmoid(box.logits[1:])
    odds = p / (1 - p)
    changed = odds.sum() * geometric_mean(odds / odds.sum(), other, weight)
    return np.array([box.logits[0], *np.log(changed)])


def by_loop(model, images, weight):
    """What torchvision detects with logits that the loop has mixed, and of how many boxes."""
    plain = fast(vote(copy.deepcopy(model), None), False)

    def change(box):
        return mixed(plain, box, opinion(terms_of(plain).embedding, box), weight)

    return candidates.by_loop(plain, images, change)


@pytest.mark.parametrize("kind", [*BUILDERS, MaskRCNN, KeypointRCNN], ids=str)
def test_detections_are_those_of_a_loop_over_boxes_and_classes(kind, images):
    model = opinionated(made(kind))
    own = detections(model, images)
    for weight in (0.5, 1.0):
        expected, count = by_loop(model, images, weight)
        assert count > 3 and sum(len(found["boxes"]) for found in expected) > 3
        vote(model, weight)
        for voting in (fast(copy.deepcopy(model)), fast(copy.deepcopy(model), False)):
            check(detections(voting, images), expected)
        scores = [torch.cat([x["scores"] for x in of]) for of in (own, expected)]
        assert len(scores[0]) != len(scores[1]) or (scores[0] - scores[1]).abs().max() > 0.01
    check(detections(vote(model, None), images), own, exact=True)


def test_one_box_by_hand(ssd):
    """0.2 background, then 0.4, 0.3 and 0.1; the embedding says 0.1, 0.8 and 0.1. Half each, the
    roots of 0.5 * 0.1, 0.375 * 0.8 and 0.125 * 0.1 are 0.2236, 0.5477 and 0.1118, over 0.8831."""
    embedding = terms_of(ssd).embedding
    with torch.no_grad():
        embedding.classifier.weight.zero_()
        embedding.classifier.bias.copy_(torch.tensor([0.1, 0.8, 0.1]).log())
    logits = torch.tensor([0.2, 0.4, 0.3, 0.1]).log()
    ssd.head.classification_head.register_forward_hook(lambda _, __, y: logits.expand_as(y).clone())
    image = torch.rand(3, SIZE, SIZE)
    ssd.score_thresh = 0.35
    for weight, label, score in ((None, 1, 0.4), (0.5, 2, 0.8 * 0.5477 / 0.8831), (1, 2, 0.64)):
        (found,) = detections(vote(ssd, weight), [image])
        assert found["labels"].unique().tolist() == [label]
        assert found["scores"].unique().tolist() == pytest.approx([score], abs=1e-4)
    # Not a candidate by its own scores, it is not looked at, however sure the embedding is.
    ssd.score_thresh = 0.45
    assert len(detections(ssd, [image])[0]["boxes"]) == 0


def test_weight_0_changes_nothing(model, images):
    own = detections(model, images)
    check(detections(vote(model, 0), images), own, exact=True)


def rows_embedded(model, images):
    """How many vectors are projected in a detection."""
    counts = []
    hooks = [
        projection.register_forward_hook(lambda _, x, y: counts.append(x[0].shape[:-1].numel()))
        for projection in terms_of(model).embedding.projections
    ]
    detections(model, images)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def test_only_candidates_are_embedded(model, images):
    own = detections(model, images)
    assert rows_embedded(model, images) == 0  # without a vote nothing is
    best = [max(own_scores(model, box)) for box in boxes_in(model, images)]
    candidates = sum(score > part_of(model).score_thresh for score in best)
    vote(model)
    assert 0 < rows_embedded(model, images) == candidates < len(best)
    check(detections(vote(model, None), images), own, exact=True)


def test_without_a_candidate_nothing_is_embedded_nor_detected(model, images):
    part_of(model).score_thresh = 2.0
    for voting in (vote(model, 0.5), fast(vote(copy.deepcopy(model), 0.5), False)):
        assert rows_embedded(voting, images) == 0
        assert [len(found["boxes"]) for found in detections(voting, images)] == [0, 0]


def test_an_image_without_candidates_beside_another(ssd, images):
    best = np.array([max(own_scores(ssd, box)) for box in boxes_in(ssd, images)]).reshape(2, -1)
    ssd.score_thresh = float(best.max(1).mean())
    expected, candidates = by_loop(ssd, images, 0.1)
    assert rows_embedded(vote(ssd, 0.1), images) == candidates == (best > ssd.score_thresh).sum()
    found = detections(ssd, images)
    check(found, expected)
    assert sorted(len(of_image["boxes"]) > 0 for of_image in found) == [False, True]


def test_an_rcnn_without_proposals(images):
    model = vote(opinionated(made("fasterrcnn")))
    model.rpn.score_thresh = 2.0
    for voting in (model, fast(copy.deepcopy(model))):
        assert [len(found["boxes"]) for found in detections(voting, images)] == [0, 0]


def test_training_does_not_change(model):
    given = batch(2)
    both = [model, vote(copy.deepcopy(model))]
    for mode in ("train", "losses of a model in eval mode"):
        losses = []
        for one in both:
            one.train(mode == "train")
            for part in (one, getattr(one, "rpn", None), getattr(one, "roi_heads", None)):
                if part is not None:
                    part.training = True
            torch.manual_seed(7)
            losses.append(one(*given))
        assert losses[0].keys() == losses[1].keys() and "loss_center" in losses[0]
        assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    assert both[0].state_dict().keys() == both[1].state_dict().keys()


def test_features_are_what_they_were_and_belong_to_the_voted_detections(model, images):
    boxes = [torch.tensor([[5.0, 5.0, 30.0, 32.0]])] * 2
    before = box_features(model, images, boxes)
    vote(model)
    check([{"x": x} for x in box_features(model, images, boxes)], [{"x": x} for x in before], True)
    found = detect_with_features(model, images)
    check([{k: x for k, x in of.items() if k != "features"} for of in found], model(images), True)


@pytest.mark.parametrize("first", ["vote", "l2_softmax"])
def test_with_l2_softmax_in_either_order(model, images, first):
    for step in ("vote", "l2_softmax") if first == "vote" else ("l2_softmax", "vote"):
        vote(model, 0.6) if step == "vote" else set_l2_softmax(model, 5.0)
    part_of(model).score_thresh = 0.34
    expected, count = by_loop(model, images, 0.6)
    assert count > 3
    check(detections(model, images), expected)


def test_copies_pickles_and_averages_vote_too(model, images):
    own = detections(model, images)
    expected = detections(vote(model, 0.4), images)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), averaged(model, 0.9).module]
    for other in copies:
        check(detections(other, images), expected, exact=True)
        check(detections(vote(other, None), images), own, exact=True)
    check(detections(model, images), expected, exact=True)


def test_detached_the_model_is_the_plain_one(model, images):
    kinds = [type(module) for module in detach(copy.deepcopy(model)).modules()]
    own = detections(model, images)
    plain = detach(vote(model))
    assert [type(module) for module in plain.modules()] == kinds
    assert "box_vote" not in vars(plain)
    check(detections(plain, images), own, exact=True)


def test_the_vote_stays_as_long_as_who_votes(ssd, images):
    own = detections(ssd, images)
    attach(ssd, name="other", features="cell")
    expected = detections(vote(ssd), images)
    attach(ssd, name="third", features="embedding")
    check(detections(detach(ssd, "center"), images), expected, exact=True)
    check(detections(detach(ssd, "third"), images), own, exact=True)
    assert ssd.box_vote is None and "other" in terms_of(ssd)


def test_a_head_by_itself_gives_its_own_logits(model, images):
    own = boxes_in(model, images)
    vote(model)
    head = model.head if hasattr(model, "head") else model.roi_heads.box_predictor.cls_score
    assert len(own) > 0
    if hasattr(model, "roi_heads"):
        x = torch.rand(4, 32)
        assert torch.equal(head(x), nn.functional.linear(x, head.weight, head.bias))
    else:
        maps = list(seen_in(model, images)["maps"].values())
        with torch.inference_mode():
            logits = head(maps)["cls_logits"].flatten(0, 1).double().numpy()
        np.testing.assert_array_equal(logits, [box.logits for box in own])


def test_a_new_head_is_voted_on_again_when_asked(ssd, images):
    vote(ssd)
    ssd.head = copy.deepcopy(detach(copy.deepcopy(ssd)).head)
    with pytest.raises(RuntimeError, match="head of this model was exchanged"):
        ssd(images)
    check(detections(vote(ssd), images), by_loop(ssd, images, 0.5)[0])


def test_gradients_go_through_the_vote(model, images):
    leaf = [image.clone().requires_grad_() for image in images]
    sum(found["scores"].sum() for found in vote(model)(leaf)).backward()
    assert leaf[0].grad.abs().sum() > 0
    assert terms_of(model).embedding.classifier.weight.grad.abs().sum() > 0


def test_compiled_parts_detect_the_same(ssd, images):
    own, expected = (detections(one, images) for one in (ssd, vote(copy.deepcopy(ssd))))
    torch._dynamo.reset()
    for part in (ssd.backbone, *family_of(ssd).heads(ssd)):
        part.compile(backend="eager")
    check(detections(ssd, images), own)
    check(detections(vote(ssd), images), expected)
    check(detections(vote(ssd, None), images), own)


def test_compiled_whole_it_detects_the_same(ssd, images):
    expected = detections(vote(ssd), images)
    torch._dynamo.reset()
    check(detections(torch.compile(ssd, backend="eager"), images), expected)


@pytest.mark.filterwarnings("ignore")
def test_traces_take_other_images(model, images):
    part_of(model).detections_per_img = 1000
    traced = torch.jit.trace(Flat(fast(vote(model))), images[0], check_trace=False)
    for image in (images[0], 3 * images[0].flip(1) - 1):
        found = traced(image)
        (expected,) = detections(model, [image])
        assert len(found[0]) > 0
        for one, key in zip(found, ("boxes", "scores", "labels"), strict=True):
            torch.testing.assert_close(one, expected[key], rtol=1e-4, atol=1e-4)


def test_in_half_precision_scores_are_nearly_the_same(ssd, images):
    with_exact_boxes(ssd).detections_per_img = 10
    exact = detections(vote(ssd), images)
    with torch.autocast("cpu", torch.bfloat16):
        found = [detections(ssd, images)]
    found.append(detections(copy.deepcopy(ssd).double(), [image.double() for image in images]))
    for of, tolerance in zip(found, (0.05, 1e-4), strict=True):
        for one, other in zip(of, exact, strict=True):
            assert one["scores"].isfinite().all() and len(one["scores"]) == 10
            difference = one["scores"].double() - other["scores"].double()
            assert difference.abs().max() < tolerance


def test_a_vote_waits_once(model):
    totals = []
    for voting in (fast(model), fast(vote(copy.deepcopy(model)))):
        with pretended_cuda() as device:
            voting.to(device)
            for _ in range(2):
                with counted_waits() as waits, torch.inference_mode():
                    voting(batch(4, device)[0])
        totals.append(waits.total)
    assert totals[1] <= totals[0] + 1


def test_what_cannot_vote(ssd):
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="weight of the vote lies in 0..1, not"):
            vote(ssd, wrong)
    with pytest.raises(TypeError, match="not Linear"):
        vote(nn.Linear(1, 1))
    assert ssd.box_vote is None


def test_without_an_embedding_nothing_can_vote():
    for kind, features in (("ssd", "cell"), ("fasterrcnn", "box"), ("fcos", None)):
        model = made(kind)
        if features:
            attach(model, features=features)
        with pytest.raises(ValueError, match="nothing embeds the boxes"):
            vote(model)
        assert vote(model, None) is model


def test_a_voter_that_learns_nothing_is_refused():
    model = attach(made("ssd"), features=Embedding(weight=0)).eval()
    with pytest.raises(ValueError, match="softmax has weight 0"):
        vote(model)
