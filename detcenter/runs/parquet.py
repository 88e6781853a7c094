"""Features of boxes as a table that other tools read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from detcenter.runs.features import described, joined_parts
from detcenter.whole_file import whole_file

_ABOUT = ("term", "embedded", "on_sphere", "model")


def save_parquet(
    path: Path,
    parts: Mapping[str, Mapping[str, np.ndarray]],
    classes: Sequence[str],
    model: nn.Module,
    name: str | None = None,
) -> None:
    """A row for every box; docs/similar.md says what the columns are. It needs pyarrow.

    Args:
        parts: of each, by its name, what `part_features` gives.
        name: of the term whose features they are.
    """
    import pyarrow as pa
    from pyarrow import parquet

    found = joined_parts(parts)
    images, features = found["images"], found["features"]
    labels = pa.array(found["labels"])
    columns = {
        "part": pa.array(found["parts"].tolist(), pa.string()).take(pa.array(images)),
        "file": pa.array(found["files"].tolist(), pa.string()).take(pa.array(images)),
        "width": pa.array(found["sizes"][images, 0]),
        "height": pa.array(found["sizes"][images, 1]),
        "label": labels,
        "class": pa.array([None, *classes], pa.string()).take(labels),
    }
    columns |= {
        key: pa.array(found["boxes"][:, k]) for k, key in enumerate(("x1", "y1", "x2", "y2"))
    }
    flat = pa.array(features.reshape(-1), pa.float32())
    columns["feature"] = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
    about = described(classes, model, name)
    values = {key: about[key].tolist() for key in _ABOUT}
    table = pa.table(columns).replace_schema_metadata({"detcenter": json.dumps(values)})
    with whole_file(path) as file:
        parquet.write_table(table, file)
