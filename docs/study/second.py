"""The analysis of protocol.md: exact sign flips and t intervals over data sets, Holm over two.

python docs/study/second.py
"""

from itertools import product

import numpy as np
from scipy import stats
from second_runs import listed

DATA, FOUR, FRESH, SEEDS, OF_SSD = range(1, 9), range(1, 5), range(9, 17), (100, 101), (100,)
PAIRS = {
    "clean": [
        ("plain", "center"),
        ("one", "center"),
        ("softmax", "center"),
        ("plain", "softmax"),
        ("plain", "one"),
    ],
    "wrong_labels": [
        ("plain", "center"),
        ("one", "center"),
        ("smoothing", "center"),
        ("plain", "one"),
        ("plain", "smoothing"),
    ],
    "clean_twice": [("plain", "center")],
    "wrong_labels_twice": [("plain", "center")],
}
# Lead 5: the term at weight 1 beside a softmax at 0.3, and that softmax alone. Seed 100 decides.
BOTH = [
    ("center", "both"),
    ("plain", "both"),
    ("softmax_0.3", "both"),
    ("plain", "softmax_0.3"),
]
# Leads 2 and 3, on an SSD: a classifier by cosines, and the same with a product in their place,
# without and with center loss on its vectors; competitive centers. Two of them have both seeds.
OF_LEADS = [
    ("softmax", "cosine"),
    ("product", "cosine"),
    ("softmax", "product"),
    ("plain", "product"),
    ("plain", "softmax"),
    ("softmax", "competitive"),
    ("competitive", "cosine"),
    ("product", "product_center"),
]


def main() -> None:
    primary = {}
    for setting, pairs in PAIRS.items():
        for first, second in pairs:
            for metric in ("AP", "AP50"):
                values = difference(setting, first, second, metric)
                if values is None:
                    continue
                _print(f"{setting}: {second} - {first}, {metric}", values)
                if (first, second, metric) == ("plain", "center", "AP"):
                    primary[setting] = values
                    _print_by_seed(setting, first, second)
                    _print_means(setting, (first, second))
                    if setting.endswith("_twice"):
                        _print_shorter(setting.removesuffix("_twice"), first, second)
    told = {s: v for s, v in primary.items() if s in ("clean", "wrong_labels")}
    if len(told) == 2:
        contrast = told["wrong_labels"] - told["clean"]
        _print("wrong labels - clean, of center - plain, AP", contrast)
    adjusted = holm({s: sign_flip_p(v) for s, v in told.items()})
    for setting, p in adjusted.items():
        print(f"{setting}: {_verdict(told[setting], p)} (Holm over {len(told)}: p {p:.3f})")
    _print_both()
    _print_leads()
    ssd = difference("ssd", "softmax", "center", "AP", OF_SSD)
    if ssd is not None:
        print(f"{'not asked: SSD, center - softmax, AP':44}{_numbers(ssd)}")


def _print(name: str, values: np.ndarray) -> None:
    print(f"{name:44}{_numbers(values)}")
    print(f"{'':44}without one data set: {_left_out(values)}")


def _print_by_seed(setting: str, first: str, second: str) -> None:
    """All data sets have the same seeds, which an interval over data sets takes as given."""
    found = []
    for seed in sorted({int(r["seed"]) for r in listed() if r["setting"] == setting}):
        values = difference(setting, first, second, "AP", (seed,))
        if values is not None:
            print(f"{f'  with seed {seed} alone':44}{_numbers(values)}")
            found.append(values)
    if len(found) > len(SEEDS):
        name = f"  with all {len(found)} seeds"
        print(f"{name:44}{_numbers(np.mean(found, 0))}")
        means = np.mean(found, 1)
        print(f"{name + ', over seeds':44}{means.mean():+.2f} {_in_brackets(t_interval(means))}")


def _print_both() -> None:
    for first, second in BOTH:
        for metric, seeds in product(("AP", "AP50"), ((100,), SEEDS)):
            values = difference("clean", first, second, metric, seeds)
            if values is not None:
                which = "both seeds" if seeds == SEEDS else "seed 100"
                _print(f"{second} - {first}, {metric}, {which}", values)


