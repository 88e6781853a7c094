"""Single boxes of tables changed: which cells that changes, and that all others stay."""

import csv
import io
import random

import pytest

from detcenter.data.dataset import clean_annotations
from detcenter.data.errors import DataError
from detcenter.data.layouts import table
from detcenter.data.layouts.corrected.changes import Changed, Correction, NotThere
from detcenter.data.layouts.corrected.table import corrected
from detcenter.data.layouts.corrected.table_text import cells_as_written
from detcenter.data.layouts.files import Files
from tests.data.layouts import picture
from tests.data.reading import read, sound, warnings

CAT, DOG = ("cat", [1, 2, 11, 22]), ("dog", [5, 5, 9, 9])
HEADER = "filename,class,xmin,ymin,xmax,ymax"


def change(box, label=None, new_box=None):
    """Of a box, as (class, corners)."""
    name, corners = box
    return Correction(corners, name, new_box or corners, label or name)


def remove(box):
    return Correction(box[1], box[0], None, None)


def add(box):
    return Correction(None, None, box[1], box[0])


@pytest.fixture
def root(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    return tmp_path


def changed(root, text, *corrections, image="a.jpg", part="t.csv", classes=None):
    """The text of the table with an image corrected, after it was read; and the boxes in it."""
    (root / "t.csv").write_bytes(text.encode())
    labelled, _ = read(table, root, part, classes)
    annotations, _ = clean_annotations(labelled.annotations)
    (annotation,) = [a for a in annotations if a["path"].name == image]
    made = corrected(Files(root), [Changed(annotation, part, corrections)])
    assert [*made] == ["t.csv"]
    (root / "t.csv").write_bytes(made["t.csv"])
    return made["t.csv"].decode(), sound(table, root, part, classes)


ROWS = f"{HEADER}\na.jpg,cat,1,2,11,22\n\nb.jpg,cat,1,2,11,22\na.jpg,dog,5,5,9,9"


def test_each_change_and_nothing_else(root):
    text, found = changed(root, ROWS, change(CAT, "cow"))
    assert found == {"a.jpg": [("cow", CAT[1]), DOG], "b.jpg": [CAT]}
    assert text == ROWS.replace("a.jpg,cat", "a.jpg,cow")
    text, found = changed(root, ROWS, change(DOG, new_box=[3, 4, 20, 30]))
    assert text == ROWS.replace("5,5,9,9", "3,4,20,30")
    text, found = changed(root, ROWS, remove(CAT))
    assert found == {"a.jpg": [DOG], "b.jpg": [CAT]}
    assert text == ROWS.replace("a.jpg,cat,1,2,11,22\n", "")
    text, found = changed(root, ROWS, remove(DOG))
    assert text == ROWS.replace("a.jpg,dog,5,5,9,9", "")
    text, found = changed(root, ROWS, add(("cow", [1, 1, 2, 3])), add(("pig", [4, 4, 8, 8])))
    assert found == {
        "a.jpg": [CAT, DOG, ("cow", [1, 1, 2, 3]), ("pig", [4, 4, 8, 8])],
        "b.jpg": [CAT],
    }
    assert text == f"{ROWS}\na.jpg,cow,1,1,2,3\na.jpg,pig,4,4,8,8"
    text, _ = changed(root, ROWS, add(DOG), image="b.jpg")
    assert text == ROWS.replace("\na.jpg,dog", "\nb.jpg,dog,5,5,9,9\na.jpg,dog")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("header", [True, False])
def test_ends_of_lines_and_marks_stay(root, end, start, header):
    rows = ["a.jpg,1,2,11,22,cat", "b.jpg,1,2,11,22,cat"]
    head = ["image,x1,y1,x2,y2,label"] if header else []

    def whole(*rows):
        return start + end.join([*head, *rows])

    text, found = changed(root, whole(*rows), remove(CAT), add(DOG), add(CAT), image="b.jpg")
    assert found == {"a.jpg": [CAT], "b.jpg": [DOG, CAT]}
    assert text == whole(rows[0], "b.jpg,5,5,9,9,dog", "b.jpg,1,2,11,22,cat")
    text, found = changed(root, whole(*rows, ""), remove(CAT))
    assert found == {"a.jpg": [], "b.jpg": [CAT]}
    assert text == whole("a.jpg,,,,,", rows[1], "")
    text, _ = changed(root, whole(*rows, ""), add(DOG), image="b.jpg")
    assert text == whole(*rows, "b.jpg,5,5,9,9,dog", "")


def test_a_mark_stays_where_the_first_row_goes(root):
    rows = "a.jpg,1,2,11,22,cat\na.jpg,5,5,9,9,dog\n"
    text, _ = changed(root, "\ufeff" + rows, remove(CAT))
    assert text == "\ufeffa.jpg,5,5,9,9,dog\n"


def test_semicolons_and_fractions_with_a_comma(root):
    rows = "xmax;xmin;class;ymin;ymax;filename\n10,5;1,25;cat;2;22;a.jpg\n"
    box = ("cat", [1.25, 2, 10.5, 22])
    text, found = changed(root, rows, change(box, "dog; x", [1.25, 2.123456789, 10, 22]))
    assert text == rows.replace("10,5;1,25;cat;2", '10;1,25;"dog; x";2,123457')
    assert found == {"a.jpg": [("dog; x", [1.25, 2.123, 10, 22])]}


def test_tabs_and_quotes_and_blanks(root):
    rows = 'Label\tImage Name\tLeft\tTop\tRight\tBottom\n"cat"\t"a.jpg"\t"1"\t2 \t 11\t22\n'
    text, found = changed(root, rows, change(CAT, 'big "dog"', [1, 3, 12, 22]), add(DOG))
    expected = rows.replace('"cat"\t"a.jpg"\t"1"\t2 \t 11', '"big ""dog"""\t"a.jpg"\t"1"\t3 \t 12')
    assert text == expected + '"dog"\t"a.jpg"\t"5"\t5\t9\t9\n'
    assert found == {"a.jpg": [('big "dog"', [1, 3, 12, 22]), DOG]}


@pytest.mark.parametrize(
    ("cells", "new", "written"),
    [
        ("1,2,11,22", [1.4, 2.6, 12.5, 20.4], "1,3,12,20"),
        ("1.0,2,11.0,22.0", [1.4, 2.6, 12.5, 20.4], "1.0,3.0,12.0,20.0"),
        ("1.5,2,11,22", [1.4, 2.6, 12.5, 20], "1.4,2.6,12.5,20"),
        ("1,2,11,22", [7.6, 2, 8.4, 2.2], "8,2,9,3"),
        ("1,2,11,22", [39.7, 29.6, 40, 30], "39,29,40,30"),
    ],
)
def test_whole_numbers_where_all_are(root, cells, new, written):
    box = ("cat", [float(cell) for cell in cells.split(",")])
    text, found = changed(root, f"{HEADER}\na.jpg,cat,{cells}\n", change(box, new_box=new))
    assert text == f"{HEADER}\na.jpg,cat,{written}\n"
    assert found == {"a.jpg": [("cat", [float(cell) for cell in written.split(",")])]}
    text, _ = changed(root, f"{HEADER}\na.jpg,,,,,\n", add(("cat", [1.4, 2.6, 12.5, 20.25])))
    assert text == f"{HEADER}\na.jpg,cat,1.4,2.6,12.5,20.25\n"  # there are no others


def test_parts_of_the_image(tmp_path):
    picture(tmp_path / "a.jpg", 4000, 3000)
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    first, second = "a,xclick,/m/01,1,0.1,0.5,0.2,0.9,1\n", "a,xclick,/m/02,1,0,1,0,1,0\n"
    one, new = ("/m/01", [400, 600, 2000, 2700]), [1234.5678, 7.7777, 3999.9, 2998]
    rows = header + first + second
    text, found = changed(tmp_path, rows, change(one, "/m/03", new), add(("/m/02", new)))
    box = pytest.approx(new, abs=0.001)
    assert found == {"a.jpg": [("/m/03", box), ("/m/02", [0, 0, 4000, 3000]), ("/m/02", box)]}
    corners = "0.30864195,0.999975,0.002592567,0.999333333"
    assert text == header + f"a,xclick,/m/03,1,{corners},1\n{second}a,,/m/02,,{corners},\n"


FULL = "id,filename,width,height,split,class,xmin,ymin,xmax,ymax,own\n"


def test_an_image_without_boxes_stays_and_gets_its_first_box_there(root):
    row = "7,a.jpg,40,30,train,cat,1,2,11,22,x\n"
    other = "8,b.jpg,40,30,val,cat,1,2,11,22,y\n"
    negative = ",a.jpg,40,30,train,,,,,,\n"
    text, found = changed(root, FULL + row + other, remove(CAT), part="t.csv/train")
    assert text == FULL + negative + other and found == {"a.jpg": []}
    text, found = changed(root, text, add(DOG), part="t.csv/train")
    assert text == FULL + ",a.jpg,40,30,train,dog,5,5,9,9,\n" + other and found == {"a.jpg": [DOG]}
    text, _ = changed(root, FULL + row + other, remove(CAT), add(DOG), part="t.csv/train")
    assert text == FULL + ",a.jpg,40,30,train,dog,5,5,9,9,\n" + other
    text, found = changed(root, FULL + row + row + other, remove(CAT), remove(CAT))
    assert text == FULL + negative + other and found["a.jpg"] == []
    text, _ = changed(root, FULL + row + other, add(DOG), part="t.csv/train")
    assert text == FULL + row + ",a.jpg,40,30,train,dog,5,5,9,9,\n" + other


@pytest.mark.parametrize("cells", [",,,,", "nan,nan,nan,nan,nan", "background,,,,", ",0,0,0,0"])
def test_rows_that_name_an_image_alone(root, cells):
    text, found = changed(root, f"{HEADER}\na.jpg,{cells}\n", add(DOG), add(CAT))
    assert text == f"{HEADER}\na.jpg,dog,5,5,9,9\na.jpg,cat,1,2,11,22\n"
    assert found == {"a.jpg": [DOG, CAT]}
    both = f"{HEADER}\na.jpg,{cells}\na.jpg,cat,1,2,11,22\n"
    text, found = changed(root, both, remove(CAT))
    assert text == f"{HEADER}\na.jpg,{cells}\n" and found == {"a.jpg": []}
    text, found = changed(root, both, add(DOG))
    assert text == both + "a.jpg,dog,5,5,9,9\n" and found == {"a.jpg": [CAT, DOG]}


def test_rows_of_another_part_stay(root):
    rows = f"{HEADER},split\na.jpg,cat,1,2,11,22,val\na.jpg,cat,1,2,11,22,Train\n"
    text, found = changed(root, rows, remove(CAT), part="t.csv/train")
    assert text == rows.replace("cat,1,2,11,22,Train", ",,,,,Train") and found == {"a.jpg": []}
    labelled, _ = read(table, root, "t.csv/train")
    (of_train,) = labelled.annotations
    labelled, _ = read(table, root, "t.csv/val")
    (of_val,) = labelled.annotations
    both = [Changed(of_train, "t.csv/train", [add(DOG)])]
    both += [Changed(of_val, "t.csv/val", [change(CAT, "cow")])]
    (made,) = corrected(Files(root), both).values()
    cow = f"{HEADER},split\na.jpg,cow,1,2,11,22,val\n"
    assert made.decode() == cow + "a.jpg,dog,5,5,9,9,Train\n"


def test_columns_that_say_the_class_in_other_words(root, caplog):
    head = "filename,xmin,ymin,xmax,ymax,class,label,name\n"
    rows = f"{head}a.jpg,1,2,11,22,0,cat,pet\na.jpg,5,5,9,9,1,dog,pet\n"
    text, found = changed(root, rows, change(CAT, "dog"), add(CAT))
    assert text == rows.replace("0,cat", "1,dog") + "a.jpg,1,2,11,22,0,cat,\n"
    text, found = changed(root, rows, change(DOG, "cow"))
    assert text == rows.replace("1,dog", ",cow") and found == {"a.jpg": [CAT, ("cow", DOG[1])]}
    assert len(warnings(caplog)) == 1  # of the third column


def test_rows_over_several_lines(root):
    rows = f'{HEADER},own\r\na.jpg,cat,1,2,11,22,"x\r\n""y, z"\r\na.jpg,dog,5,5,9,9,"\n"\r\n'
    text, _ = changed(root, rows, change(CAT, "cow"), remove(DOG))
    assert text == f'{HEADER},own\r\na.jpg,cow,1,2,11,22,"x\r\n""y, z"\r\n'
    text, _ = changed(root, rows, change(DOG, "cow"), add(CAT))
    assert text == rows.replace("dog", "cow") + 'a.jpg,cat,1,2,11,22,""\r\n'


def test_cells_are_parted_as_csv_does():
    draw = random.Random(1)
    for _ in range(5000):
        row = "".join(draw.choices('a",", ', k=draw.randint(1, 12)))
        (cells,) = csv.reader(io.StringIO(row, newline=""))
        written = cells_as_written(row, ",")
        assert ",".join(written) == row
        assert [next(csv.reader([cell]), [""])[0] if cell else "" for cell in written] == cells, row


def test_faulty_rows_stay(root):
    rows = f"{HEADER}\na.jpg,cat,1,2,three,4\na.jpg,cat,1,2,11,22\n,cat\na.jpg,cat\n"
    (root / "t.csv").write_text(rows)
    labelled, faults = read(table, root, "t.csv")
    assert len(faults) == 3
    image = Changed(labelled.annotations[0], "t.csv", [change(CAT, "dog")])
    (made,) = corrected(Files(root), [image]).values()
    assert made.decode() == rows.replace("cat,1,2,11", "dog,1,2,11")
    only = f"{HEADER}\nb.jpg,dog,5,5,9,9\na.jpg,cat,1,2,three,4\nb.jpg,cat,1.5,2,3,4\n"
    (root / "t.csv").write_text(only)
    labelled, _ = read(table, root, "t.csv")
    (faulty,) = [a for a in labelled.annotations if a["path"].name == "a.jpg"]
    image = Changed(faulty, "t.csv", [add(DOG)])
    (made,) = corrected(Files(root), [image]).values()
    assert made.decode() == only.replace("\nb.jpg,cat", "\na.jpg,dog,5,5,9,9\nb.jpg,cat")


def test_what_cannot_be_written(root):
    rows = f"{HEADER}\na.jpg,cat,1,2,11,22\n"
    with pytest.raises(NotThere, match=r"no box \[1, 2, 11, 22\] of class 'dog'"):
        changed(root, rows, remove(("dog", CAT[1])))
    with pytest.raises(DataError, match=r"t.csv: the class 'None' cannot be written"):
        changed(root, rows, change(CAT, "None"))
    rows = "a.jpg;1,5;2,5;11,5;22,5;cat\n"
    with pytest.raises(DataError, match=r"t.csv: its first row .* put a header row before it"):
        changed(root, rows, change(("cat", [1.5, 2.5, 11.5, 22.5]), "a, b"))
