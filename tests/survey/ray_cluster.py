"""A Ray cluster of which a node is killed: `python -m tests.survey.ray_cluster PARTS ARGUMENT...`.

Runs `photoz score ARGUMENT... --ray` where loopback is the only interface, since Ray's processes listen on all, and
prints as JSON what came of it. PARTS is the folder where its parts appear; they are waited for before a node is killed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

from tests.running import ROOT

OF_NODE = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "include_dashboard": False}
SCORE = [sys.executable, "-c", "from photoz_client.cli import main; main()", "score"]
SECONDS = 300


def n_actors() -> int:
    """Return how many processes score chunks."""
    titles = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return sum(title.startswith("ray::MapWorker") for title in titles)


def wait_until(is_reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait while the command runs; raises `TimeoutError`."""
    end = time.monotonic() + SECONDS
    while not is_reached():
        if process.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"exit code {process.poll()}, {n_actors()} actors: {process.communicate()[1]}")
        time.sleep(0.1)


def main() -> None:
    """Run the command while a node is lost."""
    parts, *arguments = sys.argv[1:]

    def n_parts() -> int:
        return len(list(Path(parts).glob("part-*")))

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args=OF_NODE)
    node = cluster.add_node(**OF_NODE)
    try:
        command = [*SCORE, *arguments, "--ray", cluster.address]
        out = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=ROOT, text=True, **out)
        wait_until(lambda: n_parts() >= 4 and n_actors() == 2, process)
        before = n_parts()
        cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: n_actors() == 1, process)
        after = n_parts()
        _, message = process.communicate(timeout=SECONDS)
        print(json.dumps({"status": process.returncode, "message": message, "n_parts": [before, after]}))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
