import copy
import doctest
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detcenter import CenterLoss, held_centers
from detcenter.losses import center
from detcenter.waits import counted_waits, pretended_cuda


def naive(features, labels, centers, alpha):
    """Equations 2, 3 and 4 in plain Python: loss, gradient of the features, new centers."""
    x, y, c = features.tolist(), labels.tolist(), centers.tolist()
    positives, dim = len(x), len(c[0])
    loss = 0.0
    gradient = [[0.0] * dim for _ in x]
    for i in range(positives):
        for d in range(dim):
            loss += (x[i][d] - c[y[i]][d]) ** 2 / (2 * positives)
            gradient[i][d] = (x[i][d] - c[y[i]][d]) / positives
    moved = [row[:] for row in c]
    for j in range(len(c)):
        for d in range(dim):
            total, count = 0.0, 0
            for i in range(positives):
                if y[i] == j:
                    total += c[j][d] - x[i][d]
                    count += 1
            moved[j][d] = c[j][d] - alpha * total / (1 + count)
    return loss, torch.tensor(gradient), torch.tensor(moved)


def test_the_hand_case():
    center_loss = CenterLoss(num_classes=3, feature_dim=2, alpha=0.5, normalize=False)
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    loss = center_loss(features, torch.tensor([1, 1, 2]))
    # (1 + 9 + 4) / (2 * 3); class 1: 0.5 * 4 / (1 + 2), class 2: 0.5 * 2 / (1 + 1)
    torch.testing.assert_close(loss, torch.tensor(7 / 3))
    expected = torch.tensor([[0.0, 0.0], [2 / 3, 0.0], [0.0, 0.5]])
    torch.testing.assert_close(center_loss.centers, expected)


