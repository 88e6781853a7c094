"""Images that a person, or a search for near copies, says belong together."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from detcenter.data.findings import Part, Place
from detcenter.data.splitting import joined_groups, name_below
from detcenter.errors import ConfigError
from detcenter.recipe.config import DataConfig
from detcenter.whole_file import whole_file


def groups_of(data: DataConfig) -> list[list[Path]]:
    """Those of ``data.groups``; none without it.

    Raises:
        ConfigError: it is no such file.
    """
    if data.groups is None:
        return []
    file = Path(data.groups)
    try:
        groups = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"data.groups: {file}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"data.groups: {file} is no JSON: {error}") from None
    if not isinstance(groups, list) or not all(map(_are_names, groups)):
        raise ConfigError(
            f"data.groups: {file} is no list of lists of image names, each list of images that "
            'belong together, [["a.jpg", "b.jpg"]] say'
        )
    return [[Path(data.root) / name for name in group] for group in groups]


def write_groups(
    file: Path, root: Path, parts: Sequence[Part], pairs: Iterable[tuple[Place, Place]]
) -> int:
    """Write images of ``parts`` that pairs join, as ``data.groups`` has them.

    Returns:
        how many groups there are.
    """
    groups = [
        sorted({name_below(parts[part].annotations[n]["path"], root) for part, n in group})
        for group in joined_groups(pairs)
    ]
    lines = ",\n".join(map(json.dumps, sorted(groups)))
    with whole_file(file) as opened:  # another machine may audit the same data
        opened.write((f"[\n{lines}\n]\n" if lines else "[]\n").encode())
    return len(groups)


def check_known(data: DataConfig, groups: Sequence[Sequence[Path]], paths: Iterable[Path]) -> None:
    """Refuse groups of which no image is there, as names below another folder are."""
    if groups and not {path for group in groups for path in group}.intersection(paths):
        raise ConfigError(
            f"data.groups: none of the images in {data.groups}, such as {groups[0][0]}, is in the "
            "data set; names are those below data.root"
        )


def _are_names(group: object) -> bool:
    return isinstance(group, list) and bool(group) and all(isinstance(x, str) for x in group)
