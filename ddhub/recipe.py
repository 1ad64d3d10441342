"""Recipes: all that is needed to repeat a run, as strict YAML with a content hash."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, field_validator, model_validator

from ddhub import limits, plugins, strictyaml
from ddhub.errors import UserError
from ddhub.files import digest, shipped
from ddhub.schema import Strict, check, did_you_mean
from ddhub.strictyaml import parse_yaml, to_yaml

LOOK = "ddhub distill digits_ipc1 --dry-run  (a whole recipe to compare with)"
MOST_GROUPS = 2**15  # column `group` counts in 16 bits
NAME, NAME_LENGTH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), 96  # what a set may be called
NO_NAME = "{name!r} is no name for a set: letters, digits, . _ and - only, at most 96, the first a letter or a digit"
MEMORY_UNITS = {unit: 1000 ** (k + 1) for k, unit in enumerate(("KB", "MB", "GB", "TB"))}
MEMORY_UNITS |= {unit: 1024 ** (k + 1) for k, unit in enumerate(("KIB", "MIB", "GIB", "TIB"))}
# The operations of differentiable siamese augmentation; ddhub/augment.py holds their formulas.
DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
AUGMENTATIONS = (*DSA_OPERATIONS, "rrc", "cutmix")  # those of the field's other protocols too


class SourceSpec(Strict):
    """Where the real images come from and how they are read."""

    dataset: str = Field(min_length=1)  # Hub id, `digits`, or a folder that datasets.load_dataset reads
    path: str | None = None  # a local copy to read instead; never recorded in an artifact
    revision: str | None = None  # commit of the Hub repo; null resolves the newest and records it
    config: str | None = None  # the subset of a Hub dataset that has several
    image: str | None = None  # column names; null finds them
    label: str | None = None
    train: str = "train"
    test: str = "test"
    validation: float = Field(default=0.1, gt=0, lt=0.9)  # stratified share held out of train
    split_seed: int = 0  # draws that share; apart from `seed`, so that runs with several seeds share their teachers
    resolution: int | None = Field(default=None, ge=4, le=limits.SIDE)  # side in pixels; null keeps the source's own
    channels: Literal[1, 3] | None = None  # null: 1 where every probed image is grey, otherwise 3


class PreprocessSpec(Strict):
    """How pixels become network inputs."""

    zca: bool = False


class TeacherSpec(Strict):
    """The networks trained on real data, whose predictions are matched."""

    arch: str = "convnet"
    count: int = Field(default=1, ge=0)
    epochs: int = Field(default=100, gt=0)
    lr: float = Field(default=0.05, gt=0)
    batch: int = Field(default=256, gt=1)


class LabelSpec(Strict):
    """What the set ships beside the hard class: logits of one teacher or the mean of all, or nothing."""

    form: Literal["logits", "hard"] = "logits"
    teachers: Literal["mean", "one"] = "mean"
    top_k: int | None = Field(default=None, gt=0)  # soft labels kept of each image; null keeps all


class EvaluateSpec(Strict):
    """The set's own training protocol, the one that `native` repeats."""

    protocol: Literal["native"] = "native"
    epochs: int = Field(default=1000, gt=0)
    lr: float = Field(default=0.02, gt=0)
    batch: int = Field(default=256, gt=1)
    min_steps: int = Field(default=2000, ge=0)  # of transformers, which learn too slowly for a ConvNet's epochs
    seeds: int = Field(default=5, gt=0)
    full_epochs: int = Field(default=100, gt=0)  # of the full-data baseline, trained as the paper trains teachers
    packaging_seeds: int = Field(default=3, gt=0)  # networks that measure, on validation, what packaging costs


class PublishSpec(Strict):
    """What the dataset card says of licence and name."""

    license: str | None = None
    pretty_name: str | None = None


