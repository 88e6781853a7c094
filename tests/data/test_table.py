"""Tables in the spellings that people have them in."""

import csv
import random

import pytest

from detcenter.data.layouts import table
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, warnings, write

TWO = {"a.jpg": [("cat", [1, 2, 11, 22]), ("dog", [5, 5, 9, 9])]}


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize(
    "lines",
    [
        ["filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,40,30,{}"],
        ["image,label,x1,y1,x2,y2", "a.jpg,{}"],
        ["image_path;class_name;XMin;YMin;XMax;YMax", "a.jpg;{}"],
        ["Image Name\tLabel\tLeft\tTop\tRight\tBottom", "a.jpg\t{}"],
        ['"path","category","bbox_x_min","bbox_y_min","bbox_x_max","bbox_y_max"', '"a.jpg",{}'],
        ["\ufefffilename,class,xmin,ymin,xmax,ymax", "a.jpg,{}"],
        ["filename,class,xmin,ymin,xmax,ymax", "/kaggle/input/a.jpg,{}"],
        ["filename,class,xmin,ymin,xmax,ymax", "a,{}"],
    ],
)
def test_headers_and_separators(root, lines):
    header, row = lines
    sign = max(",;\t", key=header.count)
    rows = [row.format(sign.join(cells)) for cells in (["cat", "1", "2", "11", "22"],)]
    rows += [row.format(sign.join(["dog", "5.0", "5", "9", "9"])), ""]
    write(root / "_annotations.csv", "\r\n".join([header, *rows]))
    assert parts(table, root) == ["_annotations.csv"]
    assert sound(table, root, "_annotations.csv") == TWO


def test_columns_in_any_order_and_fractions_with_a_comma(root):
    write(root / "t.csv", "xmax;xmin;class;ymin;ymax;filename\n10,5;1,25;cat;2;22;a.jpg\n")
    assert sound(table, root, "t.csv") == {"a.jpg": [("cat", [1.25, 2, 10.5, 22])]}


def test_without_header(root):
    """As keras-retinanet has it: a row without corners is an image without objects."""
    write(root / "t.csv", "a.jpg,1,2,11,22,cat\nb.jpg,,,,,\na.jpg,5,5,9,9,dog\n")
    assert parts(table, root) == ["t.csv"]
    assert sound(table, root, "t.csv") == TWO | {"b.jpg": []}


def test_tensorflow(tmp_path):
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    for part, size in (("train", (40, 30)), ("test", (20, 10))):
        picture(tmp_path / f"images/{part}/a.jpg", *size)
        write(
            tmp_path / f"data/{part}_labels.csv", f"{header}a.jpg,{size[0]},{size[1]},cat,1,2,9,8"
        )
    assert parts(table, tmp_path) == ["data/test_labels.csv", "data/train_labels.csv"]
    for part in ("train", "test"):
        found = sound(table, tmp_path, f"data/{part}_labels.csv")
        assert found == {f"images/{part}/a.jpg": [("cat", [1, 2, 9, 8])]}


