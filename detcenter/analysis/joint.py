"""Is the mean of n differences zero? By an interval over units and images, and by flipped signs.

A unit is what was trained again: a seed, or a data set. All functions take arrays with any leading
dimensions, of which the last counts units.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special, stats  # type: ignore[import-untyped]

LEVEL = 0.05
_EXACT = 20  # units, up to which all signs are flipped
_FLIPS = 9999  # at random, of more
_LEAST = 1e-12  # no p is computed below
_SIMULATED = 12  # units, beyond which the sign-flip test takes no power from the interval
_POWER = 0.8  # the chance to find a difference that is there


def half_width(
    level: np.ndarray | float,
    differences: np.ndarray,
    images_sd: np.ndarray | float = 0.0,
    images: int | None = None,
) -> np.ndarray:
    """Of the interval of the mean of ``differences`` [..., n] that misses the truth at ``level``.

    h² = (t_{n-1} s)² / (n - 1) + (t_{I-1} SE_images)², where s is the standard deviation of the n
    differences and t the quantiles of Student's distribution at 1 - level / 2: the two half-widths,
    added as squares. Its coverage is 1 - level at least where both parts are normal (Banerjee,
    Sankhya 22, 1960), which Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946) do not
    keep at three to five units: see docs/comparing.md. n - 1 in place of n allows for differences
    that are skewed.

    Args:
        images_sd: [...], SE_images: the standard deviation of the mean difference over resampled
            images. 0 where every unit has images of its own, which its difference then has in it.
        images: I, how many there are, two or more; None where units have their own.
    """
    n = differences.shape[-1]
    of_units = special.stdtrit(n - 1, 1 - level / 2) * differences.std(-1, ddof=1) / np.sqrt(n - 1)
    if images is None:
        return of_units
    return np.hypot(of_units, special.stdtrit(images - 1, 1 - level / 2) * images_sd)


def level_at(
    distance: np.ndarray,
    differences: np.ndarray,
    images_sd: np.ndarray | float = 0.0,
    images: int | None = None,
) -> np.ndarray:
    """The level in (0, 1] at which `half_width` is ``distance`` [...]; 1 where that is 0 or less.

    At the distance of the mean from 0 it is the p of no difference.
    """
    low, high = np.full(np.shape(distance), np.log(_LEAST)), np.zeros(np.shape(distance))
    for _ in range(22):
        middle = (low + high) / 2
        wider = half_width(np.exp(middle), differences, images_sd, images) > distance
        low, high = np.where(wider, middle, low), np.where(wider, high, middle)
    return np.where(distance > 0, np.exp(high), 1.0)


def sign_flip_p(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of the mean [...] when signs are as good as chance.

    All 2^n signs up to 20 units, so that p is 2 / 2^n at least; of more units 9,999 at random and
    the one that is there, so that p is 1e-4 at least, which then means "less".
    """
    n = differences.shape[-1]
    if n > _EXACT:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_FLIPS, n))
        sums = np.concatenate([differences @ signs.T, differences.sum(-1, keepdims=True)], -1)
    else:
        sums = differences[..., :1]  # its sign stays: a sum and its negative are as far from 0
        for i in range(1, n):
            other = differences[..., i : i + 1]
            sums = np.concatenate([sums + other, sums - other], -1)
    own = np.abs(differences.sum(-1, keepdims=True))
    slack = 1e-9 * np.abs(differences).sum(-1, keepdims=True)
    return (np.abs(sums) >= own - slack).mean(-1)


def p_text(p: float, units: int) -> str:
    """Of `sign_flip_p`, to two digits; "<" where that is the least it can say."""
    least = 1 / (_FLIPS + 1)
    return f"< {least:g}" if units > _EXACT and p <= 1.01 * least else f"{p:.2g}"


def can_tell(units: int, comparisons: int = 1) -> bool:
    """Whether the sign-flip test of so many units may reach 5 %, all `comparisons` counted."""
    return 2 / 2**units * comparisons < LEVEL


def units_to_tell(comparisons: int = 1) -> int:
    """The least number of units that `can_tell`."""
    return next(n for n in range(1, 100) if can_tell(n, comparisons))


def both_p(
    differences: np.ndarray,
    images_sd: np.ndarray | float = 0.0,
    images: int | None = None,
    comparisons: int = 1,
) -> np.ndarray:
    """The p [...] of no difference, below 5 % only if the interval and the flipped signs say so.

    The larger of both p, which is an intersection-union test (Berger, Technometrics 24, 1982). So
    few units that no signs can give 5 % have to agree in sign instead, or else p is 1.

    Args:
        comparisons: how many p are going to be adjusted together, see `holm`.
    """
    p = level_at(np.abs(differences.mean(-1)), differences, images_sd, images)
    return np.maximum(p, _signs_p(differences, comparisons))


def _signs_p(differences: np.ndarray, comparisons: int) -> np.ndarray:
    if can_tell(differences.shape[-1], comparisons):
        return sign_flip_p(differences)
    agree = (differences > 0).all(-1) | (differences < 0).all(-1)
    return np.where(agree, 0.0, 1.0)


def equivalence_p(
    differences: np.ndarray,
    margin: float,
    images_sd: np.ndarray | float = 0.0,
    images: int | None = None,
) -> np.ndarray:
    """The p [...] of a difference of ``margin`` or more: below 5 % where the 95 % interval is less.

    That is Schuirmann's two one-sided tests (J. Pharmacokinetics and Biopharmaceutics 15, 1987),
    each at 2.5 % where they usually have 5 %, as skewed differences take their part.
    """
    return level_at(margin - np.abs(differences.mean(-1)), differences, images_sd, images)


def holm(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """Adjusted for all m of ``p`` [..., m] (Holm, Scandinavian J. of Statistics 6, 1979)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, axis=-1)
    ranked = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ranked, -1).clip(max=1), -1)
    return adjusted


def detectable(
    differences: np.ndarray,
    images_sd: float = 0.0,
    images: int | None = None,
    comparisons: int = 1,
) -> float:
    """The smallest difference that as many units find with a chance of 80 %.

    It is simulated with normal differences. Their spread is the upper 80 % confidence limit of
    that of ``differences`` [n], as that of few units is often too small by luck.
    """
    n, rng, draws = len(differences), np.random.default_rng(0), 1000
    spread = differences.std(ddof=1) * np.sqrt((n - 1) / stats.chi2.ppf(1 - _POWER, n - 1))
    if spread == 0 and images_sd == 0:
        return 0.0
    noise = rng.normal(0, spread, (draws, n)) + rng.normal(0, images_sd, (draws, 1))
    level, freedom = LEVEL / comparisons, (images or 2) - 1
    seen = images_sd * np.sqrt(rng.chisquare(freedom, draws) / freedom)

    def power(true: float) -> float:
        drawn = noise + true
        found = np.abs(drawn.mean(-1)) > half_width(level, drawn, seen, images)
        if n <= _SIMULATED:
            found &= _signs_p(drawn, comparisons) < level
        return float(found.mean())

    low, high = 0.0, float(spread + images_sd)
    while power(high) < _POWER:
        low, high = high, 2 * high
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= _POWER else (middle, high)
    return high
