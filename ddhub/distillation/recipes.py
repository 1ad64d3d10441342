"""Recipes by name or path: found, read, overridden and checked, with the settings of their method."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddhub.artifact.file_names import MANIFEST
from ddhub.artifact.recipe import Recipe
from ddhub.base import plugins, strict_yaml
from ddhub.base.errors import UserError, quoted
from ddhub.base.files import is_path, shipped, shipped_recipes
from ddhub.base.keys import Key
from ddhub.base.keys import keys as keys_of
from ddhub.base.overrides import override, setting
from ddhub.base.schema import check, did_you_mean
from ddhub.base.units import counted
from ddhub.distillation.method import RESERVED, Method, load
from ddhub.training.protocol import check_augment

LOOK = "ddhub distill digits_ipc1 --dry-run  (a whole recipe to compare with)"


def listing() -> list[dict[str, Any]]:
    """The shipped recipes: name, dataset, images per class, method, and expected accuracy."""
    found = []
    for name in shipped_recipes():
        path = find(name)
        data = strict_yaml.read(path)
        told = {"dataset": data["source"]["dataset"], "ipc": data["ipc"], "method": data["method"]["name"]}
        shown = {"title": data.get("publish", {}).get("pretty_name"), "expected": data.get("expected", {})}
        found.append({"name": name, **told, **shown, "path": str(path)})
    return found


def keys() -> dict[str, list[Key]]:
    """The keys of every recipe, under `recipe`, and the keys of each method, under its name."""
    methods = plugins.METHODS.every(load)
    chosen = [
        Key("method.name", " or ".join(methods), True, None, "Method that makes the set, or a file: `./mine.py`."),
        Key("method.sha256", "text or null", False, None, "Hash of that file, filled in. Another file is refused."),
    ]
    found = {"recipe": [each for key in keys_of(Recipe) for each in ([key, *chosen] if key.key == "method" else [key])]}
    return found | {name: keys_of(method.config, "method.") for name, method in methods.items()}


def find(reference: str) -> Path:
    """The file of a recipe, from a path or from the name of a shipped one.

    Raises:
        UserError: if there is no such file.
    """
    path = Path(reference)
    if path.is_file():
        return path
    stem = path.name.removesuffix(".yaml")
    # `recipes/NAME.yaml`, as in the README, works outside a checkout too.
    if stem in shipped_recipes() and reference in (stem, f"{stem}.yaml", f"recipes/{stem}.yaml"):
        return shipped("recipes") / f"{stem}.yaml"
    kind = f"no such recipe{did_you_mean(stem, shipped_recipes())}"
    if reference and path.is_dir():
        raise UserError(
            f"{reference}: is a folder, not a recipe", next=f"ddhub init {quoted(reference)}  (writes its recipe)"
        )
    if path.suffix in (".yaml", ".yml") or path.name != reference:
        kind = f"no such file, and no shipped recipe{did_you_mean(stem, shipped_recipes())}"
    raise UserError(f"{reference or 'RECIPE'}: {kind}", next="ddhub recipes")


def read(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        reference: a path, or the name of a shipped recipe.
        overrides: `a.b=value` strings with values in YAML.

    Raises:
        UserError: listing every fault of the file.
    """
    path = find(reference)
    data = strict_yaml.read(path, next=LOOK)
    if data is None:
        raise UserError(f"{path}: the file is empty", next="ddhub recipes")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys and values, as in the shipped recipes", next="ddhub recipes")
    if path.name == MANIFEST:
        raise UserError(
            f"{path}: is a set's manifest, not a recipe", next=f"ddhub distill {quoted(path.parent)}/recipe.yaml"
        )
    for kind, advice in (("merged", "distill the recipes that it lists, then: ddhub merge"), ("imported", None)):
        if kind in data:
            raise UserError(f"{path}: describes a set that was {kind}, which no recipe makes", next=advice)
    override(data, overrides)
    _refuse_code_of_sets(path, data.get("method"))
    told = {setting(text).key for text in overrides}
    return validate(data, str(path), told, f"ddhub distill {quoted(reference)} --dry-run")


