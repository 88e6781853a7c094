"""Single boxes of Label Studio's exports changed: what else changes, and what does not."""

import json

import pytest

from detcenter.data.dataset import clean_annotations
from detcenter.data.layouts import label_studio
from detcenter.data.layouts.corrected.changes import Changed, Correction, NotThere
from detcenter.data.layouts.corrected.label_studio import corrected
from detcenter.data.layouts.files import Files
from tests.data.layouts import picture
from tests.data.reading import boxes, read, sound
from tests.data.test_label_studio import drawn, region, task

CAT, DOG = ("cat", [4.0, 6.0, 16.0, 18.0]), ("dog", [20.0, 3.0, 30.0, 15.0])
SIZE = {"original_width": 40, "original_height": 30}
RECTANGLE = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
NEW = [2.0, 3.0, 12.0, 27.0]
NEW_PERCENT = {"x": 5.0, "y": 10.0, "width": 25.0, "height": 80.0, "rotation": 0}


def dog(**others):
    return region(50, 10, 25, 40, label="dog") | {"id": "r2"} | others


def change(box, label=None, new_label=None, new_box=None):
    """Of a box, as (class, corners)."""
    name, corners = box
    return Correction(corners, name, new_box or corners, label or new_label or name)


def remove(box):
    return Correction(box[1], box[0], None, None)


def add(box):
    return Correction(None, None, box[1], box[0])


def changed(root, tasks, *corrections, image="a.jpg", part="p.json"):
    """The export with an image of it corrected, after it was read; and the boxes in it."""
    if not (root / "a.jpg").exists():
        picture(root / "a.jpg")
    (root / "p.json").write_text(json.dumps(tasks))
    labelled, _ = read(label_studio, root, "p.json")
    annotations, _ = clean_annotations(labelled.annotations)
    (annotation,) = [a for a in annotations if a["path"].name == image]
    made = corrected(Files(root), [Changed(annotation, part, corrections)])
    assert [*made] == ["p.json"]
    (root / "p.json").write_bytes(made["p.json"])
    return json.loads(made["p.json"]), sound(label_studio, root, "p.json")


def results(*all_of, **others):
    return [task(drawn(*all_of, **others), image="a.jpg")]


def result_of(content):
    return content[0]["annotations"][0]["result"]


def test_another_class_and_nothing_else(tmp_path):
    tasks = results(region(score=0.5, own="x"), dog(), {"from_id": "r1", "type": "relation"})
    tasks += [task(image="gone.jpg", own=[1]), {"id": 7, "data": {"image": "a"}}]
    content, found = changed(tmp_path, tasks, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1]), DOG]}
    result_of(tasks)[0]["value"]["rectanglelabels"] = ["cow"]
    assert content == tasks


@pytest.mark.parametrize("kind", ["polygonlabels", "ellipselabels", "labels", "rectanglelabels"])
def test_another_class_of_every_shape(tmp_path, kind):
    shapes = {
        "polygonlabels": {"points": [[10, 20], [40, 20], [40, 60]], "closed": True},
        "ellipselabels": {"x": 25, "y": 40, "radiusX": 15, "radiusY": 20, "rotation": 0},
    }
    value = shapes.get(kind, RECTANGLE)
    own = {"type": kind, "from_name": "own", "to_name": "img", "value": value | {kind: ["cat"]}}
    tasks = results(region() | own, dog())
    content, found = changed(tmp_path, tasks, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1]), DOG]}
    result_of(tasks)[0]["value"][kind] = ["cow"]
    assert content == tasks


def test_one_of_several_labels(tmp_path):
    both = region()
    both["value"]["rectanglelabels"] = ["cat", " pet ", "cat"]
    content, found = changed(tmp_path, results(both), change(("pet", CAT[1]), "cow"))
    assert found == {"a.jpg": [CAT, ("cow", CAT[1]), CAT]}
    twice = [remove(CAT), change(CAT, "dog")]
    content, found = changed(tmp_path, results(both), *twice)
    assert found == {"a.jpg": [("pet", CAT[1]), ("dog", CAT[1])]}
    assert result_of(content)[0]["value"]["rectanglelabels"] == [" pet ", "dog"]


