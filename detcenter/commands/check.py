"""`detcenter check`: what is wrong with the data of a recipe, before it is trained on."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from detcenter.data import DetectionDataset, Fault, read_image
from detcenter.data.errors import by_cause, count, printable
from detcenter.data.findings import Finding, Place, all_findings, findings_json, near_copies
from detcenter.data.findings import Part as Seen
from detcenter.errors import ConfigError
from detcenter.evaluation.table import aligned
from detcenter.options import check as options
from detcenter.progress import bar
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import look_through
from detcenter.recipe.extras import need
from detcenter.recipe.fixed import check_new, write_fixed
from detcenter.recipe.groups import write_groups
from detcenter.recipe.layouts import Part, resolved
from detcenter.recipe.parsing import parse_recipe

_LONGEST = 72  # letters of an example in the table


class _Checked(NamedTuple):
    data: DataConfig
    parts: dict[Part, DetectionDataset]
    seen: list[Seen]
    faults: list[Fault]
    findings: list[Finding]
    near: list[tuple[Place, Place]] | None  # near copies, if they were looked for


def main(args: Sequence[str]) -> int:
    """Print counts, findings and faults of ``data.train`` and ``data.val``.

    Returns:
        1 if there are faults, else 0.
    """
    config, arguments = parse_recipe(options.parser(), args)
    _check_arguments(arguments, config.data)
    data = resolved(config.data)
    if arguments.fix:
        check_new(data, Path(arguments.fix))
    checked = _check(data)
    _print(checked)
    if arguments.json:
        content = json.dumps(_content(checked), indent=1, allow_nan=False)
        Path(arguments.json).write_text(content + "\n", encoding="utf-8")
    if arguments.html:
        Path(arguments.html).write_text(_page(checked), encoding="utf-8")
    if arguments.groups:
        print(_write_groups(checked, Path(arguments.groups)))
    if arguments.fix:
        changes = write_fixed(data, checked.parts, Path(arguments.fix))
        done = "".join(f"\n{what}: {number}" for what, number in changes.items())
        print(f"{done}\nwithout them, with links to the images: --data.root {arguments.fix}")
    severe = any(finding.severity == "fault" for finding in checked.findings)
    return 1 if checked.faults or severe else 0


def _check_arguments(arguments: Any, data: DataConfig) -> None:
    """Before anything that takes long."""
    if arguments.fix:
        check_new(data, Path(arguments.fix))
    if arguments.html:
        for package in ("jinja2", "plotly"):
            need(package, "report", "--html")
    if arguments.groups:
        need("imagehash", "check", "--groups")
        if data.format == "lmdb":
            raise ConfigError("--groups: images of data.format lmdb are not looked at")
    for option in ("json", "html", "groups"):
        file = getattr(arguments, option)
        if file and (Path(file).is_dir() or not Path(file).parent.is_dir()):
            raise ConfigError(f"--{option} {file}: not a file in a folder that is there")


def _check(data: DataConfig) -> _Checked:
    able = find_spec("imagehash") is not None and data.format != "lmdb"
    parts, seen, faults = look_through(data, gray=able, afresh=True)
    near = near_copies(seen, bar("looking for near copies")) if able else None
    return _Checked(data, parts, seen, faults, all_findings(seen, near or ()), near)


def _write_groups(checked: _Checked, file: Path) -> str:
    number = write_groups(file, Path(checked.data.root), checked.seen, checked.near or [])
    return f"\ngroups of near copies, which --data.groups {file} keeps in one fold: {number}"


def _print(checked: _Checked) -> None:
    print(aligned(_parts_table(checked.parts)), end="\n\n")
    print(aligned(_classes_table(checked.parts)))
    if checked.findings:
        print("\n" + aligned(_findings_table(checked.findings), left=5))
    for line in _not_looked_for(checked):
        print(f"\n{line}")
    if checked.faults:
        print(f"\n{count(checked.faults)}:")
        print("\n".join(by_cause(checked.faults)))
    elif not any(finding.severity == "fault" for finding in checked.findings):
        print("\nno faults")


def _not_looked_for(checked: _Checked) -> list[str]:
    if checked.data.format == "lmdb":
        return ["images were not looked at: that was done when they were packed"]
    missing = "near copies of images were not looked for: that needs imagehash, which pip install "
    return [f"{missing}'detcenter[check]' brings"] if checked.near is None else []


def _parts_table(parts: dict[Part, DetectionDataset]) -> list[list[str]]:
    titles = ["images", "without boxes", "boxes", "difficult", "crowd", "dropped, without area"]
    rows = [["", *titles]]
    for part, dataset in parts.items():
        rows.append([f"data.{part}", *map(str, _counts(dataset).values())])
    return rows


def _counts(dataset: DetectionDataset) -> dict[str, int]:
    """What a part holds, by the names that --json has for it."""
    boxes = [len(annotation["labels"]) for annotation in dataset.annotations]
    return {
        "images": len(boxes),
        "images_without_boxes": boxes.count(0),
        "boxes": sum(boxes),
        "difficult": sum(int(a["difficult"].sum()) for a in dataset.annotations),
        "crowd": sum(int(a["iscrowd"].sum()) for a in dataset.annotations),
        "dropped": sum(dataset.dropped.values()),
    }


def _classes_table(parts: dict[Part, DetectionDataset]) -> list[list[str]]:
    """Boxes of every class."""
    rows = [["class", *(f"data.{part}" for part in parts)]]
    for name, of_parts in _by_class(parts).items():
        rows.append([printable(name), *map(str, of_parts.values())])
    return rows


def _by_class(parts: dict[Part, DetectionDataset]) -> dict[str, dict[str, int]]:
    counts = {part: _boxes_of_classes(dataset) for part, dataset in parts.items()}
    names = dict.fromkeys(name for dataset in parts.values() for name in dataset.classes)
    return {name: {part: counts[part][name] for part in parts} for name in names}


def _boxes_of_classes(dataset: DetectionDataset) -> Counter[str]:
    labels = (label for annotation in dataset.annotations for label in annotation["labels"])
    return Counter(dataset.classes[label - 1] for label in labels)


def _findings_table(findings: Sequence[Finding]) -> list[list[str]]:
    rows = [["", "finding", "part", "count", "for example"]]
    width = max(len("count"), *(len(str(finding.total)) for finding in findings))
    for finding in findings:
        parts = ", ".join(f"data.{part}" for part in finding.parts)
        example = printable(finding.examples[0].text)
        example = example if len(example) <= _LONGEST else f"{example[: _LONGEST - 1]}…"
        rows.append([finding.severity, finding.what, parts, f"{finding.total:>{width}}", example])
    return rows


def _content(checked: _Checked) -> dict[str, Any]:
    """For --json; docs/check.md says what its keys mean."""
    return {
        "parts": {part: _counts(dataset) for part, dataset in checked.parts.items()},
        "classes": _by_class(checked.parts),
        "faults": [{"file": str(file), "what": what} for file, what in checked.faults],
        "findings": findings_json(checked.findings, checked.seen),
        "near_copies_looked_for": checked.near is not None,
    }


def _page(checked: _Checked) -> str:
    from detcenter.report.data_page import data_page  # needs the extra

    return data_page(
        Path(checked.data.root).resolve().name,
        checked.seen,
        _parts_table(checked.parts),
        checked.findings,
        by_cause(checked.faults),
        read_image,
        bar("making the page"),
    )
