"""The page of a data set in a real browser."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from detcenter.data.errors import DataError, Fault
from detcenter.data.findings import Part, all_findings
from detcenter.data.looks import Look
from detcenter.report.data_page import data_page

from .conftest import CLASSES, FILE, picture

TITLE = "<i>data</i>"
TABLE = [["", "images"], ["data.train", "3"], ["data.val", "1"]]


def image(path, boxes, labels, **more):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    no = np.zeros(len(boxes), bool)
    return {
        "image_id": 1,
        "path": Path(path),
        "width": 200,
        "height": 100,
        "boxes": boxes,
        "labels": np.array(labels),
        "iscrowd": no,
        "difficult": no,
        "area": np.ones(len(boxes)),
    } | more


@pytest.fixture(scope="module")
def parts():
    """A box twice, one that reaches out, one that is a point, an image that cannot be read, and an
    image in both parts."""
    square = [10, 30, 46, 66]
    train = [
        image(FILE, [square, square], [1, 1]),
        image("out.png", [[150, 20, 240, 60], [58, 30, 94, 66]], [2, 3]),
        image("gone.png", [[5, 5, 5, 5]], [4]),
    ]
    looks = {a["path"]: Look(width=200, height=100, digest=bytes([k])) for k, a in enumerate(train)}
    val = [image(FILE, [square], [1])]
    return [Part("train", train, CLASSES, looks), Part("val", val, CLASSES, looks)]


def pixels(path):
    if path.name == "gone.png":
        raise DataError(Fault(path, "gone"))
    return picture(0)


@pytest.fixture(scope="module")
def address(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("page") / "data.html"
    findings = all_findings(parts)
    faults = [f"{FILE}: broken"] * 250
    path.write_text(data_page(TITLE, parts, TABLE, findings, faults, pixels), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(chromium, address):
    """Open the page; in the end nothing may have been complained about, nor asked for."""
    complaints, pages = [], []

    def look(**options):
        still = {"viewport": {"width": 1366, "height": 900}, "reduced_motion": "reduce"}
        page = chromium.new_page(**(still | options))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url))
        page.goto(address)
        pages.append(page)
        for chart in page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
            chart.locator(".main-svg").first.wait_for()
        return page

    yield look
    for page in pages:
        page.close()
    assert [said for said in complaints if not said.startswith(("data:", "file:", "blob:"))] == []


def section(page, what):
    return page.locator("#findings section").filter(has=page.locator("h3", has_text=what))


def test_every_finding_has_a_row_and_its_pictures(opened):
    page = opened()
    rows = [row.inner_text() for row in page.locator(".findings tbody tr").all()]
    assert any(re.search(r"there twice.*warning\s+data.train\s+1", row) for row in rows)
    assert any(re.search(r"equal, byte.*data.train, data.val\s+1", row) for row in rows)
    assert len(rows) == page.locator("#findings section").count() >= 5
    twice = section(page, "there twice")
    assert twice.locator(".picture").count() == 1 and twice.locator("rect.box").count() == 2
    assert twice.locator("rect.box").first.bounding_box()["width"] > 10
    expect(twice.locator(".note")).to_contain_text(f"{FILE}: {CLASSES[0]} [10, 30, 46, 66]")


def test_boxes_are_drawn_where_they_are(opened):
    page = opened()
    out = section(page, "reach out")
    photo, box = out.locator("image").bounding_box(), out.locator("rect.box").bounding_box()
    scale = photo["width"] / 200
    drawn = [(box["x"] - photo["x"]) / scale, (box["y"] - photo["y"]) / scale]
    assert drawn == pytest.approx([150, 20], abs=3)
    assert box["width"] / scale == pytest.approx(90, abs=6)  # beside the image too
    frame = out.locator("svg").bounding_box()
    assert frame["x"] + frame["width"] > photo["x"] + photo["width"] + 10


def test_copies_are_side_by_side(opened):
    pictures = section(opened(), "to one of data.train").locator(".picture")
    left, right = (pictures.nth(k).bounding_box() for k in range(2))
    assert left["y"] == right["y"] and right["x"] > left["x"] + 50
    assert pictures.nth(1).get_attribute("aria-label") == f"data.val, {FILE}"


def test_an_image_that_cannot_be_read_has_its_line_alone(opened):
    gone = section(opened(), "without width or height")
    assert gone.locator("image").count() == 0 and gone.locator(".picture").count() == 0
    assert "gone.png" in gone.text_content()


def test_names_are_letters_and_never_code(opened):
    page = opened()
    assert page.title() == TITLE and page.locator("h1").inner_text() == TITLE
    assert page.locator("b", has_text="bold").count() == 0
    assert page.locator("img").count() == 0
    ticks = [tick.text_content() for tick in page.locator("[data-chart=classes] .ytick").all()]
    assert ticks[::-1][1:] == CLASSES[1:]


def test_many_faults_are_counted(opened):
    page = opened()
    assert page.locator("#faults li").count() == 200
    expect(page.locator("#faults .note")).to_contain_text("and 50 more")


def test_a_click_makes_a_picture_large(opened):
    picture = section(opened(), "reach out").locator(".picture")
    small = picture.bounding_box()["width"]
    picture.click()
    assert picture.bounding_box()["width"] > 1.5 * small
    picture.click()
    assert picture.bounding_box()["width"] == small


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_room(opened, scheme):
    page = opened(color_scheme=scheme)
    ink = {"light": "rgb(30, 30, 30)", "dark": "rgb(230, 230, 230)"}
    title = page.locator("[data-chart=sizes] .ytitle")
    assert title.evaluate("element => getComputedStyle(element).fill") == ink[scheme]
    page.locator("#theme").click()
    other = ink["dark" if scheme == "light" else "light"]
    assert title.evaluate("element => getComputedStyle(element).fill") == other


def test_a_phone_scrolls_in_one_direction(opened):
    page = opened(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".picture").first.bounding_box()["width"] > 100


def numbers(packed):
    """What plotly packs."""
    return np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])


def test_sizes_and_shapes_are_shares_of_boxes(parts):
    from detcenter.report.data_charts import data_charts

    charts = data_charts(parts)
    sizes = charts["sizes"]["data"]
    assert [line["name"] for line in sizes] == ["data.train", "data.val"]
    # The point has no size, and is in no bin.
    assert numbers(sizes[0]["y"]).sum() == pytest.approx(100)
    assert numbers(sizes[0]["customdata"]).sum() == 4
    largest = numbers(sizes[1]["x"])[np.argmax(numbers(sizes[1]["y"]))]
    assert largest == pytest.approx(np.sqrt(36 * 36 / 20_000), rel=0.1)
    shape = charts["shapes"]["data"][1]
    commonest = numbers(shape["x"])[np.argmax(numbers(shape["y"]))]
    assert commonest == pytest.approx(1, rel=0.13)
