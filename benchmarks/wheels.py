"""Packages for a machine without network: the wheels that it lacks, packed where there is one.

    pip list --format=freeze > there.txt          # on that machine, or write its packages by hand
    python benchmarks/wheels.py --there there.txt [--python 3.12] [--folder build/wheels]

Downloads what the tests and benchmarks need and the list does not have, for that Python on Linux,
and prints the call that installs it there. The folder is one that git ignores; it travels with the
working tree. A package of the list is left as it is, whatever its version.
"""

import argparse
import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

# What `make gpu` does not touch, and a machine without a browser or a page does not need.
_NOT_THERE = {"mypy", "playwright", "ruff", "supervision", "mean-average-precision"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--there", type=Path, required=True, help="its packages, one a line")
    parser.add_argument("--python", default="3.12", help="its version")
    parser.add_argument("--folder", type=Path, default=Path("build/wheels"))
    given = parser.parse_args()
    there = {normal(line) for line in given.there.read_text().splitlines()}
    missing = missing_for("detcenter", there, given.python)
    if not missing:
        print("nothing is missing there")
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    download(sorted(missing), given.python, given.folder)
    wheels = list(given.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{len(wheels)} wheels, {size:.0f} MB, in {given.folder}; there:")
    print(f"  python -m pip install --no-index --no-deps {given.folder}/*.whl")
    print("  make gpu BIN=$(dirname $(which python)) INSTALLED=")
    return 0


def missing_for(package: str, there: set[str], python: str = "3.12") -> set[str]:
    """What ``package`` needs with its tests and ``there`` does not have, in the versions of here.

    Those go together: they are installed here, and their needs are read from them.
    """
    found: dict[str, str] = {}
    waiting = needs_of(package, {"test"}, python)
    while waiting:
        need = waiting.pop()
        name = normal(need.name)
        if name == package:  # an extra that takes in others
            waiting += needs_of(package, need.extras, python)
            continue
        if name in there | _NOT_THERE | found.keys() or name.startswith("types-"):
            continue
        found[name] = f"{name}=={version(name)}"
        waiting += needs_of(name, need.extras, python)
    return {*found.values()}


def needs_of(package: str, extras: set[str], python: str) -> list[Requirement]:
    """On Linux with that Python."""
    place = {"python_version": python, "sys_platform": "linux", "platform_system": "Linux"}
    needs = [Requirement(line) for line in requires(package) or ()]
    return [
        need
        for need in needs
        if need.marker is None
        or any(need.marker.evaluate(place | {"extra": extra}) for extra in {"", *extras})
    ]


def download(names: list[str], python: str, folder: Path) -> None:
    platforms = ["manylinux2014_x86_64"]
    platforms += [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", python, "--dest", str(folder)]
    command += [
        word for name in (*platforms, "manylinux2014_x86_64") for word in ("--platform", name)
    ]
    subprocess.run([*command, *names], check=True)


def normal(name: str) -> str:
    """As package indexes have it, without a version or where it was built."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name.strip())[0]).lower()


if __name__ == "__main__":
    sys.exit(main())
