"""Which files make the package; all else that is said of it stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    # The recipes lie at the top of a clone, where people edit them, and in the installed package.
    packages=[*find_packages(include=["detcenter", "detcenter.*"]), "detcenter.configs"],
    package_dir={"detcenter.configs": "configs"},
    package_data={
        "detcenter": ["py.typed", "report/*.css", "report/*.html", "report/*.js"],
        "detcenter.configs": ["*.yaml"],
    },
)
