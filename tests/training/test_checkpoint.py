import errno
import pickle
import random

import pytest
import torch

from detcenter.training import CheckpointError, load_checkpoint, load_newest, save_checkpoint

ENTRIES = {
    "model": {"w": torch.ones(2)},
    "builder": {"name": "ssd"},
    "classes": ["a"],
    "config": {},
}


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "last.pth", **ENTRIES, epoch=3)
    loaded = load_checkpoint(tmp_path / "last.pth")
    assert torch.equal(loaded.pop("model")["w"], torch.ones(2))
    assert loaded == {"builder": {"name": "ssd"}, "classes": ["a"], "config": {}, "epoch": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, **ENTRIES, epoch=3)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, **ENTRIES, epoch=lambda: 4)
    assert load_checkpoint(path)["epoch"] == 3
    with pytest.raises(TypeError, match="classes"):
        save_checkpoint(path, model={}, builder={}, config={})


def test_what_is_no_checkpoint_is_one_clear_line(tmp_path):
    torch.save({"weight": torch.ones(1)}, tmp_path / "plain.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "plain.pth").read_bytes()[:200])
    (tmp_path / "empty.pth").touch()
    for name, message in (
        ("none.pth", "no such checkpoint"),
        ("cut.pth", "not a readable checkpoint"),
        ("empty.pth", "not a readable checkpoint"),
        ("plain.pth", "no builder, classes, config, model"),
    ):
        with pytest.raises(CheckpointError, match=f"{name}: .*{message}") as caught:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "exploded"), "w")

    torch.save(ENTRIES | {"config": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


def test_the_one_before_is_kept_and_used_when_the_newest_is_damaged(tmp_path):
    newest, previous = tmp_path / "last.pth", tmp_path / "previous.pth"
    for epoch in (1, 2, 3):
        save_checkpoint(newest, previous, **ENTRIES, epoch=epoch)
    checkpoint, said = load_newest(newest, previous)
    assert (checkpoint["epoch"], said) == (3, None)
    newest.write_bytes(newest.read_bytes()[:-100])
    checkpoint, said = load_newest(newest, previous)
    assert checkpoint["epoch"] == 2 and "last.pth: not a readable checkpoint" in said
    newest.unlink()  # killed between the two renamings
    assert load_newest(newest, previous)[0]["epoch"] == 2
    previous.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"previous.pth: not a readable"):
        load_newest(newest, previous)


def test_no_flipped_bit_goes_unseen(tmp_path):
    path = tmp_path / "last.pth"
    weights = torch.randn(500)
    save_checkpoint(path, **ENTRIES | {"model": {"w": weights}}, epoch=3)
    good = path.read_bytes()
    random.seed(0)
    seen = 0
    for place in random.sample(range(len(good)), 200):
        bad = bytearray(good)
        bad[place] ^= 1 << random.randrange(8)
        path.write_bytes(bad)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            seen += 1
        else:  # in padding or a date, which say nothing
            assert torch.equal(loaded["model"]["w"], weights) and loaded["epoch"] == 3
    assert seen > 100


def test_a_full_disk_leaves_the_last_one(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    save_checkpoint(path, **ENTRIES, epoch=3)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("detcenter.training.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match=r"not be written \(.*No space left.*intact"):
        save_checkpoint(path, **ENTRIES, epoch=4)
    assert load_checkpoint(path)["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["last.pth"]
