import copy
import doctest
import itertools
import pickle
from collections import Counter
from functools import partial

import pytest
import torch

from detcenter.losses import rank_hard
from detcenter.losses.rank_hard import RankHardLoss, _subsets


def naive(loss, features, labels, generator, blocks=None):
    """The definition sample by sample, on blocks and samples left over, with the same draws."""
    size, neg_num, margin = loss.pair_size, loss.neg_num, loss.margin
    hard_num, rand_num = int(neg_num * loss.hard_ratio), int(neg_num * loss.rand_ratio)
    x, y = [feature / feature.norm() for feature in features], labels.tolist()
    anchors = range(0, len(x) // size * size, size)
    blocks = len(anchors) if blocks is None else blocks

    def d(i, j):
        return -(x[i] * x[j]).sum()

    def violating(i):
        return [j for j in range(len(x)) if y[j] != y[i] and d(i, i + 1) - d(i, j) + margin > 0]

    pools = [max(rand_num, len(violating(i)) - hard_num) for i in anchors]
    hard_ranks = _subsets(torch.tensor([neg_num] * len(anchors)), hard_num, generator).tolist()
    rand_ranks = _subsets(torch.tensor(pools), rand_num, generator).tolist()
    total = features.sum() * 0
    for row in range(blocks):
        i = anchors[row]
        chosen = violating(i)
        if len(chosen) > neg_num:
            hardest = sorted(chosen, key=lambda j: d(i, j).item())[:neg_num]
            hard = [hardest[rank] for rank in hard_ranks[row]]
            pool = [j for j in chosen if j not in hard]
            chosen = hard + [pool[rank] for rank in rand_ranks[row]]
        for j in chosen:
            total = total + max(0, d(i, i + 1) - d(i, j) + margin)
            total = total + max(0, d(i, i + 1) - d(i + 1, j) + margin)
    return total / (neg_num * (blocks * size) / size * 2)


def value_and_gradient(function, features, *arguments):
    features = features.detach().requires_grad_()
    loss = function(features, *arguments)
    loss.backward()
    return loss.item(), features.grad


def batch(samples, dims, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(samples, dims, generator=generator)
    return features, torch.randint(-1, classes - 1, (samples,), generator=generator)


@pytest.mark.parametrize("hard_ratio, rand_ratio", [(0.5, 0.5), (1, 0), (0, 1), (0.3, 0.4)])
@pytest.mark.parametrize(
    "neg_num, pair_size, margin", [(4, 2, 0.5), (6, 3, 0), (5, 4, 1), (99, 2, 1)]
)
def test_on_blocks_value_and_gradient_equal_a_naive_loop(
    neg_num, pair_size, margin, hard_ratio, rand_ratio
):
    loss = RankHardLoss(neg_num, pair_size, hard_ratio, rand_ratio, margin, seed=neg_num)
    features, classes = batch(12 * pair_size, 8, 4)
    labels = classes[:12].repeat_interleave(pair_size)
    for _ in range(3):
        generator = copy.deepcopy(loss).eval()._generator(features.device)
        expected = value_and_gradient(partial(naive, loss), features, labels, generator)
        value, gradient = value_and_gradient(loss.of_blocks, features, labels)
        assert expected[0] > 0
        torch.testing.assert_close(value, expected[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_in_any_order_value_and_gradient_equal_a_naive_loop_over_the_pairs(seed):
    loss = RankHardLoss(neg_num=3, pair_size=2 + seed % 2, rand_ratio=0.67, seed=seed)
    features, labels = batch(9 + 3 * seed, 6, 4, seed)
    generator = copy.deepcopy(loss).eval()._generator(features.device)
    order, is_block = loss._paired(labels, generator)
    expected = value_and_gradient(
        lambda x: naive(loss, x[order], labels[order], generator, int(is_block.sum())), features
    )
    value, gradient = value_and_gradient(loss, features, labels)
    torch.testing.assert_close(value, expected[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)


def test_the_hand_case():
    features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    # Both pairs have the similarity 0.8. Anchor 0 is violated by sample 2 (0.6), not by 3 (0);
    # anchor 2 by 0 (0.6) and 1 (0.96). Of its positive 3 the hinge with 0 is negative, so 0.
    hinges = [0.3, 0.66, 0.3, 0, 0.66, 0.3]
    loss = RankHardLoss().of_blocks(features, torch.tensor([7, 7, -3, -3]))
    torch.testing.assert_close(loss.item(), sum(hinges) / (4 * 4 / 2 * 2))
    # The scale of a feature does not matter.
    scaled = RankHardLoss().of_blocks(
        features * torch.tensor([[3.0], [0.1], [9], [1]]), torch.tensor([7, 7, -3, -3])
    )
    torch.testing.assert_close(scaled, loss)


@pytest.mark.parametrize("neg_num", [2, 16])
def test_gradcheck(neg_num):
    loss = RankHardLoss(neg_num, margin=0.3).eval()
    features, labels = batch(11, 3, 3)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), features.double().requires_grad_())
    labels = torch.tensor([1, 1, 2, 2, 1, 1, 3, 3])
    features = features[:8].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss.of_blocks(x, labels), features)


def test_all_are_taken_if_no_more_than_neg_num_violate():
    # Two of class 2 violate, two of class 3 do not; whether a batch is larger plays no part.
    features = torch.tensor(
        [[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [-1, 0.0], [-1.0, 0.0]]
    )
    labels = torch.tensor([1, 1, 2, 2, 3, 3])
    for neg_num in (2, 5, 6, 50):
        for seed in range(5):
            loss = RankHardLoss(neg_num, seed=seed)
            chosen, counted = loss._mined(features, labels, loss._generator(features.device))
            assert set(chosen[0][counted[0]].tolist()) == {2, 3}
            assert not counted[2].any()


@pytest.mark.parametrize(
    "hard_ratio, rand_ratio, hard, other",
    [(0.5, 0.5, 1 / 2 + 1 / 2 * 2 / 6, 2 / 6), (0.5, 0, 1 / 2, 0), (0, 0.5, 2 / 8, 2 / 8)]
    + [(0.25, 0.5, 1 / 4 + 3 / 4 * 2 / 7, 2 / 7), (1, 0, 1, 0)],
)
def test_hard_and_random_negatives_are_drawn_uniformly(hard_ratio, rand_ratio, hard, other):
    # 2000 equal anchors with the same 8 violating negatives, hardest last.
    loss = RankHardLoss(4, hard_ratio=hard_ratio, rand_ratio=rand_ratio)
    angles = torch.cat([torch.zeros(4000), torch.linspace(0.8, 0.1, 8)])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    labels = (torch.arange(4008) >= 4000).long()
    chosen, counted = loss._mined(features, labels, loss._generator(features.device))
    drawn = chosen[:2000][counted[:2000]].view(2000, -1) - 4000
    assert drawn.shape[1] == int(4 * hard_ratio) + int(4 * rand_ratio)
    assert (drawn.sort(1).values.diff(dim=1) > 0).all()  # none twice
    expected = torch.tensor([other] * 4 + [hard] * 4, dtype=torch.float)
    frequencies = drawn.flatten().bincount(minlength=8) / 2000
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=0.05)  # 4.5 sigma


@pytest.mark.parametrize("size, count", [(1, 1), (5, 2), (5, 4), (4, 4), (6, 3)])
def test_every_subset_is_as_likely_as_another(size, count):
    generator = torch.Generator().manual_seed(1)
    drawn = _subsets(torch.full((20000,), size), count, generator)
    found = Counter(tuple(sorted(row)) for row in drawn.tolist())
    subsets = list(itertools.combinations(range(size), count))
    assert set(found) == set(subsets)
    expected = 20000 / len(subsets)
    chi_squared = sum((n - expected) ** 2 / expected for n in found.values())
    assert chi_squared < len(subsets) + 4 * (2 * len(subsets)) ** 0.5


@pytest.mark.parametrize("pair_size", [2, 3])
def test_blocks_are_of_one_class_and_leave_less_than_a_block_of_each(pair_size):
    loss = RankHardLoss(pair_size=pair_size)
    _, labels = batch(40, 2, 6)
    labels[0] = 10**12  # alone in its class
    generator = torch.Generator().manual_seed(0)
    orders = set()
    for _ in range(20):
        order, is_block = loss._paired(labels, generator)
        orders.add(tuple(order.tolist()))
        assert sorted(order.tolist()) == list(range(40)) and len(is_block) == 40 // pair_size
        blocks = labels[order][: is_block.sum() * pair_size].view(-1, pair_size)
        assert is_block[: len(blocks)].all() and (blocks == blocks[:, :1]).all()
        counts = Counter(labels.tolist())
        whole = {label: n // pair_size for label, n in counts.items() if n >= pair_size}
        assert Counter(blocks[:, 0].tolist()) == whole
    assert len(orders) == 20


def test_every_pairing_is_as_likely_as_another():
    generator, loss = torch.Generator().manual_seed(0), RankHardLoss()
    found = Counter(
        tuple(loss._paired(torch.tensor([5, 5, 5]), generator)[0].tolist()) for _ in range(3000)
    )
    assert len(found) == 6 and all(400 < n < 600 for n in found.values())  # 500, 5 sigma


def values(loss, calls=6):
    return [loss(*batch(40, 4, 3)).item() for _ in range(calls)]


def test_the_seed_decides_the_draws():
    sequence = values(RankHardLoss(seed=3))
    assert len(set(sequence)) == 6 and values(RankHardLoss(seed=3)) == sequence
    for other in (0, 2, 4, -3, 2**40):
        assert not set(values(RankHardLoss(seed=other))) & set(sequence)


def test_a_resumed_run_draws_as_if_never_stopped():
    loss = RankHardLoss()
    sequence = values(RankHardLoss())
    assert values(loss, 2) == sequence[:2]
    state = loss.state_dict()
    assert list(state) == ["_extra_state"]
    assert state["_extra_state"].shape == () and state["_extra_state"].dtype == torch.int64
    resumed = RankHardLoss()
    resumed.load_state_dict(state)
    for copied in (resumed, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert values(copied, 4) == sequence[2:]
    assert values(loss, 4) == sequence[2:]  # the copies have a number of calls of their own


def test_in_eval_mode_draws_stay_the_same_and_move_nothing():
    loss, sequence = RankHardLoss(), values(RankHardLoss())
    assert values(loss.eval(), 3) == sequence[:1] * 3
    assert values(loss.train()) == sequence


def test_the_global_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    values(RankHardLoss())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("labels", [[], [3], [1, 2, 3], [1] * 12])
def test_without_a_block_or_a_negative_the_loss_is_a_zero_with_a_graph(labels):
    for loss in (RankHardLoss(), RankHardLoss(1, 3, hard_ratio=1)):
        features = torch.randn(len(labels), 4, requires_grad=True)
        value = loss(features, torch.tensor(labels, dtype=torch.long))
        value.backward()
        assert value.item() == 0 and value.shape == () and not features.grad.any()
    empty = torch.zeros(0, 4, requires_grad=True)
    RankHardLoss().of_blocks(empty, torch.zeros(0, dtype=torch.long)).backward()
    assert empty.grad.shape == (0, 4)


def test_a_class_apart_by_the_margin_costs_nothing():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(6, 1).requires_grad_()
    loss = RankHardLoss()(features, torch.tensor([1, 2]).repeat(6))
    loss.backward()
    assert loss.item() == 0 and not features.grad.any()


def test_samples_left_over_are_negatives_but_no_anchors():
    # The only pair is of class 1; sample 2 is alone and violates: (0.5 + 0.5) / (2 * 4 * 1)
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(RankHardLoss()(features, torch.tensor([1, 1, 2])).item(), 1 / 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_and_autocast_change_only_the_rounding_of_the_input(dtype):
    features, labels = batch(30, 16, 3)
    half = (1000 * features).to(dtype)
    expected = value_and_gradient(RankHardLoss(), half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = RankHardLoss()(half.requires_grad_(), labels)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == dtype
    assert loss.item() == expected[0]
    torch.testing.assert_close(half.grad, expected[1].to(dtype))
    assert RankHardLoss()(features.double(), labels).dtype == torch.float64


def test_features_that_are_no_number_are_not_hidden():
    features, labels = batch(30, 16, 3)
    features[0, 0] = torch.nan
    assert RankHardLoss(neg_num=30)(features, labels).isnan()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_are_any_integers(dtype):
    features, labels = batch(30, 4, 3)
    expected = RankHardLoss()(features, labels + 1)
    assert RankHardLoss()(features, (labels + 1).to(dtype)).item() == expected.item()


def test_wrong_input_is_a_value_error_that_names_it():
    loss = RankHardLoss(pair_size=3)
    for call in (loss, loss.of_blocks):
        for shape in ([4, 2], [6], [6, 2, 1]):
            with pytest.raises(ValueError, match=rf"\[P, D\].*\{shape} and \[6\]"):
                call(torch.zeros(shape), torch.ones(6, dtype=torch.long))
    with pytest.raises(ValueError, match="pair_size=3 samples, not 4"):
        loss.of_blocks(torch.zeros(4, 2), torch.ones(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"one label, not \[2, 5, 2\]"):
        loss.of_blocks(torch.zeros(6, 2), torch.tensor([1, 1, 1, 2, 5, 2]))


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"neg_num": 0}, "neg_num=0"),
        ({"pair_size": 1}, "pair_size=1"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"hard_ratio": 1.5}, "1.5 and 0.5"),
        ({"rand_ratio": -0.1}, "0.5 and -0.1"),
        ({"hard_ratio": 0.75}, r"1\.\.neg_num.*3 \+ 2"),
        ({"neg_num": 1}, r"1\.\.neg_num.*0 \+ 0"),
    ],
)
def test_arguments_out_of_range_are_a_value_error_that_names_them(wrong, named):
    with pytest.raises(ValueError, match=named):
        RankHardLoss(**wrong)


def test_the_representation_names_the_arguments():
    loss = RankHardLoss(8, 3, 0.25, 0.75, 0.2, seed=5)
    assert repr(eval(repr(loss))) == repr(loss) and "hard_ratio=0.25" in repr(loss)
    assert list(loss.parameters()) == []


def test_the_example_of_the_docstring_runs():
    done = doctest.testmod(rank_hard, extraglobs={"torch": torch})
    assert done.attempted >= 3 and done.failed == 0
