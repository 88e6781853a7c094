"""An attached model that is saved whole, and goes on in another process."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from detcenter import attach, set_l2_softmax
from detcenter.models import family_of

from .conftest import FAMILIES, own

IN_A_NEW_PROCESS = """
import os
import sys
import torch
import detcenter.models

def trains_as_before(path):
    seen = []
    model, images, targets, hooked, expected = torch.load(path, weights_only=False)
    for name in hooked:
        torch.utils.hooks.RemovableHandle.next_id = 0  # as if they were the first of this process
        for _ in range(20):
            model.get_submodule(name).register_forward_hook(lambda *_: seen.append(1))
            model.get_submodule(name).register_forward_pre_hook(lambda *_: seen.append(1))
    torch.manual_seed(7)
    losses = model(images, targets)
    assert seen
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    assert losses.keys() == expected.keys()
    sum(losses.values()).backward()

failed = 0
for path in sys.argv[1:]:
    child = os.fork()  # of a process that has imported everything, and used nothing
    if not child:
        trains_as_before(path)
        os._exit(0)
    failed += os.waitpid(child, 0)[1] != 0
sys.exit(failed)
"""


@pytest.mark.slow
def test_in_a_new_process_with_hooks_of_ones_own_it_trains_as_before(
    built, images, targets, tmp_path, monkeypatch
):
    for family in FAMILIES:
        torch.save(hooked_model(built[family], images, targets, monkeypatch), tmp_path / family)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{IN_A_NEW_PROCESS}"
    paths = [tmp_path / family for family in FAMILIES]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def hooked_model(plain, images, targets, monkeypatch):
    model = copy.deepcopy(plain).train()
    # The class of a pyramid is made anew by every process, and no pickle of torch.save names it.
    model.backbone = Maps(model.backbone.out_channels)
    monkeypatch.setattr(RemovableHandle, "next_id", 0)
    set_l2_softmax(model, 12.0)
    attach(model, weight=0.7, features=own(model))
    attach(model, name="other", features="embedding")
    hooked = [name for name, module in model.named_modules() if module in hookable(model)]
    torch.manual_seed(7)
    expected = {name: loss.detach() for name, loss in copy.deepcopy(model)(images, targets).items()}
    return model, images, targets, hooked, expected


def hookable(model):
    """Whatever the term reads from, and what passes on to it."""
    parts = [*family_of(model).classifiers(model), *family_of(model).heads(model), model.backbone]
    return {*parts, *family_of(model).listeners(model)} - {model}


class Maps(nn.Module):
    """A small backbone that any process can import."""

    def __init__(self, width):
        super().__init__()
        self.coarse = nn.Conv2d(3, width, 8, 8)
        self.coarser = nn.Conv2d(3, width, 16, 16)
        self.out_channels = width

    def forward(self, x):
        return {"8": self.coarse(x), "16": self.coarser(x)}


def tensors_in(thing, seen):
    """All tensors that an object holds, however deep."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if torch.is_tensor(thing):
        yield thing
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from tensors_in(value, seen)
    elif isinstance(thing, list | tuple | set):
        for value in thing:
            yield from tensors_in(value, seen)
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        yield from tensors_in(vars(thing), seen)


def test_after_training_nothing_stays_on_the_device(plain_model, images, targets):
    twin = copy.deepcopy(plain_model)
    attach(plain_model, features=own(plain_model))
    attach(plain_model, name="other", features="embedding")
    for model in (plain_model, twin):
        sum(model(images, targets).values()).backward()
        model.zero_grad(set_to_none=True)
        model.to("meta")
    left, torchvisions = (
        [x for x in tensors_in(vars(model), set()) if x.device.type != "meta"]
        for model in (plain_model, twin)
    )
    assert len(left) == len(torchvisions)  # anchors, which its generators keep


def test_copies_work_after_any_forward_or_call_of_a_part(plain_model, images, targets):
    attach(plain_model, features=own(plain_model))
    plain_model(images, targets)
    copy.deepcopy(plain_model)
    batch, scaled = plain_model.transform(images, targets)
    maps = plain_model.backbone(batch.tensors)
    if hasattr(plain_model, "head"):
        plain_model.head(list(maps.values()))
    else:
        boxes = [target["boxes"] for target in scaled]
        plain_model.roi_heads(maps, boxes, batch.image_sizes, scaled)
        plain_model.roi_heads.box_predictor(torch.rand(3, 1024, requires_grad=True) * 2)
    twin = copy.deepcopy(plain_model)
    assert list(tensors_in(vars(twin), set()))
    plain_model.eval()(images)
    copy.deepcopy(plain_model)
