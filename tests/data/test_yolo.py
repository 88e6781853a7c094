"""YOLO's layout in all the ways that people have it."""

import pytest

from detcenter.data.layouts import yolo
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, warnings, write

# Of an image of 40x30: center (20, 15), 20 wide and 10 high.
BOX = "1 0.5 0.5 0.5 0.333333333333"
AS_PIXELS = ("dog", [10, 10, 30, 20])
TWO = "names: [cat, dog]\n"


@pytest.fixture
def root(tmp_path):
    """images/{train,val} and labels/{train,val}, with an image that has no label file."""
    for part in ("train", "val"):
        for name in ("a", "b"):
            picture(tmp_path / f"images/{part}/{name}.jpg")
        write(tmp_path / f"labels/{part}/a.txt", BOX + "\n")
    return tmp_path


def spelled(root, text):
    write(root / "data.yaml", text)
    return sound(yolo, root, "train")


TRAIN = {"images/train/a.jpg": [AS_PIXELS], "images/train/b.jpg": []}


@pytest.mark.parametrize(
    "paths",
    [
        "path: .\ntrain: images/train\nval: images/val\n",
        "train: images/train\nvalid: images/val\n",
        "train: ./images/train/\nval: images\\val\n",
        "train: ../images/train\nval: ../images/val\n",
        "path: ../datasets/mine\ntrain: images/train\nval: images/val\n",
        "path: /content/mine\ntrain: images/train\nval: images/val\n",
        "train: /content/mine/images/train\nval: /content/mine/images/val\n",
        "train: 'C:\\data\\mine\\images\\train'\nval: 'C:\\data\\mine\\images\\val'\n",
        "train: [images/train]\nval: [images/val]\ntest: # none\n",
    ],
)
def test_paths_in_data_yaml(root, paths):
    assert spelled(root, paths + TWO) == TRAIN
    assert parts(yolo, root) == ["train", "val"]
    assert [*sound(yolo, root, "val")] == ["images/val/a.jpg", "images/val/b.jpg"]


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        ("names: [cat, dog]", "cat", "dog"),
        ("names:\n  0: cat\n  1: dog", "cat", "dog"),
        ("names: {1: dog}", "0", "dog"),
        ("nc: 2", "0", "1"),
        ("nc: 2\nnames: ['no', on]", "no", "on"),
        ("names: [thing, thing]", "thing (0)", "thing (1)"),
    ],
)
def test_names_in_data_yaml(root, names, first, second):
    write(root / "labels/train/a.txt", f"{BOX}\n0{BOX[1:]}")
    found = spelled(root, f"train: images/train\n{names}\n")
    assert [name for name, _ in found["images/train/a.jpg"]] == [second, first]


