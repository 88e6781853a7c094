"""`detcenter predict`: a checkpoint and images or videos in, drawn boxes and files out."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from detcenter.data import DataError, Fault, Source, files_at, sources
from detcenter.data.errors import printable
from detcenter.errors import ConfigError
from detcenter.evaluation import FORMATS, Prediction
from detcenter.export import OnnxDetector
from detcenter.options import predict as options
from detcenter.progress import bar
from detcenter.recipe.extras import need
from detcenter.recipe.parsing import parse
from detcenter.runs.checkpoints import checkpoint_in, classes_of, detector_of, with_vote
from detcenter.runs.drawings import drawings, drawn_files
from detcenter.runs.prediction import predictions
from detcenter.training import stop_request

UNKNOWN = "unknown"
"""The class of what looks like none that was taught."""


def main(args: Sequence[str]) -> None:
    """Write pictures, and the files of ``--format``, into ``--output``.

    Images that cannot be read do not keep the others waiting; they are an error at the end.
    """
    checkpoint, recipe = checkpoint_in(args)
    arguments = parse(options.parser(args, recipe), args)
    formats = _formats(arguments.format)
    threshold = _threshold(arguments)
    output = Path(arguments.output)
    exported = _exported(arguments, threshold)
    names = classes_of(checkpoint) if exported is None else exported.classes
    taught = len(checkpoint["classes"]) if exported is None else exported.taught
    lowest = _lowest_scores(threshold, names, checkpoint.get("thresholds"), arguments.checkpoint)
    faults: list[Fault] = []
    named = [file for name in arguments.images for file in files_at(Path(name), output)]
    files = list(sources(bar("looking at files", "file")(named), faults))
    if not files:
        raise DataError(*dict.fromkeys(faults))
    if not arguments.no_pictures:
        _check_apart(files, output, arguments.every)
    model = exported or detector_of(
        with_vote(checkpoint, arguments.center.vote), Path(arguments.checkpoint)
    )
    marks = _unknown_threshold(model) is not None
    classes = [*names, *([UNKNOWN] if marks else [])]
    with ExitStack() as stack:
        output.mkdir(parents=True, exist_ok=True)
        writers = {name: FORMATS[name](output, classes) for name in formats}
        if not arguments.no_pictures:
            writers["pictures"] = drawings(output, classes, arguments.every, arguments.workers)
        writes = [stack.enter_context(writer) for writer in writers.values()]
        count, boxes = _detect(model, files, arguments, lowest, taught, writes, faults)
    if threshold is None:
        print(f"shown from a score of: {_in_words(names, lowest)}")
    print(f"{count} image{'' if count == 1 else 's'} to {output}: {', '.join(writers)}")
    if not boxes:
        print(
            f"no boxes with a score of {lowest.min():.3g} or more; a lower --threshold shows more"
        )
    if faults:
        raise DataError(*dict.fromkeys(faults))


def _exported(arguments: Namespace, threshold: float | None) -> OnnxDetector | None:
    """The detector of ``--onnx``, if that is given in the place of ``--checkpoint``."""
    if arguments.onnx is None:
        return None
    need("onnxruntime", "export", "--onnx")
    if threshold is None:
        raise ConfigError("--threshold best: an ONNX file has no thresholds; give a number")
    if arguments.center.vote is not None:
        raise ConfigError("--center.vote: in an ONNX file its votes are fixed; export it with them")
    return OnnxDetector(arguments.onnx)


def _unknown_threshold(model: nn.Module) -> Tensor | None:
    scorer = getattr(model, "unknown_scorer", None)
    found: Any = getattr(model, "unknown_threshold", None) if scorer is None else scorer.threshold
    return None if found is None else torch.as_tensor(found)


def _formats(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise ConfigError(f"--format {name!r} is none of {known}; several are json,coco")
    return names


def _threshold(arguments: Namespace) -> float | None:
    """None is the best of each class."""
    if arguments.threshold is not None and arguments.score is not None:
        raise ConfigError("--threshold and --score say the same; give one of them")
    given = arguments.threshold if arguments.score is None else arguments.score
    if given == "best":
        return None
    try:
        value = options.LOWEST if given is None else float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        name = "threshold" if arguments.score is None else "score"
        best = "'best' or " if arguments.score is None else ""
        raise ConfigError(f"--{name} is {best}a number from 0 to 1, not {given!r}")
    return value


def _lowest_scores(
    threshold: float | None,
    classes: Sequence[str],
    best: Mapping[str, float | None] | None,
    path: str,
) -> Tensor:
    """By class, [K]."""
    if threshold is not None:
        return torch.full((len(classes),), threshold)
    if not best:
        raise ConfigError(
            f"--threshold best: {path} has no thresholds; train on (--resume) to have them "
            "measured with the validation images, or give a number"
        )
    values = [best.get(name) for name in classes]
    return torch.tensor([math.nan if x is None else x for x in values]).nan_to_num(options.LOWEST)


def _in_words(classes: Sequence[str], lowest: Tensor) -> str:
    pairs = [f"{printable(c)} {x:.3f}" for c, x in zip(classes, lowest.tolist(), strict=True)]
    return ", ".join(pairs[:10]) + (", …" if pairs[10:] else "")


def _check_apart(files: Iterable[Source], output: Path, every: int) -> None:
    inputs = {source.path.resolve() for source in files}
    for source in files:
        for picture in drawn_files(output, source, every):
            if picture.resolve() in inputs:
                raise ConfigError(f"--output would overwrite the image {picture}; name another")


def _detect(
    model: nn.Module,
    files: Sequence[Source],
    arguments: Namespace,
    lowest: Tensor,
    taught: int,
    writes: Sequence[Callable[[Prediction], None]],
    faults: list[Fault],
) -> tuple[int, int]:
    """How many images went through, and boxes shown; stopped by Ctrl-C, how far it came."""
    counts = [source.frames and math.ceil(source.frames / arguments.every) for source in files]
    total = None if None in counts else sum(n for n in counts if n is not None)
    found = predictions(
        model, files, every=arguments.every, workers=arguments.workers, faults=faults
    )
    count, boxes, limit = 0, 0, _unknown_threshold(model)
    with stop_request() as request:
        try:
            for prediction in bar("detecting", total=total)(found):
                shown = _above(prediction, lowest)
                if limit is not None:
                    shown = _marked(shown, limit, taught, len(lowest) + 1)
                for write in writes:
                    write(shown)
                count, boxes = count + 1, boxes + len(shown.detection["boxes"])
                request.check()
        except KeyboardInterrupt as stop:
            of_all = "" if total is None else f" of {total}"
            stop.args = (f" after {count}{of_all} images, whose results are complete",)
            raise
    return count, boxes


def _above(prediction: Prediction, lowest: Tensor) -> Prediction:
    found = prediction.detection
    keep = found["scores"] >= lowest[found["labels"] - 1]
    return prediction._replace(detection={name: values[keep] for name, values in found.items()})


def _marked(prediction: Prediction, threshold: Tensor, taught: int, label: int) -> Prediction:
    """With ``label`` for what has a higher unknown score than ``threshold``, of taught classes."""
    found = prediction.detection
    unknown = found["unknown_scores"] > threshold.to(found["unknown_scores"].device)
    unknown &= found["labels"] <= taught
    labels = torch.where(unknown, label, found["labels"])
    return prediction._replace(
        detection=found | {"labels": labels, "taught_labels": found["labels"]}
    )
