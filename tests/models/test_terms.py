import copy

import pytest
import torch
from torch import nn

from detcenter import CenterLoss, Embedding, attach
from detcenter.models import terms_of
from detcenter.models.terms import BoxTerm, LevelEmbedding, Positives

from .conftest import Recorder, own, positives_by_loop


class Mean(nn.Module):
    """The mean of all entries: 1 for features of ones."""

    def forward(self, features, labels):
        return features.mean()


class WeightedMean(nn.Module):
    def forward(self, features, labels, weights):
        self.weights = weights
        return (features[:, 0] * weights).sum() / weights.sum()


def positives(features, labels=None, objects=None, ious=None):
    features = torch.as_tensor(features, dtype=torch.float32)
    count = len(features)
    return Positives(
        features,
        torch.as_tensor([1] * count if labels is None else labels, dtype=torch.long),
        torch.arange(count) if objects is None else torch.tensor(objects, dtype=torch.long),
        torch.ones(count) if ious is None else torch.tensor(ious),
    )


def nothing(width):
    return positives(torch.zeros(0, width))


def weights_of(term, steps):
    """The weight of each step, seen by a loss of 1."""
    return [term([positives(torch.ones(3, 2))]).item() for _ in range(steps)]


# The ramp


def test_without_a_ramp_the_weight_is_there_from_the_first_step():
    assert weights_of(BoxTerm([Mean()], 0.5), 3) == [0.5, 0.5, 0.5]


