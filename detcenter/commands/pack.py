"""`detcenter pack`: a data set in, one LMDB file out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from detcenter.data import write_lmdb
from detcenter.errors import ConfigError
from detcenter.options import pack as options
from detcenter.recipe.config import DataConfig
from detcenter.recipe.datasets import training_set, validation_set, warn_of_copies
from detcenter.recipe.extras import need
from detcenter.recipe.layouts import resolved
from detcenter.recipe.parsing import parse


def main(args: Sequence[str]) -> None:
    """Write data.train and data.val into ``--output``, under their own names."""
    arguments = parse(options.parser(args), args)
    output = Path(arguments.output)
    _check(arguments.data, output, arguments.overwrite)
    _check_apart(arguments.data)
    data = resolved(arguments.data)
    train, names = training_set(data), _names(data)
    val = validation_set(data, train.classes)
    warn_of_copies(data, train, val)
    parts = {names[0]: train, names[1]: val}
    write_lmdb(output, parts, data.root, progress=partial(tqdm, unit="img"))
    images = ", ".join(f"{len(part)} images of {name}" for name, part in parts.items())
    print(f"{images} in {output}, {output.stat().st_size / 2**20:.1f} MiB; read them with")
    print(f"data: {{format: lmdb, root: {output}, train: {names[0]}, val: {names[1]}}}")


def _names(data: DataConfig) -> tuple[str, str]:
    """What the parts are called in the file."""
    return str(data.train), "val" if isinstance(data.val, float) else str(data.val)


def _check(data: DataConfig, output: Path, overwrite: bool) -> None:
    """Before anything that takes long."""
    need("lmdb", "lmdb", "packing")
    if data.format == "lmdb":
        raise ConfigError(f"data.format is lmdb: {data.root} is packed already")
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a file, such as {output}.lmdb")
    if output.exists() and not overwrite:
        raise ConfigError(f"--output {output} is there already; name another, or --overwrite it")


def _check_apart(data: DataConfig) -> None:
    if data.train == data.val and data.format == "coco" and data.train_images != data.val_images:
        raise ConfigError(
            f"data.train and data.val are both {data.train!r}, of different folders; "
            "parts of a packed data set are told apart by their names"
        )
