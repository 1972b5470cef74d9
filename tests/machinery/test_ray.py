"""A sweep on a Ray cluster: the same records, written by the driver, whatever happens to a node, a worker or itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import fault
from ray_cluster import RAY, Cluster, kill
from sweep import LARGE
from sweeping import paths

from utils import cli

SWEEP = Path(__file__).with_name("sweep.py")
SMALLEST = Path(__file__).with_name("smallest.py")
pytestmark = [
    pytest.mark.xdist_group("ray"),  # all in one process, which starts one cluster
    pytest.mark.skipif(not RAY.exists(), reason="Ray is not installed: make .venv/installed-ray"),
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


def start(output, runs, pause, address, cluster=None, cause=None, flags=(), **environment):
    settings = {"SWEEP_RUNS": str(runs), "SWEEP_PAUSE": str(pause)} | ({"SWEEP_FAULT": cause} if cause else {})
    words = [sys.executable, str(SWEEP), "--output", str(output), "--ray", address, *flags]
    environment = {**(cluster.environment if cluster else os.environ), **settings, **environment}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def records(output):
    return {path.stem: json.loads(path.read_text()) for path in paths(output)}


def wait_for_records(output, n, process, seconds=180):
    end = time.monotonic() + seconds
    while len(paths(output)) < n:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return the results of 24 runs without Ray."""
    output = tmp_path_factory.mktemp("alone")
    environment = {**os.environ, "SWEEP_RUNS": "24", "SWEEP_PAUSE": "0.2"}
    subprocess.run([sys.executable, SWEEP, "--output", output], env=environment, check=True, capture_output=True)
    return {name: record["result"] for name, record in records(output).items()}


@fault("Ray: the driver is killed", "what is recorded is not run again; a new start does the rest")
def test_a_killed_driver_started_again_runs_only_what_has_no_record(cluster, alone, tmp_path):
    driver = start(tmp_path, 24, 0.2, cluster.address, cluster)
    wait_for_records(tmp_path, 6, driver)
    driver.kill()
    driver.communicate()
    before = {path: path.stat().st_mtime_ns for path in paths(tmp_path)}
    assert 6 <= len(before) < 24
    driver = start(tmp_path, 24, 0.2, cluster.address, cluster)
    stdout, stderr = driver.communicate(timeout=90)
    assert driver.returncode == 0 and f"{24 - len(before)} runs to do" in stdout, stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    recorded = records(tmp_path)
    assert {name: record["result"] for name, record in recorded.items()} == alone
    assert len({record["environment"]["device"] for record in recorded.values()}) >= 2, "one node did everything"


def test_a_script_that_computes_with_torch_gives_the_same_bits(cluster, tmp_path):
    """Ray gives a run one thread for each of its CPUs, a process of this machine has all: no result may show it."""
    results = []
    for name, flags in (("alone", []), ("ray", ["--ray", cluster.address])):
        words = [sys.executable, SMALLEST, "p1_check_gradients", "--output", tmp_path / name]
        subprocess.run([*words, *flags], env=cluster.environment, check=True, capture_output=True)
        paths = sorted((tmp_path / name / "results" / "p1_check_gradients").glob("*.json"))
        results.append({path.stem: json.loads(path.read_text())["result"] for path in paths})
    assert results[0] == results[1] and "torch" in results[0]["gradients_batch_float32"]["worst"]


@fault("Ray: a run raises an error, or kills its worker every time", "it is named, status 1; the others are recorded")
@pytest.mark.parametrize(("cause", "said"), [("raise", "MemoryError: out of memory"), ("kill", "WorkerCrashedError")])
def test_a_run_that_cannot_end_is_reported_with_its_config(cluster, tmp_path, cause, said):
    driver = start(tmp_path, 4, 0, cluster.address, cluster, cause)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 1 and said in stderr and "1 of 4 runs failed" in stderr, stderr
    assert '"seed": 0' in stderr and sorted(records(tmp_path)) == ["run1", "run2", "run3"]


