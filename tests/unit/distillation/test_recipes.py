"""Recipes: what is refused and how it is said, overrides, finding, identity; and every shipped recipe."""

from pathlib import Path

import pytest
import yaml

from ddhub.base import files
from ddhub.base.errors import UserError
from ddhub.distillation import recipes
from ddhub.distillation.methods import apm

TINY = """\
name: tiny
ipc: 1
source: {dataset: digits}
teachers: {arch: convnet2_w8, lr: 3e-4}
method:
  name: apm
  iterations: 6
  student: {epochs: 2}
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes a recipe file and gives its path as text."""

    def write(text: str = TINY, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def refused(reference: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        recipes.read(reference, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("ipc: 1", "ipc: 1\nseeed: 3", "seeed: unknown key; did you mean 'seed'?"),
        ("{dataset: digits}", "{dataset: digits, resolutoin: 8}", "source.resolutoin: unknown key; did you mean 'res"),
        ("  iterations: 6", "  iteratoins: 6", "method.iteratoins: unknown key; did you mean 'iterations'?"),
        ("{epochs: 2}", "{epoch: 2}", "method.student.epoch: unknown key; did you mean 'epochs'?"),
        ("ipc: 1", "ipc: 1\nlearning-rate: 3", "learning-rate: unknown key"),
        ("ipc: 1", "ipc: 1\npublish: {pretty-name: x}", "publish.pretty-name: unknown key; did you mean 'pretty_name'"),
        ("ipc: 1", 'ipc: 1\n"": 3', "unknown key"),
        ("ipc: 1", "ipc: 1\nname: again", "line 3: key 'name' is there twice"),
        ("{epochs: 2}", "{epochs: 2, epochs: 3}", "key 'epochs' is there twice"),
        ("{dataset: digits}", "&a {dataset: digits}\npublish: *a", "aliases (*name) are not used"),
        ("ipc: 1", "ipc: 1\n7: x", "key 7 is not a plain word"),
        ("ipc: 1", "ipc: [1", "not readable as YAML"),
        ("ipc: 1", "ipc: '10'", "ipc: expected a whole number, got '10'"),
        ("ipc: 1", "ipc: true", "ipc: expected a whole number, got True"),
        ("ipc: 1", "ipc: 1.0", "ipc: expected a whole number, got 1.0"),
        ("ipc: 1", "ipc: -5", "ipc: expected whole number > 0 and <= 1,000,000,000, got -5"),
        ("ipc: 1\n", "", "ipc: missing"),
        ("lr: 3e-4", "lr: .nan", "teachers.lr: expected number > 0 and <= 1,000,000, got nan"),
        ("lr: 3e-4", "lr: -1", "teachers.lr: expected number > 0 and <= 1,000,000, got -1"),
        ("name: tiny", "name: ../tiny", "name: '../tiny' is no name for a set: letters, digits, . _ and - only"),
        ("{dataset: digits}", "digits", "source: "),
        ("name: apm", "name: amp", "method.name: no method 'amp'; did you mean 'apm'?"),
        ("ipc: 1", "ipc: 1\naugment: color_croop", "augment: no operation 'croop'; did you mean 'crop'?"),
        ("  iterations: 6", "  chunk: many", "method.chunk: "),
        ("{arch: convnet2_w8", "{count: 0", "labels.form 'logits' needs teachers.count of 1 or more"),
    ],
)
def test_a_fault_names_the_file_and_the_key(write, old, new, fault):
    """One line says which key of which file is wrong, and what was meant where that can be guessed."""
    path = write(TINY.replace(old, new))
    message = refused(path)
    assert f"{path}: {fault}" in message or (message.startswith(f"{path}: ") and fault in message)
    assert ": :" not in message and "value error" not in message.lower()


def test_all_faults_of_a_file_are_told_at_once(write):
    """The recipe's faults, the method's and the augmentation's come together, one line each."""
    text = TINY.replace("ipc: 1", "ipc: -1\nseeed: 3\naugment: flop").replace("iterations: 6", "iterations: six")
    lines = refused(write(text)).splitlines()
    assert [line.split(": ")[1] for line in lines[:-1]] == ["ipc", "seeed", "method.iterations", "augment"]
    assert lines[-1].startswith("  next: ddhub distill ")


def test_labels_without_teachers_are_hard(write):
    """No teachers is a valid choice where the labels are hard classes."""
    text = TINY.replace("{arch: convnet2_w8, lr: 3e-4}", "{count: 0}\nlabels: {form: hard}")
    assert recipes.read(write(text)).teachers.count == 0


def test_numbers_are_read_as_people_write_them(write):
    """YAML 1.1 would read `3e-4` as text; a recipe reads a number, and an integer serves as a rate."""
    assert recipes.read(write()).teachers.lr == 3e-4
    assert recipes.read(write(TINY.replace("3e-4", "1"))).teachers.lr == 1.0


def test_overrides_reach_nested_keys(write):
    """`--set a.b=value` reads the value as YAML and makes the levels that are missing."""
    read = recipes.read(write(), ["method.student.epochs=9", "ipc=3", "evaluate.lr=1e-3", "source.image=img"])
    assert (read.method["student"]["epochs"], read.ipc, read.evaluate.lr, read.source.image) == (9, 3, 1e-3, "img")


def test_a_changed_method_starts_from_its_own_defaults(write):
    """The old method's keys mean nothing to the new one; naming the same method changes nothing."""
    path = write()
    assert recipes.read(path, ["method.name=random"]).method == {"name": "random"}
    assert recipes.read(path, ["method.name=dm", "method.iterations=5"]).method["iterations"] == 5
    assert recipes.read(path, ["method.name=apm"]) == recipes.read(path)


def test_a_methods_settings_before_its_name_are_kept_or_refused(write):
    """`method.blend=0.5 method.name=dm` dropped the blend without a word. A whole `method` replaces what is before."""
    path = write()
    assert recipes.read(path, ["method.iterations=5", "seed=1", "method.name=dm"]).method["iterations"] == 5
    for lost in (["method.blend=0.5", "method.name=dm"], ["method.name=dm", "method.blend=1", "method.name=random"]):
        with pytest.raises(UserError, match=r"--set method\.blend: unknown key"):
            recipes.read(path, lost)
    whole = ["method.blend=0.5", "method={name: random}"]
    assert recipes.read(path, whole).method == {"name": "random"}
    assert recipes.read(path, [*whole, "method.iterations=5", "method.name=dm"]).method["iterations"] == 5


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("method.iterations", "--set method.iterations: expected KEY=VALUE"),
        ("=5", "--set =5: expected KEY=VALUE"),
        ("ipc.deep=1", "--set ipc.deep=1: 'ipc' has no keys below it"),
        ("method.student.epochs.x=1", "'method.student.epochs' has no keys below it"),
        ("method.iteratoins=5", "method.iteratoins: unknown key; did you mean 'iterations'?"),
        ("ipc=[1", "--set ipc=[1: not readable as YAML"),
        ("source..x=1", "unknown key"),
        ("groups=2", "--set groups: 2 does not divide ipc 1; --set groups=1 does"),
        ("memory=4", "--set memory: '4' is no amount of memory; write it as 4GB"),
        ("ipc=", "--set ipc: missing a value"),
        ("method=mean", "--set method: expected keys and values, got 'mean'"),
        ("method.chunk=0", "--set method.chunk: expected whole number > 0 and <= 1,000,000,000 or auto, got 0"),
    ],
)
def test_a_bad_override_is_refused(write, override, fault):
    """What cannot be applied, or is no key, is said in the words that were typed."""
    assert fault in refused(write(), override)


