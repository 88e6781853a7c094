"""Whether images may be mirrored and turned, by the looks of objects and the names of classes."""

import re
from collections.abc import Sequence

from detcenter.analysis.symmetry import Symmetry

_HOLDS = 0.5  # dice and cells keep more of an accuracy, digits and turned chessmen less than 0.1
_NUMBER = re.compile(r"\d+|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve")
_OPPOSITES = [
    ("left", "right"),
    ("l", "r"),
    ("lh", "rh"),
    ("east", "west"),
    ("port", "starboard"),
    ("clockwise", "counterclockwise"),
    ("clockwise", "anticlockwise"),
    ("cw", "ccw"),
]
_READ = re.compile(
    r"(letter|digit|number|text|word|character|char|arrow|logo|barcode|signature)s?"
    r"|qr|qrcode|handwriting|plate|clock"
)
_CARD = re.compile(r"(10|[2-9ajqkt])[cdhs]")


def flips(classes: Sequence[str], symmetry: Symmetry | None) -> tuple[bool, str]:
    """Whether to exchange left and right, and why; how objects look tells more than their names."""
    opposed = opposites(classes)
    if opposed is not None:
        return False, opposed
    if symmetry is not None:
        kept = symmetry.mirrored
        return kept >= _HOLDS, f"a mirror leaves {max(kept, 0):.0%} of what tells the classes apart"
    read = writing(classes)
    if read is not None:
        return False, f"{read}; true if a mirror does no harm"
    return (
        True,
        "no class is named like writing, or left and right; false if a mirror changes a class",
    )


def turns(classes: Sequence[str], symmetry: Symmetry | None) -> tuple[bool, str]:
    """Whether to turn images by right angles, and why."""
    if symmetry is not None and opposites(classes) is None:
        kept = symmetry.turned
        return kept >= _HOLDS, f"turns leave {max(kept, 0):.0%} of what tells the classes apart"
    return False, "true for objects without an upright position, seen from above: cells, screws"


def opposites(classes: Sequence[str]) -> str | None:
    """Two names that are each other's mirror image, left and right say, in words; or None."""
    pair = _pair({name: _words(name) for name in classes})
    return None if pair is None else f"a mirror makes {pair[0]} of {pair[1]}"


def writing(classes: Sequence[str]) -> str | None:
    """Names of what is read and so has one right way round, in words; or None.

    These are two names or more that are digits, letters, numbers written out or playing cards, or
    one that says so (text, arrow). Much else that a mirror makes wrong has no such name.
    """
    words = {name: _words(name) for name in classes}
    own = _own_words(words)
    read = [name for name in classes if _is_read(own[name])]
    if len(read) >= 2:
        return f"{read[0]} and {read[1]} look like something that is read"
    named = next((name for name in classes if any(map(_READ.fullmatch, words[name]))), None)
    return None if named is None else f"{named} is something that is read"


def _words(name: str) -> list[str]:
    """Lower-case words and numbers of ``turnLeft_2``: turn, left, 2."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", spaced.lower())


def _pair(words: dict[str, list[str]]) -> tuple[str, str] | None:
    by_words = {tuple(of): name for name, of in words.items()}
    for name, of in words.items():
        for first, second in _OPPOSITES:
            other = tuple(second if word == first else word for word in of)
            if first in of and other in by_words:
                return by_words[other], name
    return None


def _own_words(words: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without the words that all names share: of digit_1 and digit_2 1 and 2 are left."""
    shared = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    return {name: [word for word in of if word not in shared] for name, of in words.items()}


def _is_read(own: list[str]) -> bool:
    if len(own) != 1:
        return False
    (word,) = own
    letter = len(word) == 1 and word.isalpha()
    return letter or any(kind.fullmatch(word) for kind in (_NUMBER, _CARD))