def test_open_images(tmp_path):
    picture(tmp_path / "train/0a1b.jpg", 40, 20)
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf"
    rows = ["0a1b,xclick,/m/01,1,0.1,0.5,0.2,0.9,0,0", "0a1b,xclick,/m/02,1,0,1,0,1,0,1"]
    rows += ["0a1b,xclick,/m/02,1,3,17,0,1,0,1"]
    write(tmp_path / "train-annotations-bbox.csv", "\n".join([header, *rows]))
    labelled, faults = read(table, tmp_path, "train-annotations-bbox.csv")
    found = boxes(labelled, tmp_path)
    assert found == {"train/0a1b.jpg": [("/m/01", [4, 4, 20, 18]), ("/m/02", [0, 0, 40, 20])]}
    assert labelled.annotations[0]["iscrowd"].tolist() == [False, True]
    assert len(faults) == 1 and "line 4: '3, 0, 17, 1' is not between 0 and 1" in faults[0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a.jpg,cat,1,2,three,4", "line 3: 'three' is not a number"),
        ("a.jpg,cat,1,2,,4", "line 3: '' is not a number"),
        ("a.jpg,cat,1", "line 3: 3 cells, not 6"),
        ("a.jpg,,1,2,3,4", "line 3: a box without class"),
        (",cat,1,2,3,4", "line 3: no image is named"),
        ("c.jpg,cat,1,2,3,4", "c.jpg: image file not found, named by"),
        ("../../a\0.jpg,cat,1,2,3,4", "leads out of"),
    ],
)
def test_a_wrong_row_is_left_out_alone(root, row, why):
    rows = ["a.jpg,cat,1,2,11,22", row, "a.jpg,dog,5,5,9,9"]
    write(root / "t.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    labelled, faults = read(table, root, "t.csv")
    assert boxes(labelled, root) == TWO
    assert len(faults) == 1 and why in faults[0]


def test_a_quote_that_is_not_closed(root):
    rows = ["a.jpg,cat,1,2,11,22", '"a.jpg,dog,5,5,9,9', "a.jpg,dog,5,5,9,9"]
    write(root / "t.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    labelled, faults = read(table, root, "t.csv")
    assert boxes(labelled, root) == {"a.jpg": TWO["a.jpg"][:1]}
    assert len(faults) == 1 and "line 4: 1 cells, not 6" in faults[0]


def test_names_that_are_shortened_to_one_image(root):
    rows = ["old/a.jpg,cat,1,2,3,4", "new/a.jpg,cat,1,2,3,4", "b.jpg,cat,1,2,3,4"]
    rows += ["x/b.jpg,cat,5,6,7,8"]
    write(root / "t.csv", "\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]))
    labelled, faults = read(table, root, "t.csv")
    assert boxes(labelled, root) == {"b.jpg": [("cat", [1, 2, 3, 4])]}
    assert "'old/a.jpg' and 'new/a.jpg' would be the same image" in faults[0]
    assert "'b.jpg' and 'x/b.jpg' would be" in faults[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("filename,class\na.jpg,cat\n", "the columns ['filename', 'class'] are not"),
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,cat,0.1,0.2,0.5,0.5\n", "must have pixels"),
    ],
)
def test_what_is_no_table_of_boxes(root, text, why):
    write(root / "t.csv", text)
    assert why in refused(table, root, "t.csv")
    assert "annotation file not found" in refused(table, root, "other.csv")


def test_what_is_not_in_utf_8(root):
    (root / "t.csv").write_bytes("filename,class,xmin,ymin,xmax,ymax\né".encode("latin-1"))
    assert "not a text file in UTF-8" in refused(table, root, "t.csv")
    write(root / "other.csv", "epoch,loss\n1,0.5\n")
    assert parts(table, root) == ["t.csv"]


def test_an_image_that_may_be_two(tmp_path):
    for folder in "xy":
        picture(tmp_path / folder / "a.jpg")
    write(tmp_path / "t.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0,1,0,1\n")
    labelled, faults = read(table, tmp_path, "t.csv")
    assert labelled.annotations == [] and "'a' may be 'x/a.jpg' or 'y/a.jpg'" in faults[0]


def test_rows_as_the_csv_module_writes_them(tmp_path):
    draw = random.Random(3)
    names = ['a "b", c.png', "d;e.png", "ü #1%20.png"]
    rows, expected = [], {name: [] for name in names}
    for name in names:
        picture(tmp_path / name)
    for _ in range(40):
        name, label = draw.choice(names), draw.choice(["cat", 'big, "dog"'])
        box = [draw.randint(0, 9), draw.randint(0, 9), draw.randint(10, 40), draw.randint(10, 30)]
        rows.append([name, *box, label])
        expected[name].append((label, box))
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "x1", "y1", "x2", "y2", "label"], *rows])
    assert sound(table, tmp_path, "t.csv") == expected


HEADER = "filename,class,xmin,ymin,xmax,ymax"


