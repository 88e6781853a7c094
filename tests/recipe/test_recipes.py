"""Recipes with other detectors and terms, and runs that start from a checkpoint."""

import csv
import json

import pytest
import torch
import yaml
from torchvision.models import resnet18

from detcenter.cli import main
from detcenter.runs.run import Run
from tests.changed_recipe import changed
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fasterrcnn(recipe, tmp_path_factory):
    model = {"name": "fasterrcnn", "anchor_scales": [[0.2, 0.3]]}
    model["options"] = {"box_batch_size_per_image": 8, "rpn_post_nms_top_n_test": 5}
    return changed(recipe, tmp_path_factory.mktemp("recipe"), model=model, train={"epochs": 1})


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_faster_rcnn_trains_and_evaluates(fasterrcnn, tmp_path):
    args = ["--config", str(fasterrcnn), "--output", str(tmp_path / "run")]
    assert main(["train", *args]) == 0
    (row,) = rows_of(tmp_path / "run")
    assert float(row["train/loss_center"]) > 0 and float(row["train/loss_classifier"]) > 0
    checkpoint = torch.load(tmp_path / "run/last.pth", weights_only=True)
    assert checkpoint["builder"]["box_batch_size_per_image"] == 8
    numbers = tmp_path / "numbers.json"
    args = ["--checkpoint", str(tmp_path / "run/last.pth"), "--json", str(numbers)]
    assert main(["evaluate", *args]) == 0
    expected = json.loads((tmp_path / "run/results.json").read_text())
    assert json.loads(numbers.read_text()) == expected


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_one_stage_detector_trains_and_evaluates(name, recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    values["model"] |= {"name": name, "out_channels": 32, "score_thresh": 0.0}
    values["train"]["epochs"] = 1
    if name == "fcos":
        del values["model"]["anchor_scales"]
    path = tmp_path / "one_stage.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", "--config", str(path), "--output", str(tmp_path / "run")]) == 0
    (row,) = rows_of(tmp_path / "run")
    assert float(row["train/loss_center"]) > 0 and float(row["train/classification"]) > 0
    assert ("train/bbox_ctrness" in row) == (name == "fcos")
    numbers = tmp_path / "numbers.json"
    args = ["--checkpoint", str(tmp_path / "run/last.pth"), "--json", str(numbers)]
    assert main(["evaluate", *args]) == 0
    expected = json.loads((tmp_path / "run/results.json").read_text())
    assert json.loads(numbers.read_text()) == expected


def test_an_ssd_with_vectors_of_boxes_is_rebuilt_from_its_checkpoint(recipe, tmp_path):
    model = {"box_vectors": 16, "l2_softmax": 12}
    path = changed(recipe, tmp_path, model=model, train={"epochs": 1})
    assert main(["train", "--config", str(path), "--output", str(tmp_path / "run")]) == 0
    state = torch.load(tmp_path / "run/last.pth", weights_only=True)["model"]
    assert state["head.classification_head.classify.weight"].shape == (11, 16)
    numbers = tmp_path / "numbers.json"
    args = ["--checkpoint", str(tmp_path / "run/last.pth"), "--json", str(numbers)]
    assert main(["evaluate", *args]) == 0
    expected = json.loads((tmp_path / "run/results.json").read_text())
    assert json.loads(numbers.read_text()) == expected


def test_a_named_detector_keeps_the_aspect_ratio(fasterrcnn, data, tmp_path):
    values = yaml.safe_load(fasterrcnn.read_text())
    values["model"] = {
        "name": "fasterrcnn_mobilenet_v3_large_320_fpn",
        "l2_softmax": 16,
        "options": {"min_size": 48, "max_size": 80, "rpn_post_nms_top_n_test": 5},
    }
    values["train"]["batch_size"] = 8
    path = tmp_path / "named.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", "--config", str(path), "--output", str(tmp_path / "run")]) == 0
    state = torch.load(tmp_path / "run/last.pth", weights_only=True)["model"]
    assert state["roi_heads.box_predictor.cls_score.l2_softmax.radius"] == 16
    args = ["--checkpoint", str(tmp_path / "run/last.pth")]
    results = tmp_path / "found.json"
    assert main(["evaluate", *args, "--detections", str(results)]) == 0
    rows = json.loads(results.read_text())
    assert rows and max(r["bbox"][0] + r["bbox"][2] for r in rows) > 80  # in the image's pixels


