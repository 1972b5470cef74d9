"""A sweep for the tests to kill: `python sweep.py OUTPUT N PAUSE` records N runs, pausing PAUSE seconds in each."""

import sys
import time
from pathlib import Path

import numpy as np

from utils.cli import Options
from utils.runs import run_all


def run(config):
    """Return numbers that only the seed decides, enough of them for a write to be interrupted."""
    time.sleep(config["pause"])
    return {"values": np.random.default_rng(config["seed"]).normal(size=20_000)}


def configs(n, pause):
    return [{"name": f"run{seed}", "pause": pause, "seed": seed} for seed in range(n)]


if __name__ == "__main__":
    output, n, pause, workers = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    run_all("sweep", run, configs(n, pause), Options(output=output), workers=workers)
