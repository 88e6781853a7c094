"""CVAT's files, for images and for videos."""

import math

import pytest

from detcenter.data.errors import by_cause
from detcenter.data.layouts import cvat
from detcenter.data.layouts.files import Files
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, warnings, write

META = """<meta><task><id>1</id><size>3</size>{0}<labels>
<label><name>dog</name><color>#ff0000</color><type>any</type><attributes>
<attribute><name>hurt</name><mutable>False</mutable></attribute></attributes></label>
<label><name>cat</name><type>rectangle</type></label>
<label><name>sky</name><type>tag</type></label>
<label><name>nose</name><type>points</type><parent>body</parent></label>
</labels></task></meta>"""
IMAGES = META.format("")
BOX = '<box label="cat" source="manual" occluded="0" xtl="1.00" ytl="2.00" xbr="11.00" ybr="22.00" z_order="0"><attribute name="hurt">false</attribute></box>'  # noqa: E501
CAT = ("cat", [1, 2, 11, 22])


def export(root, *inside, meta=IMAGES):
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}'
    write(root / "annotations.xml", text + "".join(inside) + "</annotations>")


def image(name, *shapes, more=""):
    shapes = "".join(shapes)
    return f'<image id="0" name="{name}" width="40" height="30" {more}>{shapes}</image>'


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"images/{name}.png")
    return tmp_path


def test_images(root):
    export(root, image("a.png", BOX, '<tag label="sky"/>'), image("b.png"))
    assert parts(cvat, root) == ["annotations.xml"]
    assert sound(cvat, root, "annotations.xml") == {"images/a.png": [CAT], "images/b.png": []}
    labelled, _ = read(cvat, root, "annotations.xml")
    assert labelled.classes == ["dog", "cat"] and labelled.annotations[0]["labels"].tolist() == [2]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<polygon label="cat" points="5.0,1.5;9.5,8;2,6"/>', [2, 1.5, 9.5, 8]),
        ('<ellipse label="cat" cx="20" cy="15" rx="10" ry="5"/>', [10, 10, 30, 20]),
        ('<ellipse label="cat" cx="20" cy="15" rx="10" ry="5" rotation="90"/>', [15, 5, 25, 25]),
        ('<mask label="cat" rle="3,5" left="2" top="3" width="10" height="6"/>', [2, 3, 12, 9]),
        (BOX.replace("<box", '<box rotation="90.0"'), [-4, 7, 16, 17]),
    ],
)
def test_shapes(root, shape, box):
    export(root, image("a.png", shape))
    assert sound(cvat, root, "annotations.xml") == {"images/a.png": [("cat", box)]}


@pytest.mark.parametrize("angle", [30, 135, 359, -10])
def test_turned_about_the_center(root, angle):
    box = '<box label="cat" xtl="16" ytl="12" xbr="24" ybr="18" rotation="{}"/>'
    ellipse = '<ellipse label="cat" cx="20" cy="15" rx="4" ry="3" rotation="{}"/>'
    export(root, image("a.png", box.format(angle), ellipse.format(angle)))
    found = sound(cvat, root, "annotations.xml")["images/a.png"]
    turn = complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    corners = [turn * side for side in (4 + 3j, 4 - 3j, -4 - 3j, -4 + 3j)]
    round_it = [math.tau * k / 9999 for k in range(9999)]
    edge = [turn * complex(4 * math.cos(t), 3 * math.sin(t)) for t in round_it]
    for (_, box), points in zip(found, (corners, edge), strict=True):
        xs, ys = [p.real + 20 for p in points], [p.imag + 15 for p in points]
        assert box == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=2e-3)


def test_points_and_lines_are_no_boxes(root, caplog):
    others = ["polyline", "points", "points", "skeleton", "cuboid"]
    export(root, image("a.png", BOX, *(f'<{kind} label="cat" points="1,2"/>' for kind in others)))
    assert sound(cvat, root, "annotations.xml") == {"images/a.png": [CAT]}
    (line,) = warnings(caplog)
    assert "points: 2" in line and "polyline: 1" in line and "cuboid: 1" in line


