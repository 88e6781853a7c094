import pytest

from detcenter.training import EpochBatches


def indices(batches, epoch=1, start=0):
    batches.epoch, batches.start = epoch, start
    return list(batches)


def test_an_epoch_takes_every_image_at_most_once_and_drops_the_rest():
    found = indices(EpochBatches(11, 4))
    assert [len(batch) for batch in found] == [4, 4]
    assert len({index for batch in found for index, _ in batch}) == 8


def test_epochs_and_seeds_differ_and_the_same_ones_repeat():
    first = indices(EpochBatches(50, 10, seed=3))
    assert first == indices(EpochBatches(50, 10, seed=3))
    assert first != indices(EpochBatches(50, 10, seed=4))
    assert first != indices(EpochBatches(50, 10, seed=3), epoch=2)
    one, other = (
        dict(pair for batch in indices(EpochBatches(50, 10), epoch) for pair in batch)
        for epoch in (1, 2)
    )
    assert all(one[index] != other[index] for index in range(50))  # augmented anew


def test_an_epoch_that_is_taken_up_goes_on_as_it_would_have():
    batches = EpochBatches(40, 4, passes=2)
    whole = indices(batches, epoch=5)
    assert len(batches) == 10 and len(whole) == 10
    assert indices(batches, epoch=5, start=3) == whole[6:]
    assert len(batches) == 4


@pytest.mark.parametrize(("passes", "processes"), [(1, 2), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("size", [50, 11])
def test_passes_and_processes_share_the_batch_of_one(size, passes, processes):
    parts = 2 * passes * processes
    one = indices(EpochBatches(size, parts, seed=7))
    shared = [
        indices(EpochBatches(size, 2, seed=7, passes=passes, process=p, processes=processes))
        for p in range(processes)
    ]
    assert {len(mine) for mine in shared} == {len(one) * passes}
    for step, batch in enumerate(one):
        mine = [b for s in shared for b in s[step * passes : (step + 1) * passes]]
        assert sorted(pair for part in mine for pair in part) == sorted(batch)
        assert max(map(len, mine)) - min(map(len, mine)) <= 1


def test_no_pass_is_left_without_an_image():
    with pytest.raises(ValueError, match="5 images are too few for 6 passes a step"):
        EpochBatches(5, 1, passes=2, processes=3)
    assert [len(batch) for batch in EpochBatches(3, 8)] == [3]
