"""A recipe: every key with its type, default and meaning. One YAML a recipe."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from detcenter.errors import ConfigError

_GONE = {"vote_by", "vote_scale"}
"""Keys of the center term that earlier versions wrote, which its vote has no more."""

RENAMED = {"warmup": "warmup_steps"}
"""Keys of terms that had other names in earlier versions."""


@dataclass
class ModelConfig:
    """The detector. Keys that are null keep the builder's own default."""

    name: str = "ssd"
    """a detector of torchvision; ssd, fasterrcnn, retinanet, fcos: over any torchvision backbone"""
    num_classes: int | None = None
    """with background; null takes it from the data"""
    weights: str | None = None
    """of the whole detector: a torchvision weight set (DEFAULT, COCO_V1) or a file"""
    weights_backbone: str | None = None
    """of the backbone alone: a torchvision weight set or a file"""
    trainable_backbone_layers: int | None = None
    """stages of the backbone that are trained, counted from the end"""
    min_negatives: int = 0
    """of SSDs: background boxes mined in every image at least; 0 is torchvision's way"""
    l2_softmax: float | None = None
    """radius that the features which are classified are scaled to (L2-constrained softmax)"""
    l2_softmax_learnt: bool = False
    """whether that radius is trained"""
    options: dict[str, Any] = field(default_factory=dict)
    """further arguments of torchvision's builder: min_size, box_batch_size_per_image, ..."""
    backbone: str | None = None
    """of ssd, fasterrcnn, retinanet, fcos: a torchvision classification model, mobilenet_v2 say"""
    image_size: int | None = None
    """over a backbone: images are resized to this many pixels, square"""
    strides: list[int] | None = None
    """over a backbone: strides of the feature maps that boxes are predicted on"""
    anchor_scales: list[list[float]] | None = None
    """of all these but fcos: for each stride the sides of its anchors, as parts of the image"""
    aspect_ratios: list[float] | None = None
    """of all these but fcos: width by height of the anchors"""
    top_stride: int | None = None
    """over a backbone: stride of the coarsest map that is merged top-down into the others"""
    out_channels: int | None = None
    """over a backbone: width of the feature maps"""
    frozen_batch_norm: bool | None = None
    """over a backbone: keep the backbone's batch norm as its weights have it"""
    score_thresh: float | None = None
    """detections below this score are dropped"""
    nms_thresh: float | None = None
    """of two detections of a class that overlap by more than this IoU one is dropped"""
    detections_per_img: int | None = None
    """detections kept in an image"""


@dataclass
class TermConfig:
    """What all terms on box features have."""

    weight: float | None = None
    """of the loss in the sum of losses; null: on an R-CNN's own vectors 3 for center loss, 1 for
    another; 0.3 elsewhere"""
    features: Literal["cell", "box", "embedding"] | None = None
    """box: an R-CNN's own vector; cell: that of the others; embedding: a projection of either;
    null: box for an R-CNN, embedding for the others"""
    embedding_dim: int | None = None
    """of embedding: its dimensions; null is 64, or those of the embedding that another term made"""
    embedding_weight: float | None = None
    """of embedding: weight of its auxiliary softmax, loss_embedding; null is 1, or likewise"""
    warmup_steps: int = 0
    """steps over which the weight rises from 0, while the centers already follow"""
    start_epoch: int = 0
    """epochs before that, at weight 0"""
    min_iou: float = 0.0
    """only positive boxes of at least this IoU with their object"""
    per_object: bool = False
    """every object counts once, however many boxes are matched with it"""


@dataclass
class CenterConfig(TermConfig):
    """The center-loss term; `center: null` is the baseline without it."""

    alpha: float = 0.5
    """step of the centers, 0 to 1"""
    normalize: bool = True
    """measure on the unit sphere"""
    vote: float | None = None
    """weight, 0 to 1, in detection, of what the embedding thinks a box is; null: it is not asked"""


@dataclass
class LossConfig(TermConfig):
    """Another loss on box features."""

    loss: str = "CenterLoss"
    """CenterLoss, RankHardLoss, a class of pytorch_metric_learning.losses, or module.Class"""
    args: dict[str, Any] = field(default_factory=dict)
    """of the loss"""
    miner: str | None = None
    """a class of pytorch_metric_learning.miners, which picks the loss's pairs or triplets"""
    miner_args: dict[str, Any] = field(default_factory=dict)
    """of the miner"""


