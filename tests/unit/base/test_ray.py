"""Ray on a local cluster of two nodes, one killed.

pip install ray, then python -m pytest tests/unit/base/test_ray.py
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ddhub import api
from ddhub.base import jobs
from ddhub.base.errors import UserError

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

SCRIPT = Path(__file__).parents[2] / "support" / "two_nodes.py"


@pytest.fixture(scope="module")
def told(finished, tmp_path_factory):
    """What the cluster's process tells at its end, and its folder."""
    folder = tmp_path_factory.mktemp("ray")
    where = os.pathsep.join([str(SCRIPT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": where, "DDHUB_HOME": str(folder / "home"), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(SCRIPT), str(folder), str(finished)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_nodes_job_is_run_again(told):
    """On the node that is left; every other job ran once, and every file is there."""
    assert told["files"][:-1] == [f"{index}.{kind}" for index in range(4) for kind in ("json", "more")]
    began = Counter(line.split()[0] for line in told["log"])
    lost = [line.split()[0] for line in told["log"] if line.endswith(" victim")]
    assert len(lost) == 1
    assert began == {name: 2 if name in lost else 1 for name in ("0.json", "1.json", "2.json", "3.json")}


def test_rows_equal_the_loops_to_the_bit(told, finished, tmp_path):
    """The bytes came back from the nodes' own folders, of seeds that were trained together all of them."""
    how = {"baselines": (), "threads": 1}
    for name, asked in (("rows", {"seeds": 2}), ("several", {"seeds": 3, "together": 2})):
        alone = api.evaluate(str(finished), ["convnet2_w8"], out=tmp_path / name, **how, **asked).to_dict()["rows"]
        assert [{**row, "seconds": 0} for row in told[name]] == [{**row, "seconds": 0} for row in alone]


def test_what_a_failed_job_wrote_comes_back(told):
    """As it would be there without Ray."""
    assert told["files"][-1] == "half.done"


def test_a_cluster_that_is_not_there_is_an_error(tmp_path):
    """At once, with what to look at."""
    with pytest.raises(UserError, match=r"--ray 127\.0\.0\.1:1: cannot connect: .*refused"):
        jobs.run_all({tmp_path / "a": print}, jobs.Engine(ray="127.0.0.1:1"))
    assert list(tmp_path.iterdir()) == []
