"""What is remembered of images from one run to the next."""

import os
import shutil
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from detcenter.cli import main
from detcenter.data import checks, looks
from detcenter.data.checks import look_at
from detcenter.recipe.datasets import training_set


@pytest.fixture
def decoded(monkeypatch, tmp_path):
    """The names of the files that are decoded, in a cache of this test's own."""
    names, decode = [], checks.decode_image

    def counted(source, name=None):
        names.append(os.path.basename(source if name is None else name))
        return decode(source, name)

    monkeypatch.setattr(checks, "decode_image", counted)
    monkeypatch.setattr(looks, "_SETTLED_NS", 0)
    monkeypatch.setenv("DETCENTER_CACHE", str(tmp_path / "cache"))
    return names


@pytest.fixture
def images(tmp_path):
    """Three sound images: plain, turned by EXIF, of 16 bits."""
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    Image.fromarray(noise).save(folder / "b.jpg", exif=exif)
    Image.fromarray(noise[..., 0].astype(np.uint16) * 16).save(folder / "c.png")
    return [folder / name for name in ("a.png", "b.jpg", "c.png")]


def next_run(paths, **options):
    """As a process does that has looked at nothing yet."""
    checks._looked.clear()
    return look_at(paths, **options)


def test_the_next_run_decodes_nothing_and_knows_the_same(decoded, images):
    first = next_run(images)
    assert sorted(decoded) == ["a.png", "b.jpg", "c.png"]
    again = next_run(images)
    assert again == first and len(decoded) == 3
    assert [*again] == images
    assert first[images[1]].turned and first[images[1]][1:3] == (24, 32)
    assert first[images[2]].highest == 16 * 254 and first[images[0]].highest is None
    assert first[images[0]].brightness == again[images[0]].brightness > 0


def test_the_same_process_decodes_once_without_a_cache(decoded, images, monkeypatch, tmp_path):
    monkeypatch.setenv("DETCENTER_CACHE", "off")
    look_at(images)
    look_at(images)
    assert len(decoded) == 3 and not (tmp_path / "cache").exists()
    next_run(images)
    assert len(decoded) == 6


def change_content(path):
    Image.new("RGB", (8, 6)).save(path)


def change_time(path):
    os.utime(path, ns=(0, 10**18))


def put_another_there(path):
    """Of the same size, and with the same time of change."""
    other, state = path.with_name("other.png"), path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    other.write_bytes(content)
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(other, path)
    assert path.stat().st_size == state.st_size and path.stat().st_mtime_ns == state.st_mtime_ns


@pytest.mark.parametrize("change", [change_content, change_time, put_another_there])
def test_a_file_that_changed_is_decoded_again(change, decoded, images):
    next_run(images)
    decoded.clear()
    change(images[0])
    found = next_run(images)
    assert set(decoded) == {"a.png"}
    assert found[images[0]] == checks._read(images[0], gray=False)


def test_broken_and_missing_files_are_looked_at_in_every_run(decoded, images):
    images[0].write_bytes(images[0].read_bytes()[:200])
    images[2].unlink()
    for _ in range(2):
        decoded.clear()
        found = next_run(images)
        assert found[images[0]].fault and found[images[2]].fault and not found[images[1]].fault
        assert {"a.png", "c.png"} <= set(decoded)
    assert "b.jpg" not in decoded


def test_a_file_that_changed_just_now_is_not_remembered(decoded, images, monkeypatch):
    monkeypatch.setattr(looks, "_SETTLED_NS", 2_000_000_000)
    next_run(images)
    next_run(images)
    assert len(decoded) == 6


def test_check_looks_afresh_and_with_pictures(decoded, images):
    next_run(images)
    next_run(images, afresh=True)
    assert len(decoded) == 6
    pictures = next_run(images, gray=True)
    assert len(decoded) == 9 and pictures[images[0]].gray.shape == (64, 64)
    assert next_run(images)[images[0]].gray is None and len(decoded) == 9


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "a folder", "pickled"])
def test_a_damaged_cache_is_passed_over_and_written_anew(damage, decoded, images, tmp_path):
    first = next_run(images)
    (file,) = (tmp_path / "cache").glob("*.npz")
    content = file.read_bytes()
    place = content.index(b"images/a.png")
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "pickled":
        with file.open("wb") as opened:
            np.savez(opened, version=np.array([{}], dtype=object))
    else:
        flipped = content[:place] + b"J" + content[place + 1 :]
        damaged = {"cut": content[:-400], "flipped": flipped, "empty": b"", "text": b"no archive"}
        file.write_bytes(damaged[damage])
    assert next_run(images) == first and len(decoded) == 6
    if damage != "a folder":
        assert next_run(images) == first and len(decoded) == 6


def test_what_another_decoder_found_is_not_taken_over(decoded, images, monkeypatch):
    next_run(images)
    monkeypatch.setattr(looks, "_VERSION", "1 PIL 99")
    next_run(images)
    assert len(decoded) == 6


