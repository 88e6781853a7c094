"""Data sets: images with boxes, and the transforms that move both."""

from detcenter.data.checks import image_faults
from detcenter.data.dataset import Annotation, BoxTransform, DetectionDataset, Target
from detcenter.data.digits import make_digits
from detcenter.data.errors import DataError, Fault
from detcenter.data.images import image_size, read_image
from detcenter.data.layouts.coco import COCODataset
from detcenter.data.layouts.coco_written import write_coco
from detcenter.data.layouts.voc import VOCDataset, find_classes
from detcenter.data.layouts.voc_written import write_voc
from detcenter.data.layouts.yolo_written import write_yolo
from detcenter.data.packed import LMDBDataset, lmdb_parts, write_lmdb
from detcenter.data.pooled import PooledDataset
from detcenter.data.transforms import WithinSides, build_transform

__all__ = [
    "Annotation",
    "BoxTransform",
    "COCODataset",
    "DataError",
    "DetectionDataset",
    "Fault",
    "LMDBDataset",
    "PooledDataset",
    "Target",
    "VOCDataset",
    "WithinSides",
    "build_transform",
    "find_classes",
    "image_faults",
    "image_size",
    "lmdb_parts",
    "make_digits",
    "read_image",
    "write_coco",
    "write_lmdb",
    "write_voc",
    "write_yolo",
]
