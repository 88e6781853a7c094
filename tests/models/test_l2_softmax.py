import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detcenter import L2Softmax, attach, detach, set_l2_softmax
from detcenter.models import family_of


def classifier_passes(model, images):
    """What every classifier makes its logits of, scaled if it is, and these."""
    seen = []

    def see(layer, x, y):
        scale = getattr(layer, "l2_softmax", nn.Identity())
        seen.append((scale(x[0]), y))

    hooks = [layer.register_forward_hook(see) for layer in family_of(model).classifiers(model)]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return seen


def check_radius(model, images, radius):
    passes = classifier_passes(model, images)
    assert passes
    for x, _ in passes:
        torch.testing.assert_close(x.norm(dim=1), torch.full_like(x[:, 0], radius))


def test_every_vector_has_the_radius_and_its_direction():
    x = torch.tensor([[3.0, 4.0], [0.0, -0.1]])
    torch.testing.assert_close(L2Softmax(10.0)(x), torch.tensor([[6.0, 8.0], [0.0, -10.0]]))


def test_in_a_map_every_position_is_scaled_on_its_own():
    x = torch.randn(2, 5, 3, 4)
    scaled = L2Softmax(7.0)(x)
    for image in range(2):
        for row in range(3):
            for column in range(4):
                vector = x[image, :, row, column]
                expected = 7 * vector / vector.square().sum().sqrt()
                torch.testing.assert_close(scaled[image, :, row, column], expected)


def test_nothing_stays_nothing():
    assert L2Softmax(7.0)(torch.zeros(0, 5)).shape == (0, 5)
    assert not L2Softmax(7.0)(torch.zeros(2, 5)).any()


def test_a_learnt_radius_is_a_parameter_with_its_gradient():
    layer = L2Softmax(2.0, learnt=True)
    layer(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).sum().backward()
    # the sum is radius * (3/5 + 4/5 + 1)
    assert layer.radius.grad.item() == pytest.approx(2.4)
    assert [name for name, _ in layer.named_parameters()] == ["radius"]


def test_a_fixed_radius_is_a_buffer():
    layer = L2Softmax(2.0)
    assert not list(layer.parameters())
    assert layer.state_dict() == {"radius": torch.tensor(2.0)}


def test_the_dtype_is_that_of_the_features():
    for dtype in (torch.float64, torch.bfloat16):
        scaled = L2Softmax(16.0)(torch.ones(1, 4, dtype=dtype))
        assert scaled.dtype == dtype and scaled.tolist() == [[8.0] * 4]


def test_features_cannot_lower_the_loss_by_growing():
    x = torch.randn(3, 5, requires_grad=True)
    F.cross_entropy(nn.Linear(5, 4)(L2Softmax(4.0)(x)), torch.tensor([0, 2, 1])).backward()
    along = (x.grad * x).sum(1)
    torch.testing.assert_close(along, torch.zeros(3), atol=1e-6, rtol=0)
    assert x.grad.any()


@pytest.mark.parametrize(("classes", "p", "stated"), [(21, 0.9, 5.1), (91, 0.99, 9.1)])
def test_the_radius_of_the_docstring_gives_the_probability(classes, p, stated):
    # Section 4.2: an own logit of r, the opposite class at -r left out, the others at 0.
    radius = math.log(p * (classes - 2) / (1 - p))
    assert radius == pytest.approx(stated, abs=0.05)
    for r, reached in ((radius, True), (0.98 * radius, False)):
        logits = torch.tensor([r] + [0.0] * (classes - 2), dtype=torch.float64)
        assert (logits.softmax(0)[0] >= p - 1e-9) == reached


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (nn.Linear(6, 5), L2Softmax(4.0)),
        lambda: (nn.Conv2d(6, 5, 1), L2Softmax(4.0, learnt=True), nn.Conv2d(5, 3, 1)),
    ],
)
def test_it_can_be_exported(layers):
    model = nn.Sequential(*layers()).eval()
    x = torch.randn(2, 6) if isinstance(model[0], nn.Linear) else torch.randn(2, 6, 4, 4)
    exported = torch.export.export(model, (x,)).module()
    y = 100 * torch.randn_like(x)
    torch.testing.assert_close(exported(y), model(y))


def test_the_classifier_of_every_family_reads_vectors_of_the_radius(plain_model, images):
    set_l2_softmax(plain_model, 12.0)
    check_radius(plain_model, images, 12.0)


