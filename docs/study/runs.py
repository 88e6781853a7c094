"""Every run of the first study, one a line.

python docs/study/runs.py docs/study/runs.csv

Comparisons share runs: a variant and seed with the same AP, AP50 and AP75 to the last digit is one
run, listed with the first comparison that holds it. Fine-tuning left no JSON: of it there are the
APs of first.md, to three digits, and none of the runs that it started from.
"""

import csv
import json
import sys
from pathlib import Path

METRICS = ("AP", "AP50", "AP75")
SETTINGS = {
    "rcnn_200": "Faster R-CNN, 200 scenes",
    "rcnn_weights": "Faster R-CNN, 200 scenes",
    "rcnn_embedding": "Faster R-CNN, 200 scenes",
    "rcnn_40classes": "Faster R-CNN, forty classes",
    "rcnn_tail50": "Faster R-CNN, a tail of 50:1",
    "rcnn_noise10": "Faster R-CNN, 10 % wrong labels",
    "rcnn_noise30": "Faster R-CNN, 30 % wrong labels",
    "rcnn_noise30_softmax": "Faster R-CNN, 30 % wrong labels",
    "rcnn_dice": "Faster R-CNN, dice",
    "ssd_200": "SSD, 200 scenes",
    "ssd_100": "SSD, 100 scenes",
    "ssd_400": "SSD, 400 scenes",
    "ssd_50": "SSD, 50 scenes",
    "ssd_tail50": "SSD, a tail of 50:1",
    "ssd_40classes": "SSD, forty classes",
    "ssd_noise30": "SSD, 30 % wrong labels",
    "ssd_cells": "SSD, 200 scenes, the term on cells",
    "ssd_l2": "SSD, 200 scenes, L2 softmax",
    "ssd_anchor": "SSD, 200 scenes, a vector an anchor",
    "ssd_anchor_40classes": "SSD, forty classes, a vector an anchor",
}
HALF, FINETUNED = (
    "Faster R-CNN, 200 scenes, 7 epochs without the term",
    "Faster R-CNN, 200 scenes, 7 epochs without the term, then 7",
)
FINETUNED_AP = {
    "without": (0.590, 0.565, 0.550),
    "with": (0.575, 0.587, 0.567),
    "with_warmup": (0.587, 0.587, 0.552),
}


def main(file: Path) -> None:
    of_comparisons = _of_comparisons()
    print(f"{len(of_comparisons)} runs in {len(SETTINGS)} comparisons,", end=" ")
    print(
        f"{sum(row['file'] == 'rcnn_dice.json' for row in of_comparisons)} of them on dice;",
        end=" ",
    )
    print(f"{len(_of_finetuning())} of fine-tuning")
    with file.open("w", newline="") as out:
        names = ["file", "also", "setting", "variant", "seed", *METRICS]
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(of_comparisons + _of_finetuning())


def _of_comparisons() -> list[dict[str, str]]:
    runs: dict[tuple[float, ...], dict[str, str]] = {}
    for name, setting in SETTINGS.items():
        path = Path(__file__).with_name(f"{name}.json")
        for variant in json.loads(path.read_text())["variants"]:
            columns = (variant[metric]["values"] for metric in METRICS)
            for seed, *values in zip(variant["seeds"], *columns, strict=True):
                numbers = {m: f"{value:.6f}" for m, value in zip(METRICS, values, strict=True)}
                row = {"file": path.name, "also": "", "setting": setting} | numbers
                row |= {"variant": variant["name"], "seed": str(seed)}
                known = runs.setdefault(tuple(values), row)
                if known is not row:
                    known["also"] = f"{known['also']} {path.name}".strip()
    return list(runs.values())


def _of_finetuning() -> list[dict[str, str]]:
    rows = [{"setting": HALF, "variant": "plain", "seed": str(seed)} for seed in range(3)]
    for variant, values in FINETUNED_AP.items():
        for seed, value in enumerate(values):
            row = {"setting": FINETUNED, "variant": variant, "seed": str(seed)}
            rows.append(row | {"AP": f"{value:.3f}"})
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
