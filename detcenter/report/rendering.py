"""From values to a page that needs nothing but itself."""

import base64
import gzip
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from detcenter import __version__


def rendered(name: str, shown: Mapping[str, Any], **values: Any) -> str:
    """The page `<name>.html`, in the frame `page.html`, around ``shown``, which `<name>.js` reads.

    It needs plotly and Jinja2.
    """
    from jinja2 import Environment, PackageLoader
    from plotly.io.json import to_json_plotly
    from plotly.offline import get_plotlyjs

    own = files("detcenter.report")
    environment = Environment(loader=PackageLoader("detcenter", "report"), autoescape=True)
    scripts = [(own / f"{part}.js").read_text(encoding="utf-8") for part in ("charts", name)]
    return environment.get_template(f"{name}.html").render(
        values,
        version=__version__,
        data=to_json_plotly(shown, engine="json"),  # it escapes what could end a script
        css=(own / "report.css").read_text(encoding="utf-8"),
        script="\n".join(scripts),
        plotly=_packed(get_plotlyjs()),
    )


def _packed(code: str) -> str:
    """Gzip in base64, which the page unpacks: of five megabytes two are left."""
    return base64.b64encode(gzip.compress(code.encode(), mtime=0)).decode()
