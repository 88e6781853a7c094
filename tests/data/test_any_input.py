"""Any input: a clear error or a sound data set, and nothing that is sound is lost."""

import json
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detcenter.data import COCODataset, DataError, Fault, VOCDataset, read_image
from tests.data.layouts import OBJECT, Coco, Voc

EXAMPLES = settings(deadline=None, max_examples=120, derandomize=True)

numbers = st.one_of(
    st.integers(-3, 50),
    st.integers(),
    st.just(10**40),
    st.floats(-5, 60),
    st.floats(),
)
text = st.text(st.characters(), max_size=12)
names = st.one_of(
    text, st.sampled_from(["a.png", "../a.png", r"x\a.png", "/etc/passwd", "a\0", ""])
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, text),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)
known_ids = st.integers(100, 103)


def records(**fields):
    """Objects with these fields, each of which may be missing or anything."""
    optional = {key: st.one_of(value, value, anything) for key, value in fields.items()}
    record = st.fixed_dictionaries({}, optional=optional)
    return st.lists(st.one_of(record, record, record, anything), max_size=6)


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return Coco(tmp_path_factory.mktemp("any") / "coco")


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return Voc(tmp_path_factory.mktemp("any") / "voc")


def check_sound(dataset, faults):
    for annotation in dataset.annotations:
        boxes, (width, height) = annotation["boxes"], (annotation["width"], annotation["height"])
        assert boxes.dtype == np.float64 and np.isfinite(boxes).all()
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert ((annotation["labels"] >= 1) & (annotation["labels"] <= len(dataset.classes))).all()
        assert len({len(annotation[key]) for key in ("boxes", "labels", "iscrowd", "area")}) == 1
        assert np.isfinite(annotation["area"]).all()
        assert annotation["path"].is_file()
    for fault in faults:
        assert isinstance(fault, Fault) and len(str(fault).splitlines()) == 1
    if len(dataset):
        dataset[0]


def read(reader, *args):
    """What a reader leaves out is what it raises without a list to take it."""
    faults = []
    try:
        dataset = reader(*args, faults=faults)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
        return None
    check_sound(dataset, faults)
    if faults:
        with pytest.raises(DataError):
            reader(*args)
    else:
        reader(*args)
    return dataset


@EXAMPLES
@given(
    content=st.one_of(
        anything,
        st.fixed_dictionaries({key: anything for key in ("images", "annotations", "categories")}),
    )
)
def test_any_json(coco, content):
    coco.file.write_text(json.dumps(content))
    read(COCODataset, coco.root / "images", coco.file)


@EXAMPLES
@given(
    images=records(
        id=known_ids, file_name=names, width=st.one_of(st.just(40), numbers), height=numbers
    ),
    boxes=records(
        id=st.integers(0, 5),
        image_id=st.one_of(known_ids, st.integers(1, 4)),
        category_id=st.integers(4, 6),
        bbox=st.lists(numbers, min_size=4, max_size=4),
        area=numbers,
        iscrowd=st.integers(0, 1),
    ),
    order=st.randoms(use_true_random=False),
)
def test_sound_records_of_json_are_never_lost(coco, images, boxes, order):
    # Those of the layout: images 1, 2 and 3, which nothing drawn calls itself.
    images = [row for row in images if not (isinstance(row, dict) and row.get("id") in (1, 2, 3))]
    images, boxes = coco.images + images, coco.boxes + boxes
    order.shuffle(images)
    order.shuffle(boxes)
    coco.write(images=images, annotations=boxes)
    dataset = read(COCODataset, coco.root / "images", coco.file)
    by_id = {annotation["image_id"]: annotation for annotation in dataset.annotations}
    for image in coco.images:
        assert [1, 2, 11, 22] in by_id[image["id"]]["boxes"].tolist()


@EXAMPLES
@given(content=st.one_of(st.binary(max_size=60), text.map(str.encode)))
def test_any_bytes_for_xml_and_json(coco, voc, content):
    coco.file.write_bytes(content)
    read(COCODataset, coco.root / "images", coco.file)
    voc.xml("b").write_bytes(content)
    dataset = read(VOCDataset, voc.root, "list")
    assert {"a", "c"} <= {annotation["path"].stem for annotation in dataset.annotations}


written = st.one_of(numbers.map(str), st.sampled_from(["", "nan", "1e999", "1_0", " 7 "]), text)
inside = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12)


@EXAMPLES
@given(
    objects=st.lists(st.tuples(st.sampled_from(["cat", "cow", ""]), *[written] * 4), max_size=5),
    size=st.tuples(written, written),
    filename=names,
    order=st.randoms(use_true_random=False),
)
def test_sound_objects_of_xml_are_never_lost(voc, objects, size, filename, order):
    elements = [OBJECT.format(*map(as_xml, fields)) for fields in objects]
    elements.append(OBJECT.format("cat", 2, 3, 11, 22))
    order.shuffle(elements)
    width, height = map(as_xml, size)
    voc.xml("b").write_text(
        f"<annotation><filename>{as_xml(filename)}</filename><size><width>{width}</width>"
        f"<height>{height}</height></size>{''.join(elements)}</annotation>",
        encoding="utf-8",
    )
    dataset = read(VOCDataset, voc.root, "list", ["cat"])
    b = next(a for a in dataset.annotations if a["path"].stem == "b")
    if (b["width"], b["height"]) == (40, 30):  # as annotated, if no box reaches out of that
        assert [1, 2, 11, 22] in b["boxes"].tolist()


def as_xml(value):
    """What XML can hold of a text."""
    return escape("".join(c for c in str(value) if c.isprintable()))


@EXAMPLES
@given(names=st.lists(st.one_of(names, st.sampled_from(["a", "b 1", "b -1", "./c"])), max_size=6))
def test_any_image_set(voc, names):
    voc.xml("b").write_text(voc.xml("a").read_text())
    with voc.list.open("w", encoding="utf-8", errors="replace") as file:
        file.write("\n".join(names))
    read(VOCDataset, voc.root, "list", ["cat"])
    voc.write()


@EXAMPLES
@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 200))
def test_any_bytes_for_an_image(voc, content, kind, at):
    path = voc.root / "any"
    start = (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff", b"II*\0", b"GIF89a")[kind]
    whole = voc.image("a").read_bytes()
    for spoilt in (start + content, whole[:at] + content[:3] + whole[at + 3 :]):
        path.write_bytes(spoilt)
        try:
            assert read_image(path).ndim == 3
        except DataError as error:
            assert len(str(error).splitlines()) == 1
