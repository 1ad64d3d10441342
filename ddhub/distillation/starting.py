"""From the user's own pictures to the file of a recipe, for `init` and `distill ./folder`.

The code that reads pictures is imported only when it is needed. So a misspelt name is refused before torch is imported.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from pydantic import Field

from ddhub.artifact.recipe import Recipe
from ddhub.base import hub_client, progress
from ddhub.base.document import Document
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import shipped_recipes, write_bytes
from ddhub.base.log import say
from ddhub.base.overrides import Overrides, override, setting, texts
from ddhub.base.resources import ResourceOptions, Resources
from ddhub.base.schema import check
from ddhub.base.strict_yaml import parse_yaml
from ddhub.data.spec import SourceSpec, is_local, spec_of
from ddhub.distillation import recipes
from ddhub.distillation.picture_options import MINUTES, PictureOptions, name_of

if TYPE_CHECKING:
    from ddhub.distillation.first_recipe import Choice

# Keys that --set applies before the pictures are read. All other keys are applied to the chosen recipe.
READ_BY = ("revision", "config", "image", "label", "train", "test", "range", "background", "skip_damaged")


def is_late(key: str) -> bool:
    """Whether a key of a recipe does not decide how pictures are read. Unknown keys of the source are refused later."""
    name = key.removeprefix("source.")
    return name == key or (name in SourceSpec.model_fields and name not in READ_BY)


def is_pictures(reference: str) -> bool:
    """Whether a reference is a folder of pictures or a Hub dataset, not a recipe's path or name."""
    path = Path(reference)
    if not reference or path.is_file() or path.suffix in (".yaml", ".yml"):
        return False
    shipped = path.parent == Path("recipes") and path.name in shipped_recipes()
    return path.is_dir() or is_local(reference) or (hub_client.is_id(reference) and not shipped)


class Start(Document):
    """A recipe for the user's own pictures, as `init` writes it."""

    recipe: str = Field(description="File of the recipe.")
    name: str = Field(description="Name of the set.")
    chosen: list[str] = Field(description="Choices and their reasons, one line each.")
    seconds: float = Field(description="Forecast of the seconds that distilling takes here.")

    def __repr__(self) -> str:
        return f"<Start {self.recipe}: {'; '.join(self.chosen)}>"


def init(
    source: str | Path,
    out: str | Path | None = None,
    *,
    minutes: float = MINUTES,
    flips: bool = True,
    name: str | None = None,
    ipc: int | None = None,
    resolution: int | None = None,
    overrides: Overrides = (),
    **resources: Unpack[ResourceOptions],
) -> Start:
    """Write a recipe for the user's own pictures, chosen by the pictures, this machine and the allowed time.

    Args:
        source: a folder of pictures, or a Hub id.
        out: the recipe's file. None takes `NAME.yaml` in the current folder.
        minutes: the minutes that distilling may take here.
        flips: whether training mirrors images. Use False if a mirrored picture belongs to another class.
        name: the name of the set. None takes the name of the source.
        ipc: the synthetic images per class. None leaves the choice to ddhub.
        resolution: the side of the synthetic images in pixels. None leaves the choice to ddhub.
        overrides: keys of `source` that decide how the pictures are read, such as `source.label=species`.
        resources: fields of `ddhub.base.resources.Resources`.

    Raises:
        UserError: if the source cannot be read as labelled images, or if the file exists.
    """
    asked = PictureOptions(minutes, flips, name, ipc, resolution, Resources(**resources))
    changed = texts(overrides)
    late = [text for text in changed if is_late(setting(text).key)]
    if late:
        raise UserError(
            f"--set {late[0]}: does not say how pictures are read", next="change the key in the recipe's file"
        )
    spec = as_read(spec_of(str(source)), changed)
    path = Path(out) if out is not None else Path(f"{name_of(spec, asked)}.yaml")
    refuse_there(path)  # before the look, which can take minutes
    found = chosen(spec, asked, str(source))
    write(found, path)
    return Start(recipe=str(path), name=found.name, chosen=found.reasons, seconds=found.seconds)


