"""A sweep or a figure that is killed or interrupted: nothing is lost, and a sentence says how to go on."""

import json
import random
import shutil
import signal
import time
from xml.etree import ElementTree

import pytest
from matplotlib import image
from sweeping import RESUME, complete, everything, finish, paths, readable, results, start, wait_for_records

from utils.records import read_record


def test_kill_9_at_random_instants_of_a_sweep(tmp_path):
    started = time.monotonic()
    whole = complete(tmp_path / "whole", pause=0.005)
    duration = time.monotonic() - started
    instants = random.Random(0)
    for _ in range(6):
        process = start(tmp_path / "killed", pause=0.005)
        time.sleep(instants.uniform(0.6, 1.1) * duration)
        process.kill()
        process.communicate()
        for path in paths(tmp_path / "killed"):
            assert read_record(path, json.loads(path.read_text())["config"]) is not None
            if instants.random() < 0.3:
                path.unlink()  # so that there is always something left to kill
    assert complete(tmp_path / "killed", pause=0.005) == whole


def test_kill_9_while_a_figure_is_drawn(tmp_path):
    started = time.monotonic()
    complete(tmp_path, draw=True, runs=2, size=1000)
    duration = time.monotonic() - started
    whole, instants = everything(tmp_path), random.Random(1)
    for _ in range(6):
        process = start(tmp_path, "--replot", draw=True, runs=2, size=1000)
        time.sleep(instants.uniform(0.5, 1.0) * duration)
        process.kill()
        process.communicate()
        json.loads((tmp_path / "results" / "sweep.json").read_text())
        for picture in (tmp_path / "figures").glob("*.*g"):
            image.imread(picture) if picture.suffix == ".png" else ElementTree.parse(picture)
        if instants.random() < 0.5:
            shutil.rmtree(tmp_path / "figures", ignore_errors=True)
    complete(tmp_path, draw=True, runs=2, size=1000)
    assert everything(tmp_path) == whole


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_says_how_to_resume(tmp_path, workers, number, status):
    process = start(tmp_path, runs=1000, pause=0.05, workers=workers)
    wait_for_records(tmp_path, process)
    process.send_signal(number)
    returned, said = finish(process)
    assert returned == status and RESUME in said, said
    assert workers > 1 or readable(said)  # a worker that is stopped while it starts may leave a traceback
    assert "leaked" not in said


def test_workers_end_when_their_parent_is_killed(tmp_path):
    process = start(tmp_path, runs=1000, pause=0.05, workers=2)
    wait_for_records(tmp_path, process)
    process.kill()
    process.communicate(timeout=20)  # returns only when every child has closed the shared pipes


def test_a_killed_worker_is_reported_and_the_others_go_on(tmp_path):
    status, said = finish(start(tmp_path, runs=6, size=100, workers=2, fault="kill"))
    assert status == 1 and "1 of 6 runs failed" in said and '"seed": 0' in said and "worker was killed" in said, said
    assert readable(said) and '"seed": 1' not in said
    assert sorted(results(tmp_path)) == [f"run{seed}.json" for seed in range(1, 6)]
