"""Which runs are started when, and again: on processes that pretend to train."""

import json
import logging
import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from threadpoolctl import threadpool_info

from detcenter.recipe.config import Config
from detcenter.runs import own_process, side_by_side
from detcenter.runs.claims import Claims
from detcenter.runs.growth import Pace
from detcenter.runs.own_process import Running

FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
FORK = multiprocessing.get_context("fork")


class Machine:
    """Runs that take half a second, and a machine where no more than ``room`` fit."""

    def __init__(self, monkeypatch, room=99, said=FULL, memory=0.0, too_large=""):
        self.room, self.said, self.memory, self.too_large = room, said, memory, too_large
        self.going, self.starts = FORK.RawValue("i", 0), []
        self.lock = FORK.Lock()
        monkeypatch.setattr(side_by_side, "started", self.started)

    def started(self, config, claim, place, jobs):
        folder = claim.folder
        said = FORK.RawArray("d", len(Pace._fields))
        warned, warns = FORK.Pipe(duplex=False)
        process = FORK.Process(target=self.work, args=(folder, said, warns))
        process.start()
        warns.close()
        self.starts.append((folder.name, place, jobs))
        return Running(process, claim, said, warned)

    def work(self, folder, said, warns):
        folder.mkdir(exist_ok=True)
        for kind, text in (("slow", f"slow {folder.name}"), (f"odd {folder.name}",) * 2):
            warns.send((kind, text))
        with self.lock:
            self.going.value += 1
            going = self.going.value
        said[3] = self.memory
        full = going > self.room or folder.name == self.too_large
        time.sleep(0.1 if full else 0.5)
        with (folder / "log.txt").open("a") as log:
            print(f"beside {going - 1}", file=log)
            if full:
                print(self.said, file=log)
        with self.lock:
            self.going.value -= 1
        sys.exit(full)


def beside(folder):
    """How many others there were, each time the run was started."""
    lines = (folder / "log.txt").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("beside")]


@pytest.fixture
def runs(tmp_path):
    return {tmp_path / name: Config() for name in "abcde"}


def test_so_many_at_a_time(monkeypatch, runs):
    machine = Machine(monkeypatch)
    assert side_by_side.train_side_by_side(runs, 3) == {}
    assert [name for name, _, _ in machine.starts] == list("abcde")
    assert max(beside(run)[0] for run in runs) == 2
    assert {jobs for _, _, jobs in machine.starts} == {3}


def test_what_runs_warn_of_is_said_once_of_each_kind(monkeypatch, runs, capsys):
    Machine(monkeypatch)
    assert side_by_side.train_side_by_side(runs, 2) == {}
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if ": slow" in line]) == 1
    for run in runs:
        assert lines.index(f"{run}: odd {run.name}") < lines.index(f"{run}: done")


def test_a_run_sends_few_and_short_warnings():
    reader, writer = FORK.Pipe(duplex=False)
    logger = logging.Logger("a run's")
    logger.addHandler(own_process._Warnings(writer))
    logger.info("nothing")
    for number in range(100):
        logger.warning("step %d", number)
    for number in range(100):
        logger.warning(f"{number} {'a' * 10_000}")
    assert [*(run := Running(None, None, None, reader)).warnings()][0] == ("step %d", "step 0")
    for number in range(100):
        logger.warning(f"again {number}")
    writer.close()
    assert [*run.warnings()] == []


def test_a_run_that_is_killed_while_it_warns_stops_nothing():
    reader, writer = FORK.Pipe(duplex=False)
    writer.send(("slow", "slow"))
    os.write(writer.fileno(), b"\0\0\1\0half")  # of 256 bytes
    writer.close()
    run = Running(None, None, None, reader)
    assert [*run.warnings()] == [("slow", "slow")] and [*run.warnings()] == []


SHARED = (
    "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that \
dataloader's workers are out of shared memory. Please try to raise your shared memory limit."
)


