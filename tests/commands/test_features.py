"""`detcenter features` and `detcenter sweep` on a small data set."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detcenter import box_features
from detcenter.analysis import compactness
from detcenter.cli import main
from detcenter.commands import features as module
from detcenter.data import VOCDataset
from detcenter.runs import own_process
from detcenter.runs.checkpoints import detector_of
from detcenter.training import load_checkpoint
from tests.changed_recipe import changed
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    args = ["--checkpoint", str(run / "last.pth"), "--output", str(folder)]
    assert main(["features", *args]) == 0
    return folder


def test_every_ground_truth_box_has_its_feature_and_its_place(run, data, written):
    found = np.load(written / "features.npz")
    dataset = VOCDataset(data, "val", list(found["classes"]))
    boxes = np.concatenate([a["boxes"] for a in dataset.annotations])
    np.testing.assert_allclose(found["boxes"], boxes, atol=0.01)
    labels = np.concatenate([a["labels"] for a in dataset.annotations])
    assert found["labels"].tolist() == labels.tolist()
    counts = [len(a["boxes"]) for a in dataset.annotations]
    assert found["images"].tolist() == np.repeat(range(4), counts).tolist()
    assert [name.rsplit("/")[-1] for name in found["files"]] == [
        a["path"].name for a in dataset.annotations
    ]
    assert found["features"].shape == (len(boxes), 64)
    # the second image by hand, on pixels averaged down from 160 to 64
    checkpoint = load_checkpoint(run / "last.pth")
    model = detector_of(checkpoint, run / "last.pth").cpu()
    image = Image.open(dataset.annotations[1]["path"]).resize((64, 64), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(image) / 255).float().permute(2, 0, 1)
    inside = torch.from_numpy(dataset.annotations[1]["boxes"]) * 64 / 160
    (expected,) = box_features(model, [pixels], [inside])
    got = found["features"][found["images"] == 1]
    # rounded to whole bytes in another way
    assert np.linalg.norm(got - expected.numpy()) < 0.03 * np.linalg.norm(got)


def test_the_table_is_of_the_features_on_the_unit_sphere(written, run, tmp_path, capsys):
    found = np.load(written / "features.npz")
    rows = found["features"] / np.linalg.norm(found["features"], axis=1, keepdims=True)
    expected = compactness(rows, found["labels"], list(found["classes"]))
    result = json.loads((written / "compactness.json").read_text())
    assert result["ratio"] == pytest.approx(expected["ratio"])
    args = ["--checkpoint", str(run / "last.pth"), "--output", str(tmp_path), "--raw"]
    assert main(["features", *args, "--data.val", "train", "--term", "center"]) == 0
    raw = json.loads((tmp_path / "compactness.json").read_text())
    assert raw["within"] != pytest.approx(result["within"], rel=0.1)
    assert "silhouette" in capsys.readouterr().out


def test_the_picture_shows_something(written):
    assert np.asarray(Image.open(written / "features.png").convert("L")).std() > 10


def test_the_centers_are_those_of_the_checkpoint(run, written):
    (table,) = (
        x
        for name, x in torch.load(run / "last.pth", weights_only=True)["model"].items()
        if name.endswith("centers")
    )
    np.testing.assert_array_equal(np.load(written / "features.npz")["centers"], table[1:])


@pytest.fixture(scope="module")
def both(run, tmp_path_factory):
    """Both parts, as a table too."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("both")
    args = ["--checkpoint", str(run / "last.pth"), "--output", str(folder), "--part", "both"]
    assert main(["features", *args, "--format", "parquet,npz"]) == 0
    return folder


def test_both_parts_are_one_after_the_other(both, written, data):
    found, of_val = np.load(both / "features.npz"), np.load(written / "features.npz")
    parts = found["parts"][found["images"]]
    assert found["parts"].tolist() == ["train"] * 8 + ["val"] * 4
    for key in ("features", "labels", "boxes"):
        np.testing.assert_array_equal(found[key][parts == "val"], of_val[key])
    np.testing.assert_array_equal(found["images"][parts == "val"], of_val["images"] + 8)
    for part in ("train", "val"):
        dataset = VOCDataset(data, part, list(found["classes"]))
        of_part = found["parts"] == part
        assert found["files"][of_part].tolist() == [str(a["path"]) for a in dataset.annotations]
        assert found["sizes"][of_part].tolist() == [[160, 160]] * len(dataset)
        counts = np.bincount(found["images"], minlength=12)[of_part]
        assert counts.tolist() == [len(a["labels"]) for a in dataset.annotations]
    assert found["term"] == "center" and found["on_sphere"] and found["embedded"]