def _print_leads() -> None:
    for first, second in OF_LEADS:
        for metric, seeds in product(("AP", "AP50"), (OF_SSD, SEEDS)):
            values = difference("ssd_leads", first, second, metric, seeds)
            if values is not None:
                both = ", both seeds" if seeds == SEEDS else ""
                _print(f"SSD: {second} - {first}, {metric}{both}", values)
    leads = {
        "lead 2": difference("ssd_leads", "softmax", "cosine", "AP", OF_SSD),
        "center loss on the vectors of its control": difference(
            "ssd_leads", "product", "product_center", "AP", OF_SSD
        ),
        "vectors of boxes": difference("ssd_leads", "softmax", "product", "AP"),
        "lead 3": difference("ssd_leads", "softmax", "competitive", "AP"),
        "lead 4": votes_gain(),
        "lead 5": difference("clean", "center", "both", "AP", OF_SSD),
    }
    for metric in ("AP", "AP50"):
        values = difference("ssd_confirmed", "softmax", "vectors", metric, OF_SSD, FRESH)
        if values is not None:
            _print(f"SSD, confirmed: vectors - softmax, {metric}", values)
    known = {name: values for name, values in leads.items() if values is not None}
    for name, p in holm({name: sign_flip_p(values) for name, values in known.items()}).items():
        print(f"{name}: {_verdict(known[name], p)} (Holm over {len(known)}: p {p:.3f})")


def votes_gain() -> np.ndarray:
    """Lead 4, points of AP a data set, of checkpoints with the softmax alone."""
    import votes  # which has the analysis of this file

    gains: np.ndarray = votes.differences(votes.listed(), "ssd", "softmax", "softmax:0.5")[:, 0]
    return gains


def _print_shorter(setting: str, first: str, second: str) -> None:
    """The sets that were trained twice as long, as they were before."""
    values = difference(setting, first, second, "AP", sets=FOUR)
    if values is not None:
        _print(f"  the same sets, {setting}, AP", values)
        _print_means(setting, (first, second), FOUR)


def _print_means(setting: str, arms: tuple[str, str], sets: range = DATA) -> None:
    """AP, and the scatter within to between classes of the vectors of validation boxes."""
    for metric in ("AP", "own_ratio"):
        each = []
        for arm in arms:
            known = [_mean(setting, arm, data, metric, SEEDS) for data in sets]
            each.append(f"{arm} {np.mean([x for x in known if x is not None]):.3f}")
        print(f"{f'  {metric}':44}{', '.join(each)}")


def difference(
    setting: str,
    first: str,
    second: str,
    metric: str,
    seeds: tuple[int, ...] = SEEDS,
    sets: range = DATA,
) -> np.ndarray | None:
    """Points, a data set: the mean over training seeds; None before all runs are there."""
    arms = [[_mean(setting, arm, data, metric, seeds) for data in sets] for arm in (first, second)]
    known = [(a, b) for a, b in zip(*arms, strict=True) if None not in (a, b)]
    expected = len(FOUR) if setting.endswith("twice") else len(sets)
    if len(known) < expected:
        if known and seeds == SEEDS:
            print(f"{setting}: {second} - {first}: {len(known)} of {expected} data sets so far")
        return None
    return 100 * np.array([b - a for a, b in known])  # type: ignore[operator]


def sign_flip_p(values: np.ndarray) -> float:
    """Two-sided, by all 2^n signs."""
    flips = np.array(list(product((-1, 1), repeat=len(values))))
    means = np.abs(flips @ values)
    return float((means >= abs(values.sum()) - 1e-9).mean())


def t_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p values."""
    adjusted, most = {}, 0.0
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        most = max(most, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = most
    return adjusted


def _mean(setting: str, arm: str, data: int, metric: str, seeds: tuple[int, ...]) -> float | None:
    """Of the training seeds, if all are there."""
    key = setting, arm, str(data)
    values = [
        float(row[metric])
        for row in listed()
        if (row["setting"], row["arm"], row["data"]) == key and int(row["seed"]) in seeds
    ]
    return float(np.mean(values)) if len(values) == len(seeds) else None


def _numbers(values: np.ndarray) -> str:
    each = " ".join(f"{value:+.1f}" for value in values)
    p = sign_flip_p(values)
    return f"{values.mean():+.2f} {_in_brackets(t_interval(values))}, exact p {p:.3f}; {each}"


def _in_brackets(interval: tuple[float, float]) -> str:
    return "({:+.2f} to {:+.2f})".format(*interval)


def _left_out(values: np.ndarray) -> str:
    means = [np.delete(values, i).mean() for i in range(len(values))]
    return f"{min(means):+.2f} to {max(means):+.2f}"


def _verdict(values: np.ndarray, p: float) -> str:
    low, high = t_interval(values)
    if p < 0.05 and (low > 0 or high < 0):
        return "helps" if low > 0 else "hurts"
    low, high = t_interval(values, 0.9)
    if low > -1 and high < 1:
        return "no effect of a point or more"
    return "cannot be told"


if __name__ == "__main__":
    main()
