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

# What `make gpu` does not touch, and a machine without a browser or a page does not need.
_NOT_THERE = {"mypy", "playwright", "ruff", "supervision", "mean-average-precision"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--there", type=Path, required=True, help="its packages, one a line")
    parser.add_argument("--python", default="3.12", help="its version")
    parser.add_argument("--folder", type=Path, default=Path("build/wheels"))
    given = parser.parse_args()
    there = {normal(name) for line in given.there.read_text().splitlines() if (name := named(line))}
    missing = missing_for("detcenter", there)
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


def missing_for(package: str, there: set[str]) -> set[str]:
    """What ``package`` needs with its tests and ``there`` does not have, in the versions of here.

    Those go together: they are installed here, and their needs are read from them.
    """
    found: dict[str, str] = {}
    waiting = [line for line in requires(package) or () if needed(line, extra="test")]
    while waiting:
        line = waiting.pop()
        name = normal(named(line))
        if name in there | _NOT_THERE | found.keys() or name.startswith("types-"):
            continue
        found[name] = f"{name}=={version(name)}"
        extra = re.search(r"\[(.*?)\]", line.partition(";")[0])
        waiting += [of for of in requires(name) or () if needed(of, extra[1] if extra else "")]
    return {*found.values()}


def needed(line: str, extra: str = "") -> bool:
    """Whether a requirement holds without extras, or with ``extra``, on Linux."""
    marker = line.partition(";")[2]
    extras = re.findall(r"""extra\s*==\s*['"](.+?)['"]""", marker)
    if extras:
        return extra in extras
    return not re.search(r"win32|Windows|darwin|python_version\s*<", marker)


def download(names: list[str], python: str, folder: Path) -> None:
    platforms = ["manylinux2014_x86_64"]
    platforms += [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", python, "--dest", str(folder)]
    command += [
        word for name in (*platforms, "manylinux2014_x86_64") for word in ("--platform", name)
    ]
    subprocess.run([*command, *names], check=True)


def named(line: str) -> str:
    found = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
    return found[1] if found else ""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
