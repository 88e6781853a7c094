"""One LMDB file against the folder that it was packed from."""

import json
import multiprocessing
import pickle
import sys

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from detcenter.data import (
    COCODataset,
    DataError,
    LMDBDataset,
    VOCDataset,
    lmdb_file,
    make_digits,
    write_lmdb,
)

OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


def noise(path, width=40, height=30, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def voc(root):
    pages = {
        "one": OBJECT.format("dog", 0, 1, 1, 20.5, 30) + OBJECT.format("cat", 1, 11, 6, 20, 15),
        "zwölf": OBJECT.format("ant", 0, 3, 4, 5, 6),
        "none": "",
    }
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for seed, (name, objects) in enumerate(pages.items()):
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
        noise(root / "JPEGImages" / f"{name}.{'png' if name == 'none' else 'jpg'}", seed=seed)
    (root / "ImageSets" / "Main" / "train.txt").write_text("zwölf\none\nnone\n", encoding="utf-8")
    (root / "ImageSets" / "Main" / "val.txt").write_text("one\n")
    return {"train": VOCDataset(root, "train"), "val": VOCDataset(root, "val")}


def coco(root):
    boxes = [
        (30, 90, [0.1, 1 / 3, 10.7, 20], 120.5, 0),
        (30, 0, [5, 5, 20.5, 10], 1e-30, 1),
        (4, 7, [30, 20, 100, 100], None, 0),
    ]
    names = {30: "deep/sub/a.png", 4: "b.jpg", 0: "deep/a.png"}
    for seed, name in enumerate(names.values()):
        noise(root / "images" / name, 50, 44, seed)
    content = {
        "images": [{"id": i, "file_name": n} for i, n in names.items()],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": box, "area": area, "iscrowd": crowd}
            for n, (i, k, box, area, crowd) in enumerate(boxes)
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in (90, 0, 7)],
    }
    (root / "train.json").write_text(json.dumps(content))
    content["images"] = content["images"][:1]
    content["annotations"] = content["annotations"][:2]
    (root / "val.json").write_text(json.dumps(content))
    return {n: COCODataset(root / "images", root / n) for n in ("train.json", "val.json")}


def digits(root):
    make_digits(root, train=3, val=2)
    return {"train": VOCDataset(root, "train"), "val": VOCDataset(root, "val")}


@pytest.fixture(params=[voc, coco, digits], ids=lambda make: make.__name__)
def parts(request, tmp_path):
    return request.param(tmp_path / "set")


@pytest.fixture
def file(parts, tmp_path):
    write_lmdb(tmp_path / "data.lmdb", parts, tmp_path / "set")
    return tmp_path / "data.lmdb"


def assert_same(a, b):
    assert a.keys() - {"file"} == b.keys() - {"file"}
    for key in a.keys() - {"path", "file"}:
        one, other = np.asarray(a[key]), np.asarray(b[key])
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def assert_same_items(a, b):
    assert len(a) == len(b) > 0
    for (image, target), (other_image, other_target) in zip(a, b, strict=True):
        assert torch.equal(image, other_image)
        assert_same(target, other_target)


def test_annotations_are_those_of_the_folder(parts, file, tmp_path):
    for name, part in parts.items():
        read = LMDBDataset(file, name)
        assert read.classes == part.classes and read.category_ids == part.category_ids
        assert len(read) == len(part)
        for a, b in zip(read.annotations, part.annotations, strict=True):
            assert_same(a, b)
            assert a["path"].relative_to(file) == b["path"].relative_to(tmp_path / "set")


@pytest.mark.parametrize("workers", [0, 2])
def test_items_are_those_of_the_folder_also_after_a_fork(parts, file, workers):
    context = multiprocessing.get_context("fork") if workers else None
    for name, part in parts.items():
        read = LMDBDataset(file, name)
        np.testing.assert_array_equal(read.image(0), part.image(0))  # open before the fork
        loader = DataLoader(
            read,
            None,
            num_workers=workers,
            multiprocessing_context=context,
            persistent_workers=False,
        )
        assert_same_items(list(loader), part)
        np.testing.assert_array_equal(read.image(0), part.image(0))  # and after it


@pytest.fixture
def small(tmp_path):
    """VOC's parts and their file."""
    parts = voc(tmp_path / "set")
    write_lmdb(tmp_path / "data.lmdb", parts, tmp_path / "set")
    return parts, tmp_path / "data.lmdb"


@pytest.mark.slow
def test_a_spawned_worker_opens_the_file_itself(small):
    parts, file = small
    read = LMDBDataset(file)
    read.image(0)
    loader = DataLoader(read, None, num_workers=1, multiprocessing_context="spawn")
    assert_same_items(list(loader), parts["train"])


def test_a_pickled_data_set_reads_on(small):
    parts, file = small
    read = LMDBDataset(file)
    read.image(0)
    assert_same_items(pickle.loads(pickle.dumps(read)), parts["train"])


