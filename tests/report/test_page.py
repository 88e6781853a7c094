"""The page in a real browser: what it shows, and that it needs nothing but itself."""

import json
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from detcenter.evaluation import evaluate_detections, metrics_json
from detcenter.report import report_page

from .conftest import CLASSES, FILE, RUN, picture

SECTIONS = [
    "result", "training", "classes", "curves", "confusion", "errors", "calibration",
    "gallery", "features", "compactness",
]  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory, html):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(chromium, address):
    """Open the page; in the end nothing may have been complained about, nor asked for."""
    complaints, pages = [], []

    def look(place=address, **options):
        still = {"viewport": {"width": 1366, "height": 900}, "reduced_motion": "reduce"}
        page = chromium.new_page(**(still | options))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(place)
        pages.append(page)
        return page

    yield look
    for page in pages:
        page.close()
    assert [said for said in complaints if not said.startswith(("data:", "file:"))] == []


def see_all(page):
    for section in SECTIONS:
        page.locator(f"#{section}").scroll_into_view_if_needed()
    for chart in page.locator(".chart:visible").all():
        chart.scroll_into_view_if_needed()
        chart.locator(".main-svg").first.wait_for()


def letters(locator):
    """What is to be read there; plotly sets a space that does not break for one that does."""
    return locator.text_content().replace("\xa0", " ")


def tip_after(page, move):
    """What is shown where ``move`` puts the mouse.

    A chart that is drawn anew at this moment does not see a mouse that rests, so it moves again.
    """
    tip = page.locator("#tip")
    for _ in range(100):
        page.mouse.move(5, 5)
        move()
        page.wait_for_timeout(200)
        if tip.is_visible():
            return tip
    raise AssertionError("no tip is shown")


def click_cell(page, *cell):
    hover_cell(page, *cell)
    page.wait_for_timeout(100)  # plotly looks where the mouse is twenty times a second
    page.mouse.down()
    page.mouse.up()


def hover_cell(page, chart, row, column):
    """Move to the middle of a cell of a confusion matrix of five rows."""
    # Not if needed only: the tray may lie over what is in view.
    page.locator(f"[data-chart={chart}]").evaluate("chart => chart.scrollIntoView()")
    page.locator(f"[data-chart={chart}] .nsewdrag").first.wait_for()
    box = page.locator(f"[data-chart={chart}] .nsewdrag").first.bounding_box()
    x = box["x"] + box["width"] * (column + 0.5) / 5
    y = box["y"] + box["height"] * (row + 0.5) / 5
    page.mouse.move(x, y)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_charts_are_drawn_in_the_colours_of_the_room(opened, scheme):
    page = opened(color_scheme=scheme)
    see_all(page)
    assert page.locator(".chart:visible").count() >= 10
    ink = {"light": "rgb(30, 30, 30)", "dark": "rgb(230, 230, 230)"}
    title = page.locator("[data-chart=errors] .ytitle")
    fill = "element => getComputedStyle(element).fill"
    assert title.evaluate(fill) == ink[scheme]
    page.locator("#theme").click()
    other = ink["dark" if scheme == "light" else "light"]
    assert title.evaluate(fill) == other
    assert page.evaluate("getComputedStyle(document.body).color") == other


