import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from detcenter.analysis import Projection, SweepCell, projections, scatter, sweep_figure

DIGITS = [str(digit) for digit in range(10)]
EMPTY = np.zeros((0, 2)), np.zeros(0, int)


def ring(classes=10, count=300, seed=0):
    """Boxes around centers on a circle: features [N, 2], labels [N], centers [K, 2]."""
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(classes) / classes
    centers = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = rng.integers(1, classes + 1, count)
    return centers[labels - 1] + rng.normal(size=(count, 2)), labels, centers


def cell(weight=0.01, ap=0.618, ratio=0.0512, classes=10):
    features, labels, centers = ring(classes)
    return SweepCell(
        weight,
        (features, labels),
        (features[:50], labels[:50]),
        centers,
        np.arange(1, classes + 1),
        ap,
        ratio,
    )


def panel(classes=10, count=300):
    return {"features": Projection(*ring(classes, count))}


def names_in(axes):
    return [text for text in axes.texts if text.get_text()]


def legend_names(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def looks(figure):
    """What the legend shows for each class: marker and colour."""
    (legend,) = figure.legends
    return [(line.get_marker(), line.get_color()) for line in legend.legend_handles]


def assert_all_inside_and_apart(figure):
    """No text leaves the picture or its panel, and none covers another."""
    renderer = figure.canvas.get_renderer()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = [legend.get_window_extent(renderer)]
    for axes in figure.axes:
        boxes.append(axes.get_tightbbox(renderer))
        names = [text.get_window_extent(renderer) for text in names_in(axes)]
        assert not any(a.overlaps(b) for a, b in combinations(names, 2))
        frame = axes.get_window_extent(renderer).padded(1)
        assert all(frame.count_contains(name.corners()) == 4 for name in names)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    picture = figure.bbox.padded(1)
    assert all(picture.count_contains(box.corners()) == 4 for box in boxes)


def test_scatter_has_a_panel_a_projection():
    features, labels, _ = ring(3, 60)
    wide = np.hstack([features, np.random.default_rng(1).normal(size=(60, 3))])
    centers = np.array([wide[labels == label].mean(axis=0) for label in (1, 2, 3)])
    figure = scatter(projections(wide, labels, 0, centers), ["cat", "dog", "bird"], "a title")
    assert [axes.get_title() for axes in figure.axes] == ["PCA", "LDA", "t-SNE"]
    assert figure.get_suptitle() == "a title"
    for axes, count in zip(figure.axes, (3, 3, 0), strict=True):
        assert sum(len(points.get_offsets()) for points in axes.collections) == 60
        assert [name.get_text() for name in names_in(axes)] == ["cat", "dog", "bird"][:count]
    assert legend_names(figure) == ["cat", "dog", "bird", "center"]
    assert_all_inside_and_apart(figure)


def test_points_have_the_colour_and_shape_of_their_legend():
    classes = [f"class {k}" for k in range(1, 41)]
    points = np.stack([np.arange(40.0), np.arange(40.0) % 7], axis=1)
    shown = Projection(points, np.arange(1, 41), None)
    figure = scatter({"PCA": shown}, classes)
    in_legend = looks(figure)
    assert len(set(in_legend)) == 40
    (axes,) = figure.axes
    assert len(axes.collections) == 4  # shapes
    shapes = [marker for marker, _ in in_legend][::10]
    for shape, drawn in zip(shapes, axes.collections, strict=True):
        for (x, _), colour in zip(drawn.get_offsets(), drawn.get_facecolors(), strict=True):
            assert in_legend[int(x)] == (shape, to_hex(colour))
    assert legend_names(figure) == classes


def test_ten_classes_have_ten_colours():
    assert len({colour for _, colour in looks(scatter(panel(), DIGITS))[:10]}) == 10


@pytest.mark.parametrize("classes", [10, 40, 80])
def test_nothing_overlaps(classes):
    names = [f"class number {k}" for k in range(classes)]
    figure = scatter(panel(classes, 2000), names)
    assert_all_inside_and_apart(figure)
    assert len(names_in(figure.axes[0])) >= 0.8 * classes
    sweep = sweep_figure([cell(classes=classes)] * 2, names)
    assert_all_inside_and_apart(sweep)
    assert legend_names(sweep) == legend_names(figure) == [*names, "center"]


def test_crosses_are_at_the_centers():
    shown = panel()["features"]
    (axes,) = scatter({"features": shown}, DIGITS).axes
    for line in axes.lines:  # the halo, and the cross on it
        np.testing.assert_array_equal(line.get_xydata(), shown.centers)
    to_pixels = axes.transData.transform
    for name, center in zip(names_in(axes), shown.centers, strict=True):
        extent = name.get_window_extent()
        middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        assert np.linalg.norm(middle - to_pixels(center)) < 0.06 * axes.bbox.width
    assert [name.get_text() for name in names_in(axes)] == DIGITS


def test_names_of_coinciding_centers_stand_apart():
    same = panel()["features"]._replace(centers=np.zeros((10, 2)))
    figure = scatter({"features": same}, DIGITS)
    assert sorted(name.get_text() for name in names_in(figure.axes[0])) == DIGITS
    assert_all_inside_and_apart(figure)


def test_own_dimensions_keep_their_scale_and_others_fill_the_panel():
    points, labels, _ = ring(3)
    shown = Projection(points * [10, 1], labels, None)
    own, pca = scatter({"features": shown, "PCA": shown}, DIGITS).axes
    assert own.get_aspect() == 1
    assert np.ptp(own.get_xlim()) == pytest.approx(np.ptp(own.get_ylim()))
    assert np.ptp(pca.get_xlim()) > 5 * np.ptp(pca.get_ylim())
    assert len(own.get_xticks()) > 2 and len(pca.get_xticks()) == 0


def test_an_outlier_does_not_shrink_the_rest():
    points, labels, _ = ring(3, 1000)
    points[7] = 1e6
    (axes,) = scatter({"features": Projection(points, labels, None)}, DIGITS).axes
    assert np.ptp(axes.get_xlim()) < 50
    far = scatter({"features": Projection(points, labels, np.full((1, 2), 400.0))}, DIGITS)
    assert far.axes[0].get_xlim()[1] > 400  # but a center is always shown


def test_sweep_has_a_column_a_weight():
    cells = [cell(0), cell(0.001, None, None), cell(0.1, float("nan"), 12.3456)]
    figure = sweep_figure(cells, DIGITS)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == [
        "λ = 0\nAP 0.62, ratio 0.051",
        "λ = 0.001\nAP –, ratio –",
        "λ = 0.1\nAP –, ratio 12",
    ]
    assert titles[3:] == ["", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["train", "", "", "validation", "", ""]
    for axes, count in zip(figure.axes, [300] * 3 + [50] * 3, strict=True):
        assert len(axes.collections[0].get_offsets()) == count
        assert [name.get_text() for name in names_in(axes)] == DIGITS
    assert legend_names(figure) == [*DIGITS, "center"]
    assert_all_inside_and_apart(figure)


def test_sweep_names_centers_by_their_labels():
    few = cell()._replace(centers=np.array([[0.0, 0.0], [5.0, 5.0]]), center_labels=[3, 8])
    for axes in sweep_figure([few], DIGITS).axes:
        assert [name.get_text() for name in names_in(axes)] == ["2", "7"]


@pytest.mark.parametrize("centers", [None, np.zeros((0, 2)), np.ones((1, 2))])
@pytest.mark.parametrize("boxes", [EMPTY, (np.ones((1, 2)), [3]), (np.ones((5, 2)), [3] * 5)])
def test_degenerate_panels_are_drawn(tmp_path, boxes, centers):
    few = [] if centers is None else range(1, len(centers) + 1)
    scatter({"PCA": Projection(*boxes, centers)}, DIGITS).savefig(tmp_path / "scatter.png")
    degenerate = SweepCell(0.1, boxes, EMPTY, centers, few, None, None)
    sweep_figure([degenerate], DIGITS).savefig(tmp_path / "sweep.png")
    assert (tmp_path / "scatter.png").stat().st_size > 5000
    assert (tmp_path / "sweep.png").stat().st_size > 5000


def test_class_names_are_not_markup(tmp_path):
    classes = ["US$ and $x$", "_hidden", "a name too long for any picture"]
    figure = scatter(panel(3), classes)
    figure.savefig(tmp_path / "names.png")
    assert legend_names(figure) == [*classes[:2], "a name too long for any…", "center"]
    assert not any(text.get_parse_math() for text in names_in(figure.axes[0]))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: scatter({}, DIGITS), "no panels"),
        (lambda: sweep_figure([], DIGITS), "no cells"),
        (lambda: scatter(panel(), DIGITS[:9]), r"1\.\.9 .*1\.\.10"),
        (lambda: scatter({"PCA": Projection(np.ones((2, 3)), [1, 2], None)}, DIGITS), r"\[2, 3\]"),
        (
            lambda: scatter({"PCA": Projection(np.ones((2, 2)), [1, 2], np.ones((11, 2)))}, DIGITS),
            r"K names, not \[11, 2\] and 10",
        ),
        (lambda: sweep_figure([cell()._replace(center_labels=range(10))], DIGITS), r"0\.\.9"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize(
    "draw", [lambda: scatter(panel(), DIGITS), lambda: sweep_figure([cell()], DIGITS)]
)
def test_says_how_to_get_matplotlib(monkeypatch, draw):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"^drawing .* pip install 'detcenter\[plots\]'$"):
        draw()


def test_slow_libraries_are_imported_when_used_and_pyplot_never():
    program = """
import sys
from detcenter.analysis import Projection, scatter
assert not {"matplotlib", "sklearn"} & set(sys.modules)
scatter({"PCA": Projection([[0.0, 1.0]], [1], None)}, ["cat"])
assert "matplotlib.figure" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
