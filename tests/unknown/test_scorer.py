"""Scores of unknown boxes against loops over the definitions, and scikit-learn."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from detcenter.unknown import WAYS, UnknownScorer, threshold_losing


@pytest.fixture
def known():
    """Three classes in five dimensions; the third has three boxes."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([1] * 40 + [2] * 30 + [4] * 3)
    means = 3 * torch.randn(5, 5, generator=draw)
    features = means[labels] + torch.randn(len(labels), 5, generator=draw)
    return features, torch.randn(len(labels), 5, generator=draw), labels


@pytest.fixture
def new():
    draw = torch.Generator().manual_seed(1)
    return 3 * torch.randn(9, 5, generator=draw), 2 * torch.randn(9, 5, generator=draw)


def by_loops(by, known, new):
    features, _, labels = (x.double().numpy() for x in known)
    of_new, logits = (x.double().numpy() for x in new)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    mine = of_new / np.linalg.norm(of_new, axis=1, keepdims=True)
    classes = [1, 2, 4]
    if by == "softmax":
        return [1 - max(np.exp(z[1:])) / sum(np.exp(z)) for z in logits]
    if by == "logit":
        return [-max(z[1:]) for z in logits]
    if by == "energy":
        return [-math.log(sum(math.exp(x) for x in z[1:])) for z in logits]
    if by == "neighbours":
        return [sorted(np.linalg.norm(directions - u, axis=1))[9] for u in mine]
    if by == "centers":
        means = {c: directions[labels == c].mean(0) for c in classes}
        squares = {c: [sum((u - means[c]) ** 2) for u in directions[labels == c]] for c in classes}
        every = np.mean([x for c in classes for x in squares[c]])
        spread = {
            c: math.sqrt((sum(squares[c]) + 5 * every) / (len(squares[c]) + 5)) for c in classes
        }
        return [min(np.linalg.norm(u - means[c]) / spread[c] for c in classes) for u in mine]
    means = {c: features[labels == c].mean(0) for c in classes}
    centered = np.array([f - means[c] for f, c in zip(features, labels, strict=True)])
    inverse = np.linalg.inv(LedoitWolf(assume_centered=True).fit(centered).covariance_)
    return [min((f - means[c]) @ inverse @ (f - means[c]) for c in classes) for f in of_new]


@pytest.mark.parametrize("by", WAYS)
def test_the_scores_are_those_of_their_definitions(by, known, new):
    scorer = UnknownScorer.fit(*known, by=by)
    assert scorer(*new).tolist() == pytest.approx(list(by_loops(by, known, new)), rel=1e-4)
    assert scorer(new[0][:0], new[1][:0]).shape == (0,)


@pytest.mark.parametrize("by", WAYS)
def test_the_threshold_loses_the_share_that_one_accepts(by, known):
    features, logits, labels = known
    scorer = UnknownScorer.fit(*known, by=by, lose=0.1)
    if by == "neighbours":  # a box is not its own neighbour
        directions = torch.nn.functional.normalize(features, dim=1)
        found = NearestNeighbors(n_neighbors=10).fit(directions).kneighbors()[0][:, -1]
        own = torch.from_numpy(found).float()
    else:
        own = scorer(features, logits)
    lost = (own > scorer.threshold + 1e-6).float().mean()
    assert 6 / 73 <= lost <= 7 / 73 and lost <= 0.1


def test_thresholds():
    scores = torch.arange(20.0).flip(0)
    assert threshold_losing(scores, 0.05) == 18  # one of twenty lies above
    assert threshold_losing(scores, 0.0) == 19
    assert threshold_losing(scores, 0.04) == 19
    assert threshold_losing(torch.tensor([1.0, 1.0, 1.0, 2.0]), 0.5) == 1  # ties stay together
    for lose in (-0.1, 1.0):
        with pytest.raises(ValueError, match="share of known objects to lose"):
            threshold_losing(scores, lose)
    with pytest.raises(ValueError, match="no known objects"):
        threshold_losing(scores[:0], 0.05)