def test_a_phone_scrolls_in_one_direction(opened):
    page = opened(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    see_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#images figure").first.bounding_box()["width"] > 100


def test_names_are_letters_and_never_code(opened):
    page = opened()
    see_all(page)
    assert page.title() == "Runs side by side"
    assert page.locator("b", has_text="bold").count() == 0
    assert page.locator("img[src=x]").count() == 0
    assert letters(page.locator("#compactness tbody").first).count(CLASSES[0]) >= 1
    ticks = [
        letters(tick) for tick in page.locator("[data-chart='classes-all sizes'] .ytick").all()
    ]
    assert ticks[::-1] == ["</script><script>docume…", *CLASSES[1:]]  # drawn from below
    note = f"{FILE} · plain: 1 cls, 1 bkg, 1 miss · {RUN}: no error"
    assert letters(page.locator("#images .note").first) == note
    assert letters(page.locator("#result tbody tr:nth-child(2) th").first).strip() == RUN


def test_a_click_on_a_cell_shows_its_boxes(opened):
    page = opened()
    click_cell(page, "confusion-0", 0, 1)
    tray = page.locator("#tray")
    expect(tray.locator("h3")).to_have_text(f"plain: {CLASSES[0]} taken for {CLASSES[1]} (1)")
    assert letters(tray.locator("figure")) == f"0.80, {FILE}"
    assert tile_colour(page, tray.locator(".crop")) == pytest.approx((220, 20, 20), abs=40)
    assert page.locator("#cell-column").input_value() == "1"
    tray.get_by_label("close").click()
    assert not tray.is_visible()
    click_cell(page, "confusion-1", 2, 2)
    expect(tray.locator("h3")).to_have_text(f"{RUN}: 1, found (6)")
    assert tray.locator("figure").count() == 6
    assert tile_colour(page, tray.locator(".crop").first) == pytest.approx((20, 20, 220), abs=40)
    click_cell(page, "confusion-0", 1, 4)
    expect(tray.locator("h3")).to_have_text(f"plain: {CLASSES[1]}, not found (1)")
    click_cell(page, "confusion-0", 4, 0)
    nothing = f"plain: {CLASSES[0]} on no object, or on one that has a box (1)"
    expect(tray.locator("h3")).to_have_text(nothing)


def tile_colour(page, crop):
    """The middle pixel of a crop as it is on the screen."""
    import io

    from PIL import Image

    shot = Image.open(io.BytesIO(crop.screenshot())).convert("RGB")
    return shot.getpixel((shot.width // 2, shot.height // 2))


def test_a_button_shows_the_boxes_of_a_confusion(opened):
    page = opened()
    page.locator(".pairs button").first.click()
    expect(page.locator("#tray h3")).to_have_text(f"plain: {CLASSES[0]} taken for {CLASSES[1]} (1)")


def test_any_cell_can_be_chosen_without_a_mouse(opened):
    page = opened()
    for name, value in (("run", "1"), ("row", "1"), ("column", "1")):
        page.locator(f"#cell-{name}").select_option(value)
    page.locator("#cell-show").press("Enter")
    assert letters(page.locator("#tray h3")) == f"{RUN}: {CLASSES[1]}, found (6)"
    assert page.locator("#tray figure").count() == 6


def test_a_hover_over_a_cell_says_how_many(opened):
    page = opened()
    tip = tip_after(page, lambda: hover_cell(page, "confusion-0", 0, 1))
    assert letters(tip) == f"{CLASSES[0]} taken for {CLASSES[1]}: 1, 16.7 % of the row"


def test_a_tap_on_a_phone_shows_the_box(opened):
    page = opened(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.locator("[data-chart='features-0-PCA']").scroll_into_view_if_needed()
    point = page.locator("[data-chart='features-0-PCA'] .point").first
    point.scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    box = point.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator("#tip")
    tip.wait_for()
    assert re.fullmatch(re.escape(CLASSES[0]) + r", (.*)\.png", letters(tip))
    page.mouse.wheel(0, 200)
    tip.wait_for(state="hidden")


def test_zooming_outlives_a_change_of_colours(opened):
    page = opened()
    chart = page.locator("[data-chart='features-0-PCA']")
    chart.scroll_into_view_if_needed()
    chart.locator(".main-svg").first.wait_for()
    seen = "chart => [chart.layout.xaxis.range, chart.layout.yaxis.range]"
    whole = chart.evaluate(seen)
    chart.evaluate("async (chart) => Plotly.relayout(chart, { 'yaxis.range': [0, 1] })")
    zoomed = chart.evaluate(seen)
    page.locator("#theme").click()
    assert chart.evaluate(seen) == zoomed != whole


def test_the_gallery_is_filtered_by_class_error_and_run(opened):
    page = opened()
    found, cards = page.locator("#found"), page.locator(".image")
    assert letters(found) == "errors: 3 of 3, images: 1" and cards.count() == 1
    assert cards.locator("figure").count() == 3  # ground truth and two runs
    assert cards.locator("rect.k-cls, rect.k-bkg, rect.k-miss").count() == 3
    words = [letters(text) for text in cards.locator("figure:nth-child(2) text").all()]
    long = "</script><script>docume…"
    assert words == [f"{CLASSES[1]} 0.80, is {long}", f"{long} 0.70", CLASSES[1]]  # missed
    page.locator("#kind").select_option("miss")
    assert letters(found) == "errors: 1 of 1, images: 1"
    page.locator("#class").select_option("4")
    assert letters(found) == "errors: 0 of 0, images: 0" and cards.count() == 0
    page.locator("#class").select_option("2")
    assert letters(found) == "errors: 1 of 1, images: 1"
    page.locator("#kind").select_option(
        "cls"
    )  # by the class it is as well as by the one it is called
    assert letters(found) == "errors: 1 of 1, images: 1"
    page.locator("#class").select_option("1")
    assert letters(found) == "errors: 1 of 1, images: 1"
    page.locator("#run").select_option("1")
    assert letters(found) == "errors: 0 of 0, images: 0"


def test_a_picture_is_made_large(opened):
    page = opened()
    picture = page.locator(".image .picture").first
    small = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box()["width"] > 1.5 * small


def test_a_hover_over_a_point_shows_its_box(opened):
    page = opened()
    section = page.locator("#features")
    section.scroll_into_view_if_needed()
    point = page.locator("[data-chart='features-0-PCA'] .point").first
    point.scroll_into_view_if_needed()
    tip = tip_after(page, lambda: point.hover(force=True))
    assert re.fullmatch(re.escape(CLASSES[0]) + r", (.*)\.png", letters(tip))
    assert tile_colour(page, tip.locator(".crop")) == pytest.approx((220, 20, 20), abs=40)
    page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_choices_change_what_is_drawn(opened):
    page = opened()
    see_all(page)
    section = page.locator("#features")
    first, collapsed = section.locator(".chart").all()
    before = first.locator(".point").first.get_attribute("transform")
    section.locator("select").select_option("LDA")  # of one point there is none
    assert first.get_attribute("data-chart") == "features-0-LDA"
    assert first.locator(".point").first.get_attribute("transform") != before
    assert collapsed.locator(".main-svg").count() == 0
    section.locator("select").select_option("PCA")
    assert collapsed.locator(".point").count() == 24
    tip_after(page, lambda: collapsed.locator(".point").first.hover(force=True))
    curve = page.locator("#curves .chart")
    before = curve.locator(".js-line").first.get_attribute("d")
    page.locator("#curves select").select_option("2")
    assert curve.get_attribute("data-chart") == "curve-2"
    assert curve.locator(".js-line").first.get_attribute("d") != before
    sizes = [letters(size) for size in page.locator("#classes option").all()]
    assert sizes == ["all sizes", "medium"]  # no object is small or large
    page.locator("#classes select").select_option("medium")
    bars = page.locator("#classes .chart").evaluate("chart => chart.data.map((bars) => bars.x)")
    assert bars[1] == [1, 1, 1, 1] and len(bars) == 2


def test_the_tables_have_the_numbers(opened, runs):
    page = opened()
    row = page.locator("#result table").first.locator("tbody tr").first
    cells = [letters(cell) for cell in row.locator("td").all()]
    results = runs[0].results
    assert cells[:2] == [f"{results['AP']:.3f}", f"{results['AP50']:.3f}"] and results["AP"] < 1
    assert cells[3] == "–"  # no object is small
    collapsed = page.locator("#compactness details").nth(1)
    assert letters(collapsed.locator("summary")) == f"{RUN}: 5 dimensions, ratio –"
    rows = page.locator("#errors tbody tr").all()
    for column in (2, 3):  # at any score, and from 0.5 on, which all have
        counts = [letters(row.locator("td").nth(column)) for row in rows]
        assert counts == ["1", "0", "0", "0", "1", "1"]
    assert letters(rows[0].locator("td").nth(1)) == f"{results['errors']['cls']['dAP']:.3f}"
    row = page.locator(".recipe tbody tr").first
    assert [letters(cell) for cell in row.locator("th, td").all()] == ["train.seed", "5", "24"]


def test_without_a_box_there_are_no_features(opened, tmp_path, data, runs):
    """Validation images may be all background."""
    empty = [a | {"boxes": a["boxes"][:0], "labels": a["labels"][:0]} for a in data.annotations]
    for annotation in empty:
        annotation |= {key: annotation[key][:0] for key in ("iscrowd", "difficult", "area")}
    nothing = data._replace(
        annotations=empty, labels=data.labels[:0], boxes=data.boxes[:0], images=data.images[:0]
    )
    found = runs[0].detections
    results = json.loads(metrics_json(evaluate_detections(empty, found, CLASSES)))
    run = runs[0]._replace(results=results, features=runs[0].features[:0])
    path = tmp_path / "empty.html"
    path.write_text(report_page([run], nothing, picture), encoding="utf-8")
    page = opened(path.as_uri())
    assert page.locator("#features, #compactness, a[href='#features']").count() == 0
    assert letters(page.locator("#found")) == "errors: 24 of 24, images: 6"  # nothing is there
    page.locator("[data-chart='curve-0']").scroll_into_view_if_needed()
    page.locator("[data-chart='curve-0'] .main-svg").first.wait_for()


def test_calibration_is_a_line_a_run_beside_the_ideal(opened, runs):
    page = opened(color_scheme="dark")
    chart = page.locator("[data-chart=reliability]")
    chart.scroll_into_view_if_needed()
    chart.locator(".main-svg").first.wait_for()
    ideal, *lines = chart.evaluate("chart => chart.data.map(({ x, y, name }) => [name, x, y])")
    assert ideal == ["ideal", [0, 1], [0, 1]]
    for line, run in zip(lines, runs, strict=True):
        bins = run.results["calibration"]["bins"]
        assert line[1:] == [bins["score"], bins["precision"]]
    stroke = "element => getComputedStyle(element).stroke"
    assert chart.locator(".js-line").first.evaluate(stroke) == "rgb(230, 230, 230)"
    rows = page.locator("#calibration tbody tr").all()
    cells = [[letters(cell) for cell in row.locator("td").all()] for row in rows]
    error = runs[0].results["calibration"]["error"]
    assert cells == [[f"{error:.3f}", "24"], ["0.000", "24"]] and error > 0.1


def test_the_best_thresholds_are_a_table(opened, runs):
    page = opened()
    table = page.locator("#classes details").first
    table.locator("summary").click()
    rows = [[letters(c) for c in r.locator("td").all()] for r in table.locator("tbody tr").all()]
    # of the first class one is taken for another, and one is found at a corner, at 0.7
    assert rows[0] == ["0.900", "1.000", "0.833", "0.909"]
    assert rows[2] == ["0.900", "1.000", "1.000", "1.000"]
    assert page.locator("#classes details").count() == 2


def test_runs_of_an_earlier_version_have_no_calibration(runs, data):
    later = ("calibration", "best_by_class", "settings")
    results = {key: value for key, value in runs[0].results.items() if key not in later}
    html = report_page(*without_features(runs[0]._replace(results=results), data), picture)
    assert 'id="classes"' in html and "AP50 gained" in html and "IoU of 0.5" in html
    assert "calibration" not in html and "F1 is best" not in html


def test_where_nothing_is_detected_nothing_is_said_of_classes(runs, data):
    run = runs[0]._replace(results=dict(runs[0].results))
    matrix = np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), int)
    matrix[:-1, -1] = 6
    run.results["confusion"] = {**run.results["confusion"], "matrix": matrix.tolist()}
    html = report_page(*without_features(run, data), picture)
    assert '<p class="pairs">nothing is detected</p>' in html


def without_features(run, data):
    """Which take their time to be projected."""
    none = {key: getattr(data, key)[:0] for key in ("labels", "boxes", "images")}
    return [run._replace(features=run.features[:0])], data._replace(**none)


def test_another_iou_other_limits_and_uneven_classes(opened, tmp_path, runs, data, annotations):
    """The square that is off by a third is right at an IoU of 0.3, and is shown as that."""
    moved = [a["boxes"] + np.array([12, 0, 12, 0], np.float32) for a in annotations]  # IoU 0.5
    moved[0] = annotations[0]["boxes"] + np.array([18, 0, 18, 0], np.float32)  # IoU 1/3
    found = [
        {"boxes": boxes, "scores": np.full(4, 0.75), "labels": np.arange(1, 5)} for boxes in moved
    ]
    groups = dict(zip(CLASSES, ("rare", "rare", "rare", "frequent"), strict=True))
    metrics = evaluate_detections(
        annotations, found, CLASSES, "hotcoco", max_detections=7, iou=0.3, frequency=groups
    )
    run = runs[0]._replace(results=json.loads(metrics_json(metrics)), detections=found)
    path = tmp_path / "other.html"
    path.write_text(report_page(*without_features(run, data), picture))
    page = opened(path.as_uri())
    heads = [letters(head) for head in page.locator("#result thead").first.locator("th").all()]
    assert heads[9:] == ["AR_7", "AR_small", "AR_medium", "AR_large", "AP_rare", "AP_common",
                         "AP_frequent", "mAP_07", "mAP_12"]  # fmt: skip
    cells = [letters(cell) for cell in page.locator("#result tbody").first.locator("td").all()]
    assert cells[-2:] == ["1.000", "1.000"] and float(cells[1]) < 1  # VOC's and AP50
    assert cells[13] == "–"  # no class is common
    assert "VOC's mAP at an IoU of 0.3" in letters(page.locator("#result"))
    assert letters(page.locator("#found")) == "errors: 0 of 0, images: 0"
    assert page.locator("#errors th", has_text="AP30 gained").count() == 1
    assert "at an IoU of 0.3, one to an object" in letters(page.locator("#confusion"))
    click_cell(page, "confusion-0", 0, 0)
    expect(page.locator("#tray h3")).to_have_text(f"{CLASSES[0]}, found (6)")
    assert page.locator("#tray figure").count() == 6


def test_the_comparison_is_there(opened):
    page = opened()
    table = page.locator("#result table").nth(1)
    cells = [letters(cell) for cell in table.locator("tbody tr").first.locator("th, td").all()]
    assert cells == ["<plain>", "2", *["0.500 ±0.010"] * 4, "–", "500 ±10", "–"]
    assert letters(page.locator(".sentences li")) == "center against <plain>: helps"


def test_data_end_no_script(html):
    """All that is between the tags of the data is JSON, whatever the names."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1]
    shown = json.loads(text)
    assert shown["labels"] == [*CLASSES, "background"] and shown["files"][0] == FILE
