"""How the command sets OpenMP's threads to wait, before anything loads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is set when torch is about to be imported, and not before.
SHOWS = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()

sys.meta_path.insert(0, Finder())
from detcenter.cli import main
main(["train", "--config", "digits"])
"""


@pytest.mark.parametrize(
    "chosen, expected",
    [
        ({}, "PASSIVE None"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "1000"}, "None 1000"),
    ],
)
def test_openmp_waits_without_spinning_unless_one_has_chosen(chosen, expected):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    plain = {k: v for k, v in os.environ.items() if k not in names}
    said = subprocess.run(
        [sys.executable, "-c", SHOWS], env=plain | chosen, cwd=ROOT, capture_output=True, text=True
    )
    assert said.stdout.strip() == expected, said.stderr


def test_all_tools_go_through_it():
    tools = list((ROOT / "tools").glob("*.py"))
    assert tools and all("from detcenter.cli import main" in t.read_text() for t in tools)


def test_every_name_of_the_package_is_there():
    import detcenter

    assert "attach" in dir(detcenter)
    for name in detcenter.__all__:
        assert getattr(detcenter, name).__name__ == name
    assert detcenter.losses.CenterLoss is detcenter.CenterLoss
    with pytest.raises(AttributeError, match="no attribute 'atach'"):
        _ = detcenter.atach
