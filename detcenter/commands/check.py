"""`detcenter check`: what is wrong with the data of a recipe, before it is trained on."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from detcenter.data import DetectionDataset
from detcenter.data.errors import by_cause, count, printable
from detcenter.evaluation.table import aligned
from detcenter.recipe.datasets import read_parts
from detcenter.recipe.fixed import check_new, write_fixed
from detcenter.recipe.layouts import Part, resolved
from detcenter.recipe.parsing import parse_recipe, recipe_parser


def main(args: Sequence[str]) -> int:
    """Print counts and faults of ``data.train`` and ``data.val``; 1 if there are faults, else 0."""
    parser = recipe_parser("detcenter check", "Find what is wrong with data.train and data.val.")
    parser.add_argument("--fix", type=str, help="write the data set without its faults, a new root")
    config, arguments = parse_recipe(parser, args)
    if arguments.fix:
        check_new(config.data, Path(arguments.fix))
    data = resolved(config.data)
    if arguments.fix:
        check_new(data, Path(arguments.fix))
    parts, faults = read_parts(data)
    print("\n\n".join([aligned(_parts_table(parts)), aligned(_classes_table(parts))]))
    if faults:
        print(f"\n{count(faults)}:")
        print("\n".join(by_cause(faults)))
    else:
        print("\nno faults")
    if arguments.fix:
        write_fixed(data, parts, Path(arguments.fix))
        print(f"\nwithout them, with links to the images: --data.root {arguments.fix}")
    return 1 if faults else 0


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
