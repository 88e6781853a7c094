"""What a run that takes a week has to stand: broken checkpoints, losses, several processes."""

import csv
import os
import shutil
import socket

import pytest
import torch
from accelerate.state import AcceleratorState

from detcenter.cli import main
from detcenter.losses import MultiBoxLoss
from detcenter.models import build_model
from detcenter.runs.preparation import compile_in_place
from tests.command_line import fails

pytestmark = pytest.mark.slow


def ends_alike(one, other, tolerance=0.0):
    first, second = (torch.load(f / "last.pth", weights_only=True)["model"] for f in (one, other))
    return all(torch.allclose(x, second[k], rtol=0, atol=tolerance) for k, x in first.items())


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, recipe, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    content = bytearray((folder / "last.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "last.pth").write_bytes(content)
    assert torch.load(folder / "previous.pth", weights_only=True)["epoch"] == 1
    assert main(["train", "--config", str(recipe), "--output", str(folder), "--resume"]) == 0
    said = capsys.readouterr().out
    assert "last.pth: not a readable checkpoint" in said and "going on from previous.pth" in said
    assert ends_alike(run, folder)
    assert [row["epoch"] for row in rows(folder)] == ["1", "2"]


def test_checkpoints_inside_an_epoch_do_not_disturb_it(run, recipe, tmp_path):
    args = ["--config", str(recipe), "--output", str(tmp_path / "run")]
    assert main(["train", *args, "--train.save_every_steps", "1"]) == 0
    assert ends_alike(run, tmp_path / "run")
    # the newest is of the end, the one before it of the last step
    before = torch.load(tmp_path / "run/previous.pth", weights_only=True)
    assert (before["epoch"], before["step"]) == (1, 2)


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(run, recipe, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(run / "config.yaml", folder)
    assert main(["train", "--config", str(recipe), "--output", str(folder), "--resume"]) == 0
    assert ends_alike(run, folder)


@pytest.fixture
def broken_once(monkeypatch):
    """The second step's loss is not a number."""
    calls = []

    def forward(self, *args):
        calls.append(args)
        losses = plain(self, *args)
        return losses | {"bbox_regression": losses["bbox_regression"] / (len(calls) != 2)}

    plain = MultiBoxLoss.forward
    monkeypatch.setattr(MultiBoxLoss, "forward", forward)


def test_a_loss_that_is_not_finite_stops_with_the_images(recipe, tmp_path, broken_once, capsys):
    line = fails(capsys, "train", "--config", recipe, "--output", tmp_path / "run")
    assert "the loss is not finite (bbox_regression inf, classification " in line
    assert line.count(".jpg") == 4 and "train_0000" in line and "intact" in line


def test_or_its_step_is_passed_over(recipe, tmp_path, broken_once):
    folder = tmp_path / "run"
    args = ["--config", str(recipe), "--output", str(folder), "--train.on_nan", "skip"]
    assert main(["train", *args]) == 0
    state = torch.load(folder / "last.pth", weights_only=True)
    assert all(x.isfinite().all() for x in state["model"].values())
    assert state["model"]["box_terms.center.step"] == 3  # of four
    assert float(rows(folder)[0]["train/bbox_regression"]) < 1e6


def test_ten_in_a_row_are_too_many(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("detcenter.runs.run._MOST_SKIPPED", 2)
    args = ("--config", recipe, "--output", tmp_path / "run", "--train.on_nan", "skip")
    line = fails(capsys, "train", *args, "--train.lr", "1e30")
    assert "the loss is not finite" in line


def test_the_average_is_evaluated_and_kept(run, recipe, tmp_path):
    folder = tmp_path / "run"
    options = ["--train.ema", "0.9", "--train.batch_size", "2", "--train.accumulate", "2"]
    args = ["--config", str(recipe), "--output", str(folder), *options]
    assert main(["train", *args]) == 0
    state = torch.load(folder / "last.pth", weights_only=True)
    weights, average = state["averaging"]["weights"], state["model"]
    assert state["averaging"]["updates"] == 4 and weights.keys() == average.keys()
    name = "head.classification_head.module_list.0.weight"
    assert not torch.equal(weights[name], average[name])
    centers = "box_terms.center.losses.0.centers"
    assert torch.equal(weights[centers], average[centers]) and average[centers].any()
    results = tmp_path / "results.json"
    assert main(["evaluate", "--checkpoint", f"{folder}/last.pth", "--json", str(results)]) == 0
    assert results.read_text() == (folder / "results.json").read_text()


def one_of_two(rank, args, port):
    """A process that torchrun has started, but that it is forked, and imports nothing anew."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # of runs before, in one process
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    assert main(args) == 0


def test_two_processes_give_what_one_gives(recipe, tmp_path):
    options = ["--model.frozen_batch_norm", "true", "--train.exact_losses", "true"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", "--config", str(recipe), "--output", str(one), *options]) == 0
    args = ["train", "--config", str(recipe), "--output", str(two), "--train.batch_size", "2"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    torch.multiprocessing.start_processes(
        one_of_two, ([*args, *options], port), 2, start_method="fork"
    )
    assert ends_alike(one, two, tolerance=1e-5)
    for mine, theirs in zip(rows(one), rows(two), strict=True):
        for name in ("train/loss_center", "train/classification", "AP", "AR_100"):
            assert float(mine[name]) == pytest.approx(float(theirs[name]), rel=1e-3, abs=1e-5)
    assert not list(two.glob("*.partial"))


def test_passes_before_a_step_give_what_one_gives(recipe, tmp_path):
    options = ["--model.frozen_batch_norm", "true", "--train.exact_losses", "true"]
    for folder, sizes in (("one", (4, 1)), ("passes", (1, 4))):
        steps = ["--train.batch_size", str(sizes[0]), "--train.accumulate", str(sizes[1])]
        args = ["--config", str(recipe), "--output", str(tmp_path / folder), *options, *steps]
        assert main(["train", *args, "--center.features", "embedding"]) == 0
    assert ends_alike(tmp_path / "one", tmp_path / "passes", tolerance=1e-5)


def test_a_run_goes_on_in_other_passes_of_as_many_images(recipe, tmp_path, capsys):
    options = ["--model.frozen_batch_norm", "true", "--train.exact_losses", "true"]
    folder, whole = tmp_path / "run", tmp_path / "whole"
    for output in (whole, folder):
        args = ["--config", str(recipe), "--output", str(output), *options]
        assert main(["train", *args, "--train.save_every_steps", "1"]) == 0
    for name in ("last.pth", "results.json"):
        (folder / name).unlink()  # what is left is the state before the last step
    go_on = ["train", *args, "--resume", "--train.batch_size"]
    assert "a step would take 2 images, but the run was started with 4" in fails(capsys, *go_on, 2)
    assert main([*go_on, "2", "--train.accumulate", "2"]) == 0
    assert ends_alike(whole, folder, tolerance=1e-5)


def test_what_is_compiled_is_the_backbone_and_the_head():
    options = {"image_size": 64, "strides": [8], "anchor_scales": [[0.3]], "backbone": "resnet18"}
    for name in ("ssd", "fasterrcnn"):
        model = build_model(name, 3, **options)
        keys = model.state_dict().keys()
        compile_in_place(model)
        heads = [model.head] if name == "ssd" else [model.rpn.head, model.roi_heads.box_head]
        assert all(m._compiled_call_impl is not None for m in (model.backbone, *heads))
        assert model._compiled_call_impl is None and model.state_dict().keys() == keys


def test_what_does_not_go_together_is_one_line(recipe, tmp_path, capsys):
    args = ("train", "--config", recipe, "--output", tmp_path / "run")
    for options, message in (
        (("--train.ema", 1), "train.ema: the decay of an average lies in 0..1, not 1.0"),
        (("--train.accumulate", 9), "8 images are too few for 9 passes a step"),
        (("--train.sync_batch_norm", "true"), "train.sync_batch_norm is for several GPUs"),
        (("--train.gradient_checkpointing", "true"), "train.gradient_checkpointing: gradient"),
        (("--train.save_every_steps", 0), "the least is 1"),
    ):
        assert message in fails(capsys, *args, *options)


def test_stages_are_compiled_or_computed_twice(recipe, tmp_path, capsys):
    args = ("train", "--config", recipe, "--output", tmp_path / "run", "--train.compile", "true")
    line = fails(capsys, *args, "--train.gradient_checkpointing", "true")
    assert "train.gradient_checkpointing and train.compile do not go together" in line
