"""The small detectors of the models' tests."""

from tests.models.conftest import built, images, no_targets, plain_model, small_model, targets

__all__ = ["built", "images", "no_targets", "plain_model", "small_model", "targets"]
