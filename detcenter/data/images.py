"""Reading image files of any kind as RGB."""

import io
import posixpath
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from detcenter.data.errors import DataError, Fault

# PIL's own default for a decompression bomb: half a gigabyte of RGB, of which a batch cannot hold
# many; the largest cameras have 151 million pixels.
MAX_PIXELS = 178_956_970
ENDINGS = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Of image files' names, in lower case."""
BACKDROP = (255, 255, 255)  # what shows through transparent pixels, as most viewers have it
_ORIENTATION = 0x0112  # the EXIF tag; its values 5 to 8 turn the image by a quarter
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    MemoryError,
    Image.DecompressionBombError,
)
_without_limit = threading.Lock()
# PIL warns from half of its bound on. Here what is within the bound is well, and the rest an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Of a TIFF that is cut short; the error that follows says it too.
warnings.filterwarnings("ignore", "Corrupt EXIF data", module="PIL")
# A camera's MPO has several too, but the others are previews, or the same seen by another eye.
_WITH_FRAMES = {"GIF", "PNG", "TIFF", "WEBP"}
_SUBFILE_TYPE = 254  # a TIFF tag; bit 0 is a smaller copy of another page, bit 2 a mask for one


class DecodedImage(NamedTuple):
    """An image as `read_image` gives it, and what its pixels do not tell."""

    pixels: np.ndarray  # uint8 RGB [H, W, 3], upright
    turned: bool  # whether EXIF exchanges its sides
    highest: int | None  # value in a gray image of integers of more than 8 bits, else None


def is_image(name: str) -> bool:
    """Whether a file's name ends as an image's."""
    return posixpath.splitext(name)[1].lower() in ENDINGS


def read_image(source: str | Path | bytes, name: str | Path | None = None) -> np.ndarray:
    """The image as uint8 RGB [H, W, 3], turned upright by its EXIF orientation.

    Transparent pixels are laid on white. Integer images of more than 8 bits are scaled by the
    65535 range of 16 bits (by their own maximum if that is larger). Float images are scaled by
    the first of 1, 255, 65535 and their own maximum that holds all their values.

    Args:
        source: an image file's path, or its content.
        name: of the image in error messages; content has none of its own.

    Raises:
        DataError: the file is missing, broken, cut short, of no known format, or an image of more
            than `MAX_PIXELS`, which is not decoded.
    """
    return decode_image(source, name).pixels


def decode_image(source: str | Path | bytes, name: str | Path | None = None) -> DecodedImage:
    """As `read_image`, and with more to tell."""
    with _opened(source, name) as image:
        image.load()
        turned = _is_turned(image)
        highest = int(image.getextrema()[1]) if image.mode.startswith("I") else None  # type: ignore[arg-type]
        return DecodedImage(np.array(_to_rgb(ImageOps.exif_transpose(image))), turned, highest)


def read_reduced(
    source: str | Path | bytes, least: int, name: str | Path | None = None
) -> tuple[np.ndarray, int]:
    """As `read_image`, but large JPEGs come smaller, and by what factor: 1, 2, 4 or 8.

    The decoder computes fewer pixels then, of which each is about the mean of those it stands for;
    a side that the factor does not divide is rounded up. Both sides have at least `least` pixels,
    unless the image has fewer.
    """
    with _opened(source, name) as image:
        width = image.size[0]
        drafted = image.draft("", (least, least))
        image.load()
        factor = 1 if drafted is None else round(width / drafted[1][2])
        return np.array(_to_rgb(ImageOps.exif_transpose(image))), factor


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF rotation, read from the header without decoding.

    Raises:
        DataError: the file is missing, of no known format, or an image of more than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        width, height = image.size
        turned = _is_turned(image)
    return (height, width) if turned else (width, height)


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def frame_numbers(path: str | Path) -> Sequence[int]:
    """The numbers, from 0, of the pages of a TIFF, or the frames of a GIF, WebP or PNG.

    Read from the headers without decoding; [0] for any other image. Pages of a TIFF that are
    marked as smaller copies of another, or as masks, are left out.

    Raises:
        DataError: the file is missing or of no known format.
    """
    with _opened(path) as image:
        return _numbers_in(image)


def read_frames(path: str | Path, every: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Every `every`-th of `frame_numbers`, and that frame as `read_image` would read it.

    Raises:
        DataError: as `read_image` does, when it comes to the frame that is broken.
    """
    with _opened(path) as image:
        numbers = _numbers_in(image)
        for number in numbers[::every]:
            try:
                image.seek(number)
                _check_size(image, Path(path))
                image.load()
            except _DECODER_ERRORS as error:
                if len(numbers) == 1 or isinstance(error, DataError):
                    raise
                raise OSError(f"from frame {number} on: {error}") from error
            yield number, np.array(_to_rgb(ImageOps.exif_transpose(image)))


def _numbers_in(image: Image.Image) -> Sequence[int]:
    if image.format not in _WITH_FRAMES:
        return [0]
    numbers = range(getattr(image, "n_frames", 1))
    if image.format != "TIFF" or len(numbers) == 1:
        return numbers
    return [number for number in numbers if not _belongs_to_another(image, number)] or [0]


def _belongs_to_another(image: Any, number: int) -> bool:
    image.seek(number)
    return bool(image.tag_v2.get(_SUBFILE_TYPE, 0) & 0b101)


def _check_size(image: Image.Image, file: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        what = f"an image of {width}x{height} pixels, more than {MAX_PIXELS:,} in all"
        raise DataError(Fault(file, f"{what}; make it smaller"))


@contextmanager
def _opened(source: str | Path | bytes, name: str | Path | None = None) -> Iterator[Image.Image]:
    if name is None:
        name = "image" if isinstance(source, bytes) else source
    file = Path(name)
    try:
        with _header(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            _check_size(image, file)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        what = "image file not found; check the data set's root"
        raise DataError(Fault(file, what)) from None
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its own message has an address of memory
            reason = "of no known format"
        what = f"not a readable image ({reason}); replace it or remove it from the set"
        raise DataError(Fault(file, what)) from error


def _header(source: str | Path | io.BytesIO) -> Image.Image:
    """The image, not decoded, however large: its size is wanted for the message."""
    try:
        return Image.open(source)
    except Image.DecompressionBombError:
        with _without_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(source)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _scaled(np.asarray(image).astype(np.float64), limits=(65535.0,))
    if image.mode == "F":
        return _scaled(np.asarray(image).astype(np.float64), limits=(1.0, 255.0, 65535.0))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, BACKDROP), layer).convert("RGB")
    return image.convert("RGB")


def _scaled(values: np.ndarray, limits: tuple[float, ...]) -> Image.Image:
    """Gray values to 8 bits, by the first of `limits` that is not exceeded."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    highest = float(values.max())
    limit = next((limit for limit in limits if highest <= limit), highest)
    gray = np.clip(values * (255.0 / limit), 0, 255).round().astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
