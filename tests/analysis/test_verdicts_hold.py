"""Of what a comparison asserts no more than one in twenty is wrong where nothing helps."""

import math

import numpy as np
import pytest

from detcenter.analysis.joint import both_p, holm
from detcenter.analysis.paired import COMPARED, paired_difference
from detcenter.analysis.verdict import verdicts
from tests.analysis.nulls import IMAGES, SHAPES, every_case, rates

DRAWS = 2000
CHANCE = 3.3 * math.sqrt(0.05 * 0.95 / DRAWS)  # in some hundred cases


@pytest.mark.parametrize("shape", SHAPES)
def test_one_in_twenty_at_most(shape):
    for seed, case in enumerate(every_case([shape])):
        found = rates(case, DRAWS, seed)
        assert found.pop("coverage") > 0.93 - CHANCE / 2, case
        assert max(found.values()) < 0.05 + CHANCE, (case, found)


def test_what_is_simulated_is_what_is_said():
    """The verdicts of whole comparisons are those of the p that the simulations count."""
    rng = np.random.default_rng(0)
    said = set()
    for _ in range(40):
        units, images = rng.choice([4, 8]), rng.choice([50, 1000])
        true = rng.choice([0, 0.02], size=(2, 3, 1))  # two pairs, three metrics
        values = true + rng.normal(0, 0.01, (2, 3, units))
        error = IMAGES[int(images)] / 100
        pairs = [
            {
                name: paired_difference(np.zeros(units), x, error, images)
                for name, x in zip(COMPARED, pair, strict=True)
            }
            for pair in values
        ]
        p = holm(both_p(values[:, 0], error, images, comparisons=2))
        of_others = holm(both_p(values[:, 1:], error, images, comparisons=4).ravel()).reshape(2, 2)
        for i, found in enumerate(verdicts(pairs, images)):
            assert found.p == pytest.approx(p[i])
            assert (found.said != "cannot be told") == (p[i] < 0.05)
            assert found.said.startswith("seems") == (units == 4 and p[i] < 0.05)
            way = np.sign(values[i, 0].mean()) * (p[i] < 0.05)
            other = (of_others[i] < 0.05) & (np.sign(values[i, 1:].mean(-1)) != way)
            assert list(found.others) == [
                name for name, x in zip(COMPARED[1:], other, strict=True) if x
            ]
            said |= {found.said, *found.others.values()}
    assert said == {"helps", "seems to help", "cannot be told", "rises", "seems to rise"}