@pytest.mark.parametrize("order", [1, -1])
def test_shape_and_labels_of_one_id(tmp_path, order):
    of = {"id": "r", "to_name": "img", **SIZE}
    shape = of | {"type": "polygon", "from_name": "shape"}
    shape |= {"value": {"points": [[10, 20], [40, 20], [40, 60]]}}
    labels = of | {"type": "labels", "from_name": "tag", "value": {"labels": ["cat"]}}
    choice = of | {"type": "choices", "value": {"choices": ["x"], **shape["value"]}}
    relation = {"from_id": "r", "to_id": "r2", "type": "relation"}
    tasks = results(*[shape, labels, choice][::order], dog(), relation)
    content, found = changed(tmp_path, tasks, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1]), DOG]}
    assert labels | {"value": {"labels": ["cow"]}} in result_of(content)
    content, found = changed(tmp_path, tasks, change(CAT, new_box=NEW))
    assert found == {"a.jpg": [("cat", NEW), DOG]}
    approx = pytest.approx(NEW_PERCENT)
    by_type = {r["type"]: r for r in result_of(content)}
    assert by_type["rectangle"] == shape | {"type": "rectangle", "value": approx}
    assert by_type["labels"] == labels
    assert by_type["choices"]["value"].pop("choices") == ["x"]
    assert by_type["choices"]["value"] == approx and by_type["relation"] == relation
    content, found = changed(tmp_path, tasks, remove(CAT))
    assert found == {"a.jpg": [DOG]} and result_of(content) == [dog()]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("polygonlabels", {"points": [[10, 20], [40, 20], [40, 60]], "closed": True}),
        ("ellipselabels", {"x": 25, "y": 40, "radiusX": 15, "radiusY": 20, "rotation": 0}),
        ("rectanglelabels", {"x": 40, "y": 20, "width": 30, "height": 30, "rotation": 90}),
    ],
)
def test_moved_regions_are_upright_rectangles(tmp_path, kind, shape):
    own = {"type": kind, "from_name": "own", "to_name": "img", "meta": {"text": ["x"]}}
    first = region() | own | {"value": shape | {kind: ["cat"]}}
    tasks = results(dog(from_name="box"), first)
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    picture(tmp_path / "a.jpg")
    before = sound(label_studio, tmp_path, "p.json")["a.jpg"][1]
    content, found = changed(tmp_path, tasks, change(before, "cow", new_box=NEW))
    assert found == {"a.jpg": [DOG, ("cow", NEW)]}
    value = pytest.approx(NEW_PERCENT)
    labels = result_of(content)[1]["value"].pop("rectanglelabels")
    assert labels == ["cow"] and result_of(content)[1] == first | {
        "type": "rectanglelabels",
        "from_name": "own" if kind == "rectanglelabels" else "box",
        "value": value,
    }


def test_moved_in_a_file_of_other_size(tmp_path):
    first = region(original_width=400, original_height=300)
    picture(tmp_path / "a.jpg", 400, 300)
    box, new = ("cat", [40.0, 60.0, 160.0, 180.0]), [1.23456789, 2, 333.3, 299.987]
    _, found = changed(tmp_path, results(first), change(box, new_box=new))
    assert found == {"a.jpg": [("cat", pytest.approx(new, abs=0.001))]}


def test_a_label_that_is_moved_leaves_its_region(tmp_path):
    both = region(from_name="label", to_name="img")
    both["value"]["rectanglelabels"] = ["cat", "pet"]
    content, found = changed(tmp_path, results(both), change(CAT, new_box=NEW))
    assert found == {"a.jpg": [("pet", CAT[1]), ("cat", NEW)]}
    old, new = result_of(content)
    assert old["value"] == RECTANGLE | {"rectanglelabels": ["pet"]}
    assert new["id"] != old["id"] and new["from_name"] == "label" and new["to_name"] == "img"
    two = [change(CAT, new_box=NEW), change(("pet", CAT[1]), new_box=[0, 0, 10, 10])]
    content, found = changed(tmp_path, results(both), *two)
    assert sorted(found["a.jpg"]) == [("cat", NEW), ("pet", [0, 0, 10, 10])]
    assert len({r["id"] for r in result_of(content)}) == 2
    other = [change(CAT, new_box=NEW), remove(("pet", CAT[1]))]
    content, found = changed(tmp_path, results(both), *other)
    assert found == {"a.jpg": [("cat", NEW)]} and result_of(content)[0]["id"] == "r1"