def test_roboflow(tmp_path):
    for folder in ("train", "valid"):
        picture(tmp_path / folder / "images/a.jpg")
        write(tmp_path / folder / "labels/a.txt", BOX)
    write(tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\n" + TWO)
    assert parts(yolo, tmp_path) == ["train", "val"]
    assert sound(yolo, tmp_path, "val") == {"valid/images/a.jpg": [AS_PIXELS]}


@pytest.mark.parametrize(
    ("paths", "key", "why"),
    [
        ("train: images/trian\nval: images/val", "train", "'images/trian' is not"),
        ("train: images/train\nval: ../valid/pictures", "val", "'../valid/pictures' is not"),
        ("train: images/trian\nval: images/vla", "val", "'images/vla' is not"),
        ("train: [images/train, extra]\nval: images/val", "train", "train: 'extra' is not"),
    ],
)
def test_a_path_in_data_yaml_that_is_not_there(root, paths, key, why):
    write(root / "data.yaml", paths + "\n" + TWO)
    assert parts(yolo, root) == ["train", "val"]
    line = refused(yolo, root, key)
    assert f"data.yaml: {key}: " in line and why in line
    assert "below the root; images are in images/train, images/val" in line


@pytest.mark.parametrize("nothing", ["", "null", "~", "[]", "''", "None"])
def test_a_part_of_data_yaml_that_is_none(root, nothing):
    write(root / "data.yaml", f"train: images/train\nval: {nothing}\ntest: {nothing}\n" + TWO)
    assert parts(yolo, root) == ["train"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ('names: "cat, dog"', "'names' is neither a list"),
        ("names:\n\t- cat\n\t- dog", "not readable as YAML"),
    ],
)
def test_a_broken_data_yaml_is_a_fault(root, names, why):
    """Without it classes would have numbers for names."""
    write(root / "data.yaml", f"{names}\ntrain: images/train\nval: images/val\n")
    assert parts(yolo, root) == ["images/train", "images/val"]
    _, faults = read(yolo, root, "images/train")
    assert len(faults) == 1 and "data.yaml: " in faults[0] and why in faults[0]
    assert why in refused(yolo, root, "train")
    write(root / "other.yaml", "train: images/val\n" + TWO)
    assert why in refused(yolo, root, "train")
    (root / "data.yaml").rename(root / "x.yaml")
    (root / "other.yaml").rename(root / "data.yaml")
    assert [*sound(yolo, root, "train")] == ["images/val/a.jpg", "images/val/b.jpg"]


def test_a_broken_yaml_of_something_else(root):
    write(root / "chart.yaml", "names: {{ names }}\n\t- x")
    assert sound(yolo, root, "images/train")


def below_folders(root, *folders):
    for folder in folders:
        picture(root / folder / "images/train/a.jpg")
        write(root / folder / "labels/train/a.txt", BOX)
        write(root / folder / "data.yaml", "train: images/train\n" + TWO)
    return root


def test_a_data_yaml_far_down(tmp_path):
    below_folders(tmp_path, "my/export/2")
    assert parts(yolo, tmp_path) == ["train"]
    found = sound(yolo, tmp_path, "train")
    assert found == {"my/export/2/images/train/a.jpg": [AS_PIXELS]}
    assert sound(yolo, tmp_path, "my/export/2/images") == found
    write(tmp_path / "data.yaml", "train: my/export/2/images/train\nnames: [cow, pig]\n")
    assert [*sound(yolo, tmp_path, "train").values()] == [[("pig", AS_PIXELS[1])]]


def test_a_yaml_far_down_that_speaks_of_another_data_set(root):
    write(root / "yolov5/data/street.yaml", "train: street/images/train\nnames: [car]\n")
    assert parts(yolo, root) == ["images/train", "images/val"]
    assert [*sound(yolo, root, "images/train").values()] == [[("1", AS_PIXELS[1])], []]


def test_several_data_yaml_of_one_rank(tmp_path):
    below_folders(tmp_path, "one", "two")
    why = refused(yolo, tmp_path, "train")
    assert "one/data.yaml and two/data.yaml both say what train is; set data.root" in why
    assert [*sound(yolo, tmp_path, "two/images")] == ["two/images/train/a.jpg"]


def test_a_data_yaml_of_another_data_set(root):
    """Its paths are not here, and the other's are."""
    write(root / "coco128.yaml", "train: coco128/pictures\nnames: [person]\n")
    write(root / "mine.yaml", "train: images/train\nval: images/val\n" + TWO)
    assert parts(yolo, root) == ["train", "val"]
    assert sound(yolo, root, "train") == TRAIN


def test_lists_of_images(root):
    lines = ["./images/train/a.jpg", "/content/mine/images/train/b.jpg", ""]
    write(root / "train.txt", "\n".join(lines))
    assert parts(yolo, root) == ["train.txt"]
    assert spelled(root, "train: train.txt\n" + TWO) == TRAIN
    write(root / "train.txt", "images/train/a.jpg\nimages/train/a.jpg\nimages/train/c.jpg\n")
    labelled, faults = read(yolo, root, "train")
    assert [*boxes(labelled, root)] == ["images/train/a.jpg"]
    assert "'images/train/a.jpg' occurs twice" in faults[1]
    assert "c.jpg: image file not found, named by" in faults[0]


