"""Small data sets in both layouts, which tests then spoil."""

import dataclasses
import json

from PIL import Image

from detcenter.recipe.config import DataConfig

PAGE = """<annotation><filename>{name}.png</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{0}</name><bndbox>
<xmin>{1}</xmin><ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"""


class Coco:
    """Three images a, b and c below `images`, with a box each."""

    def __init__(self, root):
        self.root, self.config = root, DataConfig("coco", str(root), "boxes.json", "boxes.json")
        (root / "images").mkdir(parents=True)
        self.file = root / "boxes.json"
        self.images = [
            {"id": k, "file_name": f"{name}.png", "width": 40, "height": 30}
            for k, name in enumerate("abc", start=1)
        ]
        self.boxes = [
            {"id": k, "image_id": k, "category_id": 5, "bbox": [1, 2, 10, 20]} for k in (1, 2, 3)
        ]
        self.categories = [{"id": 5, "name": "cat"}]
        for name in "abc":
            picture(self.image(name))

    def image(self, name):
        return self.root / "images" / f"{name}.png"

    def write(self, **others):
        content = {"images": self.images, "annotations": self.boxes, "categories": self.categories}
        self.file.write_text(json.dumps(content | others))

    def spoil_box(self, *box):
        x1, y1, x2, y2 = map(float, box)
        bad = {"id": 9, "image_id": 2, "category_id": 5, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        self.boxes.append(bad)
        self.write()


class Voc:
    """The same as VOC."""

    def __init__(self, root):
        self.root, self.config = root, DataConfig("voc", str(root), "list", "list")
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True)
        self.list = root / "ImageSets" / "Main" / "list.txt"
        self.names = ["a", "b", "c"]
        for name in "abc":
            picture(self.image(name))
            self.page(name, OBJECT.format("cat", 2, 3, 11, 22))
        self.write()

    def image(self, name):
        return self.root / "JPEGImages" / f"{name}.png"

    def xml(self, name):
        return self.root / "Annotations" / f"{name}.xml"

    def page(self, name, *objects):
        text = PAGE.format(name=name, objects="".join(objects))
        self.xml(name).write_text(text, encoding="utf-8")

    def write(self):
        self.list.write_text("\n".join(self.names), encoding="utf-8")

    def spoil_box(self, *box):
        x1, y1, x2, y2 = map(float, box)
        one_based = (x1 + 1, y1 + 1, x2, y2)
        self.page("b", OBJECT.format("cat", 2, 3, 11, 22), OBJECT.format("cat", *one_based))


def picture(path, width=40, height=30, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (250, 90, 10)).save(path, **options)


def skipping(config):
    return dataclasses.replace(config, on_error="skip")
