import inspect
import sys

import pytest
import torch
from torch import nn

from detcenter.losses import metric_loss

try:
    from pytorch_metric_learning import losses, miners
except ImportError:
    losses = miners = None

needs_library = pytest.mark.skipif(losses is None, reason="needs pytorch-metric-learning")

CLASSES, DIM = 4, 8  # with background
LABELS = torch.tensor([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
# What is no loss of features and labels alone, and what it says it misses.
NEED_MORE = {
    "BaseLossWrapper": "'loss'",
    "BaseMetricLossFunction": "features and labels alone",  # abstract
    "CrossBatchMemory": "'loss'",
    "GenericPairLoss": "'mat_based_loss'",
    "ManifoldLoss": "'l'",
    "MultipleLosses": "'losses'",
    "RankedListLoss": "'margin' and 'Tn'",
    "SelfSupervisedLoss": "'loss'",
    "SmoothAPLoss": "same number of elements",  # of every class
    "VICRegLoss": "features and labels alone",  # takes no labels
}
USABLE = [
    name
    for name, kind in (vars(losses).items() if losses else ())
    if inspect.isclass(kind) and issubclass(kind, nn.Module) and name not in NEED_MORE
]
# How the library itself wants the sizes of those that have any.
SIZES = {"num_classes": CLASSES, "embedding_size": DIM}
SIZED = dict.fromkeys(
    [
        "ArcFaceLoss",
        "CosFaceLoss",
        "LargeMarginSoftmaxLoss",
        "NormalizedSoftmaxLoss",
        "ProxyAnchorLoss",
        "ProxyNCALoss",
        "SoftTripleLoss",
        "SphereFaceLoss",
        "SubCenterArcFaceLoss",
    ],
    SIZES,
) | {"P2SGradLoss": {"num_classes": CLASSES, "descriptors_dim": DIM}}


def features():
    return torch.randn(12, DIM, generator=torch.Generator().manual_seed(3)).requires_grad_()


def seeded(make, *args, **kwargs):
    torch.manual_seed(0)
    return make(*args, **kwargs)


@needs_library
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the library's
@pytest.mark.parametrize("name", USABLE)
def test_a_loss_by_name_is_the_librarys_own(name):
    ours = seeded(metric_loss, name, CLASSES, DIM)
    theirs = seeded(getattr(losses, name), **SIZED.get(name, {}))
    x, twin = features(), features()
    value, expected = ours(x, LABELS), theirs(twin, LABELS)
    value.backward()
    expected.backward()
    assert value.shape == () and value.isfinite() and x.grad.isfinite().all() and x.grad.any()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(x.grad, twin.grad)


@needs_library
def test_there_are_thirty():
    assert len(USABLE) >= 30 and set(SIZED) < set(USABLE)


@needs_library
@pytest.mark.parametrize("name", NEED_MORE)
def test_a_loss_that_needs_more_than_features_and_labels_says_so_in_one_line(name):
    with pytest.raises(ValueError, match=f"^{name}.*{NEED_MORE[name]}") as caught:
        metric_loss(name, CLASSES, DIM)
    message = str(caught.value)
    assert "\n" not in message and not message.rstrip().endswith(":")


@needs_library
def test_arguments_are_those_of_the_librarys_constructor():
    args = {"margin": 0.7, "swap": True}
    x = features()
    expected = losses.TripletMarginLoss(margin=0.7, swap=True)(x, LABELS)
    torch.testing.assert_close(
        metric_loss("TripletMarginLoss", CLASSES, DIM, args)(x, LABELS), expected
    )
    assert expected != losses.TripletMarginLoss()(x, LABELS)
    ranked = metric_loss("RankedListLoss", CLASSES, DIM, {"margin": 0.4, "Tn": 1})
    torch.testing.assert_close(
        ranked(x, LABELS), losses.RankedListLoss(margin=0.4, Tn=1)(x, LABELS)
    )


@needs_library
def test_arguments_may_size_the_loss_otherwise():
    assert metric_loss("ArcFaceLoss", CLASSES, DIM, {"num_classes": 9}).W.shape == (DIM, 9)


@needs_library
def test_vectors_of_classes_are_parameters_that_learn():
    for name, parameter, shape in (
        ("ArcFaceLoss", "W", (DIM, CLASSES)),
        ("ProxyAnchorLoss", "proxies", (CLASSES, DIM)),
        ("P2SGradLoss", "weight", (DIM, CLASSES)),
    ):
        loss = metric_loss(name, CLASSES, DIM)
        loss(features(), LABELS).backward()
        (found,) = loss.named_parameters()
        assert found[0] == parameter and found[1].shape == shape and found[1].grad.any()


@needs_library
def test_a_miner_picks_the_triplets():
    loss = metric_loss(
        "TripletMarginLoss",
        CLASSES,
        DIM,
        {"margin": 0.3},
        miner="TripletMarginMiner",
        miner_args={"margin": 0.1, "type_of_triplets": "hard"},
    )
    x = features()
    # by hand: the hard triplets of unit vectors are those whose negative is nearer
    unit = nn.functional.normalize(x, dim=1)
    terms = []
    for a in range(12):
        for p in range(12):
            for n in range(12):
                if a != p and LABELS[a] == LABELS[p] != LABELS[n]:
                    near, far = ((unit[a] - unit[k]).norm() for k in (p, n))
                    if far <= near:
                        terms.append((near - far + 0.3).clamp(min=0))
    assert 10 < len(terms) < 12 * 3 * 8
    torch.testing.assert_close(loss(x, LABELS), torch.stack(terms).mean())
    assert loss(x, LABELS) != losses.TripletMarginLoss(margin=0.3)(x, LABELS)


@needs_library
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ArcFacLoss"}, "losses has no 'ArcFacLoss'; the nearest is 'ArcFaceLoss'"),
        ({"name": "CentreLoss"}, "no 'CentreLoss'; the nearest is 'CenterLoss'"),
        ({"name": "supcon"}, "no 'supcon'; the nearest is 'SupConLoss'"),
        ({"miner": "TripletMiner"}, "miners has no 'TripletMiner'; the nearest is 'Triplet"),
        ({"args": {"margn": 1}}, "^TripletMarginLoss.margn=1.*'margn'"),
        (
            {"miner": "TripletMarginMiner", "miner_args": {"margn": 1}},
            "^TripletMarginMiner.margn=1.*'margn'",
        ),
        ({"miner_args": {"margin": 1}}, "'margin': 1.* without a miner"),
        ({"args": {"margin": "wide"}}, "TripletMarginLoss"),
    ],
)
def test_what_does_not_fit_is_a_value_error_that_names_it(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        metric_loss(
            **{"name": "TripletMarginLoss", **arguments}, num_classes=CLASSES, feature_dim=DIM
        )
    assert "\n" not in str(caught.value)


@needs_library
def test_a_loss_that_returns_a_value_for_each_feature_is_refused():
    from pytorch_metric_learning.reducers import DoNothingReducer

    with pytest.raises(ValueError, match="SupConLoss returns no scalar"):
        metric_loss("SupConLoss", CLASSES, DIM, {"reducer": DoNothingReducer()})


@needs_library
@pytest.mark.parametrize("name", ["ArcFaceLoss", "ProxyAnchorLoss", "SoftTripleLoss"])
def test_the_callers_random_numbers_stay_what_they_were(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    metric_loss(name, CLASSES, DIM)
    assert torch.equal(torch.rand(3), expected)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ImportError, match=r"pip install 'detcenter\[metric\]'"):
        metric_loss("ArcFaceLoss", CLASSES, DIM)
