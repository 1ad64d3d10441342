"""The first ten minutes of somebody with a folder of pictures: distill it, evaluate what stands there, dry runs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ddhub import api
from ddhub.artifact import manifest
from ddhub.base import strict_yaml
from ddhub.cli.app import main
from ddhub.data import contents, first_look, source
from ddhub.distillation import first_recipe, recipes

SHAPES = ((64, 48), (48, 64), (56, 56))
TINY = [
    "teachers={arch: convnet2_w8, count: 1, epochs: 2}",
    "method={name: apm, iterations: 3, student: {arch: convnet2_w8, epochs: 2, batch: 8}}",
    "evaluate={epochs: 3, packaging_seeds: 1, seeds: 2, min_steps: 0}",
    "source.resolution=16",
]


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """240 pictures of four classes in folders, of three sizes, and no split of any name."""
    noise, album = np.random.default_rng(0), tmp_path_factory.mktemp("album")
    for number, name in enumerate(("cat", "dog", "owl", "yak")):
        folder = album / name
        folder.mkdir()
        for index in range(60):
            width, height = SHAPES[index % 3]
            pixels = noise.integers(0, 90, (height, width, 3)) + np.array([40 * number, 100, 160 - 40 * number])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return album


@pytest.fixture
def photos(album, tmp_path, monkeypatch):
    """A copy of them; one stands beside it."""
    shutil.copytree(album, tmp_path / "my photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_recipe.planning, "try_out", lambda *_: None)
    monkeypatch.setattr(first_recipe.planning, "plan", _no_try)  # no test hangs on this machine's speed
    return tmp_path / "my photos"


def _no_try(*_):
    phases = [SimpleNamespace(phase=name, wall_seconds=20.0) for name in ("teachers", "distill", "packaging")]
    return SimpleNamespace(phases=phases)


def run(*arguments: str, code: int = 0):
    """Invoke ddhub as a process would."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_init_writes_a_recipe_and_says_why(photos):
    """Commented YAML that dry-runs as it is; a second call does not overwrite it."""
    said = run("init", "my photos").stdout
    path = photos.parent / "my_photos.yaml"
    assert "240 of 4 classes" in said and "test part: 20%" in said and "next: ddhub distill my_photos.yaml" in said
    data = strict_yaml.read(path)
    assert data["source"]["path"] == str(photos) and data["source"]["hold_out"] == 0.2
    shown = run("distill", "my_photos.yaml", "--dry-run")
    assert str(photos) not in shown.stdout and "hold_out: 0.2" in shown.stdout
    before = path.read_bytes()
    assert "is there already" in run("init", "my photos", code=1).stderr
    assert path.read_bytes() == before


def test_a_dry_run_of_a_folder_writes_nothing(photos):
    """Neither the recipe nor a folder for the set."""
    shown = run("distill", "my photos", "--dry-run", "--no-flips")
    assert "augment: color_crop_cutout_scale_rotate" in shown.stdout
    assert [path.name for path in photos.parent.iterdir() if not path.name.startswith("ddhub-home")] == ["my photos"]


@pytest.mark.parametrize(
    ("settings", "looks"), [([], 1), (["ipc=2", "source.resolution=16"], 1), (["source.hold_out=0.3"], 2)]
)
def test_pictures_are_looked_at_once(settings, looks, photos, monkeypatch):
    """The look that chooses the recipe serves its checks, unless a setting changes what is read."""
    counts = {"names": 0, "headers": 0}

    def counted(what, function):
        def count(*given):
            counts[what] += 1
            return function(*given)

        return count

    monkeypatch.setattr(contents, "contents", counted("names", contents.contents))
    monkeypatch.setattr(first_look, "look", counted("headers", first_look.look))
    run("distill", "my photos", "--dry-run", *(word for text in settings for word in ("--set", text)))
    assert counts == {"names": looks, "headers": looks}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "nowhere"], "nowhere: no such folder"),
        (["init", "./nowhere"], "no such folder"),
        (["distill", "./nowhere"], "no such folder"),
        (["distill", "digits_ipc1", "--minutes", "5"], "--minutes: is for pictures"),
        (["distill", "digits_ipc1", "--no-flips"], "--no-flips: is for pictures"),
        (["init", "my photos", "--name", "a/b"], "a/b"),
    ],
)
def test_a_bad_start_is_one_sentence(arguments, said, photos):
    """And nothing is left behind."""
    assert said in run(*arguments, code=1).stderr
    assert not list(photos.parent.glob("*.yaml")) and not (photos.parent / "distilled").exists()


