"""Rewriting card, description, pictures and report of a set from the content of its folder."""

from pathlib import Path

from ddhub.artifact.file_names import CARD, CROISSANT, RECIPE, REPORT
from ddhub.artifact.manifest import Manifest
from ddhub.base import files, progress, same_folder, strict_yaml
from ddhub.reports import summary as summaries
from ddhub.reports.documents import Evaluation


def write(folder: Path) -> None:
    """Write the image grid, charts, report.json, croissant.json and README.md of an artifact again."""
    with same_folder.kept(folder), progress.busy("drawing pictures and writing the card"):
        from ddhub.artifact import folder as folders
        from ddhub.reports import charts, croissant, image_grid

        found = folders.read(folder)
        grid = folder / "assets" / "images.png"
        image_grid.image_grid(found, grid)
        summary = summaries.save(found.manifest, folder / "evaluation", folder / REPORT)
        charts.save(summary, grid.parent)
        files.write_bytes(folder / CROISSANT, croissant.render(found.manifest, folder))
        files.write_bytes(folder / CARD, card_of(found.manifest, folder, summary))


def card_of(record: Manifest, folder: Path, summary: Evaluation) -> bytes:
    """The card's text, from manifest, report and folder. The makers' own words in the present card stay in it."""
    from ddhub.reports import card

    resolved = strict_yaml.read(folder / RECIPE)
    words = card.own_words(folder / CARD)
    return card.render(record, resolved, summary, card.describe(folder), words).encode()


def results(artifact: Path | None, record: Manifest, out: Path) -> None:
    """Write the results of an evaluation's rows again, if there are any.

    Args:
        artifact: the set's folder, if it holds the rows. Its card is written too. None writes only the report.
        record: the set's manifest.
        out: the folder that holds the folder of rows.
    """
    rows = out / "evaluation"
    if not rows.is_dir():
        return
    # One process at a time: the last report then has the rows of all processes.
    with files.locked(rows / ".report.lock"):
        if artifact is not None:
            write(artifact)
        else:
            summaries.save(record, rows, out / REPORT)
