"""How many runs at a time: the decision alone, on paces made up, as machines would give them."""

import pytest

from detcenter import machine
from detcenter.runs import side_by_side
from detcenter.runs.growth import Growth, Pace

GB = 1e9


def grown(speed, most=16, gpus=1, memory=1 * GB, gpu_memory=4 * GB, gpu=100 * GB, free=100 * GB):
    """The limit that is found where n runs train ``speed(n)`` images a second together, what was
    said, and the limits on the way."""
    growth = Growth(gpus, most, gpus)
    done, limits = {}, []
    for _ in range(1000):
        limits.append(growth.limit)
        while len(done) < growth.limit:
            done[len(done)] = Pace()  # one that starts: the others go on meanwhile
        running = len(done)
        said = growth.look(dict(done), free - running * memory)
        if said:
            return growth.limit, said, sorted(set(limits))
        for run, pace in done.items():
            each = speed(running) / running
            steps = each * 2 / 8  # in two seconds, eight images a step
            free_gpu = gpu - running / gpus * gpu_memory
            done[run] = Pace(
                pace.steps + steps, pace.images + 8 * steps, pace.seconds + 2,
                memory, gpu_memory, free_gpu,
            )  # fmt: skip
    raise AssertionError("nothing was found")


def test_it_stops_where_the_gpu_is_full():
    # every run adds 100 until the device gives no more than 350: the fourth adds a half, which
    # pays; the fifth nothing
    limit, said, limits = grown(lambda n: min(100 * n, 350))
    assert limit == 4 and limits == [1, 2, 3, 4, 5]
    assert said == "4 runs at a time: 5 train 350 images/s, 4 trained 350"


def test_one_run_may_fill_it():
    limit, said, _ = grown(lambda n: 400 + 20 * (n - 1))
    assert limit == 1 and said == "1 run at a time: 2 train 420 images/s, 1 trained 400"


def test_a_quarter_of_the_first_is_the_least():
    assert grown(lambda n: 100 + 26 * (n - 1), most=9)[0] == 9
    assert grown(lambda n: 100 + 24 * (n - 1), most=9)[0] == 1


def test_more_may_be_slower():
    assert grown(lambda n: 100 * n if n < 4 else 150)[0] == 3


def test_there_are_so_many_runs_or_cores():
    limit, said, _ = grown(lambda n: 100 * n, most=3)
    assert limit == 3 and "no more cores or runs" in said


@pytest.mark.parametrize(
    "memory",
    [
        {"gpu": 25 * GB, "gpu_memory": 6 * GB},  # 25 - 3 * 6 = 7; 4/5 of that is too little
        {"free": 12.5 * GB, "memory": 3 * GB},  # likewise of the machine
    ],
)
def test_memory_has_no_room_for_more(memory):
    limit, said, limits = grown(lambda n: 100 * n, **memory)
    assert limit == 3 and limits == [1, 2, 3] and "memory has no room for more" in said


def test_every_gpu_gets_one_more():
    limit, _, limits = grown(lambda n: min(100 * n, 850), gpus=4)
    assert limits == [4, 8, 12] and limit == 8


def test_steps_count_only_while_all_runs_are_warm():
    growth = Growth(2, 4, 1)
    slow = {"a": Pace(100, 800, 80), "b": Pace()}
    assert growth.look(slow, 9 * GB) is None and growth.limit == 2
    both = {"a": Pace(200, 1600, 160), "b": Pace(1, 8, 1)}
    assert growth.look(both, 9 * GB) is None and growth.limit == 2  # from here on
    both = {"a": Pace(220, 1760, 180), "b": Pace(21, 168, 21)}
    assert growth.look(both, 9 * GB) is None and growth.limit == 3
    # another run in the place of one: what lies between is not counted
    assert growth.look({"a": Pace(400, 1, 1), "c": Pace(1), "d": Pace(1)}, 9 * GB) is None
    assert growth.limit == 3


def test_cpus_are_filled_as_far_as_memory_goes():
    # the last: a container that has taken more than its bound, which was lowered
    for free, limit in ((100 * GB, 8), (10 * GB, 5), (1 * GB, 1), (-5 * GB, 1)):
        growth = Growth(1, 8)
        assert growth.look({"a": Pace()}, free) is None and growth.limit == 1
        assert growth.sharing == 8  # the first run gets its share of the cores at once
        said = growth.look({"a": Pace(memory=2 * GB)}, free)
        assert growth.limit == limit == growth.sharing and growth.settled
        assert said.startswith(f"{limit} run") and "a run takes 2.0 GB" in said


def test_memory_that_runs_short_lowers_it_for_good():
    growth = Growth(4, 4)
    growth.less(3)
    growth.less(5)
    assert growth.limit == 3 and growth.settled
    growth.less(0)
    assert growth.limit == 1


def test_one_core_says_so_too():
    said = Growth(1, 1).look({"a": Pace(memory=1 * GB)}, 9 * GB)
    assert said.startswith("1 run at a time: there are no more cores or runs; a run takes 1.0 GB")


def test_places(monkeypatch):
    assert side_by_side._free_places(4, {1: None}) == [0, 2, 3]
    assert side_by_side._free_places(2, {2: None, 0: None}) == []  # the limit was lowered
    monkeypatch.setattr(side_by_side.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(side_by_side, "cores", lambda: 16)
    for jobs, runs, limit, settled in (("auto", 9, 2, False), ("auto", 1, 1, False),
                                       (None, 9, 2, True), (5, 9, 5, True)):  # fmt: skip
        growth = side_by_side._growth(jobs, runs)
        assert (growth.limit, growth.settled) == (limit, settled)


def test_a_container_may_have_less_memory(tmp_path):
    assert machine.free_memory(tmp_path) > 1e8
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    for most, free in (("1000\n", 500), ("max\n", None)):
        (tmp_path / "memory.max").write_text(most)
        found = machine.free_memory(tmp_path)
        assert found == free if free else found > 1e8


def test_what_a_process_takes():
    kept = bytearray(50_000_000)
    before = machine.taken_memory()
    more = bytearray(b"x" * 80_000_000)
    assert 60e6 < machine.taken_memory() - before < 200e6
    assert len(kept) < len(more) < before
