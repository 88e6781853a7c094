"""`detcenter enroll`: a new class for a trained detector, by a few boxes and without training."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from detcenter.commands.given_boxes import Box, check_inside, parsed_box
from detcenter.commands.predict import UNKNOWN
from detcenter.data import image_size
from detcenter.errors import ConfigError, nearest
from detcenter.models import EnrolledClasses, enroll
from detcenter.options import enroll as options
from detcenter.recipe.config import DataConfig
from detcenter.recipe.parsing import parse
from detcenter.runs.checkpoints import checkpoint_in, detector_of, enrolled_classes
from detcenter.runs.enrolment import (
    FewBoxes,
    annotated_boxes,
    given_boxes,
    seen_in,
    some_boxes,
    taught_classes,
)
from detcenter.training import save_checkpoint


def main(args: Sequence[str]) -> None:
    """Write the checkpoint with the class, or without it, to ``--output``."""
    checkpoint, recipe = checkpoint_in(args)
    arguments = parse(options.parser(args, recipe), args)
    _check(arguments, checkpoint)
    classes = enrolled_classes(checkpoint, Path(arguments.checkpoint))
    if arguments.remove is not None:
        classes = _without(classes, arguments.remove)
        said = f"without {arguments.remove!r}"
    else:
        classes, said = _with(classes, checkpoint, arguments)
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    state = classes.state() if classes.names else None
    save_checkpoint(output, **{**checkpoint, "enrolled": state})
    known = ", ".join(map(repr, classes.names)) or "none"
    print(f"{output}: {said}; enrolled classes: {known}")


def _check(arguments: Namespace, checkpoint: Mapping[str, Any]) -> None:
    if (arguments.name is None) == (arguments.remove is None):
        raise ConfigError(
            "--class NAME enrolls a class, --remove NAME forgets one; give one of them"
        )
    if arguments.images is not None and arguments.box:
        raise ConfigError("--images and --box both say where the boxes are; give one of them")
    if arguments.boxes is not None and arguments.boxes < 1:
        raise ConfigError(f"--boxes is 1 or more, not {arguments.boxes}")
    if arguments.name in checkpoint["classes"]:
        raise ConfigError(f"--class: {arguments.name!r} is a class that the checkpoint was taught")
    if arguments.name == UNKNOWN and checkpoint.get("unknown") is not None:
        raise ConfigError(
            f"--class: {UNKNOWN!r} is what predict calls objects of no class with this checkpoint; "
            "take another name"
        )


def _without(classes: EnrolledClasses | None, name: str) -> EnrolledClasses:
    if classes is None:
        raise ConfigError(f"--remove {name!r}: the checkpoint has no enrolled classes")
    if name not in classes.names:
        raise ConfigError(
            f"--remove: no class {name!r} is enrolled; {nearest(name, classes.names)}"
        )
    classes.remove(name)
    return classes


def _with(
    classes: EnrolledClasses | None, checkpoint: dict[str, Any], arguments: Namespace
) -> tuple[EnrolledClasses, str]:
    few = _boxes(arguments)
    if arguments.boxes is not None:
        if arguments.boxes > few.total:
            raise ConfigError(
                f"--boxes {arguments.boxes}: there are {few.total} of {arguments.name!r}"
            )
        few = some_boxes(few, arguments.boxes, arguments.seed)
    model = detector_of(checkpoint | {"enrolled": None}, Path(arguments.checkpoint))
    if classes is None:
        classes = taught_classes(model, arguments.data, checkpoint["classes"])
    again = " again" if arguments.name in classes.names else ""
    try:
        modes = classes.add(arguments.name, seen_in(few, model, arguments.data.workers))
        enroll(model, classes)  # which says if it cannot be
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
    of_modes = "" if modes == 1 else f", which fall apart into {modes} groups"
    boxes = f"{few.total} box{'' if few.total == 1 else 'es'}"
    return classes, f"{arguments.name!r} is enrolled{again} by {boxes}{of_modes}"


def _boxes(arguments: Namespace) -> FewBoxes:
    if arguments.box:
        by_file: dict[Path, list[Box]] = {}
        for file, text in arguments.box:
            by_file.setdefault(Path(file), []).append(parsed_box(text))
        for path, boxes in by_file.items():
            width, height = image_size(path)
            check_inside(boxes, path, height, width)
        return given_boxes(by_file, arguments.name)
    data = arguments.data
    if arguments.images is not None:
        elsewhere = {"root": arguments.images, "workers": data.workers, "on_error": data.on_error}
        data = DataConfig(**elsewhere)
    return annotated_boxes(dataclasses.replace(data, folds=None), arguments.name)
