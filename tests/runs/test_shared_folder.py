"""Several commands that train the same runs in one folder; some die, some sleep."""

import json
import os
import re
import signal
import time

import pytest
import torch

from detcenter.cli import main
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs import claims, own_process, side_by_side
from detcenter.runs.claims import ClaimLost, Claims
from detcenter.runs.run import train
from tests.changed_recipe import changed

pytestmark = pytest.mark.slow

BLOCKED_STEP = 5  # of two an epoch


@pytest.fixture
def config(recipe):
    args = ["--config", str(recipe), "--train.epochs", "3", "--train.eval_every", "3"]
    args += ["--train.lr", "0.0001"]
    return parse_recipe(recipe_parser("detcenter train", ""), args)[0]


@pytest.fixture
def first_blocks(forked, monkeypatch):
    """The first run that is started stops in its fifth step, until it is let go on."""
    reached, let_go, starts = forked.Event(), forked.Event(), forked.Value("i", 0)

    def blocking(config, folder, resume, on_step, before_write):
        done = 0
        with starts:
            starts.value += 1
            first = starts.value == 1

        def step(images, seconds):
            nonlocal done
            on_step(images, seconds)
            done += 1
            if first and done == BLOCKED_STEP:
                reached.set()
                let_go.wait()

        return train(config, folder, resume, on_step=step, before_write=before_write)

    monkeypatch.setattr(own_process, "train", blocking)
    return reached, let_go


def other_machine(forked, runs):
    """A process that trains ``runs``, and sends which failed."""
    here, there = forked.Pipe()
    process = forked.Process(
        target=lambda: there.send(side_by_side.train_side_by_side(runs, 1)), daemon=False
    )
    process.start()
    return process, here


def epochs_in(folder):
    """The epochs that were ended there, by whomever, in their order."""
    return [int(n) for n in re.findall(r"^epoch (\d+)/", (folder / "log.txt").read_text(), re.M)]


def state_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def test_a_run_whose_machine_dies_goes_on_elsewhere(
    config, tmp_path, forked, first_blocks, monkeypatch, capsys
):
    monkeypatch.setattr(claims, "EXPIRES", 1.0)
    reached, _ = first_blocks
    run = tmp_path / "run"
    process, _ = other_machine(forked, {run: config})
    assert reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (run / "last.pth.partial").write_text("it was writing")
    assert side_by_side.train_side_by_side({run: config}, 1) == {}
    assert epochs_in(run) == [1, 2, 3]  # none again
    who = f"process {process.pid}"
    printed = capsys.readouterr().out
    assert re.search(f"waiting for runs that are trained elsewhere: 1 by .*, {who}\n", printed)
    assert not [*run.glob("claim.*"), *run.glob("*.partial")]


def test_a_machine_that_slept_writes_nothing_more(
    config, tmp_path, forked, first_blocks, monkeypatch
):
    monkeypatch.setattr(claims, "EXPIRES", 1.0)
    reached, let_go = first_blocks
    run = tmp_path / "run"
    process, said = other_machine(forked, {run: config})
    assert reached.wait(60)
    (child,) = children_of(process.pid)
    for pid in (process.pid, child):
        os.kill(pid, signal.SIGSTOP)
    assert side_by_side.train_side_by_side({run: config}, 1) == {}
    before = state_of(run)
    for pid in (child, process.pid):
        os.kill(pid, signal.SIGCONT)
    let_go.set()
    assert said.poll(60) and said.recv() == {}
    process.join()
    after = state_of(run)
    assert after.pop("log.txt") > before.pop("log.txt")  # where it says why it stops
    assert after == before
    assert "another process has trained it" in (run / "log.txt").read_text()
    assert epochs_in(run) == [1, 2, 3]


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


@pytest.mark.parametrize("allowed", [1, 2, 4])
def test_nothing_changes_once_it_must_not(config, tmp_path, allowed):
    """The folder is opened, the epoch reported, and its checkpoint written."""
    calls, before = 0, {}

    def may_write():
        nonlocal calls, before
        calls += 1
        if calls > allowed:
            before = state_of(tmp_path)
            raise ClaimLost("taken")

    with pytest.raises(ClaimLost):
        train(config, tmp_path, before_write=may_write)
    after = {name: time for name, time in state_of(tmp_path).items() if ".partial" not in name}
    assert after == {name: time for name, time in before.items() if ".partial" not in name}
    assert calls == allowed + 1 and not [*tmp_path.glob("*.partial")]


def test_ctrl_c_frees_the_run(config, tmp_path, forked, first_blocks):
    reached, let_go = first_blocks
    run = tmp_path / "run"
    process, _ = other_machine(forked, {run: config})
    assert reached.wait(60)
    let_go.set()
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert "stopped, and saved" in (run / "log.txt").read_text()
    assert Claims([run]).look(run) is None


def test_two_that_start_at_once_share_a_comparison(recipe, tmp_path, forked, monkeypatch):
    one_epoch = changed(recipe, tmp_path, train={"epochs": 1})
    args = ["compare", "--config", str(one_epoch), "--seeds", "2"]
    args += ["--set", "plain: center=null", "--set", "center: center.weight=0.3"]
    args += ["--output", str(tmp_path / "out")]
    start = forked.Barrier(2)

    def compare():
        torch.set_num_threads(1)
        start.wait()
        raise SystemExit(main(args))

    processes = [forked.Process(target=compare, daemon=False) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    runs = [*(tmp_path / "out").glob("*/seed_*")]
    assert len(runs) == 4 and all(epochs_in(run) == [1] for run in runs)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["pairs"]
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"plain", "center", "compare.json", "compare.png"}


def test_a_run_that_fails_elsewhere_is_not_tried_here(config, tmp_path, forked, monkeypatch):
    tries, go_on = forked.Value("i", 0), forked.Event()

    def failing(config, folder, *rest, **options):
        with tries:
            tries.value += 1
        go_on.wait()
        raise ValueError("no such thing")

    monkeypatch.setattr(own_process, "train", failing)
    run = tmp_path / "run"
    process, said = other_machine(forked, {run: config})
    while not tries.value:
        time.sleep(0.01)
    second, said_too = other_machine(forked, {run: config})
    time.sleep(0.3)
    go_on.set()
    failures = [one.recv() for one in (said, said_too)]
    assert failures == [{run: "ValueError: no such thing"}] * 2
    process.join(), second.join()
    assert tries.value == 1 and (run / "failed.txt").read_text() == "ValueError: no such thing\n"
