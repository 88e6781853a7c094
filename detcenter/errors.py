"""What the command line tells a person in a line, without a traceback."""

from collections.abc import Collection
from difflib import get_close_matches


class PersonsError(Exception):
    """What a person has to put right; the message is for them."""

    many_lines = False


class ConfigError(PersonsError, ValueError):
    """A recipe or a command line that is wrong; the message is one clear line."""


def nearest(name: str, known: Collection[str]) -> str:
    """The known name closest to ``name``, as the end of an error message; all if none is close."""
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else f"known: {', '.join(known)}"
