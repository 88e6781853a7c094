"""The page of an audit in a real browser: deciding, undoing, coming back, taking decisions away."""

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from detcenter.data.errors import DataError, Fault
from detcenter.report.audit_page import Entry, audit_page

from .conftest import CLASSES, FILE, picture

TITLE = "<i>audit</i>"
SQUARES = [(10.0 + 48 * k, 30.0, 46.0 + 48 * k, 66.0) for k in range(4)]


def entry(kind, score, label, better, box, better_box=None, path=FILE, likes=()):
    number = None if kind == "missing" else int(box[0]) // 48
    return Entry(
        kind,
        score,
        Path(path),
        path,
        number,
        box,
        label,
        better,
        better_box,
        f"why {kind}",
        likes,
        likes,
    )


LIKES = [(Path("1.png"), SQUARES[2])]
ENTRIES = [
    entry(
        "wrong label", 0.9, CLASSES[0], CLASSES[1], SQUARES[0], likes=[(Path("1.png"), SQUARES[2])]
    ),
    entry("missing", 0.8, None, CLASSES[2], SQUARES[1], SQUARES[1]),
    entry("surplus", 0.7, CLASSES[3], None, SQUARES[2], path="1.png"),
    entry("badly placed", 0.6, CLASSES[3], None, SQUARES[3], (150.0, 20.0, 190.0, 60.0)),
    entry("wrong label", 0.5, CLASSES[2], CLASSES[3], SQUARES[0], path="gone.png"),
]


def pixels(path):
    if path.name == "gone.png":
        raise DataError(Fault(path, "gone"))
    return picture(0)


def write(path, entries):
    path.write_text(audit_page(TITLE, {"root": "data"}, CLASSES, entries, pixels), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write(tmp_path_factory.mktemp("page") / "audit.html", ENTRIES)


@pytest.fixture
def context(chromium):
    """One person's browser; in the end nothing may have been complained about, nor asked for."""
    complaints = []
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: complaints.append(request.url))
    yield context
    context.close()
    assert [said for said in complaints if not said.startswith(("data:", "file:", "blob:"))] == []


@pytest.fixture
def page(context, address):
    page = context.new_page()
    page.goto(address)
    return page


def shown(page):
    return page.locator("#what").inner_text()


def counted(page):
    return page.locator("#count").inner_text()


def reload(page, count):
    """Until the page counts so: a busy browser takes its time to keep what was just decided."""
    for _ in range(100):
        page.reload()
        if counted(page) == count:
            return
        page.wait_for_timeout(100)
    assert counted(page) == count


def decisions(page):
    with page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.suggested_filename == "decisions.json"
    return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))


def test_a_suspect_is_shown_with_what_it_is_judged_by(page):
    assert shown(page) == f"wrong label, 0.90: {CLASSES[0]} → {CLASSES[1]}"
    expect(page.locator("#reason")).to_have_text("why wrong label")
    expect(page.locator("#image")).to_have_text(FILE)
    assert page.locator("#picture image").count() == 1
    assert page.locator(".neighbours img").count() == 2
    assert page.title() == TITLE and page.locator("b").count() == 0


def test_boxes_are_drawn_where_they_are(page):
    """On a square 2.4 times as wide as both boxes together, around their middle."""
    page.select_option("#kind", "badly placed")
    frame = page.locator("#picture svg").bounding_box()
    side, left, top = 2.4 * 46, 170 - 1.2 * 46, 43 - 1.2 * 46
    scale = frame["width"] / side
    for name, corners in (("annotated", SQUARES[3]), ("better", ENTRIES[3].better_box)):
        box = page.locator(f"#picture .{name}").bounding_box()
        corner = [box["x"] - frame["x"], box["y"] - frame["y"]]
        due = [(corners[0] - left) * scale, (corners[1] - top) * scale]
        assert corner == pytest.approx(due, abs=2)
        assert box["width"] == pytest.approx((corners[2] - corners[0]) * scale, abs=4)