@pytest.mark.parametrize(
    "first", ["", "# images of March", "#images/train/b.jpg", "images/train/lost.jpg", "\ufeff"]
)
def test_a_list_of_images_whose_first_line_is_none(root, first):
    write(root / "train.txt", f"{first}\r\nimages/train/a.jpg\r\n# the rest\r\n")
    write(root / "val.txt", "images/val/a.jpg\n")
    write(root / "notes.txt", "Taken with\nimages/train/a.jpg\nin mind.\n")
    assert parts(yolo, root) == ["train.txt", "val.txt"]
    labelled, faults = read(yolo, root, "train.txt")
    assert [*boxes(labelled, root)] == ["images/train/a.jpg"]
    assert len(faults) == ("lost" in first)


def test_an_image_that_is_called_like_a_comment(root):
    picture(root / "images/train/#1.jpg")
    write(root / "images/train/train.txt", "#1.jpg\n")
    write(root / "labels/train/#1.txt", BOX)
    found = spelled(root, "train: images/train/train.txt\n" + TWO)
    assert found == {"images/train/#1.jpg": [AS_PIXELS]}


def test_names_that_are_shortened_to_one_image(root):
    write(root / "train.txt", "/old/a.jpg\n/new/a.jpg\n/new/b.jpg\n")
    for name in "ab":
        picture(root / f"{name}.jpg")
    write(root / "b.txt", BOX)
    write(root / "data.yaml", "train: train.txt\n" + TWO)
    labelled, faults = read(yolo, root, "train")
    assert [*boxes(labelled, root)] == ["b.jpg"]
    assert len(faults) == 1 and "'/old/a.jpg' and '/new/a.jpg' would be the same" in faults[0]


def test_darknet(tmp_path):
    picture(tmp_path / "obj_train_data/a.jpg")
    write(tmp_path / "obj_train_data/a.txt", BOX)
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.jpg\n")
    assert parts(yolo, tmp_path) == ["train"]
    assert sound(yolo, tmp_path, "train") == {"obj_train_data/a.jpg": [AS_PIXELS]}


def test_folders_with_a_list_of_classes(tmp_path):
    """As Label Studio exports them."""
    picture(tmp_path / "images/a.jpg")
    write(tmp_path / "labels/a.txt", BOX)
    write(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path / "notes.json", "{}")
    assert parts(yolo, tmp_path) == ["images"]
    for part in ("images", "."):
        assert sound(yolo, tmp_path, part) == {"images/a.jpg": [AS_PIXELS]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\ncat\ndog\n", ["0", "cat", "dog"]),
        ("cat\n \ndog\n\n \n", ["cat", "1", "dog"]),
        ("\ufeffcat \r\ndog\r\n\r\n", ["cat", "dog"]),
        ("\n", ["0", "1", "2"]),
    ],
)
def test_an_empty_line_in_a_list_of_classes_shifts_none(root, text, names):
    write(root / "classes.txt", text)
    write(root / "labels/train/a.txt", "\n".join(f"{k}{BOX[1:]}" for k in range(len(names))))
    found = sound(yolo, root, "images/train")["images/train/a.jpg"]
    assert [name for name, _ in found] == names


@pytest.mark.parametrize("yaml", ["nc: 5", "nc: 1"])
def test_another_number_of_classes_than_names(root, yaml, caplog):
    assert spelled(root, f"train: images/train\nval: images/val\n{yaml}\n{TWO}") == TRAIN
    sound(yolo, root, "val")
    (line,) = warnings(caplog)
    assert f"data.yaml: it counts {yaml[4:]} classes and names 2" in line


