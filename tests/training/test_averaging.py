import copy
import pickle

import pytest
import torch
from torch import nn

from detcenter import CenterLoss
from detcenter.training import averaged


def test_weights_are_averaged_as_written_and_buffers_copied():
    model = nn.Sequential(nn.Linear(1, 1), CenterLoss(3, 2))
    weight = model[0].weight
    average = averaged(model, decay=0.5)
    expected = weight.item()
    for count, value in enumerate([3.0, -1.0, 4.0, 1.5]):
        with torch.no_grad():
            weight.fill_(value)
            model[1].centers.fill_(value)
        average.update_parameters(model)
        decay = min(0.5, (1 + count) / (10 + count)) if count else 0.0  # the first is taken over
        expected = decay * expected + (1 - decay) * value
        assert average.module[0].weight.item() == pytest.approx(expected)
        assert torch.equal(average.module[1].centers, model[1].centers)
    assert average.module[1].centers is not model[1].centers


def test_it_is_copied_and_pickled():
    average = averaged(nn.Linear(2, 2), 0.9)
    for twin in (copy.deepcopy(average), pickle.loads(pickle.dumps(average))):
        twin.update_parameters(nn.Linear(2, 2))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"0..1, not {decay}"):
        averaged(nn.Linear(1, 1), decay)
