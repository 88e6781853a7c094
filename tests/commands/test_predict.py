"""`detcenter predict`: what it reads, what it writes, and what it says."""

import json
import signal
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import nn

import detcenter
from detcenter.cli import main
from detcenter.commands import predict as module
from detcenter.data import DataError, frame_rate, read_image, read_video, video_length, video_writer
from detcenter.runs.passes import detect_in
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes(data):
    return sorted((data / "JPEGImages").iterdir())


class Finds(nn.Module):
    """Some boxes of all classes and scores in an image of 64x64, the same in the same image."""

    def __init__(self):
        super().__init__()
        self.transform = SimpleNamespace(fixed_size=(64, 64))
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return [self.found(image) for image in images]

    def found(self, image):
        assert image.shape == (3, 64, 64) and image.max() <= 1
        drawn = torch.Generator().manual_seed(int(image.double().sum() * 1000))
        boxes = torch.rand((7, 4), generator=drawn) * 32
        return {
            "boxes": boxes + torch.tensor([0.0, 0.0, 32.0, 32.0]),
            "labels": torch.randint(1, 11, (7,), generator=drawn),
            "scores": torch.rand(7, generator=drawn),
        }


@pytest.fixture
def stand_in(monkeypatch):
    """For the detector, which takes longer to build than all the rest."""
    monkeypatch.setattr(module, "detector_of", lambda *_: Finds())


@pytest.fixture
def predict(run, tmp_path):
    """Run the command and give back its folder."""

    def run_it(*args, status=0):
        fixed = ["--checkpoint", run / "last.pth", "--output", tmp_path / "out"]
        assert main(["predict", *map(str, (*fixed, *args))]) == status
        return tmp_path / "out"

    return run_it


def rows_in(folder):
    return json.loads((folder / "detections.json").read_text())


def film(path, images, rate=10.0):
    with video_writer(path, rate) as write:
        for image in images:
            write(image)
    return path


def animated(path, scenes):
    first, *rest = [Image.fromarray(read_image(scene)) for scene in scenes]
    first.save(path, save_all=True, append_images=rest)
    return path


def test_it_draws_and_writes_json(predict, scenes):
    images = scenes[:2]
    output = predict("--score", "0.0", *images, images[0])
    rows = rows_in(output)
    assert [row["file"] for row in rows] == [str(path) for path in (*images, images[0])]
    assert rows[0] == rows[2] and rows[0]["detections"]
    for found in rows[0]["detections"]:
        assert found["class"] == str(found["label"] - 1) and 0 <= found["score"] <= 1
        assert 0 <= found["box"][0] <= found["box"][2] <= 160
    stems = {images[0].stem, images[1].stem, f"{images[0].stem}-2"}
    assert {path.stem for path in output.glob("*.png")} == stems


def test_it_finds_what_evaluation_finds_with_any_number_of_workers(run, predict, scenes, data):
    from detcenter.data import VOCDataset

    dataset = VOCDataset(data, "train")
    expected = detect_in(dataset, detcenter.load(run / "last.pth"), 8, 0)
    for workers in (0, 3):
        paths = [annotation["path"] for annotation in dataset.annotations]
        rows = rows_in(predict("--score", 0, "--workers", workers, *paths))
        assert len(rows) == len(expected) and sum(len(row["detections"]) for row in rows) > 9
        for row, found in zip(rows, expected, strict=True):
            assert [x["box"] for x in row["detections"]] == found["boxes"].tolist()
            assert [x["score"] for x in row["detections"]] == found["scores"].tolist()
            assert [x["label"] for x in row["detections"]] == found["labels"].tolist()


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_every_frame_is_an_image_of_its_own(stand_in, predict, scenes, tmp_path, name):
    path = animated(tmp_path / name, scenes[:3])
    output = predict("--score", 0, path)
    rows = rows_in(output)
    assert [(row["file"], row["frame"]) for row in rows] == [(str(path), k) for k in range(3)]
    assert rows[0]["detections"] != rows[1]["detections"]
    pictures = {picture.name for picture in output.glob("*.png")}
    assert pictures == {f"a_00000{k}.png" for k in range(3)}
    assert [row["frame"] for row in rows_in(predict("--every", 2, path))] == [0, 2]