@pytest.mark.parametrize("by", WAYS)
def test_what_is_far_from_all_classes_scores_higher(by):
    draw = torch.Generator().manual_seed(2)
    labels = torch.arange(1, 4).repeat(30)
    axes = torch.eye(4)
    features = 5 * axes[labels - 1] + 0.3 * torch.randn(90, 4, generator=draw)
    layer = torch.cat([torch.zeros(1, 4), axes[:3]])  # logits along the first three axes
    scorer = UnknownScorer.fit(features, features @ layer.T, labels, by=by)
    strange = 5 * axes[3:] + 0.3 * torch.randn(30, 4, generator=draw)
    fresh = 5 * axes[labels - 1] + 0.3 * torch.randn(90, 4, generator=draw)
    of_strange, of_fresh = (scorer(x, x @ layer.T) for x in (strange, fresh))
    assert of_strange.min() > of_fresh.max()
    assert (of_strange > scorer.threshold).all()
    assert (of_fresh > scorer.threshold).float().mean() < 0.2


@pytest.mark.parametrize("by", WAYS)
def test_it_comes_back_from_its_state(by, known, new, tmp_path):
    scorer = UnknownScorer.fit(*known, by=by, neighbours=3)
    torch.save(scorer.state(), tmp_path / "state.pth")
    again = UnknownScorer(**torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(again(*new), scorer(*new))
    assert again.threshold == scorer.threshold and again.by == by
    assert torch.equal(copy.deepcopy(scorer)(*new), scorer(*new))


@pytest.mark.parametrize("by", ["centers", "mahalanobis"])
def test_fewer_boxes_than_dimensions(by):
    """One box a class has no spread of its own; nothing is infinite."""
    features = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    scorer = UnknownScorer.fit(features, torch.zeros(3, 4), torch.tensor([1, 2, 3]), by=by)
    assert scorer(features, torch.zeros(3, 4)).isfinite().all()
    assert scorer(features + 5, torch.zeros(3, 4)).isfinite().all()


def test_half_precision_is_scored_in_single(known, new):
    features, logits = new
    for by in WAYS:
        scorer = UnknownScorer.fit(*known, by=by)
        found = scorer(features.bfloat16(), logits.bfloat16())
        assert found.dtype == torch.float32
        same = scorer(features.bfloat16().float(), logits.bfloat16().float())
        assert torch.equal(found, same)


@pytest.mark.parametrize("by", WAYS)
def test_a_model_may_be_cast_around_it(by, known, new):
    scorer = UnknownScorer.fit(*known, by=by)
    expected = scorer(*new)
    for cast in (torch.nn.Module.half, torch.nn.Module.double, torch.nn.Module.bfloat16):
        model = torch.nn.Sequential(copy.deepcopy(scorer))
        assert torch.equal(cast(model)[0](*new), expected)
        assert model[0].threshold == scorer.threshold
    assert not model.state_dict()


def test_only_so_many_neighbours_are_kept(known, monkeypatch):
    monkeypatch.setattr("detcenter.unknown.scorer._KEPT", 20)
    first, second = (UnknownScorer.fit(*known, by="neighbours") for _ in range(2))
    assert first.directions.shape == (20, 5) and torch.equal(first.directions, second.directions)


def test_wrong_use(known):
    features, logits, labels = known
    with pytest.raises(ValueError, match=r"\(73, 5\), \(73, 5\), \(72,\)"):
        UnknownScorer.fit(features, logits, labels[1:])
    with pytest.raises(ValueError, match="no boxes"):
        UnknownScorer.fit(features[:0], logits[:0], labels[:0])
    with pytest.raises(ValueError, match=r"1\.\.4, not 0\.\.4"):
        UnknownScorer.fit(features, logits, torch.where(labels == 1, 0, labels))
    with pytest.raises(ValueError, match=r"1\.\.3, not 1\.\.4"):
        UnknownScorer.fit(features, logits[:, :4], labels)
    with pytest.raises(ValueError, match="features are not finite"):
        UnknownScorer.fit(features / 0, logits, labels)
    with pytest.raises(ValueError, match="by is one of centers"):
        UnknownScorer.fit(features, logits, labels, by="magic")
    with pytest.raises(ValueError, match="neighbours is 1 or more, not 0"):
        UnknownScorer.fit(features, logits, labels, neighbours=0)
