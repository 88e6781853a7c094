"""The site: `make docs` builds it from the pages beside this file into build/docs."""

import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import keys  # noqa: E402

import detcenter  # noqa: E402

project = "detcenter"
author = copyright = "the detcenter developers"
version = release = detcenter.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"detcenter {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
highlight_language = "none"  # of formulas; blocks of code name theirs
pygments_style = "friendly"  # readable on the light ground; the dark one is furo's

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links to headings, as GitHub names them

# A word in single backquotes is code, in docstrings too.
default_role = "code"
nitpicky = True
# Types of other packages have no page here, and what is private to this one has none either.
nitpick_ignore_regex = [("py:.*", r"(?!detcenter\.).*"), ("py:class", r"detcenter\..*")]

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_custom_sections = ["Shapes"]
napoleon_numpy_docstring = False


class RecipeKeys(SphinxDirective):
    """Every key of a recipe, from the dataclasses as they are when the site is built."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(keys.__file__)
        return self.parse_text_to_nodes(keys.page(), allow_section_headings=True)


def mathml(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Formulas as browsers show them by themselves: nothing is loaded from elsewhere."""
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.add_directive("recipe-keys", RecipeKeys)
