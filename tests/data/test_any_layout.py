"""Any input for the readers of layouts: a sound data set or an error of one line."""

import json
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detcenter.data.dataset import DetectionDataset
from detcenter.data.errors import DataError
from detcenter.data.layouts import cvat, label_studio, labelme, table, yolo
from detcenter.data.layouts.files import Files
from tests.data.layouts import picture
from tests.data.test_any_input import anything, check_sound, names, numbers, records, text

EXAMPLES = settings(deadline=None, max_examples=60, derandomize=True)

LAYOUTS = {
    cvat: "annotations.xml",
    label_studio: "export.json",
    labelme: "labels",
    table: "table.csv",
    yolo: "train",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images a and b, and room for a file of annotations of each layout."""
    root = tmp_path_factory.mktemp("any")
    for name in "ab":
        picture(root / f"images/{name}.png")
    return root


def written(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    return path


def read(layout, root, path):
    """What the reader makes of the one file of annotations, which is taken away again."""
    try:
        files = Files(root)
        parts = layout.find_parts(files)
        assert all(isinstance(part, str) for part in parts)
        faults = []
        try:
            labelled = layout.read(files, LAYOUTS[layout], None, faults)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
            return None
        dataset = DetectionDataset(labelled.annotations, labelled.classes)
        check_sound(dataset, faults)
        paths = [annotation["path"] for annotation in dataset.annotations]
        assert len({*paths}) == len(paths)
        assert all(path.is_relative_to(root) for path in paths)
        return {a["path"].name: a["boxes"].tolist() for a in dataset.annotations}
    finally:
        path.unlink()


FILES = {
    cvat: "annotations.xml",
    label_studio: "export.json",
    labelme: "labels/a.json",
    table: "table.csv",
    yolo: "data.yaml",
}


@EXAMPLES
@given(
    layout=st.sampled_from([*FILES]),
    content=st.one_of(st.binary(max_size=60), text, anything.map(json.dumps)),
)
def test_any_bytes(root, layout, content):
    read(layout, root, written(root / FILES[layout], content))


@EXAMPLES
@given(
    content=st.fixed_dictionaries(
        {},
        optional={
            "path": st.one_of(names, anything),
            "train": st.one_of(st.sampled_from(["images", "../images", "/x/images"]), anything),
            "val": anything,
            "names": st.one_of(st.just(["cat"]), anything),
            "nc": anything,
            "kpt_shape": anything,
        },
    ),
    lines=st.one_of(text, st.lists(st.lists(numbers, max_size=8), max_size=4)),
)
def test_any_yaml_and_labels(root, content, lines):
    rows = lines if isinstance(lines, str) else "\n".join(" ".join(map(str, r)) for r in lines)
    label = written(root / "labels/a.txt", "0 0.5 0.5 0.5 0.5\n" + rows)
    found = read(yolo, root, written(root / "data.yaml", json.dumps(content)))
    label.unlink()
    if found is not None:
        assert "b.png" in found and [10, 7.5, 30, 22.5] in found["a.png"]


@EXAMPLES
@given(lines=st.lists(st.one_of(names, st.sampled_from(["images/a.png", "x/a.png"])), max_size=6))
def test_any_list_of_images(root, lines):
    listed = written(root / "train.txt", "images/b.png\n" + "\n".join(lines))
    label = written(root / "images/b.txt", "0 0.5 0.5 0.5 0.5")
    found = read(yolo, root, written(root / "data.yaml", "train: train.txt\nnc: 1\n"))
    for path in (listed, label):
        path.unlink()
    assert found is not None and "b.png" in found


cells = st.one_of(names, numbers.map(str))


@EXAMPLES
@given(rows=st.lists(st.lists(cells, max_size=7), max_size=5))
def test_any_table(root, rows):
    rows = ["image,class,xmin,ymin,xmax,ymax,width", "b.png,cat,1,2,11,22,40"] + [
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
    ]
    found = read(table, root, written(root / "table.csv", "\n".join(rows)))
    assert found is not None and [1, 2, 11, 22] in found["b.png"]


points = st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=4)
kinds = st.sampled_from(["rectangle", "polygon", "circle", "mask", None, "line"])


@EXAMPLES
@given(
    shapes=records(label=names, points=points, shape_type=kinds),
    others=st.fixed_dictionaries(
        {}, optional={"imagePath": names, "imageHeight": numbers, "imageData": anything}
    ),
)
def test_any_labelme(root, shapes, others):
    sound = {"label": "cat", "points": [[1, 2], [11, 22]], "shape_type": "rectangle"}
    content = {"shapes": [*shapes, sound], "imagePath": "a.png"} | others
    found = read(labelme, root, written(root / "labels/a.json", json.dumps(content)))
    assert found is not None and [1, 2, 11, 22] in found["a.png"]


regions = st.fixed_dictionaries(
    {},
    optional={
        **{key: numbers for key in ("x", "y", "width", "height", "rotation", "radiusX", "radiusY")},
        "points": st.one_of(points, anything),
        "rectanglelabels": st.one_of(st.lists(text, max_size=2), anything),
        "labels": anything,
    },
)
results = records(
    id=st.integers(0, 3), value=regions, type=text, original_width=numbers, original_height=numbers
)
annotations = records(result=results, was_cancelled=st.booleans())
tasks = records(
    id=st.integers(2, 4),
    data=st.fixed_dictionaries({"image": names}),
    annotations=annotations,
    annotation_id=st.integers(0, 3),
    label=st.lists(regions, max_size=3),
    image=names,
)


@EXAMPLES
@given(tasks=tasks)
def test_any_export_of_label_studio(root, tasks):
    value = {"x": 50, "y": 50, "width": 25, "height": 50, "rectanglelabels": ["cat"]}
    sound = {"id": "w", "value": value, "original_width": 40, "original_height": 30}
    task = {"id": 1, "data": {"image": "b.png"}, "annotations": [{"result": [sound]}]}
    found = read(label_studio, root, written(root / "export.json", json.dumps([*tasks, task])))
    assert found is not None and found.get("b.png", [[20, 15, 30, 30]]) == [[20, 15, 30, 30]]


def attribute(key, value):
    return f"{key}={quoteattr(''.join(c for c in str(value) if c.isprintable()))}"


KEYS = ("label", "xtl", "ytl", "xbr", "ybr", "points", "cx", "cy", "rx", "ry", "rotation", "frame")
pairs = points.map(lambda pairs: ";".join(f"{x},{y}" for x, y in pairs))
values = st.one_of(numbers, numbers, text, pairs, st.integers(0, 3))
shapes = st.tuples(
    st.sampled_from(["box", "polygon", "ellipse", "mask", "points", "other"]),
    st.dictionaries(st.sampled_from([*KEYS, "left", "top", "width", "height", "outside"]), values),
)
images = st.tuples(
    st.sampled_from(["image", "image", "track", "meta", "other"]),
    st.dictionaries(st.sampled_from(["name", "width", "height", "subset", "label"]), names),
    st.lists(shapes, max_size=4),
)


@EXAMPLES
@given(images=st.lists(images, max_size=5))
def test_any_file_of_cvat(root, images):
    def element(tag, attributes, inside=""):
        given = " ".join(attribute(*item) for item in attributes.items())
        return f"<{tag} {given}>{inside}</{tag}>"

    drawn = [element(t, a, "".join(element(*s) for s in shapes)) for t, a, shapes in images]
    box = element("box", dict(zip(KEYS, ("cat", 1, 2, 11, 22), strict=False)))
    drawn.append(element("image", {"name": "images/b.png"}, box))
    content = f"<annotations>{''.join(drawn)}</annotations>"
    read(cvat, root, written(root / "annotations.xml", content))
