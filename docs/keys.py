"""Every key of a recipe, from the dataclasses of detcenter.recipe.config: python docs/keys.py"""

import json
import re
from typing import Any

import docstring_parser

from detcenter.recipe.keys import Key, all_keys, in_words, section_in


def page() -> str:
    """Markdown: a heading for every section of a recipe, and a definition for every key."""
    keys = list(all_keys())
    parts = ["### At the top\n", *_definitions(keys, "")]
    for key in keys:
        section = section_in(key.kind)
        if section is not None:
            name = f"{key.name}.NAME" if isinstance(key.default, dict) else key.name
            about = docstring_parser.parse_from_object(section).short_description
            parts += [f"### `{name}`\n", f"{about}\n", *_definitions(keys, name)]
    return "\n".join(parts)


def _definitions(keys: list[Key], section: str) -> list[str]:
    return [
        f"`{key.name}`\n: {_as_markdown(key.meaning)}\\\n"
        f"  {in_words(key.kind)}; default `{_as_yaml(key.default)}`\n"
        for key in keys
        if key.name.rpartition(".")[0] == section and section_in(key.kind) is None
    ]


def _as_markdown(text: str) -> str:
    return re.sub(r"([<*\[\]])", r"\\\1", text)


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    print(page())