def test_several_terms_ramp_train_and_continue(recipe, tmp_path, monkeypatch):
    pytest.importorskip("pytorch_metric_learning")
    values = yaml.safe_load(recipe.read_text())
    shared = {"features": "embedding"}
    values["center"] = {"weight": 0.1, "per_object": True, "min_iou": 0.4, **shared}
    values["center"]["embedding_dim"] = 8  # the others take it over
    values["terms"] = {
        "arc": {"loss": "ArcFaceLoss", "args": {"margin": 20}, "start_epoch": 1, **shared},
        "rank": {"loss": "RankHardLoss", "args": {"seed": 3}, "weight": 0.2, "warmup_steps": 2},
        "triplet": {
            "loss": "TripletMarginLoss",
            "miner": "BatchHardMiner",
            "miner_args": {},
            **shared,
        },
    }
    path = tmp_path / "terms.yaml"
    path.write_text(yaml.safe_dump(values))
    whole = tmp_path / "whole"
    assert main(["train", "--config", str(path), "--output", str(whole)]) == 0
    first, second = rows_of(whole)
    assert float(first["train/loss_arc"]) == 0 and float(second["train/loss_arc"]) > 0
    assert float(first["train/loss_triplet"]) > 0
    assert float(second["train/loss_rank"]) > 0 and "train/loss_embedding" in first
    assert float(first["train/center/within"]) > 0
    assert -1 <= float(second["train/arc/silhouette"]) <= 1
    state = torch.load(whole / "last.pth", weights_only=True)
    assert state["model"]["box_terms.arc.losses.0.W"].shape == (8, 11)
    assert state["model"]["box_terms.center.step"] == 4  # two epochs of two steps
    in_optimizer = sum(len(group["params"]) for group in state["optimizer"]["param_groups"])
    assert in_optimizer == len(state["optimizer"]["state"])

    def stop(self, epoch, *args):
        raise KeyboardInterrupt

    args = ["train", "--config", str(path), "--output", str(tmp_path / "stopped")]
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_report", stop)
        assert main(args) == 130
    assert main([*args, "--resume"]) == 0
    resumed = torch.load(tmp_path / "stopped/last.pth", weights_only=True)["model"]
    assert resumed["box_terms.rank.losses.0._extra_state"] == 4  # as many draws
    assert all(torch.equal(x, resumed[name]) for name, x in state["model"].items())


OWN_LOSS = """
import torch

class Pull(torch.nn.Module):
    def __init__(self, num_classes, strength=1.0):
        super().__init__()
        self.sizes = num_classes, strength
        torch.randn(3)  # must not change what the run draws

    def forward(self, features, labels):
        return self.sizes[1] * features.square().mean()

def called():
    raise SystemExit("a recipe may be a stranger's")
"""


