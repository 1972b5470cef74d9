"""Where results come from: versions, device and commit of a run, and of all runs behind a summary."""

import functools
import importlib
import os
import platform
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd

from utils import machine
from utils.cli import ROOT


def environment() -> dict:
    """Return what a record says of the versions and the commit it was computed with."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "commit": _commit()}
    versions["cpu"] = machine.cpu_kind()
    for library in ("torch", "tensorflow"):
        if library in sys.modules:
            versions[library] = importlib.import_module(library).__version__
    return versions


@functools.cache
def _commit():
    """Return this checkout's commit, "-modified" where code has changed since; "unknown" outside of its repository."""
    # What a hook of another repository has set would name that one.
    others = {name for name in os.environ if name.startswith("GIT_") and not name.startswith("GIT_CONFIG")}
    clean = {name: value for name, value in os.environ.items() if name not in others}

    def git(*words):
        command = ["git", "-C", ROOT, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=clean).stdout.strip()

    try:
        if git("rev-parse", "--show-cdup"):
            return "unknown"  # unpacked inside another repository
        git("ls-files", "--error-unmatch", "--", "utils/provenance.py")  # or at its root
        # Whatever the user's settings are, a new script counts as a change, and a file's mode does not.
        changed = git("-c", "core.fileMode=false", "status", "--porcelain", "--untracked-files=no", "--", "*.py")
        new = git("ls-files", "--others", "--exclude-per-directory=.gitignore", "--", "*.py")
        return git("rev-parse", "HEAD") + ("-modified" if changed or new else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(frame: pd.DataFrame) -> dict:
    """Return, of the runs in a table of records, how many, their seconds in all, and their environments.

    "environments": each different one, without its commit and its kind of CPU, with the number "runs" in it; "commits":
    the number of runs of each.
    """
    environments: Counter[tuple] = Counter()
    commits: Counter[str] = Counter()
    for used in frame.environment:
        kept = {key: value for key, value in used.items() if key not in ("commit", "cpu")}
        environments[tuple(sorted(kept.items()))] += 1
        commits[used["commit"]] += 1
    return {
        "runs": len(frame),
        "seconds": frame.seconds.sum(),
        "environments": [{**dict(key), "runs": n} for key, n in sorted(environments.items())],
        "commits": commits,
    }
