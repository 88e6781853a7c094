"""A checkpoint as a folder for others: weights as safetensors, and a model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detcenter.errors import ConfigError
from detcenter.runs.checkpoints import classes_of
from detcenter.runs.folder import write_whole
from detcenter.training.checkpoint import WEIGHTS
from detcenter.training.safetensors_file import save_safetensors

CARD = "README.md"
_MEASURES = {
    "AP": "COCO's AP",
    "AP50": "AP at IoU 0.5",
    "AP75": "AP at IoU 0.75",
    "mAP_07": "VOC2007's AP",
    "calibration_error": "calibration error",
}
_OF_CLASS = "AP_by_class/"


def publish(checkpoint: Mapping[str, Any], folder: Path, name: str) -> None:
    """Write ``model.safetensors`` and the card ``README.md`` into ``folder``, which is there.

    Args:
        checkpoint: of :func:`load_checkpoint`.
        name: the model's, the title of the card.
    """
    save_safetensors(folder / WEIGHTS, checkpoint)
    write_whole(folder / CARD, model_card(checkpoint, name))


def push(folder: Path, name: str) -> str:
    """Upload a folder of :func:`publish` to a hub of ``huggingface_hub``; returns its address.

    What the hub is and who asks is ``huggingface_hub``'s own: ``HF_ENDPOINT``, and the token of
    ``hf auth login`` or ``HF_TOKEN``. A repository that is made for it is private.

    Args:
        name: of the repository, ``user/model``.

    Raises:
        ConfigError: if the hub does not take it, in one line.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(
            folder_path=folder,
            repo_id=name,
            allow_patterns=[WEIGHTS, CARD],
            commit_message="Upload weights and model card",
        )
    except Exception as error:  # the hub's, the network's, of many kinds
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"--push {name}: {said}; {folder} is written") from None
    return str(address)


def model_card(checkpoint: Mapping[str, Any], name: str) -> str:
    """Markdown, with the header that model hubs read."""
    parts = (_about(checkpoint, name), _results(checkpoint), _data(checkpoint), _USE)
    recipe = yaml.safe_dump(checkpoint["config"], sort_keys=False)
    return "\n".join([_HEADER, *parts, f"## Recipe\n\n```yaml\n{recipe}```\n"])


_HEADER = """---
library_name: detcenter
pipeline_tag: object-detection
tags:
- object-detection
- torchvision
- center-loss
---
"""
_USE = """## How to load

```python
import detcenter

model = detcenter.load("this/folder")  # in eval mode; model.classes are the names from label 1
for found in detcenter.predict(model, "photo.jpg"):
    print(found.detection["boxes"], found.detection["scores"], found.detection["labels"])
```

`detcenter predict --checkpoint this/folder photo.jpg` draws them, and `detcenter export` writes an
ONNX file.
"""


def _about(checkpoint: Mapping[str, Any], name: str) -> str:
    config, builder = checkpoint["config"], checkpoint["builder"]
    over = f" over {builder['backbone']}" if builder.get("backbone") else ""
    size = f", at {builder['image_size']} pixels" if builder.get("image_size") else ""
    term = "without a center loss" if config["center"] is None else "with a center loss"
    classes = classes_of(checkpoint)
    lines = [
        f"# {name}\n",
        f"A detector of {len(classes)} classes: torchvision's `{builder['name']}`{over}{size}, "
        f"trained {term} on its box features.\n",
        f"Classes, from label 1: {', '.join(map(_cell, classes))}.\n",
    ]
    enrolled = classes[len(checkpoint["classes"]) :]
    if enrolled:
        names = ", ".join(map(_cell, enrolled))
        lines.append(f"Not trained on, but enrolled by the features of a few boxes: {names}.\n")
    if "unknown" in checkpoint:
        by = checkpoint["unknown"]["by"]
        lines.append(f"It scores how little a box looks like any of them, by `{by}`.\n")
    return "\n".join(lines)


def _results(checkpoint: Mapping[str, Any]) -> str:
    """Of the newest epoch that was measured."""
    measured = [row for row in checkpoint.get("rows", ()) if row.get("AP")]
    if not measured:
        return "## Results\n\nNot measured.\n"
    row = measured[-1]
    numbers = {text: row[key] for key, text in _MEASURES.items() if row.get(key)}
    of_class = {f"AP of {k.removeprefix(_OF_CLASS)}": x for k, x in row.items() if _OF_CLASS in k}
    lines = [
        f"| {_cell(text)} | {float(value):.3f} |"
        for text, value in (numbers | of_class).items()
        if value
    ]
    table = "\n".join(["| on the validation images | |", "|---|---|", *lines])
    return f"## Results\n\nAfter epoch {row['epoch']}:\n\n{table}\n"


def _data(checkpoint: Mapping[str, Any]) -> str:
    data = checkpoint["config"]["data"]
    root = Path(data["root"]).name
    parts = f"trained on the part `{data['train']}`, measured on `{data['val']}`"
    return f"## Data\n\n`{root}`, in the layout `{data['format']}`; {parts}.\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
