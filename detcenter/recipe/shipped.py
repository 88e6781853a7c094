"""The recipes that come with the package, each by its name."""

from pathlib import Path

from detcenter.errors import ConfigError, nearest


def shipped(package: Path = Path(__file__).parents[1]) -> dict[str, Path]:
    """Their files: inside ``package`` where it was installed, beside it in a clone."""
    inside = package / "configs"
    folder = inside if inside.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_file(given: str) -> str:
    """The file that ``--config`` means: the one that is there, else the recipe of that name.

    Raises:
        ConfigError: if it is a name, not a path, and there is neither.
    """
    if Path(given).is_file() or Path(given).name != given:
        return given
    recipes = shipped()
    if given in recipes:
        return str(recipes[given])
    raise ConfigError(
        f"--config {given}: No such file, and no recipe of that name comes with detcenter; "
        f"{nearest(given, recipes)}"
    )
