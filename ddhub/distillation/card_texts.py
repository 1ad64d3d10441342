"""Licence and title of a finished set, taken over when its recipe got others. They are no part of its payload."""

from pathlib import Path

from ddhub.artifact import manifest, source_location
from ddhub.artifact.file_names import MANIFEST, RECIPE
from ddhub.artifact.recipe import Recipe
from ddhub.base import files, strict_yaml
from ddhub.base.log import say
from ddhub.data import spec as specs


def take_over(recipe: Recipe, folder: Path) -> None:
    """Write the licence and title of a recipe into the manifest of its finished set. The payload stays as it is.

    Raises:
        UserError: for a folder without a set, or one that cannot be written.
    """
    record = manifest.read(folder)
    made_as = strict_yaml.read(folder / RECIPE)["publish"]["pretty_name"]
    title = recipe.publish.pretty_name
    texts = {
        "source": record.source.model_copy(update={"license": recipe.publish.license}),
        "title": title if title != made_as else None,
    }
    changed = record.model_copy(update=texts)
    if changed == record:
        return
    files.write_bytes(folder / MANIFEST, manifest.dump(changed))
    source_location.remember(changed, specs.local_folder(recipe.source))  # its note is of source and payload
    say(f"{folder}: licence '{changed.license}', title '{title or record.name}', as the recipe says now")
