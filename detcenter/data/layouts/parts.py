"""What the names of files and folders say about the parts of a data set."""

import posixpath
import re
from collections.abc import Iterable
from typing import Literal

Role = Literal["train", "val", "test"]

_WORDS: dict[str, Role] = {
    **dict.fromkeys(["train", "training", "trainval", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "eval", "dev"], "val"),
    **dict.fromkeys(["test", "testing", "tst"], "test"),
}


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


def part_for(role: Literal["train", "val"], names: Iterable[str]) -> str | None:
    """The part to train on, or to evaluate on: of validation's, or else of a test's.

    Of several the one whose name says so in the fewest letters: "train" before "train_small", and
    before "trainval" where there is a part for validation too.
    """
    by_role: dict[Role | None, list[str]] = {}
    for name in names:
        by_role.setdefault(role_in(name), []).append(name)
    chosen = by_role.get(role) or (by_role.get("test") if role == "val" else None)
    if not chosen:
        return None
    with_val = "val" in by_role
    if role == "train" and not with_val:
        chosen = [name for name in chosen if "trainval" in name.lower()] or chosen
    return min(chosen, key=lambda name: (len(name), name))
