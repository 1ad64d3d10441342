"""The whole way as users walk it, each step in a process of its own: distill, push, load anywhere, evaluate by id."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import QUICK
from hub_server import HubServer

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


def run(command, env, cwd, timeout=120):
    """Run a command to its end; its output is shown where it fails."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_set_travels_from_a_recipe_to_strangers(tmp_path):
    """`ddhub distill`, `ddhub push`, plain `load_dataset` in a fresh home, the hf command, `ddhub evaluate` by id."""
    with HubServer(tmp_path / "hub") as server:
        token = server.add_user("alice")
        ours = {**server.client_env(tmp_path / "ours", token), "DDHUB_HOME": str(tmp_path / "home")}
        overrides = [word for text in QUICK for word in ("--set", text)]
        run([BIN / "ddhub", "distill", "digits_ipc1", "--threads", "1", *overrides], ours, tmp_path)
        folder = tmp_path / "distilled" / "digits_ipc1"
        assert f'load_dataset("{ID}")' in run([BIN / "ddhub", "push", folder, ID], ours, tmp_path)

        theirs = {**server.client_env(tmp_path / "theirs"), "DDHUB_HOME": str(tmp_path / "home2")}
        run([sys.executable, "-c", LOAD], theirs, tmp_path)
        run([BIN / "hf", "download", ID, "--repo-type", "dataset", "--local-dir", "by_hf"], theirs, tmp_path)
        for name in ("ddhub.json", "data/train-00000-of-00001.parquet", "teachers/00.safetensors"):
            assert (tmp_path / "by_hf" / name).read_bytes() == (folder / name).read_bytes()
        evaluate = [BIN / "ddhub", "evaluate", ID, "--archs", "convnet2_w8", "--seeds", "1", "--threads", "1"]
        assert "random real" in run(evaluate, theirs, tmp_path)
        left = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "hub" not in path.parents]
        assert not [path for path in left if token.encode() in path.read_bytes()]


def test_a_set_travels_by_xet(tmp_path, folder):
    """Where the Hub offers it, files go and come that way; a Hub that does not is named in one sentence."""
    with HubServer(tmp_path / "hub", xet=True) as server:
        ours = server.client_env(tmp_path / "ours", server.add_user("alice"), xet=True)
        run([BIN / "ddhub", "push", folder, ID], ours, tmp_path)
        assert server.seen("xet-write-token") and not server.seen("lfs-put")
        run([sys.executable, "-c", LOAD], server.client_env(tmp_path / "theirs", xet=True), tmp_path)
        assert server.seen("xet-read-token")
    with HubServer(tmp_path / "plain") as server:
        ours = server.client_env(tmp_path / "ours2", server.add_user("alice"), xet=True)
        refused = subprocess.run(
            [BIN / "ddhub", "push", folder, ID], env=ours, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
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