@pytest.mark.parametrize("keep_difficult", [False, True])
def test_difficult_objects_are_kept_or_not_in_reading(small, tmp_path, keep_difficult):
    read = LMDBDataset(small[1], keep_difficult=keep_difficult)
    original = VOCDataset(tmp_path / "set", "train", keep_difficult=keep_difficult)
    assert_same_items(read, original)


def test_images_are_the_files_byte_by_byte_and_equal_ones_are_there_once(small, tmp_path):
    environment = lmdb.open(str(small[1]), subdir=False, readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        stored = [value for key, value in transaction.cursor() if key.startswith(b"image:")]
    files = [path.read_bytes() for path in (tmp_path / "set" / "JPEGImages").iterdir()]
    assert len(files) == 3 and sorted(stored) == sorted(files)  # one is in train and in val


def test_the_map_grows_with_what_is_put_in(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_file, "_MAP_SIZE", 1 << 14)
    parts = digits(tmp_path / "set")
    write_lmdb(tmp_path / "data.lmdb", parts, tmp_path / "set")
    assert (tmp_path / "data.lmdb").stat().st_size > 1 << 16
    assert_same_items(LMDBDataset(tmp_path / "data.lmdb", "val"), parts["val"])


def test_what_is_stopped_leaves_what_was_there(small, tmp_path):
    def stop(files):
        yield from files[:1]
        raise KeyboardInterrupt

    parts, file = small
    before = file.read_bytes()
    for output in (file, tmp_path / "new.lmdb"):
        with pytest.raises(KeyboardInterrupt):
            write_lmdb(output, parts, tmp_path / "set", progress=stop)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"set", "data.lmdb"}


def test_a_file_packed_anew_gives_no_other_images(small, tmp_path):
    parts, file = small
    read = LMDBDataset(file, "val")
    read.image(0)
    noise(tmp_path / "set" / "JPEGImages" / "one.jpg", seed=9)
    write_lmdb(file, parts, tmp_path / "set")
    with pytest.raises(DataError, match="packed anew") as caught:
        read.image(0)
    assert str(file / "JPEGImages" / "one.jpg") in str(caught.value)
    assert_same_items(LMDBDataset(file, "val"), parts["val"])


def test_a_broken_image_is_named_with_its_file(small, tmp_path):
    parts, file = small
    image = tmp_path / "set" / "JPEGImages" / "one.jpg"
    image.write_bytes(image.read_bytes()[:100])
    write_lmdb(file, parts, tmp_path / "set")
    with pytest.raises(DataError, match="not a readable image") as caught:
        LMDBDataset(file, "val")[0]
    assert str(file / "JPEGImages" / "one.jpg") in str(caught.value)


def error(path, part="train"):
    with pytest.raises(DataError) as caught:
        LMDBDataset(path, part)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_an_unknown_part(small):
    assert "no part 'tset'; it holds train, val" in error(small[1], "tset")


def test_no_such_file(tmp_path):
    assert "no such file; detcenter pack writes it" in error(tmp_path / "none.lmdb")
    assert "is a folder" in error(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an LMDB file\n" * 1000], ids=["empty", "text"])
def test_no_lmdb(tmp_path, content):
    (tmp_path / "a.lmdb").write_bytes(content)
    assert "not readable as an LMDB file" in error(tmp_path / "a.lmdb")


def test_a_file_that_is_cut_short(small):
    content = small[1].read_bytes()
    for size in (len(content) - 4096, len(content) // 2, 3 * 4096):
        small[1].with_name(f"{size}.lmdb").write_bytes(content[:size])
        assert "cut short" in error(small[1].with_name(f"{size}.lmdb"))


@pytest.mark.parametrize(
    "values, said",
    [
        ({}, "no data set"),
        ({"detcenter": "{"}, "damaged"),
        ({"detcenter": '{"version": 2}'}, "version 2 of the layout, this reads 1; pack"),
        ({"detcenter": '{"version": 1, "parts": ["train"]}'}, "damaged"),
        ({"detcenter": '{"version": 1, "parts": ["train"]}', "part:0": "{}"}, "damaged"),
    ],
)
def test_an_lmdb_of_other_content(tmp_path, values, said):
    path = tmp_path / "a.lmdb"
    environment = lmdb.open(str(path), subdir=False, lock=False)
    with environment, environment.begin(write=True) as transaction:
        transaction.put(b"other", b"")
        for key, value in values.items():
            transaction.put(key.encode(), value.encode())
    assert said in error(path)


def test_without_lmdb_it_says_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    for use in (lambda: LMDBDataset(small[1]), lambda: write_lmdb(tmp_path / "b", {}, tmp_path)):
        with pytest.raises(DataError, match=r'pip install "detcenter\[lmdb\]"'):
            use()