PROJECT = "<meta><project><tasks>{}</tasks><subsets>Train\nTest</subsets></project></meta>"


@pytest.mark.parametrize("inside", ["images/{}/", "{}/", "images/x/{}/y/"])
def test_subsets_of_a_project(tmp_path, inside):
    images = []
    for subset, size in (("Train", 40), ("Test", 20)):
        name = f"{inside.rpartition('}/')[2]}1.png"
        picture(tmp_path / inside.format(subset) / "1.png", size, 30)
        images.append(image(name, BOX, more=f'subset="{subset}"').replace("40", str(size)))
    meta = PROJECT.format("".join(f"<task><subset>{s}</subset></task>" for s in ("Train", "Test")))
    export(tmp_path, *images, meta=meta)
    if "x" in inside:
        for subset in ("Train", "Test"):
            (tmp_path / f"images/x/{subset}").rename(tmp_path / f"images/{subset}")
        inside = "images/{}/y/"
    assert parts(cvat, tmp_path) == ["annotations.xml/Train", "annotations.xml/Test"]
    both = {f"{inside.format(subset)}1.png": [CAT] for subset in ("Train", "Test")}
    assert sound(cvat, tmp_path, "annotations.xml") == both
    test = sound(cvat, tmp_path, "annotations.xml/Test")
    assert test == {f"{inside.format('Test')}1.png": [CAT]}


def test_what_is_left_out_of_each_subset_is_said(root, caplog):
    point = '<points label="cat" points="1,2"/>'
    images = [("a.png", "Train"), ("b.png", "Test")]
    export(root, *(image(name, point, more=f'subset="{subset}"') for name, subset in images))
    for subset in ("Train", "Test", "Test"):
        sound(cvat, root, f"annotations.xml/{subset}")
    train, test = warnings(caplog)
    assert train.endswith("annotations.xml/Train: left out (points: 1)") and "/Test:" in test


def test_subsets_whose_images_lie_in_one_folder(root):
    images = [image("a.png", BOX, more=f'subset="{subset}"') for subset in ("Train", "Test")]
    export(root, *images)
    labelled, faults = read(cvat, root, "annotations.xml")
    assert labelled.annotations == []
    assert "'Train/a.png' and 'Test/a.png' would be the same image" in faults[0]


def track(*shapes, label="cat", more=""):
    return f'<track id="0" label="{label}" {more}>{"".join(shapes)}</track>'


def at(frame, *box, outside=0, kind="box"):
    x1, y1, x2, y2 = box or (1, 2, 11, 22)
    corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
    return f'<{kind} frame="{frame}" outside="{outside}" keyframe="1" {corners}></{kind}>'


VIDEO = META.format(
    "<start_frame>10</start_frame><stop_frame>19</stop_frame><frame_filter>step=3</frame_filter>"
    "<original_size><width>40</width><height>30</height></original_size>"
)


def frames(root, *numbers):
    for number in numbers:
        picture(root / f"images/frame_{number:06}.png")


def test_video(tmp_path):
    frames(tmp_path, 10, 11, 13, 16, 19, 22)
    first = track(at(10), at(13, 5, 5, 9, 9), at(16, outside=1))
    export(tmp_path, first, track(at(13), at(16, outside=1), label="dog"), meta=VIDEO)
    assert parts(cvat, tmp_path) == ["annotations.xml"]
    assert sound(cvat, tmp_path, "annotations.xml") == {
        "images/frame_000010.png": [CAT],
        "images/frame_000013.png": [("cat", [5, 5, 9, 9]), ("dog", [1, 2, 11, 22])],
        "images/frame_000016.png": [],
        "images/frame_000019.png": [],
    }


