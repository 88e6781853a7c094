import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.ssd import SSD
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from detcenter import CenterLoss, Embedding, attach, detach
from detcenter.models import (
    build_model,
    embedding_of,
    family_of,
    set_min_negatives,
    terms_of,
)
from detcenter.models.pyramid import freeze_batch_norm

from .conftest import CLASSES, Recorder, own, positives_by_loop, with_statistics


class SumOfSquares(nn.Module):
    def forward(self, features, labels):
        return features.square().sum()


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, features, labels):
        return self.value


@pytest.fixture
def ssdlite():
    """Levels of six widths."""
    torch.manual_seed(0)
    model = freeze_batch_norm(build_model("ssdlite320_mobilenet_v3_large", CLASSES))
    return with_statistics(model).train()


def seeded(call, *args):
    """With the same random numbers, by which the R-CNNs sample proposals."""
    torch.manual_seed(7)
    return call(*args)


def check_recorded(recorders, expected):
    for recorder, level in zip(recorders, expected, strict=True):
        assert recorder.labels.tolist() == [positive.label for positive in level]
        for got, positive in zip(recorder.features, level, strict=True):
            torch.testing.assert_close(got, positive.vector)


def table_of(model):
    return terms_of(model).center.losses[0].centers


def test_the_loss_gets_the_vectors_of_the_boxes_that_torchvision_matched(
    plain_model, images, targets
):
    if isinstance(plain_model, FCOS):
        plain_model.transform.fixed_size = (192, 192)  # its coarse level is for large boxes
    expected = seeded(positives_by_loop, copy.deepcopy(plain_model), images, targets)
    recorders = [Recorder() for _ in expected]
    attach(plain_model, recorders, weight=1.0, features=own(plain_model))
    seeded(plain_model, images, targets)
    assert {positive.label for level in expected for positive in level} == {1, 2, 3}
    assert all(level for level in expected)
    check_recorded(recorders, expected)


def test_levels_of_different_widths_have_a_loss_each(ssdlite, images, targets):
    assert family_of(ssdlite).feature_widths(ssdlite) == [
        672,
        480,
        512,
        256,
        256,
        128,
    ]  # halved, without weights
    expected = positives_by_loop(copy.deepcopy(ssdlite), images, targets)
    recorders = [Recorder() for _ in expected]
    losses = attach(ssdlite, recorders, weight=1.0, features="cell")(images, targets)
    check_recorded(recorders, expected)
    vectors = [positive.vector for level in expected for positive in level]
    assert len({len(vector) for vector in vectors}) > 2
    mean = sum(vector.square().sum() for vector in vectors) / len(vectors)
    torch.testing.assert_close(losses["loss_center"], mean)


@pytest.mark.parametrize("family", ["ssd", "retinanet", "fcos"])
def test_one_loss_for_levels_of_equal_width_gets_all_of_them(built, family, images, targets):
    expected = positives_by_loop(copy.deepcopy(built[family]).train(), images, targets)
    recorder = Recorder()
    attached = attach(copy.deepcopy(built[family]), recorder, weight=1.0, features="cell")
    attached.train()(images, targets)
    check_recorded([recorder], [sum(expected, [])])


def test_levels_count_by_their_positives(plain_model, images, targets):
    expected = seeded(positives_by_loop, copy.deepcopy(plain_model), images, targets)
    attach(plain_model, CenterLoss(normalize=False), weight=0.7, features=own(plain_model))
    losses = seeded(plain_model, images, targets)
    vectors = [positive.vector for level in expected for positive in level]
    squares = sum(vector.square().sum().item() for vector in vectors)
    # all centers are still zero
    assert losses["loss_center"].item() == pytest.approx(0.7 * squares / (2 * len(vectors)), 1e-4)


def test_the_default_loss_has_a_table_of_centers_a_level_or_one_in_the_embedding(built):
    shapes = {
        "ssd": [(4, 128), (4, 128)],
        "retinanet": [(4, 32), (4, 32)],
        "fcos": [(4, 32), (4, 32)],
        "fasterrcnn": [(4, 1024)],
    }
    for family, expected in shapes.items():
        for source in (own(built[family]), Embedding(9)):
            model = attach(copy.deepcopy(built[family]), features=source)
            tables = [tuple(loss.centers.shape) for loss in terms_of(model).center.losses]
            assert tables == ([(4, 9)] if source == Embedding(9) else expected)