@pytest.mark.parametrize("place", ["my photos/cat", "one"])
def test_pictures_of_one_class_are_said_to_be_such(place, photos):
    """In a folder alone, or in a folder of its own."""
    if place == "one":
        shutil.copytree(photos / "cat", photos.parent / "one" / "cat")
    said = run("distill", f"./{place}", code=1).stderr
    assert "pictures of one class, or of none" in said and "a folder of its own" in said
    assert not list(photos.parent.glob("*.yaml"))


def test_a_recipe_of_other_pictures_is_not_gone_on_with(photos):
    """Two folders of one name do not share a recipe."""
    run("init", "my photos")
    other = photos.parent / "other" / "my photos"
    other.parent.mkdir()
    photos.rename(other)
    assert "is a recipe for other pictures" in run("distill", str(other), code=1).stderr


def test_a_folder_of_240_pictures_becomes_a_set_that_is_evaluated_as_one_stands(photos):
    """distill ./folder, evaluate with no name: the held-out fifth is what scores, and distilling never saw it."""
    chosen = [word for text in TINY for word in ("--set", text)]
    made = run("distill", "./my photos", "--threads", "1", *chosen)
    assert (photos.parent / "my_photos.yaml").is_file()
    assert "test part: 20% of every class" in made.stderr
    record = manifest.read(photos.parent / "distilled" / "my_photos")
    assert (record.source.dataset, record.source.hold_out) == ("my photos", 0.2)
    assert str(photos) not in (photos.parent / "distilled" / "my_photos" / "ddhub.json").read_text()

    scored = run("evaluate", "--archs", "convnet2_w8,vit_tiny_w12", "--threads", "1", "--json")
    rows = json.loads(scored.stdout)["rows"]
    assert {row["test_images"] for row in rows} == {48}
    assert {row["test_set"] for row in rows} == {"my photos train, 20% held out"}
    assert {row["arch"] for row in rows} == {"convnet2_w8", "vit_tiny_w12"}

    spec = recipes.read("my_photos.yaml", TINY).source
    train, test = source.load_train(spec)[0], source.load_test(spec)
    assert (len(train), len(test)) == (192, 48)
    assert train.fingerprint == record.source.fingerprint
    pixels = [{image.numpy().tobytes() for image in split.images} for split in (train, test)]
    assert not pixels[0] & pixels[1]

    again = run("distill", "./my photos", "--threads", "1", *chosen)
    assert "this recipe was written before" in again.stderr and "already made from this recipe" in again.stderr


def test_what_is_set_of_a_source_is_heeded_by_the_first_look(photos):
    """A table's column and damaged pictures: what an error advises works, for init and distill, and is written down."""
    table = [f"{path.name},{'odd' if int(path.stem) % 2 else 'even'}" for path in sorted((photos / "cat").iterdir())]
    (photos / "cat" / "metadata.csv").write_text("\n".join(["file_name,species", *table]))
    assert "--set source.label=species" in run("init", "my photos/cat", code=1).stderr
    run("init", "my photos/cat", "--set", "source.label=species")
    assert recipes.read("cat.yaml").source.label == "species"

    (photos / "cat" / "metadata.csv").unlink()
    (photos / "cat" / "0.png").write_bytes(b"")
    assert "--set source.skip_damaged=true" in run("distill", "./my photos", "--dry-run", code=1).stderr
    shown = run("distill", "./my photos", "--dry-run", "--skip-damaged")
    assert "skip_damaged: true" in shown.stdout
    run("init", "my photos", "--skip-damaged")
    assert recipes.read("my_photos.yaml").source.skip_damaged
    assert "change the key in the recipe" in run("init", "my photos", "--set", "ipc=3", code=1).stderr
    assert "unknown key" in run("init", "my photos", "--set", "source.lable=a", "--out", "b.yaml", code=1).stderr


def test_a_folder_behind_a_link_is_read(photos):
    """`datasets` names its files by where the link leads."""
    (photos.parent / "link").symlink_to(photos)
    run("distill", "./link", "--dry-run")


def test_python_starts_from_pictures_too(photos):
    """`init` gives back what it chose."""
    found = api.init(photos, photos.parent / "mine.yaml", flips=False, ipc=3, name="mine")
    assert found.name == "mine" and any("without flips" in line for line in found.chosen)
    assert recipes.read(str(photos.parent / "mine.yaml")).ipc == 3
