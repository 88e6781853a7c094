"""TFRecord files, written here by the format's description."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from detcenter.cli import main
from detcenter.data import COCODataset, DataError
from detcenter.data.tfrecords import _checksum, unpack_tfrecords
from tests.command_line import fails

FACES = {1: "one", 2: "two"}
BOXES = [(1, (0.25, 0.5, 0.5, 0.75)), (2, (0.0, 0.125, 1.0, 0.5))]  # xmin, ymin, xmax, ymax


def varint(number):
    low = []
    while number > 127:
        low.append(number & 127 | 128)
        number >>= 7
    return bytes([*low, number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def floats(values, packed=True):
    if packed:
        return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))
    return field(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", x) for x in values))


def integers(values, packed=True):
    if packed:
        return field(3, field(1, b"".join(map(varint, values))))
    return field(3, b"".join(varint(1 << 3) + varint(x) for x in values))


def texts(values):
    return field(1, b"".join(field(1, value) for value in values))


def jpeg(color, size=(40, 32), kind="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def example(image, name="a.jpg", boxes=BOXES, packed=True, **others):
    columns = list(zip(*(corners for _, corners in boxes), strict=True)) or [()] * 4
    labels = [label for label, _ in boxes]
    lists = {
        "image/encoded": texts([image]),
        "image/filename": texts([name.encode()]),
        "image/width": integers([40], packed),
        "image/height": integers([32], packed),
        "image/object/class/label": integers(labels, packed),
        "image/object/class/text": texts([FACES[label].encode() for label in labels]),
    }
    for corner, column in zip(("xmin", "ymin", "xmax", "ymax"), columns, strict=True):
        lists[f"image/object/bbox/{corner}"] = floats(column, packed)
    lists |= others
    entries = [field(1, field(1, k.encode()) + field(2, v)) for k, v in lists.items() if v]
    return field(1, b"".join(entries))


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _checksum(length)) + data + b"\0\0\0\0"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    first = [example(jpeg("red")), example(jpeg("blue"), "dir/b.jpg", BOXES[:1], packed=False)]
    (folder / "train.record").write_bytes(b"".join(map(record, first)))
    last = record(example(jpeg("green"), "c.jpg", BOXES[1:]))
    (folder / "test.tfrecord-00000-of-00002").write_bytes(last)
    (folder / "test.tfrecord-00001-of-00002").write_bytes(record(example(jpeg("red"), "", [])))
    (folder / "readme.txt").write_text("none of them")
    return folder


def test_the_checksum_is_crc_32c_masked():
    """The values of RFC 3720, appendix B.4."""
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        assert _checksum(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_images_and_boxes_come_out_as_they_are(folder, tmp_path):
    (tmp_path / "out").mkdir()
    assert unpack_tfrecords(folder, tmp_path / "out") == ["test", "train"]
    train = json.loads((tmp_path / "out" / "train.json").read_text())
    assert [image["file_name"] for image in train["images"]] == ["train/a.jpg", "train/b.jpg"]
    assert (tmp_path / "out/images/train/b.jpg").read_bytes() == jpeg("blue")
    assert [box["bbox"] for box in train["annotations"]] == [
        *([10, 16, 10, 8], [0, 4, 40, 12]),
        [10, 16, 10, 8],
    ]
    assert [box["image_id"] for box in train["annotations"]] == [1, 1, 2]
    test = COCODataset(tmp_path / "out/images", tmp_path / "out/test.json")
    assert test.classes == ["one", "two"] and len(test) == 2
    np.testing.assert_array_equal(test.annotations[0]["boxes"], [[0, 4, 40, 16]])
    assert test.annotations[1]["path"].name == "000002.jpg" and not len(test[1][1]["boxes"])


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_convert_writes_them_in_any_layout(to, folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["convert", "--tfrecords", str(folder), "--to", to, str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 images and 3 boxes of data.train, 2 images and 1 boxes of data.val" in said
    images = [path for path in out.rglob("*.jpg")]
    assert len(images) == 4 and not any(path.is_symlink() for path in images)
    assert {path.name for path in tmp_path.iterdir()} == {"records", "out"}
    assert main(["check", "--root", str(out)]) == 0


def test_what_is_wrong_is_one_line(folder, tmp_path, capsys):
    start = "convert", "--tfrecords", folder, "--to", "coco", tmp_path / "out"
    file, sound = folder / "train.record", (folder / "train.record").read_bytes()
    picture = jpeg("red")
    for content, message in (
        (sound[:-9], "train.record: it is cut short"),
        (b"\x1f\x8b" + sound[2:], "no TFRecord file, or one that is damaged or compressed"),
        (sound + b"more", "no TFRecord file"),
        (record(b"\x0f\x01\x02"), "record 1 is no image with boxes (no protocol buffer)"),
        (record(field(1, b"")), "record 1 is no image with boxes ('image/width')"),
        (sound + sound, "two images are called a.jpg"),
        (
            record(example(picture, **{"image/object/class/label": integers([1, 2, 1])})),
            "its boxes, labels and names of classes are not equally many",
        ),
        (
            record(example(picture, **{"image/object/class/text": texts([b"two", b"two"])})),
            "two labels have one name",
        ),
        (
            record(example(picture, **{"image/object/class/text": texts([b"one", b"one"])})),
            "label 2 is called 'one' and 'two'",
        ),
    ):
        file.write_bytes(content)
        assert message in fails(capsys, *start), message
        assert not (tmp_path / "out").exists()
    (tmp_path / "none").mkdir()
    assert "no file train.record" in fails(capsys, *start[:2], tmp_path / "none", *start[3:])
    both = fails(capsys, *start, "--config", "digits")
    assert "--tfrecords and --config both say which data set" in both
    with pytest.raises(DataError):
        unpack_tfrecords(folder, tmp_path / "never")
