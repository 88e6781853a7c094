"""A training loop of plain PyTorch, with center loss: python docs/own_loop.py --epochs 14

A small Faster R-CNN learns handwritten digits. What detcenter adds is marked with an arrow.
"""

import argparse

import torch
from torch.utils.data import DataLoader
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import detcenter
from detcenter.data import VOCDataset, make_digits
from detcenter.evaluation import coco_metrics


def digits(train, val):
    """Scenes of 160x160 pixels with two to six digits each."""
    root = f"data/own_loop_{train}_{val}"
    make_digits(root, train=train, val=val)
    parts = [VOCDataset(root, part) for part in ("train", "val")]
    return [DataLoader(part, 8, shuffle=part is parts[0], collate_fn=list) for part in parts]


def detector(classes):
    """torchvision's Faster R-CNN, small: three levels of a ResNet-18 from scratch."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,  # the default is frozen, for pretrained weights
        returned_layers=[2, 3],
        trainable_layers=5,
    )
    backbone.fpn.extra_blocks = None
    anchors = AnchorGenerator(((24, 36), (52, 68)), ((0.45, 0.8),) * 2)
    return FasterRCNN(
        backbone,
        classes + 1,  # label 0 is the background
        min_size=160,
        max_size=160,
        rpn_anchor_generator=anchors,
        box_batch_size_per_image=32,
        rpn_post_nms_top_n_train=150,
        rpn_post_nms_top_n_test=60,
    )


def moved(batch, device):
    """Lists of images from 0 to 1 and of targets, as torchvision's detectors take them."""
    images = [image.to(device) / 255 for image, _ in batch]
    targets = [{key: target[key].to(device) for key in ("boxes", "labels")} for _, target in batch]
    return images, targets


@torch.inference_mode()
def evaluate(model, loader, device):
    """COCO's numbers on the scenes of `loader`."""
    model.eval()
    found = []
    for batch in loader:
        outputs = model(moved(batch, device)[0])
        found += [{key: value.cpu() for key, value in output.items()} for output in outputs]
    return coco_metrics(loader.dataset.annotations, found, loader.dataset.classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--train", type=int, default=200, help="scenes to learn from")
    parser.add_argument("--val", type=int, default=200, help="scenes to measure on")
    parser.add_argument("--plain", action="store_true", help="without center loss")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)

    train, val = digits(options.train, options.val)
    model = detector(len(val.dataset.classes)).to(options.device)
    if not options.plain:
        detcenter.attach(model)  # <- before the optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.001, epochs=options.epochs, steps_per_epoch=len(train), pct_start=0.15
    )
    for epoch in range(options.epochs):
        model.train()
        for batch in train:
            losses = model(*moved(batch, options.device))  # <- loss_center is one of them, weighted
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            schedule.step()
        print(f"{epoch + 1}/{options.epochs}", {k: round(v.item(), 3) for k, v in losses.items()})
    numbers = evaluate(model, val, options.device)
    print(f"AP {numbers['AP']:.3f}  AP50 {numbers['AP50']:.3f}")

    if not options.plain:
        detcenter.detach(model)  # <- plain torchvision again
    torch.save(model.state_dict(), "own_loop.pth")


if __name__ == "__main__":
    main()
