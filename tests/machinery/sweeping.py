"""How the tests start and kill small_sweep.py, and look at what it left: `finish(start(folder, runs=3))`."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

SWEEP = Path(__file__).with_name("small_sweep.py")
RESUME = "the same command without --fresh goes on"


def run(*words, cwd=None, **environment):
    """Run a command to its end and return it, with what it printed."""
    environment = {**os.environ, **environment}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True)


def start(output, *flags, draw=False, prefix=(), environment=(), stdout=PIPE, stderr=PIPE, limit=None, **settings):
    """Start small_sweep.py; settings: runs, size, pause, workers, fault; limit: the largest file it may write."""
    words = [str(word) for word in (*prefix, sys.executable, SWEEP, "--output", output, *flags)]
    settings = {f"SWEEP_{key.upper()}": str(value) for key, value in settings.items()}
    settings |= {"SWEEP_DRAW": "1"} if draw else {}
    small_disk = limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    env = {**os.environ, **settings, **dict(environment)}
    return Popen(words, env=env, stdout=stdout, stderr=stderr, text=True, preexec_fn=small_disk)


def finish(process, seconds=60):
    """Return (status, what it said)."""
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, (stdout or "") + stderr


def complete(output, **settings):
    """Run the sweep to its end and return its results, by name."""
    status, said = finish(start(output, **settings))
    assert status == 0, said
    return results(output)


def paths(output):
    return sorted((output / "results" / "sweep").glob("run*.json"))


def results(output):
    return {path.name: json.loads(path.read_text())["result"] for path in paths(output)}


def everything(output):
    """Return every file below a folder, without the times in the records."""
    files = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    return {path: content for path, content in files.items() if path.parent.name != "sweep"} | results(output)


def wait_for_records(output, process, n=1, seconds=180):
    end = time.monotonic() + seconds
    while len(paths(output)) < n:
        assert process.poll() is None and time.monotonic() < end, finish(process)
        time.sleep(0.02)


def readable(said):
    """Return whether something was said, and without a traceback."""
    return bool(said.strip()) and "Traceback" not in said