def test_a_region_goes_with_its_last_label(tmp_path):
    both = region()
    both["value"]["rectanglelabels"] = ["cat", "pet"]
    relations = [{"from_id": a, "to_id": b, "type": "relation"} for a, b in ("12", "23", "31")]
    others = [dog(id="2"), dog(id="3")]
    tasks = results(both | {"id": "1"}, *others, *relations)
    content, found = changed(tmp_path, tasks, remove(CAT))
    assert found == {"a.jpg": [("pet", CAT[1]), DOG, DOG]} and len(result_of(content)) == 6
    content, found = changed(tmp_path, tasks, remove(CAT), remove(("pet", CAT[1])))
    assert found == {"a.jpg": [DOG, DOG]} and result_of(content) == [*others, relations[1]]
    content, found = changed(tmp_path, results(region()), remove(CAT))
    assert found == {"a.jpg": []} and result_of(content) == []


def test_added_as_the_tool_writes_it(tmp_path):
    tasks = results(region(from_name="rects", to_name="picture", id="added1"))
    new = ("dog", NEW)
    content, found = changed(tmp_path, tasks, add(new), add(("cow", [0, 0, 4, 3])))
    assert found == {"a.jpg": [CAT, new, ("cow", [0, 0, 4, 3])]}
    first, second, third = result_of(content)
    assert first == result_of(tasks)[0] and len({r["id"] for r in (first, second, third)}) == 3
    value = second.pop("value")
    assert value.pop("rectanglelabels") == ["dog"] and value == pytest.approx(NEW_PERCENT)
    assert second == {
        "id": second["id"],
        "type": "rectanglelabels",
        "from_name": "rects",
        "to_name": "picture",
        "origin": "manual",
        "image_rotation": 0,
        **SIZE,
    }


def test_added_where_nothing_is_drawn(tmp_path):
    new = ("dog", NEW)
    picture(tmp_path / "a.jpg")
    content, found = changed(tmp_path, results(), add(new))
    assert found == {"a.jpg": [new]}
    (result,) = result_of(content)
    assert (result["from_name"], result["to_name"]) == ("label", "image")
    picture(tmp_path / "b.jpg")
    tasks = [*results(), task(drawn(region(from_name="x", to_name="y")), image="b.jpg")]
    content, found = changed(tmp_path, tasks, add(new))
    assert found == {"a.jpg": [new], "b.jpg": [CAT]}
    assert (result_of(content)[0]["from_name"], result_of(content)[0]["to_name"]) == ("x", "y")


def test_added_where_shapes_and_labels_are_apart(tmp_path):
    of = {"id": "r", "to_name": "img", **SIZE}
    shape = of | {"type": "rectangle", "from_name": "shape", "value": RECTANGLE}
    labels = of | {"type": "labels", "from_name": "tag", "value": RECTANGLE | {"labels": ["cat"]}}
    content, found = changed(tmp_path, results(shape, labels), add(("dog", NEW)))
    assert found == {"a.jpg": [CAT, ("dog", NEW)]}
    *old, first, second = result_of(content)
    assert old == [shape, labels] and first["id"] == second["id"] != "r"
    assert [first["type"], second["type"]] == ["rectangle", "labels"]
    assert [first["from_name"], second["from_name"]] == ["shape", "tag"]
    assert "labels" not in first["value"] and second["value"]["labels"] == ["dog"]


def test_the_annotation_that_counts(tmp_path):
    """Not the cancelled one before it, nor the second one."""
    tasks = [
        task(drawn(region(), was_cancelled=True), drawn(region()), drawn(region()), image="a.jpg")
    ]
    content, found = changed(tmp_path, tasks, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1])]}
    tasks[0]["annotations"][1]["result"][0]["value"]["rectanglelabels"] = ["cow"]
    assert content == tasks
    old = [{"id": 1, "data": {"image": "a.jpg"}, "completions": [drawn(region())]}]
    assert changed(tmp_path, old, change(CAT, "cow"))[1] == found


