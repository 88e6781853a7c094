"""What is installed: the plugin with torch and torchvision alone, the commands with an extra."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import detcenter
from detcenter import cli
from detcenter.commands import env
from detcenter.installed import TRAIN

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# torchvision brings these two itself.
BLOCKS = f"""
import sys
for name in {[name for name in TRAIN if name not in ("numpy", "PIL")]}:
    sys.modules[name] = None
for name in ("matplotlib", "plotly", "jinja2", "lmdb", "hotcoco", "imagehash", "supervision"):
    sys.modules[name] = None
"""


def output(code, *, status=0):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_the_plugin_needs_torch_and_torchvision_alone():
    """Every name of the package but the two that read checkpoints."""
    plugin = sorted({*detcenter.__all__} - {"load", "predict"})
    code = f"""{BLOCKS}
import torch
from detcenter import {", ".join(plugin)}
from detcenter.unknown import WAYS
from tests.tiny_detectors import BOXES, SIZE, fasterrcnn, ssd

images, labels = [torch.rand(3, SIZE, SIZE)], torch.tensor([1, 2, 3])
targets = [{{"boxes": BOXES, "labels": labels}}]
for build in (ssd, fasterrcnn):
    model = attach(build(), CenterLoss(alpha=0.1), features=Embedding(dim=8), weight=0.1)
    attach(fast(model), RankHardLoss(), weight=0.1, name="rank")
    set_l2_softmax(model, 10.0)
    with held_centers(model):
        losses = model(images, targets)
    sum(losses.values()).backward()
    assert losses["loss_center"] > 0 and "loss_rank" in losses
    (features,) = box_features(model, images, [BOXES])
    (logits,) = box_logits(model, images, [BOXES])
    for by in WAYS:
        assert UnknownScorer.fit(features, logits, labels, by)(features, logits).isfinite().all()
    classes = EnrolledClasses.fit(features, labels)
    classes.add("new", features[:1])
    try:
        classes.add("several", features)
        raise SystemExit("modes without SciPy?")
    except ImportError as error:
        assert str(error).endswith('needs SciPy: pip install "detcenter[train]"')
    enroll(vote(model, 0.5), classes)
    detect_with_features(model.eval(), images)
    detach(model)
"""
    output(code)


@pytest.mark.parametrize("name", ["load", "predict"])
def test_what_reads_checkpoints_says_what_it_needs(name):
    code = f"{BLOCKS}\nimport detcenter\ndetcenter.{name}"
    _, said = output(code, status=1)
    assert said.splitlines()[-1] == (
        f"ModuleNotFoundError: detcenter.{name} needs jsonargparse, which is not installed: "
        'pip install "detcenter[train]"'
    )


def test_every_command_says_what_it_needs():
    code = f"""{BLOCKS}
from detcenter.cli import _COMMANDS, main
for command in _COMMANDS:
    print(command, main([command, "--config", "digits"]))
"""
    printed, said = output(code)
    commands = [command for command in cli._COMMANDS if command != "env"]
    assert printed.splitlines() == [*(f"{command} 2" for command in commands), "env 2"]
    *lines, last = said.splitlines()
    assert lines == [
        f"detcenter {command} needs jsonargparse, which is not installed: "
        'pip install "detcenter[train]"'
        for command in commands
    ]
    assert last == "detcenter env: it takes no arguments, such as '--config'"


def test_the_page_lists_every_extra():
    page = (ROOT / "docs" / "install.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(EXTRAS)


def test_env_works_without_the_extra():
    code = f"""{BLOCKS}
import importlib.metadata as metadata
there = metadata.version
def version(name):
    if name == "jsonargparse":
        raise metadata.PackageNotFoundError(name)
    return there(name)
metadata.version = version
from detcenter.cli import main
assert main(["env"]) == 0
"""
    printed, _ = output(code)
    lines = dict(re.findall(r"^([\w]+): +(.*)$", printed, re.MULTILINE))
    assert lines["detcenter"].startswith(detcenter.__version__)
    assert lines["missing"] == 'jsonargparse: pip install "detcenter[train]"'
    assert "jsonargparse not installed" in lines["train"] and "pillow 1" in lines["train"]
    assert lines["Python"].startswith(sys.version.split()[0])
    assert "torch is built for" in lines["devices"]
    can = torch.backends.cpu.get_cpu_capability()
    assert re.fullmatch(rf"\d+ of torch, \d+ cores, {can}", lines["threads"])


def test_env_tells_every_package_that_a_person_can_add(capsys, monkeypatch, tmp_path):
    there = {"matplotlib": "3.9"}
    monkeypatch.setattr(env, "_version", there.get)
    assert cli.main(["env"]) == 0
    lines = dict(re.findall(r"^([\w]+): +(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert lines["plots"] == "matplotlib 3.9"
    assert lines["report"] == "jinja2 not installed, plotly not installed"
    named = " ".join(lines.values())
    of_developers = {"docs", "notebook", "test"}
    needs = {need for extra in EXTRAS.keys() - of_developers for need in EXTRAS[extra]}
    for name in {*map(distribution, needs)} - {"detcenter"}:
        assert f"{name} " in named, name
    assert not of_developers & lines.keys() and len(lines) < 24
    # Where it was installed, its metadata say so, whatever else lies there.
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"')
    needs = ["torch>=2", "lmdb<4,>=1.5; extra == 'lmdb'", 'detcenter[train]; extra == "lmdb"']
    monkeypatch.setattr(env, "requires", lambda name: [*needs, 'pytest; extra == "test"'])
    assert env.extras(tmp_path) == {"lmdb": ["lmdb"]}


@pytest.mark.parametrize("argument", ["--help", "-h", "--version"])
def test_help_and_version_wait_for_no_library(argument):
    code = f"""
import sys
from detcenter.cli import main
assert main([{argument!r}]) == 0
assert not {{name.partition(".")[0] for name in sys.modules}} & {{"torch", "numpy", *{[*TRAIN]}}}
"""
    printed, _ = output(code)
    if argument == "--version":
        assert printed == f"detcenter {detcenter.__version__}\n"
    else:
        assert all(f"\n  {command} " in printed for command in cli._COMMANDS)


def distribution(requirement):
    return re.match(r"[\w-]+", requirement)[0].lower()


def test_the_list_of_the_extra_is_what_is_installed():
    assert sorted(TRAIN.values()) == sorted(map(distribution, EXTRAS["train"]))
    assert [distribution(line) for line in PROJECT["dependencies"]] == ["torch", "torchvision"]


def test_the_version_is_that_of_changelog_citation_and_tag():
    version = detcenter.__version__
    sections = re.findall(r"^## (?:\[?([\d.]+)\]? - [\d-]{10}|Unreleased)$", changelog(), re.M)
    assert next(section for section in sections if section) == version
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == version
    released = re.search(rf"^## {re.escape(version)} - (.*)$", changelog(), re.M)[1]
    assert re.search(r"^date-released: (.*)$", citation, re.M)[1].strip("\"'") == released
    for tag in tags():
        assert tag == f"v{version}"


def changelog():
    return (ROOT / "CHANGELOG.md").read_text()


def tags():
    """Of the commit that is checked out; none where there is no git, or no tag."""
    command = ["git", "tag", "--points-at", "HEAD", "--list", "v[0-9]*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.split() if (ROOT / ".git").exists() else []
