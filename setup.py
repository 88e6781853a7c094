"""The package's definition; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "detcenter/__init__.py").read_text())[1]

# Upper bounds are the newest versions the tests have passed with.
setup(
    name="detcenter",
    version=version,
    description="Center loss, and any loss on box features, for torchvision's detectors",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["detcenter", "detcenter.*"]),
    package_data={"detcenter": ["py.typed", "report/*.css", "report/*.html", "report/*.js"]},
    entry_points={"console_scripts": ["detcenter = detcenter.cli:run"]},
    install_requires=[
        "torch>=2.11,<2.16",
        "torchvision>=0.26,<0.30",
        "accelerate>=1.10,<2",
        "albumentations>=2.0.8,<2.1",
        "defusedxml>=0.7.1,<0.8",
        "jsonargparse[signatures]>=4.53,<5",
        "numpy>=2.0,<3",
        "opencv-python-headless>=4.9,<6",
        "pillow>=10.1,<14",
        "psutil>=5.9,<8",
        "pycocotools>=2.0.8,<3",
        "pyyaml>=6.0,<7",
        "scikit-learn>=1.5,<2",
        "scipy>=1.15,<2",
        "tensorboard>=2.17,<3",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "check": ["imagehash>=4.3.2,<5"],
        "fast": ["hotcoco>=1.3,<2"],
        "lmdb": ["lmdb>=1.5,<4"],
        "metric": ["pytorch-metric-learning>=2.9,<3"],
        "parquet": ["pyarrow>=18,<27"],
        "plots": ["matplotlib>=3.9,<4"],
        "report": ["jinja2>=3.1,<4", "plotly>=7.1,<8"],
        "supervision": ["supervision>=0.31,<0.32"],
        "test": [
            "hotcoco>=1.3,<2",
            "hypothesis>=6.100,<7",
            "imagehash>=4.3.2,<5",
            "jinja2>=3.1,<4",
            "lmdb>=1.5,<4",
            "matplotlib>=3.9,<4",
            "mean-average-precision>=2024.1.5,<2025",
            "mypy>=1.15,<3",
            "playwright>=1.60,<2",
            "plotly>=7.1,<8",
            "pyarrow>=18,<27",
            "pytest>=8.3,<10",
            "pytest-xdist>=3.8,<4",
            "pytorch-metric-learning>=2.9,<3",
            "ruff>=0.17,<0.18",
            "supervision>=0.31,<0.32",
            "types-defusedxml",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
)
