"""Pictures small enough to travel inside a page: crops of boxes on one sheet, and whole images."""

import base64
import io
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image

from detcenter.data import DataError

COLUMNS = 32
"""tiles in a row of a sheet"""

_AROUND = 1.3  # side of a crop by the longer side of its box: what is next to an object counts
_SHARP, _SMALL = 96, 64  # pixels of a tile
_MOST_SHARP = 1000  # tiles
_QUALITY = 60  # of WebP, 0 to 100

_Box = tuple[float, ...]
_Key = TypeVar("_Key", bound=Hashable)
Cut = tuple[_Box, int, float]
"""A box, and `side` and `around` of :func:`crop`."""


class CropSheet:
    """Square crops around boxes as tiles of one picture, row by row from the top left.

    Boxes are told apart by whole pixels.

    Boxes are registered first and cut out afterwards, image by image, so that every image is read
    once and no two are in memory together.

    Args:
        most: tiles; boxes beyond it are not registered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tiles: dict[int, dict[_Box, int]] = {}  # by image
        self._count = 0
        self._sheet: Image.Image | None = None

    def register(self, image: int, box: np.ndarray) -> int | None:
        """The number of the tile for ``box``, xyxy in pixels of the image; None if all are taken.

        A box that was registered before has a tile already.
        """
        key = tuple(np.round(np.asarray(box, np.float64)).tolist())
        tile = self._tiles.get(image, {}).get(key)
        if tile is None and self._count < self._most:
            tile = self._tiles.setdefault(image, {})[key] = self._count
            self._count += 1
        return tile

    @property
    def images(self) -> set[int]:
        """The numbers of the images that tiles are cut from."""
        return set(self._tiles)

    def cut(self, image: int, pixels: np.ndarray) -> None:
        """Cut the tiles of one image, uint8 [H, W, 3], out of it."""
        side = _SHARP if self._count <= _MOST_SHARP else _SMALL
        if self._sheet is None:
            self._sheet = Image.new("RGB", (COLUMNS * side, -(-self._count // COLUMNS) * side))
        picture = Image.fromarray(pixels)
        for box, tile in self._tiles[image].items():
            row, column = divmod(tile, COLUMNS)
            tile_picture = crop(picture, box, side, _AROUND)
            self._sheet.paste(tile_picture, (column * side, row * side))

    def data_uri(self) -> str:
        """The sheet as WebP, or an empty text if nothing was cut."""
        return "" if self._sheet is None else webp(self._sheet)


def cut_out(
    wanted: Mapping[_Key, Iterable[Cut]],
    image: Callable[[_Key], np.ndarray],
    progress: Callable[[list[_Key]], Iterable[_Key]] = iter,
) -> dict[tuple[_Key, Cut], str]:
    """Crops as data URIs; every image is read once, and no two are in memory together.

    Of an image that cannot be read there are none.

    Args:
        wanted: from each image, which may be named by anything, to what is cut out of it.
        image: gives its pixels, uint8 [H, W, 3].
        progress: gets the images, and gives them on one by one.
    """
    found = {}
    for key in progress([*wanted]):
        try:
            picture = Image.fromarray(image(key))
        except DataError:
            continue
        for cut in dict.fromkeys(wanted[key]):
            found[key, cut] = webp(crop(picture, *cut))
    return found


def thumbnail(pixels: np.ndarray, longest: int) -> str:
    """An image, uint8 [H, W, 3], as the data URI of a WebP of at most ``longest`` pixels a side."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return webp(picture)


def crop(picture: Image.Image, box: _Box, side: int, around: float) -> Image.Image:
    """The square around a box, black where it leaves the image, ``side`` pixels wide.

    Args:
        around: side of the square in the image by the longer side of the box.
    """
    tile, (x1, y1, x2, y2) = Image.new("RGB", (side, side)), box
    width = max(2.0, around * max(x2 - x1, y2 - y1))
    corner = np.array([x1 + x2 - width, y1 + y2 - width]) / 2
    # Only what is in the image is scaled: around a long box the square would be a huge picture.
    inside = np.clip([corner, corner + width], 0, picture.size)
    if (inside[0] < inside[1]).all():
        low, high = np.round((inside - corner) * side / width).astype(int)
        size = tuple(np.maximum(high - low, 1).tolist())
        part = picture.resize(size, Image.Resampling.LANCZOS, tuple(inside.ravel().tolist()))
        tile.paste(part, tuple(low.tolist()))
    return tile


def webp(picture: Image.Image) -> str:
    """A picture as a data URI."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
