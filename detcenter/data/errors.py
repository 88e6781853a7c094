"""What is raised when a person's data is at fault."""

from difflib import get_close_matches


class DataError(ValueError):
    """Bad data. The message is one line: where (file, key), what is wrong, what to do."""


def nearest(name: str, known: list[str]) -> str:
    """The known name closest to `name`, as the end of an error message."""
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else f"known: {', '.join(known)}"