def test_sub_folders_are_kept_and_the_results_below_are_not_looked_at(
    stand_in, predict, scenes, tmp_path
):
    for name in ("b.png", "deep/er/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(scenes[0]).save(tmp_path / name)
    for _ in range(2):  # the second time there are results
        output = predict(tmp_path, "--format", "yolo")
        assert len(list(output.rglob("*.png"))) == 2
    assert (output / "deep/er/b.png").exists() and (output / "labels/deep/er/b.txt").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_becomes_a_video(stand_in, predict, scenes, tmp_path, workers):
    # Two frames of each scene, many enough for several batches.
    images = [read_image(scene) for scene in scenes[:10] for _ in range(2)]
    path = film(tmp_path / "clip.mp4", images)
    output = predict("--score", 0, "--workers", workers, "--every", 2, path, scenes[0])
    rows = rows_in(output)
    assert [row.get("frame") for row in rows] == [*range(0, 20, 2), None]
    assert {p.name for p in output.iterdir()} == {
        "clip.mp4", "detections.json", f"{scenes[0].stem}.png",
    }  # fmt: skip
    drawn = [frame for _, frame in read_video(output / "clip.mp4")]
    assert video_length(output / "clip.mp4") == 10 and len(drawn) == 10
    assert frame_rate(output / "clip.mp4") == 5  # as long as the whole, of 10 a second
    height, width = images[0].shape[:2]
    factor = drawn[0].shape[1] // width
    assert drawn[0].shape == (height * factor, width * factor, 3) and factor > 1
    assert not np.array_equal(drawn[0], drawn[5])


def test_it_says_that_nothing_is_found(stand_in, predict, scenes, capsys):
    predict("--threshold", 1, scenes[0])
    assert "no boxes with a score of 1 or more; a lower --threshold" in capsys.readouterr().out
    predict("--threshold", 0.01, scenes[0])
    assert "no boxes" not in capsys.readouterr().out


def test_all_formats_at_once_say_the_same(stand_in, predict, scenes, tmp_path, capsys):
    path = animated(tmp_path / "a.tif", scenes[:2])
    formats = ("--format", "json,coco,yolo", "--no-pictures")
    output = predict("--score", 0.01, *formats, path, scenes[3])
    assert "3 images to" in capsys.readouterr().out
    assert not list(output.rglob("*.png"))
    rows = rows_in(output)
    assert sum(len(row["detections"]) for row in rows) > 15
    truth = COCO(str(output / "images.coco.json"))
    results = truth.loadRes(str(output / "predictions.coco.json"))
    for number, (row, stem) in enumerate(
        zip(rows, ("a_000000", "a_000001", scenes[3].stem), strict=True), 1
    ):
        assert truth.imgs[number]["file_name"] == row["file"]
        found = results.imgToAnns[number]
        assert [x["score"] for x in found] == [x["score"] for x in row["detections"]]
        assert [x["category_id"] for x in found] == [x["label"] for x in row["detections"]]
        lines = (output / "labels" / f"{stem}.txt").read_text().splitlines()
        assert [int(line.split()[0]) + 1 for line in lines] == [x["category_id"] for x in found]
        for line, x in zip(lines, row["detections"], strict=True):
            left, _, right, _ = x["box"]
            assert float(line.split()[1]) == pytest.approx((left + right) / 2 / 160, abs=1e-5)


def test_broken_files_do_not_keep_the_others_waiting(stand_in, predict, scenes, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(scenes[0].read_bytes()[:100])
    (tmp_path / "b.mp4").write_bytes(b"no video")
    cut = film(tmp_path / "c.avi", [read_image(scenes[0])] * 30)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "d.jpg").write_bytes(scenes[1].read_bytes()[:2000])
    broken = [tmp_path / name for name in ("a.png", "b.mp4", "c.avi", "d.jpg")]
    capsys.readouterr()
    for workers in (0, 2):
        output = predict("--workers", workers, *broken, scenes[2], broken[0], status=2)
        first, *lines = capsys.readouterr().err.splitlines()
        assert first == "detcenter predict: 4 faults in 4 files:" and len(lines) == 4
        for name, what in (
            ("a.png", "not a readable image"),
            ("b.mp4", "not a readable video"),
            ("c.avi", "cut short"),
            ("d.jpg", "not a readable image"),
        ):
            assert sum(f"{name}: " in line and what in line for line in lines) == 1
        assert rows_in(output)[-1]["file"] == str(scenes[2])
        assert {row["file"] for row in rows_in(output)} == {str(broken[2]), str(scenes[2])}


def test_nothing_is_written_if_nothing_can_be_read(stand_in, run, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"no image")
    args = ("predict", "--checkpoint", run / "last.pth", "--output", tmp_path / "out")
    assert "a.png: not a readable image" in fails(capsys, *args, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_what_is_valid_and_says_how_far_it_came(
    stand_in, predict, scenes, tmp_path, monkeypatch, capsys, number, status
):
    def stop_at_the_tenth(prediction, lowest):
        if prediction.frame == 9:
            signal.raise_signal(number)
        return above(prediction, lowest)

    above = module._above
    path = film(tmp_path / "clip.mp4", [read_image(scenes[0])] * 30)
    monkeypatch.setattr(module, "_above", stop_at_the_tenth)
    output = predict("--format", "json,coco", path, status=status)
    assert "stopped after 10 of 30 images" in capsys.readouterr().err
    assert [row["frame"] for row in rows_in(output)] == list(range(10))
    assert len(json.loads((output / "images.coco.json").read_text())["images"]) == 10
    assert len(list(read_video(output / "clip.mp4"))) == 10


def test_memory_does_not_grow_with_the_number_of_frames(scenes, tmp_path):
    model = Finds()
    image = np.asarray(Image.open(scenes[0]).convert("RGB").resize((640, 480)))
    peaks = []
    for count in (24, 96):
        path = film(tmp_path / f"{count}.avi", [image] * count)
        tracemalloc.start()
        seen = sum(1 for _ in detcenter.predict(model, path, workers=2))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == count
    assert peaks[1] < peaks[0] + 4 * image.nbytes


def test_predicting_in_code(scenes, tmp_path):
    model = Finds()
    path = animated(tmp_path / "a.gif", scenes[:3])
    found = list(detcenter.predict(model, [scenes[0], path], every=2))
    assert [(x.file, x.frame) for x in found] == [(scenes[0], None), (path, 0), (path, 2)]
    np.testing.assert_array_equal(found[0].image, read_image(scenes[0]))
    assert found[0].detection.keys() == {"boxes", "labels", "scores"}
    (tmp_path / "b.png").write_bytes(b"no image")
    few = detcenter.predict(model, tmp_path)
    with pytest.raises(DataError, match="b.png: not a readable image"):
        list(few)


def test_the_best_threshold_of_each_class(stand_in, run, predict, scenes, tmp_path, capsys):
    every = rows_in(predict("--score", 0, "--no-pictures", *scenes))
    scores = {str(k): [] for k in range(10)}
    for row in every:
        for x in row["detections"]:
            scores[x["class"]].append(x["score"])
    best = {name: sorted(values)[len(values) // 2] for name, values in scores.items() if values}
    assert len(best) > 8
    unknown, missing = list(best)[:2]  # both shown from 0.5 on
    best[unknown] = float("nan")
    del best[missing]
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    torch.save(checkpoint | {"thresholds": best}, tmp_path / "best.pth")
    args = ["--checkpoint", tmp_path / "best.pth", "--threshold", "best", "--no-pictures", *scenes]
    capsys.readouterr()
    rows = rows_in(predict(*args))
    shown = [(x["class"], x["score"]) for row in rows for x in row["detections"]]
    lowest = best | {unknown: 0.5, missing: 0.5}
    said = ", ".join(f"{name} {lowest.get(name, 0.5):.3f}" for name in map(str, range(10)))
    assert f"shown from a score of: {said}\n" in capsys.readouterr().out
    assert 10 < len(shown) < 7 * len(scenes)
    assert sorted(shown) == sorted(
        (name, score) for name, of in scores.items() for score in of if score >= lowest[name]
    )
    few = rows_in(predict("--threshold", "0.2", "--no-pictures", *scenes))
    same = rows_in(predict("--score", "0.2", "--no-pictures", *scenes))
    assert few == same


def test_wrong_options_are_one_line(stand_in, run, scenes, tmp_path, capsys):
    torch.save(
        {k: x for k, x in torch.load(run / "last.pth").items() if k != "thresholds"},
        tmp_path / "none.pth",
    )
    args = ("predict", "--checkpoint", tmp_path / "none.pth", "--output", tmp_path / "o", scenes[0])
    for options, message in (
        (("--threshold", "best"), "none.pth has no thresholds; train on (--resume)"),
        (("--threshold", "best", "--score", 0.3), "--threshold and --score say the same"),
        (("--threshold", "most"), "--threshold is 'best' or a number from 0 to 1, not 'most'"),
        (("--threshold", "nan"), "a number from 0 to 1, not 'nan'"),
        (("--score", "1.5"), "--score is a number from 0 to 1, not 1.5"),
        (("--format", "voc"), "'voc' is none of json, coco, yolo"),
        (("--format", ""), "'' is none of json, coco, yolo"),
        (("--every", 0), "every is 0, the least is 1"),
        (("--workers", -1), "workers is -1, the least is 0"),
        ((tmp_path / "no.jpg",), "no.jpg: no such image, video or folder"),
    ):
        assert message in fails(capsys, *args, *options)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["photo.png", "photo.gif", "clip.mp4"])
def test_it_does_not_overwrite_what_it_reads(stand_in, run, scenes, tmp_path, capsys, name):
    drawn = name
    if name == "photo.png":
        Image.open(scenes[0]).save(tmp_path / name)
    elif name == "photo.gif":
        animated(tmp_path / name, scenes[:2])
        drawn = "photo_000001.png"
        Image.open(scenes[0]).save(tmp_path / drawn)
    else:
        film(tmp_path / name, [read_image(scenes[0])] * 2)
    before = (tmp_path / drawn).read_bytes()
    args = ("predict", "--checkpoint", run / "last.pth", "--output", tmp_path)
    files = sorted(path for path in tmp_path.iterdir() if path.name != "out")
    if name == "photo.gif":
        link = tmp_path / "other"
        link.mkdir()
        (link / "x.png").symlink_to(tmp_path / drawn)
        files = [tmp_path / name, link / "x.png"]
    assert f"{drawn}; name another" in fails(capsys, *args, *files)
    assert (tmp_path / drawn).read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no such file there")
def test_a_disk_that_is_full_is_one_line(stand_in, run, scenes, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / f"{scenes[0].stem}.png").symlink_to(Path("/dev/full"))
    args = ("predict", "--checkpoint", run / "last.pth", "--output", output)
    for workers in (0, 2):
        assert "No space left" in fails(capsys, *args, "--workers", workers, scenes[0])
    assert len(rows_in(output)) == 1