@dataclass
class AugmentConfig:
    """Augmentation of the training images. Parts that are null are as in the preset."""

    preset: Literal["ssd", "light", "none"] = "ssd"
    """ssd: the recipe of the SSD paper; light: mild crops and colours; none: resize only"""
    photometric: bool | None = None
    """brightness, contrast, saturation and hue"""
    zoom_out: bool | None = None
    """the image shrunk onto a larger canvas"""
    crop: bool | None = None
    """random crops"""
    flip: bool | None = None
    """left and right exchanged; off for digits, cards and writing"""
    rotate90: bool | None = None
    """right-angle turns, for objects without an upright position"""


@dataclass
class DigitsConfig:
    """The scenes of handwritten digits, which are made on first use."""

    train: int = 400
    """training images"""
    val: int = 200
    """validation images"""
    seed: int = 0
    """of the scenes; other than train.seed"""
    digits: list[int] = field(default_factory=lambda: list(range(10)))
    """those that are drawn"""
    styles: list[str] = field(default_factory=lambda: ["plain"])
    """of plain, hollow, striped, underlined; every digit in every style is a class"""
    imbalance: float = 1.0
    """how many times as frequent in training the first class is as the last"""
    wrong_labels: float = 0.0
    """part of the training boxes that bear a wrong class"""


@dataclass
class DataConfig:
    """Where the images are and how they are read."""

    format: Literal[
        "auto",
        "voc",
        "coco",
        "yolo",
        "cvat",
        "label_studio",
        "labelme",
        "table",
        "digits",
        "lmdb",
    ] = "auto"
    """how it is laid out (docs/layouts.md); auto finds out; digits: made on first use; lmdb: what
    detcenter pack wrote"""
    root: str = "data"
    """folder of the data set; lmdb: the file"""
    train: str | None = None
    """the part to train on, by the name below root of its annotation file or folder; of VOC's lists
    in ImageSets/Main without .txt; null finds it"""
    val: float | str | None = None
    """likewise, for evaluation; or 0.2, say: the fraction of data.train that is held out instead;
    null finds it, and holds out 0.2 where there is none"""
    val_seed: int = 0
    """of a fraction: which images are held out"""
    train_images: str | None = None
    """coco: folder of the training images below root; null finds it"""
    val_images: str | None = None
    """coco: folder of the validation images below root; null finds it"""
    classes: list[str] | None = None
    """names in the order of their labels; null takes those that are declared or occur"""
    unknown: list[str | int] | None = None
    """classes that are not taught, for detcenter openset; training images with such objects are
    left out"""
    keep_unknown_images: bool = False
    """these images stay, and such objects are background to the detector"""
    keep_difficult: bool = False
    """train on objects flagged difficult too"""
    on_error: Literal["raise", "skip"] = "raise"
    """faulty files: raise stops and lists them, skip leaves them out and says how many"""
    folds: int | None = None
    """cross-validation: the images of train and val together, cut into this many parts"""
    fold: int = 0
    """of folds: the part for evaluation, from 0; training is on the others"""
    digits: DigitsConfig = field(default_factory=DigitsConfig)
    """of format digits: what the scenes are like"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """augmentation of the training images"""
    workers: int = 2
    """processes that load images; 0 loads in the main process"""
    draft: bool = False
    """JPEGs much larger than the model's images are decoded at 1/2, 1/4 or 1/8, which is faster"""
    cache: Literal["ram"] | None = None
    """ram: training decodes every image once and keeps it in memory, where all runs share it; null
    decodes it every time"""


@dataclass
class TrainConfig:
    """How long and how fast."""

    epochs: int = 120
    """passes over the training images"""
    batch_size: int = 32
    """images a step"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd with momentum, or adamw"""
    lr: float = 0.002
    """the learning rate after warm-up"""
    backbone_lr: float = 1.0
    """the backbone's learning rate, as a part of lr"""
    momentum: float = 0.9
    """of sgd"""
    weight_decay: float = 0.0005
    """of the weights; adamw leaves norms and biases out"""
    schedule: Literal["multistep", "cosine"] = "multistep"
    """multistep: times gamma at each milestone; cosine: to zero along half a cosine"""
    milestones: list[int] = field(default_factory=lambda: [80, 110])
    """of multistep: the epochs after which the rate falls"""
    gamma: float = 0.1
    """of multistep: what the rate is multiplied with"""
    warmup_steps: int = 500
    """steps in which the rate rises from a thousandth"""
    accumulate: int = 1
    """passes over batch_size images before a step; in several processes each makes so many"""
    clip_grad_norm: float | None = None
    """bound on the norm of the gradient"""
    on_nan: Literal["raise", "skip"] = "raise"
    """a loss that is not finite ends the run, or its step is passed over (ten in a row at most)"""
    ema: float | None = None
    """decay of a moving average of the weights, 0.999 say, which is then evaluated and kept"""
    exact_losses: bool = False
    """several processes or passes: an SSD's losses and terms are means over the boxes of all"""
    sync_batch_norm: bool = False
    """several GPUs: statistics of batch norm over the images of all"""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """of training; evaluation runs in float32"""
    compile: bool = False
    """torch.compile of the backbone and the head: a wait at first, then faster steps"""
    gradient_checkpointing: bool = False
    """stages of torchvision's backbones are computed twice, for less memory"""
    channels_last: bool = False
    """memory format of the convolutions; often faster, on CPUs too"""
    seed: int = 0
    """of weights, order and augmentation"""
    eval_every: int = 1
    """epochs between evaluations"""
    save_every_minutes: float = 10.0
    """minutes between checkpoints inside an epoch; there is one after every epoch as well"""
    save_every_steps: int | None = None
    """steps between checkpoints inside an epoch, beside those"""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """what gets the numbers of metrics.csv too: tensorboard, wandb, mlflow, ...; [] is none"""


