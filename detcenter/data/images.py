"""Reading image files of any kind as RGB."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from detcenter.data.errors import DataError, Fault

# PIL's own default for a decompression bomb: half a gigabyte of RGB, of which a batch cannot hold
# many; the largest cameras have 151 million pixels.
MAX_PIXELS = 178_956_970
BACKDROP = (255, 255, 255)  # what shows through transparent pixels, as most viewers have it
_ORIENTATION = 0x0112  # the EXIF tag; its values 5 to 8 turn the image by a quarter
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
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


class DecodedImage(NamedTuple):
    """An image as `read_image` gives it, and what its pixels do not tell."""

    pixels: np.ndarray  # uint8 RGB [H, W, 3], upright
    turned: bool  # whether EXIF exchanges its sides
    highest: int | None  # value in a gray image of integers of more than 8 bits, else None


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


@contextmanager
def _opened(source: str | Path | bytes, name: str | Path | None = None) -> Iterator[Image.Image]:
    if name is None:
        name = "image" if isinstance(source, bytes) else source
    file = Path(name)
    try:
        with _header(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                what = f"an image of {width}x{height} pixels, more than {MAX_PIXELS:,} in all"
                raise DataError(Fault(file, f"{what}; make it smaller"))
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
