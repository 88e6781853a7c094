"""Models that FSDP2 has sharded over two processes."""

import copy

import pytest
import torch
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from detcenter import attach, box_features, detach, detect_with_features
from tests.training.test_processes import batch_of, in_processes, small_ssd

pytestmark = pytest.mark.slow


def work(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    sharded = small_ssd("embedding")
    plain = copy.deepcopy(sharded)
    fully_shard(sharded.head, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    x, targets = batch_of(3)
    boxes = [target["boxes"] for target in targets]
    found = []
    for model in (plain, sharded):
        before = torch.cat(box_features(model, x, boxes))  # first of all, before any forward
        losses = {name: loss.detach() for name, loss in model(x, targets).items()}
        after = [found["features"] for found in detect_with_features(model, x)]
        found.append((before, losses, torch.cat(after)))
    for call in (detach, lambda model: attach(model, name="other")):
        with pytest.raises(ValueError, match="sharded: attach, and detach, before fully_shard"):
            call(sharded)
    torch.save(found, f"{folder}/{rank}.pth")
    dist.barrier()
    dist.destroy_process_group()


def test_features_and_losses_are_those_of_the_whole_model(tmp_path):
    in_processes(work, 2, tmp_path)
    for rank in range(2):
        whole, sharded = torch.load(tmp_path / f"{rank}.pth")
        torch.testing.assert_close(sharded, whole)
        assert sharded[1]["loss_center"] > 0 and len(sharded[0]) > 0
