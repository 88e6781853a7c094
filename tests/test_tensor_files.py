"""Weights and checkpoints as people have them, and what is none."""

import argparse
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detcenter.models import WeightsError, read_weights
from detcenter.tensor_files import bare_names, load_tensors, state_dict_in
from detcenter.training import CheckpointError, load_checkpoint, save_checkpoint

MODEL = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
STATE = MODEL.state_dict()


def prefixed(prefix):
    return {prefix + name: x for name, x in STATE.items()}


class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = MODEL


AS_PEOPLE_HAVE_THEM = {
    "plain": STATE,
    "of DistributedDataParallel": nn.DataParallel(MODEL).state_dict(),
    "of torch.compile": torch.compile(MODEL).state_dict(),
    "of both": nn.DataParallel(torch.compile(MODEL)).state_dict(),
    "of both, the other way": prefixed("_orig_mod.module."),
    "a part compiled": {name.replace("0.", "0._orig_mod."): x for name, x in STATE.items()},
    "an average": AveragedModel(MODEL).state_dict(),
    "model": {"model": STATE, "epoch": 3},
    "state_dict": {"state_dict": prefixed("module."), "best": 0.5},
    "model_state_dict": {"model_state_dict": STATE},
    "ema": {"ema": {"module": STATE, "updates": 9}},
    "Lightning": {"state_dict": Lit().state_dict(), "pytorch-lightning_version": "2.5"},
    "torchvision's references": {
        "model": STATE,
        "optimizer": torch.optim.SGD(MODEL.parameters(), lr=1.0).state_dict(),
        "args": argparse.Namespace(lr=0.02, output_dir="."),
        "model_ema": prefixed("other."),
    },
    "numbers of NumPy beside": {"model": STATE, "mAP": np.float64(0.3), "step": np.int64(4)},
}


@pytest.mark.parametrize("content", AS_PEOPLE_HAVE_THEM.values(), ids=AS_PEOPLE_HAVE_THEM.keys())
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found(content, zipped, tmp_path):
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    state = read_weights(tmp_path / "a.pth")
    assert state.keys() == STATE.keys()
    assert all(torch.equal(x, STATE[name]) for name, x in state.items())


def test_a_name_that_only_looks_like_a_wrapper_stays():
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert bare_names(state) == state
    assert state_dict_in({"optimizer": {"state": {}}, "epoch": 3}) is None
    assert state_dict_in([torch.ones(1)]) is None


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def zipped(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "text")


def cut(path, content, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged(path):
    torch.save({"model": torch.arange(500)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(500).numpy().tobytes()) + 99] ^= 1
    path.write_bytes(content)


SAVE = "torch.save(model.state_dict(), 'weights.pth')"
NO_WEIGHTS = {
    "a whole model": (
        lambda p: torch.save(MODEL, p),
        f"a pickled object (torch.nn.modules.container.Sequential), .*: {SAVE}",
    ),
    "a whole model, in the old format": (
        lambda p: torch.save(MODEL, p, _use_new_zipfile_serialization=False),
        f"a pickled object (torch.nn.modules.container.Sequential), .*: {SAVE}",
    ),
    "a whole model in a checkpoint": (
        lambda p: torch.save({"ema": MODEL}, p),
        f"a pickled object (torch.nn.modules.container.Sequential), .*: {SAVE}",
    ),
    "code": (lambda p: torch.save(Evil(), p), "a pickled object (exec), .*"),
    "TorchScript": (lambda p: zipped(p, "model/constants.pkl"), f"a TorchScript .*{SAVE}.*"),
    "another pickle": (lambda p: p.write_bytes(pickle.dumps(MODEL)), "no file of torch.save.*"),
    "another archive": (lambda p: zipped(p, "x.txt"), "a zip archive, but none of torch.save"),
    "cut short": (lambda p: cut(p, STATE), "an archive that is cut short or damaged; copy .*"),
    "cut short, in the old format": (lambda p: cut(p, STATE, False), ".* cut short: .*"),
    "a flipped bit": (damaged, ".*/data/0 in it is damaged; copy or download it again"),
    "safetensors": (lambda p: save_file(STATE, p), "a safetensors file; torch.save(.* makes .*"),
    "empty": (lambda p: p.touch(), "an empty file; copy or download it again"),
    "a folder": (lambda p: p.mkdir(), "a folder, not a file"),
    "git-lfs": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "a pointer of git-lfs, not the file itself; `git lfs pull` brings it",
    ),
    "a web page": (
        lambda p: p.write_text("\n<!DOCTYPE html>\n<html>"),
        "a text file that begins with '<!DOCTYPE html>'; copy or download it again",
    ),
    "noise": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(3000)), "no file of .*"),
}  # fmt: skip


@pytest.mark.parametrize("make, what", NO_WEIGHTS.values(), ids=NO_WEIGHTS.keys())
@pytest.mark.parametrize("read", [read_weights, load_checkpoint])
def test_what_is_none_is_one_line_that_says_what_it_is(make, what, read, tmp_path):
    make(tmp_path / "a.pth")
    pattern = what.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(
        (WeightsError, CheckpointError), match=rf"a\.pth: not a .*\({pattern}\)$"
    ) as e:
        read(tmp_path / "a.pth")
    assert str(e.value).isprintable() and len(str(e.value)) < 400 + len(str(tmp_path))


def test_any_other_content_is_no_state_dict(tmp_path):
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=1)}, tmp_path / "a.pth")
    assert load_tensors(tmp_path / "a.pth")["args"].lr == 1
    with pytest.raises(WeightsError, match="holds no state dict, nor a checkpoint with one"):
        read_weights(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(tmp_path / "b.pth")


def test_a_checkpoint_of_a_wrapped_model_is_read_as_of_the_bare_one(tmp_path):
    entries = {"builder": {}, "classes": ["a"], "config": {}}
    save_checkpoint(tmp_path / "last.pth", model=prefixed("module._orig_mod."), **entries)
    assert load_checkpoint(tmp_path / "last.pth")["model"].keys() == STATE.keys()
    torch.save(entries | {"model": 3}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a detcenter checkpoint"):
        load_checkpoint(tmp_path / "other.pth")