def test_a_loss_of_ones_own(recipe, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_losses.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    args = ["train", "--config", str(recipe), "--output", str(tmp_path / "run")]
    args += ["--center", "null", "--train.epochs", "1"]
    pull = ["--terms.pull.loss", "my_losses.Pull", "--terms.pull.features", "cell"]
    own = [*args, *pull]
    assert main([*own, "--terms.pull.weight", "0.5"]) == 0
    assert float(rows_of(tmp_path / "run")[0]["train/loss_pull"]) > 0
    plain = [*args[:4], str(tmp_path / "plain"), *args[5:]]
    assert main([*plain, *pull, "--terms.pull.weight", "0"]) == 0
    assert main([*plain[:4], str(tmp_path / "without"), *plain[5:]]) == 0
    rows = [rows_of(tmp_path / name)[0] for name in ("plain", "without")]
    assert rows[0]["train/classification"] == rows[1]["train/classification"]
    for name, said in (
        ("my_losses.Push", "has no attribute 'Push' (is its folder in PYTHONPATH?)"),
        ("no_such_module.Pull", "No module named 'no_such_module'"),
        ("my_losses.called", "my_losses.called is no class of torch modules"),
    ):
        line = fails(capsys, *args, "--overwrite", "--terms.pull.loss", name)
        assert "terms.pull" in line and said in line


def test_wrong_terms_are_one_line(recipe, tmp_path, capsys):
    pytest.importorskip("pytorch_metric_learning")
    args = ("train", "--config", recipe, "--output", tmp_path / "run")
    for terms, message in (
        (
            {"a": {"loss": "SupConLos"}},
            "terms.a: pytorch_metric_learning.losses has no 'SupConLos'",
        ),
        ({"a": {"loss": "SupConLoss", "args": {"tau": 1}}}, "terms.a: SupConLoss(tau=1)"),
        ({"a": {"loss": "VICRegLoss"}}, "does not work on features and labels alone"),
        ({"a": {"loss": "RankHardLoss", "args": {"neg_num": 0}}}, "terms.a: RankHardLoss needs"),
        ({"a": {"loss": "RankHardLoss", "args": {"negs": 1}}}, "terms.a: RankHardLoss"),
        ({"a": {"loss": "RankHardLoss", "miner": "BatchHardMiner"}}, "picks its boxes itself"),
        ({"a": {"loss": "SupConLoss", "per_object": True}}, "takes no weights"),
        ({"a b": {"loss": "SupConLoss"}}, "a term's name must be a valid, unused identifier"),
        ({"center": {"loss": "SupConLoss"}}, "terms.center: a term 'center' is attached already"),
        ({"a": {"wieght": 1}}, "weight"),
        ({"a": 3}, "terms maps names of your choice to sections"),
        ({"training": {"loss": "SupConLoss"}}, "terms.training: a term's name"),
        ({"a": {"loss": "RankHardLoss", "args": {"neg_num": 2.5}}}, "whole numbers"),
        ({"a": {"loss": "SupConLoss", "start_epoch": -1}}, "start_epoch is not negative: -1"),
        (
            {"a": {"loss": "SupConLoss", "features": "cell", "embedding_dim": 3}},
            "are for features: embedding",
        ),
        ({"a": {"loss": "SupConLoss", "embedding_dim": 3}}, "Embedding(dim=3, weight=1.0) does"),
    ):
        assert message in fails(capsys, *args, "--terms", json.dumps(terms))
    for options, message in (
        ({"num_clases": 4}, "num_clases"),
        ({"backbone": "resnet18"}, "model.options.backbone: set model.backbone instead"),
        ({"num_classes": 3}, "model.options.num_classes: set model.num_classes instead"),
    ):
        assert message in fails(capsys, *args, "--model.options", json.dumps(options))
    assert "radius of L2Softmax" in fails(capsys, *args, "--model.l2_softmax", -2)
    other = ("--model.name", "fasterrcnn", "--model.anchor_scales", "[[0.2]]")
    for options, message in (
        (("--model.box_vectors", 0), "vectors of boxes have 1 dimension or more, not 0"),
        ((*other, "--model.box_vectors", 8), "vectors of boxes are for SSDs, not for FasterRCNN"),
    ):
        assert f"model.box_vectors: {message}" in fails(capsys, *args, *options)
    assert "without model.l2_softmax" in fails(capsys, *args, "--model.l2_softmax_learnt", "true")
    assert "train.backbone_lr_factor is -1.0" in fails(
        capsys, *args, "--train.backbone_lr_factor", -1
    )
    assert "is no folder of a run" in fails(capsys, *args[:-1], "")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_version_says_so(run, tmp_path, capsys):
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    del checkpoint["config"]["terms"]
    torch.save(checkpoint, tmp_path / "old.pth")
    line = fails(capsys, "evaluate", "--checkpoint", tmp_path / "old.pth")
    assert "another version of detcenter ('terms'); the weights of its" in line


def test_a_run_starts_from_another_runs_weights(recipe, run, tmp_path, capsys):
    args = ["--config", str(recipe), "--train.epochs", "1", "--train.lr", "0"]
    args += ["--output", str(tmp_path / "run"), "--init_from", str(run / "last.pth")]
    assert main(["train", *args]) == 0
    table = capsys.readouterr().out
    assert "left out" in table and "backbone.body" in table
    before = torch.load(run / "last.pth", weights_only=True)["model"]
    after = torch.load(tmp_path / "run/last.pth", weights_only=True)["model"]
    weight = "backbone.fpn.inner_blocks.0.0.weight"
    assert torch.equal(after[weight], before[weight])
    assert after["box_terms.center.step"] == 2  # the ramp starts anew


def test_it_starts_from_torchvisions_weights_and_other_classes(recipe, run, tmp_path, capsys):
    checkpoint = torch.load(run / "last.pth", weights_only=True)["model"]
    heads = {k: v[: len(v) // 2] for k, v in checkpoint.items() if "classification_head" in k}
    torch.save(checkpoint | heads | {"extra": torch.ones(1)}, tmp_path / "other.pth")
    args = ["--config", str(recipe), "--train.epochs", "1"]
    args += ["--output", str(tmp_path / "run"), "--init_from", str(tmp_path / "other.pth")]
    assert main(["train", *args]) == 0
    table = capsys.readouterr().out
    assert "extra (not in the model)" in table
    (weight,) = (k for k in heads if k.endswith("weight"))
    shapes = f"{list(heads[weight].shape)}, the model has {list(checkpoint[weight].shape)}"
    assert f"{weight} ({shapes})" in table
    torch.save(resnet18().state_dict(), tmp_path / "resnet.pth")
    line = fails(capsys, "train", *args[:-1], tmp_path / "resnet.pth", "--overwrite")
    assert "resnet.pth: weights of another model" in line


def test_the_backbone_can_have_a_rate_of_its_own(recipe, tmp_path):
    args = ["--config", str(recipe), "--train.epochs", "1", "--train.backbone_lr_factor", "0"]
    ends = []
    for lr in ("0.01", "0.02"):
        folder = tmp_path / lr
        assert main(["train", *args, "--train.lr", lr, "--output", str(folder)]) == 0
        ends.append(torch.load(folder / "last.pth", weights_only=True)["model"])
    weights = [k for k, v in ends[0].items() if k.startswith("backbone.") and k.endswith("weight")]
    same = {k: torch.equal(ends[0][k], ends[1][k]) for k in weights}
    assert all(same[k] == (".fpn." not in k) for k in weights)
