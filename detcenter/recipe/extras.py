"""Packages that not every installation has."""

from importlib.util import find_spec

from detcenter.errors import ConfigError


def need(package: str, extra: str, what: str, otherwise: str = "") -> None:
    """To be called before anything that takes long.

    Args:
        package: that is imported.
        extra: of this package, that brings it.
        what: needs it.
        otherwise: what can be done without it.

    Raises:
        ConfigError: if it is not installed.
    """
    if find_spec(package) is None:
        way_out = f"; {otherwise}" if otherwise else ""
        raise ConfigError(f"{what} needs {package}: pip install 'detcenter[{extra}]'{way_out}")