class Recipe(Strict):
    """A whole recipe; `method` holds the validated Config of the method's own file."""

    name: str
    seed: int = Field(default=0, ge=0)
    ipc: int = Field(gt=0)
    source: SourceSpec
    preprocess: PreprocessSpec = PreprocessSpec()
    augment: str = "dsa"  # dsa, none, or some of its operations: color_crop_cutout_scale_rotate
    teachers: TeacherSpec = TeacherSpec()
    method: dict[str, Any]
    labels: LabelSpec = LabelSpec()
    groups: int = Field(default=1, ge=1, le=MOST_GROUPS)  # `ipc` / `groups` images per class of each, made apart
    memory: str | None = None  # a budget such as 6.5GB, which chunks and micro-batches keep to; null: no bound
    evaluate: EvaluateSpec = EvaluateSpec()
    publish: PublishSpec = PublishSpec()
    expected: dict[str, float | str | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _soft_labels_need_teachers(self) -> "Recipe":
        if self.labels.form == "logits" and self.teachers.count == 0:
            raise ValueError("labels.form 'logits' needs teachers.count of 1 or more (or labels.form: hard)")
        if self.labels.form == "hard" and self.labels.top_k is not None:
            raise ValueError("labels.top_k keeps soft labels, and labels.form 'hard' has none")
        return self

    @field_validator("name")
    @classmethod
    def _name_is_one(cls, value: str) -> str:
        if not _is_name(value):
            raise ValueError(NO_NAME.format(name=value))
        return value

    @field_validator("memory", mode="before")
    @classmethod
    def _memory_is_an_amount(cls, value: Any) -> Any:
        if value is not None:
            memory_bytes(str(value))
        return value

    @model_validator(mode="after")
    def _groups_are_equal(self) -> "Recipe":
        if self.ipc % self.groups:
            fitting = [n for n in range(1, min(self.ipc, MOST_GROUPS) + 1) if self.ipc % n == 0]
            near = min(fitting, key=lambda n: abs(n - self.groups))
            raise ValueError(f"groups: {self.groups} does not divide ipc {self.ipc}; --set groups={near} does")
        return self

    def content(self) -> dict[str, Any]:
        """The recipe as plain values, as published: a local path is nobody else's business."""
        content = self.model_dump(mode="json")
        content["source"]["path"] = None
        if content["source"]["config"] is None:
            del content["source"]["config"]  # hashes are older than this key
        return content

    @property
    def hash(self) -> str:
        """Identity of what the recipe makes: all of its content but the local path and what only the card shows."""
        return digest({key: value for key, value in self.content().items() if key not in ("publish", "expected")})

    def yaml(self) -> str:
        """The resolved recipe as YAML; reading it back gives the same hash."""
        return to_yaml(self.content())


def names() -> list[str]:
    """The names of the shipped recipes, sorted."""
    return sorted(file.stem for file in shipped("recipes").glob("*.yaml"))


def listing() -> list[dict[str, Any]]:
    """The shipped recipes: name, dataset, images per class, method, and what is expected of each."""
    found = []
    for name in names():
        path = find(name)
        data = strictyaml.read(path)
        told = {"dataset": data["source"]["dataset"], "ipc": data["ipc"], "method": data["method"]["name"]}
        shown = {"title": data.get("publish", {}).get("pretty_name"), "expected": data.get("expected", {})}
        found.append({"name": name, **told, **shown, "path": str(path)})
    return found


def find(reference: str) -> Path:
    """The file of a recipe given by path or by the bare name of a shipped one, from any folder.

    Raises:
        UserError: when there is no such file.
    """
    path = Path(reference)
    if path.is_file():
        return path
    stem = path.name.removesuffix(".yaml")
    # `recipes/NAME.yaml` as the README writes it works outside a checkout too.
    if stem in names() and reference in (stem, f"{stem}.yaml", f"recipes/{stem}.yaml"):
        return shipped("recipes") / f"{stem}.yaml"
    kind = f"no such recipe{did_you_mean(stem, names())}"
    if reference and path.is_dir():
        kind = "is a folder, not a recipe"
    elif path.suffix in (".yaml", ".yml") or path.name != reference:
        kind = f"no such file, and no shipped recipe{did_you_mean(stem, names())}"
    raise UserError(f"{reference or 'RECIPE'}: {kind}", next="ddhub recipes")


def read(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        reference: a path, or the name of a shipped recipe.
        overrides: `a.b=value` strings, the value read as YAML.

    Raises:
        UserError: with every fault of the file at once.
    """
    path = find(reference)
    data = strictyaml.read(path, next=LOOK)
    if data is None:
        raise UserError(f"{path}: the file is empty", next="ddhub recipes")
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected keys and values, as in the shipped recipes", next="ddhub recipes")
    for kind, advice in (("merged", "distill the recipes that it lists, then: ddhub merge"), ("imported", None)):
        if kind in data:
            raise UserError(f"{path}: describes a set that was {kind}, which no recipe makes", next=advice)
    override(data, overrides)
    told = {text.partition("=")[0].strip() for text in overrides}
    return validate(data, str(path), told, f"ddhub distill {reference} --dry-run")


def memory_bytes(text: str) -> int:
    """`6.5GB`, `500 MB` or `2GiB` in bytes.

    Raises:
        ValueError: for anything else.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]I?B)", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no amount of memory; write it as 4GB or 500MB (KB, MB, GB, TB)")
    return int(float(found[1]) * MEMORY_UNITS[found[2]])


