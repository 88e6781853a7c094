"""A recipe: every key with its type, default and meaning. One YAML a recipe."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from detcenter.errors import ConfigError

_GONE = {"vote_by", "vote_scale"}
"""Keys of the center term that earlier versions wrote, which its vote has no more."""

RENAMED_OF_TERMS = {"warmup": "warmup_steps"}
"""Keys of terms that had other names in earlier versions."""

RENAMED = {"train.backbone_lr": "train.backbone_lr_factor"}
"""Other keys that had other names; a checkpoint with the old ones loads."""


@dataclass
class ModelConfig:
    """The detector. Keys that are null keep the builder's own default."""

    name: str = "ssd"
    """a detector of torchvision; ssd, fasterrcnn, retinanet, fcos: over any torchvision backbone"""
    num_classes: int | None = None
    """number of classes, with the background; null takes it from the data"""
    weights: str | None = None
    """weights of the whole detector: a torchvision weight set (DEFAULT, COCO_V1) or a file of a
    torchvision model; for a checkpoint of detcenter see init_from"""
    weights_backbone: str | None = None
    """weights of the backbone alone: a torchvision weight set (DEFAULT, IMAGENET1K_V1) or a file"""
    trainable_backbone_layers: int | None = None
    """stages of the backbone that are trained, counted from its end"""
    min_negatives: int = 0
    """SSD only: the least number of background boxes that an image is trained with; 0 is
    torchvision's way, in which images without objects teach nothing"""
    box_vectors: int | None = None
    """SSD only: dimensions of a vector of each box, which one layer for all maps classifies (with
    train.clip_grad_norm, 10 say); null leaves torchvision's layers, one a map"""
    l2_softmax: float | None = None
    """length that features are scaled to before they are classified (L2-constrained softmax); null
    leaves them as they are"""
    l2_softmax_learnt: bool = False
    """whether the length of model.l2_softmax is trained"""
    options: dict[str, Any] = field(default_factory=dict)
    """further arguments of torchvision's builder, such as min_size or box_batch_size_per_image"""
    backbone: str | None = None
    """the backbone of ssd, fasterrcnn, retinanet or fcos: a torchvision classification model, such
    as mobilenet_v2"""
    image_size: int | None = None
    """side that images are resized to, in pixels, square; needs model.backbone"""
    strides: list[int] | None = None
    """strides of the feature maps that boxes are predicted on; needs model.backbone"""
    anchor_scales: list[list[float]] | None = None
    """for each stride the sides of its anchors, as parts of the image's side; needs
    model.backbone"""
    aspect_ratios: list[float] | None = None
    """width divided by height of the anchors; needs model.backbone"""
    top_stride: int | None = None
    """stride of the coarsest feature map that is merged into the finer ones; needs
    model.backbone"""
    out_channels: int | None = None
    """channels of the feature maps; needs model.backbone"""
    frozen_batch_norm: bool | None = None
    """whether the backbone keeps the batch-norm statistics of its weights; needs model.backbone"""
    score_thresh: float | None = None
    """the lowest score of a detection that the model gives at all; what is measured and what is
    shown is chosen from these (evaluation.score, predict --threshold)"""
    nms_thresh: float | None = None
    """the IoU above which the less sure one of two detections of a class is dropped"""
    detections_per_img: int | None = None
    """most detections that the model gives in an image"""


@dataclass
class TermConfig:
    """What all terms on box features have."""

    weight: float | None = None
    """what the loss is multiplied with in the sum of losses; null is, on an R-CNN's own vectors, 3
    for center loss and 1 for another loss, and 0.3 elsewhere"""
    features: Literal["cell", "box", "embedding"] | None = None
    """which feature of a box is meant. box: the vector that an R-CNN classifies; cell: the vector
    of the feature map at the box, of other detectors; embedding: a projection of either; null is
    box for an R-CNN, embedding for the others"""
    embedding_dim: int | None = None
    """dimensions of the embedding; null is 64, or those of the embedding that another loss made"""
    embedding_weight: float | None = None
    """weight of the softmax that trains the embedding, loss_embedding; null is 1, or that of the
    embedding that another loss made"""
    warmup_steps: int = 0
    """steps over which the weight rises from 0, while the centers already follow the features"""
    start_epoch: int = 0
    """epochs at weight 0, before the weight begins to rise"""
    min_iou: float = 0.0
    """the least IoU that a positive box has with its object to count, 0 to 1"""
    per_object: bool = False
    """whether every object counts once, however many boxes are matched with it"""


@dataclass
class CenterConfig(TermConfig):
    """The center loss; `center: null` is the baseline without it."""

    alpha: float = 0.5
    """how far a center moves towards the features of its class in a step, 0 to 1"""
    normalize: bool = True
    """whether features and centers are scaled to length 1 before they are compared"""
    vote: float | None = None
    """how much the embedding has to say, 0 to 1, about the class of a detected box; null is
    nothing"""