def resolve(data: dict[str, Any], where: str, overrides: Sequence[str], whole: str = LOOK) -> Recipe:
    """Override and validate values of ddhub's own. The arguments are those of `validate`."""
    override(data, overrides)
    return validate(data, where, {setting(text).key for text in overrides}, whole)


def _refuse_code_of_sets(path: Path, method: Any) -> None:
    """Refuse to run a method's file from a set's folder. A stranger may have written both file and recipe."""
    name = method.get("name") if isinstance(method, dict) else None
    folder = path.absolute().parent
    if not isinstance(name, str) or not is_path(name) or not (folder / MANIFEST).exists():
        return
    if Path(name).expanduser().resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{path}: method.name: {name} lies in the folder of a set, so whoever made the set may have written it",
            next="read it; if you trust it, copy it out of the folder, and: --set method.name=FILE",
        )


def validate(data: dict[str, Any], where: str, told: Collection[str] = (), whole: str = LOOK) -> Recipe:
    """Validate a recipe's values and the settings of its method.

    Args:
        told: keys set on the command line. Their faults are reported under `--set`, not under `where`.
        whole: the command that shows the recipe without them.

    Raises:
        UserError: listing every fault as `where: key.path: fault`.
    """
    recipe, faults = check(Recipe, data)
    method, method_faults = _check_method(data.get("method"))
    faults += method_faults + check_augment(data.get("augment", "dsa"))
    if faults or recipe is None:
        places = ("--set" if _within(fault.partition(":")[0], told) else f"{where}:" for fault in faults)
        lines = [f"{at} {fault}" for at, fault in zip(places, faults, strict=True)]
        raise UserError("\n".join(lines), next=whole if lines[0].startswith("--set") else LOOK)
    return recipe.model_copy(update={"method": method})


def _within(key: str, told: Collection[str]) -> bool:
    """Whether a key equals one of the given keys, or lies below one."""
    return any(f"{key}.".startswith(f"{other}.") for other in told)


def _check_method(data: Any) -> tuple[dict[str, Any], list[str]]:
    """The method's values with defaults filled in, and their faults."""
    if not isinstance(data, dict):
        return {}, []  # the recipe's own check reports this
    name = data.get("name")
    if not isinstance(name, str):
        return {}, [f"method.name: no method {name!r}{did_you_mean(str(name), plugins.METHODS.names())}"]
    try:
        method = load(name, data.get("sha256"))  # runs no other file than the recipe's
    except UserError as fault:
        return {}, [f"method.name: {line}" for line in fault.args[0].splitlines()]
    code = {} if method.code is None or method.code.sha256 is None else {"sha256": method.code.sha256}
    settings = {key: value for key, value in data.items() if key not in ("name", *code)}
    config, faults = check(method.config, settings, "method.")
    return ({"name": name, **code, **config.model_dump(mode="json")} if config else {}), faults


def refuse_top_k(recipe: Recipe, classes: int) -> None:
    """Refuse more soft labels of an image than there are classes."""
    if (recipe.labels.top_k or 1) > classes:
        raise UserError(
            f"labels.top_k: {recipe.labels.top_k} of {counted(classes, 'class')} asked for",
            next="--set labels.top_k=null",
        )


def method_of(recipe: Recipe) -> Method:
    """The method of a recipe. A file must be the one with which the recipe was read.

    Raises:
        UserError: if the file has changed or is gone.
    """
    return load(recipe.method["name"], recipe.method.get("sha256"))


def method_config(recipe: Recipe) -> BaseModel:
    """The settings of a recipe's method, as its own model."""
    settings = {key: value for key, value in recipe.method.items() if key not in RESERVED}
    return method_of(recipe).config.model_validate(settings)
