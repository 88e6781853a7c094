"""`detcenter check`: what is wrong with the data of a recipe, before it is trained on."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detcenter.commands.datasets import Part, read_part
from detcenter.commands.fix import check_new, write_fixed
from detcenter.config import DataConfig
from detcenter.data import DetectionDataset, Fault
from detcenter.data.errors import count, printable
from detcenter.evaluation.table import aligned
from detcenter.parsing import parse_recipe, recipe_parser


def main(args: Sequence[str]) -> int:
    """Print counts and faults of ``data.train`` and ``data.val``; 1 if there are faults, else 0."""
    parser = recipe_parser("detcenter check", "Find what is wrong with data.train and data.val.")
    parser.add_argument("--fix", type=str, help="write the data set without its faults, a new root")
    config, arguments = parse_recipe(parser, args)
    if arguments.fix:
        check_new(config.data, Path(arguments.fix))
    parts, faults = read_parts(config.data)
    print("\n\n".join([aligned(_parts_table(parts)), aligned(_classes_table(parts))]))
    if faults:
        print(f"\n{count(faults)}:")
        print("\n".join(map(str, faults)))
    else:
        print("\nno faults")
    if arguments.fix:
        write_fixed(config.data, parts, Path(arguments.fix))
        print(f"\nwithout them, with links to the images: --data.root {arguments.fix}")
    return 1 if faults else 0


def read_parts(data: DataConfig) -> tuple[dict[Part, DetectionDataset], list[Fault]]:
    """Both parts, and all that training on them would stumble over."""
    train, faults = read_part(data, "train", data.classes)
    val, of_val = read_part(data, "val", data.classes or (train.classes if _voc(data) else None))
    if not any(len(annotation["labels"]) for annotation in train.annotations):
        faults.append(Fault(Path(data.root) / data.train, "no objects to learn from"))
    if len(val) == 0:
        faults.append(Fault(Path(data.root) / data.val, "no images to evaluate on"))
    if train.classes != val.classes:
        what = f"other classes than data.train {data.train!r}; they must be the same"
        faults.append(Fault(Path(data.root) / data.val, what))
    return {"train": train, "val": val}, [*dict.fromkeys([*faults, *of_val])]


def _voc(data: DataConfig) -> bool:
    return data.format != "coco"


def _parts_table(parts: dict[Part, DetectionDataset]) -> list[list[str]]:
    rows = [["", "images", "without boxes", "boxes", "difficult", "crowd", "dropped, without area"]]
    for part, dataset in parts.items():
        boxes = [len(annotation["labels"]) for annotation in dataset.annotations]
        flags = [
            sum(int(a[f].sum()) for a in dataset.annotations) for f in ("difficult", "iscrowd")
        ]
        dropped = sum(dataset.dropped.values())
        counts = [len(boxes), boxes.count(0), sum(boxes), *flags, dropped]
        rows.append([f"data.{part}", *map(str, counts)])
    return rows


def _classes_table(parts: dict[Part, DetectionDataset]) -> list[list[str]]:
    """Boxes of every class."""
    rows = [["class", *(f"data.{part}" for part in parts)]]
    counts = [_by_class(dataset) for dataset in parts.values()]
    for name in dict.fromkeys(name for dataset in parts.values() for name in dataset.classes):
        rows.append([printable(name), *(str(of[name]) for of in counts)])
    return rows


def _by_class(dataset: DetectionDataset) -> Counter[str]:
    labels = (label for annotation in dataset.annotations for label in annotation["labels"])
    return Counter(dataset.classes[label - 1] for label in labels)
