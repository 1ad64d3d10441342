"""The verbs: one function each, plain values in and out; the command line parses, calls one of these, and prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddhub import artifact, card, evaluate, files, recipe, report
from ddhub import distill as distilling
from ddhub.log import say


def distill(
    reference: str,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    checkpoint_seconds: float = 120,
) -> dict[str, Any]:
    """Distill a recipe (path or shipped name) into a folder, `distilled/NAME` by default; resumes where it stopped."""
    resolved = recipe.read(reference, overrides)
    folder = Path(out) if out is not None else Path("distilled") / resolved.name
    distilling.make(
        resolved,
        folder,
        overrides=overrides,
        decisions={"device": device, "threads": threads, "compile": compile},
        checkpoint_seconds=checkpoint_seconds,
    )
    return write_card(folder)


def write_card(folder: Path) -> dict[str, Any]:
    """Write the image grid, report.json and README.md of an artifact anew, and say where things are."""
    found = artifact.read(folder)
    grid = folder / "assets" / "images.png"
    report.image_grid(found, grid)
    summary = report.save(found.manifest, folder / "evaluation", folder / "report.json")
    resolved = recipe.parse_yaml((folder / "recipe.yaml").read_text(encoding="utf-8"), str(folder / "recipe.yaml"))
    text = card.render(found.manifest, resolved, summary, len(found.labels))
    files.write_bytes(folder / "README.md", text.encode())
    return {"folder": str(folder), "picture": str(grid), "manifest": found.manifest.model_dump(mode="json")}


def evaluation(
    reference: str,
    archs: Sequence[str] = (),
    *,
    protocols: Sequence[str] = ("native",),
    baselines: Sequence[str] = ("random",),
    seeds: int | None = None,
    test: str | None = None,
    source_path: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
) -> dict[str, Any]:
    """Evaluate an artifact folder: returns its rows and their summary, and refreshes the set's report and card."""
    folder = Path(reference)
    found = artifact.read(folder)
    try:
        rows = evaluate.evaluate(
            found,
            folder / "evaluation",
            archs,
            protocols=protocols,
            baselines=baselines,
            seeds=seeds,
            test=test,
            source_path=source_path,
            device=device,
            threads=threads,
            compile=compile,
        )
    finally:
        # Rows that were finished count, whatever became of the others.
        if (folder / "ddhub.json").is_file() and (folder / "evaluation").is_dir():
            write_card(folder)
    say(f"rows: {folder / 'evaluation'}; card: {folder / 'README.md'}")
    return report.build(found.manifest.name, rows)


def recipes() -> list[dict[str, Any]]:
    """The shipped recipes: name, dataset, images per class, method, and what is expected of each."""
    listing = []
    for name in recipe.names():
        path = recipe.find(name)
        data = recipe.parse_yaml(path.read_text(encoding="utf-8"), str(path))
        listing.append(
            {
                "name": name,
                "dataset": data["source"]["dataset"],
                "ipc": data["ipc"],
                "method": data["method"]["name"],
                "title": data.get("publish", {}).get("pretty_name"),
                "expected": data.get("expected", {}),
                "path": str(path),
            }
        )
    return listing