def test_the_table_is_that_of_the_arrays(both):
    from pyarrow import parquet

    table, found = parquet.read_table(both / "features.parquet"), np.load(both / "features.npz")
    columns = table.to_pydict()
    of_images = found["images"]
    assert columns["file"] == found["files"][of_images].tolist()
    assert columns["part"] == found["parts"][of_images].tolist()
    np.testing.assert_array_equal(np.array(columns["feature"], np.float32), found["features"])
    corners = np.stack([columns[key] for key in ("x1", "y1", "x2", "y2")], axis=1)
    np.testing.assert_array_equal(corners, found["boxes"])
    assert columns["label"] == found["labels"].tolist()
    assert columns["class"] == found["classes"][found["labels"] - 1].tolist()
    assert set(columns["width"]) == set(columns["height"]) == {160}
    about = json.loads(table.schema.metadata[b"detcenter"])
    assert about == {key: found[key].tolist() for key in about} and about["on_sphere"]


def test_formats_that_a_person_may_get_wrong(run, tmp_path, monkeypatch, capsys):
    args = ("features", "--checkpoint", run / "last.pth", "--output", tmp_path)
    assert "--format 'csv' is none of npz, parquet" in fails(capsys, *args, "--format", "npz,csv")
    assert "--part is one of train, val, both" in fails(capsys, *args, "--part", "test")
    real = module.need

    def without(package, *rest):
        if package == "pyarrow":
            monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
        real(package, *rest)

    monkeypatch.setattr(module, "need", without)
    line = fails(capsys, *args, "--format", "parquet")
    assert "pip install 'detcenter[parquet]'; npz needs nothing" in line
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_so_before_it_starts(run, flat_recipe, monkeypatch, capsys):
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    for args in (("features", "--checkpoint", run), ("sweep", "--config", flat_recipe)):
        assert "pip install 'detcenter[plots]'" in fails(capsys, *args)


def test_wrong_use_of_features_is_one_line(run, tmp_path, capsys):
    args = ("features", "--checkpoint", run / "last.pth", "--output", tmp_path)
    assert "--term: no term 'rank' is attached; there are: center" in fails(
        capsys, *args, "--term", "rank"
    )
    assert "not a readable checkpoint" in fails(capsys, "features", "--checkpoint", tmp_path)
    assert "checkpoint" in fails(capsys, "features")


@pytest.fixture(scope="module")
def flat_recipe(recipe, tmp_path_factory):
    flat = {"features": "embedding", "embedding_dim": 2, "normalize": False}
    folder = tmp_path_factory.mktemp("recipe")
    return changed(recipe, folder, center=flat, train={"epochs": 1})


def test_a_sweep_trains_each_weight_once(flat_recipe, tmp_path, forked, monkeypatch, capsys):
    train, log = own_process.train, tmp_path / "log"

    def counted(config, folder, *rest, **options):
        with log.open("a") as file:
            print(config.center.weight, file=file)
        if len(trained()) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(config, folder, *rest, **options)

    def trained():
        return [float(line) for line in log.read_text().splitlines()]

    monkeypatch.setattr(own_process, "train", counted)
    args = ["sweep", "--config", str(flat_recipe), "--output", str(tmp_path)]
    args += ["--weights", "[0, 0.5]"]
    assert main(args) == 143
    assert "the same command goes on" in capsys.readouterr().err
    assert main(args) == 0
    assert trained() == [0, 0.5, 0.5]
    assert main(args) == 0 and trained() == [0, 0.5, 0.5]
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["weight"] for row in rows] == [0, 0.5]
    for row in rows:
        folder = tmp_path / f"weight_{row['weight']:g}"
        assert row["AP"] == json.loads((folder / "results.json").read_text())["AP"]
        val = np.load(folder / "features_val.npz")
        assert val["features"].shape[1] == 2
        expected = compactness(val["features"], val["labels"], list(val["classes"]))
        assert row["val"]["ratio"] == pytest.approx(expected["ratio"])
        assert row["train"]["count"] > row["val"]["count"] == len(val["labels"])
        assert (
            yaml.safe_load((folder / "config.yaml").read_text())["center"]["weight"]
            == row["weight"]
        )
    assert np.asarray(Image.open(tmp_path / "sweep.png").convert("L")).std() > 10
    line = fails(capsys, *args, "--train.lr", 0.5)
    assert "train.lr is 0.5, but the run was started with 0.01" in line
    shutil.rmtree(tmp_path / "weight_0")
    assert main(args) == 0 and trained() == [0, 0.5, 0.5, 0]


def test_wrong_use_of_sweep_is_one_line(recipe, flat_recipe, tmp_path, capsys):
    args = ("sweep", "--config", flat_recipe, "--output", tmp_path)
    assert "two dimensions" in fails(capsys, "sweep", "--config", recipe)
    assert "center is null" in fails(capsys, *args, "--center", "null")
    assert "from 0 up, not [-1.0]" in fails(capsys, *args, "--weights", "[-1]")
    assert "a weight twice" in fails(capsys, *args, "--weights", "[1,1]")
    assert "--config FILE is missing" in fails(capsys, "sweep")
    assert not list(tmp_path.iterdir())
