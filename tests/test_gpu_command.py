"""`make gpu` where there is no GPU: its driver, and the packing of wheels."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def module(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # where dataclasses look for it
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def gpu(monkeypatch):
    return module("gpu")


def python(*lines):
    return [sys.executable, "-c", "\n".join(lines)]


def test_a_dry_run_writes_rows_and_a_summary(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--dry-run", "--output", str(tmp_path)]
    done = subprocess.run([*command, "--parts", "around_the_model"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    rows = json.loads((tmp_path / "around_the_model.json").read_text())["rows"]
    whats = {row["what"].partition(",")[0] for row in rows}
    assert whats == {"post-processing", "matching and loss", "center loss alone"}
    assert {row["arm"] for row in rows} >= {"torchvision", "detcenter", "detcenter, embedding"}
    assert all(row["ms"] > 0 for row in rows if "ms" in row)
    assert [row["scores"] for row in rows if "scores" in row] == ["equal"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["around_the_model"]["result"] == "passed"
    assert "matching and loss" in done.stdout and str(tmp_path) in done.stdout


def test_a_part_that_fails_or_takes_too_long_stops_no_other(gpu, tmp_path, monkeypatch, capfd):
    """And what it started ends with it."""
    child = f"time.sleep(2); open({str(tmp_path / 'alive')!r}, 'w')"
    starts = f"subprocess.Popen([sys.executable, '-c', {'import time; ' + child!r}])"
    parts = [
        gpu.Part("fails", python("raise SystemExit(3)"), 30),
        gpu.Part("hangs", python("import subprocess, sys, time", starts, "time.sleep(60)"), 1),
        gpu.Part("good", python("print('said')"), 30),
    ]
    monkeypatch.setattr(gpu, "parts_in", lambda *_: parts)
    monkeypatch.setattr(gpu, "_PATIENCE", 1)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path), "--dry-run"])
    assert gpu.main() == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    results = {name: part["result"] for name, part in summary.items()}
    assert results == {"fails": "failed (3)", "hangs": "cut off after 1 s", "good": "passed"}
    assert "said" in (tmp_path / "log.txt").read_text() and "said" in capfd.readouterr().out
    time.sleep(2)
    assert not (tmp_path / "alive").exists()


def test_parts_together_take_less_than_eight_minutes(gpu, tmp_path):
    parts = gpu.parts_in(tmp_path, dry=False)
    assert gpu.TOTAL < 480 and len({part.name for part in parts}) == len(parts) == 7
    small = gpu.parts_in(tmp_path, dry=True)
    assert all(Path(word).exists() for part in small for word in part.command if ".py" in word)


@pytest.mark.parametrize(
    ("ap", "result"), [(0.61, "passed"), (0.59, "failed (AP 0.59"), (None, "failed")]
)
def test_digits_are_judged_by_their_ap(gpu, tmp_path, ap, result):
    part = gpu.Part("digits_bf16", [], 1, result="passed")
    (tmp_path / part.name).mkdir()
    (tmp_path / part.name / "results.json").write_text(json.dumps({"AP": ap}))
    gpu._judge(part, tmp_path, dry=False)
    assert part.result.startswith(result)


def test_only_wheels_that_are_missing_are_packed(tmp_path):
    wheels = module("wheels")
    nothing = {wheels.normal(line) for line in wheels.missing_for("detcenter", set())}
    assert {"torch", "albumentations", "albucore", "pydantic-core", "typeshed-client"} <= nothing
    there = nothing - {"albucore", "lmdb"}
    found = wheels.missing_for("detcenter", there | {"albumentations"})
    assert {line.partition("==")[0] for line in found} == {"lmdb"}  # whose needs are not looked at
    found = wheels.missing_for("detcenter", there - {"albumentations"})
    assert {line.partition("==")[0] for line in found} == {"lmdb", "albumentations", "albucore"}
