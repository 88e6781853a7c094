"""What is raised when a person's data is at fault."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from detcenter.errors import PersonsError

_LISTED = 50  # lines in a message; more would push its first line off the screen
_ALIKE = 5  # faults of one cause that get a line each
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")


class Fault(NamedTuple):
    """What is wrong with one file, or with one entry of it."""

    file: Path
    what: str  # and what to do, in a few words

    def __str__(self) -> str:
        return printable(f"{self.file}: {self.what}")


class DataError(PersonsError, ValueError):
    """Bad data: one line that says where (file, key), what is wrong, what to do.

    Made of several `Fault`s it is a list instead: a line that counts them, then a line each.
    """

    many_lines = True

    def __str__(self) -> str:
        if len(self.args) < 2:
            return super().__str__()
        found = by_cause(self.args)
        lines = [f"{count(self.args)}:", *(f"  {line}" for line in found[:_LISTED])]
        if len(found) > _LISTED:
            lines.append(f"  and {len(found) - _LISTED} more; `detcenter check` lists all")
        return "\n".join(lines)


def raise_or_add(found: list[Fault], faults: list[Fault] | None) -> None:
    """Raise what was found, or where somebody collects faults, hand it over."""
    if faults is not None:
        faults += found
    elif found:
        raise DataError(*found)


def count(faults: Collection[Fault]) -> str:
    """How many there are, in words."""
    files = len({fault.file for fault in faults})
    ends = ["" if number == 1 else "s" for number in (len(faults), files)]
    return f"{len(faults)} fault{ends[0]} in {files} file{ends[1]}"


def by_cause(faults: Sequence[Fault]) -> list[str]:
    """A line for every fault, but for many of one cause a line in all, which counts them.

    Faults have one cause if they say the same but for numbers, names in quotes, and which file.
    """
    causes: dict[str, list[Fault]] = {}
    for fault in faults:
        causes.setdefault(re.sub(_VALUES, "#", fault.what), []).append(fault)
    lines = []
    for alike in causes.values():
        if len(alike) <= _ALIKE:
            lines += [str(fault) for fault in alike]
        else:
            files = len({fault.file for fault in alike})
            where = f", in {files:,} files" if files > 1 else ""
            lines.append(f"{alike[0]} (and {len(alike) - 1:,} more like this{where})")
    return lines


def printable(text: str) -> str:
    """`text` on one line: what a terminal would obey, or could not show, is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