SEEDS = ("seed", "source.split_seed")  # whole numbers of 64 bits, as YAML is read
NUMBERS = [
    (recipe, key)
    for recipe, method in (("digits_ipc1", "apm"), ("digits_ipc1_dm", "dm"))
    for key in (each for name in ("recipe", method) for each in recipes.keys()[name] if "number" in each.values)
]


@pytest.mark.parametrize(("recipe", "key"), NUMBERS, ids=[f"{recipe} {key.key}" for recipe, key in NUMBERS])
def test_every_number_has_a_range_that_is_said(recipe, key):
    """Nothing that float32 or a counter cannot hold gets as far as a training."""
    if key.key in SEEDS or key.key == "expected":
        return
    for value in ("1e308", "-1e308", ".inf", ".nan", str(2**63 - 1)):
        assert f"--set {key.key}: expected " in refused(recipe, f"{key.key}={value}"), value


def test_a_fault_says_what_to_look_at(write):
    """Of an override the recipe without it, of a file a whole one."""
    path = write()
    assert f"next: ddhub distill {path} --dry-run" in refused(path, "ipc=0")
    assert "next: ddhub distill digits_ipc1 --dry-run" in refused(write(TINY.replace("ipc: 1", "ipc: [1")))


def test_a_name_that_begins_others_is_answered_with_them(tmp_path, monkeypatch):
    """Before names that only look like it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10_ipc1000' or 'cifar10_ipc10_small'"):
        recipes.read("cifar10_ipc10")


@pytest.mark.parametrize("reference", ["digits_ipc1", "digits_ipc1.yaml", "recipes/digits_ipc1.yaml"])
def test_shipped_recipes_are_found_from_any_folder(reference, tmp_path, monkeypatch):
    """The bare name, and the path that the README writes, work outside a checkout too."""
    monkeypatch.chdir(tmp_path)
    assert recipes.read(reference).name == "digits_ipc1"


def test_a_path_comes_before_a_shipped_name(write, monkeypatch, tmp_path):
    """A file in the current folder is the one that was meant."""
    write(name="digits_ipc1")
    monkeypatch.chdir(tmp_path)
    assert recipes.read("digits_ipc1").name == "tiny"


@pytest.mark.parametrize(
    ("reference", "fault", "next"),
    [
        ("digits_ipc2", "digits_ipc2: no such recipe; did you mean 'digits_ipc1'?", "ddhub recipes"),
        (
            "elsewhere/digits_ipc1.yaml",
            "elsewhere/digits_ipc1.yaml: no such file, and no shipped recipe",
            "ddhub recipes",
        ),
        (".", ".: is a folder, not a recipe", "ddhub init .  (writes its recipe)"),
    ],
)
def test_a_missing_recipe_is_told_with_the_next_command(reference, fault, next, tmp_path, monkeypatch):
    """It lists what there is, or writes the recipe of a folder."""
    monkeypatch.chdir(tmp_path)
    message = refused(reference)
    assert fault in message and message.endswith(f"next: {next}")


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "the file is empty"), (b"# words\n", "the file is empty"), (b"- a\n", "expected keys"), (b"\xff", "read")],
)
def test_a_file_that_holds_no_recipe_is_refused(content, fault, tmp_path):
    """Empty, a list, not text: said without a traceback."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert f"{path}: " in refused(str(path)) and fault in refused(str(path))