def test_keys_decide_and_move(page):
    page.keyboard.press("a")
    assert shown(page).startswith("missing") and counted(page) == "1 of 5 decided"
    page.keyboard.press("r")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#reject")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#accept")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("r")  # another mind
    assert counted(page) == "2 of 5 decided"


def test_undo_takes_back_one_after_the_other(page):
    for key in "aar":
        page.keyboard.press(key)
    page.keyboard.press("u")
    assert shown(page).startswith("surplus") and counted(page) == "2 of 5 decided"
    page.locator("#undo").click()
    assert shown(page).startswith("missing") and counted(page) == "1 of 5 decided"
    page.keyboard.press("u")
    assert counted(page) == "0 of 5 decided"
    page.keyboard.press("u")
    expect(page.locator("#undo")).to_be_disabled()
    assert shown(page).startswith("wrong label")


def test_decisions_are_there_again_after_a_reload(page, context, address):
    page.keyboard.press("a")
    page.keyboard.press("c")
    assert page.evaluate("document.activeElement.id") == "class"
    page.select_option("#class", CLASSES[3])
    assert counted(page) == "1 of 5 decided"  # choosing is not deciding yet
    page.keyboard.press("Enter")
    reload(page, "2 of 5 decided")
    other = context.new_page()
    other.goto(address)
    reload(other, "2 of 5 decided")
    assert [row["decision"] for row in decisions(other)["decisions"]] == ["accept", "class"]


def test_decisions_outlive_another_page_of_the_same_data(page, context, tmp_path):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    assert counted(page) == "1 of 5 decided"
    other = context.new_page()
    other.goto(write(tmp_path / "audit.html", ENTRIES[1:]))
    reload(other, "1 of 4 decided")
    elsewhere = context.new_page()
    html = audit_page(TITLE, {"root": "other"}, CLASSES, ENTRIES, pixels)
    (tmp_path / "other.html").write_text(html, encoding="utf-8")
    elsewhere.goto((tmp_path / "other.html").as_uri())
    assert counted(elsewhere) == "0 of 5 decided"


def test_two_windows_lose_nothing_of_each_other(page, context, address):
    other = context.new_page()
    other.goto(address)
    page.keyboard.press("a")
    expect(other.locator("#count")).to_have_text("1 of 5 decided", timeout=30_000)
    other.keyboard.press("ArrowRight")
    other.keyboard.press("r")
    expect(page.locator("#count")).to_have_text("2 of 5 decided", timeout=30_000)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    reload(page, "3 of 5 decided")
    kinds = [(row["kind"], row["decision"]) for row in decisions(page)["decisions"]]
    assert kinds == [("wrong label", "accept"), ("missing", "reject"), ("surplus", "accept")]


def test_what_was_decided_before_a_reload_can_be_taken_back(page):
    page.keyboard.press("a")
    reload(page, "1 of 5 decided")
    page.keyboard.press("u")
    assert counted(page) == "0 of 5 decided"


def test_a_key_that_is_held_decides_once(page):
    page.keyboard.down("a")
    for _ in range(5):
        page.keyboard.down("a")  # as a keyboard repeats it
    page.keyboard.up("a")
    assert counted(page) == "1 of 5 decided"


def test_keys_in_a_list_of_classes_decide_nothing(page):
    page.keyboard.press("c")
    for key in ("ArrowDown", "ArrowDown", "a", "r", "b"):
        page.keyboard.press(key)
    assert counted(page) == "0 of 5 decided" and shown(page).startswith("wrong label")


def test_keys_decide_after_a_kind_was_chosen(page):
    page.locator("#kind").focus()
    page.select_option("#kind", "surplus")
    page.keyboard.press("a")
    assert counted(page) == "1 of 5 decided" and page.locator("#kind").input_value() == "surplus"


def test_a_browser_that_keeps_nothing_says_so(page):
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full') } }")
    page.keyboard.press("a")
    expect(page.locator("#kept")).to_be_visible()
    assert counted(page) == "1 of 5 decided"