def test_the_embedding_projects_every_level_into_one_space(plain_model, images, targets):
    expected = seeded(positives_by_loop, copy.deepcopy(plain_model), images, targets)
    recorder = Recorder()
    source = {"features": Embedding(7, 0.3)}
    attach(plain_model, recorder, weight=1.0, **source)
    losses = seeded(plain_model, images, targets)
    embedding = terms_of(plain_model).embedding
    embedded = torch.stack(
        [
            layer.weight @ positive.vector + layer.bias
            for layer, level in zip(embedding.projections, expected, strict=True)
            for positive in level
        ]
    )
    labels = torch.tensor([positive.label for level in expected for positive in level])
    torch.testing.assert_close(recorder.features, embedded, rtol=1e-4, atol=1e-4)
    assert torch.equal(recorder.labels, labels)
    softmax = F.log_softmax(embedding.classifier(embedded), 1)  # background has no column
    entropy = -sum(row[label - 1] for row, label in zip(softmax, labels, strict=True)) / len(labels)
    torch.testing.assert_close(losses["loss_embedding"], 0.3 * entropy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("source", [None, "embedding"])
def test_the_backbone_learns_from_the_term(plain_model, source, images, targets):
    attach(plain_model, weight=1.0, features=source or own(plain_model))
    plain_model(images, targets)["loss_center"].backward()
    for block in plain_model.backbone.fpn.inner_blocks:
        assert block[0].weight.grad.abs().sum() > 0


def test_centers_move_in_training_and_rest_in_eval(small_model, images, targets):
    attach(small_model, weight=0.0, features="cell")
    small_model.eval()
    small_model.training = True  # the losses on validation images
    small_model(images, targets)
    assert not table_of(small_model).any()
    small_model.train()(images, targets)
    assert table_of(small_model).any()


def test_several_terms_have_weights_of_their_own_and_share_one_embedding(
    plain_model, images, targets
):
    vectors = seeded(positives_by_loop, copy.deepcopy(plain_model), images, targets)
    sum_of_squares = sum(p.vector.square().sum() for level in vectors for p in level)
    seen, shared = [Recorder(), Recorder()], SumOfSquares()
    attach(plain_model, SumOfSquares(), weight=0.5, name="plain", features=own(plain_model))
    attach(plain_model, seen[0], weight=0.1, name="one", features=Embedding(7))
    attach(plain_model, seen[1], weight=0.4, name="two", features=Embedding(7))
    attach(plain_model, shared, weight=2.0, name="three", features=Embedding(7))
    losses = seeded(plain_model, images, targets)
    torch.testing.assert_close(losses["loss_plain"], 0.5 * sum_of_squares, rtol=1e-4, atol=1e-4)
    assert seen[0].features.shape[1] == 7 and torch.equal(seen[0].features, seen[1].features)
    torch.testing.assert_close(losses["loss_two"], 4 * losses["loss_one"])
    expected = 2.0 * seen[0].features.square().sum()
    torch.testing.assert_close(losses["loss_three"], expected)
    names = [name for name in plain_model.state_dict() if name.endswith("classifier.weight")]
    assert sum("box_terms" in name for name in names) == 1


def test_detached_one_by_one_the_embedding_leaves_with_its_last_reader(
    plain_model, images, targets
):
    plain = copy.deepcopy(plain_model)
    keys = plain_model.state_dict().keys()
    attach(plain_model, weight=0.1, features=own(plain_model))
    for name in ("one", "two"):
        attach(plain_model, weight=0.2, name=name, features="embedding")

    before = plain(images, targets).keys()

    def added():
        return plain_model(images, targets).keys() - before

    assert added() == {"loss_center", "loss_one", "loss_two", "loss_embedding"}
    detach(plain_model, "one")
    assert added() == {"loss_center", "loss_two", "loss_embedding"}
    detach(plain_model, "two")
    assert added() == {"loss_center"}
    assert not any("embedding" in name for name in plain_model.state_dict())
    detach(plain_model, "center")
    assert plain_model.state_dict().keys() == keys and type(plain_model) is type(plain)


def test_a_term_that_is_detached_may_be_attached_again(small_model, images, targets):
    attach(small_model, weight=0.1)
    small_model(images, targets)
    attach(detach(small_model, "center"), weight=0.4)
    assert not table_of(small_model).any()
    # at zero centers, on the unit sphere, the loss is 1/2
    assert small_model(images, targets)["loss_center"].item() == pytest.approx(0.2)


def test_detaching_from_a_plain_model_is_harmless(plain_model):
    keys = list(plain_model.state_dict())
    assert detach(plain_model) is plain_model
    assert list(plain_model.state_dict()) == keys
    with pytest.raises(ValueError, match="no term 'center' is attached; there are: none"):
        detach(plain_model, "center")


def test_attaching_draws_no_random_numbers_of_the_caller(small_model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attach(small_model, weight=1.0, features="embedding")
    assert torch.equal(torch.rand(3), expected)


def test_attached_in_eval_mode_the_term_is_in_eval_mode_too(plain_model):
    attach(plain_model.eval(), weight=1.0, features="embedding")
    assert not any(module.training for module in terms_of(plain_model).children())


def test_a_floor_on_negatives_lets_background_images_teach(small_model, images, no_targets):
    attach(small_model, weight=1.0)
    set_min_negatives(small_model, 10)
    losses = small_model(images, no_targets)
    assert losses["classification"] > 0 and losses["bbox_regression"] == 0
    assert losses.keys() == {"classification", "bbox_regression", "loss_center", "loss_embedding"}


def test_a_model_that_is_not_known_is_told_which_are():
    families = "SSD, RetinaNet, FCOS, Faster R-CNN, Mask R-CNN and Keypoint R-CNN, not LRASPP"
    with pytest.raises(TypeError, match=families):
        attach(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), weight=1.0)
    with pytest.raises(TypeError, match="not DataParallel.*before wrapping"):
        attach(nn.DataParallel(nn.Linear(1, 1)), weight=1.0)
    with pytest.raises(TypeError, match="not Linear"):
        detach(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("ssd", {"features": "box"}, "features is 'cell'.*or 'embedding', not 'box'"),
        ("retinanet", {"features": "box"}, "features is 'cell'.*not 'box'"),
        ("fcos", {"features": "roi"}, "features is 'cell'.*not 'roi'"),
        ("fasterrcnn", {"features": "cell"}, "features is 'box'.*or 'embedding', not 'cell'"),
        ("ssd", {"loss": CenterLoss(3, 128)}, r"4 classes \(with background\).*\[3, 128\]"),
        (
            "ssd",
            {"loss": CenterLoss(4, 64), "features": "cell"},
            r"features of 128 dimensions.*\[4, 64\]",
        ),
        ("fasterrcnn", {"loss": CenterLoss(4, 128)}, r"features of 1024 dimensions.*\[4, 128\]"),
        (
            "ssd",
            {"loss": CenterLoss(4, 128), "features": "embedding"},
            r"features of 64 dimensions.*\[4, 128\]",
        ),
        (
            "ssd",
            {"loss": [Recorder()] * 3, "features": "cell"},
            r"2 levels, of widths \[128, 128\].*not 3",
        ),
        ("fasterrcnn", {"loss": [Recorder()] * 2}, r"1 levels, of widths \[1024\].*not 2"),
        ("ssd", {"loss": []}, "not 0"),
        ("ssd", {"weight": -1.0}, "weights are finite and not negative: weight=-1.0"),
        ("ssd", {"warmup_steps": -1}, "steps are not negative: warmup_steps=-1"),
        ("ssd", {"start_step": -1}, "steps are not negative.*start_step=-1"),
        ("ssd", {"min_iou": -0.1}, r"min_iou lies in 0\.\.1, not -0.1"),
        ("ssd", {"min_iou": 1.1}, r"min_iou lies in 0\.\.1, not 1.1"),
        ("fcos", {"min_iou": 0.5}, "min_iou: FCOS matches points"),
        ("ssd", {"loss": Recorder(), "per_object": True}, "per_object: Recorder takes no weights"),
        ("ssd", {"num_classes": 1}, "num_classes=1 does not fit this SSD, whose head has 4"),
        ("ssd", {"name": ""}, "identifier"),
        ("ssd", {"name": "a.b"}, "identifier"),
        ("ssd", {"name": "keys"}, "identifier.*not 'keys'"),
        ("ssd", {"name": "terms"}, "identifier"),
        ("ssd", {"name": "embedding"}, "the model's own loss_embedding"),
        ("ssd", {"name": "training"}, "identifier"),
    ],
)
def test_a_refused_term_says_why_and_leaves_the_model_plain(built, family, arguments, message):
    model = copy.deepcopy(built[family])
    with pytest.raises(ValueError, match=message):
        attach(model, **{"weight": 1.0, **arguments})
    kinds, plain = ([type(m).__name__ for m in x.modules()] for x in (model, built[family]))
    assert kinds == plain
    assert model.state_dict().keys() == built[family].state_dict().keys()