@dataclass
class LossConfig(TermConfig):
    """Another loss on box features."""

    loss: str = "CenterLoss"
    """the loss: CenterLoss, RankHardLoss, a class of pytorch_metric_learning.losses, or
    module.Class"""
    args: dict[str, Any] = field(default_factory=dict)
    """arguments of the loss"""
    miner: str | None = None
    """a class of pytorch_metric_learning.miners, which picks the loss's pairs or triplets"""
    miner_args: dict[str, Any] = field(default_factory=dict)
    """arguments of the miner"""


@dataclass
class AugmentConfig:
    """Augmentation of the training images. Parts that are null are as in the preset."""

    preset: Literal["ssd", "light", "none"] = "ssd"
    """what is done to the images. ssd: all that the SSD paper does; light: mild crops and colours;
    none: nothing"""
    photometric: bool | None = None
    """whether brightness, contrast, saturation and hue are changed"""
    zoom_out: bool | None = None
    """whether the image is shrunk onto a larger canvas"""
    crop: bool | None = None
    """whether the image is cropped at random"""
    flip: bool | None = None
    """whether left and right are exchanged; not for digits, cards and writing"""
    rotate90: bool | None = None
    """whether the image is turned by right angles, for objects without an upright position"""


@dataclass
class DigitsConfig:
    """The scenes of handwritten digits, which are made on first use."""

    train: int = 400
    """number of training images"""
    val: int = 200
    """number of validation images"""
    seed: int = 0
    """seed of the scenes; that of the training is train.seed"""
    digits: list[int] = field(default_factory=lambda: list(range(10)))
    """which digits are drawn, such as [0, 1, 7]"""
    styles: list[str] = field(default_factory=lambda: ["plain"])
    """how digits are drawn: some of plain, hollow, striped, underlined; every digit in every style
    is a class"""
    imbalance: float = 1.0
    """how many times as often as the last class the first one occurs in training"""
    wrong_labels: float = 0.0
    """part of the training boxes that get a wrong class, 0 to 1"""


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
    """layout of the data set (docs/layouts.md). auto finds it out; digits are made on first use;
    lmdb is what detcenter pack wrote"""
    root: str = "data"
    """folder of the data set, or file of format lmdb; one that is not absolute is looked for below
    $DETCENTER_DATA first"""
    train: str | None = None
    """part to train on: its annotation file or folder below data.root, of VOC the name of its list
    in ImageSets/Main; null finds it"""
    val: float | str | None = None
    """part to evaluate on, named as in data.train; or the fraction of data.train that is held out
    for it, such as 0.2; null finds the part, and holds out 0.2 where there is none"""
    val_seed: int = 0
    """which images are held out, where data.val is a fraction"""
    train_images: str | None = None
    """folder of the training images below data.root, of COCO's layout; null finds it"""
    val_images: str | None = None
    """folder of the validation images below data.root, of COCO's layout; null finds it"""
    classes: list[str] | None = None
    """names of the classes in the order of their labels; null takes those that are declared or
    occur"""
    unknown: list[str | int] | None = None
    """classes that are not taught, for detcenter openset; training images with objects of these are
    left out"""
    keep_unknown_images: bool = False
    """whether images with objects of data.unknown stay in training, these objects being
    background"""
    keep_difficult: bool = False
    """whether objects that are flagged as difficult are trained on too"""
    on_error: Literal["raise", "skip"] = "raise"
    """what is done about faulty files: raise stops and lists them, skip leaves them out and says
    how many there are"""
    folds: int | None = None
    """number of parts that the images of data.train and data.val are cut into for cross-validation;
    null leaves them as they are"""
    fold: int = 0
    """which of data.folds is evaluated on, from 0; the others are trained on"""
    groups: str | None = None
    """file that says which images belong together, a JSON list of lists of names below data.root,
    such as those of one film (detcenter check --groups writes near copies): neither data.folds nor
    a fraction data.val parts them"""
    digits: DigitsConfig = field(default_factory=DigitsConfig)
    """what the scenes of data.format digits are like"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """augmentation of the training images"""
    workers: int = 2
    """processes that load images; 0 loads in the main process"""
    draft: bool = False
    """whether JPEGs much larger than the model's images are decoded at 1/2, 1/4 or 1/8, which is
    faster"""
    cache: Literal["ram"] | None = None
    """ram keeps every training image decoded in memory, which all runs share; null decodes it every
    time"""


@dataclass
class TrainConfig:
    """How long and how fast."""

    epochs: int = 120
    """passes over the training images"""
    batch_size: int = 32
    """images in a batch"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd, with train.momentum, or adamw"""
    lr: float = 0.002
    """learning rate, once it has risen over train.warmup_steps"""
    backbone_lr_factor: float = 1.0
    """what train.lr is multiplied with for the backbone"""
    momentum: float = 0.9
    """momentum of sgd"""
    weight_decay: float = 0.0005
    """weight decay; adamw leaves norms and biases out"""
    schedule: Literal["multistep", "cosine"] = "multistep"
    """how the learning rate falls. multistep: by train.gamma at each of train.milestones; cosine:
    to zero along half a cosine"""
    milestones: list[int] = field(default_factory=lambda: [80, 110])
    """epochs after which the learning rate falls, of schedule multistep"""
    gamma: float = 0.1
    """what the learning rate is multiplied with at each milestone"""
    warmup_steps: int = 500
    """steps over which the learning rate rises from a thousandth of train.lr"""
    accumulate: int = 1
    """batches whose gradients are summed up before a step; in several processes each takes so
    many"""
    clip_grad_norm: float | None = None
    """largest norm of the gradient, to which it is scaled down; null is no bound"""
    on_nan: Literal["raise", "skip"] = "raise"
    """what is done about a loss that is not finite: raise ends the run, skip passes over its step,
    ten in a row at most"""
    ema: float | None = None
    """decay of a moving average of the weights, such as 0.999, which is then evaluated and kept;
    null makes no average"""
    exact_losses: bool = False
    """SSD only, in several processes or with train.accumulate: whether losses are means over the
    boxes of all batches of a step"""
    sync_batch_norm: bool = False
    """whether batch norm takes its statistics over the images of all GPUs"""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """precision of the training, the amp of other programs; evaluation runs in float32, and so
    does a training on a CPU that would only emulate bf16"""
    compile: bool = False
    """whether backbone and head are compiled by torch.compile: a wait at first, then faster
    steps"""
    gradient_checkpointing: bool = False
    """whether stages of the backbone are computed twice, which takes less memory"""
    channels_last: bool = False
    """whether convolutions run in the memory format channels_last; often faster, on CPUs too"""
    seed: int = 0
    """seed of the first weights, the order of the images and the augmentation"""
    eval_every: int = 1
    """epochs between evaluations"""
    save_every_minutes: float = 10.0
    """minutes between checkpoints inside an epoch; there is one after every epoch as well"""
    save_every_steps: int | None = None
    """steps between checkpoints inside an epoch, beside those of save_every_minutes; null makes
    none"""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """trackers that get the numbers of metrics.csv too: tensorboard, wandb, mlflow and others; []
    is none"""


