"""Single boxes of CVAT's files changed: read again, they and no others are other ones."""

from xml.etree.ElementTree import fromstring

import pytest

from detcenter.data.errors import DataError
from detcenter.data.layouts import cvat
from detcenter.data.layouts.corrected.changes import Changed, Correction, NotThere
from detcenter.data.layouts.corrected.cvat import corrected
from detcenter.data.layouts.cvat_xml import read_tree
from detcenter.data.layouts.files import Files
from tests.data.layouts import picture
from tests.data.reading import boxes, read, sound, write

LABELS = "".join(f"<label><name>{name}</name></label>" for name in ("cat", "dog"))
SIZE = 'width="40" height="30"'
BOX = '<box label="cat" source="file" occluded="1" xtl="1" ytl="2" xbr="11" ybr="22" z_order="3"><attribute name="hurt">no</attribute></box>'  # noqa: E501
CAT = ("cat", [1, 2, 11, 22])
ATTRIBUTES = {"label": "cat", "source": "file", "occluded": "1", "z_order": "3"}


def export(root, *inside, meta=""):
    meta = f"<meta><task>{meta}<labels>{LABELS}</labels></task><dumped>today</dumped></meta>"
    write(root / "annotations.xml", f"<annotations>{meta}{''.join(inside)}</annotations>")


def image(name, *shapes, more=""):
    return f'<image id="0" name="{name}" {SIZE} {more}>{"".join(shapes)}</image>'


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"images/{name}.png")
    return tmp_path


def apply(root, changes, part="annotations.xml"):
    """The tree that is written, and what is read of it.

    Args:
        changes: corrections by the names of images below `images`; they change the file.
    """
    labelled, _ = read(cvat, root, part)
    by_name = {a["path"].relative_to(root / "images").as_posix(): a for a in labelled.annotations}
    changed = [Changed(by_name[name], part, of) for name, of in changes.items()]
    ((name, content),) = corrected(Files(root), changed).items()
    assert name == "annotations.xml"
    (root / name).write_bytes(content)
    return fromstring(content), sound(cvat, root, part)


def move(box, new, label="cat", new_label=None):
    return Correction(box, label, new, new_label or label)


def relabel(box, label="cat", new_label="dog"):
    return Correction(box, label, box, new_label)


def remove(box, label="cat"):
    return Correction(box, label, None, None)


def add(box, label="dog"):
    return Correction(None, None, box, label)