def check_name(name: str) -> str:
    """A name for a set, as it is.

    Raises:
        UserError: for one that a repo or a folder could not have.
    """
    if not _is_name(name):
        raise UserError(NO_NAME.format(name=name), next="--name NAME")
    return name


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and len(name) <= NAME_LENGTH


def override(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply `a.b=value` strings to nested keys in place.

    A changed `method.name` starts from that method's defaults. What a recipe says for its card and expects holds for
    its own source and method, so another source or method drops it unless it is set too.

    Raises:
        UserError: for a string without `=`, or a path through something that has no keys.
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {text}: expected KEY=VALUE, as in --set method.iterations=10")
        *parents, last = key.strip().split(".")
        target: Any = data
        for depth, parent in enumerate(parents, 1):
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise UserError(f"--set {text}: '{'.'.join(parents[:depth])}' has no keys below it")
        parsed = parse_yaml(value, f"--set {text}")
        if parents == ["method"] and last == "name" and target.get("name") != parsed:
            target.clear()
        target[last] = parsed
    changed = {text.partition("=")[0].strip() for text in overrides}
    if changed & {"source", "source.dataset", "method", "method.name"}:
        data["expected"] = {}
        if "publish" in data and not any(key.split(".")[0] == "publish" for key in changed):
            # The licence is the source's; the pretty name speaks of source and method.
            kept = {} if changed & {"source", "source.dataset"} else {"license": (data["publish"] or {}).get("license")}
            data["publish"] = kept


def public_override(text: str) -> str:
    """An override as an artifact records it: a local path is nobody else's business, that a copy was read is."""
    key, _, value = text.partition("=")
    if key.strip() == "source.path":
        return "source.path=(a local copy)"
    parsed = parse_yaml(value, text)
    if key.strip() == "source" and isinstance(parsed, dict) and parsed.get("path"):
        shown = yaml.safe_dump({**parsed, "path": "(a local copy)"}, default_flow_style=True, width=1000).strip()
        return f"source={shown}"
    return text


def validate(data: dict[str, Any], where: str, told: Collection[str] = (), whole: str = LOOK) -> Recipe:
    """Validate a recipe's values, the method's own Config included.

    Args:
        told: keys that were set on the command line; their faults are those of `--set`, not of `where`.
        whole: the command that shows the recipe without them.

    Raises:
        UserError: with every fault at once, each line `where: key.path: fault`.
    """
    recipe, faults = check(Recipe, data)
    method, method_faults = _check_method(data.get("method"))
    faults += method_faults + _check_augment(data.get("augment", "dsa"))
    if faults or recipe is None:
        places = ("--set" if _within(fault.partition(":")[0], told) else f"{where}:" for fault in faults)
        lines = [f"{at} {fault}" for at, fault in zip(places, faults, strict=True)]
        raise UserError("\n".join(lines), next=whole if lines[0].startswith("--set") else LOOK)
    return recipe.model_copy(update={"method": method})


def _within(key: str, told: Collection[str]) -> bool:
    """Whether a key is one of some others, or below one of them."""
    return any(f"{key}.".startswith(f"{other}.") for other in told)


def _check_method(data: Any) -> tuple[dict[str, Any], list[str]]:
    """The method's values with its defaults filled in, and the faults."""
    if not isinstance(data, dict):
        return {}, []  # the recipe's own check has said so
    name = data.get("name")
    if not isinstance(name, str) or name not in plugins.names("methods"):
        return {}, [f"method.name: no method {name!r}{did_you_mean(str(name), plugins.names('methods'))}"]
    config, faults = check(config_of(name), {key: value for key, value in data.items() if key != "name"}, "method.")
    return ({"name": name, **config.model_dump(mode="json")} if config else {}), faults


def config_of(method: str) -> type[BaseModel]:
    """The Config model of a method's file."""
    config: type[BaseModel] = plugins.load("methods", method).Config
    return config


def method_config(recipe: Recipe) -> BaseModel:
    """The settings of a recipe's method as its own Config."""
    settings = {key: value for key, value in recipe.method.items() if key != "name"}
    return config_of(recipe.method["name"]).model_validate(settings)


def _check_augment(value: Any) -> list[str]:
    if not isinstance(value, str) or value in ("dsa", "none"):
        return []
    unknown = [word for word in value.split("_") if word not in DSA_OPERATIONS]
    return [f"augment: no operation '{word}'{did_you_mean(word, list(DSA_OPERATIONS))}" for word in unknown]
