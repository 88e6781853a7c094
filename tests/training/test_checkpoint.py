import pickle

import pytest
import torch

from detcenter.training import CheckpointError, load_checkpoint, save_checkpoint

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
