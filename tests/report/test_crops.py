import base64
import io

import numpy as np
from PIL import Image

from detcenter.report.crops import COLUMNS, CropSheet, thumbnail


def decoded(uri):
    kind, _, code = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))), int)


def squares(colours):
    """A grey image with a square of 40 pixels of each colour, and their boxes."""
    pixels = np.full((100, 100 * len(colours), 3), 128, np.uint8)
    boxes = []
    for k, colour in enumerate(colours):
        pixels[30:70, 100 * k + 30 : 100 * k + 70] = colour
        boxes.append(np.array([100 * k + 30, 30, 100 * k + 70, 70], float))
    return pixels, boxes


def test_tiles_show_their_boxes_with_a_margin():
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    pixels, boxes = squares(colours)
    sheet = CropSheet(most=10)
    tiles = [sheet.register(image, box) for image in (4, 7) for box in boxes]
    assert tiles == [0, 1, 2, 3, 4, 5] and sheet.images == {4, 7}
    for image in (4, 7):
        sheet.cut(image, pixels)
    picture = decoded(sheet.data_uri())
    side = picture.shape[0]
    assert picture.shape == (96, 96 * COLUMNS, 3)
    for tile, colour in zip(tiles, [*colours, *colours], strict=True):
        of_tile = picture[:, tile * side : (tile + 1) * side]
        assert np.abs(of_tile[48, 48] - colour).max() < 25
        # 52 pixels are shown of the 40 of the box: 11 of 96 on each side are what is around it
        assert np.abs(of_tile[[3, 92, 48, 48], [48, 48, 3, 92]] - 128).max() < 40
        assert np.abs(of_tile[[20, 76, 48, 48], [48, 48, 20, 76]] - colour).max() < 40


def test_a_box_has_one_tile_and_a_full_sheet_has_no_more():
    _, boxes = squares([(0, 0, 0)] * 3)
    sheet = CropSheet(most=2)
    assert [sheet.register(0, box) for box in boxes] == [0, 1, None]
    assert sheet.register(0, boxes[0] + 0.01) == 0  # as a float32 or a scale rounds it
    assert sheet.register(1, boxes[0]) is None
    sheet.cut(0, np.zeros((100, 300, 3), np.uint8))
    assert sheet.images == {0}


def test_many_tiles_are_small_and_fill_rows():
    sheet = CropSheet(most=5000)
    for k in range(1501):
        sheet.register(0, np.array([k, 0, k + 10, 10], float))
    pixels = np.zeros((20, 1600, 3), np.uint8)
    pixels[:, 1480:] = 255
    sheet.cut(0, pixels)
    picture = decoded(sheet.data_uri())
    assert picture.shape == (64 * -(-1501 // COLUMNS), 64 * COLUMNS, 3)
    row, column = divmod(1500, COLUMNS)
    assert picture[row * 64 + 40, column * 64 + 32].min() > 200  # a white one, in the last row
    assert picture[40, 32].max() < 50


def test_nothing_to_cut_is_no_picture():
    assert CropSheet(most=2).data_uri() == ""


def test_thumbnails_keep_their_shape_and_are_never_enlarged():
    assert decoded(thumbnail(np.zeros((300, 600, 3), np.uint8), 128)).shape == (64, 128, 3)
    assert decoded(thumbnail(np.zeros((30, 60, 3), np.uint8), 128)).shape == (30, 60, 3)


def test_a_long_box_is_scaled_before_it_is_padded():
    sheet = CropSheet(most=1)
    sheet.register(0, np.array([0.0, 490, 16000, 510]))
    pixels = np.full((1000, 16000, 3), 200, np.uint8)
    sheet.cut(0, pixels)  # its square would have 432 million pixels
    tile = decoded(sheet.data_uri())[:, :96]
    assert tile[48, 48].min() > 120 and tile[20, 48].max() < 60 and tile[76, 48].max() < 60


def test_a_box_beyond_the_image_is_black():
    sheet = CropSheet(most=2)
    sheet.register(0, np.array([-50.0, -50, -10, -10]))
    sheet.register(0, np.array([-20.0, -20, 20, 20]))
    sheet.cut(0, np.full((100, 100, 3), 200, np.uint8))
    picture = decoded(sheet.data_uri())
    assert picture[:, :90].max() < 40
    assert picture[20, 96 + 20].max() < 40 and picture[70, 96 + 70].min() > 160
