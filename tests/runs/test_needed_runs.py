"""Runs that are needed, every one of them."""

from pathlib import Path

import pytest

from detcenter.recipe.config import Config
from detcenter.runs import compared
from detcenter.runs.launching import Launch
from detcenter.training import TrainingError


@pytest.mark.parametrize(
    ("names", "of_all"), [(("a", "b", "c"), "1 of 3 trainings"), (("a",), "the training")]
)
def test_one_that_failed_is_an_error_with_its_cause(names, of_all, monkeypatch):
    runs = {Path(name): Config() for name in names}
    monkeypatch.setattr(compared, "train_runs", lambda runs, launch: {Path("a"): "no memory"})
    with pytest.raises(TrainingError, match=f"^{of_all} failed; .* tries again: .*no memory"):
        compared.train_all(runs, Launch())
    monkeypatch.setattr(compared, "train_runs", lambda runs, launch: {})
    compared.train_all(runs, Launch())