def test_the_hash_is_that_of_what_the_recipe_makes(write):
    """Neither the order of keys, nor a local path, nor what only the card shows changes it; a knob does."""
    path = write()
    base = recipes.read(path).hash
    turned = yaml.safe_dump(dict(reversed(yaml.safe_load(TINY.replace("3e-4", "0.0003")).items())), sort_keys=False)
    assert recipes.read(write(turned, "turned.yaml")).hash == base
    for same in ("source.path=/data", "publish.license=mit", "expected={convnet: 0.5}", "method.alpha=0.1"):
        assert recipes.read(path, [same]).hash == base, same
    for other in ("method.iterations=7", "seed=1", "source.validation=0.2", "teachers.count=2", "method.name=dm"):
        assert recipes.read(path, [other]).hash != base, other


@pytest.mark.parametrize(
    "override", ["seed=0", "source.path=/secret", 'publish.pretty_name="3e-4"', 'source.image="1e5"']
)
def test_the_resolved_recipe_reads_back_as_itself(write, override):
    """Its YAML holds every default, no local path, and gives the same hash."""
    read = recipes.read(write(), [override])
    again = recipes.read(write(read.yaml(), "resolved.yaml"))
    assert again.hash == read.hash and again.content() == read.content()
    assert "/secret" not in read.yaml()
    assert yaml.safe_load(read.yaml())["method"]["momentum"] == 0.5


@pytest.mark.parametrize("name", files.shipped_recipes())
def test_a_shipped_recipe_is_valid_and_opens_with_its_command(name):
    """A header of comments says what it is and what to type; the file's name is the recipe's."""
    assert recipes.read(name).name == name
    lines = recipes.find(name).read_text(encoding="utf-8").splitlines()
    header = lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]
    assert f"# ddhub distill {name}" in header[1:]
    assert not Path(recipes.read(name).source.path or "").parts


@pytest.mark.parametrize(("images", "updates"), [(1, 100), (10, 100), (100, 500), (500, 2500), (50_000, 2500)])
def test_a_recipe_that_says_no_iterations_takes_as_many_as_its_images_need(images, updates):
    """The paper's 2500 at 500 images and above; a hundred at least."""
    assert apm.Config().updates(images) == updates
    assert apm.Config(iterations=7).updates(images) == 7
