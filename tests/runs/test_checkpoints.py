"""A model back from its checkpoint, in one line."""

import subprocess
import sys

import pytest
import torch

import detcenter
from detcenter.errors import ConfigError
from detcenter.training import CheckpointError, load_checkpoint

pytestmark = pytest.mark.slow


def test_a_checkpoint_is_a_model_ready_to_detect(run):
    model = detcenter.load(run / "best.pth", device="cpu")
    saved = load_checkpoint(run / "best.pth")
    assert model.classes == saved["classes"] == [str(digit) for digit in range(10)]
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(x, saved["model"][name]) for name, x in model.state_dict().items())
    (found,) = model([torch.rand(3, 64, 64)])
    assert found.keys() == {"boxes", "labels", "scores"}
    detcenter.detach(model)
    assert not any("box_terms" in name for name in model.state_dict())


def test_what_is_no_checkpoint_of_this_version_says_so(run, tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        detcenter.load(str(tmp_path / "none.pth"))
    saved = load_checkpoint(run / "best.pth")
    center = saved["config"]["center"]
    center["warmup"] = center.pop("warmup_steps")
    torch.save(saved, tmp_path / "old.pth")
    with pytest.raises(ConfigError, match="warmup of center is warmup_steps now"):
        detcenter.load(tmp_path / "old.pth")


def test_the_plugin_alone_imports_torch_and_torchvision_alone():
    code = """
import sys, detcenter
known = ("accelerate", "albumentations", "cv2", "jsonargparse", "pycocotools", "sklearn", "yaml")
assert not {name.partition(".")[0] for name in sys.modules} & set(known), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
