"""From values to a page that needs nothing but itself."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from detcenter import __version__


def rendered_with_charts(name: str, shown: Mapping[str, Any], **values: Any) -> str:
    """The page `<name>.html`, in the frame `page.html`, around ``shown``, which `<name>.js` reads.

    It needs plotly and Jinja2.
    """
    from plotly.io.json import to_json_plotly
    from plotly.offline import get_plotlyjs

    data = to_json_plotly(shown, engine="json")
    return _rendered(
        name, data, ("page", "charts", name), values | {"plotly": _packed(get_plotlyjs())}
    )


def rendered(name: str, shown: Mapping[str, Any], **values: Any) -> str:
    """Likewise, of a page without charts. It needs Jinja2 alone."""
    return _rendered(name, json.dumps(shown, allow_nan=False), ("page", name), values)


def rendered_still(name: str, **values: Any) -> str:
    """Likewise, of a page on which nothing but its colours changes."""
    return _rendered(name, "{}", ("page",), values)


def _rendered(name: str, data: str, scripts: Sequence[str], values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader

    own = files("detcenter.report")
    environment = Environment(loader=PackageLoader("detcenter", "report"), autoescape=True)
    return environment.get_template(f"{name}.html").render(
        values,
        version=__version__,
        data=data.replace("<", "\\u003c"),  # or a text in it could end the script
        css=(own / "report.css").read_text(encoding="utf-8"),
        script="\n".join((own / f"{part}.js").read_text(encoding="utf-8") for part in scripts),
    )


def _packed(code: str) -> str:
    """Gzip in base64, which the page unpacks: of five megabytes two are left."""
    return base64.b64encode(gzip.compress(code.encode(), mtime=0)).decode()
