"""A Ray cluster of two nodes on this machine, one of which is killed in the middle of a group that it makes.

python group_nodes.py FOLDER OVERRIDE...: distills into FOLDER/set. A process of its own, as two_nodes.py is.
"""

import sys
import threading
import time
from pathlib import Path


def main(folder: Path, overrides: list[str]) -> None:
    """The head has no CPU to give: the other node works on a group until it is killed, and a fresh one goes on."""
    import ray
    from ray.cluster_utils import Cluster

    from ddhub import api
    from ddhub.base import log

    log.to_stderr()

    how, out = {"num_cpus": 1, "object_store_memory": 80 << 20}, folder / "set"
    cluster = Cluster(initialize_head=True, head_node_args={**how, "num_cpus": 0})
    victim = cluster.add_node(**how)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level="warning")
    given = {"overrides": overrides, "threads": 1, "checkpoint_seconds": 0, "ray": cluster.address}
    # Nodes are started by the main thread alone.
    distilling = threading.Thread(target=api.distill, args=("digits_ipc1",), kwargs={"out": out, **given})
    distilling.start()
    while distilling.is_alive() and not any((out / ".ddhub" / "groups").glob("*.run/group_*.pt")):
        time.sleep(0.02)
    cluster.remove_node(victim, allow_graceful=False)
    cluster.add_node(**how)
    distilling.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
