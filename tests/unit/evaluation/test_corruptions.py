"""Corrupted test images: what each corruption does, the same every time, and the column that rows make of them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import ddhub
from ddhub import api
from ddhub.cli.app import main
from ddhub.evaluation import corruptions, grid
from ddhub.evaluation import rows as results
from ddhub.evaluation.corruptions import CORRUPTIONS

pytestmark = pytest.mark.slow


def images(channels: int, count: int = 6) -> torch.Tensor:
    draw = torch.Generator().manual_seed(channels)
    return torch.randint(30, 200, (count, channels, 16, 16), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_pixels_and_is_the_same_every_time(monkeypatch, name, channels):
    """Shape and type stay; every image is changed, and none knows of the others or of the chunk it came in."""
    clean = images(channels)
    found = corruptions.apply(name, clean)
    assert (found.shape, found.dtype) == (clean.shape, torch.uint8)
    assert all((found != clean).flatten(1).any(1))
    assert torch.equal(found, corruptions.apply(name, clean))
    if name != "gaussian_noise":
        monkeypatch.setattr(corruptions, "CHUNK", 4)
        assert torch.equal(found, corruptions.apply(name, clean))


def test_noise_contrast_and_brightness_are_of_the_stated_strength():
    """A deviation of 0.08, four tenths of the contrast, 0.15 more of the value at the same hue."""
    grey = torch.full((1000, 3, 16, 16), 128, dtype=torch.uint8)
    noise = corruptions.apply("gaussian_noise", grey).float() / 255
    assert noise.std().item() == pytest.approx(0.08, rel=0.01)
    assert not torch.equal(noise[0], noise[500])  # another chunk has other noise
    clean = images(3).float()
    spread = corruptions.apply("contrast", images(3)).float().std((2, 3)) / clean.std((2, 3))
    assert spread.numpy() == pytest.approx(0.4, rel=0.02)
    one = torch.tensor([100, 50, 0], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    brighter = corruptions.apply("brightness", one)[0, :, 0, 0].tolist()
    assert brighter == [138, 69, 0]  # 100 / 255 + 0.15 = 138.25 / 255
    assert corruptions.apply("brightness", torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).unique().tolist() == [38]


def test_blur_keeps_the_mean_and_pixelate_makes_fewer_values():
    clean = images(1)
    blurred = corruptions.apply("gaussian_blur", clean).float()
    assert (blurred.mean() - clean.float().mean()).abs() < 1
    assert blurred.std() < 0.8 * clean.float().std()
    assert len(np.unique(corruptions.apply("pixelate", clean)[0], axis=-1)[0, 0]) <= 13  # of 16 columns


def test_rows_are_tested_on_corrupted_images_where_asked(folder):
    """A column of the table, a sentence, the card, and a set that verify passes; rows without are trained again."""

    def evaluate(*more):
        how = ["--threads", "1", "--seeds", "2", "--archs", "convnet2_w8", "--set", "epochs=2", "--json", "--no-probe"]
        done = CliRunner().invoke(main, ["evaluate", str(folder), *how, *more])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout), done.stderr

    before, said = evaluate()
    assert "corrupted" not in said and "corrupted" not in before["summary"][0]
    after, said = evaluate("--corruptions")
    assert "trained again, to be tested on corrupted images too: 4 rows" in said
    assert "distilled, corrupted" in said and "random real, corrupted" in said and "severity 3 of 5" in said
    assert [row["top1"] for row in after["rows"]] == [row["top1"] for row in before["rows"]]
    for row in after["rows"]:
        told = row["corrupted"]
        assert set(told["top1"]) == set(CORRUPTIONS) and (told["version"], told["severity"]) == (1, 3)
        assert told["mean"] == pytest.approx(np.mean(list(told["top1"].values())))
    mean = np.mean([row["corrupted"]["mean"] for row in after["rows"] if row["data"] == "distilled"])
    (entry,) = [entry for entry in after["summary"] if entry["data"] == "distilled"]
    assert (entry["corrupted"]["mean"], entry["corrupted"]["n"]) == (pytest.approx(mean), 2)
    assert "4 done already" in evaluate("--corruptions")[1]
    card = (folder / "README.md").read_text()
    assert "| distilled, corrupted |" in card and "\nCorrupted: mean accuracy on" in card
    assert api.verify(str(folder)).ok


@pytest.mark.parametrize("end", ["is stopped", "is killed"])
def test_rows_that_are_trained_again_are_kept_until_they_are(folder, monkeypatch, end):
    """A command that ends before they are leaves the older ones."""
    rows, how = folder / "evaluation", {"seeds": 1, "baselines": [], "threads": 1, "probe": False}
    ddhub.evaluate(folder, ["convnet2_w8"], overrides=["epochs=2"], **how)
    before = {path: path.read_bytes() for path in rows.glob("*.json")}

    with monkeypatch.context() as patch:

        def ended(*_, **__):
            assert not list(rows.glob("*.json"))
            if end == "is killed":
                patch.setattr(grid, "_put_back", lambda paths: None)
            raise KeyboardInterrupt

        patch.setattr(grid.jobs, "run_all", ended)
        with pytest.raises(KeyboardInterrupt):
            ddhub.evaluate(folder, ["convnet2_w8"], overrides=["epochs=2"], corruptions=True, **how)
    ddhub.evaluate(folder, ["convnet2_w8"], overrides=["epochs=2"], **how)
    assert {path: path.read_bytes() for path in rows.glob("*.json")} == before
    assert not list(rows.glob(f"*{grid.ASIDE}"))


@pytest.mark.parametrize(
    "told",
    [
        *(0.5, [], {}, {"version": 1, "severity": 3, "mean": 2.0, "top1": {}}),
        {"version": 1, "severity": 3, "mean": "0.5", "top1": {}},
        {"version": 1, "severity": 3, "mean": 0.5, "top1": {"jpeg": True}},
    ],
)
def test_a_strangers_row_is_refused_by_its_key(tmp_path, told):
    """What is no accuracy is none of a row's."""
    named = dict.fromkeys(("arch", "protocol", "data", "test_set", "test"), "x")
    (tmp_path / "row.json").write_text(json.dumps({"top1": 0.5, "seed": 0, **named, "corrupted": told}))
    with pytest.raises(results.UserError, match=r"not an evaluation row .*corrupted"):
        results.read(tmp_path / "row.json")
