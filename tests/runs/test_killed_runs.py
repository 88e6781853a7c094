"""A run that is killed ends as one that was not; `killing.py` does it as often as one likes."""

import os
import random
import sys
from multiprocessing.context import ForkProcess

import pytest
import torch

from detcenter.cli import main

from .killing import arguments, differences, log_of, train_killed, train_whole, write_recipe

pytestmark = pytest.mark.slow


class Forked(ForkProcess):
    """A run in a process that imports nothing anew; like a `Popen`."""

    def __init__(self, recipe, folder):
        super().__init__()
        self.args, self.log = arguments(recipe, folder), log_of(folder)
        self.start()

    def run(self):
        torch.set_num_threads(1)  # OpenMP's others were not forked, and would be waited for
        with self.log.open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))  # not pytest's
        sys.exit(main(["train", *self.args]))

    def poll(self):
        return self.exitcode

    def wait(self):
        self.join()
        return self.exitcode

    def send_signal(self, which):
        if self.is_alive():
            os.kill(self.pid, which)


def test_a_killed_run_goes_on_to_the_bit(tmp_path):
    recipe = write_recipe(tmp_path)
    train_whole(recipe, tmp_path / "whole", Forked)
    # SIGKILL at first, then SIGTERM.
    assert train_killed(recipe, tmp_path / "killed", 2, random.Random(4), Forked) == 2
    assert not list(differences(tmp_path / "whole", tmp_path / "killed"))
