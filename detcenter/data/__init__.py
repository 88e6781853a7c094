"""Data sets: images with boxes, and the transforms that move both."""

from detcenter.data.dataset import Annotation, BoxTransform, DetectionDataset, Target
from detcenter.data.digits import make_digits
from detcenter.data.errors import DataError, Fault
from detcenter.data.images import frame_numbers, image_size, read_frames, read_image
from detcenter.data.kept import fitting, kept_images
from detcenter.data.layouts.coco import COCODataset
from detcenter.data.layouts.coco_written import write_coco
from detcenter.data.layouts.voc import VOCDataset, find_classes
from detcenter.data.layouts.voc_written import write_voc
from detcenter.data.layouts.yolo_written import write_yolo
from detcenter.data.packed import LMDBDataset, lmdb_parts, write_lmdb
from detcenter.data.pooled import PooledDataset
from detcenter.data.sources import Source, files_at, frames_of, is_video, sources
from detcenter.data.taught import TaughtDataset
from detcenter.data.transforms import WithinSides, build_transform, resized
from detcenter.data.videos import frame_rate, read_video, video_length, video_writer

__all__ = [
    "Annotation",
    "BoxTransform",
    "COCODataset",
    "DataError",
    "DetectionDataset",
    "Fault",
    "LMDBDataset",
    "PooledDataset",
    "Source",
    "TaughtDataset",
    "Target",
    "VOCDataset",
    "WithinSides",
    "build_transform",
    "files_at",
    "find_classes",
    "fitting",
    "frame_numbers",
    "frame_rate",
    "frames_of",
    "image_size",
    "kept_images",
    "lmdb_parts",
    "is_video",
    "make_digits",
    "read_frames",
    "read_image",
    "write_coco",
    "read_video",
    "resized",
    "sources",
    "video_length",
    "video_writer",
    "write_lmdb",
    "write_voc",
    "write_yolo",
]
