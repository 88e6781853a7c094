"""What the names of files and folders say about the parts of a data set."""

import posixpath
import re
from collections.abc import Iterable
from typing import Literal

Role = Literal["train", "val", "test"]

_WORDS: dict[str, Role] = {
    **dict.fromkeys(["train", "training", "trainval", "trainset", "trainingset", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validate", "validation", "valset", "eval", "dev"], "val"),
    **dict.fromkeys(["test", "testing", "testset", "tst"], "test"),
}
# What names hold beside, without saying which part of a role this is.
_GENERAL = {"coco", "csv", "data", "json", "list", "set", "split", "txt", "voc", "xml", "yolo"}
_GENERAL |= {"annotation", "annotations", "bbox", "boxes", "detection", "instances", "labels"}
_GENERAL |= {"image", "images"}


def role_of(name: str) -> Role | None:
    """What a file or folder is for, by the words in its name: train2017, my_valid.json."""
    words = re.findall("[a-z]+", posixpath.basename(name).lower())
    roles = [_WORDS[word] for word in words if word in _WORDS]
    return roles[0] if roles else None


def role_in(name: str) -> Role | None:
    """`role_of` the name itself, or else of the folder nearest to it that has one."""
    roles = map(role_of, reversed(name.split("/")))
    return next((role for role in roles if role is not None), None)


def folders_of_parts(names: Iterable[str]) -> list[str]:
    """The folders of these files whose names say what they are for; "." where none does."""
    found: dict[str, None] = {}
    for folder in dict.fromkeys(posixpath.dirname(name) for name in names):
        parts = folder.split("/")
        ends = [k for k, part in enumerate(parts, start=1) if role_of(part) is not None]
        if ends:
            found["/".join(parts[: ends[0]])] = None
    return list(found) or ["."]


def outside(names: Iterable[str], parts: Iterable[str]) -> list[str]:
    """The folders of those files that are in none of the folders `parts`."""
    inside = tuple(f"{part}/" for part in parts)
    folders = (posixpath.dirname(name) for name in names if not name.startswith(inside))
    return [*dict.fromkeys(folder or "." for folder in folders)]


def part_for(role: Literal["train", "val"], names: Iterable[str]) -> str | None:
    """The part to train on, or to evaluate on: of validation's, or else of a test's.

    VOC's "trainval" is trained on if no part is for validation, or no other for training; then the
    part for validation, which is in it, is not evaluated on.

    Raises:
        ValueError: several are as good.
    """
    by_role: dict[Role | None, list[str]] = {}
    for name in names:
        by_role.setdefault(role_in(name), []).append(name)
    train, val = by_role.get("train", []), by_role.get("val", [])
    both = [name for name in train if "trainval" in name.lower()]
    alone = [name for name in train if name not in both]
    if both and not alone:
        val = []  # its images are in there
    if role == "train":
        return _one_of((both or alone) if not val else alone)
    return _one_of(val or by_role.get("test", []))


def _one_of(names: list[str]) -> str | None:
    """Of several the one whose name says nothing but the role."""
    plain = [name for name in names if _is_plain(name)] if len(names) > 1 else names
    if len(plain) == 1 or not names:
        return plain[0] if plain else None
    raise ValueError(", ".join((plain or names)[:5]) + (", …" if (plain or names)[5:] else ""))


def _is_plain(name: str) -> bool:
    said = next(part for part in reversed(name.split("/")) if role_of(part) is not None)
    words = re.findall("[a-z]+", said.lower())
    return all(word in _GENERAL or word in _WORDS for word in words)
