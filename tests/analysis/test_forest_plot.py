"""The forest plot draws the numbers that it is given."""

import numpy as np
import pytest

from detcenter.analysis import Setting, forest_figure, pooled_pair


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    settings = {
        f"${i}_x": Setting(rng.normal(0.02, 0.01, 4).tolist(), [*range(4)], [i] * 4)
        for i in range(4)
    }
    settings["wide"] = Setting([0.3, -0.3, 0.04], [0, 1, 2], ["w"] * 3)
    return pooled_pair("plain", "center", {"AP": settings, "AP50": settings})


def lines(axes, count):
    """Horizontal ones by their height, as [from, to], of that many points."""
    drawn = (line.get_xydata() for line in axes.lines if len(line.get_xydata()) == count)
    return {float(xy[0, 1]): xy[:, 0] for xy in drawn if xy[0, 1] == xy[-1, 1]}


def test_intervals_and_diamond(pair):
    figure = forest_figure([pair, pair])
    assert len(figure.axes) == 4
    axes, pooled = figure.axes[0], pair.pooled["AP"]
    assert axes.get_title() == "AP: center minus plain"
    drawn = lines(axes, 2)
    for at, mean in enumerate([*pooled.settings.values()][:4]):
        assert drawn[at] == pytest.approx([100 * mean.low, 100 * mean.high])
    bottom = max(drawn)
    assert drawn[bottom] == pytest.approx([100 * x for x in pooled.new])
    corners = axes.patches[0].get_xy()[:, 0]
    assert [corners.min(), corners.max()] == pytest.approx(
        [100 * pooled.mean.low, 100 * pooled.mean.high]
    )
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 6 and texts[-1].startswith(f"{100 * pooled.mean.mean:+.1f} (")
    figure.draw_without_rendering()  # no name is read as mathematics


def test_what_is_far_wider_than_the_others_is_cut(pair):
    axes = forest_figure([pair]).axes[0]
    low, high = axes.get_xlim()
    wide = pair.pooled["AP"].settings["wide"]
    assert 100 * wide.low < low and 100 * wide.high > high
    assert lines(axes, 2)[4] == pytest.approx([low, high])
    arrows = {line.get_marker() for line in axes.lines} & {"<", ">"}
    assert arrows == {"<", ">"}