@dataclass
class EvaluationConfig:
    """How detections are measured."""

    backend: Literal["pycocotools", "hotcoco"] = "pycocotools"
    """what computes COCO's numbers: pycocotools, the reference, or hotcoco, which is faster and
    gives the same"""
    score: float = 0.5
    """the lowest score of a detection that the confusion matrix counts; AP counts all"""
    max_detections: int = 100
    """most detections of an image and class that COCO's numbers count, the surest ones; a model
    gives model.detections_per_img an image at most (R-CNNs and FCOS 100, SSD 200, RetinaNet 300)"""
    iou: float = 0.5
    """the least IoU that a right detection has with its object, in all but COCO's numbers"""


@dataclass
class Config:
    """A recipe."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """the detector"""
    center: CenterConfig | None = field(default_factory=CenterConfig)
    """the center loss; null trains without it, the baseline"""
    terms: dict[str, LossConfig] = field(default_factory=dict)
    """further losses on box features, each under a name of your choice (docs/terms.md)"""
    init_from: str | None = None
    """checkpoint of detcenter or torchvision to start from; of its weights all that fit this model
    are loaded, over those of model.weights"""
    data: DataConfig = field(default_factory=DataConfig)
    """the data set"""
    train: TrainConfig = field(default_factory=TrainConfig)
    """the training"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """the numbers"""
    output: str | None = None
    """folder of the run; null is runs/<name of the recipe>"""


def config_from_dict(values: dict[str, Any]) -> Config:
    """The :class:`Config` that ``dataclasses.asdict`` was called on.

    Raises:
        ConfigError: if another version of the package made it.
    """
    for name, term in {"center": values.get("center"), **values.get("terms", {})}.items():
        old = next((key for key in term or {} if key in RENAMED_OF_TERMS), None)
        if old is not None:
            raise ConfigError(
                f"the recipe is of an earlier version of detcenter: {old} of {name} is "
                f"{RENAMED_OF_TERMS[old]} now; train it again, or start from its weights by "
                "init_from"
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
    values = _with_new_names(values)
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


def _with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    renamed = dict(values)
    for old, new in RENAMED.items():
        section, _, key = old.partition(".")
        if key in renamed[section]:
            others = {name: value for name, value in renamed[section].items() if name != key}
            renamed[section] = others | {new.partition(".")[2]: renamed[section][key]}
    return renamed


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
