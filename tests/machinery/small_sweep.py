"""A script like the project's, for the tests to kill; what it does is set by environment variables.

SWEEP_RUNS, SWEEP_SIZE numbers each, SWEEP_PAUSE seconds in each, SWEEP_WORKERS processes; SWEEP_DRAW=1: with summary
and figure; SWEEP_FAULT: what happens in the first run, "raise", "kill" or "memory".
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import os
import signal
import time

import numpy as np

from utils import plotting
from utils.cli import parse_args
from utils.intervals import mean_interval
from utils.records import write_summary
from utils.runs import sweep

STEM = "sweep"
LARGE = 5_000_000_000  # bytes


def run(config, options):
    """Return numbers that only the seed decides, enough of them for a write to be interrupted."""
    time.sleep(config["pause"])
    if config["seed"] == 0 and config.get("fault") == "raise":
        raise MemoryError("out of memory")
    if config["seed"] == 0 and config.get("fault") == "kill":
        signal.raise_signal(signal.SIGKILL)
    if config["seed"] == 0 and config.get("fault") == "memory":
        hoard = np.ones(LARGE // 8)
        time.sleep(30)  # long enough to be noticed
        del hoard
    values = np.random.default_rng(config["seed"]).normal(size=config["size"])
    # The parent tells the nodes of a cluster apart: "device" goes to the environment, not to the result.
    return {"values": values, "environment": {"precision": "float64", "device": f"parent {os.getppid()}"}}


def configs(n, pause, size=20_000, fault=None):
    """Return n configs."""
    extra = {"fault": fault} if fault else {}
    return [{"name": f"run{seed}", "pause": pause, "size": size, "seed": seed, **extra} for seed in range(n)]


def main():
    """Run what is not recorded, then write the summary and draw the figure."""
    options = parse_args(__doc__)
    n, size = int(os.environ.get("SWEEP_RUNS", 12)), int(os.environ.get("SWEEP_SIZE", 20_000))
    workers, pause = int(os.environ.get("SWEEP_WORKERS", 1)), float(os.environ.get("SWEEP_PAUSE", 0))
    runs = configs(n, pause, size, os.environ.get("SWEEP_FAULT"))
    frame = sweep(STEM, run, runs, options, workers=workers)
    if os.environ.get("SWEEP_DRAW"):
        write_summary(STEM, {"mean": mean_interval([np.mean(values) for values in frame["values"]])}, options)
        figure, axes = plotting.subplots()
        axes[0, 0].plot(frame["values"].iloc[0][:500])
        plotting.save(figure, STEM, options)


if __name__ == "__main__":
    main()
