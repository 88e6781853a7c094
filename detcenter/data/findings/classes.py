"""Classes that can hardly be learnt, and names that are meant as one."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from os.path import commonprefix

import numpy as np

from detcenter.data.findings.found import Example, Finding, Part, of_images

_FEW = 10  # boxes of a class to learn from, fewer than which are said
_RARE = 0.1  # boxes of a name that may be a slip, by those of the name it is like
_LONG = 5  # letters of a name, in shorter ones a letter is another word: cat, car


def class_findings(part: Part) -> Iterator[Finding | None]:
    """Classes with few or no boxes, and images and classes with none to learn from."""
    counts, useful = boxes_by_class(part), boxes_by_class(part, only_useful=True)
    named = list(zip(part.classes, counts.tolist(), useful.tolist(), strict=True))
    none = [(name, "none") for name, count, _ in named if count == 0]
    yield _of_names("class_without_boxes", "classes without a box", part, none)
    ignored = [(name, f"{n} boxes") for name, n, learnt in named if n and not learnt]
    what = "classes with crowd or difficult boxes only"
    yield _of_names("class_ignored", what, part, ignored)
    few = [(name, f"{n} boxes" if n > 1 else "1 box") for name, n, _ in named if 0 < n < _FEW]
    found = _of_names("class_with_few_boxes", f"classes with fewer than {_FEW} boxes", part, few)
    yield found and found._replace(severity="remark")
    yield _ignored_images(part)


def boxes_by_class(part: Part, only_useful: bool = False) -> np.ndarray:
    """int64 [classes]; with ``only_useful`` without crowd and difficult boxes."""
    kept = [
        annotation["labels"][~(annotation["iscrowd"] | annotation["difficult"])]
        if only_useful
        else annotation["labels"]
        for annotation in part.annotations
    ]
    return np.bincount(np.concatenate([*kept, []]).astype(int), minlength=len(part.classes) + 1)[1:]


def _of_names(kind: str, what: str, part: Part, names: Sequence[tuple[str, str]]) -> Finding | None:
    if not names:
        return None
    examples = tuple(Example(f"{name}: {text}") for name, text in names)
    return Finding(kind, "warning", what, (part.name,), len(names), examples)


def _ignored_images(part: Part) -> Finding | None:
    ignored = [
        index
        for index, a in enumerate(part.annotations)
        if len(a["labels"]) and (a["iscrowd"] | a["difficult"]).all()
    ]
    what = "images with crowd or difficult boxes only; they are learnt as background"
    said = ((index, f"{len(part.annotations[index]['labels'])} boxes") for index in ignored)
    return of_images("image_ignored", "remark", what, part, said)


def name_findings(parts: Sequence[Part]) -> Iterator[Finding | None]:
    """Names that may be meant as one.

    Those that differ by case, spaces, hyphens and the like; and long ones that differ by one
    letter, if one of both is rare: carrots and parrots are both there, a slip is there a few times.
    """
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(dict(zip(part.classes, boxes_by_class(part).tolist(), strict=True)))
    spelled = defaultdict(list)
    for name in counts:
        spelled[_plain(name)].append(name)
    alike = [names for names in spelled.values() if len(names) > 1]
    what = "names that differ by case, spaces or signs only"
    yield _of_pairs("names_alike", what, parts, alike, counts)
    slips = [
        sorted([a, b], key=lambda name: counts[name])
        for (one, (a, *_)), (other, (b, *_)) in combinations(spelled.items(), 2)
        if abs(len(one) - len(other)) <= 1 and _one_letter_apart(one, other)
    ]
    rare = [[a, b] for a, b in slips if 0 < counts[a] <= _RARE * counts[b]]
    what = "rare names that differ by one letter from a frequent one"
    yield _of_pairs("names_one_letter", what, parts, rare, counts)


def _plain(name: str) -> str:
    """A name without what does not make it another."""
    letters = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\W_]+", "", letters) or name


def _one_letter_apart(a: str, b: str) -> bool:
    """Whether long names differ by a letter that is another, or one too many; digits are none."""
    if min(len(a), len(b)) < _LONG:
        return False
    start = len(commonprefix([a, b]))
    a, b = a[start:], b[start:]
    end = len(commonprefix([a[::-1], b[::-1]]))
    rest = a[: len(a) - end] + b[: len(b) - end]
    return max(len(a), len(b)) - end <= 1 and rest.isalpha()


def _of_pairs(
    kind: str,
    what: str,
    parts: Sequence[Part],
    pairs: Sequence[Sequence[str]],
    counts: Counter[str],
) -> Finding | None:
    if not pairs:
        return None
    said = (", ".join(f"{name} ({counts[name]} boxes)" for name in names) for names in pairs)
    names = tuple(part.name for part in parts)
    return Finding(kind, "warning", what, names, len(pairs), tuple(map(Example, said)))
