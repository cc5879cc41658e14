"""A sweep on a Ray cluster of one node on this machine, whose head is killed while the sweep trains.

    python tests/sweep/lose_ray_head.py SWEEP RUNS

Prints what the sweep printed, and ends with its exit code.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from lose_ray_node import NODE, count_training
from ray.cluster_utils import Cluster


def main(sweep: str, runs: str) -> int:
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    options = ["--runs", runs, "--executor", "ray", "--address", cluster.address]
    process = subprocess.Popen([sys.executable, "-m", "tiedexp", "sweep", sweep, *options])
    try:
        while process.poll() is None and not count_training(Path(runs)):
            time.sleep(0.05)
        cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        print("the head is lost", flush=True)
        begin = time.monotonic()
        code = process.wait(timeout=100)
        print(f"it noticed after {time.monotonic() - begin:.0f} s", flush=True)
        return code
    finally:
        process.kill()
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
