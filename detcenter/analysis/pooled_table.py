"""Several comparisons together as text and as JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detcenter.analysis.pooled import Heterogeneity, Mean, Pooled, Setting, pool
from detcenter.analysis.verdict import interval_text, points
from detcenter.evaluation.table import aligned

POOLED = ("AP", "AP50")


class PooledPair(NamedTuple):
    """Two variants over the same settings; differences are `second` minus `first`."""

    first: str
    second: str
    settings: Mapping[str, Mapping[str, Setting]]  # by a name in POOLED, then by the setting's
    pooled: Mapping[str, Pooled]  # by a name in POOLED


def pooled_pair(
    first: str, second: str, settings: Mapping[str, Mapping[str, Setting]]
) -> PooledPair:
    """What the settings, of each number in POOLED by name, say together; see `pool`."""
    return PooledPair(first, second, settings, {name: pool(of) for name, of in settings.items()})


def pool_json(pairs: Sequence[PooledPair]) -> dict[str, Any]:
    """All numbers as JSON values, in [0, 1]; what is not defined is null."""
    return {"pairs": [_pair_json(pair) for pair in pairs]}


def pool_table(pairs: Sequence[PooledPair]) -> str:
    """A table for each pair, and what to read from it, as aligned text."""
    return "\n\n".join(
        f"{pair.second} minus {pair.first}, points, 95 % intervals\n\n"
        f"{aligned(_rows(pair))}\n\n" + "\n".join(_sentences(pair))
        for pair in pairs
    )


def mean_text(mean: Mean) -> str:
    """In points, with its interval."""
    return f"{points(mean.mean)} ({interval_text((mean.low, mean.high))})"


def _rows(pair: PooledPair) -> list[list[str]]:
    shown = [pair.pooled[name] for name in POOLED]
    counts = {name: len(setting.values) for name, setting in pair.settings[POOLED[0]].items()}
    rows = [["setting", "pairs", *POOLED]]
    rows += [
        [name, str(n), *(mean_text(x.settings[name]) for x in shown)] for name, n in counts.items()
    ]
    pairs = str(sum(counts.values()))
    rows.append([f"mean of {len(counts)} settings", pairs, *(mean_text(x.mean) for x in shown)])
    rows += [
        [
            f"  without {name}",
            str(sum(counts.values()) - n),
            *(mean_text(x.without[name]) for x in shown),
        ]
        for name, n in counts.items()
    ]
    rows.append(["mean of pairs", pairs, *(mean_text(x.mean_of_pairs) for x in shown)])
    rows.append(["another setting", "", *(interval_text(x.new) if x.new else "–" for x in shown)])
    return rows


def _sentences(pair: PooledPair) -> list[str]:
    clusters = pair.pooled[POOLED[0]].mean.clusters
    over = " and ".join(f"{number} {name}" for name, number in clusters.items())
    means = {name: found.mean for name, found in pair.pooled.items()}
    said = [f"{name} {mean_text(mean)}, {_zero(mean)}" for name, mean in means.items()]
    lines = [f"mean of settings, clustered by {over}: {'; '.join(said)}"]
    if "validation sets" not in clusters:
        lines.append(f"all settings are measured on the same validation data; {_images(pair)}")
    lines += [
        f"heterogeneity of {name}: {_differing(x.heterogeneity)}" for name, x in pair.pooled.items()
    ]
    both = [name for name, of in pair.settings.items() if any(x.image_error for x in of.values())]
    if both:
        lines.append(
            f"a setting's interval is over its seeds, that of {' and '.join(both)} over resampled "
            "images too"
        )
    return lines


def _images(pair: PooledPair) -> str:
    """Of which numbers other images are in the interval of the mean."""
    unknown = [n for n, of in pair.settings.items() if any(x.image_error == 0 for x in of.values())]
    if not unknown:
        return "other images are in the intervals by resampling"
    return f"what other images would give is not in the interval of {' and '.join(unknown)}"


def _zero(mean: Mean) -> str:
    return "zero left out" if mean.low > 0 or mean.high < 0 else "zero within"


def _differing(found: Heterogeneity | None) -> str:
    if found is None:
        return "not known, since all pairs of a setting are equal"
    tau = 100 * found.tau2**0.5
    return f"Q {found.q:.1f}, p {found.p:.2g}; I² {found.i2:.0%}; tau {tau:.1f} points"


def _pair_json(pair: PooledPair) -> dict[str, Any]:
    numbers = {
        name: _pooled_json(pair.settings[name], pooled) for name, pooled in pair.pooled.items()
    }
    return {"first": pair.first, "second": pair.second, **numbers, "sentences": _sentences(pair)}


def _pooled_json(settings: Mapping[str, Setting], pooled: Pooled) -> dict[str, Any]:
    return {
        "settings": [
            {"name": name, **setting._asdict(), **_mean_json(pooled.settings[name])}
            for name, setting in settings.items()
        ],
        "mean": _mean_json(pooled.mean),
        "mean_of_pairs": _mean_json(pooled.mean_of_pairs),
        "without": [{"name": name, **_mean_json(mean)} for name, mean in pooled.without.items()],
        "heterogeneity": pooled.heterogeneity and pooled.heterogeneity._asdict(),
        "another_setting": pooled.new and list(pooled.new),
    }


def _mean_json(mean: Mean) -> dict[str, Any]:
    return {
        "mean": mean.mean,
        "interval": [mean.low, mean.high],
        "error": mean.error,
        "clusters": dict(mean.clusters),
    }
