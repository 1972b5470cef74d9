"""A Ray cluster of two nodes on this machine, each a raylet of its own: for the tests, and as a demonstration.

python tests/machinery/ray_cluster.py      runs a script on it, and kills one of the nodes meanwhile (make ray-demo)
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")  # the command
LOOPBACK = "127.0.0.{}"  # an address for each node; Ray replaces the first of these by the machine's own


class Cluster:
    """A head and further nodes with one CPU each; `environment` is what a driver needs to join it at `address`."""

    def __init__(self):
        """Start the head at a loopback address, with a token of its own, without which no one can use its ports."""
        with socket.socket() as free:
            free.bind((LOOPBACK.format(2), 0))
            self.address = f"{LOOPBACK.format(2)}:{free.getsockname()[1]}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
        self.folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path has at most 107 characters
        port, self.nodes = self.address.split(":")[1], []
        self._start("--head", f"--port={port}", f"--temp-dir={self.folder}", "--include-dashboard=false")

    def add_node(self):
        """Start one more node and return its process, which leads a group of its own."""
        return self._start(f"--address={self.address}")

    def wait_for(self, nodes: int, seconds: float = 60):
        """Return when so many nodes are there; raises TimeoutError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            words = [RAY, "status", f"--address={self.address}"]
            done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
            if done.stdout.count("node_") >= nodes:
                return
            time.sleep(0.5)
        raise TimeoutError(f"{nodes} nodes did not come up within {seconds} s: {done.stdout}{done.stderr}")

    def close(self):
        """Kill every node and remove the cluster's files."""
        for node in self.nodes:
            kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *words):
        host = LOOPBACK.format(2 + len(self.nodes))
        command = [RAY, "start", "--block", f"--node-ip-address={host}", "--num-cpus=1", *words]
        node = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.nodes.append(node)
        return node


def kill(node: subprocess.Popen):
    """Kill a node and everything that it started, as when its machine loses power."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def demonstrate():
    """Run a script on two nodes, kill one of them after a while, and show that every record is there."""
    cluster, output = Cluster(), ROOT / "build" / "ray-demo"
    shutil.rmtree(output, ignore_errors=True)
    try:
        second = cluster.add_node()
        cluster.wait_for(2)
        words = [ROOT / "coms6998_hw2" / "p1_perceptron.py", "--preset", "quick", "--output", output]
        words = [*words, "--ray", cluster.address]
        print(f"two nodes, the head at {cluster.address}; running: python {' '.join(map(str, words))}", flush=True)
        driver = subprocess.Popen([sys.executable, *words], env=cluster.environment)
        while len(list(output.glob("results/p1_perceptron/*.json"))) < 3 and driver.poll() is None:
            time.sleep(0.2)
        kill(second)
        print("the second node is killed; its runs go to the first", flush=True)
        sys.exit(driver.wait())
    finally:
        cluster.close()


if __name__ == "__main__":
    demonstrate()