@pytest.mark.parametrize("column", ["split", "Set", "subset", "Usage"])
def test_a_column_of_parts(root, caplog, column):
    for name in "cde":
        picture(root / f"{name}.jpg")
    rows = ["a.jpg,cat,1,2,11,22,Train", "b.jpg,cat,1,2,11,22,train ", "c.jpg,dog,1,2,3,4,Val"]
    rows += ["d.jpg,cow,1,2,3,4,test", "e.jpg,cow,1,2,3,4,later", "a.jpg,dog,5,5,9,9,TRAIN"]
    rows += ["a.jpg,cat,1,one,3,4,val"]
    write(root / "t.csv", "\n".join([f"{HEADER},{column}", *rows]))
    found = parts(table, root)
    assert [name.lower() for name in found] == ["t.csv/train", "t.csv/val", "t.csv/test"]
    train, faults = read(table, root, found[0])
    assert boxes(train, root) == TWO | {"b.jpg": TWO["a.jpg"][:1]} and faults == []
    assert train.classes == ["cat", "cow", "dog"]  # of all parts
    val, faults = read(table, root, "t.csv/val", train.classes)
    assert boxes(val, root) == {"c.jpg": [("dog", [1, 2, 3, 4])], "a.jpg": []}
    assert len(faults) == 1 and "line 8: 'one' is not a number" in faults[0]
    (line,) = warnings(caplog)  # once for both
    assert line.endswith("t.csv: rows of no part, left out ('later': 1)")
    labelled, _ = read(table, root, "t.csv")
    assert len(labelled.annotations) == 5
    assert "no row is of 'tets'; did you mean 'test'?" in refused(table, root, "t.csv/tets")


@pytest.mark.parametrize("words", ["train", "12", "  "])
def test_a_column_that_makes_no_parts(root, words):
    rows = [f"{name}.jpg,cat,1,2,3,4,{words}" for name in "ab"]
    write(root / "t.csv", "\n".join([f"{HEADER},split", *rows]))
    assert parts(table, root) == ["t.csv"] and len(sound(table, root, "t.csv")) == 2
    write(root / "t.csv", "\n".join([HEADER, *(row.rpartition(",")[0] for row in rows)]))
    assert "it has no column split" in refused(table, root, "t.csv/train")


@pytest.mark.parametrize(
    "row",
    [
        "b.jpg,nan,nan,nan,nan,nan",
        "b.jpg,NaN,NaN,NaN,NaN,NaN",
        "b.jpg,None,None,None,None,None",
        "b.jpg,background,,,nan,",
        "b.jpg,nan,0,0.0,0,0",
        "b.jpg,,0,0,0,0",
    ],
)
@pytest.mark.parametrize("header", [[HEADER], []])
def test_what_pandas_writes_for_nothing(root, row, header):
    rows = ["a.jpg,cat,1,2,11,22", "a.jpg,dog,5,5,9,9"]
    if not header:
        corners, name = row.split(",")[2:], row.split(",")[1]
        row = ",".join(["b.jpg", *corners, name])
        rows = ["a.jpg,1,2,11,22,cat", "a.jpg,5,5,9,9,dog"]
    lines = [row, *rows] if not header else [*rows, row]
    write(root / "t.csv", "\n".join([*header, *lines]))
    assert parts(table, root) == ["t.csv"]
    labelled, faults = read(table, root, "t.csv")
    assert (boxes(labelled, root), faults) == (TWO | {"b.jpg": []}, [])
    assert labelled.classes == ["cat", "dog"]


def test_a_box_whose_class_is_missing(root):
    write(root / "t.csv", f"{HEADER}\na.jpg,nan,1,2,3,4\na.jpg,cat,1,2,11,22\nnan,cat,1,2,3,4")
    labelled, faults = read(table, root, "t.csv")
    assert boxes(labelled, root) == {"a.jpg": TWO["a.jpg"][:1]} and labelled.classes == ["cat"]
    assert "line 2: a box without class" in faults[0] and "line 4: no image is named" in faults[1]


@pytest.mark.parametrize(
    ("columns", "cells", "taken", "other"),
    [
        ("class,label", ["0,cat", "1,dog"], "label", None),
        ("class,name", ["0,cat", "1,dog"], "name", None),
        ("name,class", ["cat,0", "dog,1"], "name", None),
        ("class,label", ["cat,0", "dog,0"], "class", "label"),
        ("category,label", ["pet,cat", "pet,dog"], "label", "category"),
        ("class,label", [",cat", ",dog"], "label", None),
    ],
)
def test_two_columns_of_classes(root, caplog, columns, cells, taken, other):
    rows = [f"a.jpg,1,2,11,22,{cells[0]}", f"a.jpg,5,5,9,9,{cells[1]}", "b.jpg,,,,,,"]
    write(root / "t.csv", "\n".join([f"filename,xmin,ymin,xmax,ymax,{columns}", *rows]))
    assert sound(table, root, "t.csv") == TWO | {"b.jpg": []}
    assert sound(table, root, "t.csv")  # said once
    said = f"classes may be in the column {taken!r} or {other!r}; {taken!r} is taken"
    assert [line.partition(": ")[2] for line in warnings(caplog)] == ([said] if other else [])