SHAPES = {
    "box": (BOX, [1, 2, 11, 22]),
    "turned": (BOX.replace("<box", '<box rotation="90.0"'), [0, 7, 16, 17]),
    "polygon": ('<polygon label="cat" source="file" points="5,1.5;9.5,8;2,6"/>', [2, 1.5, 9.5, 8]),
    "ellipse": ('<ellipse label="cat" cx="20" cy="15" rx="10" ry="5"/>', [10, 10, 30, 20]),
    "mask": (
        '<mask label="cat" rle="3,5" left="2" top="3" width="10" height="6"/>',
        [2, 3, 12, 9],
    ),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_another_class_and_the_same_shape(root, kind):
    text, box = SHAPES[kind]
    points = '<points label="cat" points="1,2"/>'
    export(root, image("a.png", points, text), image("b.png", BOX))
    tree, found = apply(root, {"a.png": [relabel(box)]})
    first, shape = tree.find("image")
    given = fromstring(text)
    assert shape.attrib == given.attrib | {"label": "dog"} and shape.tag == given.tag
    assert [a.text for a in shape] == [a.text for a in given]
    assert first.attrib == {"label": "cat", "points": "1,2"} and tree.findtext(".//dumped")
    assert found["images/a.png"][0][0] == "dog" and found["images/b.png"] == [CAT]


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_that_is_moved_is_a_box(root, kind):
    text, box = SHAPES[kind]
    export(root, image("a.png", text, BOX))
    tree, found = apply(root, {"a.png": [move(box, [3.126, 4, 39.5, 30])]})
    shape = tree.find("image")[0]
    attributes = {k: v for k, v in fromstring(text).attrib.items() if k in ATTRIBUTES}
    corners = {"xtl": "3.13", "ytl": "4.00", "xbr": "39.50", "ybr": "30.00"}
    assert shape.tag == "box" and shape.attrib == attributes | corners
    assert len(shape) == len(fromstring(text))
    assert found == {"images/a.png": [("cat", [3.13, 4, 39.5, 30]), CAT]}


def test_removed_and_added(root):
    second = BOX.replace("11", "9")
    export(root, image("a.png", BOX, second), image("b.png"))
    changes = {
        "a.png": [remove([1, 2, 9, 22]), add([0, 0, 5, 5.25])],
        "b.png": [add([1, 1, 40, 30])],
    }
    tree, found = apply(root, changes)
    assert found == {
        "images/a.png": [CAT, ("dog", [0, 0, 5, 5.25])],
        "images/b.png": [("dog", [1, 1, 40, 30])],
    }
    new = tree.findall("image")[1][0]
    flags = {"label": "dog", "source": "manual", "occluded": "0", "z_order": "0"}
    assert new.attrib == flags | {"xtl": "1.00", "ytl": "1.00", "xbr": "40.00", "ybr": "30.00"}


def test_of_two_equal_boxes_one_is_removed(root):
    export(root, image("a.png", BOX, BOX))
    assert apply(root, {"a.png": [remove(CAT[1])]})[1] == {"images/a.png": [CAT]}


def test_a_box_that_is_not_there(root):
    export(root, image("a.png", BOX))
    with pytest.raises(NotThere, match="of class 'dog'"):
        apply(root, {"a.png": [remove(CAT[1], "dog")]})


def test_what_is_wrong_in_the_file_stays(root):
    wrong = '<box label="cat" xtl="one"/>'
    export(root, image("a.png", wrong, BOX), image("gone.png", BOX), image("", BOX))
    labelled, _ = read(cvat, root, "annotations.xml")
    changes = [Changed(labelled.annotations[0], "annotations.xml", [relabel(CAT[1])])]
    (content,) = corrected(Files(root), changes).values()
    tree = fromstring(content)
    assert [s.get("label") for s in tree.iter("box")] == ["cat", "dog", "cat", "cat"]
    assert tree.find("image")[0].attrib == {"label": "cat", "xtl": "one"}


def test_the_image_of_a_subset(tmp_path):
    subsets = ("Train", "Test")
    for subset in subsets:
        picture(tmp_path / f"images/{subset}/1.png")
    export(tmp_path, *(image("1.png", BOX, more=f'subset="{subset}"') for subset in subsets))
    _, found = apply(tmp_path, {"Test/1.png": [relabel(CAT[1])]}, "annotations.xml/Test")
    assert found == {"images/Test/1.png": [("dog", CAT[1])]}
    assert sound(cvat, tmp_path, "annotations.xml/Train") == {"images/Train/1.png": [CAT]}


def test_two_parts_of_one_file(tmp_path):
    subsets = ("Train", "Test")
    for subset in subsets:
        picture(tmp_path / f"images/{subset}/1.png")
    export(tmp_path, *(image("1.png", BOX, more=f'subset="{subset}"') for subset in subsets))
    changed = []
    for subset, change in zip(subsets, (remove(CAT[1]), relabel(CAT[1])), strict=True):
        part = f"annotations.xml/{subset}"
        labelled, _ = read(cvat, tmp_path, part)
        changed.append(Changed(labelled.annotations[0], part, [change]))
    (content,) = corrected(Files(tmp_path), changed).values()
    (tmp_path / "annotations.xml").write_bytes(content)
    found = sound(cvat, tmp_path, "annotations.xml")
    assert found == {"images/Train/1.png": [], "images/Test/1.png": [("dog", CAT[1])]}


VIDEO = (
    "<start_frame>10</start_frame><stop_frame>19</stop_frame><frame_filter>step=3</frame_filter>"
    "<original_size><width>40</width><height>30</height></original_size>"
)
FRAMES = (10, 13, 16, 19)


def at(frame, box=CAT[1], outside=0, keyframe=0):
    x1, y1, x2, y2 = box
    corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
    flags = f'outside="{outside}" occluded="1" keyframe="{keyframe}"'
    return f'<box frame="{frame}" {flags} {corners}><attribute name="hurt">no</attribute></box>'


def polygon(frame, outside=0):
    flags = f'outside="{outside}" keyframe="{int(frame == 10 or outside)}"'
    return f'<polygon frame="{frame}" {flags} points="5,1;9,8;2,6"/>'


def track(*shapes, label="cat", number=4):
    return f'<track id="{number}" label="{label}" source="file">{"".join(shapes)}</track>'


@pytest.fixture
def video(tmp_path):
    """A box in all four frames; a polygon in the first three."""
    for number in FRAMES:
        picture(tmp_path / f"images/frame_{number:06}.png")
    boxes_of = [at(number, keyframe=int(number == 10)) for number in FRAMES]
    others = [*map(polygon, FRAMES[:3]), polygon(19, outside=1)]
    export(tmp_path, track(*boxes_of), track(*others, label="dog", number=7), meta=VIDEO)
    return tmp_path


def name(number):
    return f"frame_{number:06}.png"


DOG = ("dog", [2, 1, 9, 8])
NEW = [20, 10, 30.5, 20]
IN_VIDEO = {
    "removed": (remove(CAT[1]), [DOG]),
    "moved": (move(CAT[1], NEW), [("cat", NEW), DOG]),
    "other class": (relabel(CAT[1]), [("dog", CAT[1]), DOG]),
    "both": (move(CAT[1], NEW, new_label="dog"), [("dog", NEW), DOG]),
    "added": (add(NEW, "cat"), [CAT, ("cat", NEW), DOG]),
    "polygon removed": (remove(DOG[1], "dog"), [CAT]),
    "polygon moved": (move(DOG[1], NEW, "dog"), [CAT, ("dog", NEW)]),
    "polygon, other class": (relabel(DOG[1], "dog", "cat"), [CAT, ("cat", DOG[1])]),
}


@pytest.mark.parametrize("kind", IN_VIDEO)
@pytest.mark.parametrize("number", FRAMES)
def test_one_frame_of_a_video(video, number, kind):
    change, expected = IN_VIDEO[kind]
    before = sound(cvat, video, "annotations.xml")
    if number == 19 and kind.startswith("polygon"):
        return  # it is out of sight
    tree, found = apply(video, {name(number): [change]})
    for frame in FRAMES:
        rows = found.pop(f"images/{name(frame)}")
        if frame == number:
            assert sorted(rows) == sorted(r for r in expected if number < 19 or r != DOG)
        else:
            assert rows == before[f"images/{name(frame)}"]
    assert found == {} and len({t.get("id") for t in tree.iter("track")}) == len(tree) - 1
    for of in tree.iter("track"):  # CVAT reads no others
        assert len({shape.tag for shape in of}) == 1


@pytest.mark.parametrize("kind", IN_VIDEO)
@pytest.mark.parametrize("number", FRAMES)
def test_cvat_sees_the_same(video, number, kind):
    """It imports key frames alone, and puts between them what was there, or what is in between."""
    change, _ = IN_VIDEO[kind]
    if number == 19 and kind.startswith("polygon"):
        return
    tree, found = apply(video, {name(number): [change]})
    assert {f"images/{name(n)}": sorted(imported(tree, n)) for n in FRAMES} == {
        image: sorted(rows) for image, rows in found.items()
    }


def imported(tree, number):
    """What CVAT's import makes of a frame: after `get_interpolated_shapes` of its TrackManager."""
    for of in tree.iter("track"):
        keys = {int(s.get("frame")): s for s in of if s.get("keyframe") == "1"}
        before = max((frame for frame in keys if frame <= number), default=None)
        if before is None or keys[before].get("outside") == "1":
            continue
        behind = min((frame for frame in keys if frame >= number), default=before)
        part = (number - before) / max(behind - before, 1)
        ends = zip(corners_of(keys[before]), corners_of(keys[behind]), strict=True)
        yield of.get("label"), [start + part * (end - start) for start, end in ends]


def corners_of(shape):
    if shape.tag == "polygon":  # the same in all frames
        return DOG[1]
    return [float(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]


def test_tracks_of_a_single_frame(video):
    tree, _ = apply(video, {name(13): [relabel(CAT[1]), add(NEW)], name(19): [relabel(CAT[1])]})
    _, _, own, new, last = tree.iter("track")
    assert own.attrib == {"id": "8", "label": "dog", "source": "file"}
    assert new.attrib == {"id": "9", "label": "dog", "source": "manual"}
    assert last.get("id") == "10" and [s.get("frame") for s in last] == ["19"]
    for of in (own, new):
        states = [[s.get(key) for key in ("frame", "outside", "keyframe")] for s in of]
        assert states == [["13", "0", "1"], ["16", "1", "1"]]
    assert own[0].get("occluded") == "1" and own[0].findtext("attribute") == "no"
    assert new[0].get("occluded") == "0" and new[0].get("z_order") == "0"


def test_all_frames_of_a_track(video):
    _, found = apply(video, {name(number): [relabel(CAT[1])] for number in FRAMES})
    rows = [row for of in found.values() for row in of]
    assert ("cat" not in {label for label, _ in rows}) and len(rows) == 7


def test_a_task_of_a_project(video):
    file = video / "annotations.xml"
    text = file.read_text().replace("<track", '<track task_id="5" subset="Train"')
    file.write_text(text)
    tree, found = apply(video, {name(10): [add(NEW)]}, "annotations.xml/Train")
    assert [*tree.iter("track")][-1].attrib == {
        "task_id": "5",
        "subset": "Train",
        "id": "8",
        "label": "dog",
        "source": "manual",
    }
    assert ("dog", NEW) in found[f"images/{name(10)}"]


def test_frames_between_keys_do_not_lose_a_box(tmp_path):
    for number in FRAMES:
        picture(tmp_path / f"images/frame_{number:06}.png")
    export(tmp_path, track(at(10), at(13), at(19)), meta=VIDEO)
    before = sound(cvat, tmp_path, "annotations.xml")
    assert [*before] == [f"images/{name(n)}" for n in (10, 13, 19)]
    for change in (remove(CAT[1]), relabel(CAT[1])):
        with pytest.raises(DataError, match="frame 13: the next shape is of frame 19"):
            apply(tmp_path, {name(13): [change]})
    _, found = apply(tmp_path, {name(13): [move(CAT[1], NEW)], name(19): [remove(CAT[1])]})
    assert found == before | {f"images/{name(13)}": [("cat", NEW)], f"images/{name(19)}": []}


def test_entities_are_refused(root):
    export(root, image("a.png", BOX))
    labelled, _ = read(cvat, root, "annotations.xml")
    file = root / "annotations.xml"
    bomb = '<!DOCTYPE annotations [<!ENTITY a "aaaa">]>'
    file.write_text(bomb + file.read_text())
    changed = [Changed(labelled.annotations[0], "annotations.xml", [remove(CAT[1])])]
    for refused in (lambda: corrected(Files(root), changed), lambda: read_tree(file)):
        with pytest.raises(DataError, match="declares entities"):
            refused()


def test_signs_outside_of_ascii_and_markup(root):
    export(root, image("a.png", BOX.replace("no<", "größer &lt; 1 &amp; 2<")))
    tree, found = apply(root, {"a.png": [move(CAT[1], NEW)]})
    assert tree.findtext(".//attribute") == "größer < 1 & 2"
    assert boxes(read(cvat, root, "annotations.xml")[0], root) == found
