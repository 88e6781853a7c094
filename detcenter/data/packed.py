"""A whole data set in one LMDB file: its images, byte by byte, and their boxes beside them.

Keys and values:
    detcenter     JSON: the version of this layout, the names of the parts
    part:K        JSON: classes, category_ids and annotations of the part at position K
    image:DIGEST  an image file's bytes
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from detcenter.data.dataset import Annotation, BoxTransform, DetectionDataset
from detcenter.data.errors import DataError
from detcenter.data.lmdb_file import create, damaged, get, put

if TYPE_CHECKING:
    import lmdb

_VERSION = 1  # to be raised when the layout changes
_HEADER = "detcenter"
_ARRAYS = {
    "boxes": np.float64,
    "labels": np.int64,
    "iscrowd": np.bool_,
    "difficult": np.bool_,
    "area": np.float64,
}


class LMDBDataset(DetectionDataset):
    """A part of a data set that `write_lmdb` packed; its items are those of the original.

    Args:
        path: the file.
        part: the name that the part was packed under.

    The path of an annotation is the image's name below `path`: it tells which image it was, and no
    file is there. The rest is as in `DetectionDataset`. Workers may be forked or spawned: every
    process opens the file for itself.

    Raises:
        DataError: a file that is missing, damaged or no packed data set; a part that it has not;
            lmdb is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        part: str = "train",
        transform: BoxTransform | None = None,
        keep_difficult: bool = False,
    ) -> None:
        self.path = Path(path)
        stored = _read_part(self.path, part)
        try:
            self._digests = [record["image"] for record in stored["annotations"]]
            annotations = [_annotation(self.path, record) for record in stored["annotations"]]
            super().__init__(annotations, stored["classes"], transform, keep_difficult)
            self.category_ids = stored["category_ids"]
        except (KeyError, TypeError) as error:
            raise damaged(self.path, error) from error

    def source(self, index: int) -> tuple[bytes, Path]:
        name = self.annotations[index]["path"]
        content = get(self.path, f"image:{self._digests[index]}")
        if content is None:
            raise DataError(f"{name}: not in {self.path} any more; was that packed anew meanwhile?")
        return content, name

    def version(self, index: int) -> str:
        return f"packed {self._digests[index]}"  # by its content, wherever it is packed


def write_lmdb(
    path: str | Path,
    parts: Mapping[str, DetectionDataset],
    root: str | Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> None:
    """Pack data sets of image files, for `LMDBDataset` to read by their names in `parts`.

    The file appears, in place of one that is there, only when it is whole. Images that are equal
    byte by byte are stored once. Boxes without area, which were dropped, stay dropped.

    Args:
        root: the folder that images are named relative to.
        progress: wraps the image files while they are packed.

    Raises:
        DataError: lmdb is not installed, or the disk is full.
        OSError: an image file that cannot be read.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as making:
        partial = Path(making) / path.name
        with create(partial) as environment:
            _write(environment, parts, Path(root), progress)
        partial.replace(path)


def _write(
    environment: "lmdb.Environment",
    parts: Mapping[str, DetectionDataset],
    root: Path,
    progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> None:
    files = dict.fromkeys(a["path"] for part in parts.values() for a in part.annotations)
    digests = {file: _put_image(environment, file) for file in progress(list(files))}
    for position, part in enumerate(parts.values()):
        stored = {
            "classes": part.classes,
            "category_ids": part.category_ids,
            "annotations": [_record(a, root, digests[a["path"]]) for a in part.annotations],
        }
        put(environment, f"part:{position}", json.dumps(stored).encode())
    header = {"version": _VERSION, "parts": list(parts)}
    put(environment, _HEADER, json.dumps(header).encode())
    environment.sync(True)


def _put_image(environment: "lmdb.Environment", file: Path) -> str:
    """Named by its content: should a run go on while its data is packed anew, images stay apart."""
    content = file.read_bytes()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    put(environment, f"image:{digest}", content)
    return digest


def _record(annotation: Annotation, root: Path, digest: str) -> dict[str, Any]:
    """An annotation for JSON, which gives every number back as it was."""
    path, arrays = annotation["path"], cast(dict[str, Any], annotation)
    name = path.relative_to(root) if path.is_relative_to(root) else path
    return {
        "image": digest,
        "name": name.as_posix().lstrip("/"),
        "image_id": annotation["image_id"],
        "width": annotation["width"],
        "height": annotation["height"],
    } | {key: arrays[key].tolist() for key in _ARRAYS}


def _annotation(path: Path, record: Mapping[str, Any]) -> Annotation:
    arrays: dict[str, np.ndarray] = {
        key: np.array(record[key], dtype=kind) for key, kind in _ARRAYS.items()
    }
    return Annotation(
        image_id=record["image_id"],
        path=path / record["name"],
        width=record["width"],
        height=record["height"],
        boxes=arrays["boxes"].reshape(-1, 4),
        labels=arrays["labels"],
        iscrowd=arrays["iscrowd"],
        difficult=arrays["difficult"],
        area=arrays["area"],
    )


def lmdb_parts(path: Path) -> list[str]:
    """The names of the parts in a file.

    Raises:
        DataError: it is missing, damaged or no packed data set; lmdb is not installed.
    """
    header = get(path, _HEADER)
    if header is None:
        raise DataError(f"{path}: an LMDB file, but no data set; detcenter pack writes one")
    found = _parsed(path, header)
    if found.get("version") != _VERSION:
        message = f"packed in version {found.get('version')} of the layout, this reads {_VERSION}"
        raise DataError(f"{path}: {message}; pack the data set again")
    return [str(name) for name in found["parts"]]


def _read_part(path: Path, part: str) -> dict[str, Any]:
    parts = lmdb_parts(path)
    if part not in parts:
        raise DataError(f"{path}: no part {part!r}; it holds {', '.join(parts)}")
    return _parsed(path, get(path, f"part:{parts.index(part)}"))


def _parsed(path: Path, value: bytes | None) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(value or b""))
    except ValueError as error:
        raise damaged(path, error) from error
