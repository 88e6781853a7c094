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
from detcenter.data.layouts.label_studio_regions import (
    Record,
    Region,
    joined,
    labelled_box,
    regions_of_min,
)
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


class Task(NamedTuple):
    """An image, and what one annotator has drawn on it."""

    name: str  # of the image, as it is written
    record: Record  # of the file, which says this
    results: list[Any] | None  # of the annotation that counts; None in JSON-MIN
    regions: list[Region]


class Export(NamedTuple):
    """What an export says of the images that are here."""

    file: Path
    content: list[Any]  # of the file
    tasks: dict[Path, Task]


class Drawn(NamedTuple):
    """A box: a region under one of its labels."""

    region: int  # its position in the task
    label: int  # the position among those of the region
    name: str  # of the class
    box: list[float]  # xyxy, pixels


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
    left_out: Counter[str] = Counter()
    export = read_export(files, part, left_out, faults)
    images = []
    for path, task in export.tasks.items():
        try:
            images.append(_image(path, export.file, task, left_out, faults))
        except DataError as error:
            faults += error.args
    report_left_out(left_out, export.file, "left out")
    return labelled(images, classes, faults)


def read_export(files: Files, part: str, left_out: Counter[str], faults: list[Fault]) -> Export:
    """The tasks whose annotations `read` gives, by their images.

    Args:
        left_out: to count what is left out though nothing is wrong with it.
    """
    file = part_file(files, part)
    content = read_json(file)
    if not isinstance(content, list):
        raise DataError(Fault(file, "not a list of tasks; is this an export of Label Studio?"))
    tasks = _tasks(content, file, left_out, faults)
    names = [task.name for task in tasks]
    folders = folders_near(files, file.relative_to(files.root).as_posix())
    paths = image_paths(names, lambda name: _find(files, name, folders, file), file, faults)
    here = {path: task for path, task in zip(paths, tasks, strict=True) if path is not None}
    return Export(file, content, here)


def _tasks(
    content: list[Any], file: Path, left_out: Counter[str], faults: list[Fault]
) -> list[Task]:
    tasks = []
    for record in _first_of_each(content, left_out):
        try:
            drawn = _drawn(record, left_out)
            if drawn is not None:
                tasks.append(Task(_image_name(record), record, *drawn))
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


def _drawn(record: Any, left_out: Counter[str]) -> tuple[list[Any] | None, list[Region]] | None:
    """The results of a task and what they draw; None if nobody has annotated it."""
    if not isinstance(record, dict):
        raise ValueError(f"not an object but {shortened(record)}")
    given = record.get("annotations", record.get("completions"))
    if given is None and "data" not in record:
        if record.get("annotation_id") is None:
            left_out["tasks without annotation"] += 1
            return None
        return None, regions_of_min(record)
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
    return results, joined(results)


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
    width, height = annotated_size(task, path)
    found = boxes_in(task, (width, height), file, left_out, faults)
    return NamedBoxes(path, file, width, height, [b.box for b in found], [b.name for b in found])


def annotated_size(task: Task, path: Path) -> tuple[int, int]:
    """(width, height) of the image that was drawn on, pixels."""
    said = [region.said for region in task.regions]
    sizes = [(size_of(r.get("original_width")), size_of(r.get("original_height"))) for r in said]
    return next((size for size in sizes if all(size)), None) or image_size(path)


def boxes_in(
    task: Task, size: tuple[int, int], file: Path, left_out: Counter[str], faults: list[Fault]
) -> list[Drawn]:
    """Those that can be read; what is wrong with the others goes to `faults`."""
    found = []
    for number, region in enumerate(task.regions):
        try:
            labels, box = labelled_box(region.said, *size, left_out)
            found += [Drawn(number, place, name, box) for place, name in enumerate(labels)]
        except ValueError as error:
            faults.append(Fault(file, f"{shortened(task.name)}: {error}"))
    return found