def test_a_loss_is_a_module(small_model):
    with pytest.raises(TypeError, match="torch.nn.Module, or a sequence of them, not <function"):
        attach(small_model, lambda x, y: x.sum(), weight=1.0)
    with pytest.raises(TypeError, match="torch.nn.Module"):
        attach(small_model, CenterLoss, weight=1.0)
    assert type(small_model) is SSD


def test_levels_of_different_widths_want_a_loss_each_or_an_embedding(ssdlite, images, targets):
    with pytest.raises(ValueError, match=r"6 levels.*672, 480.*as many losses, not 1.*'embedding'"):
        attach(ssdlite, Recorder(), weight=1.0, features="cell")
    recorder = Recorder()
    attach(ssdlite, recorder, weight=1.0, features=Embedding(5))
    ssdlite(images, targets)
    assert recorder.features.shape == (len(recorder.labels), 5)


def test_a_name_is_attached_once_and_detached_by_its_name(small_model):
    attach(small_model, weight=1.0)
    with pytest.raises(ValueError, match="'center' is attached already"):
        attach(small_model, weight=1.0)
    with pytest.raises(ValueError, match="no term 'other' is attached; there are: center"):
        detach(small_model, "other")
    with pytest.raises(ValueError, match="no term 'embedding'"):
        detach(attach(small_model, weight=1.0, name="x", features="embedding"), "embedding")