def item(label="cat", key="rectanglelabels", **value):
    return RECTANGLE | value | {key: [label]} | SIZE


def of_min(number=11, image="a.jpg", **lists):
    return {"image": image, "id": 1, "annotator": 1, "annotation_id": number, **lists}


def test_json_min(tmp_path):
    second = item("dog", x=50, y=10, width=25, height=40)
    note = RECTANGLE | {"choices": ["x"]}
    tasks = [of_min(12, boxes=[item()]), of_min(boxes=[item(), second], fine=[note])]
    content, found = changed(tmp_path, tasks, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1]), DOG]}
    assert content == [tasks[0], of_min(boxes=[item("cow"), second], fine=[note])]
    content, found = changed(tmp_path, tasks, remove(CAT))
    assert found == {"a.jpg": [DOG]}
    assert content == [tasks[0], of_min(boxes=[second], fine=[])]  # its attributes go too
    content, found = changed(tmp_path, tasks, change(CAT, new_box=NEW), add(("pig", CAT[1])))
    assert found == {"a.jpg": [("cat", NEW), DOG, ("pig", CAT[1])]}
    *_, new = content[1]["boxes"]
    assert new.pop("rectanglelabels") == ["pig"] and new == pytest.approx(RECTANGLE | SIZE)
    (note,) = content[1]["fine"]
    assert note.pop("choices") == ["x"] and note == pytest.approx(NEW_PERCENT)


def test_json_min_polygons_and_empty_images(tmp_path):
    picture(tmp_path / "b.jpg")
    polygon = {"points": [[10, 20], [40, 20], [40, 60]], "polygonlabels": ["cat", "pet"]} | SIZE
    tasks = [of_min(tags=[polygon]), of_min(image="b.jpg") | {"id": 2, "label": "sunny"}]
    content, found = changed(tmp_path, tasks, change(CAT, new_box=NEW))
    assert found == {"a.jpg": [("pet", CAT[1]), ("cat", NEW)], "b.jpg": []}
    assert content[0]["tags"][0] == polygon | {"polygonlabels": ["pet"]}
    content, found = changed(tmp_path, tasks, add(("cat", NEW)), image="b.jpg")
    assert found["b.jpg"] == [("cat", NEW)] and [*content[1]][-1] == "tags"
    content, found = changed(tmp_path, tasks[1:], add(("cat", NEW)), image="b.jpg")
    assert found == {"b.jpg": [("cat", NEW)]} and content[0]["label"] == "sunny"


def test_both_parts_are_one_file(tmp_path):
    picture(tmp_path / "b.jpg")
    tasks = [*results(region()), task(drawn(region()), image="b.jpg")]
    changed(tmp_path, tasks, change(CAT, "cow"))
    labelled, _ = read(label_studio, tmp_path, "p.json")
    a, b = labelled.annotations
    both = [Changed(a, "p.json", [remove(("cow", CAT[1]))]), Changed(b, "./p.json", [remove(CAT)])]
    (content,) = corrected(Files(tmp_path), both).values()
    (tmp_path / "p.json").write_bytes(content)
    assert sound(label_studio, tmp_path, "p.json") == {"a.jpg": [], "b.jpg": []}


def test_a_box_that_is_not_there(tmp_path):
    with pytest.raises(NotThere, match=r"no box \[4, 6, 16, 18\] of class 'dog'"):
        changed(tmp_path, results(region()), remove(("dog", CAT[1])))


def test_faulty_regions_stay(tmp_path):
    wrong = region(x="1") | {"id": "w"}
    tasks = results(wrong, region())
    picture(tmp_path / "a.jpg")
    (tmp_path / "p.json").write_text(json.dumps(tasks))
    labelled, faults = read(label_studio, tmp_path, "p.json")
    image = Changed(labelled.annotations[0], "p.json", [remove(CAT)])
    (content,) = corrected(Files(tmp_path), [image]).values()
    assert len(faults) == 1 and boxes(labelled, tmp_path) == {"a.jpg": [CAT]}
    assert result_of(json.loads(content)) == [wrong]
