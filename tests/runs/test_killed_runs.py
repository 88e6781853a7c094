"""A run that is killed ends as one that was not; `killing.py` does it as often as one likes."""

import random

import pytest

from .killing import differences, train_killed, train_whole, write_recipe

pytestmark = pytest.mark.slow


def test_a_killed_run_goes_on_to_the_bit(tmp_path):
    recipe = write_recipe(tmp_path)
    train_whole(recipe, tmp_path / "whole")
    assert train_killed(recipe, tmp_path / "killed", 2, random.Random(1)) == 2
    assert not list(differences(tmp_path / "whole", tmp_path / "killed"))
