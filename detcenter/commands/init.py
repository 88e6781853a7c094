"""`detcenter init`: a folder in, a recipe that fits it out."""

import dataclasses
import inspect
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from detcenter.analysis.anchors import Detector
from detcenter.errors import ConfigError
from detcenter.models import OVER_BACKBONES
from detcenter.models.custom import ANCHOR_SCALES, ASPECT_RATIOS, build_over_backbone
from detcenter.models.weights import is_file
from detcenter.options import init as options
from detcenter.recipe.anchors import Anchors, near_points, reached
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import training_set, validation_set
from detcenter.recipe.detectors import builder_arguments, detector
from detcenter.recipe.facts import Facts, downloaded_weights, facts_of, this_machine
from detcenter.recipe.layouts import resolved
from detcenter.recipe.parsing import given_keys, parse_recipe, with_whole_names
from detcenter.recipe.proposal import propose
from detcenter.recipe.written import config_of, recipe_text


def main(args: Sequence[str]) -> None:
    """Write ``--output``, and print what was found and how many objects the anchors reach."""
    parser = options.parser()
    args = with_whole_names(parser, args)
    asked, arguments = parse_recipe(parser, args)
    folder = Path(arguments.folder)
    output = Path(arguments.output or f"{folder.resolve().name}.yaml")
    # Null lets the proposal decide, but where it stands for "without".
    given = {
        key: value
        for key, value in given_keys(asked, args).items()
        if value is not None or key in ("center", "model.weights_backbone")
    }
    _check(given, folder, output, arguments.overwrite)

    data = resolved(dataclasses.replace(asked.data, root=str(folder)))
    train = training_set(data)
    val = validation_set(data, train.classes)
    facts = facts_of(train)
    if not len(facts.boxes):
        raise ConfigError(
            f"data.train {data.train!r} of {folder} has no objects to learn from, only crowds or "
            "difficult ones; data.keep_difficult takes the latter"
        )
    lines = propose(facts, data, this_machine(), given, downloaded_weights)
    config = config_of(lines)
    _check_detector(config, facts)
    counts = (
        f"{facts.images} training images, {len(val)} validation images, "
        f"{len(facts.boxes)} objects of {len(facts.classes)} classes"
    )
    command = f"detcenter train --config {shlex.quote(str(output))}"
    shares = _shares(facts, config)
    output.parent.mkdir(parents=True, exist_ok=True)
    header = [
        command,
        f"Written by detcenter init for {counts};",
        "docs/init.md has the rules.",
        f"{shares}.",
    ]
    output.write_text(recipe_text(lines, header), encoding="utf-8")
    print(f"{counts}\n{shares}\n{output} says why each value is what it is; train with\n{command}")


def _check(given: Mapping[str, Any], folder: Path, output: Path, overwrite: bool) -> None:
    """Before anything that takes long."""
    if "data.root" in given:
        raise ConfigError("--data.root is what FOLDER says; give it once")
    name = given.get("model.name", "ssd")
    if name not in OVER_BACKBONES:
        known = ", ".join(OVER_BACKBONES)
        raise ConfigError(f"--model.name {name}: the models that are fitted are {known}")
    if given.get("model.image_size", 32) < 32:
        raise ConfigError(f"model.image_size is {given['model.image_size']}, the least is 32")
    if name != "fcos" and ("model.strides" in given) != ("model.anchor_scales" in given):
        raise ConfigError(
            "model.strides and model.anchor_scales belong together; give both or none of them"
        )
    if given.get("data.format") != "digits" and not folder.exists():  # digits are made there
        raise ConfigError(f"{folder}: no such folder")
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a file, such as {output}.yaml")
    if output.exists() and not overwrite:
        raise ConfigError(f"--output {output} is there already; name another, or --overwrite it")


def _check_detector(config: Config, facts: Facts) -> None:
    """Whether the recipe makes a detector; weights are read only where a file was given."""
    weights = config.model.weights_backbone
    load = weights is not None and is_file(weights)
    detector(config, builder_arguments(config.model, facts.classes), load=load)


def _shares(facts: Facts, config: Config) -> str:
    """How many objects the anchors reach, and how many those that the builder has by itself."""
    model, own = config.model, inspect.signature(build_over_backbone).parameters
    size, strides = model.image_size, own["strides"].default
    assert size and model.strides
    if model.name == "fcos":
        before, after = (near_points(facts.boxes, size, x) for x in (strides, model.strides))
        return (
            f"{after:.1%} of the objects have a point that is responsible for them, {before:.1%} "
            "with the builder's own strides"
        )
    assert model.anchor_scales and model.aspect_ratios
    name = cast(Detector, model.name)
    fitted = Anchors(model.strides, model.anchor_scales, model.aspect_ratios)
    default = Anchors(strides, [*map(list, ANCHOR_SCALES)], list(ASPECT_RATIOS))
    before, after = (reached(facts.boxes, size, anchors, name) for anchors in (default, fitted))
    return (
        f"{after:.1%} of the objects are reached by an anchor at IoU 0.5, {before:.1%} by the "
        "builder's own anchors"
    )