def test_classes_without_names(root):
    assert parts(yolo, root) == ["images/train", "images/val"]
    labelled, faults = read(yolo, root, "images/train")
    assert labelled.classes == ["0", "1"] and labelled.annotations[0]["labels"].tolist() == [2]
    labelled, faults = read(yolo, root, "images/train", ["cat", "dog"])
    assert boxes(labelled, root)["images/train/a.jpg"] == [AS_PIXELS] and not faults


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["images/cam1", "images/cam2"], ["images"]),
        (["images/train/cam1", "images/train/cam2", "images/val/cam1"], "images/train images/val"),
        (["train/images/cam1", "train/images/cam2", "val/images"], "train val"),
        (
            ["my test/images/train", "my test/images/val"],
            ["my test/images/train", "my test/images/val"],
        ),
        (["a/images", "b/images"], ["."]),
        (["images", "images/cam1"], ["images"]),
        (["Images/train", "Images/val"], "Images/train Images/val"),
    ],
)
def test_folders_without_data_yaml(tmp_path, folders, expected):
    labelled = "Labels" if "Images" in folders[0] else "labels"
    for folder in folders:
        picture(tmp_path / folder / "a.jpg")
        write(tmp_path / folder.lower().replace("images", labelled) / "a.txt", BOX)
    expected = expected.split() if isinstance(expected, str) else expected
    assert parts(yolo, tmp_path) == expected
    found = {name: b for part in expected for name, b in sound(yolo, tmp_path, part).items()}
    assert found == {f"{folder}/a.jpg": [("1", AS_PIXELS[1])] for folder in folders}


@pytest.mark.parametrize("part", ["train", "images/train", "images", "."])
@pytest.mark.parametrize("name", ["c.txt", "b.jpg.txt", "cam2/d.txt"])
def test_a_label_file_without_image_is_a_fault(root, part, name):
    write(root / "data.yaml", "train: images/train\n" + TWO)
    write(root / "labels/train/notes.txt", "a 1 2 3 4\n")
    write(root / "labels/train/classes.txt", "cat\ndog\n")
    write(root / "labels/train/empty.txt", "")
    write(root / "runs/labels/z.txt", BOX)
    found = sound(yolo, root, part)
    assert found.items() >= TRAIN.items()
    write(root / f"labels/train/{name}", BOX)
    labelled, faults = read(yolo, root, part)
    assert boxes(labelled, root) == found
    if part != "." or "/" not in name:  # anything may be below the root
        (fault,) = faults
        assert f"labels/train/{name}: image file not found: no 'images/train/" in fault
    assert sound(yolo, root, "images/val")


def test_a_list_need_not_name_all_labels(root):
    write(root / "labels/train/c.txt", BOX)
    write(root / "train.txt", "images/train/a.jpg\n")
    assert [*sound(yolo, root, "train.txt")] == ["images/train/a.jpg"]


def test_images_of_a_folder_that_has_no_labels(root, caplog):
    assert sound(yolo, root, "images") and not warnings(caplog)
    picture(root / "images/new/c.jpg")
    assert "images/new/c.jpg" in sound(yolo, root, "images")
    (line,) = warnings(caplog)
    assert "no image of these folders has a label file" in line and "(images/new: 1)" in line


def test_labels_beside_images(tmp_path):
    picture(tmp_path / "train/a.jpg")
    write(tmp_path / "train/a.txt", BOX)
    write(tmp_path / "train/classes.txt", "cat\ndog\n")
    assert parts(yolo, tmp_path) == ["train"]
    assert sound(yolo, tmp_path, "train") == {"train/a.jpg": [AS_PIXELS]}


@pytest.mark.parametrize(
    ("line", "box"),
    [
        (BOX, [10, 10, 30, 20]),
        (BOX + " 0.93", [10, 10, 30, 20]),
        ("1.0 .5 .5 1 1", [0, 0, 40, 30]),
        ("1 0.1 0.1 0.5 0.2 0.25 0.9", [4, 3, 20, 27]),  # a triangle
        ("1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5", [4, 3, 36, 27]),  # a turned square
        ("1 1.005 0.5 0.5 1", [30.2, 0, 50.2, 30]),
        ("1 0.9 0.5 0.4 1", [28, 0, 44, 30]),  # as the file says; data sets clip it
    ],
)
def test_lines(root, line, box):
    write(root / "labels/train/a.txt", line)
    found = spelled(root, "train: images/train\n" + TWO)
    assert found["images/train/a.jpg"] == [("dog", box)]