def test_a_term_takes_over_the_embedding_that_is_there(small_model, images, targets):
    assert embedding_of(small_model) is None
    attach(small_model, weight=1.0, features=Embedding(16, 0.1))
    assert embedding_of(small_model) == Embedding(dim=16, weight=0.1)
    recorder = Recorder()
    first = small_model(images, targets)["loss_embedding"]
    attach(small_model, recorder, weight=1.0, name="x", features="embedding")
    attach(small_model, weight=1.0, name="y", features=Embedding(16, 0.1))
    same = small_model(images, targets)["loss_embedding"]
    assert recorder.features.shape[1] == 16 and torch.equal(first, same)


@pytest.mark.parametrize("other", [Embedding(8), Embedding(16, 0.5)])
def test_terms_that_share_an_embedding_agree_on_it(small_model, images, targets, other):
    attach(small_model, weight=1.0, features=Embedding(16))
    before = small_model(images, targets)["loss_embedding"]
    message = r"Embedding\(dim=16, weight=1.0\); Embedding\(.*does not fit"
    with pytest.raises(ValueError, match=message):
        attach(small_model, weight=1.0, name="x", features=other)
    torch.testing.assert_close(small_model(images, targets)["loss_embedding"], before)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(torch.zeros(3), r"shape \[3\]"), (torch.zeros(1), r"shape \[1\]"), (None, "None")],
)
def test_a_loss_that_returns_no_scalar_is_named(small_model, images, targets, value, shown):
    attach(small_model, Returns(value), weight=1.0)
    with pytest.raises(TypeError, match=f"Returns must return a scalar tensor, not {shown}"):
        small_model(images, targets)


@pytest.mark.parametrize("name", ["classifier", "objectness", "training", "_buffers", 1])
def test_a_name_that_something_else_has_is_refused(built, name):
    model = copy.deepcopy(built["fasterrcnn"])
    with pytest.raises(ValueError, match="term"):
        attach(model, weight=1.0, name=name)
    assert not any(type(module).__name__.startswith("Attached") for module in model.modules())


@pytest.mark.parametrize("loss", [5, "ArcFaceLoss", [CenterLoss(4, 3), None]])
def test_what_is_no_loss_is_refused(small_model, loss):
    with pytest.raises(TypeError, match="loss is a torch.nn.Module"):
        attach(small_model, loss, weight=1.0)


def test_a_predictor_may_be_replaced_after_attaching(built, images, targets):
    model = attach(copy.deepcopy(built["fasterrcnn"]).train(), weight=1.0)
    model.roi_heads.box_predictor = FastRCNNPredictor(1024, 4)
    expected = seeded(positives_by_loop, detach(copy.deepcopy(model)), images, targets)
    recorder = Recorder()
    seeded(attach(model, recorder, weight=1.0, name="x"), images, targets)
    check_recorded([recorder], expected)
    model.roi_heads.box_predictor = FastRCNNPredictor(512, 4)
    model.roi_heads.box_head.fc7 = nn.Linear(1024, 512)
    with pytest.raises(ValueError, match=r"features \[P, 1024\].*, not \[\d+, 512\]"):
        model(images, targets)