@fault("Ray: a run takes more memory than there is", "it is named, status 1; the others are recorded")
def test_a_worker_out_of_memory_is_reported_with_its_config(tmp_path):
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(sizes[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    if free < 1.5 * LARGE:
        pytest.skip("there is too little memory here to fill some of it")
    threshold = (total - free + 0.7 * LARGE) / total  # of all memory: above it Ray kills the largest worker
    settings = {"RAY_memory_usage_threshold": f"{threshold:.3f}", "RAY_task_oom_retries": "1"}
    driver = start(tmp_path, 4, 0, "local", cause="memory", **settings)
    _, stderr = driver.communicate(timeout=180)
    assert driver.returncode == 1 and "OutOfMemoryError" in stderr and "1 of 4 runs failed" in stderr, stderr
    assert '"seed": 0' in stderr and sorted(records(tmp_path)) == ["run1", "run2", "run3"]


@fault("Ray: SIGTERM to the driver", "status 143, and a sentence how to resume")
def test_interrupting_the_driver_says_how_to_resume(cluster, tmp_path):
    driver = start(tmp_path, 500, 0.1, cluster.address, cluster)
    wait_for_records(tmp_path, 2, driver)
    driver.send_signal(signal.SIGTERM)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 143 and "the same command without --fresh goes on" in stderr, stderr


@fault("Ray: a node is killed in the middle", "its runs go elsewhere; the results are the same")
def test_the_sweep_ends_complete_and_correct_when_a_node_is_killed(cluster, alone, tmp_path):
    driver = start(tmp_path, 24, 0.2, cluster.address, cluster)
    wait_for_records(tmp_path, 6, driver)
    kill(cluster.nodes[1])  # the last test that needs it
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 0, stderr
    assert {name: record["result"] for name, record in records(tmp_path).items()} == alone


@fault("Ray: nobody answers at the address", "a sentence, status 1, nothing run")
@pytest.mark.parametrize("address", ["127.0.0.1:9", "no.such.host.invalid:6379", "nonsense", "..:80", f"{'x' * 70}:1"])
def test_a_wrong_address_is_one_sentence(tmp_path, address):
    driver = start(tmp_path, 1, 0, address)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 1 and f"--ray {address}: n" in stderr and "nothing was run" in stderr, stderr
    assert "Traceback" not in stderr and not paths(tmp_path)


@fault("Ray: --device cuda on a cluster without a GPU", "a sentence, status 1, nothing run")
def test_a_cluster_without_gpus_is_told_from_one_with_them(cluster, tmp_path):
    driver = start(tmp_path, 4, 0, cluster.address, cluster, flags=["--device", "cuda"])
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 1 and "--device cuda needs a GPU" in stderr and not paths(tmp_path), stderr
    assert "Traceback" not in stderr


@fault("Ray: someone without the token", "a sentence, status 1, nothing run")
def test_without_the_token_nobody_joins(cluster, tmp_path):
    driver = start(tmp_path, 1, 0, cluster.address)
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 1 and "no Ray cluster could be joined" in stderr and not paths(tmp_path), stderr
    assert "Traceback" not in stderr


def test_a_cluster_of_this_machine_listens_on_loopback_alone(alone, tmp_path):
    driver = start(tmp_path, 24, 0.2, "local", RAY_ADDRESS="127.0.0.1:9")  # somebody else's cluster, not meant here
    wait_for_records(tmp_path, 1, driver)
    family = descendants(driver.pid)
    addresses = listening(family)
    assert len(family) > 3 and addresses and all(address == "127.0.0.1" for address in addresses), addresses
    driver.kill()  # even so, nothing of the cluster goes on computing
    driver.communicate(timeout=60)
    end = time.monotonic() + 30
    # Ray's agents end when the system has buried the killed raylet, which the init of many containers never does.
    agents = {pid for pid in family if name_of(pid) in ("ray::DashboardA", "ray::RuntimeEnv")}
    while left := {pid: name_of(pid) for pid in family - agents if alive(pid)}:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    for pid in filter(alive, agents):
        os.kill(pid, signal.SIGKILL)
    for name, record in records(tmp_path).items():
        assert record["result"] == alone[name]


def descendants(pid):
    """Return the processes that a process started, directly or not."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family, old = {pid}, set()
    while family != old:
        old, family = family, family | {child for child, parent in parents.items() if parent in family}
    return family


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening(pids):
    """Return the addresses at which any of the processes waits for TCP connections."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(path))
            except OSError:
                continue
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:  # 0A: listening
                addresses.append(".".join(str(byte) for byte in bytes.fromhex(fields[1].split(":")[0])[-4:][::-1]))
    return addresses


def test_without_ray_a_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.parse_args("doc", ["--ray"])
    assert stopped.value.code == 2 and "pip install -r requirements-ray.txt" in capsys.readouterr().err
