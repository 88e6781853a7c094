"""TFRecord files of the TensorFlow Object Detection API: images and boxes in one file.

A file is a row of records: the length of the data (8 bytes, little endian), a checksum of these
eight, the data, and a checksum of the data. The data is a tf.train.Example, a protocol buffer of
named lists; https://www.tensorflow.org/tutorials/load_data/tfrecord says how they are nested.
"""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from detcenter.data.errors import DataError, Fault

_NAME = re.compile(r"(.+?)\.(?:tf)?records?(?:-\d+-of-\d+)?$", re.IGNORECASE)
_POLYNOMIAL = 0x82F63B78  # of CRC-32C
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def unpack_tfrecords(folder: Path, out: Path) -> list[str]:
    """Write the images in the records of ``folder``, and a COCO file for each part, into ``out``.

    A part has the name of its file without the ending: ``train.record``, or the files
    ``train.tfrecord-00000-of-00010`` and so on.

    Args:
        out: a folder that is empty. It gets ``<part>.json`` and ``images/<part>``.

    Returns:
        The parts.

    Raises:
        DataError: naming the file, if there is none, or one that is damaged, or no such file, or
            holds something else.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file() and _NAME.match(path.name))
    if not files:
        raise DataError(Fault(folder, "no file train.record, test.tfrecord or the like is in it"))
    by_part: dict[str, list[Path]] = {}
    for path in files:
        by_part.setdefault(_NAME.match(path.name)[1], []).append(path)  # type: ignore[index]
    classes: dict[int, str] = {}
    contents = {part: _unpacked(of, part, out, classes) for part, of in by_part.items()}
    categories = [{"id": label, "name": classes[label]} for label in sorted(classes)]
    for part, content in contents.items():
        (out / f"{part}.json").write_text(json.dumps(content | {"categories": categories}))
    return list(contents)


class _Image(NamedTuple):
    """What a record holds."""

    encoded: bytes
    name: str  # empty where it has none
    size: tuple[int, int]  # width, height
    labels: list[int]
    corners: list[tuple[float, ...]]  # x1, y1, x2, y2 as parts of the image


def _unpacked(files: list[Path], part: str, out: Path, classes: dict[int, str]) -> dict[str, Any]:
    """Images and annotations of a part as COCO has them; ``classes`` gets its names."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (out / "images" / part).mkdir(parents=True)
    for path in files:
        for image in _images(path, classes):
            name = _file_name(image, len(images) + 1)
            file = out / "images" / part / name
            if file.exists():
                raise DataError(Fault(path, f"two images are called {name}"))
            file.write_bytes(image.encoded)
            width, height = image.size
            entry = {"id": len(images) + 1, "file_name": f"{part}/{name}"}
            images.append(entry | {"width": width, "height": height})
            annotations += _annotations(image, len(images), len(annotations) + 1)
    return {"images": images, "annotations": annotations}


def _annotations(image: _Image, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    boxes = zip(image.labels, image.corners, strict=True)
    for number, (label, corners) in enumerate(boxes, start=first_id):
        x1, y1, x2, y2 = (part * side for part, side in zip(corners, image.size * 2, strict=True))
        box = [x1, y1, x2 - x1, y2 - y1]
        of = {"id": number, "image_id": image_id, "category_id": label, "iscrowd": 0}
        yield of | {"bbox": box, "area": box[2] * box[3]}


def _images(path: Path, classes: dict[int, str]) -> Iterator[_Image]:
    for number, data in enumerate(_records(path), start=1):
        try:
            example = _example(data)
            named = example.get("image/filename") or example.get("image/source_id") or [b""]
            sides = example["image/width"][0], example["image/height"][0]
            labels, corners = _boxes(example, classes)
            encoded = example["image/encoded"][0]
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise DataError(
                Fault(path, f"record {number} is no image with boxes ({error})")
            ) from None
        yield _Image(encoded, named[0].decode("utf-8", "replace"), sides, labels, corners)


def _file_name(image: _Image, number: int) -> str:
    """Its own, without folders, or else a number."""
    name = image.name.replace("\\", "/").rpartition("/")[2]
    ending = "png" if image.encoded.startswith(b"\x89PNG") else "jpg"
    name = re.sub("[\x00-\x1f]", "_", name) or f"{number:06}"
    return name if "." in name else f"{name}.{ending}"


def _boxes(
    example: dict[str, list[Any]], classes: dict[int, str]
) -> tuple[list[int], list[tuple[float, ...]]]:
    """Labels and corners."""
    labels = example.get("image/object/class/label", [])
    texts = example.get("image/object/class/text", [])
    columns = [example.get(f"image/object/bbox/{corner}", []) for corner in _CORNERS]
    if len({len(labels), *map(len, columns)}) > 1 or len(texts) not in (0, len(labels)):
        raise ValueError("its boxes, labels and names of classes are not equally many")
    for i, label in enumerate(labels):
        name = texts[i].decode() if texts else str(label)
        if classes.setdefault(label, name) != name:
            raise ValueError(f"label {label} is called {name!r} and {classes[label]!r}")
    if len({*classes.values()}) < len(classes):
        raise ValueError("two labels have one name")
    return labels, [*zip(*columns, strict=True)]


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while start := file.read(12):
            if len(start) < 12 or _checksum(start[:8]) != struct.unpack("<I", start[8:])[0]:
                what = "no TFRecord file, or one that is damaged or compressed"
                raise DataError(Fault(path, what))
            (length,) = struct.unpack("<Q", start[:8])
            data = file.read(length)
            if len(data) < length or len(file.read(4)) < 4:
                raise DataError(Fault(path, "it is cut short"))
            yield data


def _checksum(data: bytes) -> int:
    """The masked CRC-32C that TFRecord files have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _example(data: bytes) -> dict[str, list[Any]]:
    """The lists of a tf.train.Example by their names."""
    lists: dict[str, list[Any]] = {}
    for _, features in _fields(data):
        for _, entry in _fields(features):
            named = dict(_fields(entry))
            for kind, values in _fields(named[2]):
                lists[named[1].decode()] = [*_values(kind, values)]
    return lists


def _values(kind: int, data: bytes) -> Iterator[Any]:
    """Of a list of bytes (1), of floats (2) or of integers (3)."""
    for _, value in _fields(data):
        if kind == 1 or isinstance(value, int):
            yield value
        elif kind == 2:
            yield from (x for (x,) in struct.iter_unpack("<f", value))
        else:
            place = 0
            while place < len(value):
                number, place = _varint(value, place)
                yield number


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer with their numbers: integers, or bytes of any length."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        if key & 7 == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(key & 7)
        if length is None:
            if key & 7 != 2:
                raise ValueError("no protocol buffer")
            length, place = _varint(data, place)
        if place + length > len(data):
            raise ValueError("a protocol buffer that is cut short")
        yield key >> 3, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number that begins there, and where the next one does."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
