"""The page of similar boxes in a real browser."""

import numpy as np
import pytest

from detcenter.data.errors import DataError, Fault
from detcenter.report.similar_page import Shown, similar_page

from .conftest import CLASSES, COLOURS, FILE, picture

TITLE = "<i>similar</i>"
SQUARES = [(10.0 + 48 * k, 30.0, 46.0 + 48 * k, 66.0) for k in range(4)]


def shown(square, image=0, marked=False, label=None):
    lines = ["cosine 0.900", "copy of the image"] if marked else ["cosine 0.900"]
    name = CLASSES[square] if label is None else label
    return Shown(
        image, SQUARES[square], name, FILE if image == 0 else f"{image}.png", lines, marked
    )


ROWS = [
    (shown(0), [shown(0, 1), shown(1, 1, marked=True), shown(2, 2), shown(0, 3)]),
    (shown(3, label=""), [shown(3, 9)]),
    (shown(2), []),
]


def pixels(image):
    if image == 9:
        raise DataError(Fault("9.png", "gone"))
    return picture(image)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "similar.html"
    path.write_text(similar_page(TITLE, "Of <b>12</b> boxes", ROWS, pixels), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(chromium, address):
    """Nothing may be complained about, nor asked for."""
    complaints, contexts = [], []

    def opened(**options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.on("console", lambda message: complaints.append(message.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        context.on("request", lambda request: complaints.append(request.url))
        page = context.new_page()
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [said for said in complaints if not said.startswith(("data:", "file:"))] == []


def middle(page, selector, number=0):
    """The colour in the middle of a picture, as the browser decodes it."""
    return (
        page.locator(selector)
        .nth(number)
        .evaluate(
            """async image => {
            await image.decode();
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data];
        }"""
        )[:3]
    )


def test_every_query_has_its_neighbours_in_their_order(open_page):
    page = open_page()
    rows = page.locator(".row")
    assert rows.count() == 3
    assert rows.nth(0).locator(".query strong").inner_text() == CLASSES[0]
    names = rows.nth(0).locator("li strong").all_inner_texts()
    assert names == [CLASSES[0], CLASSES[1], CLASSES[2], CLASSES[0]]
    for number, square in enumerate([0, 1, 2, 0]):
        assert np.abs(np.subtract(middle(page, "li img", number), COLOURS[square])).max() < 25
    assert np.abs(np.subtract(middle(page, ".query img"), COLOURS[0])).max() < 25
    counts = rows.nth(0).locator(".counts").inner_text()
    assert counts == f"nearest by class: {CLASSES[0]}: 2, {CLASSES[1]}: 1, {CLASSES[2]}: 1"
    assert "no other box" in rows.nth(2).inner_text()


def test_what_is_said_of_a_neighbour(open_page):
    page = open_page()
    first = page.locator("li").nth(1)
    assert first.locator("span").all_inner_texts() == ["cosine 0.900", "copy of the image", "1.png"]
    assert "marked" in first.get_attribute("class")
    other = ["other" in (li.get_attribute("class") or "") for li in page.locator("li").all()]
    # of a query without a class none is of another
    assert other == [False, True, True, False, False]
    assert page.locator(".row").nth(1).locator(".query strong").inner_text() == "no class is known"


def test_names_are_shown_and_not_obeyed(open_page):
    page = open_page()
    assert page.title() == TITLE and page.locator("b, i").count() == 0
    assert page.locator(".query span").nth(1).inner_text() == FILE
    assert "Of <b>12</b> boxes" in page.locator("header p").inner_text()


def test_a_box_without_a_picture_stays(open_page):
    page = open_page()
    assert page.locator(".none").count() == 1
    assert page.locator(".row").nth(1).locator("li .none").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(open_page, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, is_mobile=True, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour) != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.locator("#theme").click()
    assert (page.evaluate(colour) != "rgb(255, 255, 255)") != dark


def test_every_image_is_read_once():
    read = []

    def image(key):
        read.append(key)
        return picture(0)

    similar_page(TITLE, "", ROWS, image)
    assert sorted(read) == [0, 1, 2, 3, 9]
