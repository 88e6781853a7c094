"""Frames of images and videos, and which files of a folder are looked at."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detcenter.data import (
    DataError,
    Source,
    files_at,
    frame_numbers,
    frame_rate,
    frames_of,
    read_frames,
    read_image,
    read_video,
    resized,
    sources,
    video_length,
    video_writer,
)
from detcenter.data.transforms import WithinSides, build_transform

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)]
CASES = Path(__file__).parents[3] / "shared/cases/15b-frames"


def plain(colour, size=(20, 10)):
    return Image.new("RGB", size, colour)


def saved(path, **options):
    first, *rest = map(plain, COLOURS)
    first.save(path, save_all=True, append_images=rest, **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_all_frames_are_read_each_as_it_looks(name, tmp_path):
    path = saved(tmp_path / name)
    assert list(frame_numbers(path)) == [0, 1, 2, 3]
    numbers, images = zip(*read_frames(path), strict=True)
    assert numbers == (0, 1, 2, 3)
    for image, colour in zip(images, COLOURS, strict=True):
        assert image.shape == (10, 20, 3) and np.abs(image.astype(int) - colour).max() < 12
    np.testing.assert_array_equal(images[0], read_image(path))
    some = dict(read_frames(path, 3))
    assert list(some) == [0, 3]
    np.testing.assert_array_equal(some[3], images[3])


@pytest.mark.skipif(not CASES.is_dir(), reason="made elsewhere")
@pytest.mark.parametrize("name", ["anim.gif", "multi.tif"])
def test_the_three_frames_of_the_case(name):
    images = [image for _, image in read_frames(CASES / name)]
    assert len(images) == 3
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[1], images[2])


def test_previews_and_masks_are_no_images(tmp_path):
    mpo = tmp_path / "camera.jpg"
    saved(mpo, format="MPO")
    with Image.open(mpo) as image:
        assert image.n_frames == 4
    assert list(frame_numbers(mpo)) == [0] and len(list(read_frames(mpo))) == 1
    with Image.open(saved(tmp_path / "a.tif")) as tiff:
        pages = [frame.copy() for _ in range(4) if not tiff.seek(_) for frame in [tiff]]
    kinds = (1, 0, 4, 0)  # a smaller copy, a page, a mask, a page
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    pages[0].save(
        tmp_path / "b.tif", save_all=True, append_images=pages[1:], tiffinfo={254: kinds[0]}
    )
    assert list(frame_numbers(tmp_path / "b.tif")) == [1, 3]
    assert [number for number, _ in read_frames(tmp_path / "b.tif", 2)] == [1]


def test_pages_are_turned_upright_each_by_itself(tmp_path):
    turned = plain(COLOURS[0])
    turned.encoderinfo = {"tiffinfo": {0x0112: 6}}
    plain(COLOURS[1]).save(tmp_path / "a.tif", save_all=True, append_images=[turned])
    assert [image.shape for _, image in read_frames(tmp_path / "a.tif")] == [
        (10, 20, 3),
        (20, 10, 3),
    ]


@pytest.mark.parametrize(
    "name, first", [("a.gif", "from frame 3 on"), ("a.tif", "from frame 3 on")]
)
def test_frames_before_the_broken_one_are_read(name, first, tmp_path):
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes()[: -20 if name == "a.gif" else -250])
    seen = []
    with pytest.raises(
        DataError, match=rf"{name}: not a readable image \(from frame 3 on: "
    ) as caught:
        for number, _ in read_frames(path):
            seen.append(number)
    assert seen == [0, 1, 2] and str(caught.value).isprintable()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_any_file_cut_short_is_one_line(name, part, tmp_path):
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DataError, match=f"{name}: not a readable") as caught:
        list(read_frames(path))
    assert str(caught.value).isprintable()


def filmed(path, count=8, code="mp4v", rate=10.0, size=(64, 48)):
    """Frame k is gray, 20 k + 40 at first, with a red left half."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), rate, size)
    for k in range(count):
        frame = np.full((size[1], size[0], 3), (20 * k + 40) % 240, np.uint8)
        frame[:, : size[0] // 2] = (0, 0, 250)
        writer.write(frame)
    writer.release()
    return path


VIDEOS = [("a.mp4", "mp4v"), ("a.mov", "mp4v")]
CAN_BE_CUT = [("a.mkv", "mp4v"), ("a.avi", "MJPG"), ("a.webm", "VP80")]  # the header comes first


@pytest.mark.parametrize("name, code", VIDEOS + CAN_BE_CUT)
def test_videos_are_read_frame_by_frame(name, code, tmp_path, capfd):
    path = filmed(tmp_path / name, code=code)
    capfd.readouterr()
    assert video_length(path) == 8 and frame_rate(path) == pytest.approx(10)
    frames = dict(read_video(path))
    assert list(frames) == list(range(8))
    for k, frame in frames.items():
        assert np.abs(frame[:, 40:].astype(int) - (20 * k + 40)).max() < 10
        assert frame[:, :24, 0].min() > 200 and frame[:, :24, 1:].max() < 60  # red comes first
    assert list(dict(read_video(path, 3))) == [0, 3, 6]
    np.testing.assert_array_equal(dict(read_video(path, 3))[6], frames[6])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name, code", CAN_BE_CUT)
def test_a_video_that_ends_early_says_so_after_its_last_frame(name, code, tmp_path, capfd):
    path = filmed(tmp_path / name, count=30, code=code)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    capfd.readouterr()
    seen = []
    with pytest.raises(
        DataError, match=rf"{name}: ends after \d+ of 30 frames; it is cut short"
    ) as e:
        for number, _ in read_video(path):
            seen.append(number)
    assert f"after {len(seen)} of" in str(e.value) and 2 < len(seen) < 22
    assert capfd.readouterr() == ("", "")


def test_a_damaged_video_says_so(tmp_path):
    path = filmed(tmp_path / "a.mp4", count=30)
    content = bytearray(path.read_bytes())
    place = content.index(b"mdat") + 600
    content[place : place + 300] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.mp4: ends after \d+ of 30 frames"):
        list(read_video(path))


def test_a_video_is_turned_upright_as_its_header_says(tmp_path):
    path = filmed(tmp_path / "a.mp4", 2)
    as_it_is = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    content = path.read_bytes()
    place = content.index(as_it_is, content.index(b"tkhd"))
    path.write_bytes(content[:place] + quarter + content[place + len(quarter) :])
    _, frame = next(read_video(path))
    assert frame.shape == (64, 48, 3)  # the red left half is the upper one now
    assert frame[:24, :, 0].min() > 200 and frame[40:, :, 0].max() < 60


def test_what_is_no_video_is_one_line(tmp_path, capfd):
    whole = filmed(tmp_path / "whole.mp4").read_bytes()
    capfd.readouterr()
    for name, content, why in (
        ("text.mp4", b"hello", "no video that OpenCV knows, or cut short"),
        ("cut.mp4", whole[: len(whole) // 2], "no video that OpenCV knows, or cut short"),
        ("empty.mp4", b"", "empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not a readable video \({why}\)"):
            list(read_video(tmp_path / name))
    with pytest.raises(DataError, match=r"none.mp4: No such file"):
        video_length(tmp_path / "none.mp4")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a:b.mp4", "a%03d.mp4", "-x.mp4", "ü é#.mp4"])
def test_names_of_videos_are_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filmed(tmp_path / "a.mp4", 2).rename(name)
    assert len(list(read_video(Path(name)))) == 2


def test_what_is_written_is_read_again(tmp_path):
    frames = [np.full((49, 65, 3), (200, 20 * k, 0), np.uint8) for k in range(5)]
    with video_writer(tmp_path / "a.mp4", 12.5) as write:
        for frame in frames:
            write(frame)
        write(cv2.resize(frames[0], (130, 98)))  # of another size
    assert frame_rate(tmp_path / "a.mp4") == pytest.approx(12.5)
    again = [frame for _, frame in read_video(tmp_path / "a.mp4")]
    assert len(again) == 6 and {frame.shape for frame in again} == {(48, 64, 3)}
    for frame, seen in zip([*frames, frames[0]], again, strict=True):
        assert np.abs(seen.astype(int) - frame[0, 0]).max() < 15


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="made of it")
def test_a_video_on_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "a.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"a.mp4: the video could not be written"):  # noqa: SIM117
        with video_writer(tmp_path / "a.mp4", 10) as write:
            for _ in range(3):
                write(np.zeros((48, 64, 3), np.uint8))


def test_a_folder_gives_all_below_it_with_its_sub_folders(tmp_path):
    root, out = tmp_path / "photos", tmp_path / "photos/a/out"
    for name in (
        "b.jpg",
        "a/b.jpg",
        "a/c/v.MP4",
        "a/out/b.png",
        ".hidden/x.jpg",
        "a/._b.jpg",
        "n.txt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "a/loop").symlink_to(root)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/y.gif").touch()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    found = {name: path for path, name in files_at(root, leave_out=out)}
    assert list(found) == ["a/b", "a/c/v", "b", "linked/y"]
    assert found["a/c/v"] == root / "a/c/v.MP4"
    assert "a/out/b" in {name for _, name in files_at(root)}
    assert [name for _, name in files_at(out, leave_out=out)] == ["b"]  # asked for itself
    with pytest.raises(DataError, match="none: no such image, video or folder"):
        list(files_at(tmp_path / "none"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"nothing: no images or videos \(.bmp, "):
        list(files_at(tmp_path / "nothing"))


def test_every_source_has_a_name_of_its_own(tmp_path):
    single = saved_single(tmp_path / "a.jpg")
    many = saved(tmp_path / "a.gif")

    def names(*pairs):
        return [source.name for source in sources(pairs)]

    assert names((single, "a"), (single, "b"), (single, "a"), (many, "a")) == [
        "a",
        "b",
        "a-2",
        "a-3",
    ]
    assert names((single, "x_000001"), (single, "x_000002"), (single, "x")) == [
        "x_000001", "x_000002", "x",
    ]  # fmt: skip
    # A frame of x would be called as the image is.
    assert names((many, "x"), (single, "x_000001")) == ["x", "x_000001-2"]
    assert names((single, "x_000001"), (many, "x")) == ["x_000001", "x-2"]


def saved_single(path):
    plain(COLOURS[0]).save(path)
    return path


def test_frames_of_a_source_are_numbered_unless_there_is_one(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [
        saved_single(tmp_path / "a.png"),
        saved(tmp_path / "b.gif"),
        filmed(tmp_path / "c.mp4", 1),
    ]
    faults = []
    found = list(sources(((p, p.stem) for p in [tmp_path / "broken.png", *files]), faults))
    assert [s.frames for s in found] == [1, 4, 1] and "broken.png" in str(faults[0])
    numbers = [[number for number, _ in frames_of(source)] for source in found]
    assert numbers == [[None], [0, 1, 2, 3], [0]]
    assert [number for number, _ in frames_of(found[1], every=2)] == [0, 2]
    with pytest.raises(DataError, match="broken.png"):
        list(sources([(tmp_path / "broken.png", "broken")]))
    assert Source(Path("x.MP4"), "x", None).is_video


@pytest.mark.parametrize("size", [(32, 48), (200, 150), WithinSides(40, 60), WithinSides(300, 400)])
def test_resized_is_what_training_does_without_augmentation(size):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    expected, _, _ = build_transform(size, "none")(image, *none)
    fixed = size.size_of(120, 90) if isinstance(size, WithinSides) else size
    np.testing.assert_array_equal(resized(image, fixed), expected)
