"""Files of torch.export and TorchScript, against the models that they were made of."""

import json

import pytest
import torch

from detcenter.export import export_torch, export_torchscript
from detcenter.export.build import detector_graph
from tests.export.exported import CASES, WHOLE, TorchFile, assert_same, by_model, noise

pytestmark = pytest.mark.slow


def loaded_program(path, extra):
    return torch.export.load(path, extra_files=extra).module()


def loaded_script(path, extra):
    return torch.jit.load(path, _extra_files=extra)


@pytest.mark.parametrize(
    ("write", "load", "case"),
    [
        *((export_torchscript, loaded_script, case) for case in CASES if "features" in case),
        (export_torch, loaded_program, "ssd, voting, features"),
        (export_torch, loaded_program, "fasterrcnn, L2 softmax, enrolled, own features"),
    ],
)
def test_it_finds_what_the_model_finds(write, load, case, tmp_path):
    model, path, extra = CASES[case](), tmp_path / "model.pt2", {"detcenter": ""}
    write(model, path, features=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]
    made = detector_graph(model, features=True)
    file = TorchFile(load(str(path), extra), made)
    assert json.loads(extra["detcenter"]) == json.loads(json.dumps(made.contract))
    for count in (1, 3):
        images = noise(*[WHOLE] * count)
        assert assert_same(file(images), by_model(model, images, True)) > 20 * count