@dataclass
class EvaluationConfig:
    """How detections are measured."""

    backend: Literal["pycocotools", "hotcoco"] = "pycocotools"
    """what computes COCO's numbers: the reference, or a faster one that gives the same"""
    score: float = 0.5
    """detections of a lower score stay out of the confusion matrix"""
    max_detections: int = 100
    """how many detections of an image and class COCO's numbers count, the surest; a model gives
    model.detections_per_img an image at most (R-CNNs and FCOS 100, SSD 200, RetinaNet 300)"""
    iou: float = 0.5
    """IoU with its object from which on a detection is right, in all but COCO's numbers"""


@dataclass
class Config:
    """A recipe."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """the detector"""
    center: CenterConfig | None = field(default_factory=CenterConfig)
    """the center-loss term; null is the baseline"""
    terms: dict[str, LossConfig] = field(default_factory=dict)
    """other losses on box features, by a name of your choice"""
    init_from: str | None = None
    """a checkpoint, of detcenter or torchvision; what fits the model is loaded from it"""
    data: DataConfig = field(default_factory=DataConfig)
    """the data set"""
    train: TrainConfig = field(default_factory=TrainConfig)
    """the training"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """the numbers"""
    output: str | None = None
    """the run's folder; null is runs/<name of the recipe>"""


def config_from_dict(values: dict[str, Any]) -> Config:
    """The :class:`Config` that ``dataclasses.asdict`` was called on.

    Raises:
        ConfigError: if another version of the package made it.
    """
    for name, term in {"center": values.get("center"), **values.get("terms", {})}.items():
        old = next((key for key in term or {} if key in RENAMED), None)
        if old is not None:
            raise ConfigError(
                f"the recipe is of an earlier version of detcenter: {old} of {name} is "
                f"{RENAMED[old]} now; train it again, or start from its weights by init_from"
            )
    if (values.get("center") or {}).get("vote_by") == "centers":
        raise ConfigError(
            "the recipe is of an earlier version of detcenter: its centers vote, which only the "
            "embedding's softmax does now; the weights of its checkpoint go into init_from"
        )
    try:
        return _from_dict(values)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the recipe is of another version of detcenter ({error}); the weights of its "
            "checkpoint go into init_from"
        ) from None


def _from_dict(values: dict[str, Any]) -> Config:
    center, data = values["center"], values["data"]
    sections = {
        "augment": AugmentConfig(**data["augment"]),
        "digits": DigitsConfig(**data.get("digits", {})),  # of a run before there was a choice,
    }
    return Config(
        model=ModelConfig(**values["model"]),
        center=None if center is None else _center(center),
        terms={name: LossConfig(**term) for name, term in values["terms"].items()},
        init_from=values["init_from"],
        data=DataConfig(**(data | sections)),
        train=TrainConfig(**values["train"]),
        # of a run before there was a choice
        evaluation=EvaluationConfig(**values.get("evaluation", {})),
        output=values["output"],
    )


def _center(values: dict[str, Any]) -> CenterConfig:
    return CenterConfig(**{key: value for key, value in values.items() if key not in _GONE})


def flat(config: Config) -> dict[str, Any]:
    """Every value by its dotted key; a section that is null has no keys."""
    return dict(_flat(dataclasses.asdict(config), ""))


def differences(a: Config, b: Config) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two recipes differ, with both values."""
    first, second = flat(a), flat(b)
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield key, first.get(key), second.get(key)


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
