"""The whole way as users walk it: distill, push, load anywhere (in processes without ddhub), evaluate by id."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import QUICK
from hub_server import HubServer

from ddhub.cli import app

pytestmark = pytest.mark.slow

ID = "alice/digits"
BIN = Path(sys.executable).parent

LOAD = f"""
import sys
from datasets import load_dataset
assert "ddhub" not in sys.modules
rows = load_dataset("{ID}", split="train")
assert rows.features["label"].names == [str(digit) for digit in range(10)]
assert sorted(rows["label"]) == list(range(10))
assert rows[0]["image"].size == (8, 8) and len(rows[0]["soft_label"]) == 10
stream = load_dataset("{ID}", split="train", streaming=True)
assert [row["label"] for row in stream] == rows["label"][:]
"""


def run(command, env, cwd, timeout=600):
    """Run a command to its end; its output is shown where it fails."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def said(*words):
    """What a command says that ends well."""
    done = CliRunner().invoke(app.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_set_travels_from_a_recipe_to_strangers(server, tmp_path, monkeypatch):
    """Distilled, pushed, read by plain `load_dataset` and the hf command in a fresh home, and evaluated by its id."""
    monkeypatch.chdir(tmp_path)
    said("distill", "digits_ipc1", "--threads", "1", *(word for text in QUICK for word in ("--set", text)))
    folder = tmp_path / "distilled" / "digits_ipc1"
    assert f'load_dataset("{ID}")' in said("push", folder, ID)

    theirs = server.client_env(tmp_path / "theirs")
    run([sys.executable, "-c", LOAD], theirs, tmp_path)
    run([BIN / "hf", "download", ID, "--repo-type", "dataset", "--local-dir", "by_hf"], theirs, tmp_path)
    for name in ("ddhub.json", "data/train-00000-of-00001.parquet", "teachers/00.safetensors"):
        assert (tmp_path / "by_hf" / name).read_bytes() == (folder / name).read_bytes()
    evaluate = ["evaluate", ID, "--archs", "convnet2_w8", "--seeds", "1", "--threads", "1", "--no-probe"]
    assert "random real" in said(*evaluate)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "hub" not in path.parents]
    assert not [path for path in left if server.token.encode() in path.read_bytes()]


def test_a_set_travels_by_xet(tmp_path, folder):
    """Where the Hub offers it, files go and come that way."""
    with HubServer(tmp_path / "hub", xet=True) as server:
        ours = server.client_env(tmp_path / "ours", server.add_user("alice"), xet=True)
        run([BIN / "ddhub", "push", folder, ID], ours, tmp_path)
        assert server.seen("xet-write-token") and not server.seen("lfs-put")
        run([sys.executable, "-c", LOAD], server.client_env(tmp_path / "theirs", xet=True), tmp_path)
        assert server.seen("xet-read-token")


def test_a_hub_without_xet_is_named_in_one_sentence(server, folder, monkeypatch):
    """With what to type."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    refused = CliRunner().invoke(app.main, ["push", str(folder), ID])
    assert refused.exit_code == 1
    assert "does not offer the xet transfer" in refused.stderr and "HF_HUB_DISABLE_XET=1" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_pandas_polars_and_duckdb_read_the_rows(folder):
    """The parquet is plain: labels, soft labels and encoded pictures arrive in each of them."""
    import duckdb
    import pandas
    import polars

    path = str(folder / "data" / "train-00000-of-00001.parquet")
    frame = pandas.read_parquet(path)
    assert sorted(frame["label"]) == list(range(10))
    assert frame["image"][0]["bytes"].startswith(b"\x89PNG")
    values = polars.read_parquet(path)["soft_label"].to_list()
    assert [[float(v) for v in row] for row in frame["soft_label"]] == values
    rows = duckdb.sql(
        f"select label, len(soft_label), octet_length(image.bytes) from '{path}' order by label"
    ).fetchall()
    assert [row[:2] for row in rows] == [(digit, 10) for digit in range(10)]
    assert all(row[2] > 60 for row in rows)


def test_the_environment_of_this_test_holds_no_token():
    """Nothing here could reach the real Hub."""
    assert "HF_TOKEN" not in os.environ
