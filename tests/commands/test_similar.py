"""`detcenter similar`: what is nearest, what is kept, what is measured, and what it says."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import detcenter
from detcenter import box_features
from detcenter.analysis import retrieval
from detcenter.cli import main
from detcenter.commands import similar as module
from detcenter.data import VOCDataset
from detcenter.runs import similar as searching
from detcenter.runs.features import part_features, unit
from detcenter.training import load_checkpoint, save_checkpoint
from tests.command_line import fails

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def train(data):
    return VOCDataset(data, "train", [str(digit) for digit in range(10)])


@pytest.fixture(scope="module")
def index(run, tmp_path_factory):
    """Kept by the first query that a test asks."""
    return tmp_path_factory.mktemp("index") / "kept"


@pytest.fixture
def similar(run, index, tmp_path):
    """Run the command and give back what it wrote."""

    def run_it(*args, checkpoint=run / "last.pth"):
        fixed = ["--checkpoint", checkpoint, "--index", index, "--output", tmp_path / "out"]
        assert main(["similar", *map(str, (*fixed, *args))]) == 0
        return json.loads((tmp_path / "out" / "similar.json").read_text())

    return run_it


def words(box):
    return ",".join(map(str, box.tolist()))


def test_the_nearest_boxes_are_those_of_a_loop(similar, run, train, data):
    """With features taken from the model by hand, of an image that is not searched."""
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    box = np.array([20.5, 30, 70, 90])
    (query,) = similar(path, words(box), "--nearest", 7)["queries"]
    model = detcenter.load(run / "last.pth", "cpu")
    found = part_features(train, model, 0)
    image = Image.open(path).resize((64, 64), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.asarray(image) / 255).float().permute(2, 0, 1)
    (feature,) = box_features(model, [pixels], [torch.tensor([box.tolist()]) * 64 / 160])
    cosine = unit(found["features"]) @ unit(feature.numpy())[0]
    got = query["neighbours"]
    # the image is rounded to whole bytes in another way
    closeness = [neighbour["similarity"] for neighbour in got]
    assert closeness == sorted(closeness, reverse=True)
    np.testing.assert_allclose(closeness, np.sort(cosine)[::-1][:7], atol=0.01)
    for neighbour in got:
        row = np.flatnonzero((found["boxes"] == np.float32(neighbour["box"])).all(axis=1))
        image = {str(train.annotations[i]["path"].relative_to(data)) for i in found["images"][row]}
        assert neighbour["image"] in image and neighbour["relation"] is None
        assert int(neighbour["class"]) + 1 == neighbour["label"] in found["labels"][row]
        assert abs(cosine[row] - neighbour["similarity"]).min() < 0.01
    assert query["box"] == box.tolist() and query["annotated"] is query["detected"] is None


def test_a_box_of_the_data_set_is_not_its_own_neighbour(similar, train, tmp_path, capsys):
    annotation = train.annotations[2]
    box = annotation["boxes"][0]
    asked = words(box + [0.4, -0.3, -0.2, 0.4])
    name = str(annotation["labels"][0] - 1)
    shutil.copy(annotation["path"], tmp_path / "copy.jpg")
    (query,) = similar(annotation["path"], asked)["queries"]
    assert query["annotated"] == name
    of_image = [x["box"] for x in query["neighbours"] if x["relation"] == "same image"]
    assert box.tolist() not in of_image
    others = [x for x in query["neighbours"] if x["relation"] != "same image"]
    assert others and not any(x["relation"] for x in others)
    (copied,) = similar(tmp_path / "copy.jpg", asked)["queries"]
    assert copied["annotated"] is None
    nearest = copied["neighbours"][0]
    assert nearest["box"] == box.tolist() and nearest["relation"] == "copy of the image"
    assert nearest["similarity"] > 0.98 and nearest["class"] == name
    assert "copy of the image" in capsys.readouterr().out


def test_what_roboflow_made_of_one_image_is_a_copy(tmp_path, train):
    one, other = tmp_path / "a_jpg.rf.123.jpg", tmp_path / "b" / "a_jpg.rf.456.jpg"
    other.parent.mkdir()
    for k, path in enumerate((one, other)):
        Image.new("RGB", (8, 8), (200 * k, 0, 0)).save(path)

    class Some:
        def source(self, place):
            return [other, one.read_bytes(), train.annotations[0]["path"]][place], other

    assert searching._is_copy(one, Some(), 0)
    plain = tmp_path / "plain.jpg"
    shutil.copy(one, plain)
    assert not searching._is_copy(plain, Some(), 0)
    assert searching._is_copy(plain, Some(), 1) and not searching._is_copy(plain, Some(), 2)


def test_without_a_box_all_detections_are_queries(similar, run, data):
    path = sorted((data / "JPEGImages").glob("val*"))[1]
    (found,) = detcenter.predict(detcenter.load(run / "last.pth"), path)
    boxes, labels, scores = (found.detection[key] for key in ("boxes", "labels", "scores"))
    order = scores.argsort(descending=True, stable=True)
    for limit in (0.0, float(scores[order[1]])):
        queries = similar(path, "--score", limit, "--nearest", 3)["queries"]
        expected = order[scores[order] >= limit]
        assert [query["score"] for query in queries] == scores[expected].tolist()
        assert [int(query["detected"]) + 1 for query in queries] == labels[expected].tolist()
        asked = np.array([query["box"] for query in queries])
        np.testing.assert_allclose(asked, boxes[expected].numpy(), atol=0.001)
        assert {len(query["neighbours"]) for query in queries} == {3}


def test_an_index_is_taken_once_and_grows_by_other_parts(
    similar, index, data, run, monkeypatch, tmp_path, capsys
):
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    boxes = ["1,2,30,40", "20,20,60,70"]
    before = similar(path, *boxes)
    passes = []
    real = searching.part_features

    def counted(dataset, *rest):
        passes.append(len(dataset))
        return real(dataset, *rest)

    monkeypatch.setattr(searching, "part_features", counted)
    assert similar(path, *boxes) == before and passes == []
    both = similar(path, *boxes, "--part", "both")
    assert passes == [4] and both["parts"] == ["train", "val"]
    assert both["boxes"] > before["boxes"]
    assert similar(path, *boxes, "--part", "val")["parts"] == ["val"] and passes == [4]
    assert similar(path, *boxes) == before and passes == [4]
    shutil.rmtree(index)  # and without one, nothing is kept
    args = ["--checkpoint", run / "last.pth", "--output", tmp_path / "out", path, *boxes]
    assert main(["similar", *map(str, args)]) == 0
    assert json.loads((tmp_path / "out" / "similar.json").read_text()) == before
    assert passes == [4, 8] and not index.exists()


def test_the_file_of_features_is_an_index(run, data, similar, index, tmp_path, monkeypatch):
    args = ["--checkpoint", run / "last.pth", "--output", tmp_path / "f", "--part", "both"]
    assert main(["features", *map(str, args)]) == 0
    monkeypatch.setattr(searching, "part_features", None)
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    similar(path, "1,2,30,40", "--index", tmp_path / "f", "--part", "both")


def test_it_measures(run, data, tmp_path, capsys):
    fixed = ["--checkpoint", run / "last.pth", "--output", tmp_path]
    assert main(["similar", *map(str, fixed), "--measure"]) == 0
    captured = capsys.readouterr()
    result = json.loads((tmp_path / "retrieval.json").read_text())
    model, classes = detcenter.load(run / "last.pth"), [str(digit) for digit in range(10)]
    parts = {
        part: part_features(VOCDataset(data, part, classes), model, 0) for part in ("train", "val")
    }
    features = {part: (unit(x["features"]), x["labels"]) for part, x in parts.items()}
    expected = retrieval(*features["val"], *features["train"], classes)
    assert {key: result[key] for key in expected} == json.loads(json.dumps(expected))
    heading = ["class", "queries", "boxes", "P@1", "P@10", "AP", "chance"]
    assert captured.out.splitlines()[0].split() == heading
    missing = [name for name, row in expected["by_class"].items() if not row["queries"]]
    assert missing and f"no box in data.val: {', '.join(missing)}" in captured.err


def without_term(run, tmp_path):
    checkpoint = load_checkpoint(run / "last.pth")
    weights = {k: x for k, x in checkpoint["model"].items() if not k.startswith("box_terms")}
    config = checkpoint["config"] | {"center": None}
    save_checkpoint(tmp_path / "plain.pth", **checkpoint | {"model": weights, "config": config})
    return tmp_path / "plain.pth"


def test_a_checkpoint_without_a_term(run, data, tmp_path, capsys):
    """Its own vectors are compared, which differ from those of the embedding in their width."""
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    plain = without_term(run, tmp_path)
    args = ["--checkpoint", plain, "--output", tmp_path, "--index", tmp_path / "i"]
    assert main(["similar", *map(str, args), str(path), "1,2,30,40"]) == 0
    assert "own vectors (the checkpoint has no term)" in capsys.readouterr().out
    values = json.loads((tmp_path / "similar.json").read_text())
    assert values["term"] is None and values["measure"] == "cosine"
    with np.load(tmp_path / "i" / "features.npz") as kept:
        assert "centers" not in kept and kept["term"] == "" and not kept["embedded"]
    assert "no term 'center' is attached" in fails(
        capsys, "similar", *args, path, "1,2,3,4", "--term", "center"
    )
    other = ["similar", "--checkpoint", run / "last.pth", *args[2:], path, "1,2,30,40"]
    assert "is of another checkpoint; delete" in fails(capsys, *other)


def test_off_the_sphere_distances_are_measured(run, data, tmp_path, monkeypatch):
    for place in ("detcenter.runs.similar", "detcenter.runs.features"):
        monkeypatch.setattr(f"{place}.measures_on_sphere", lambda *_: False)
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    args = ["--checkpoint", run / "last.pth", "--output", tmp_path, path, "1,2,30,40"]
    assert main(["similar", *map(str, args)]) == 0
    values = json.loads((tmp_path / "similar.json").read_text())
    distances = [x["distance"] for x in values["queries"][0]["neighbours"]]
    assert values["measure"] == "distance" and distances == sorted(distances) and distances[0] > 0


def test_boxes_that_a_person_may_get_wrong(run, data, tmp_path, capsys):
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    args = ["similar", "--checkpoint", run / "last.pth", "--output", tmp_path / "out"]
    for box, said in {
        "1,2,3": "four numbers are due, x1,y1,x2,y2",
        "a,2,3,4": "four numbers are due",
        "nan,2,3,4": "four numbers are due",
        "10,10,5,20": "BOX 10,10,5,20 has no area",
        "100,100,161,120": "BOX 100,100,161,120 reaches out of",
        "-5,2,10,10": "BOX -5,2,10,10 reaches out of the image",
    }.items():
        assert said in fails(capsys, *args, path, box)
    assert "160x160 pixels" in fails(capsys, *args, path, "0,0,20,500")
    assert not (tmp_path / "out").exists()


def test_images_that_a_person_may_get_wrong(run, data, tmp_path, monkeypatch, capsys):
    args = ["similar", "--checkpoint", run / "last.pth", "--output", tmp_path / "out"]
    (tmp_path / "note.jpg").write_text("no image")
    assert "not a readable image" in fails(capsys, *args, tmp_path / "note.jpg", "1,2,3,4")
    assert f"{tmp_path / 'gone.jpg'}: no such image" in fails(capsys, *args, tmp_path / "gone.jpg")
    assert "no such image" in fails(capsys, *args, tmp_path)
    assert "an image is missing" in fails(capsys, *args)
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    assert "leave the image out" in fails(capsys, *args, path, "--measure")
    monkeypatch.setattr(module, "detected_boxes", lambda *_: [])
    assert "nothing is detected with a score of 0.9 or more; give a BOX" in fails(
        capsys, *args, path, "--score", 0.9
    )


def test_options_that_a_person_may_get_wrong(run, data, tmp_path, capsys):
    path = sorted((data / "JPEGImages").glob("val*"))[0]
    args = ["similar", "--checkpoint", run / "last.pth", "--output", tmp_path / "out", path]
    assert "--part is one of train, val, both" in fails(capsys, *args, "--part", "test")
    assert "--nearest is 0, the least is 1" in fails(capsys, *args, "--nearest", 0)
    assert "--score is a number from 0 to 1" in fails(capsys, *args, "--score", 2)
    assert "no term 'rank' is attached" in fails(capsys, *args, "1,2,3,4", "--term", "rank")
    assert "checkpoint" in fails(capsys, "similar", path)
    assert "not a readable checkpoint" in fails(capsys, "similar", "--checkpoint", path, path)


def test_an_index_that_does_not_fit(run, data, tmp_path, capsys):
    root, index = tmp_path / "data", tmp_path / "index"
    shutil.copytree(data, root)
    path = sorted((root / "JPEGImages").glob("val*"))[0]
    args = ["similar", "--checkpoint", run / "last.pth", "--output", tmp_path / "out"]
    args += ["--data.root", root, "--index", index, path, "1,2,30,40"]
    assert main([str(arg) for arg in args]) == 0
    kept = (index / "features.npz").read_bytes()
    picture = sorted((root / "JPEGImages").glob("train*"))[0]
    Image.new("RGB", (160, 160)).save(picture)
    assert "data.train is not what it was made of; delete" in fails(capsys, *args)
    assert (index / "features.npz").read_bytes() == kept
    shutil.copy(data / "JPEGImages" / picture.name, picture)
    with np.load(index / "features.npz") as arrays:
        values = dict(arrays)
    np.savez(index / "features.npz", **values | {"term": np.array("rank")})
    assert "has what the term 'rank' reads; delete" in fails(capsys, *args)
    np.savez(index / "features.npz", **{k: x for k, x in values.items() if k != "parts"})
    assert "features.npz is of another version of detcenter" in fails(capsys, *args)
    (index / "features.npz").write_bytes(kept[:1000])
    assert "features.npz is damaged" in fails(capsys, *args)
    (index / "features.npz").write_bytes(kept)
    shutil.move(root, tmp_path / "moved")  # which changes nothing
    moved = [str(arg).replace(str(root), str(tmp_path / "moved")) for arg in args]
    assert main(moved) == 0 and (index / "features.npz").read_bytes() == kept


def test_a_class_with_one_box_and_no_boxes_at_all(run, data, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(data, root)
    first, *others = sorted((root / "Annotations").glob("train*"))
    for file in others:
        file.write_text(
            file.read_text()
            .replace("<name>", "<name>1</name><was>")
            .replace("</name>\n", "</was>\n")
        )
    text = first.read_text()
    head, _, rest = text.partition("<object>")
    one, _, _ = rest.partition("</object>")
    one = one[: one.index("<name>")] + "<name>7</name>" + one[one.index("</name>") + 7 :]
    first.write_text(f"{head}<object>{one}</object></annotation>")
    corners = [one.split(f"<{x}>")[1].split("<")[0] for x in ("xmin", "ymin", "xmax", "ymax")]
    image = root / "JPEGImages" / f"{first.stem}.jpg"
    args = ["similar", "--checkpoint", run / "last.pth", "--output", tmp_path / "out"]
    args += ["--data.root", root, "--data.format", "voc", image]
    assert main([str(arg) for arg in [*args, ",".join(corners)]]) == 0
    assert "no other box of its class 7 is searched" in capsys.readouterr().err
    for file in (first, *others):
        head, _, _ = file.read_text().partition("<object>")
        file.write_text(f"{head}</annotation>")
    assert "data.train: no boxes to search in" in fails(capsys, *args, "1,2,30,40")


def test_without_jinja2_there_is_no_page(similar, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    similar(sorted((data / "JPEGImages").glob("val*"))[0], "1,2,30,40")
    assert "pip install 'detcenter[report]'" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["similar.json"]
