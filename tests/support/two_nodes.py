"""A Ray cluster of two nodes on this machine, one of which is killed while a job runs on it.

python two_nodes.py FOLDER SET: prints JSON, how often each job began and on which node. A process of its own, because
Ray starts servers and the tests' sandbox forbids its process to look for this machine's address.
"""

import contextlib
import json
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

from ddhub.base import files, jobs
from ddhub.base.errors import UserError


def record(log: Path, victim: str, path: Path) -> None:
    """Write the output; on the node to be killed, never, and on the other not before that one has begun a job."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    with log.open("a") as file:
        file.write(f"{path.name} {'victim' if node == victim else 'other'}\n")
    while node == victim or "victim" not in log.read_text():
        time.sleep(0.1)
    files.write_bytes(path.with_suffix(".more"), b"beside it")
    files.write_bytes(path, path.name.encode())


def half(path: Path) -> None:
    """Write a file beside the output, and fail."""
    files.write_bytes(path.with_suffix(".done"), b"beside it")
    raise UserError("half is done")


def main(folder: Path, source: str) -> None:
    """Kill a node in the middle of plain jobs; then evaluate the set on what is left and a fresh node."""
    import ray
    from ray.cluster_utils import Cluster

    from ddhub import api

    log, out = folder / "log", folder / "out"
    how = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=how)
    victim = cluster.add_node(**how)
    cluster.wait_for_nodes()

    def kill() -> None:
        while not (log.exists() and "victim" in log.read_text()):
            time.sleep(0.1)
        cluster.remove_node(victim, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    every = {out / f"{index}.json": partial(record, log, victim.node_id) for index in range(4)}
    jobs.run_all(every, jobs.Engine(ray=cluster.address))
    cluster.add_node(**how)
    how = {"baselines": (), "threads": 1, "ray": cluster.address}
    rows = api.evaluate(source, ["convnet2_w8"], out=folder / "rows", seeds=2, **how).to_dict()["rows"]
    several = api.evaluate(source, ["convnet2_w8"], out=folder / "several", seeds=3, together=2, **how).to_dict()[
        "rows"
    ]
    with contextlib.suppress(UserError):
        jobs.run_all({out / "half.json": half}, jobs.Engine(ray=cluster.address))
    ray.shutdown()
    cluster.shutdown()
    told = {"log": log.read_text().split("\n")[:-1], "files": sorted(os.listdir(out))}
    print(json.dumps({**told, "rows": rows, "several": several}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import two_nodes  # functions of a module, as other processes need them

    two_nodes.main(Path(sys.argv[1]), sys.argv[2])
