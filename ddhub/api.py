"""The verbs: one function each, plain values in and out; the command line parses, calls one of these, and prints."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddhub import artifact, card, evaluate, files, hub, manifest, recipe, report, rows, verify
from ddhub import distill as distilling
from ddhub.errors import UserError
from ddhub.log import say
from ddhub.manifest import Manifest


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
    report.save(found.manifest, folder / "evaluation", folder / "report.json")
    files.write_bytes(folder / "README.md", _card(found.manifest, folder))
    return {"folder": str(folder), "picture": str(grid), "manifest": found.manifest.model_dump(mode="json")}


def _card(record: Manifest, folder: Path) -> bytes:
    """The card's text, from a manifest and what lies in its folder."""
    path = folder / "recipe.yaml"
    resolved = recipe.parse_yaml(path.read_text(encoding="utf-8"), str(path))
    summary = report.build(record.name, rows.of(record, folder / "evaluation"))
    return card.render(record, resolved, summary, card.describe(folder)).encode()


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """Publish an artifact folder as a Hub dataset repo, in one commit, verified before and read back after."""
    folder = Path(folder)
    faults = verify.faults(folder)
    if faults:
        raise UserError("\n".join([*faults, "nothing was pushed"]), next=f"ddhub card {folder}, or make it again")
    record = manifest.read(folder).model_copy(update={"repo_id": repo_id})
    described = {"ddhub.json": manifest.dump(record), "README.md": _card(record, folder)}
    done = hub.push(
        {**hub.published(folder), **described},
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        yes=yes,
    )
    for name, content in described.items():  # the folder now knows where it lives
        files.write_bytes(folder / name, content)
    return {"repo_id": done.repo_id, "commit": done.commit, "url": done.url, "changed": done.changed}


def pull(reference: str, out: str | Path) -> dict[str, Any]:
    """Copy a set from the Hub into a folder of its own: all of it, verified, or nothing."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already", next="choose another folder")
    place = hub.fetch(reference)
    if place.repo_id is None:
        raise UserError(f"{reference}: is a folder here already", next=f"cp -r {reference} {out}")
    with files.disk_errors(out, "pulling"):
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            for name, path in hub.published(place.folder).items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, staging / name)
            artifact.read(staging)
            staging.chmod(0o755)
            staging.replace(out)  # over an empty folder too
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return {"folder": str(out), "repo_id": place.repo_id, "commit": place.commit}


def faults(reference: str) -> tuple[str, list[str]]:
    """Verify a folder or a Hub id: what was looked at, and one line per fault."""
    place = hub.fetch(reference)
    return place.name, verify.faults(place.folder)


def evaluation(
    reference: str,
    archs: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    protocols: Sequence[str] = ("native",),
    baselines: Sequence[str] = ("random",),
    seeds: int | None = None,
    test: str | None = None,
    source_path: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
) -> dict[str, Any]:
    """Evaluate a set, a folder or a Hub id: returns its rows and their summary.

    Rows and report go into the artifact's folder, where its card is refreshed; those of a Hub id go to `out`, by
    default `ddhub-evaluations/OWNER--NAME`.
    """
    evaluate.check_names(protocols, baselines)
    place = hub.fetch(reference)
    found = artifact.read(place.folder)
    own = place.repo_id is None and out is None
    folder = (
        place.folder
        if own
        else Path(out or Path("ddhub-evaluations") / place.name.partition("@")[0].replace("/", "--"))
    )
    try:
        done = evaluate.evaluate(
            found,
            folder / "evaluation",
            archs,
            name=found.manifest.name if own else place.name,
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
        if (folder / "evaluation").is_dir():
            if own:
                write_card(folder)
            else:
                report.save(found.manifest, folder / "evaluation", folder / "report.json")
    say(f"rows: {folder / 'evaluation'}; summary: {folder / ('README.md' if own else 'report.json')}")
    return report.build(found.manifest.name if own else place.name, done)


def import_set(
    path: str | Path,
    out: str | Path,
    source: str,
    *,
    layout: str = "auto",
    overrides: Sequence[str] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    zca: bool | None = None,
    reading: dict[str, Any] | None = None,
    **told: Any,
) -> dict[str, Any]:
    """Import a set in another tool's layout as the artifact `out`.

    Args:
        source: the dataset it was distilled from; `overrides` are `source.KEY=VALUE`.
        reading: fields of foreign.Reading; `told`: the other fields of importing.Asked.
    """
    from ddhub import foreign, importing, inputspace

    asked = importing.Asked(
        source,
        overrides,
        layout,
        space=inputspace.Told(mean, std, zca),
        reading=foreign.Reading(**(reading or {})),
        **told,
    )
    return write_card(importing.import_set(Path(path), Path(out), asked))


def export(folder: str | Path, layout: str, out: str | Path | None = None) -> dict[str, Any]:
    """Write an artifact folder in another tool's layout, into `exported/NAME_LAYOUT` by default."""
    from ddhub import exporting

    out = Path(out) if out is not None else Path("exported") / f"{Path(folder).absolute().name}_{layout}"
    return exporting.export(Path(folder), layout, out)


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