def test_frames_between_key_frames_are_of_no_use(tmp_path, caplog):
    """Where an object goes between them is not in the file: its frames are not without objects."""
    frames(tmp_path, 0, 1, 2, 3, 4, 5)
    export(tmp_path, track(at(1), at(3), at(4, outside=1)), track(at(2), at(3, outside=1)))
    found = sound(cvat, tmp_path, "annotations.xml")
    assert [name[-5] for name in found] == ["1", "3", "4"]
    assert "between key frames, export them all: 1" in warnings(caplog)[0]


def test_frames_that_are_missing_or_two(tmp_path):
    frames(tmp_path, 1, 2)
    picture(tmp_path / "images/b2.jpg")
    export(tmp_path, track(at(1)), track(at(2)), track(at(3), at("x")), track(at(1, kind="points")))
    labelled, faults = read(cvat, tmp_path, "annotations.xml")
    assert boxes(labelled, tmp_path) == {"images/frame_000001.png": [CAT]}
    assert "has the frame 'x'" in faults[0]
    assert "frame 2 may be 'images/b2.jpg' or 'images/frame_000002.png'" in faults[1]
    assert "frame_000003.png: image file not found, named by" in faults[2]


def test_frames_of_several_videos(tmp_path):
    frames(tmp_path, 1)
    export(tmp_path, *(track(at(1), more=f'task_id="{task}"') for task in "12"))
    assert "several videos; export each task by itself" in refused(
        cvat, tmp_path, "annotations.xml"
    )


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (BOX.replace("1.00", "one", 1), "'a.png': a <box> has xtl='one', ytl="),
        (BOX.replace('xtl="1.00"', ""), "xtl=None"),
        (BOX.replace("cat", ""), "a <box> has no label"),
        (BOX.replace("cat", "cow"), "unknown class 'cow'"),
        ('<polygon label="cat" points="1,2;3,4"/>', "a polygon has points '1,2;3,4'"),
        ('<polygon label="cat" points="1,2;3,4;5"/>', "not three or more x,y"),
        ('<polygon label="cat"/>', "a polygon has points ''"),
        ('<ellipse label="cat" cx="1" cy="2" rx="3"/>', "ry=None"),
    ],
)
def test_a_wrong_shape_is_left_out_alone(root, wrong, why):
    export(root, image("a.png", wrong, BOX))
    labelled, faults = read(cvat, root, "annotations.xml")
    assert boxes(labelled, root) == {"images/a.png": [CAT]}
    assert len(faults) == 1 and why in faults[0] and "annotations.xml" in faults[0]


def test_one_cause_in_many_images_is_one_line(tmp_path):
    names = [f"{letter}.png" for letter in "abcdefghij"]
    for name in names:
        picture(tmp_path / f"images/{name}")
    export(tmp_path, *(image(name, BOX.replace('xtl="1.00"', "")) for name in names))
    faults = []
    cvat.read(Files(tmp_path), "annotations.xml", None, faults)
    (line,) = by_cause(faults)
    assert "'a.png': a <box> has xtl=None" in line and line.endswith("(and 9 more like this)")


def test_a_wrong_image_is_left_out_alone(root):
    names = ["a.png", "c.png", "../../b.txt", ""]
    export(root, *(image(name, BOX) for name in names))
    labelled, faults = read(cvat, root, "annotations.xml")
    assert boxes(labelled, root) == {"images/a.png": [CAT]}
    assert "an <image> has no name" in faults[0] and "c.png: image file not found" in faults[1]
    assert "leads out" in faults[2] and len(faults) == 3


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<annotations><image", "not readable as XML"),
        ("", "not readable as XML"),
        ("<annotation><object/></annotation>", "<annotation> instead of <annotations>"),
        (BOMB, "refused, for it declares entities"),
        ('<?xml version="1.0" encoding="x"?><annotations/>', "not readable as XML"),
    ],
)
def test_what_is_not_cvat(root, text, why):
    write(root / "annotations.xml", text)
    assert why in refused(cvat, root, "annotations.xml")
    assert parts(cvat, root) == []
    assert "annotation file not found" in refused(cvat, root, "../x.xml/Train")
