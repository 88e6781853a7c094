"""Comparisons in which nothing helps, shaped like real ones, and how often the rules are wrong.

``python -m tests.analysis.nulls 20000`` prints the tables of docs/comparing.md.
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np

from detcenter.analysis.joint import LEVEL, both_p, can_tell, equivalence_p, half_width, holm

STUDY = Path(__file__).parents[2] / "docs/study"
CRASHES, LOST = 0.03, (10, 30)  # the part of runs that crash, and what one loses, in points
SKEWED, ARM, TWICE = 0.265, 1.0, 0.5  # of log-normal numbers: skewness 0.83, 6.2 and 1.75
SHAPES = ("normal", "crashes", "residuals", "skewed arms", "skewed differences")
IMAGES = {50: 0.8, 1000: 0.2, None: 0.0}  # how many, and their standard error in points
UNITS, VARIANTS, SPREADS = (3, 5, 6, 8), (1, 4), (1.0, 2.0)  # spreads in points


def every_case(shapes=SHAPES):
    return product(shapes, IMAGES, UNITS, VARIANTS, SPREADS)


def rates(case, draws, seed=0):
    """How often a comparison says each thing that is not so, and its intervals hold the truth."""
    shape, images, units, variants, spread = case
    rng = np.random.default_rng(seed)
    ap, other = (_seen(rng, case, draws) for _ in range(2))
    related = 1.2 * (0.8 * ap + 0.6 * other)  # AP50 varies more than AP, and mostly with it
    metrics = np.stack([related, 1.2 * (0.8 * ap - 0.6 * other)], axis=-2)  # [R, m, 2, n]
    freedom = (images or 2) - 1
    error = IMAGES[images] * np.sqrt(rng.chisquare(freedom, (draws, variants)) / freedom)
    p = holm(_small_p(ap, error, images, variants))
    way = np.where(p < LEVEL, np.sign(ap.mean(-1)), 0)
    errors = np.repeat(1.2 * error[..., None], 2, -1)
    of_metrics = _small_p(metrics, errors, images, 2 * variants)
    adjusted = holm(of_metrics.reshape(draws, -1)).reshape(of_metrics.shape)
    named = (adjusted < LEVEL) & (np.sign(metrics.mean(-1)) != way[..., None])
    told = (p < LEVEL).any(-1).mean()
    sure = can_tell(units, variants)
    none = max(_no_effect(ap + point, error, images) for point in (-1, 1))
    outside = np.abs(ap.mean(-1)) > half_width(LEVEL, ap, error, images)
    return {
        "helps or hurts": told if sure else 0.0,
        "seems to": 0.0 if sure else told,
        "another metric": named.any((-1, -2)).mean(),
        "no effect": none,
        "coverage": 1 - outside.mean(),
    }


def _small_p(differences, error, images, comparisons):
    """Where p is above 5 % it may be 1: nothing is said of it, whatever Holm makes of it."""
    p = np.ones(differences.shape[:-1])
    told = np.abs(differences.mean(-1)) > half_width(LEVEL, differences, error, images)
    p[told] = both_p(differences[told], error[told], images, comparisons)
    return p


def _no_effect(differences, error, images):
    p = np.ones(differences.shape[:-1])
    less = np.abs(differences.mean(-1)) + half_width(LEVEL, differences, error, images) < 1
    p[less] = equivalence_p(differences[less], 1.0, error[less], images)
    return (holm(p) < LEVEL).any(-1).mean()


def _seen(rng, case, draws):
    """Differences [R, m, n] in points, whose mean over units and images is 0."""
    shape, images, units, variants, spread = case
    arms = [(draws, count, 1) for count in (variants, 1)]  # all against the same baseline
    mine, base = (rng.normal(0, IMAGES[images] / np.sqrt(2), size) for size in arms)
    return _of_units(rng, shape, (draws, variants, units), spread) + mine - base


def _of_units(rng, shape, size, spread):
    draws, variants, units = size
    part, of_baseline = spread / np.sqrt(2), (draws, 1, units)
    if shape == "residuals":
        return rng.choice(_residuals(), size) * spread
    if shape == "skewed differences":
        return spread * _skewed(rng, size, SKEWED)
    if shape == "skewed twice as much":
        return spread * _skewed(rng, size, TWICE)
    if shape == "skewed arms":
        return -part * _skewed(rng, size, ARM) - rng.normal(0, part, of_baseline)
    arms = [rng.normal(0, part, of_arm) for of_arm in (size, of_baseline)]
    if shape == "crashes":
        arms = [
            arm - (rng.random(arm.shape) < CRASHES) * rng.uniform(*LOST, arm.shape) for arm in arms
        ]
    return arms[0] - arms[1]


def _skewed(rng, size, sigma):
    """Log-normal numbers, shifted and scaled to mean 0 and variance 1."""
    numbers, square = np.exp(sigma * rng.normal(size=size)), np.exp(sigma**2)
    return (numbers - np.sqrt(square)) / np.sqrt(square * (square - 1))


def _residuals():
    """What the seeds of the first study differ by from their pair's mean; their variance is 1."""
    found = []
    for path in sorted(STUDY.glob("*.json")):
        for pair in json.loads(path.read_text()).get("pairs", []):
            values = np.array(pair["AP"]["values"])
            found.append((values - values.mean()) * np.sqrt(len(values) / (len(values) - 1)))
    joined = np.concatenate(found)
    return (joined - joined.mean()) / joined.std()


def main(draws):
    for shape in (*SHAPES, "skewed twice as much"):
        for images in IMAGES:
            cases = [case for case in every_case([shape]) if case[1] == images]
            found = [rates(case, draws, seed) for seed, case in enumerate(cases)]
            most = [max(of[name] for of in found) for name in list(found[0])[:-1]]
            least = min(of["coverage"] for of in found)
            cells = [f"{100 * x:.1f} %" for x in (*most, least)]
            print(f"| {shape} | {images or 'own'} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]))
