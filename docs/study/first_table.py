"""Every setting of the first study, as a table of Markdown.

python docs/study/first_table.py
"""

import re
from pathlib import Path
from typing import NamedTuple

from intervals import Interval, Pair, over_both, over_seeds, pair_of, points, validation_set

HERE = Path(__file__).parent
VECTORS, EMBEDDING, SOFTMAX, DESIGNS = (
    "Faster R-CNN, its own vectors: term − plain",
    "On an embedding with a softmax: term − softmax alone",
    "Softmax on an embedding − plain",
    "SSD, other designs",
)
# Label, comparison, first and second variant.
GROUPS = {
    VECTORS: [
        ("200 scenes, weight 1", "rcnn_200", "plain", "center"),
        ("200 scenes, weight 0.3", "rcnn_weights", "plain", "weight_0.3"),
        ("a tail of 50:1, weight 1", "rcnn_tail50", "plain", "center"),
        ("10 % wrong labels, weight 1", "rcnn_noise10", "plain", "center"),
        ("30 % wrong labels, weight 1", "rcnn_noise30", "plain", "center"),
        ("forty classes, weight 1", "rcnn_40classes", "plain", "center"),
        ("forty classes, weight 1, risen slowly", "rcnn_40classes", "plain", "warmup"),
        ("forty classes, weight 0.3", "rcnn_40classes", "plain", "weight_0.3"),
        ("dice, weight 1", "rcnn_dice", "plain", "center"),
        ("dice, weight 0.3", "rcnn_dice", "plain", "weight_0.3"),
        ("200 scenes, weight 1, against softmax", "rcnn_200", "softmax", "center"),
        ("30 % wrong labels, against softmax", "rcnn_noise30_softmax", "softmax", "center"),
    ],
    EMBEDDING: [
        ("SSD, 200 scenes, weight 0.3", "ssd_200", "softmax", "center"),
        ("SSD, 200 scenes, weight 1", "ssd_200", "softmax", "weight_1"),
        ("SSD, 50 scenes, weight 0.3", "ssd_50", "softmax", "center"),
        ("SSD, 100 scenes, weight 0.3", "ssd_100", "softmax", "center"),
        ("SSD, 400 scenes, weight 0.3", "ssd_400", "softmax", "center"),
        ("SSD, a tail of 50:1, weight 0.3", "ssd_tail50", "softmax", "center"),
        ("SSD, forty classes, weight 0.3", "ssd_40classes", "softmax", "center"),
        ("SSD, 30 % wrong labels, weight 0.3", "ssd_noise30", "softmax", "center"),
        ("Faster R-CNN, 200 scenes, weight 1", "rcnn_embedding", "softmax", "embedding_1"),
    ],
    SOFTMAX: [
        ("SSD, 200 scenes", "ssd_200", "plain", "softmax"),
        ("SSD, 50 scenes", "ssd_50", "plain", "softmax"),
        ("SSD, 100 scenes", "ssd_100", "plain", "softmax"),
        ("SSD, 400 scenes", "ssd_400", "plain", "softmax"),
        ("SSD, a tail of 50:1", "ssd_tail50", "plain", "softmax"),
        ("SSD, forty classes", "ssd_40classes", "plain", "softmax"),
        ("SSD, 30 % wrong labels", "ssd_noise30", "plain", "softmax"),
        ("Faster R-CNN, 200 scenes", "rcnn_200", "plain", "softmax"),
        ("Faster R-CNN, 30 % wrong labels", "rcnn_noise30_softmax", "plain", "softmax"),
    ],
    DESIGNS: [
        ("term on cells, weight 0.3 − plain", "ssd_cells", "plain", "cell_0.3"),
        ("term on cells, weight 1 − plain", "ssd_cells", "plain", "cell_1"),
        ("term on cells, weight 3 − plain", "ssd_cells", "plain", "cell_3"),
        ("L2 softmax − plain", "ssd_l2", "plain", "l2"),
        ("L2 softmax: term on cells − none", "ssd_l2", "l2", "l2_cell"),
        ("a vector an anchor: term − none", "ssd_anchor", "weight_0", "weight_0.3"),
        ("the same, forty classes", "ssd_anchor_40classes", "weight_0", "weight_0.3"),
    ],
}


class Row(NamedTuple):
    label: str
    pair: Pair
    both: Interval


def rows_of(group: str) -> list[Row]:
    rows = []
    for label, file, first, second in GROUPS[group]:
        path = HERE / f"{file}.json"
        pair = pair_of(path, first, second)
        rows.append(Row(label, pair, over_both(pair, validation_set(path)[1])))
    return rows


def table() -> str:
    lines = [
        "| setting | seeds | AP | over seeds | over images | over both | AP50, over seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in GROUPS:
        lines.append(f"| **{group}** | | | | | | |")
        for label, pair, both in rows_of(group):
            ap, ap50 = pair.values["AP"], pair.values["AP50"]
            images = " to ".join(map(points, pair.images))
            cells = [label, len(ap), points(ap.mean()), over_seeds(ap), images, f"**{both}**"]
            cells.append(f"{points(ap50.mean())} ({over_seeds(ap50)})")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return re.sub(r"-(?=\d)", "−", "\n".join(lines))


if __name__ == "__main__":
    print(table())
