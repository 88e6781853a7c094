"""Images that are decoded once against the same decoded every time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from detcenter.data import (
    DetectionDataset,
    LMDBDataset,
    PooledDataset,
    VOCDataset,
    fitting,
    kept,
    kept_images,
    make_digits,
    write_lmdb,
)

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def root(tmp_path):
    make_digits(tmp_path / "digits", train=3, val=2)
    return tmp_path / "digits"


def keep_all(dataset, folder):
    versions = [dataset.decoding(i)[0] for i in range(len(dataset))]
    assert len(set(versions)) == len(dataset)
    dataset.keep(folder, versions)
    return dataset


def names(folder):
    return {path.name for path in folder.iterdir()} - {"lock"}


def assert_same_items(a, b):
    assert len(a) == len(b) > 0
    for (image, target), (other, other_target) in zip(a, b, strict=True):
        assert image.dtype == torch.uint8 and torch.equal(image, other)
        assert all(torch.equal(target[k], other_target[k]) for k in ("boxes", "labels"))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded in this process."""
    seen, read = [], DetectionDataset.image

    def image(self, index):
        seen.append(self.annotations[index]["path"].name)
        return read(self, index)

    monkeypatch.setattr(DetectionDataset, "image", image)
    return seen


def test_every_image_is_decoded_once_and_items_stay_the_same(root, decoded):
    plain, cached = VOCDataset(root, "train"), VOCDataset(root, "train")
    expected = list(plain)
    decoded.clear()
    with kept_images() as folder:
        keep_all(cached, folder)
        for _ in range(3):
            assert_same_items(cached, expected)
        assert len(decoded) == 3 and len(names(folder)) == 3


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_read_what_others_have_kept(root, method):
    plain = VOCDataset(root, "train")
    expected = list(plain)
    with kept_images() as folder:
        cached = keep_all(VOCDataset(root, "train"), folder)
        context = multiprocessing.get_context(method)
        loader = DataLoader(cached, None, num_workers=2, multiprocessing_context=context)
        assert_same_items(list(loader), expected)
        assert len(names(folder)) == 3  # put there by the workers
        for file in folder.iterdir():
            if file.name != "lock":
                file.write_bytes(file.read_bytes()[:12] + bytes(file.stat().st_size - 12))
        assert all(not image.any() for image, _ in loader)  # it is these files that they read


def test_packed_and_pooled_data_sets(root, tmp_path):
    parts = {name: VOCDataset(root, name) for name in ("train", "val")}
    write_lmdb(tmp_path / "packed", parts, root)
    pooled = PooledDataset(list(parts.values()), [4, 0])
    with kept_images() as folder:
        for _ in range(2):
            cached = keep_all(LMDBDataset(tmp_path / "packed", "train"), folder)
            assert_same_items(cached, parts["train"])
            cached = keep_all(PooledDataset(list(parts.values()), [4, 0]), folder)
            assert_same_items(cached, pooled)
        assert len(names(folder)) == 3 + 2


def test_an_image_that_changes_is_decoded_anew(root, decoded):
    with kept_images() as folder:
        cached = keep_all(VOCDataset(root, "train"), folder)
        list(cached)
        path = cached.annotations[1]["path"]
        Image.new("RGB", (160, 160), (9, 8, 7)).save(path, "PNG")
        decoded.clear()
        image, _ = cached[1]
        assert image[:, 0, 0].tolist() == [9, 8, 7] and decoded == [path.name]
        again = keep_all(VOCDataset(root, "train"), folder)
        assert again[1][0][:, 0, 0].tolist() == [9, 8, 7]


def test_what_a_transform_does_to_an_image_stays_its_own(root):
    def blackened(image, boxes, labels):
        image[:] = 0
        return image, boxes, labels

    with kept_images() as folder:
        cached = keep_all(VOCDataset(root, "train"), folder)
        expected = list(cached)
        cached.transform = blackened
        assert not cached[0][0].any()
        cached.transform = None
        assert_same_items(cached, expected)


def test_only_as_many_as_there_is_room_for(root, monkeypatch):
    monkeypatch.setattr(kept, "room_in", lambda folder: 250)
    with kept_images() as folder:
        sizes = [("a", 100), ("b", 200), ("c", 150), ("a", 100)]
        assert fitting(folder, sizes) == ({"a", "c"}, 250, 450)
        kept.file_of(folder, "b").touch()  # another run has it
        assert fitting(folder, sizes) == ({"a", "b", "c"}, 450, 450)


def test_the_room_is_half_of_what_is_free_also_in_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_CONTAINER", tmp_path / "none")
    free = kept.psutil.virtual_memory().available
    disk = kept.shutil.disk_usage(tmp_path).free
    assert kept.room_in(tmp_path) == pytest.approx(min(free, disk) / 2, rel=0.2)
    monkeypatch.setattr(kept, "_CONTAINER", tmp_path)
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("5000\n")
    assert kept.room_in(tmp_path) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert kept.room_in(tmp_path) > 2000


def test_full_memory_is_no_error(root, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.Path, "replace", full)
    with kept_images() as folder:
        cached = keep_all(VOCDataset(root, "train"), folder)
        assert_same_items(cached, VOCDataset(root, "train"))
        assert not names(folder)


def test_the_last_that_leaves_takes_the_images_along(root):
    with kept_images() as folder:
        with kept_images() as same:
            list(keep_all(VOCDataset(root, "train"), same))
        assert folder == same and len(names(folder)) == 3
    assert not names(folder)


HOLDS = """
import sys, time
from pathlib import Path
from detcenter.data import kept
kept._place = lambda: Path(sys.argv[1])
with kept.kept_images() as folder:
    (folder / "image").touch()
    (folder / "half.123").touch()
    print(flush=True)
    time.sleep(30)
"""


def test_what_a_killed_process_leaves_the_next_removes(place):
    process = subprocess.Popen([sys.executable, "-c", HOLDS, place], stdout=subprocess.PIPE)
    process.stdout.readline()
    with kept_images() as folder:
        assert names(folder) == {"image", "half.123"}  # it is still there
    assert names(folder) == {"image", "half.123"}
    process.send_signal(signal.SIGKILL)
    process.wait()
    with kept_images() as folder:
        assert not names(folder)


def test_a_loading_process_that_outlives_its_run_locks_nobody_out():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    with kept_images() as folder:
        process.start()
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        process.kill()
        process.join()


def test_a_folder_of_somebody_else_is_not_taken(place):
    (place / "elsewhere").mkdir()
    (place / f"detcenter-images-{os.getuid()}").symlink_to(place / "elsewhere")
    with pytest.raises(ValueError, match="somebody else"), kept_images():
        pass


def test_a_missing_image_is_said_as_without(root):
    with kept_images() as folder:
        cached = keep_all(VOCDataset(root, "train"), folder)
        cached.annotations[0]["path"].unlink()
        with pytest.raises(ValueError, match="image file not found"):
            cached[0]


def test_arrays_are_what_was_read():
    with kept_images() as folder:
        image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
        for read in (lambda: (image, 4), lambda: pytest.fail("read twice")):
            found, number = kept.kept(folder, "a", read)
            assert found.dtype == np.uint8 and np.array_equal(found, image) and number == 4
