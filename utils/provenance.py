"""Where results come from: versions, device and commit of a run, and of all runs behind a summary."""

import functools
import importlib
import platform
import subprocess
import sys

import numpy as np
import pandas as pd

from utils.cli import ROOT


def environment() -> dict:
    """Return what a record says of the versions and the commit it was computed with."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "commit": _commit()}
    for library in ("torch", "tensorflow"):
        if library in sys.modules:
            found[library] = importlib.import_module(library).__version__
    return found


@functools.cache
def _commit():
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-modified" if git("status", "--porcelain", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(frame: pd.DataFrame) -> dict:
    """Return, of the runs in a table from `run_all`, how many, their seconds in all, and their environments.

    "environments": each different one without its commit, with the number "runs" in it; "commits": the number of runs
    of each.
    """
    environments: dict[tuple, int] = {}
    commits: dict[str, int] = {}
    for found in frame.environment:
        kept = {key: value for key, value in found.items() if key not in ("commit", "epoch_seconds")}
        key = tuple(sorted(kept.items()))
        environments[key] = environments.get(key, 0) + 1
        commits[found["commit"]] = commits.get(found["commit"], 0) + 1
    return {
        "runs": len(frame),
        "seconds": frame.seconds.sum(),
        "environments": [{**dict(key), "runs": n} for key, n in sorted(environments.items())],
        "commits": commits,
    }