def test_it_is_the_plain_classifier_on_vectors_scaled_by_hand(plain_model, images):
    plain = classifier_passes(plain_model, images)
    classifiers = family_of(plain_model).classifiers(plain_model)
    each = [layer for layer in classifiers for _ in range(len(plain) // len(classifiers))]
    expected = []
    for layer, (x, y) in zip(each, plain, strict=True):
        with torch.no_grad():
            expected.append(layer(12.0 * x / x.square().sum(1, keepdim=True).sqrt()))
            assert not torch.allclose(expected[-1], y, rtol=1e-2)
    got = classifier_passes(set_l2_softmax(plain_model, 12.0), images)
    for (_, y), logits in zip(got, expected, strict=True):
        torch.testing.assert_close(y, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learnt", [False, True])
def test_checkpoint_keys_are_only_added(plain_model, learnt):
    before = {name: x.clone() for name, x in plain_model.state_dict().items()}
    set_l2_softmax(plain_model, 12.0, learnt)
    state = plain_model.state_dict()
    added = state.keys() - before.keys()
    count = len(family_of(plain_model).classifiers(plain_model))
    assert len(added) == count and all(name.endswith(".l2_softmax.radius") for name in added)
    assert before.keys() < state.keys()
    assert [p.requires_grad for name, p in plain_model.named_parameters() if name in added] == (
        [True] * count if learnt else []
    )
    result = plain_model.load_state_dict(before, strict=False)
    assert set(result.missing_keys) == added and not result.unexpected_keys


def test_a_learnt_radius_learns_in_the_detector(plain_model, images, targets):
    set_l2_softmax(plain_model, 12.0, learnt=True)
    sum(plain_model(images, targets).values()).backward()
    radii = [p for name, p in plain_model.named_parameters() if name.endswith("radius")]
    assert radii and all(radius.grad.isfinite() and radius.grad != 0 for radius in radii)


def test_copies_and_pickles_have_a_radius_of_their_own(plain_model, images):
    set_l2_softmax(plain_model, 12.0)
    with torch.no_grad():
        expected = plain_model.eval()(images)
    for twin in (copy.deepcopy(plain_model), pickle.loads(pickle.dumps(plain_model))):
        with torch.no_grad():
            got = twin.eval()(images)
        for one, other in zip(got, expected, strict=True):
            assert all(torch.equal(one[key], other[key]) for key in other)
        for layer in family_of(twin).classifiers(twin):
            layer.l2_softmax.radius.fill_(3.0)
        check_radius(twin, images, 3.0)
    radii = [x for name, x in plain_model.state_dict().items() if name.endswith("radius")]
    assert radii and all(radius == 12 for radius in radii)


def test_a_second_call_replaces_the_radius(small_model, images):
    keys = set_l2_softmax(small_model, 12.0, learnt=True).state_dict().keys()
    assert set_l2_softmax(small_model, 5.0).state_dict().keys() == keys
    assert not any(name.endswith("radius") for name, _ in small_model.named_parameters())
    check_radius(small_model, images, 5.0)


def test_it_stays_when_terms_come_and_go(plain_model, images, targets):
    set_l2_softmax(plain_model, 12.0)
    attach(plain_model, weight=1.0)
    assert plain_model(images, targets)["loss_center"] > 0
    detach(plain_model)
    check_radius(plain_model, images, 12.0)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.inf, math.nan])
def test_a_radius_is_above_zero_and_a_refused_one_changes_nothing(small_model, images, radius):
    with torch.no_grad():
        expected = copy.deepcopy(small_model).eval()(images)
    with pytest.raises(ValueError, match=f"radius of L2Softmax is above 0, not {radius}"):
        L2Softmax(radius)
    with pytest.raises(ValueError, match="above 0"):
        set_l2_softmax(small_model, radius)
    with torch.no_grad():
        got = small_model.eval()(images)
    for one, other in zip(got, expected, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_wrong_use_is_a_clear_error():
    with pytest.raises(ValueError, match=r"\[N, D\] or \[N, D, H, W\], not \[3\]"):
        L2Softmax(1.0)(torch.ones(3))
    with pytest.raises(TypeError, match="supported are.*not Linear"):
        set_l2_softmax(nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_zero_vector_stays_zero_in_half_precision(dtype):
    features = torch.zeros(2, 5, dtype=dtype)
    features[1, 0] = 3
    scaled = L2Softmax(16.0).to(dtype)(features)
    assert scaled.dtype == dtype and scaled.tolist() == [[0] * 5, [16, 0, 0, 0, 0]]
