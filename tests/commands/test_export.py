"""`detcenter export`, and what reads its files."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import detcenter
from detcenter.cli import main
from detcenter.data import read_image
from detcenter.training import load_checkpoint, save_checkpoint
from tests.command_line import fails
from tests.export.exported import OnnxFile, assert_same, by_model

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "docs" / "onnx_example.py"


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """A run that has learnt to see digits, if badly, with what scores the unknown beside."""
    folder = tmp_path_factory.mktemp("trained")
    options = "--train.epochs 30 --train.eval_every 30 --train.optimizer adamw --train.lr 0.003"
    args = ["train", "--config", str(recipe), "--output", str(folder / "run"), *options.split()]
    assert main(args) == 0
    checkpoint = load_checkpoint(folder / "run" / "last.pth")
    drawn = [torch.randn(300, n) for n in (64, 11)]
    scorer = detcenter.UnknownScorer.fit(*drawn, 1 + torch.arange(300) % 10)
    save_checkpoint(folder / "open.pth", **checkpoint | {"unknown": scorer.state()})
    return folder


@pytest.fixture(scope="module")
def file(trained):
    path = trained / "model.onnx"
    args = ["export", "--checkpoint", trained / "open.pth", "--output", path, "--features"]
    assert main([str(arg) for arg in [*args, "--center.vote", "0.5"]]) == 0
    return path


@pytest.fixture(scope="module")
def scenes(data):
    return sorted((data / "JPEGImages").iterdir())


def model_of(trained):
    return detcenter.vote(detcenter.load(trained / "open.pth", "cpu"), 0.5)


def test_a_trained_checkpoint_finds_in_onnxruntime_what_it_finds(trained, file, scenes):
    images = [torch.from_numpy(read_image(path)).permute(2, 0, 1) for path in scenes]
    small = [torch.nn.functional.interpolate(x[None], (64, 64))[0] for x in images]
    model = model_of(trained)
    expected = by_model(model, small, True)
    assert max(of_image["scores"].max() for of_image in expected) > 0.5
    assert assert_same(OnnxFile(file)(small), expected) > 100


def test_the_example_without_torch_finds_what_predict_finds(trained, file, scenes):
    spec = importlib.util.spec_from_file_location("onnx_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    session, model = OnnxFile(file).session, model_of(trained)
    count = 0
    for found in detcenter.predict(model, scenes[:4]):
        ours = example.detect(session, found.image, threshold=0.1)
        sure = found.detection["scores"] >= 0.1
        boxes, scores, labels = (found.detection[x][sure] for x in ("boxes", "scores", "labels"))
        assert [name for name, _, _ in ours] == [model.classes[x - 1] for x in labels]
        np.testing.assert_allclose([s for _, s, _ in ours], scores, atol=1e-5)
        np.testing.assert_allclose(np.reshape([b for _, _, b in ours], (-1, 4)), boxes, atol=1e-3)
        count += len(ours)
    assert count > 8
    assert len(EXAMPLE.read_text().splitlines()) < 50


def test_the_example_imports_no_torch(file, scenes):
    code = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    args = [sys.executable, "-c", code, EXAMPLE, file, scenes[0]]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert all(line.startswith(str(scenes[0])) for line in done.stdout.splitlines())


def test_predict_takes_the_file_in_the_place_of_the_checkpoint(trained, file, scenes, tmp_path):
    found = []
    for name, args in (
        ("of_model", ["--checkpoint", trained / "open.pth", "--center.vote", "0.5"]),
        ("of_file", ["--onnx", file]),
    ):
        args += ["--output", tmp_path / name, "--threshold", "0.1", "--no-pictures", *scenes[:4]]
        assert main(["predict", *map(str, args)]) == 0
        found.append(json.loads((tmp_path / name / "detections.json").read_text()))
    count = 0
    for model, ours in zip(*found, strict=True):
        assert ours["file"] == model["file"]
        for a, b in zip(model["detections"], ours["detections"], strict=True):
            assert a.keys() == b.keys() and {"unknown_score"} < a.keys()
            assert [a[x] for x in ("class", "label")] == [b[x] for x in ("class", "label")]
            assert a["score"] == pytest.approx(b["score"], abs=1e-5)
            assert a["box"] == pytest.approx(b["box"], abs=1e-3)
            count += 1
    assert count > 8


def test_what_predict_says_of_files(trained, file, scenes, tmp_path, capsys):
    args = ["predict", scenes[0], "--output", tmp_path / "out", "--onnx"]
    assert "give --checkpoint, or" in fails(capsys, *args[:-1])
    assert "give --checkpoint, or" in fails(
        capsys, *args, file, "--checkpoint", trained / "open.pth"
    )
    assert "has no thresholds" in fails(capsys, *args, file, "--threshold", "best")
    assert "its votes are fixed" in fails(capsys, *args, file, "--center.vote", "0.5")
    assert "no such file" in fails(capsys, *args, tmp_path / "none.onnx")
    assert "onnxruntime cannot read it" in fails(capsys, *args, EXAMPLE)
    assert not (tmp_path / "out").exists()


def test_what_it_says(trained, file, tmp_path, capsys):
    args = ["export", "--checkpoint", trained / "open.pth"]
    assert "is there already" in fails(capsys, *args, "--output", file)
    assert "is a folder" in fails(capsys, *args, "--output", tmp_path)
    said = fails(capsys, *args, "--output", tmp_path / "a.onnx", "--size", "64", "96")
    assert said.endswith("this model takes images of 64 x 64 pixels, no others")
    said = fails(capsys, *args, "--output", tmp_path / "a.onnx", "--no-nms", "--features")
    assert "features are those of detections" in said
    assert "--to" in fails(capsys, *args, "--to", "tensorrt")
    assert "no such checkpoint" in fails(capsys, "export", "--checkpoint", tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


def test_without_onnx_it_says_how_to_have_it(trained, tmp_path, monkeypatch, capsys):
    from detcenter.recipe import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    args = ["export", "--checkpoint", trained / "open.pth", "--output", tmp_path / "a.onnx"]
    said = fails(capsys, *args)
    assert said.endswith("writing ONNX files needs onnx: pip install 'detcenter[export]'")