def test_the_weight_rises_linearly_from_zero():
    term = BoxTerm([Mean()], 2.0, warmup_steps=4)
    assert weights_of(term, 7) == pytest.approx([0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_the_ramp_begins_at_the_start_step():
    term = BoxTerm([Mean()], 2.0, warmup_steps=2, start_step=3)
    assert weights_of(term, 7) == pytest.approx([0, 0, 0, 0, 1.0, 2.0, 2.0])
    sudden = BoxTerm([Mean()], 2.0, start_step=3)
    assert weights_of(sudden, 5) == pytest.approx([0, 0, 0, 2.0, 2.0])


def test_centers_follow_the_features_while_the_weight_is_zero():
    center_loss = CenterLoss(2, 2, alpha=0.5, normalize=False)
    term = BoxTerm([center_loss], 1.0, start_step=2)
    features = torch.tensor([[4.0, 0.0]], requires_grad=True)
    loss = term([positives(features)._replace(features=features)])
    loss.backward()
    assert loss == 0 and not features.grad.any()
    # 0.5 * (4 - 0) / (1 + 1)
    torch.testing.assert_close(center_loss.centers[1], torch.tensor([1.0, 0.0]))


def test_in_eval_mode_no_step_is_counted():
    term = BoxTerm([Mean()], 1.0, warmup_steps=4)
    weights_of(term, 2)
    assert weights_of(term.eval(), 3) == [0.5, 0.5, 0.5]
    assert weights_of(term.train(), 2) == [0.5, 0.75]


def test_the_step_goes_with_the_state_dict_and_with_copies():
    term = BoxTerm([Mean()], 1.0, warmup_steps=4)
    weights_of(term, 3)
    assert term.state_dict()["step"] == 3
    other, copied = BoxTerm([Mean()], 1.0, warmup_steps=4), copy.deepcopy(term)
    other.load_state_dict(term.state_dict())
    assert weights_of(other, 2) == weights_of(copied, 2) == [0.75, 1.0]
    assert term.step == 3
    assert term.half().step.dtype == torch.int64


# Which positives, and what each of them counts


@pytest.mark.parametrize(("min_iou", "kept"), [(0.0, [0, 1, 2, 3]), (0.5, [1, 3]), (0.7, [3])])
def test_positives_of_a_small_iou_are_left_out(min_iou, kept):
    recorder = Recorder()
    term = BoxTerm([recorder], 1.0, min_iou=min_iou)
    level = positives(torch.eye(4), [1, 2, 3, 1], ious=[0.0, 0.5, 0.49, 0.7])
    term([level])
    assert torch.equal(recorder.features, torch.eye(4)[kept])
    assert recorder.labels.tolist() == [[1, 2, 3, 1][i] for i in kept]


def test_a_small_iou_leaves_out_whole_levels_and_their_weight():
    losses = [Mean(), Mean()]
    term = BoxTerm(losses, 1.0, min_iou=0.5)
    fine = positives([[1.0], [2.0], [30.0]], ious=[0.9, 0.5, 0.1])
    coarse = positives([[7.0, 7.0]], ious=[0.4])
    assert term([fine, coarse]).item() == pytest.approx(1.5)


def test_levels_are_averaged_by_the_number_of_their_positives():
    term = BoxTerm([Mean(), Mean(), Mean()], 2.0)
    levels = [positives([[1.0], [2.0], [6.0]]), positives([[10.0, 20.0]]), nothing(3)]
    # three positives of mean 3, one of mean 15
    assert term(levels).item() == pytest.approx(2.0 * (3 * 3 + 15) / 4)


def test_one_loss_for_all_levels_is_called_once_with_all_of_them():
    recorder = Recorder()
    levels = [positives([[1.0], [2.0]], [1, 2]), nothing(1), positives([[3.0]], [3])]
    loss = BoxTerm([recorder], 1.0)(levels)
    assert recorder.features.tolist() == [[1.0], [2.0], [3.0]]
    assert recorder.labels.tolist() == [1, 2, 3]
    assert loss.item() == pytest.approx((1 + 4 + 9) / 3)


def test_per_object_an_object_of_five_boxes_counts_as_one_of_a_single_box():
    loss = WeightedMean()
    term = BoxTerm([loss], 1.0, per_object=True)
    # the first object has 5 boxes of feature 1, the second one of feature 7
    level = positives([[1.0]] * 5 + [[7.0]], objects=[4, 4, 4, 4, 4, 9])
    assert term([level]).item() == pytest.approx((1 + 7) / 2)
    assert loss.weights.tolist() == pytest.approx([0.2] * 5 + [1.0])
    assert BoxTerm([Mean()], 1.0)([level]).item() == pytest.approx((5 + 7) / 6)


def test_per_object_boxes_of_an_object_are_counted_over_all_levels():
    losses = [WeightedMean(), WeightedMean()]
    term = BoxTerm(losses, 3.0, per_object=True)
    # object 0: features 1, 2 on the first level and 6 on the second; object 1: 10 on the second
    fine = positives([[1.0], [2.0]], objects=[0, 0])
    coarse = positives([[6.0, 0.0], [10.0, 0.0]], objects=[0, 1])
    assert term([fine, coarse]).item() == pytest.approx(3.0 * ((1 + 2 + 6) / 3 + 10) / 2)
    assert losses[1].weights.tolist() == pytest.approx([1 / 3, 1.0])


def test_per_object_boxes_below_the_iou_do_not_count():
    term = BoxTerm([WeightedMean()], 1.0, per_object=True, min_iou=0.5)
    level = positives([[1.0], [3.0], [8.0]], objects=[0, 0, 1], ious=[0.4, 0.6, 0.6])
    assert term([level]).item() == pytest.approx((3 + 8) / 2)


def test_per_object_centers_move_by_objects_too():
    center_loss = CenterLoss(2, 1, alpha=0.5, normalize=False)
    term = BoxTerm([center_loss], 1.0, per_object=True)
    loss = term([positives([[2.0]] * 4 + [[8.0]], objects=[0, 0, 0, 0, 1])])
    assert loss.item() == pytest.approx((2**2 + 8**2) / 2 / 2)
    # 0.5 * (2 + 8) / (1 + 2 objects)
    torch.testing.assert_close(center_loss.centers[1], torch.tensor([5 / 3]))


def test_per_object_without_positives_is_a_zero_with_a_graph():
    level = nothing(1)
    level.features.requires_grad_()
    for loss in (CenterLoss(2, 1, normalize=False), WeightedMean()):
        value = BoxTerm([loss], 1.0, per_object=True)([level])
        value.backward()
        assert value == 0 and level.features.grad.shape == (0, 1)


# Nothing, and half precision


def test_a_loss_that_makes_nan_of_nothing_is_a_zero_that_reaches_its_parameters():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    arcface = losses.ArcFaceLoss(4, 2)
    assert arcface(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)).isnan()
    level = nothing(2)
    level.features.requires_grad_()
    value = BoxTerm([arcface], 1.0)([level])
    value.backward()
    assert value == 0 and level.features.grad.shape == (0, 2)
    assert arcface.W.grad.shape == (2, 4) and not arcface.W.grad.any()
    some = BoxTerm([arcface], 1.0)([positives([[1.0, 2.0]])])
    some.backward()
    assert some > 0 and arcface.W.grad.any()


def test_a_level_of_nothing_does_not_spoil_the_others():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    term = BoxTerm([losses.ArcFaceLoss(4, 2), losses.ArcFaceLoss(4, 3)], 1.0)
    level = positives(torch.rand(4, 2), [1, 2, 3, 1])
    alone = term.losses[0](level.features, level.labels)
    torch.testing.assert_close(term([level, nothing(3)]), alone)


class Products(nn.Module):
    def forward(self, features, labels):
        self.dtypes = features.dtype, (features @ features.T).dtype
        return features.square().sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_under_autocast_the_loss_computes_in_float32_at_least(dtype):
    loss = Products()
    level = positives(torch.full((3, 2), 300.0))
    level = level._replace(features=level.features.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = BoxTerm([loss], 1.0)([level])
    exact = torch.float64 if dtype is torch.float64 else torch.float32
    assert loss.dtypes == (exact, exact)
    assert value.item() == pytest.approx(6 * 300.0**2, rel=1e-6)  # float16 ends at 65504


@pytest.mark.parametrize("source", [None, "embedding"])
def test_a_whole_step_under_autocast_hands_the_loss_float32(plain_model, source, images, targets):
    loss = Products()
    attach(plain_model, loss, weight=1.0, features=source or own(plain_model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = plain_model(images, targets)
    assert loss.dtypes == (torch.float32, torch.float32)
    assert losses["loss_center"].isfinite() and losses["loss_center"] > 0


# The embedding


def test_the_softmax_of_the_embedding_is_the_mean_cross_entropy_without_background():
    embedding = LevelEmbedding([2, 3], 4, Embedding(2, 0.5))
    with torch.no_grad():
        for layer in (*embedding.projections, embedding.classifier):
            layer.bias.zero_()
        embedding.projections[0].weight.copy_(torch.eye(2))
        embedding.projections[1].weight.copy_(torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))
        embedding.classifier.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    levels = [positives([[1.0, 3.0]], [2], [5]), positives([[7.0, 7.0, 1.0]], [3], [8])]
    embedded = embedding(levels)
    assert embedded.features.tolist() == [[1.0, 3.0], [2.0, 0.0]]
    assert embedded.labels.tolist() == [2, 3] and embedded.objects.tolist() == [5, 8]
    # logits [1, 3, 0] of class 2 and [2, 0, 0] of class 3
    e = torch.tensor(1.0).exp()
    first = (e + e**3 + 1).log() - 3
    second = (e**2 + 2).log() - 0
    torch.testing.assert_close(embedding.softmax_loss(embedded), 0.5 * (first + second) / 2)


def test_the_embedding_of_nothing_is_a_zero_that_reaches_every_projection():
    embedding = LevelEmbedding([2, 3], 4, Embedding(2))
    value = embedding.softmax_loss(embedding([nothing(2), nothing(3)]))
    value.backward()
    assert value == 0
    assert all(p.grad is not None and not p.grad.any() for p in embedding.parameters())


# What the families hand over


@pytest.fixture
def handed_over():
    """attach a term and give the list of its levels after a step."""

    def run(model, *batch):
        seen = []
        attach(model, weight=0.0, features=own(model))
        term = terms_of(model)["center"]
        term.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        torch.manual_seed(7)
        model(*batch)
        return seen[0]

    return run


@pytest.mark.parametrize("family", ["ssd", "retinanet", "fcos", "fasterrcnn"])
def test_objects_and_ious_are_those_of_torchvisions_matching(
    built, family, handed_over, images, targets
):
    model = copy.deepcopy(built[family]).train()
    # the first image is empty, so that the second's objects are not simply its indices
    images, batch = [*images, images[0]], [targets[1], targets[1], targets[0]]
    batch[0] = {key: value[:0] for key, value in batch[0].items()}
    torch.manual_seed(7)
    expected = positives_by_loop(copy.deepcopy(model), images, batch)
    levels = handed_over(model, images, batch)
    assert {p.object for level in expected for p in level} >= {0, 1, 2}
    for level, got in zip(expected, levels, strict=True):
        assert got.objects.tolist() == [p.object for p in level]
        assert got.labels.tolist() == [p.label for p in level]
        torch.testing.assert_close(got.ious, torch.tensor([p.iou for p in level]))


def test_in_a_model_a_small_iou_leaves_out_what_torchvision_lets_in(small_model, images, targets):
    expected = sum(positives_by_loop(copy.deepcopy(small_model), images, targets), [])
    kept = [p for p in expected if p.iou >= 0.52]
    assert 0 < len(kept) < len(expected)
    recorder = Recorder()
    attach(small_model, recorder, features="cell", min_iou=0.52)(images, targets)
    torch.testing.assert_close(recorder.features, torch.stack([p.vector for p in kept]))


def test_in_a_model_every_object_counts_once(plain_model, images, targets):
    torch.manual_seed(7)
    expected = sum(positives_by_loop(copy.deepcopy(plain_model), images, targets), [])
    means = []
    for one in {p.object for p in expected}:
        vectors = torch.stack([p.vector for p in expected if p.object == one])
        means.append(vectors.square().sum(1).mean())
    loss = CenterLoss(normalize=False)
    attach(plain_model, loss, weight=1.0, features=own(plain_model), per_object=True)
    torch.manual_seed(7)
    loss = plain_model(images, targets)["loss_center"]
    torch.testing.assert_close(loss, torch.stack(means).mean() / 2, rtol=1e-4, atol=1e-4)


def test_in_a_model_the_ramp_multiplies_the_term_alone(small_model, images, targets):
    attach(small_model, weight=0.8, warmup_steps=2, start_step=1, features="embedding")
    losses = [small_model(images, targets) for _ in range(4)]
    # the unweighted loss is 1/2 at first and falls as the centers follow
    assert losses[0]["loss_center"] == losses[1]["loss_center"] == 0
    assert 0 < losses[2]["loss_center"] < 0.8 / 4
    for loss in losses:
        assert loss["loss_embedding"] > 0.1
        torch.testing.assert_close(loss["loss_embedding"], losses[0]["loss_embedding"])


class Weighted(nn.Module):
    """With weights of its own, as losses of pytorch-metric-learning have."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width))

    def forward(self, features, labels):
        return nn.functional.linear(features, self.weight).square().mean()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_loss_with_weights_keeps_them_in_float32(small_model, images, targets, when):
    if when == "before":
        small_model.to(torch.bfloat16)
    attach(small_model, Weighted(128), weight=1.0, features="cell").to(torch.bfloat16)
    losses = small_model([image.to(torch.bfloat16) for image in images], targets)
    losses["loss_center"].backward()
    weight = terms_of(small_model).center.losses[0].weight
    assert weight.dtype is weight.grad.dtype is torch.float32 and weight.grad.any()
    assert small_model.to(torch.float64).box_terms.center.losses[0].weight.dtype is torch.float64


def test_a_group_of_processes_reaches_all_that_exchanges(small_model):
    theirs = CenterLoss(process_group="theirs")
    attach(small_model, theirs, name="x", process_group="ours")
    attach(small_model, process_group="ours")
    terms = terms_of(copy.deepcopy(small_model))
    assert terms.x.losses[0].processes.group == "theirs"
    rest = terms.x, terms.center, terms.center.losses[0], terms.embedding
    assert all(module.processes.group == "ours" for module in rest)