@pytest.mark.parametrize("seed", range(20))
def test_loss_gradient_and_update_equal_a_naive_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    classes, dim, positives, alpha = 2 + seed % 5, 1 + seed % 7, 1 + 2 * seed, seed / 20
    features = torch.randn(positives, dim, generator=generator).requires_grad_()
    labels = torch.randint(1, classes, (positives,), generator=generator)
    center_loss = CenterLoss(classes, dim, alpha, normalize=False)
    center_loss.centers[1:] = torch.randn(classes - 1, dim, generator=generator)
    expected = naive(features, labels, center_loss.centers, alpha)
    loss = center_loss(features, labels)
    loss.backward()
    torch.testing.assert_close(loss.item(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.grad, expected[1])
    torch.testing.assert_close(center_loss.centers, expected[2])


@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck(normalize):
    center_loss = CenterLoss(4, 3, normalize=normalize).double()
    center_loss.centers[1:] = torch.randn(3, 3, dtype=torch.double)
    features = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    labels = torch.tensor([1, 3, 3, 2, 1])
    assert torch.autograd.gradcheck(lambda x: center_loss.eval()(x, labels), features)


def test_the_gradient_is_that_of_the_centers_before_they_move():
    center_loss = CenterLoss(2, 2, alpha=1.0, normalize=False)
    features = torch.tensor([[2.0, 0.0]], requires_grad=True)
    center_loss(features, torch.tensor([1])).backward()
    torch.testing.assert_close(features.grad, torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(center_loss.centers[1], torch.tensor([1.0, 0.0]))


def test_a_class_absent_from_the_batch_does_not_move_at_all():
    for normalize in (False, True):
        center_loss = CenterLoss(4, 8, normalize=normalize)
        center_loss.centers[2] = F.normalize(torch.randn(8), dim=0) * (1 if normalize else 3)
        before = center_loss.centers[2].clone()
        for _ in range(50):
            center_loss(torch.randn(6, 8), torch.tensor([1, 1, 3, 3, 3, 1]))
        assert torch.equal(center_loss.centers[2], before)
        assert not center_loss.centers[0].any()


def test_the_update_stays_bounded_with_many_samples_of_a_class():
    # Without the 1 + n_j it diverges once (1 - alpha) n > 2; in detection n_j is large.
    center_loss = CenterLoss(2, 4, alpha=0.5, normalize=False)
    features = torch.ones(1000, 4)
    for _ in range(30):
        center_loss(features, torch.ones(1000, dtype=torch.long))
    torch.testing.assert_close(center_loss.centers[1], torch.ones(4), rtol=1e-5, atol=1e-5)


def test_normalized_the_scale_of_the_features_does_not_matter():
    features, labels = torch.randn(7, 5), torch.tensor([1, 2, 1, 2, 1, 1, 2])
    small, large = CenterLoss(3, 5), CenterLoss(3, 5)
    for _ in range(3):
        torch.testing.assert_close(small(features, labels), large(1000 * features, labels))
    torch.testing.assert_close(small.centers, large.centers)
    torch.testing.assert_close(small.centers[1:].norm(dim=1), torch.ones(2))
    # 1/2 |x - c|^2 = 1 - cos on the unit sphere
    cosine = F.cosine_similarity(features, small.centers[labels], dim=1)
    torch.testing.assert_close(small.eval()(features, labels), (1 - cosine).mean())


def test_features_close_to_their_center_keep_a_small_positive_loss():
    # The expansion |x|^2 - 2xc + |c|^2 gives a negative number here in float32.
    center_loss = CenterLoss(2, 1024, normalize=False).eval()
    center_loss.centers[1] = 30.0
    features = torch.full((1, 1024), 30.0)
    features[0, 0] += 0.0456
    torch.testing.assert_close(
        center_loss(features, torch.tensor([1])).item(), 0.00104, rtol=2e-2, atol=0
    )


def test_without_positives_the_loss_is_a_zero_with_a_graph():
    center_loss = CenterLoss(3, 4)
    center_loss.centers[1:] = 1.0
    features = torch.zeros(0, 4, requires_grad=True)
    loss = center_loss(features, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and features.grad.shape == (0, 4)
    assert (center_loss.centers[1:] == 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_large_features_do_not_overflow(dtype):
    # 1024 * 100^2 / 2 = 5.12 million; float16 ends at 65504
    center_loss = CenterLoss(2, 1024, normalize=False)
    features = torch.full((4, 1024), 100.0, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = center_loss(features, torch.ones(4, dtype=torch.long))
    loss.backward()
    assert loss.dtype == center_loss.centers.dtype == torch.float32
    torch.testing.assert_close(loss.item(), 5.12e6)
    torch.testing.assert_close(features.grad, torch.full_like(features, 25.0))
    # 0.5 * 4 * 100 / (1 + 4)
    torch.testing.assert_close(center_loss.centers[1], torch.full((1024,), 40.0))


@pytest.mark.parametrize("labels", [[0, 1], [1, 3], [-1, 1]])
def test_labels_out_of_range_are_a_value_error_that_names_them(labels):
    center_loss = CenterLoss(3, 2)
    with pytest.raises(ValueError, match=rf"1\.\.2.*found {min(labels)}\.\.{max(labels)}"):
        center_loss(torch.zeros(2, 2), torch.tensor(labels))
    assert not center_loss.centers.any()


def test_wrong_shapes_are_a_value_error_that_names_them():
    with pytest.raises(ValueError, match=r"\[P, 3\].*\[2, 4\] and \[2\]"):
        CenterLoss(3, 3)(torch.zeros(2, 4), torch.ones(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[1\]"):
        CenterLoss(3, 3)(torch.zeros(2, 3), torch.ones(1, dtype=torch.long))
    for wrong in ((1, 4, 0.5), (3, 0, 0.5), (3, 4, 1.5), (3, None), (None, 4)):
        with pytest.raises(ValueError):
            CenterLoss(*wrong)


def test_weights_make_the_mean_and_the_update_weighted_ones():
    center_loss = CenterLoss(num_classes=3, feature_dim=2, alpha=0.5, normalize=False)
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]], requires_grad=True)
    weights = torch.tensor([2.0, 0.5, 1.5])
    loss = center_loss(features, torch.tensor([1, 1, 2]), weights)
    loss.backward()
    # (2 * 1 + 0.5 * 9 + 1.5 * 4) / (2 * 4)
    torch.testing.assert_close(loss.item(), 12.5 / 8)
    gradient = torch.tensor([[2 * 1, 0], [0.5 * 3, 0], [0, 1.5 * 2]]) / 4
    torch.testing.assert_close(features.grad, gradient)
    # class 1: 0.5 * (2 * 1 + 0.5 * 3) / (1 + 2.5), class 2: 0.5 * 1.5 * 2 / (1 + 1.5)
    expected = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.6]])
    torch.testing.assert_close(center_loss.centers, expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_weights_of_one_are_no_weights(normalize):
    plain, weighted = (CenterLoss(4, 3, normalize=normalize) for _ in range(2))
    features, labels = torch.randn(6, 3), torch.tensor([1, 3, 1, 2, 2, 1])
    for _ in range(3):
        expected, got = plain(features, labels), weighted(features, labels, torch.ones(6))
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(weighted.centers, plain.centers)


def test_an_integer_weight_is_a_feature_given_so_many_times():
    features, labels = torch.randn(4, 3), torch.tensor([1, 2, 2, 1])
    times = torch.tensor([3, 1, 2, 0])
    repeated, weighted = (CenterLoss(3, 3, normalize=False) for _ in range(2))
    for _ in range(2):
        expected = repeated(features.repeat_interleave(times, 0), labels.repeat_interleave(times))
        torch.testing.assert_close(weighted(features, labels, times.float()), expected)
        torch.testing.assert_close(weighted.centers, repeated.centers)


def test_weights_twice_as_large_move_the_centers_further_at_the_same_loss():
    features, labels = torch.tensor([[6.0], [2.0]]), torch.tensor([1, 1])
    for scale, moved in ((1, 0.5 * 8 / (1 + 2)), (2, 0.5 * 16 / (1 + 4))):
        center_loss = CenterLoss(2, 1, alpha=0.5, normalize=False)
        loss = center_loss(features, labels, scale * torch.ones(2))
        torch.testing.assert_close(loss.item(), (36 + 4) / 4)
        torch.testing.assert_close(center_loss.centers[1].item(), moved)


@pytest.mark.parametrize("normalize", [False, True])
def test_weights_of_zero_are_a_zero_with_a_graph_and_move_nothing(normalize):
    center_loss = CenterLoss(3, 2, normalize=normalize)
    center_loss.centers[1] = torch.tensor([0.6, 0.8])
    before = center_loss.centers.clone()
    features = torch.ones(2, 2, requires_grad=True)
    loss = center_loss(features, torch.tensor([1, 2]), torch.zeros(2))
    loss.backward()
    assert loss == 0 and not features.grad.any()
    assert torch.equal(center_loss.centers, before)
    nothing = center_loss(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert nothing == 0 and torch.equal(center_loss.centers, before)


@pytest.mark.parametrize("normalize", [False, True])
def test_gradcheck_with_weights(normalize):
    center_loss = CenterLoss(4, 3, normalize=normalize).double().eval()
    center_loss.centers[1:] = torch.randn(3, 3, dtype=torch.double)
    features = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    labels, weights = torch.tensor([1, 3, 3, 2, 1]), torch.rand(5, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: center_loss(x, labels, weights), features)


def test_weights_are_one_for_each_feature():
    center_loss = CenterLoss(3, 2)
    for wrong in ((1,), (3,), (2, 1), ()):
        with pytest.raises(ValueError, match=rf"weights \{list(wrong)}.*each of 2 features"):
            center_loss(torch.ones(2, 2), torch.tensor([1, 2]), torch.ones(wrong))
    assert not center_loss.centers.any()


def test_centers_are_a_buffer_that_no_optimizer_sees():
    center_loss = CenterLoss(3, 4)
    assert list(center_loss.parameters()) == []
    assert list(center_loss.state_dict()) == ["centers"]
    assert center_loss.centers.shape == (3, 4) and not center_loss.centers.requires_grad
    assert not center_loss(torch.ones(1, 4), torch.tensor([1])).requires_grad


def test_nothing_moves_in_eval():
    center_loss = CenterLoss(3, 4).eval()
    center_loss(torch.randn(5, 4), torch.tensor([1, 2, 1, 2, 2]))
    assert not center_loss.centers.any()


def test_centers_stay_float32_in_a_half_precision_module():
    center_loss = CenterLoss(2, 2)
    center_loss.centers[1] = 1 / 3
    exact = center_loss.centers.clone()
    for module in (center_loss.half(), center_loss.bfloat16(), center_loss.to(torch.float16)):
        assert torch.equal(module.centers, exact)
    assert center_loss.double().centers.dtype == torch.float64


def test_a_copy_does_not_write_into_the_original():
    center_loss = CenterLoss(2, 2)
    for copied in (copy.deepcopy(center_loss), pickle.loads(pickle.dumps(center_loss))):
        copied(torch.ones(1, 2), torch.tensor([1]))
        assert copied.centers.any() and not center_loss.centers.any()


def test_the_example_of_the_docstring_runs():
    done = doctest.testmod(center, extraglobs={"torch": torch})
    assert done.attempted >= 4 and done.failed == 0


def test_without_sizes_it_says_where_they_come_from():
    center_loss = CenterLoss(alpha=0.1)
    with pytest.raises(ValueError, match="no sizes.*attach it"):
        center_loss(torch.ones(1, 2), torch.tensor([1]))
    center_loss.size(3, 2)
    center_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
    assert center_loss.centers.shape == (3, 2) and center_loss.centers[1].any()


# When centers move


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_finite_move_nothing(normalize, bad):
    """The loss says so; the next batch has the loss that it would have had."""
    center_loss, twin = (CenterLoss(3, 2, normalize=normalize) for _ in range(2))
    features, labels = torch.randn(4, 2), torch.tensor([1, 2, 2, 1])
    broken = torch.cat([features, torch.tensor([[bad, 0.0], [bad, bad]])])
    assert not center_loss(broken, torch.tensor([1, 2, 2, 1, 1, 2])).isfinite()
    twin(features, labels)
    torch.testing.assert_close(center_loss.centers, twin.centers)
    assert not center_loss(broken[4:], labels[:2]).isfinite()
    torch.testing.assert_close(center_loss.centers, twin.centers)
    torch.testing.assert_close(center_loss(features, labels), twin(features, labels))


def test_weights_that_are_not_finite_move_nothing():
    center_loss = CenterLoss(3, 2)
    center_loss(torch.ones(2, 2), torch.tensor([1, 2]), torch.tensor([math.nan, 1.0]))
    assert not center_loss.centers[1].any() and center_loss.centers[2].any()


def test_without_gradients_nothing_moves():
    center_loss = CenterLoss(3, 2)
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            value = center_loss(torch.ones(2, 2), torch.tensor([1, 2]))
        assert value.item() == pytest.approx(0.5) and not center_loss.centers.any()


def test_what_waits_for_the_step_is_a_buffer_that_is_not_saved():
    center_loss = CenterLoss(3, 2)
    with held_centers(center_loss):
        center_loss(torch.ones(2, 2), torch.tensor([1, 2]))
    assert center_loss.state_dict().keys() == {"centers"} and not center_loss.centers.any()
    twin = copy.deepcopy(center_loss)
    for one in (center_loss, twin):
        one(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
        assert one.centers.any(1).tolist() == [False, True, True]
    with held_centers(center_loss):
        center_loss(torch.ones(2, 2), torch.tensor([1, 2]))
    assert {x.device.type for x in center_loss.to("meta").buffers()} == {"meta"}


def test_a_pass_that_fails_inside_is_as_if_the_step_had_not_been():
    center_loss, twin = CenterLoss(3, 2), CenterLoss(3, 2)
    with held_centers(center_loss):
        center_loss(-torch.ones(2, 2), torch.tensor([1, 2]))
    with pytest.raises(ZeroDivisionError), held_centers(center_loss):
        center_loss(torch.ones(2, 2), torch.tensor([1, 2]))
        raise ZeroDivisionError
    for one in (center_loss, twin):
        one(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    assert torch.equal(center_loss.centers, twin.centers)


def test_held_centers_may_be_nested_and_touch_no_module_of_others():
    class Door(nn.Module):
        held = "by the handle"

    model = nn.Sequential(CenterLoss(3, 2), Door())
    with held_centers(model):
        with held_centers(model):
            assert model[1].held == "by the handle"
        model[0](torch.ones(1, 2), torch.tensor([1]))
        assert not model[0].centers.any()
    model[0](torch.ones(1, 2), torch.tensor([2]))
    assert model[0].centers[1:].any(1).all() and model[1].held == "by the handle"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_integer_type(dtype):
    features, labels = torch.randn(4, 3), torch.tensor([1, 2, 2, 1])
    center_loss, twin = CenterLoss(3, 3), CenterLoss(3, 3)
    for _ in range(2):
        expected = twin(features, labels)
        torch.testing.assert_close(center_loss(features, labels.to(dtype)), expected)
    assert torch.equal(center_loss.centers, twin.centers)


def test_compiled_in_place_it_can_be_pickled():
    center_loss = CenterLoss(2, 2)
    center_loss.compile(backend="eager")
    center_loss(torch.ones(1, 2), torch.tensor([1]))
    twin = pickle.loads(pickle.dumps(center_loss))
    assert torch.equal(twin.centers, center_loss.centers)
    twin(torch.tensor([[-1.0, 0.0]]), torch.tensor([1]))
    assert not torch.equal(twin.centers, center_loss.centers)


def test_a_copy_keeps_its_group_of_processes_and_a_pickle_does_not():
    center_loss = CenterLoss(2, 2, process_group="a group, which no pickle takes")
    assert copy.deepcopy(center_loss).processes.group == "a group, which no pickle takes"
    assert pickle.loads(pickle.dumps(center_loss)).processes.group is None


def test_on_cuda_nothing_waits():
    with pretended_cuda() as device:
        center_loss = CenterLoss(3, 2).to(device)
        features = torch.ones(2, 2).to(device).requires_grad_()
        labels = torch.tensor([1, 2]).to(device)
        with counted_waits() as waits:
            for _ in range(2):
                center_loss(features, labels).backward()
    assert waits.total == 0, waits


@pytest.mark.gpu
def test_on_cuda_wrong_labels_end_the_process():
    code = """
import torch, detcenter
loss = detcenter.CenterLoss(3, 2).cuda()
loss(torch.ones(1, 2).cuda(), torch.tensor([7]).cuda())
torch.cuda.synchronize()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "device-side assert" in done.stderr
