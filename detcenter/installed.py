"""What the extra ``train`` brings: the commands need it, and those who only attach do not."""

from importlib.util import find_spec

TRAIN = {
    "jsonargparse": "jsonargparse",
    "accelerate": "accelerate",
    "albumentations": "albumentations",
    "cv2": "opencv-python-headless",
    "defusedxml": "defusedxml",
    "numpy": "numpy",
    "PIL": "pillow",
    "psutil": "psutil",
    "pycocotools": "pycocotools",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "threadpoolctl": "threadpoolctl",
    "tqdm": "tqdm",
    "yaml": "pyyaml",
}
"""Packages by the names that they are imported by."""


def missing_for(what: str) -> str | None:
    """One line for a person, if ``what`` cannot work for want of the extra."""
    package = next((TRAIN[name] for name in TRAIN if find_spec(name) is None), None)
    if package is None:
        return None
    return f'{what} needs {package}, which is not installed: pip install "detcenter[train]"'