def test_what_is_downloaded(page):
    page.keyboard.press("a")  # wrong label
    page.keyboard.press("a")  # missing
    page.keyboard.press("a")  # surplus
    page.keyboard.press("a")  # badly placed
    page.keyboard.press("r")
    content = decisions(page)
    assert content["data"] == {"root": "data"} and content["classes"] == CLASSES
    wrong, missing, surplus, placed, left = content["decisions"]
    assert wrong["label"] == CLASSES[0] and wrong["new_label"] == CLASSES[1]
    assert wrong["box"] == wrong["new_box"] == list(SQUARES[0]) and wrong["image"] == FILE
    assert (wrong["number"], missing["number"]) == (0, None)
    assert missing["label"] is None and missing["new_label"] == CLASSES[2]
    assert missing["new_box"] == list(SQUARES[1])
    assert surplus["new_label"] is None and surplus["new_box"] is None
    assert placed["new_label"] == placed["label"] == CLASSES[3]
    assert placed["new_box"] == [150, 20, 190, 60]
    assert left["decision"] == "reject" and "new_label" not in left


def test_another_class_of_each_kind(page):
    for _ in ENTRIES[:4]:
        page.select_option("#class", CLASSES[2])
        page.locator("#set").click()
    found = decisions(page)["decisions"]
    assert [row["new_label"] for row in found] == [CLASSES[2]] * 4
    assert [row["new_box"] for row in found[2:]] == [list(SQUARES[2]), [150, 20, 190, 60]]


def test_only_what_is_undecided(page):
    page.locator("#open").check()
    page.keyboard.press("a")
    expect(page.locator("#place")).to_have_text("1 of 4")
    page.select_option("#kind", "surplus")
    page.keyboard.press("r")
    expect(page.locator("#nothing")).to_be_visible()
    page.keyboard.press("a")  # of nothing
    assert counted(page) == "2 of 5 decided"
    page.keyboard.press("u")
    assert shown(page).startswith("surplus")


def test_a_suspect_without_a_picture_can_be_decided_on(page):
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.locator("#picture image").count() == 0
    page.keyboard.press("a")
    assert counted(page) == "1 of 5 decided"


def test_nothing_is_suspect(context, tmp_path):
    page = context.new_page()
    page.goto(write(tmp_path / "audit.html", []))
    expect(page.locator("#nothing")).to_be_visible()
    assert decisions(page)["decisions"] == []


def test_ten_thousand_suspects(context, tmp_path):
    """One at a time is in the document, so that their number does not matter."""
    many = [
        entry("surplus", 0.5, CLASSES[k % 4], None, SQUARES[k % 4], path=str(k))
        for k in range(10_000)
    ]
    path = tmp_path / "audit.html"

    def unreadable(path):
        raise DataError(Fault(path, "gone"))

    path.write_text(
        audit_page(TITLE, {"root": "data"}, CLASSES, many, unreadable), encoding="utf-8"
    )
    page = context.new_page()
    page.goto(path.as_uri())
    before = page.locator("*").count()
    for _ in range(20):
        page.keyboard.press("a")
    assert counted(page) == "20 of 10000 decided" and page.locator("*").count() <= before
    page.locator("#open").check()
    expect(page.locator("#place")).to_have_text("1 of 9980")
    reload(page, "20 of 10000 decided")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(chromium, address, scheme):
    page = chromium.new_page(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme
    )
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#accept").tap()
    assert counted(page) == "1 of 5 decided"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.locator("#theme").tap()
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    ) != dark
    page.close()


def test_every_image_is_read_once():
    read = []

    def image(path):
        read.append(path)
        return np.zeros((100, 200, 3), np.uint8)

    audit_page(TITLE, {"root": "data"}, CLASSES, ENTRIES, image)
    assert sorted(map(str, read)) == sorted({FILE, "1.png", "gone.png"})
