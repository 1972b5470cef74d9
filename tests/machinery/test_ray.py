"""A sweep on a Ray cluster: the same records, written by the driver, whatever happens to a node, a worker or itself."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray_cluster import RAY, Cluster, kill
from small_sweep import LARGE
from sweeping import RESUME, complete, finish, paths, readable, results, start, wait_for_records

from utils import cli

SMALLEST = Path(__file__).with_name("smallest.py")
pytestmark = [
    pytest.mark.xdist_group("ray"),  # all in one process, which starts one cluster
    pytest.mark.skipif(not RAY.exists(), reason="Ray is not installed: make ray"),
]


@pytest.fixture(scope="module")
def cluster():
    """Start a head and a second node, each a raylet of its own with one CPU; kill them at the end."""
    cluster = Cluster()
    try:
        cluster.add_node()
        cluster.wait_for(2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the results of 24 runs without Ray."""
    return complete(tmp_path_factory.mktemp("alone"), runs=24, pause=0.2)


def drive(cluster, output, *flags, runs=24, pause=0.2, **settings):
    flags = ["--ray", cluster.address, *flags]
    return start(output, *flags, environment=cluster.environment, runs=runs, pause=pause, **settings)


def refused(driver, output, *words):
    """Wait for a driver that must end with a sentence, and without a record."""
    status, said = finish(driver, 120)
    assert status == 1 and readable(said) and all(word in said for word in words) and not paths(output), said


def test_a_killed_driver_started_again_runs_only_what_has_no_record(cluster, alone, tmp_path):
    driver = drive(cluster, tmp_path)
    wait_for_records(tmp_path, driver, 6)
    driver.kill()
    driver.communicate()
    before = {path: path.stat().st_mtime_ns for path in paths(tmp_path)}
    assert 6 <= len(before) < 24
    status, said = finish(drive(cluster, tmp_path), 90)
    assert status == 0 and f"runs to do: {24 - len(before)}," in said, said
    assert before == {path: path.stat().st_mtime_ns for path in before} and results(tmp_path) == alone
    used = {json.loads(path.read_text())["environment"]["device"] for path in paths(tmp_path)}
    assert len(used) >= 2, "one node did everything"


def test_a_script_that_computes_with_torch_gives_the_same_bits(cluster, tmp_path):
    """Ray gives a run one thread for each of its CPUs, a process of this machine has all: no result may show it."""
    outputs = []
    for name, flags in (("alone", []), ("ray", ["--ray", cluster.address])):
        words = [sys.executable, SMALLEST, "p2_1_vanishing_gradients", "--output", tmp_path / name]
        subprocess.run([*words, *flags], env=cluster.environment, check=True, capture_output=True)
        files = (tmp_path / name / "results" / "p2_1_vanishing_gradients").glob("*.json")
        outputs.append({path.stem: json.loads(path.read_text())["result"] for path in files})
    assert outputs[0] == outputs[1] and outputs[0]["relu_he_20_layers_seed0"]["train_loss"]


@pytest.mark.parametrize(("cause", "named"), [("raise", "MemoryError: out of memory"), ("kill", "WorkerCrashedError")])
def test_a_run_that_cannot_end_is_reported_with_its_config(cluster, tmp_path, cause, named):
    status, said = finish(drive(cluster, tmp_path, runs=4, pause=0, fault=cause), 120)
    assert status == 1 and named in said and "1 of 4 runs failed" in said and '"seed": 0' in said, said
    assert list(results(tmp_path)) == ["run1.json", "run2.json", "run3.json"]


def test_a_worker_out_of_memory_is_reported_with_its_config(tmp_path):
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(sizes[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    if free < 1.5 * LARGE:
        pytest.skip("there is too little memory here to fill some of it")
    threshold = (total - free + 0.7 * LARGE) / total  # of all memory: above it Ray kills the largest worker
    environment = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_task_oom_retries": "1"}  # one, to be quick
    driver = start(tmp_path, "--ray", "local", environment=environment, runs=4, fault="memory")
    status, said = finish(driver, 180)
    assert status == 1 and "OutOfMemoryError" in said and "1 of 4 runs failed" in said and '"seed": 0' in said, said
    assert list(results(tmp_path)) == ["run1.json", "run2.json", "run3.json"]


def test_interrupting_the_driver_says_how_to_resume(cluster, tmp_path):
    driver = drive(cluster, tmp_path, runs=500, pause=0.1)
    wait_for_records(tmp_path, driver, 2)
    driver.send_signal(signal.SIGTERM)
    status, said = finish(driver)
    assert status == 143 and RESUME in said, said


def test_the_sweep_ends_complete_and_correct_when_a_node_is_killed(cluster, alone, tmp_path):
    driver = drive(cluster, tmp_path)
    wait_for_records(tmp_path, driver, 6)
    kill(cluster.nodes[1])  # the last test that needs it
    status, said = finish(driver, 120)
    assert status == 0 and results(tmp_path) == alone, said


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no.such.host.invalid:6379", "nonsense", "..:80", f"{'x' * 70}:1"])
def test_a_wrong_address_is_one_sentence(tmp_path, address):
    refused(start(tmp_path, "--ray", address, runs=1), tmp_path, f"--ray {address}: n", "nothing was run")


def test_a_cluster_without_gpus_is_told_from_one_with_them(cluster, tmp_path):
    refused(drive(cluster, tmp_path, "--device", "cuda"), tmp_path, "--device cuda needs a GPU")


def test_without_the_token_nobody_joins(cluster, tmp_path):
    refused(start(tmp_path, "--ray", cluster.address, runs=1), tmp_path, "no Ray cluster could be joined")


def test_a_cluster_of_this_machine_listens_on_loopback_alone(alone, tmp_path):
    import ray  # noqa: F401  which brings psutil
    import psutil  # isort: skip

    def computing(process):
        """Return the name of a process that has not ended."""
        try:
            return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
        except psutil.NoSuchProcess:
            return ""

    somebody_elses = {"RAY_ADDRESS": "127.0.0.1:9"}  # not meant here
    driver = start(tmp_path, "--ray", "local", runs=24, pause=0.2, environment=somebody_elses)
    wait_for_records(tmp_path, driver)
    family = psutil.Process(driver.pid).children(recursive=True)
    pids = {driver.pid, *(process.pid for process in family)}
    sockets = psutil.net_connections("tcp")
    addresses = {s.laddr.ip for s in sockets if s.pid in pids and s.status == psutil.CONN_LISTEN}
    assert len(family) > 2 and addresses and all(ip.endswith("127.0.0.1") for ip in addresses), addresses
    driver.kill()  # even so, nothing of the cluster goes on computing
    driver.communicate(timeout=60)
    end = time.monotonic() + 30
    # Ray's agents end when the system has buried the killed raylet, which the init of many containers never does.
    agents = ("", "ray::DashboardA", "ray::RuntimeEnv")
    while left := [name for process in family if (name := computing(process))[:15] not in agents]:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    for agent in filter(computing, family):
        agent.kill()
    assert results(tmp_path).items() <= alone.items()


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.parse_args("doc", ["--ray"])
    assert stopped.value.code == 2 and "make ray" in capsys.readouterr().err
