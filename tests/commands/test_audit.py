"""`detcenter audit` on real trainings of a small recipe: what it writes, reuses and refuses."""

import contextlib
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import detcenter.commands.audit as audit_module
from detcenter.audit import KINDS
from detcenter.cli import main
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.runs.audited import fold_of
from detcenter.runs.checkpoints import detector_of
from detcenter.runs.measured import recipe_of
from detcenter.runs.passes import features_in, logits_and_features
from detcenter.training import load_checkpoint
from tests.command_line import fails

CLASSES = [*map(str, range(10)), "rare"]


def near_copy(root):
    """Of the third image in place of the eighth, saved anew."""
    images, files = (sorted((root / x).iterdir()) for x in ("JPEGImages", "Annotations"))
    Image.open(images[2]).save(images[7], "JPEG", quality=70)
    text = files[2].read_text().replace(images[2].name, images[7].name)
    files[7].write_text(text)


@pytest.fixture(scope="module")
def audit(tmp_path_factory, recipe, data, forked_in_module):
    """The folder of an audit by two folds of a data set of its own, and its arguments.

    One class has a single box.
    """
    folder = tmp_path_factory.mktemp("audit")
    values = yaml.safe_load(recipe.read_text())
    root = Path(shutil.copytree(data, folder / "data"))
    file = next(iter(sorted((root / "Annotations").iterdir())))
    before, name, after = file.read_text().partition("<name>")
    file.write_text(before + name + "rare" + after[after.index("</name>") :])
    near_copy(root)
    values["data"] |= {"root": str(root), "classes": CLASSES}
    values["train"]["epochs"] = 1
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    args = ["audit", "--config", str(path), "--folds", "2", "--output", str(folder / "out")]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(args) == 0
    assert "0 of 2 runs are done" in out.getvalue()
    return folder, args


def test_near_copies_are_in_one_fold(audit):
    folder, _ = audit
    images = sorted((folder / "data/JPEGImages").iterdir())
    names = [images[n].relative_to(folder / "data").as_posix() for n in (2, 7)]
    assert json.loads((folder / "out/groups.json").read_text()) == [names]
    held_out = []
    for number in range(2):
        data = recipe_of(folder / "out" / f"fold_{number}").data
        val = validation_set(data, training_set(data).classes)
        held_out.append({a["path"] for a in val.annotations})
    assert sum({images[2], images[7]} <= of_fold for of_fold in held_out) == 1


def test_folds_of_before_stay_without_groups(audit, capsys):
    """Else their recipes would be others, and the trainings in vain."""
    folder, args = audit
    moved = shutil.copytree(folder / "out", folder / "before")
    (moved / "groups.json").unlink()
    for run in moved.glob("fold_*/config.yaml"):
        values = yaml.safe_load(run.read_text())
        values["data"]["groups"] = None
        run.write_text(yaml.safe_dump(values))
    assert audit_module._near_copies(DataConfig(root=str(folder / "data")), Path(moved)) is None


def test_one_line_where_near_copies_cannot_be_kept_together(tmp_path, data, monkeypatch, caplog):
    monkeypatch.setattr("detcenter.commands.audit.find_spec", lambda name: None)
    assert audit_module._near_copies(DataConfig(root=str(data)), tmp_path) is None
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "detcenter[check]" in said


