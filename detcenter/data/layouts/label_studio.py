"""Data sets in Label Studio's layout: an export as JSON or JSON-MIN, and the images."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from detcenter.data.errors import DataError, Fault
from detcenter.data.images import image_size, is_image
from detcenter.data.layouts.files import Files
from detcenter.data.layouts.label_studio_regions import Record, labelled_box, labels_of, shape_of
from detcenter.data.layouts.labelled import Labelled, NamedBoxes, image_paths, labelled
from detcenter.data.layouts.reading import (
    few,
    folders_near,
    head,
    holds,
    part_file,
    read_json,
    report_left_out,
    size_of,
)

_WORDS = (b'"rectanglelabels"', b'"polygonlabels"', b'"ellipselabels"', b'"original_width"')
_OF_RESULTS = ("original_width", "original_height", "image_rotation", "type")


class Task(NamedTuple):
    """An image, and what one annotator has drawn on it."""

    name: str  # of the image, as it is written
    regions: list[Record]


def find_parts(files: Files) -> list[str]:
    """Names of the exports that can be read here."""
    found = []
    for name in few(files.ending(".json")):
        file = files.root / name
        # A list, which neither COCO's nor LabelMe's files are.
        begins = head(file, 64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
        if begins and any(holds(file, word) for word in _WORDS):
            found.append(name)
    return found


def read(files: Files, part: str, classes: list[str] | None, faults: list[Fault]) -> Labelled:
    """The images of an export that somebody has annotated, with the boxes around their regions.

    Of several annotations of a task the first counts that was not cancelled. Tasks without one are
    left out and counted: an image that nobody has labelled is not one without objects. A region
    with several labels is several boxes.

    Args:
        part: the name of the JSON file.
        classes: in the order of their labels; None takes those that occur, sorted.

    Raises:
        DataError: no such file, or no export of Label Studio.
    """
    file = part_file(files, part)
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(Fault(file, "not a list of tasks; is this an export of Label Studio?"))
    left_out: Counter[str] = Counter()
    tasks = _tasks(content, file, left_out, faults)
    names = [task.name for task in tasks]
    folders = folders_near(files, file.relative_to(files.root).as_posix())
    paths = image_paths(names, lambda name: _find(files, name, folders, file), file, faults)
    images = []
    for task, path in zip(tasks, paths, strict=True):
        try:
            if path is not None:
                images.append(_image(path, file, task, left_out, faults))
        except DataError as error:
            faults += error.args
    report_left_out(left_out, file, "left out")
    return labelled(images, classes, faults)


def _tasks(
    content: list[Any], file: Path, left_out: Counter[str], faults: list[Fault]
) -> list[Task]:
    tasks = []
    for record in _first_of_each(content, left_out):
        try:
            regions = _regions(record, left_out)
            if regions is not None:
                tasks.append(Task(_image_name(record), regions))
        except ValueError as error:
            which = shortened(record.get("id")) if isinstance(record, dict) else "?"
            faults.append(Fault(file, f"task {which}: {error}"))
    return tasks


def _first_of_each(content: list[Any], left_out: Counter[str]) -> list[Any]:
    """JSON-MIN has an entry for each annotation of a task: the first that was made counts."""
    made = [record.get("annotation_id") if isinstance(record, dict) else None for record in content]
    times = [number if type(number) is int else 0 for number in made]
    first: dict[str, int] = {}
    for k in sorted(range(len(content)), key=times.__getitem__):
        key = repr(content[k].get("id")) if made[k] is not None else f"entry {k}"
        if first.setdefault(key, k) != k:
            left_out["further annotations of a task"] += 1
    return [content[k] for k in sorted(first.values())]


def _regions(record: Any, left_out: Counter[str]) -> list[Record] | None:
    """What is drawn in a task; None if nobody has annotated it."""
    if not isinstance(record, dict):
        raise ValueError(f"not an object but {shortened(record)}")
    given = record.get("annotations", record.get("completions"))
    if given is None and "data" not in record:
        return _regions_of_min(record, left_out)
    if given is not None and not isinstance(given, list):
        raise ValueError(f"'annotations' is not a list but {shortened(given)}")
    entries = [entry for entry in given or [] if isinstance(entry, dict)]
    done = [e for e in entries if not (e.get("was_cancelled") or e.get("skipped"))]
    if not done:
        left_out["skipped tasks" if entries else "tasks without annotation"] += 1
        return None
    left_out += Counter({"further annotations of a task": len(done) - 1})
    results = done[0].get("result")
    if not isinstance(results, list):
        raise ValueError(f"'result' is not a list but {shortened(results)}")
    return [*_joined(results)]


def _regions_of_min(record: Record, left_out: Counter[str]) -> list[Record] | None:
    if record.get("annotation_id") is None:
        left_out["tasks without annotation"] += 1
        return None
    lists = [value for value in record.values() if isinstance(value, list)]
    items = [item for items in lists for item in items if isinstance(item, dict)]
    # Attributes of a region are regions of their own here, of its shape and without label.
    shapes = [shape_of(item) for item in items if labels_of(item)]
    return [item for item in items if labels_of(item) or shape_of(item) not in shapes]


def _joined(results: list[Any]) -> Iterator[Record]:
    """One record a region: its shape and its labels may be results of their own, of one id."""
    by_id: dict[str, Record] = {}
    for number, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue  # a relation between regions
        more = {key: result[key] for key in _OF_RESULTS if result.get(key) is not None}
        key = repr(result.get("id", number))
        by_id[key] = {**more, **value, **by_id.get(key, {})}
    yield from by_id.values()


def _image_name(record: Record) -> str:
    data = record["data"] if isinstance(record.get("data"), dict) else record
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    for key in ("image", "img", "image_url", "url"):
        if key in texts:
            return texts[key]
    for text in texts.values():
        path = urlsplit(text).path if "//" in text[:12] else text.partition("?")[0]
        if is_image(path) or "/data/" in text:
            return text
    raise ValueError("no image is named in its data")


def _find(files: Files, name: str, folders: list[str], file: Path) -> Path:
    if name.startswith("data:"):
        what = "an image is in here, but no file; write it out, and name it in the task"
        raise DataError(Fault(file, what))
    missing: DataError | None = None
    for spelled in _spellings(name):
        try:
            return files.image(spelled, folders, file)
        except DataError as error:
            missing = missing or error
    assert missing is not None
    raise missing


def _spellings(name: str) -> Iterator[str]:
    """The name without what serves it, and without the digits that an upload puts before it."""
    try:
        parts = urlsplit(name)
    except ValueError:  # no URL
        yield name
        return
    local = parse_qs(parts.query).get("d", [""])[0]
    path = local or (parts.path if len(parts.scheme) > 1 or parts.query else name)
    path = path.lstrip("/")  # that of a server
    yield path
    folder, base = posixpath.split(path.replace("\\", "/"))
    bare = re.sub(r"^[0-9a-f]{8}-", "", base)
    if bare and bare != base:
        yield posixpath.join(folder, bare)
    if path != name.lstrip("/") and not local:
        yield name  # a "?" or a colon may be in the name of a file


def _image(
    path: Path, file: Path, task: Task, left_out: Counter[str], faults: list[Fault]
) -> NamedBoxes:
    sizes = [
        (size_of(r.get("original_width")), size_of(r.get("original_height"))) for r in task.regions
    ]
    width, height = next((size for size in sizes if all(size)), (0, 0))
    if not width and task.regions:
        width, height = image_size(path)
    boxes, names = [], []
    for region in task.regions:
        try:
            labels, box = labelled_box(region, width, height, left_out)
            boxes += [box] * len(labels)
            names += labels
        except ValueError as error:
            faults.append(Fault(file, f"{shortened(task.name)}: {error}"))
    return NamedBoxes(path, file, width, height, boxes, names)
