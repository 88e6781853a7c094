"""YOLO's layout in all the ways that people have it."""

import pytest

from detcenter.data.layouts import yolo
from tests.data.layouts import picture
from tests.data.reading import boxes, parts, read, refused, sound, write

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


def test_classes_without_names(root):
    assert parts(yolo, root) == ["images/train", "images/val"]
    labelled, faults = read(yolo, root, "images/train")
    assert labelled.classes == ["0", "1"] and labelled.annotations[0]["labels"].tolist() == [2]
    labelled, faults = read(yolo, root, "images/train", ["cat", "dog"])
    assert boxes(labelled, root)["images/train/a.jpg"] == [AS_PIXELS] and not faults


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
        ("1 1.005 0.5 0.5 1", [30.2, 0, 40, 30]),
        ("1 0.9 0.5 0.4 1", [28, 0, 40, 30]),
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
