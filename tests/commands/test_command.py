"""How the command sets OpenMP's threads to wait, before anything loads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A stand-in for the package: what it would see when it is imported, without the wait.
SHOWS = """
import os, sys, types
sys.modules["detcenter"] = types.ModuleType("detcenter")
cli = sys.modules["detcenter.cli"] = types.ModuleType("detcenter.cli")
cli.main = cli.run = lambda *args: None
cli.__getattr__ = lambda name: None
import detcenter_command
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "chosen, expected",
    [
        ({}, "PASSIVE None False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None False"),
        ({"GOMP_SPINCOUNT": "1000"}, "None 1000 False"),
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
    assert tools and all("from detcenter_command import main" in t.read_text() for t in tools)
