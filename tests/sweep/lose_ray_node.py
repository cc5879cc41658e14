"""A sweep on a Ray cluster of two nodes on this machine, one of which is killed while both train.

    python tests/sweep/lose_ray_node.py SWEEP RUNS

Prints what the sweep printed, and ends with its exit code.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

# Every node is 127.0.0.1; otherwise Ray would use this machine's address.
os.environ.update(RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}


def main(sweep: str, runs: str) -> int:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    node = cluster.add_node(**NODE)
    code = "from tiedexp.cli import main; main()"
    options = ["--runs", runs, "--executor", "ray", "--address", cluster.address]
    process = subprocess.Popen([sys.executable, "-c", code, "sweep", sweep, *options])
    try:
        while process.poll() is None and count_training(Path(runs)) < 2:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        print("a node is lost", flush=True)
        return process.wait()
    finally:
        process.kill()
        cluster.shutdown()


def count_training(runs: Path) -> int:
    """The runs that have finished an epoch but not all."""
    logs = [path.read_text() for path in runs.glob("*/*/seed-*/log.txt")]
    return sum(bool(re.search("^epoch 1:", log, re.MULTILINE)) and "finished" not in log for log in logs)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
