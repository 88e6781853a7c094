"""Recipes that differ from the small one in a few keys."""

import yaml


def changed(recipe, folder, **sections):
    """Write to ``folder`` what ``recipe`` says, with other entries in some of its sections."""
    values = yaml.safe_load(recipe.read_text())
    for section, entries in sections.items():
        values[section] = values.get(section, {}) | entries
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
