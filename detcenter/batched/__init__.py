"""What torchvision's detectors do image by image and class by class, for a batch at once."""

from detcenter.batched.lending import fast

__all__ = ["fast"]