@pytest.mark.parametrize(
    "said", [FULL, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "MemoryError", SHARED]
)
def test_a_run_that_finds_memory_full_beside_others_goes_on_beside_fewer(
    monkeypatch, runs, said, capsys
):
    machine = Machine(monkeypatch, room=2, said=said)
    assert side_by_side.train_side_by_side(runs, 3) == {}
    again = [run for run in runs if len(beside(run)) == 2]
    assert len(again) == 1 and len(machine.starts) == 6  # and no third at once after that
    assert f"{again[0]}: {said}" in (out := capsys.readouterr().out)
    assert "beside fewer runs" in out and "failed" not in out and out.count(": done") == 5


def test_alone_it_has_failed(monkeypatch, runs):
    Machine(monkeypatch, room=0)
    failed = side_by_side.train_side_by_side(runs, 2)
    assert failed.keys() == runs.keys() and all(beside(run)[-1] == 0 for run in runs)
    assert all("out of memory" in why for why in failed.values())


def test_a_run_that_never_fits_does_not_slow_the_others(monkeypatch, tmp_path):
    Machine(monkeypatch, too_large="b")
    runs = {tmp_path / name: Config() for name in "abcdefg"}
    failed = side_by_side.train_side_by_side(runs, 3)
    assert [run.name for run in failed] == ["b"]
    assert beside(*failed)[-1] == 0 and len(beside(*failed)) > 1
    assert max(beside(tmp_path / name)[0] for name in "efg") == 2  # three at a time again


def test_another_error_is_not_tried_again(monkeypatch, runs):
    machine = Machine(monkeypatch, room=0, said="ValueError: no")
    assert len(side_by_side.train_side_by_side(runs, 3)) == len(machine.starts) == 5


def test_auto_starts_one_and_then_as_many_as_fit(monkeypatch, runs, capsys):
    monkeypatch.setattr(side_by_side.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(side_by_side, "cores", lambda: 4)
    monkeypatch.setattr(side_by_side, "free_memory", lambda: 4e9)
    monkeypatch.setattr(side_by_side, "_LOOK", 0.1)
    machine = Machine(monkeypatch, memory=1.5e9)
    assert side_by_side.train_side_by_side(runs, "auto") == {}
    # 4/5 of 4 GB are two more of 1.5 GB; the first has a quarter of the cores, later ones a third
    assert machine.starts == [("a", 0, 4), ("b", 1, 3), ("c", 2, 3), *machine.starts[3:]]
    assert max(beside(Path(run))[0] for run in runs) == 2
    line = "--jobs auto: 3 runs at a time: a run takes 1.5 GB, and 4.0 GB are free"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_a_run_has_its_share_and_loading_processes_start_as_in_one_alone(monkeypatch, tmp_path):
    """Spawned, each would import everything first, again at every evaluation."""

    def train(config, folder, resume, on_step, before_write):
        on_step(8, 0.5)
        logging.getLogger("detcenter").warning("it is %s", "slow")
        blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        found = (
            multiprocessing.get_start_method(),
            torch.get_num_threads(),
            *{*blas},
            dict(os.environ),
        )
        (folder / "said.json").write_text(json.dumps(found))

    def spawned(said):
        multiprocessing.set_start_method("spawn", force=True)  # as in a spawned process
        own_process._work(Config(), claim, said, warns, "fork", environment)

    run = tmp_path / "run"
    claim = Claims([run]).claim(run)
    monkeypatch.setattr(own_process, "train", train)
    monkeypatch.setattr(own_process, "measured_run", lambda folder: None)
    environment = {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "1"}
    said = FORK.RawArray("d", len(Pace._fields))
    warned, warns = FORK.Pipe(duplex=False)
    process = FORK.Process(target=spawned, args=(said,))
    process.start()
    process.join()
    found = json.loads((tmp_path / "run" / "said.json").read_text())
    assert found == ["fork", 2, 2, environment]
    assert Pace(*said).steps == 0 and Pace(*said).memory > 1e7  # the first steps only warm up
    assert warned.poll(5) and warned.recv() == ("it is %s", "it is slow")


def test_a_run_says_what_it_did_after_its_first_steps():
    said = [0.0] * len(Pace._fields)
    say = own_process._saying(said, SimpleNamespace(lost=False))
    for seconds in (9, 9, 9, 1, 2):
        say(8, seconds)
    assert Pace(*said)[:3] == (2, 16, 3)
