"""One pair of variants over several comparisons, its settings: their mean, and how they differ."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats  # type: ignore[import-untyped]

_LEVEL = 0.05  # of intervals: how often they may miss the truth


class Setting(NamedTuple):
    """The paired differences of one comparison, n of them, ``second`` minus ``first``."""

    values: Sequence[float]  # [n]
    seeds: Sequence[Hashable]  # [n], of each difference: the same seed may be in other settings
    validation: Sequence[Hashable]  # [n], likewise the data on which each was measured
    image_error: float = 0.0  # standard error of the mean over resampled images, 0 if not known
    interval: tuple[float, float] | None = None  # of the mean, if the comparison gives its own


class Mean(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float
    error: float  # standard
    clusters: Mapping[str, int]  # how many "seeds", "validation sets" or "settings" it is over


class Heterogeneity(NamedTuple):
    """How far k settings differ beyond what chance makes of them."""

    q: float
    p: float  # that chance alone gives such a q
    i2: float  # the part of their spread that is not chance, in [0, 1]
    tau2: float  # the variance of their true differences


class Pooled(NamedTuple):
    """What k settings say together."""

    settings: Mapping[str, Mean]  # each alone
    mean: Mean  # of the settings, which count the same
    mean_of_pairs: Mean  # in which a setting counts by its pairs
    heterogeneity: Heterogeneity | None  # None if the seeds of a setting have no spread
    new: tuple[float, float] | None  # 95 % prediction interval; None below three settings
    without: Mapping[str, Mean]  # of all settings but this one


def pool(settings: Mapping[str, Setting]) -> Pooled:
    """All about two settings or more, by name.

    Raises:
        ValueError: fewer than two settings, or one that `clustered_mean` does not take.
    """
    if len(settings) < 2:
        raise ValueError(f"{len(settings)} setting; two or more are due")
    mean, differing = clustered_mean(settings), heterogeneity(settings)
    return Pooled(
        {name: _alone(name, setting) for name, setting in settings.items()},
        mean,
        clustered_mean(settings, by_pair=True),
        differing,
        prediction_interval(mean, differing.tau2, len(settings)) if differing else None,
        {name: _without(settings, name) for name in settings},
    )


def clustered_mean(settings: Mapping[str, Setting], by_pair: bool = False) -> Mean:
    """The mean of settings, whose seeds and validation data may recur from one to the other.

    What has a seed or validation data in common is not independent. The variance is therefore
    clustered two-way, V = V_seeds + V_validation - V_both, with G / (G - 1) for G clusters in each,
    and the interval is Student's t with min(G) - 1 degrees of freedom (Cameron, Gelbach and Miller,
    "Robust inference with multiway clustering", Journal of Business & Economic Statistics 2011).

    A true V is at least either of the one-way variances, so that an estimate below the larger of
    them, or below zero, is replaced by that.

    If all was measured on the same data, settings are the clusters in its place. Other images are
    in the interval then by their resampling, where that is known: half-widths add up as squares
    (Banerjee, Sankhya 1960), and the errors of settings as if they were one, which is the widest.
    What has one cluster still is left out: a single setting has the t interval of its seeds, and
    its images.

    Args:
        settings: by name.
        by_pair: whether each pair counts the same, rather than each setting.

    Raises:
        ValueError: a setting has fewer than two pairs, keys that are not as many as its values, or
            values that are not finite; or all pairs have one seed and the same validation data.
    """
    checked = [_checked(setting) for setting in settings.values()]
    values = np.concatenate([np.asarray(setting.values, float) for setting in checked])
    counts = [len(setting.values) for setting in checked]
    shares = np.concatenate([np.full(n, 1.0 if by_pair else 1 / n) for n in counts])
    shares /= shares.sum()
    mean = float(shares @ values)
    clusters = _clusters(settings)
    if not clusters:
        raise ValueError(
            "all pairs are of one seed and the same data, which says nothing of chance"
        )
    variance = _clustered_variance(shares * (values - mean), list(clusters.values()))
    sizes = {name: len(set(keys)) for name, keys in clusters.items()}
    errors = np.repeat([setting.image_error for setting in checked], counts)
    of_images = 0.0 if "validation sets" in sizes else float(shares @ errors)
    return _interval(mean, variance, min(sizes.values()) - 1, sizes, of_images)


def heterogeneity(settings: Mapping[str, Setting]) -> Heterogeneity | None:
    """Whether settings differ beyond chance: Cochran's Q, I² and DerSimonian and Laird's tau².

    Settings count by the inverse of their variance over seeds, and over images where that is known:
    Q = sum w_i (d_i - d)², I² = (Q - (k - 1)) / Q (Higgins and Thompson, Statistics in Medicine
    2002), tau² = (Q - (k - 1)) / (sum w_i - sum w_i² / sum w_i) (DerSimonian and Laird, Controlled
    Clinical Trials 1986), both at least 0.

    Against chi² with k - 1 degrees of freedom Q would be far too large, since the variances come
    from a few seeds; p is of Welch's F ("On the comparison of several mean values", Biometrika
    1951), which is Q with that allowed for. Seeds that settings share make it cautious.

    Returns None if the seeds of a setting have no spread, which is no measure of chance.
    """
    if any(np.ptp(setting.values) == 0 for setting in settings.values()):
        return None
    means = np.array([np.mean(setting.values) for setting in settings.values()])
    chance = [_of_chance(_checked(setting)) for setting in settings.values()]
    variances, degrees = (np.array(column) for column in zip(*chance, strict=True))
    k, w = len(means), 1 / variances
    q = float(w @ (means - w @ means / w.sum()) ** 2)
    uncertain = float(((1 - w / w.sum()) ** 2 / degrees).sum())
    f = q / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * uncertain)
    p = float(stats.f.sf(f, k - 1, (k**2 - 1) / (3 * uncertain)))
    beyond = max(0.0, q - (k - 1))
    return Heterogeneity(q, p, beyond / q if q else 0.0, beyond / float(w.sum() - w @ w / w.sum()))


def prediction_interval(mean: Mean, tau2: float, settings: int) -> tuple[float, float] | None:
    """Where the true difference of another such setting lies, 95 %.

    Student's t with k - 2 degrees of freedom around the mean, of variance tau² + its error²
    (Higgins, Thompson and Spiegelhalter, "A re-evaluation of random-effects meta-analysis", Journal
    of the Royal Statistical Society A 2009), or with those of the mean where these are fewer, so
    that it is never the narrower of the two.

    Returns None for fewer than three settings.
    """
    if settings < 3:
        return None
    degrees = min(settings - 2, *(number - 1 for number in mean.clusters.values()))
    found = _interval(mean.mean, tau2 + mean.error**2, degrees)
    return found.low, found.high


def _alone(name: str, setting: Setting) -> Mean:
    mean = clustered_mean({name: setting})
    low, high = setting.interval or (mean.low, mean.high)
    return mean._replace(low=low, high=high)


def _without(settings: Mapping[str, Setting], left_out: str) -> Mean:
    return clustered_mean({name: x for name, x in settings.items() if name != left_out})


def _checked(setting: Setting) -> Setting:
    lengths = {len(column) for column in setting[:3]}
    if len(lengths) > 1 or len(setting.values) < 2 or not np.isfinite(setting.values).all():
        raise ValueError(
            f"two or more finite values with a seed and validation data each are due, not {setting}"
        )
    return setting


def _of_chance(setting: Setting) -> tuple[float, float]:
    """Variance of the mean, over seeds and images, and its degrees of freedom.

    Satterthwaite's ("An approximate distribution of estimates of variance components", Biometrics
    1946), as Welch's F takes them.
    """
    of_seeds = float(np.var(setting.values, ddof=1)) / len(setting.values)
    variance, degrees = of_seeds + setting.image_error**2, len(setting.values) - 1
    return variance, degrees * (variance / of_seeds) ** 2 if of_seeds else math.inf


def _clusters(settings: Mapping[str, Setting]) -> dict[str, list[Hashable]]:
    """By what pairs hang together, of each pair the key; one key in all is left out."""
    keys: dict[str, list[Hashable]] = {
        "seeds": [seed for of in settings.values() for seed in of.seeds],
        "validation sets": [data for of in settings.values() for data in of.validation],
    }
    if len(set(keys["validation sets"])) == 1:
        del keys["validation sets"]
        keys["settings"] = [name for name, of in settings.items() for _ in of.seeds]
    return {name: of_pairs for name, of_pairs in keys.items() if len(set(of_pairs)) > 1}


def _clustered_variance(parts: np.ndarray, clusters: Sequence[Sequence[Hashable]]) -> float:
    """Of the sum of ``parts``, from their sums by one way of clustering or by two."""
    one_way = [_one_way(parts, keys) for keys in clusters]
    if len(clusters) == 1:
        return one_way[0]
    return max(*one_way, sum(one_way) - _one_way(parts, list(zip(*clusters, strict=True))))


def _one_way(parts: np.ndarray, keys: Sequence[Hashable]) -> float:
    sums: dict[Hashable, float] = defaultdict(float)
    for key, part in zip(keys, parts.tolist(), strict=True):
        sums[key] += part
    return len(sums) / (len(sums) - 1) * sum(x * x for x in sums.values())


def _interval(
    mean: float,
    variance: float,
    degrees: float,
    clusters: Mapping[str, int] | None = None,
    image_error: float = 0.0,
) -> Mean:
    half = math.hypot(
        float(stats.t.ppf(1 - _LEVEL / 2, degrees)) * math.sqrt(variance),
        float(stats.norm.ppf(1 - _LEVEL / 2)) * image_error,
    )
    error = math.sqrt(variance + image_error**2)
    return Mean(mean, mean - half, mean + half, error, clusters or {})
