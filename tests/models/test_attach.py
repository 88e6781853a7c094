import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.ops import box_iou

from detcenter import CenterLoss, attach, detach
from detcenter.models import set_min_negatives
from detcenter.models.ssd import level_widths


class Recorder(nn.Module):
    """A loss that keeps what it was called with."""

    def forward(self, features, labels):
        self.features, self.labels = features, labels
        return features.sum() * 0


def positives_by_loop(model, images, targets):
    """Vector and label of every positive anchor, level by level, one anchor at a time."""
    batch, scaled = model.transform(images, copy.deepcopy(targets))
    maps = list(model.backbone(batch.tensors).values())
    anchors = model.anchor_generator(batch, maps)
    found = []
    start = 0
    for x, per_cell in zip(maps, model.anchor_generator.num_anchors_per_location(), strict=True):
        height, width = x.shape[-2:]
        level = []
        for image, target in enumerate(scaled):
            matched = model.proposal_matcher(box_iou(target["boxes"], anchors[image]))
            for row in range(height):
                for column in range(width):
                    for k in range(per_cell):
                        anchor = start + (row * width + column) * per_cell + k
                        if matched[anchor] >= 0:
                            label = target["labels"][matched[anchor]]
                            level.append((x[image, :, row, column], label))
        found.append(level)
        start += height * width * per_cell
    return found


def test_cell_features_are_the_vectors_at_the_positive_anchors(built, images, targets):
    for key in ("ssd_mobilenet_v2", "ssdlite320"):
        # eval mode of the parts keeps batch norm still, so that both passes see the same maps
        model = copy.deepcopy(built[key]).eval()
        recorders = [Recorder() for _ in level_widths(model)]
        attach(model, recorders, weight=1.0)
        model.training = True
        with torch.no_grad():
            model(images, targets)
            expected = positives_by_loop(model, images, targets)
        assert sum(len(level) for level in expected) > 3
        for recorder, level in zip(recorders, expected, strict=True):
            assert recorder.labels.tolist() == [int(label) for _, label in level]
            for got, (vector, _) in zip(recorder.features, level, strict=True):
                torch.testing.assert_close(got, vector)


def test_levels_count_by_their_positives(small_model, images, targets):
    """The cell term is what one center loss over all positives would be."""
    model = small_model.eval()
    recorders = [Recorder() for _ in level_widths(model)]
    attach(model, recorders, weight=1.0, name="recorded")
    attach(model, weight=0.7, normalize=False)
    model.training = True
    losses = model(images, targets)
    vectors = torch.cat([recorder.features for recorder in recorders])
    expected = 0.7 * vectors.square().sum() / (2 * len(vectors))  # all centers are still zero
    torch.testing.assert_close(losses["loss_center"], expected)


def test_the_embedding_is_one_space_for_all_levels(small_model, images, targets):
    recorder = Recorder()
    attach(small_model, recorder, weight=1.0, features="embedding", embedding_dim=7)
    losses = small_model(images, targets)
    assert recorder.features.shape == (len(recorder.labels), 7)
    assert set(recorder.labels.tolist()) == {1, 2, 3}
    # untrained, a softmax over three classes says about log 3
    assert 0.5 < losses["loss_embedding"].item() < 2


def test_the_backbone_learns_from_the_term(small_model, images, targets):
    for source in ("cell", "embedding"):
        model = attach(copy.deepcopy(small_model), weight=1.0, features=source)
        model(images, targets)["loss_center"].backward()
        assert model.backbone.fpn.inner_blocks[0][0].weight.grad.abs().sum() > 0


def test_centers_move_in_training_and_rest_in_eval(small_model, images, targets):
    attach(small_model, weight=0.0)
    table = small_model.box_terms.center.losses[0].centers
    small_model.eval()
    small_model.training = True  # the losses on validation images
    small_model(images, targets)
    assert not table.any()
    small_model.train()(images, targets)
    assert table.any()


def test_several_terms_have_their_own_names_and_go_one_by_one(small_model, images, targets):
    attach(small_model, weight=0.1)
    attach(small_model, CenterLoss(4, 64), weight=0.2, name="other", features="embedding")
    losses = small_model(images, targets)
    assert {"loss_center", "loss_other", "loss_embedding"} < losses.keys()
    detach(small_model, "other")
    assert "loss_other" not in small_model(images, targets)
    detach(small_model, "center")
    assert "loss_center" not in small_model(images, targets)
    assert not any("box_terms" in name for name in small_model.state_dict())


def test_attaching_draws_no_random_numbers_of_the_caller(small_model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attach(small_model, weight=1.0, features="embedding")
    assert torch.equal(torch.rand(3), expected)


def test_a_floor_on_negatives_lets_background_images_teach(small_model, images, no_targets):
    set_min_negatives(small_model, 10)
    losses = small_model(images, no_targets)
    assert losses["classification"] > 0 and losses["bbox_regression"] == 0
    assert losses.keys() == {"classification", "bbox_regression"}


def test_wrong_use_is_a_clear_error(small_model):
    with pytest.raises(TypeError, match="RetinaNet"):
        attach(retinanet_resnet50_fpn(weights=None, weights_backbone=None), weight=1.0)
    with pytest.raises(ValueError, match="'cell' or 'embedding', not 'roi'"):
        attach(small_model, weight=1.0, features="roi")
    with pytest.raises(ValueError, match="2 levels, of widths .128, 128., not 1"):
        attach(small_model, CenterLoss(4, 128), weight=1.0)
    with pytest.raises(ValueError, match="single loss, not list"):
        attach(small_model, [CenterLoss(4, 64)], weight=1.0, features="embedding")
    with pytest.raises(TypeError, match="torch.nn.Module"):
        attach(small_model, lambda x, y: x.sum(), weight=1.0)
    with pytest.raises(ValueError, match="not negative"):
        attach(small_model, weight=-1.0)
    for name in ("", "a.b", "keys", "embedding"):
        with pytest.raises(ValueError, match="identifier"):
            attach(small_model, weight=1.0, name=name)
    attach(small_model, weight=1.0)
    with pytest.raises(ValueError, match="attached already"):
        attach(small_model, weight=1.0)
    with pytest.raises(ValueError, match="no term 'other'.*center"):
        detach(small_model, "other")


def test_detaching_from_a_plain_model_is_harmless(small_model):
    keys = list(small_model.state_dict())
    assert detach(small_model) is small_model
    assert list(small_model.state_dict()) == keys
