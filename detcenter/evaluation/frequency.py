"""AP of rare, common and frequent classes, as LVIS groups them.

Gupta, Dollár and Girshick, LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GROUPS = ("rare", "common", "frequent")
_MOST = (10, 100)  # training images with a rare class, and with a common one
_LETTERS = {group[0]: group for group in GROUPS}


def frequency_groups(
    annotations: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> dict[str, str]:
    """The group of every class: rare is in 1 to 10 of the images, common in 11 to 100.

    `annotations` are those of the training images; a class that is in none has no group.
    """
    of_images = [annotation["labels"] for annotation in annotations]
    image = np.repeat(np.arange(len(of_images)), [len(labels) for labels in of_images])
    labels = np.concatenate([np.zeros(0, np.int64), *of_images])
    found = np.unique(image * (len(classes) + 1) + labels) % (len(classes) + 1)  # once an image
    counts = np.bincount(found, minlength=len(classes) + 1).tolist()
    return {name: _group(counts[k]) for k, name in enumerate(classes, start=1) if counts[k]}


def groups_in(categories: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, str]:
    """The groups that the `categories` of a COCO file name, as LVIS's do.

    By `frequency` (r, c or f), or else `image_count`; a class whose category, in their order, has
    neither has no group.
    """
    groups = {}
    for name, category in zip(classes, categories, strict=False):
        letter, count = category.get("frequency"), category.get("image_count")
        if isinstance(letter, str) and letter in _LETTERS:
            groups[name] = _LETTERS[letter]
        elif isinstance(count, int) and count > 0:
            groups[name] = _group(count)
    return groups


def ap_by_frequency(
    ap_by_class: Mapping[str, float], groups: Mapping[str, str]
) -> dict[str, float]:
    """`AP_rare`, `AP_common` and `AP_frequent`: means over those classes of a group with objects.

    nan for a group without such classes; nothing if all classes are of one group.
    """
    if len({groups[name] for name in ap_by_class if name in groups}) < 2:
        return {}
    return {
        f"AP_{group}": _mean([ap for name, ap in ap_by_class.items() if groups.get(name) == group])
        for group in GROUPS
    }


def _group(images: int) -> str:
    return GROUPS[sum(images > most for most in _MOST)]


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
