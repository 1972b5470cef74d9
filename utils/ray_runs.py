"""Runs on a Ray cluster (--ray): what `utils.runs` does with processes of this machine, on any number of machines.

The driver, which was started by hand, hands out runs and writes the records; the nodes only compute. Every node needs
this repository, its environment and its data at the same paths, as a shared home folder gives them.
"""

import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from utils import machine
from utils.cli import ROOT

RETRIES = 3  # of a run whose worker or node was lost; a run that raises is not tried again
LOOPBACK = "127.0.0.1"
CONNECT = 10  # seconds
LOCAL = "local"  # --ray without an address


def attempts(
    attempt: Callable, jobs: dict, address: str, gpu_share: float, gpu_needed: bool = False
) -> Iterator[tuple]:
    """Yield (key, record, error) as each of the jobs {key: arguments} ends: `attempt(*arguments)` is (record, error).

    A job takes a CPU and, where the cluster has GPUs, `gpu_share` of one. `error` is None, or says what happened to a
    job whose worker or node was lost for the fourth time. Ends the program with status 1 where there is no such
    cluster, and where a GPU is needed and none is there.
    """
    ray = _connect(address)
    try:
        if gpu_needed and not ray.cluster_resources().get("GPU"):
            sys.exit(f"--ray {address}: --device cuda needs a GPU, and the cluster has none; nothing was run.")
        gpus = gpu_share if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(attempt).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
        running = {task.remote(*arguments): key for key, arguments in jobs.items()}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            key = running.pop(done)
            try:
                yield key, *ray.get(done)
            except ray.exceptions.RayError as error:  # lost, or out of memory, more often than RETRIES
                yield key, None, f"{type(error).__name__}: {error}"
    finally:
        ray.shutdown()  # cancels what still runs, and ends a cluster that was started here


def _connect(address):
    """Return the module ray, connected to the cluster at `address` or to one of its own on this machine."""
    # Anyone who reaches an open Ray port can run code here: tokens, and no port but on loopback.
    # Workers get neither this process's sys.path nor its checkout.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # else Ray repeats for ever what lacks memory
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Meant for other systems, this keeps Ray from replacing 127.0.0.1 by an address that others reach.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    elif (host_and_port := address.rsplit(":", 1))[-1].isdecimal():
        try:  # Ray itself would try for ten minutes
            socket.create_connection((host_and_port[0], int(host_and_port[1])), timeout=CONNECT).close()
        except (OSError, ValueError, OverflowError) as error:  # the latter two: no name, no port
            sys.exit(f"--ray {address}: nobody answers there ({error}); nothing was run.")
    try:
        import ray
    except ImportError as error:
        sys.exit(f"--ray: Ray is installed but cannot be imported ({error}); nothing was run.")

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address == LOCAL:
            ray.init("local", _node_ip_address=LOOPBACK, num_cpus=machine.cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:  # Ray raises its own errors, ConnectionError, RuntimeError and ValueError here
        sys.exit(f"--ray {address}: no Ray cluster could be joined ({str(error).splitlines()[0]}); nothing was run.")
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray takes it over, and ends without a word
    return ray
