"""A sweep for the tests to kill: `python sweep.py OUTPUT N PAUSE WORKERS [RAY_ADDRESS [FAULT]]`.

Records N runs, pausing PAUSE seconds in each. With a FAULT, "raise" or "kill", that is what happens in the first.
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from utils.cli import Options
from utils.runs import run_all


def run(config):
    """Return numbers that only the seed decides, enough of them for a write to be interrupted."""
    time.sleep(config["pause"])
    if config["seed"] == 0 and config.get("fault") == "raise":
        raise MemoryError("out of memory")
    if config["seed"] == 0 and config.get("fault") == "kill":
        signal.raise_signal(signal.SIGKILL)
    # The parent tells the nodes of a cluster apart: "device" goes to the environment, not to the result.
    return {"values": np.random.default_rng(config["seed"]).normal(size=20_000), "device": f"parent {os.getppid()}"}


def configs(n, pause, fault=None):
    """Return n configs."""
    extra = {"fault": fault} if fault else {}
    return [{"name": f"run{seed}", "pause": pause, "seed": seed, **extra} for seed in range(n)]


if __name__ == "__main__":
    output, n, pause, workers = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    ray, fault = [*sys.argv[5:], None, None][:2]
    run_all("sweep", run, configs(n, pause, fault), Options(output=output, ray=ray), workers=workers)