def test_a_folder_that_cannot_be_written_is_a_warning(decoded, images, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        assert not next_run(images)[images[0]].fault
    assert "DETCENTER_CACHE names another folder" in caplog.text
    assert len(caplog.records) == 1


def test_images_of_one_folder_are_kept_beside_each_other(decoded, images):
    next_run(images[:2])
    next_run(images[2:])
    assert len(decoded) == 3
    next_run(images)
    assert len(decoded) == 3


def test_a_change_in_one_folder_of_several_is_remembered_too(decoded, images, tmp_path):
    paths = [tmp_path / f"whole/{part}/{path.name}" for part in "xy" for path in images]
    for part in "xy":
        shutil.copytree(images[0].parent, tmp_path / "whole" / part)
    next_run(paths)
    change_content(paths[0])
    next_run(paths)
    assert len(decoded) == 7
    next_run(paths)
    assert len(decoded) == 7


def test_images_that_are_gone_are_forgotten(decoded, images):
    next_run(images)
    images[0].unlink()
    change_content(images[1])
    next_run(images[1:])
    known = looks._read(looks.cache_file(images))
    assert sorted(known) == [str(path) for path in images[1:]]


def test_relative_paths_and_links(decoded, images, tmp_path, monkeypatch):
    link = tmp_path / "links" / "a.png"
    link.parent.mkdir()
    link.symlink_to(images[0])
    monkeypatch.chdir(tmp_path)
    first = next_run([link, *images])
    decoded.clear()
    relative = [path.relative_to(tmp_path) for path in (link, *images)]
    assert [*next_run(relative).values()] == [*first.values()] and not decoded
    link.unlink()
    link.symlink_to(images[2])
    assert next_run([link, *images])[link] == first[images[2]]
    assert decoded == ["a.png"]


def test_two_at_once_leave_a_whole_file(decoded, images):
    def run():
        for _ in range(20):
            states = {path: looks.state_of(path) for path in images}
            found = {path: checks._read(path, False) for path in images}
            looks.remember(file, states, found, 1 << 62)
            assert looks.remembered(file, states).keys() == set(images)

    file, failed = looks.cache_file(images), []
    threads = [threading.Thread(target=lambda: run() or failed.append(0)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 4
    assert [*looks.cache_folder().iterdir()] == [file]


def test_processes_at_once_look_once(images, tmp_path):
    """Each waits for the first, and finds what that found."""
    names = tmp_path / "names"
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            status = 1
            with suppress(BaseException):
                status = look_slowly(images, names)
            os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert sorted(names.read_text().split()) == ["a.png", "b.jpg", "c.png"]


def test_waiting_for_another_process_is_said(images, tmp_path, monkeypatch, caplog):
    """Which may take minutes, or be stopped by Ctrl-Z."""
    monkeypatch.setenv("DETCENTER_CACHE", str(tmp_path / "cache"))
    caplog.set_level("INFO", "detcenter")
    with looks.alone(looks.cache_file(images)):
        assert not caplog.records  # the first waits for nobody
        second = threading.Thread(target=look_at, args=[images])
        second.start()
        for _ in range(500):
            if caplog.records:
                break
            time.sleep(0.01)
        assert second.is_alive()
    second.join()
    assert "waiting for another process, which looks at the same images" in caplog.text


def look_slowly(images, names):
    decode = checks.decode_image

    def slow(source, name):
        with names.open("a") as opened:
            opened.write(f"{name.name}\n")
        time.sleep(0.2)
        return decode(source, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "decode_image", slow)
        patch.setattr(looks, "_SETTLED_NS", 0)
        patch.setenv("DETCENTER_CACHE", str(names.parent / "cache"))
        return 0 if [look.width for look in look_at(images).values()] == [32, 24, 32] else 1


def test_the_least_used_is_deleted_where_there_is_too_much(decoded, images, tmp_path, monkeypatch):
    folders = [tmp_path / f"copy_{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        shutil.copytree(images[0].parent, folder)
        next_run([folder / "a.png"])
        file = looks.cache_file([folder / "a.png"])
        os.utime(file, (number, number))
        size = file.stat().st_size
    next_run([folders[0] / "a.png"])  # is of use again
    monkeypatch.setattr(looks, "MOST_BYTES", 2 * size + 100)
    next_run(images[:1])
    there = {file.name for file in (tmp_path / "cache").glob("*.npz")}
    kept = [folders[0] / "a.png", images[0]]
    assert there == {looks.cache_file([path]).name for path in kept}


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv("DETCENTER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert looks.cache_folder() == tmp_path / "detcenter"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to pass over
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert looks.cache_folder() == tmp_path / "home/.cache/detcenter"
    monkeypatch.setenv("DETCENTER_CACHE", "~/other")
    assert looks.cache_folder() == tmp_path / "home/other"
    monkeypatch.setenv("DETCENTER_CACHE", "off")
    assert looks.cache_folder() is None


def test_check_decodes_what_a_run_remembers(decoded, coco, capsys):
    training_set(coco.config)
    checks._looked.clear()
    training_set(coco.config)
    assert sorted(decoded) == ["a.png", "b.png", "c.png"]
    checks._looked.clear()
    keys = ("format", "root", "train", "val")
    assert main(["check", *(f"--data.{key}={getattr(coco.config, key)}" for key in keys)]) == 0
    assert len(decoded) == 6