def test_key_points(root):
    write(root / "labels/train/a.txt", BOX + " 0.1 0.1 2 0.2 0.2 2")
    keypoints = "train: images/train\nkpt_shape: [2, 3]\n" + TWO
    assert spelled(root, keypoints) == TRAIN


def test_corners_instead_of_center_and_size(root):
    write(root / "data.yaml", "train: images/train\n" + TWO)
    corners = "0 .5 .5 .8 .8\n1 .7 .6 .95 .9\n0 .6 .7 .7 .85\n1 .1 .2 .6 .7"
    write(root / "labels/train/a.txt", corners)
    why = refused(yolo, root, "train")
    assert "data.yaml: boxes look like two corners, x1 y1 x2 y2" in why
    corners = "\n".join(
        f"0 {0.3 + 0.05 * k} {0.2 + 0.04 * k} {0.6 + 0.03 * k} {0.5 + 0.03 * k}" for k in range(6)
    )
    write(root / "labels/train/a.txt", corners)
    assert "two corners" in refused(yolo, root, "train")
    # Large boxes, one of which reaches out, are no corners.
    write(root / "labels/train/a.txt", "0 .4 .4 .9 .9\n0 .5 .5 .9 .9\n0 .5 .5 1 1\n1 .5 .5 .6 .7")
    assert len(sound(yolo, root, "train")["images/train/a.jpg"]) == 4


MORE = {
    "key points": " 0.45 0.45 1 0.55 0.6 0",
    "key points of two numbers": " 0.45 0.45 0.55 0.6 0.5 0.5",
    "key points that are not seen": " 0.45 0.45 1 0 0 0",
    "a score and a track": " 0.9 1",
    "a score and a track far on": " 0.9 12",
}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_key_points_that_nothing_declares(root, more):
    write(root / "data.yaml", "train: images/train\n" + TWO)
    lines = [f"1 0.5 0.5 0.{width} 0.4{more}" for width in (2, 3, 4, 5)]
    write(root / "labels/train/a.txt", "\n".join(lines))
    _, faults = read(yolo, root, "train")
    assert any("every line has a box and" in fault for fault in faults)
    assert all("need kpt_shape in data.yaml" in fault for fault in faults)


@pytest.mark.parametrize(
    "line",
    [
        "1 .4 .4 .6 .4 .6 .6 .4 .6",  # turned boxes
        "1 .1 .6 .5 .7 .8 .9 .3 .7 .2 .6",  # begins with no box inside the image
        "1 .5 .5 .6 .4 .9 .6 .9 .9 .5 .9",  # of which points are outside
    ],
)
def test_polygons_of_equally_many_points(root, line):
    write(root / "labels/train/a.txt", "\n".join([line] * 4))
    found = spelled(root, "train: images/train\n" + TWO)
    assert len(found["images/train/a.jpg"]) == 4


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1 20 15 20 10", "line 2: 20 is not between 0 and 1; YOLO's numbers are parts"),
        ("1 0.5 0.5 nan 0.1", "not between 0 and 1"),
        ("1 0.5 -0.5 0.1 0.1", "not between 0 and 1"),
        ("2 0.5 0.5 0.1 0.1", "class 2, but only classes 0 to 1 have a name"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not a number from 0 on"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not"),
        ("1e300 0.5 0.5 0.1 0.1", "class 1e+300"),
        ("dog 0.5 0.5 0.1 0.1", "not a class and numbers"),
        ("1 0.5 0.5 0.1", "3 numbers, neither a box"),
        ("1 0.5 0.5 0.1 0.1 0.1 0.1 0.2", "7 numbers"),
    ],
)
def test_a_wrong_line_is_left_out_alone(root, line, why):
    write(root / "data.yaml", "train: images/train\n" + TWO)
    write(root / "labels/train/a.txt", f"{BOX}\n{line}\n")
    labelled, faults = read(yolo, root, "train")
    assert boxes(labelled, root) == TRAIN
    assert len(faults) == 1 and why in faults[0] and "labels/train/a.txt" in faults[0]


