"""What may be said of variants against their baseline: the verdict, and its sentence.

docs/comparing.md says what each word takes, and how often it is wrong.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from detcenter.analysis.joint import (
    LEVEL,
    both_p,
    can_tell,
    detectable,
    equivalence_p,
    holm,
    p_text,
    units_to_tell,
)
from detcenter.analysis.paired import COMPARED, PairedDifference

_OTHERS = COMPARED[1:]

Differences = Mapping[str, PairedDifference]  # by the names in COMPARED
Said = Literal["helps", "hurts", "seems to help", "seems to hurt", "cannot be told", "withheld"]


class Verdict(NamedTuple):
    """What is said of one pair."""

    said: Said
    p: float
    """of no difference of AP, see `both_p`; adjusted for all pairs with the baseline"""
    others: Mapping[str, str]
    """AP50 and AP75, where they tell what AP does not: "rises", "falls", "seems to rise", ..."""
    no_effect: float | None
    """the difference that is surely not reached, if one was asked for"""
    detectable: float
    """see the function of this name"""
    units: str
    comparisons: int
    """pairs with the baseline"""
    failed: tuple[int, int] | None
    """units of the baseline and of the variant, if not equally many"""

    def text(self, differences: Differences, chance: str) -> str:
        """The sentence, without the names; `chance` says over what the interval is."""
        ap = differences["AP"]
        exact = p_text(ap.p, len(ap.values))
        size = f"AP {points(ap.mean)} points, 95 % interval {interval_text(ap.joint)} {chance}"
        size += f" (sign-flip p {exact}{self._adjusted(len(ap.values))})"
        others = "".join(
            f"; but {name} {does}, {points(differences[name].mean)} points, "
            f"{interval_text(differences[name].joint)}"
            for name, does in self.others.items()
        )
        return f"{self._beginning()}: {size}{self._ending(ap.values)}{others}"

    def _adjusted(self, units: int) -> str:
        if self.comparisons == 1 or not can_tell(units, self.comparisons):
            return ""
        return f"; p {self.p:.2g} of {self.comparisons} by Holm"

    def _beginning(self) -> str:
        if self.said == "withheld":
            first, second = self.failed or (0, 0)
            return f"no verdict, as failures differ, {second} here and {first} of the baseline"
        if self.no_effect is None:
            return self.said
        size = _size(self.no_effect)
        if self.said == "cannot be told":
            return f"no effect of {size} or more"
        return f"{self.said}, but by less than {size}"

    def _ending(self, differences: Sequence[float]) -> str:
        if self.said == "withheld" or (self.said == "cannot be told" and self.no_effect):
            return ""
        if self.said == "cannot be told":
            missed = points(self.detectable).lstrip("+")
            if {missed, *map(points, differences)} == {"0.0"}:
                return (
                    f"; all {len(differences)} differences are below 0.05 points: the two are as "
                    "good as the same, or have not learnt enough to differ"
                )
            missed = missed if missed != "0.0" else f"{100 * self.detectable:.1g}"
            return (
                f"; {len(differences)} {self.units} may well have missed a difference below "
                f"{missed} points"
            )
        if self.said.startswith("seems"):
            return f"; {units_to_tell(self.comparisons)} {self.units} could tell"
        return ""


def verdicts(
    pairs: Sequence[Differences],
    images: int | None,
    units: str = "seeds",
    equivalence: float | None = None,
    failed: Sequence[tuple[int, int] | None] = (),
) -> list[Verdict]:
    """Of pairs with one baseline, adjusted for all of them by Holm.

    Args:
        images: see `compare`.
        units: what they are, in words.
        equivalence: the difference that counts as none, in [0, 1].
        failed: for each pair how many units of both failed, if not equally many.
    """
    if not pairs:
        return []
    p = holm([_p(pair["AP"], images, len(pairs)) for pair in pairs])
    tests = len(_OTHERS) * len(pairs)
    of_others = holm([_p(pair[name], images, tests) for pair in pairs for name in _OTHERS])
    by_pair = of_others.reshape(len(pairs), len(_OTHERS))
    margin = 0.0 if equivalence is None else equivalence
    none = holm([_equivalence_p(pair["AP"], margin, images) for pair in pairs])
    found = []
    for i, pair in enumerate(pairs):
        of_pair = failed[i] if failed else None
        said = "withheld" if of_pair else _said(pair["AP"], p[i], len(pairs))
        others = {} if of_pair else _telling(pair, by_pair[i], said, tests)
        no_effect = equivalence if none[i] < LEVEL and not of_pair else None
        smallest = _detectable(pair["AP"], images, len(pairs))
        numbers = float(p[i]), others, no_effect, smallest, units, len(pairs), of_pair
        found.append(Verdict(said, *numbers))
    return found


def _said(ap: PairedDifference, p: float, comparisons: int) -> Said:
    if p >= LEVEL:
        return "cannot be told"
    if can_tell(len(ap.values), comparisons):
        return "helps" if ap.mean > 0 else "hurts"
    return "seems to help" if ap.mean > 0 else "seems to hurt"


def _telling(pair: Differences, p: np.ndarray, said: Said, tests: int) -> dict[str, str]:
    """The metrics that go another way than AP is said to go, and what they do."""
    way = 0 if said == "cannot be told" else 1 if said in ("helps", "seems to help") else -1
    found = {}
    for name, of_metric in zip(_OTHERS, p, strict=True):
        mean = pair[name].mean
        if of_metric < LEVEL and np.sign(mean) != way:
            verb = "rise" if mean > 0 else "fall"
            surely = can_tell(len(pair[name].values), tests)
            found[name] = f"{verb}s" if surely else f"seems to {verb}"
    return found


def _p(difference: PairedDifference, images: int | None, comparisons: int) -> float:
    values = np.array(difference.values)
    return float(both_p(values, difference.images_sd, images, comparisons))


def _equivalence_p(difference: PairedDifference, margin: float, images: int | None) -> float:
    values = np.array(difference.values)
    return float(equivalence_p(values, margin, difference.images_sd, images))


def _detectable(difference: PairedDifference, images: int | None, comparisons: int) -> float:
    return detectable(np.array(difference.values), difference.images_sd, images, comparisons)


def interval_text(interval: tuple[float, float]) -> str:
    """In points."""
    return f"{points(interval[0])} to {points(interval[1])}"


def points(part: float) -> str:
    """In points, hundredths of AP; a zero has no sign."""
    return f"{100 * part + 0.0:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def _size(part: float) -> str:
    return "a point" if round(100 * part, 6) == 1 else f"{100 * part:g} points"