def test_what_it_leaves(audit):
    folder, _ = audit
    content = json.loads((folder / "out/audit.json").read_text())
    assert (content["images"], content["folds"]) == (12, 2)
    assert content["classes"] == CLASSES
    results = [json.loads((folder / f"out/fold_{n}/results.json").read_text()) for n in range(2)]
    for key in ("AP", "AP50"):
        assert content[key] == pytest.approx((results[0][key] + results[1][key]) / 2)
    suspects = content["suspects"]
    scores = [suspect["score"] for suspect in suspects]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= 0.1 and scores[0] <= 1
    annotated = {}
    for number in range(2):
        data = recipe_of(folder / "out" / f"fold_{number}").data
        dataset = validation_set(data, training_set(data).classes)
        for a in dataset.annotations:
            name = a["path"].relative_to(folder / "data").as_posix()
            annotated[name] = {
                (*box, content["classes"][label - 1])
                for box, label in zip(a["boxes"].tolist(), a["labels"], strict=True)
            }
    assert content["boxes"] == sum(map(len, annotated.values()))
    for suspect in suspects:
        assert suspect["kind"] in KINDS and suspect["reason"]
        if suspect["kind"] != "missing":
            assert (*suspect["box"], suspect["label"]) in annotated[suspect["image"]]
    assert "detcenter audit apply" in (folder / "out/audit.html").read_text(encoding="utf-8")
    with (folder / "out/audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, suspect in zip(rows, suspects, strict=True):
        assert row["kind"] == suspect["kind"] and row["image"] == suspect["image"]
        assert float(row["score"]) == pytest.approx(suspect["score"], abs=1e-4)
        box = [float(row[x]) for x in ("x1", "y1", "x2", "y2")]
        assert box == pytest.approx(suspect["box"], abs=0.01)
        assert (row["label"] or None) == suspect["label"]


def test_every_box_is_judged_by_who_has_not_seen_it(audit):
    folder, _ = audit
    seen, held_out = [], []
    for number in range(2):
        path = folder / "out" / f"fold_{number}"
        config = recipe_of(path)
        fold = fold_of(path, config)
        train = training_set(config.data)
        names = [annotation["path"].name for annotation in fold.dataset.annotations]
        held_out += names
        assert not set(names) & {annotation["path"].name for annotation in train.annotations}
        seen.append(fold.witnesses.seen)
        counts = [len(a["labels"]) for a in train.annotations]
        assert seen[-1].sum() == sum(counts)
        assert len(fold.annotated.labels) == len(fold.witnesses.logits)
        assert np.isfinite(fold.witnesses.opinions.neighbours).all()
    assert len(set(held_out)) == len(held_out) == 12


def test_what_is_trained_and_looked_at_is_reused(audit, capsys):
    folder, args = audit
    files = [*(folder / "out").rglob("*.pth"), *(folder / "out").rglob("audit.npz")]
    before = {file: file.stat().st_mtime_ns for file in files}
    first = (folder / "out/audit.json").read_text()
    assert main(args) == 0
    out, _ = capsys.readouterr()
    assert "2 of 2 runs are done" in out and "likely" in out
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert (folder / "out/audit.json").read_text() == first


def test_a_damaged_file_of_a_fold_is_made_again(audit, capsys):
    folder, args = audit
    first = (folder / "out/audit.json").read_text()
    (folder / "out/fold_0/audit.npz").write_bytes(b"PK no more")
    assert main(args) == 0
    assert (folder / "out/audit.json").read_text() == first


def test_annotations_that_have_changed_are_refused(audit, capsys):
    folder, args = audit
    file = next(iter(sorted((folder / "data/Annotations").iterdir())))
    text = file.read_text()
    try:
        file.write_text(text.replace("<xmin>", "<xmin>1", 1))
        line = fails(capsys, *args)
        assert "annotations have changed since" in line and "--output trains anew" in line
    finally:
        file.write_text(text)


@pytest.mark.parametrize(
    "args, said",
    [
        (("--folds", "1"), "--folds 1: there are two or more parts"),
        (("--folds", "13"), "there are 12 images"),
        (("--data.folds", "3"), "data.folds is for a single run"),
        (("--jobs", "none"), "--jobs none: a number of runs"),
        (("--show", "-1"), "show is -1, the least is 0"),
    ],
)
def test_one_line_for_wrong_arguments(audit, args, said, tmp_path, capsys):
    folder, (_, *given) = audit
    line = fails(capsys, "audit", *given, *args, "--output", str(tmp_path / "out"))
    assert said in line


def test_without_a_recipe(capsys):
    assert "--config FILE is missing" in fails(capsys, "audit")


def test_a_class_with_a_single_box(audit, caplog):
    """Whoever judges that box has never seen its class: it is said, and nothing of its label."""
    folder, args = audit
    assert main(args) == 0
    assert re.search(r"all boxes of (.+, )?rare are in it", caplog.text)
    suspects = json.loads((folder / "out/audit.json").read_text())["suspects"]
    assert suspects and not [suspect for suspect in suspects if suspect["label"] == "rare"]


def test_boxes_that_shrink_to_nothing_are_judged_too(audit):
    """A training leaves them out; here they would shift the rows of all that follow."""
    folder, _ = audit
    path = folder / "out/fold_0"
    dataset = fold_of(path, recipe_of(path)).dataset
    model = detector_of(load_checkpoint(path / "last.pth"), path / "last.pth")
    tiny = np.array([[3, 3, 3.2, 3.2]])
    boxes = [np.concatenate([tiny, a["boxes"]]) for a in dataset.annotations]
    logits, features = logits_and_features(dataset, model, boxes, 4, 0)
    assert len(logits) == len(features) == sum(map(len, boxes)) and np.isfinite(logits).all()
    starts = np.cumsum([0, *map(len, boxes[:-1])])
    usual = features_in(dataset, model, 4, 0)
    np.testing.assert_allclose(np.delete(features, starts, 0), usual["features"], atol=1e-4)


def test_packed_data_cannot_be_corrected_which_is_said_first(recipe, tmp_path, capsys, caplog):
    args = ["--data.format", "lmdb", "--data.train", "a", "--data.val", "b", "--folds", "2"]
    args += ["--data.root", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    fails(capsys, "audit", "--config", recipe, *args)
    assert "data.format lmdb: detcenter audit apply corrects no packed data" in caplog.text
