"""The scripts of docs/, at the least size that they take; `make notebook` runs the notebook."""

import sys
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
LEAST = ("--epochs", "1", "--train", "8", "--val", "2")


@pytest.fixture(scope="module")
def own_loop(tmp_path_factory):
    """The script; it has run, in a folder of its own, and finds what it imports beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        patch.chdir(tmp_path_factory.mktemp("own_loop"))
        patch.setattr(sys, "argv", ["own_loop.py", *LEAST])
        import own_loop

        own_loop.main()
        yield own_loop


def test_what_the_own_loop_leaves_is_plain_torchvision(own_loop):
    own_loop.detector(10).load_state_dict(torch.load("own_loop.pth"))


def test_lightning_learns_what_the_own_loop_learns(own_loop):
    pytest.importorskip("lightning")
    import lightning_loop

    lightning_loop.main(8, 2, max_epochs=1, check_val_every_n_epoch=1, logger=False)
    plain, learnt = torch.load("own_loop.pth"), torch.load("lightning_loop.pth")
    assert learnt.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(learnt[name], value, rtol=1e-4, atol=1e-5, msg=name)
