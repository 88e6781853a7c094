"""Who trains a run: claims by many at once, and of holders that die or sleep."""

import json
import multiprocessing
import os
import pickle
import signal
import threading
import time

import pytest

from detcenter.runs import claims
from detcenter.runs.claims import Claim, ClaimLost, Claims, Other

FORK = multiprocessing.get_context("fork")
SHORT = 0.3  # seconds


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


class Clock:
    """The clock of who waits, which a test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(claims.time, "monotonic", lambda: self.now)

    def looks(self, watcher, run, seconds, every=5.0):
        """What ``watcher`` finds at the end of so many seconds of looking."""
        found = watcher.look(run)
        for _ in range(round(seconds / every)):
            self.now += every
            found = watcher.look(run)
        return found


def claim_at_once(run, ready, start, won):
    mine = Claims([run], SHORT)
    ready.release()
    start.wait()
    won.append(isinstance(mine.claim(run), Claim))


def test_of_many_processes_and_threads_one_wins(run):
    for turn in range(5):
        wins, ready, start = FORK.RawArray("i", 4), FORK.Semaphore(0), FORK.Event()

        def process(number, run=run / str(turn), wins=wins, ready=ready, start=start):
            won: list[bool] = []
            threads = [
                threading.Thread(target=claim_at_once, args=(run, ready, start, won))
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            wins[number] = sum(won)

        processes = [FORK.Process(target=process, args=(number,)) for number in range(4)]
        for one in processes:
            one.start()
        for _ in range(16):
            ready.acquire()
        start.set()
        for one in processes:
            one.join()
            assert one.exitcode == 0
        assert sum(wins) == 1
        assert os.listdir(run / str(turn)) == ["claim.1"]


def test_of_many_that_take_over_one_wins(run, monkeypatch):
    dead = Claims([run]).claim(run)
    dead._stop()
    clock = Clock(monkeypatch)
    watchers = [Claims([run]) for _ in range(8)]
    for watcher in watchers:
        clock.now = 0.0
        assert clock.looks(watcher, run, 60).state == "held"
        assert clock.looks(watcher, run, 5) is None
    # All have seen it expire before any of them claims.
    found = [watcher.claim(run) for watcher in watchers]
    won = [claim for claim in found if isinstance(claim, Claim)]
    assert len(won) == 1 and isinstance(found[0], Claim)
    assert {other.state for other in found if isinstance(other, Other)} == {"held"}
    assert sorted(os.listdir(run)) == ["claim.1", "claim.2"]
    with pytest.raises(ClaimLost, match="has taken it over"):
        dead.check()
    won[0].check()


def test_the_name_is_created_by_one_even_if_all_saw_it_free(run, monkeypatch):
    """As where the news of another's claim is late."""
    first, second = Claims([run]), Claims([run])
    newest = claims._newest
    assert isinstance(first.claim(run), Claim)
    stale = iter([None, None])
    monkeypatch.setattr(claims, "_newest", lambda folder: next(stale, newest(folder)))
    assert second.claim(run).state == "held"
    assert os.listdir(run) == ["claim.1"]


def test_who_renews_stays(run, monkeypatch):
    claim = Claims([run]).claim(run)
    clock, watcher = Clock(monkeypatch), Claims([run])
    for _ in range(5):
        assert clock.looks(watcher, run, 55).state == "held"
        claim.write("held")
    assert clock.looks(watcher, run, 70) is None
    claim.end()


def test_a_claim_is_renewed_until_it_is_ended(run):
    claim = Claims([run], SHORT).claim(run)
    text = (run / "claim.1").read_text()
    until = time.monotonic() + 10
    while (run / "claim.1").read_text() in (text, "") and time.monotonic() < until:
        time.sleep(0.01)
    said = json.loads((run / "claim.1").read_text())
    assert said["state"] == "held" and str(os.getpid()) in said["who"]
    claim.end()
    assert Claims([run]).look(run) is None
    time.sleep(SHORT)
    assert json.loads((run / "claim.1").read_text())["state"] == "free"


def test_a_watcher_that_slept_does_not_count_its_sleep(run, monkeypatch):
    """The holder may have slept on the same machine."""
    claim = Claims([run]).claim(run)
    clock, watcher = Clock(monkeypatch), Claims([run])
    assert watcher.look(run).state == "held"
    clock.now += 10_000
    assert watcher.look(run).state == "held"
    claim.end()


def test_what_failed_is_tried_again_by_those_who_come_later(run):
    before = Claims([run])
    before.claim(run).end("NaN")
    other = Claims([run])
    assert before.look(run).state == "failed" and before.look(run).why == "NaN"
    assert other.look(run) is None
    again = other.claim(run)
    assert before.claim(run).state == "held"
    again.end("NaN again")
    assert other.claim(run).why == "NaN again"


def test_what_is_done_leaves_nothing(run):
    for _ in range(3):
        claim = Claims([run]).claim(run)
        claim.end()
    claim = Claims([run]).claim(run)
    assert len(os.listdir(run)) == 4
    claim.done()
    assert os.listdir(run) == []
    with pytest.raises(ClaimLost):
        claim.check()
    claim.end()  # creates nothing
    assert os.listdir(run) == []


def test_who_finishes_late_does_not_free_the_run_of_another(run, monkeypatch):
    late = Claims([run]).claim(run)
    late._stop()
    clock, watcher = Clock(monkeypatch), Claims([run])
    clock.looks(watcher, run, 70)
    taken = watcher.claim(run)
    late.end()
    taken.check()
    late.done()
    taken.check()
    assert os.listdir(run) == ["claim.2"]


def test_a_claim_that_was_cut_short_counts_as_held_and_expires(run, monkeypatch):
    """Its holder died, or is about to write."""
    run.mkdir()
    (run / "claim.7").touch()
    clock, watcher = Clock(monkeypatch), Claims([run])
    assert watcher.claim(run).state == "held"
    clock.looks(watcher, run, 70)
    assert isinstance(watcher.claim(run), Claim) and (run / "claim.8").exists()


def test_another_process_goes_on_with_a_claim(run):
    claim = pickle.loads(pickle.dumps(Claims([run], SHORT).claim(run)))
    claim.check()
    claim.keep()
    claim.end()
    assert Claims([run]).look(run) is None


def hold(run, held):
    claim = Claims([run], SHORT).claim(run)
    held.send(isinstance(claim, Claim))
    while not claim.lost:
        time.sleep(0.01)
    try:
        claim.check()
    except ClaimLost:
        held.send("lost")


def wait_for_claim(run):
    watcher, until = Claims([run], SHORT), time.monotonic() + 30
    while time.monotonic() < until:
        if isinstance(claim := watcher.claim(run), Claim):
            return claim
        time.sleep(0.02)
    raise AssertionError("it does not expire")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_dies_or_sleeps_is_followed(run, number):
    here, there = FORK.Pipe()
    process = FORK.Process(target=hold, args=(run, there))
    process.start()
    assert here.recv()
    assert Claims([run], SHORT).claim(run).who.endswith(f"process {process.pid}")
    os.kill(process.pid, number)
    claim = wait_for_claim(run)
    if number == signal.SIGSTOP:
        os.kill(process.pid, signal.SIGCONT)
        assert here.recv() == "lost"
    process.join()
    claim.check()
    claim.end()
