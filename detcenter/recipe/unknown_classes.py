"""data.unknown: classes that a detector is not taught."""

import logging

from detcenter.data import DetectionDataset, TaughtDataset
from detcenter.errors import ConfigError, nearest
from detcenter.recipe.config import DataConfig

logger = logging.getLogger("detcenter")


def unknown_classes(data: DataConfig, taught: list[str] | None) -> list[str]:
    """Those of ``data.unknown``.

    Raises:
        ConfigError: one is among the classes that were taught, or objects of one would be taught.
    """
    unknown = [str(name) for name in data.unknown or []]  # of digits YAML makes numbers
    for name in unknown:
        if taught is not None and name in taught:
            raise ConfigError(f"data.unknown: {name!r} is a class that the checkpoint was taught")
    if data.format == "digits" and data.digits.wrong_labels:
        raise ConfigError(
            "data.unknown and data.digits.wrong_labels: some unknown objects would be taught under "
            "another label; leave one of them out"
        )
    return unknown


def with_classes(classes: list[str] | None, unknown: list[str]) -> list[str] | None:
    """With ``unknown`` behind them; None stays None."""
    return classes and [*classes, *(name for name in unknown if name not in classes)]


def missing_classes(classes: list[str], unknown: list[str]) -> str | None:
    """What is wrong with ``unknown``, if one of them is none of the training set's classes."""
    name = next((name for name in unknown if name not in classes), None)
    return name and f"data.unknown: no class {name!r}; {nearest(name, classes)}"


def taught_images(
    whole: DetectionDataset, unknown: list[str], keep_images: bool
) -> DetectionDataset:
    """What is trained on: the boxes of the other classes."""
    why = missing_classes(whole.classes, unknown)
    if why is not None:
        raise ConfigError(why)
    known = [name for name in whole.classes if name not in unknown]
    if not known:
        raise ConfigError("data.unknown names all classes; there is nothing to teach")
    dataset = TaughtDataset(whole, known, unknown, keep_images)
    few = f"data.unknown: {len(dataset)} of {len(whole)} training images have no such object"
    if len(dataset) == 0:
        raise ConfigError(f"{few}; data.keep_unknown_images true trains on the others too")
    if not keep_images:
        logger.info("%s, and are trained on", few)
    return dataset


def with_unknown(
    whole: DetectionDataset, taught: list[str] | None, unknown: list[str]
) -> DetectionDataset:
    """What is measured on: all images, and where unknown objects are.

    The classes are those that were taught, if these are all of the data set's; else its own.
    """
    known = [name for name in whole.classes if name not in unknown]
    if taught is None or not {*known} <= {*taught}:
        taught = known
    if whole.categories and {*known} != {*taught}:  # which have ids, so that all are due
        taught = known
    return TaughtDataset(whole, taught, unknown, keep_images=True)
