"""An SSD whose softmax reads a vector of every anchor."""

import copy

import pytest
import torch
from torch import nn

from detcenter import attach, box_features, set_anchor_embedding
from detcenter.models import build_model
from detcenter.models.cells import best_anchors

from .conftest import CLASSES


def test_logits_and_vectors_come_in_the_order_of_the_anchors(small_model):
    """Branches with torchvision's own weights, classified by the identity, are torchvision's."""
    maps = small_model.backbone(torch.randn(2, 3, 96, 96)).values()
    plain = copy.deepcopy(small_model.head)
    set_anchor_embedding(small_model, CLASSES)
    head = small_model.head.classification_head
    head.module_list.load_state_dict(plain.classification_head.module_list.state_dict())
    nn.init.eye_(head.classifier.weight)
    nn.init.zeros_(head.classifier.bias)
    outputs, expected = small_model.head(list(maps)), plain(list(maps))
    for key in ("cls_logits", "bbox_regression"):
        torch.testing.assert_close(outputs[key], expected[key])
    vectors = torch.cat([x.flatten(2).transpose(1, 2) for x in outputs["features"]], 1)
    torch.testing.assert_close(vectors, expected["cls_logits"])


def test_the_term_reads_what_the_softmax_reads(small_model, images, targets):
    read = []

    class Recording(nn.Module):
        def forward(self, features, labels):
            read.append((features, labels))
            return features.sum() * 0

    attach(set_anchor_embedding(small_model, 8), Recording(), weight=1)
    classified = {}
    head = small_model.head.classification_head
    head.classifier.register_forward_hook(lambda _, args, out: classified.update(x=args[0]))
    small_model(images, targets)
    ((features, labels),) = read
    assert features.shape == (len(labels), 8) and len(labels) >= 4
    same = (features[:, None] == classified["x"]).all(2)
    assert same.any(1).all()  # every one of them is a vector that was classified


def test_the_feature_of_a_box_is_that_of_its_best_anchor(small_model, images, targets):
    set_anchor_embedding(small_model, 8).eval()
    boxes = [target["boxes"] for target in targets]
    found = torch.cat(box_features(small_model, images, boxes))
    batch, scaled = small_model.transform(images, copy.deepcopy(targets))
    maps = list(small_model.backbone(batch.tensors).values())
    best = best_anchors(small_model.anchor_generator(batch, maps), [x["boxes"] for x in scaled])
    logits = small_model.head(maps)["cls_logits"]
    expected = torch.cat([row[at] for row, at in zip(logits, best, strict=True)])
    torch.testing.assert_close(small_model.head.classification_head.classifier(found), expected)


@pytest.mark.parametrize("name", ["ssd300_vgg16", "ssdlite320_mobilenet_v3_large"])
def test_torchvisions_builders_take_it(name):
    model = attach(set_anchor_embedding(build_model(name, CLASSES), 8), weight=0.3).train()
    losses = model(*one_box())
    assert losses["loss_center"] > 0 and losses.keys() >= {"classification", "bbox_regression"}
    sum(losses.values()).backward()
    head = model.head.classification_head
    assert all(p.grad is not None for p in head.parameters())
    assert len(model.eval()([torch.rand(3, 320, 320)])) == 1


def one_box():
    boxes = torch.tensor([[20.0, 30.0, 200.0, 220.0]])
    target = {"boxes": boxes, "labels": torch.ones(1, dtype=torch.int64)}
    return [torch.rand(3, 320, 320) for _ in range(2)], [target, dict(target)]


def test_wrong_use_is_a_clear_error(small_model):
    with pytest.raises(ValueError, match="dimensions of an anchor embedding are at least 1, not 0"):
        set_anchor_embedding(small_model, 0)
    attach(small_model, weight=1)
    with pytest.raises(ValueError, match="set_anchor_embedding comes before attach"):
        set_anchor_embedding(small_model, 8)
