"""Anchors that are kept between batches."""

import copy
import pickle

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detcenter.adoption import adopt
from detcenter.batched import anchors as kept_anchors
from detcenter.batched.anchors import KeptAnchors, KeptDefaultBoxes
from detcenter.models.custom import ScaledBoxGenerator
from detcenter.models.exact import Exact

GENERATORS = {
    "default": (lambda: DefaultBoxGenerator([[2], [2, 3]]), KeptDefaultBoxes),
    "steps": (lambda: DefaultBoxGenerator([[2], [3]], steps=[8, 16]), KeptDefaultBoxes),
    "scaled": (lambda: ScaledBoxGenerator([[0.1, 0.2], [0.5]], [1.0, 2.0]), KeptDefaultBoxes),
    "anchors": (lambda: AnchorGenerator(((16, 24), (40, 60)), ((0.5, 1.0),) * 2), KeptAnchors),
}


@pytest.fixture(params=GENERATORS)
def pair(request):
    """torchvision's generator, and the same that keeps its anchors."""
    make, mixin = GENERATORS[request.param]
    kept = make()
    adopt(kept, mixin)
    return make(), kept


def asked(generator, size=(64, 96), images=3, dtype=torch.float32):
    maps = [torch.zeros(images, 1, size[0] // s, size[1] // s, dtype=dtype) for s in (8, 16)]
    return generator(ImageList(torch.zeros(images, 3, *size), [size] * images), maps)


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_anchors_are_torchvisions_and_kept_for_the_same_sizes(pair):
    plain, kept = pair
    for size in ((64, 96), (96, 64), (64, 96)):
        for images in (1, 3):
            assert_equal(asked(kept, size, images), asked(plain, size, images))
    for dtype in (torch.bfloat16, torch.float64):
        assert_equal(asked(kept, dtype=dtype), asked(plain, dtype=dtype))
    first, *others = asked(kept)
    assert all(x is first for x in [*others, *asked(kept)])


def test_only_the_last_few_are_kept(pair):
    _, kept = pair
    first = asked(kept)[0]
    for height in range(64, 64 + 8 * 10, 8):
        asked(kept, (height, 96))
    assert len(kept_anchors._KEPT[kept]) == 4
    assert asked(kept)[0] is not first


def test_a_changed_generator_or_tensor_is_noticed(pair):
    plain, kept = pair
    asked(kept)
    tensors = "_wh_pairs" if hasattr(plain, "_wh_pairs") else "cell_anchors"
    for generator in pair:
        setattr(generator, tensors, [x * 0.5 for x in getattr(generator, tensors)])
    assert_equal(asked(kept), asked(plain))
    for generator in pair:
        getattr(generator, tensors)[0].mul_(0.5)
        generator.clip, generator.steps = False, [4, 8]
    assert_equal(asked(kept), asked(plain))
    asked(kept)[0].zero_()
    assert_equal(asked(kept), asked(plain))


def test_methods_of_ones_own_are_asked_every_time():
    kept = AnchorGenerator()
    adopt(kept, KeptAnchors)
    kept.grid_anchors = lambda sizes, strides: [torch.rand(5, 4)]
    assert not torch.equal(asked(kept)[0], asked(kept)[0])


def test_copies_and_pickles_have_none_of_it(pair):
    _, kept = pair
    size = len(pickle.dumps(kept))
    expected = asked(kept)
    assert abs(len(pickle.dumps(kept)) - size) < 200  # AnchorGenerator keeps its own small tensors
    assert not kept.state_dict()
    for twin in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert twin not in kept_anchors._KEPT
        assert_equal(asked(twin), expected)
        assert asked(twin)[0] is not expected[0]


def test_under_autocast_they_are_as_exact_as_asked(pair):
    plain, kept = pair
    adopt(plain, Exact)
    adopt(kept, Exact)
    for inside in (True, False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            got, expected = (asked(x, dtype=torch.bfloat16) for x in (kept, plain))
        assert_equal(got, expected)


def test_after_inference_they_serve_in_training(pair):
    _, kept = pair
    with torch.inference_mode():
        (anchors, *_) = asked(kept)
    weight = torch.ones(4, requires_grad=True)
    (weight * anchors).sum().backward()
    assert weight.grad.any() and asked(kept)[0] is anchors


@pytest.mark.filterwarnings("ignore")
def test_a_trace_takes_images_of_other_sizes(pair):
    class Asked(torch.nn.Module):
        def __init__(self, generator):
            super().__init__()
            self.generator = generator

        def forward(self, image, fine, coarse):
            images = ImageList(image, [tuple(image.shape[-2:])])
            return torch.cat(self.generator(images, [fine, coarse]))

    def inputs(height, width):
        sizes = [(height // s, width // s) for s in (1, 8, 16)]
        return tuple(torch.zeros(1, 3, *size) for size in sizes)

    plain, kept = pair
    for size in ((64, 96), (96, 64)):
        with torch.no_grad():
            got, expected = (torch.jit.trace(Asked(x), inputs(*size)) for x in (kept, plain))
            for other in ((64, 96), (96, 64)):
                assert_equal(got(*inputs(*other)), expected(*inputs(*other)))