def test_a_wrong_file_is_left_out_alone(root):
    write(root / "data.yaml", "train: images/train\n" + TWO)
    (root / "labels/train/a.txt").write_bytes(b"\xff\xfe1")
    (root / "images/train/c.jpg").write_bytes(b"no image")
    labelled, faults = read(yolo, root, "train")
    assert [*boxes(labelled, root)] == ["images/train/b.jpg"]
    assert len(faults) == 2


def test_the_size_is_that_of_the_image_as_it_is_shown(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turned
    picture(tmp_path / "a.jpg", 40, 30, exif=exif)
    write(tmp_path / "a.txt", "0 0.5 0.5 1 1")
    assert sound(yolo, tmp_path, ".") == {"a.jpg": [("0", [0, 0, 30, 40])]}


@pytest.mark.parametrize(
    ("yaml", "why"),
    [
        ("names: [cat", "not readable as YAML"),
        ("train: images/train\nnames: 7", "'names' is neither"),
        ("train: images/train\nnames: {a: cat}", "not the number of a class"),
        ("train: images/train\nnames: {999999999: cat}", "not the number of a class"),
        ("train: images/train\nnames: [[cat]]", "'names' is neither"),
        ("train: pictures\nnames: [cat]", "train: 'pictures' is not below the root"),
        ("val: images/val\nnames: [cat]", "no such folder, list, or key of data.yaml"),
        ("train: x/images\nval: y/images\nnames: [cat]", "train and val would both be images"),
    ],
)
def test_a_data_yaml_that_does_not_tell(root, yaml, why):
    write(root / "data.yaml", yaml)
    assert why in refused(yolo, root, "train")


def test_labels_that_are_elsewhere(tmp_path):
    """Otherwise all images would be taken to have no objects."""
    picture(tmp_path / "images/a.jpg")
    write(tmp_path / "annotations/a.txt", BOX)
    assert "none of its 1 images has a label file" in refused(yolo, tmp_path, "images")
    assert "no such folder" in refused(yolo, tmp_path, "../images")


def test_what_is_not_yolo(tmp_path):
    picture(tmp_path / "JPEGImages/a.jpg")
    write(tmp_path / "ImageSets/Main/train.txt", "a\n")
    write(tmp_path / "JPEGImages/a.txt", "a caption of five words\n")
    write(tmp_path / "configs/ssd.yaml", "data: {classes: null}\n")
    assert parts(yolo, tmp_path) == []


def test_many_images_as_an_independent_count_has_them(tmp_path):
    import random

    draw = random.Random(5)
    expected = {}
    for number in range(30):
        width, height = draw.randint(2, 60), draw.randint(2, 60)
        picture(tmp_path / f"images/{number}.png", width, height)
        lines, pixels = [], []
        for _ in range(draw.randint(0, 3)):
            x1, x2 = sorted(draw.sample(range(width + 1), 2))
            y1, y2 = sorted(draw.sample(range(height + 1), 2))
            kind = draw.randint(0, 2)
            center = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            lines.append(f"{kind} {center[0]} {center[1]} {(x2 - x1) / width} {(y2 - y1) / height}")
            pixels.append((str(kind), [x1, y1, x2, y2]))
        write(tmp_path / f"labels/{number}.txt", "\n".join(lines))
        expected[f"images/{number}.png"] = pixels
    assert sound(yolo, tmp_path, "images") == expected
