import struct

import numpy as np
import pytest
from PIL import Image

from detcenter.data import DataError, image_size, read_image

GRAY = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)  # width 3, height 2
RGB_GRAY = np.repeat(GRAY[..., None], 3, axis=2)
ORIENTATION = 0x0112


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA"])
def test_gray_in_any_opaque_mode(tmp_path, mode):
    path = saved(tmp_path / "a.png", Image.fromarray(GRAY).convert(mode))
    with Image.open(path) as image:
        assert image.mode == mode  # the file really has it
    np.testing.assert_array_equal(read_image(path), RGB_GRAY)


def test_bilevel(tmp_path):
    path = saved(
        tmp_path / "a.png", Image.fromarray(GRAY).point(lambda v: 255 * (v > 127)).convert("1")
    )
    np.testing.assert_array_equal(read_image(path)[..., 1], [[0, 0, 0], [255, 255, 255]])


def test_cmyk(tmp_path):
    cmyk = np.zeros((2, 2, 4), dtype=np.uint8)
    cmyk[0, :, 0] = 255  # full cyan takes all red away
    path = saved(tmp_path / "a.tif", Image.fromarray(cmyk, mode="CMYK"))
    expected = [[[0, 255, 255]] * 2, [[255, 255, 255]] * 2]
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = GRAY.astype(np.uint16) * 257  # 65535 = 255 * 257
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(values))
    np.testing.assert_array_equal(read_image(path), RGB_GRAY)


def test_thirty_two_bit_integers(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(GRAY.astype(np.int32) * 257))
    with Image.open(path) as image:
        assert image.mode == "I"
    np.testing.assert_array_equal(read_image(path), RGB_GRAY)


@pytest.mark.parametrize("highest", [1.0, 255.0, 65535.0, 1e6])
def test_floats_by_their_range(tmp_path, highest):
    values = (GRAY / 255.0 * highest).astype(np.float32)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    np.testing.assert_array_equal(read_image(path), RGB_GRAY)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(rgba))
    # Opaque red, nothing, and a fifth of black over white: 255 * 0.8 = 204.
    np.testing.assert_array_equal(read_image(path), [[[255, 0, 0], [255] * 3, [204] * 3]])


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    path = saved(tmp_path / "a.png", image, transparency=1)
    np.testing.assert_array_equal(read_image(path), [[[10, 20, 30], [255, 255, 255]]])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    "orientation, turned",
    # What the EXIF standard says is needed to show the stored pixels upright.
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, np.rot90),
    ],
)
def test_exif_orientation(tmp_path, suffix, orientation, turned):
    stored = np.kron(GRAY, np.ones((8, 8), dtype=np.uint8))  # 16 rows, 24 columns
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, quality=100)
    upright = turned(stored)
    image = read_image(path)
    np.testing.assert_allclose(image[..., 0].astype(int), upright, atol=3)
    assert image_size(path) == (upright.shape[1], upright.shape[0])


def one_line_error(path, read):
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("read", [read_image, image_size])
def test_missing_file(tmp_path, read):
    assert "not found" in one_line_error(tmp_path / "none.jpg", read)


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize("content", [b"", b"not an image\n", struct.pack(">I", 0xFFD8FFE0)])
def test_broken_file(tmp_path, read, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert "not a readable image" in one_line_error(path, read)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "not a readable image" in one_line_error(path, read_image)


def test_the_content_of_a_file_is_read_as_the_file(tmp_path):
    stored = np.kron(RGB_GRAY, np.ones((8, 8, 1), dtype=np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path / "a.jpg", Image.fromarray(stored), exif=exif)
    np.testing.assert_array_equal(read_image(path.read_bytes()), read_image(path))


def test_content_is_named_in_messages(tmp_path):
    path = tmp_path / "packed" / "a.jpg"
    one_line_error(path, lambda name: read_image(b"not an image", name))


def test_a_folder_is_no_image(tmp_path):
    one_line_error(tmp_path, read_image)
