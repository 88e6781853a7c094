"""Runs that differ in the vote alone have the same weights: one is trained, and lends them."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from detcenter.recipe.config import Config, flat
from detcenter.runs.checkpoints import voting_as
from detcenter.runs.folder import LAST, PREVIOUS, has_checkpoint
from detcenter.runs.measured import is_finished
from detcenter.training import CheckpointError, load_newest, save_checkpoint

_OF_TRAINING = {"epoch", "lr", "seconds", "step_seconds", "memory_mib"}


def borrowers(runs: Mapping[Path, Config], due: Collection[Path]) -> dict[Path, list[Path]]:
    """Those of the runs ``due`` that need no training of their own, and who may lend to each.

    A run that was begun goes on by itself.
    """
    alike: dict[str, list[Path]] = {}
    for path, config in runs.items():
        alike.setdefault(_training(config), []).append(path)
    found = {}
    for group in alike.values():
        fresh = [p for p in group if p in due and not has_checkpoint(p) and not is_finished(p)]
        trained_anyway = any(map(has_checkpoint, group))
        for path in fresh if trained_anyway else fresh[1:]:
            found[path] = [other for other in group if other != path]
    return found


def borrow(path: Path, config: Config, lenders: Sequence[Path]) -> None:
    """Give the run in ``path`` the last weights of the first lender whose training is complete.

    Evaluating them is left to it. Where none has any, nothing is done, and it trains as it would;
    nor is anything done if it has begun.
    """
    if has_checkpoint(path) or is_finished(path):
        return
    assert config.center is not None  # runs without the term differ in more than a vote
    for lender in filter(has_checkpoint, lenders):
        with contextlib.suppress(CheckpointError):
            checkpoint, _ = load_newest(lender / LAST, lender / PREVIOUS)
            if checkpoint["epoch"] < config.train.epochs:
                continue
            checkpoint = voting_as(checkpoint, config.center.vote)
            checkpoint["config"]["output"] = config.output
            checkpoint.pop("images_a_step", None)  # no step follows, of whatever size
            checkpoint["rows"] = [_of_training(row) for row in checkpoint["rows"]]
            path.mkdir(parents=True, exist_ok=True)
            save_checkpoint(path / LAST, **checkpoint)
            return


def _training(config: Config) -> str:
    """All that the weights of a run follow from: its recipe without the vote."""
    left_out = {"output", "center.vote"}
    return repr({key: value for key, value in flat(config).items() if key not in left_out})


def _of_training(row: Mapping[str, str]) -> dict[str, str]:
    """Without the metrics, which are of another vote."""
    return {k: v for k, v in row.items() if k in _OF_TRAINING or k.startswith("train/")}