def chosen(spec: SourceSpec, asked: PictureOptions, place: str) -> "Choice":
    """Look at the pictures, and choose a recipe.

    Args:
        place: the pictures' folder or Hub id, as the user named it.

    Raises:
        UserError: if no set can be made of the pictures.
    """
    from ddhub.data import contents

    told = []
    if spec.path is not None and (held := contents.contents(Path(spec.path))) is not None:
        contents.check(held, place, spec.skip_damaged)
        told = contents.notes(held)
    with progress.busy(f"looking at {place}"):
        from ddhub.data import first_look
        from ddhub.distillation import first_recipe

        seen = first_look.look(spec)
    found = first_recipe.start(seen, asked)
    return replace(found, reasons=[*found.reasons[:1], *told, *found.reasons[1:]])


def as_read(spec: SourceSpec, overrides: Sequence[str]) -> SourceSpec:
    """The spec with the keys of `--set` that decide how pictures are read.

    Raises:
        UserError: for unknown keys and wrong values.
    """
    data = {"source": spec.model_dump()}
    override(data, overrides)
    told, faults = check(SourceSpec, data["source"], "source.")
    if told is None:
        raise UserError("\n".join(f"--set {fault}" for fault in faults), next="ddhub recipes --keys")
    return spec.model_copy(update={key: getattr(told, key) for key in READ_BY})


def begin(place: str, asked: PictureOptions, overrides: Sequence[str]) -> tuple[Path, "Choice | None"]:
    """The path of the recipe for a folder of pictures or a Hub dataset, and the choice of its content.

    If an earlier call wrote the file for the same pictures, the choice is None and the file is used.

    Raises:
        UserError: if the file is a recipe for other pictures, or if the pictures cannot be used.
    """
    spec = spec_of(place)
    path = Path(f"{name_of(spec, asked)}.yaml")
    if path.exists():
        known = recipes.read(str(path)).source
        if (known.dataset, known.path) != (spec.dataset, spec.path):
            raise UserError(
                f"{path}: is a recipe for other pictures ({known.path or known.dataset})",
                next=f"ddhub init {quoted(place)} --name ANOTHER, then: ddhub distill ANOTHER.yaml",
            )
        return path, None
    return path, chosen(as_read(spec, overrides), asked, place)


def recipe_file(
    reference: str, overrides: Sequence[str], minutes: float | None, flips: bool | None, resources: Resources
) -> tuple[str, "Choice | None"]:
    """The recipe of a reference. For pictures, a recipe is chosen, written and reported first, and the choice returned.

    Raises:
        UserError: for options that only pictures without a recipe take.
    """
    asked = asked_of(reference, minutes, flips, resources)
    if asked is None:
        return reference, None
    path, found = begin(reference, asked, overrides)
    if found is None:
        say(f"{path}: this recipe was written before and is used; remove it for a new choice")
    else:
        write(found, path)
        for line in [*found.reasons, f"recipe: {path}"]:
            say(line)
    return str(path), found


def resolved(
    reference: str, overrides: Sequence[str], minutes: float | None, flips: bool | None, resources: Resources
) -> tuple[Recipe, "Choice | None"]:
    """The resolved recipe of a reference, and for pictures the choice of it. Nothing is written.

    Raises:
        UserError: if the reference is neither a recipe nor pictures.
    """
    asked = asked_of(reference, minutes, flips, resources)
    path, found = (Path(reference), None) if asked is None else begin(reference, asked, overrides)
    if found is None:
        return recipes.read(str(path) if asked else reference, overrides), None
    data = parse_yaml(found.text, found.name)
    return recipes.resolve(data, found.name, overrides), found


def asked_of(reference: str, minutes: float | None, flips: bool | None, resources: Resources) -> PictureOptions | None:
    """The user's choices for pictures; None for a recipe.

    Raises:
        UserError: for options that only pictures without a recipe take.
    """
    if is_pictures(reference):
        return PictureOptions(MINUTES if minutes is None else minutes, flips, resources=resources)
    for option, given in (("--minutes", minutes), ("--no-flips", flips)):
        if given is not None:
            raise UserError(
                f"{option}: is for pictures without a recipe; a recipe holds its own steps and augmentation",
                next="--set KEY=VALUE",
            )
    return None


def refuse_there(path: Path) -> None:
    """Refuse the path of an existing file for a new recipe."""
    if path.exists():
        raise UserError(f"{path}: is there already", next=f"ddhub distill {quoted(path)}, or choose another --out")


def write(found: "Choice", path: Path) -> None:
    """Write the recipe to a new file.

    Raises:
        UserError: if the file exists or cannot be written.
    """
    refuse_there(path)
    write_bytes(path, found.text.encode())
