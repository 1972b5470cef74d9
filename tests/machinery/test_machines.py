"""The machines that people have: quotas, schedulers, folders of others, settings from elsewhere."""

import json
import os
import shutil
import sys
import threading

import numpy as np
import pytest
from joblib.externals import loky
from small_sweep import configs
from small_sweep import run as run_of_sweep
from sweeping import complete, finish, paths, readable, results, run, start

from utils.cli import ROOT, Options, parse_args
from utils.machine import cores
from utils.records import read_runs
from utils.runs import sweep

WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


@pytest.fixture
def prefix():
    """Return the words before a command that may not read what its mode forbids."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root cannot be kept from reading here: setpriv is missing")
    return WITHOUT_ROOTS_RIGHTS


def test_a_containers_quota_and_slurms_share_are_known(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr("joblib.externals.loky.cpu_count", lambda: 7)  # which reads cpu.max and cpu.cfs_quota_us
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "")
    assert cores() == 7
    for asked, allowed in (("3", 3), ("64", 7), ("", 7), ("all", 7), ("0", 7), ("4(x2)", 4), (" 1", 1), ("²", 7)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
        assert cores() == allowed


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "GOMP_CPU_AFFINITY"])
def test_threads_that_are_bound_from_outside_leave_the_cores_as_they_are(name):
    code = "import utils, os; before = os.sched_getaffinity(0); import torch; torch.ones(9).sum(); "
    code += "print(before == os.sched_getaffinity(0))"
    value = {"OMP_PROC_BIND": "true", "GOMP_CPU_AFFINITY": "0"}[name]
    assert run(sys.executable, "-c", code, cwd=ROOT, **{name: value}).stdout == "True\n"


PRODUCT = """
import utils, torch
torch.manual_seed(0)
x = torch.randn(512, 512)
print(float((x @ x).double().sum()), torch.backends.cuda.matmul.allow_tf32)
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
        ("NVIDIA_TF32_OVERRIDE", "1"),
    ],
)
def test_single_precision_is_single_precision_whatever_the_environment_says(name, value):
    plain, told = (run(sys.executable, "-c", PRODUCT, cwd=ROOT, **extra).stdout for extra in ({}, {name: value}))
    assert plain == told and plain.endswith("False\n")


def test_without_shared_memory_one_process_does_the_runs(tmp_path):
    """As where /dev/shm is read-only."""
    prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or run(*prefix, "true").returncode:
        pytest.skip("/dev/shm cannot be made read-only here")
    status, said = finish(start(tmp_path, prefix=prefix, runs=3, size=10, workers=2))
    assert status == 0 and "one process does all runs" in said and readable(said), said
    assert len(results(tmp_path)) == 3


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_where_no_pool_can_be_made_one_process_does_the_runs(error, tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise error

    monkeypatch.setattr(loky, "ProcessPoolExecutor", refused)
    frame = sweep("stem", run_of_sweep, configs(2, 0.0, 10), Options(output=tmp_path), workers=2)
    assert len(frame) == 2 and f"({error.strerror}): one process" in capsys.readouterr().err


def test_somebody_elses_records_are_named_and_not_run_again(tmp_path, prefix):
    complete(tmp_path, runs=2, size=10)
    paths(tmp_path)[1].chmod(0)
    status, said = finish(start(tmp_path, prefix=prefix, runs=3, size=10))
    assert status == 1 and "run1.json cannot be read (Permission denied); nothing was run" in said, said
    assert readable(said) and len(paths(tmp_path)) == 2


def test_somebody_elses_summary_is_named(tmp_path, prefix):
    code = "from utils.cli import Options; from utils.records import read_summary; from pathlib import Path\n"
    code += f"read_summary('p4_2', Options(output=Path({str(tmp_path)!r})), 'mnist')"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "p4_2.json").write_text("{}")
    (tmp_path / "results" / "p4_2.json").chmod(0)
    done = run(*prefix, sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 1 and "p4_2.json cannot be read (Permission denied)" in done.stderr
    assert readable(done.stderr)


def test_somebody_elses_folder_of_records_is_named(tmp_path, prefix):
    folder = tmp_path / "results" / "p4_3"
    folder.mkdir(parents=True)
    folder.chmod(0)
    code = "from utils.cli import Options; from utils.records import read_runs; from pathlib import Path\n"
    code += f"read_runs('p4_3', Options(output=Path({str(tmp_path)!r})), arm='cyclical')"
    done = run(*prefix, sys.executable, "-c", code, cwd=ROOT)
    folder.chmod(0o700)
    assert done.returncode == 1 and "cannot be read (Permission denied)" in done.stderr and readable(done.stderr)
    with pytest.raises(SystemExit, match="has no record"):
        read_runs("p4_3", Options(output=tmp_path), arm="cyclical")


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_a_data_folder_that_one_may_not_look_into_is_no_missing_one(tmp_path, prefix, preset):
    folder = tmp_path / "FashionMNIST"
    folder.mkdir(mode=0o700)
    folder.chmod(0)
    words = [ROOT / "coms6998_hw2" / "p4_1_fashion_mnist.py", "--preset", preset]
    words += ["--data-dir", tmp_path, "--output", tmp_path / "out"]
    done = run(*prefix, sys.executable, *words)
    folder.chmod(0o700)
    assert done.returncode == 1 and "Permission denied" in done.stderr and readable(done.stderr), done.stderr
    assert "digits" not in done.stderr and not (tmp_path / "out").exists()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = parse_args("", ["--output=~/out", "--data-dir=~/data"])
    assert (options.output, options.data_dir) == (tmp_path / "out", tmp_path / "data")
    with pytest.raises(SystemExit) as stopped:
        parse_args("", ["--output=~nobody-of-this-name/out"])
    assert stopped.value.code == 2


def test_a_new_script_counts_as_a_change_and_a_files_mode_does_not(tmp_path):
    for folder in ("utils",):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "all")):
        assert run("git", *words, cwd=tmp_path).returncode == 0
    run("git", "config", "status.showUntrackedFiles", "no", cwd=tmp_path)
    code = "from utils.provenance import environment; print(environment()['commit'])"

    def commit():
        return run(sys.executable, "-B", "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path)).stdout.strip()

    clean = commit()
    assert len(clean) == 40
    (tmp_path / "utils" / "cli.py").chmod(0o755)
    assert commit() == clean
    (tmp_path / "new.py").write_text("")
    assert commit() == f"{clean}-modified"
    (tmp_path / ".git" / "info" / "exclude").write_text("new.py\n")
    assert commit() == f"{clean}-modified"


def test_a_sweep_runs_in_another_thread_too(tmp_path):
    frames = []

    def work():
        frames.append(sweep("stem", run_of_sweep, configs(2, 0.0, 10), Options(output=tmp_path), workers=1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(frames[0]) == 2


def test_a_notebooks_kernel_survives_an_interruption_of_its_sweep(tmp_path):
    """Ctrl-C ends the sweep, with several workers too, and not the process that called it."""
    code = f"""
import os, signal, threading, time, small_sweep
from pathlib import Path
from utils.cli import Options
from utils.runs import sweep

options = Options(output=Path({str(tmp_path)!r}))

def interrupt():
    while not list(options.results_dir.rglob("run*.json")):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    sweep("stem", small_sweep.run, small_sweep.configs(4000, 0.05, 10), options, workers=2)
except SystemExit as stopped:
    print("stopped", stopped.code)
print("alive")
"""
    done = run(sys.executable, "-c", code, cwd=ROOT, PYTHONPATH=str(ROOT / "tests" / "machinery"))
    assert done.stdout.splitlines()[-2:] == ["stopped 130", "alive"], done.stdout + done.stderr
    assert "goes on" in done.stderr


def test_the_config_of_a_failed_run_is_listed_also_with_numpys_numbers(options):
    def fail(config, options):
        raise ZeroDivisionError

    with pytest.raises(SystemExit) as stopped:
        sweep("stem", fail, [{"seed": np.int64(3), "flag": np.bool_(True)}], options, workers=1)
    assert json.dumps({"seed": 3, "flag": True}) in stopped.value.code


# Stand-ins for Python: what "-m venv", "-m pip --target" do there.
NO_VENV = """#!/bin/sh
case "$*" in
  *"-m venv"*) mkdir -p build/uv/bin; echo "ensurepip is not available"; exit 1;;
  *--target*) [ -e build/uv ] || { mkdir -p build/uv/bin; cp "$0" build/uv/bin/uv; };;
esac
"""
NOTHING = "#!/bin/sh\necho $*: no such module; exit 1\n"


@pytest.fixture
def checkout(tmp_path):
    """Return a folder with the Makefile and the locks only."""
    for name in ("Makefile", "requirements.lock", "requirements-ray.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(checkout, *words, python=None):
    if python:
        (checkout / "python").write_text(python)
        (checkout / "python").chmod(0o755)
        words = (*words, "PYTHON=./python")
    return run("make", *words, "UV=build/uv/bin/uv", cwd=checkout)


def test_where_python_makes_no_environments_uv_comes_by_pip_alone(checkout):
    done = make(checkout, "build/uv/bin/uv", python=NO_VENV)
    assert done.returncode == 0 and os.access(checkout / "build" / "uv" / "bin" / "uv", os.X_OK), done.stderr


def test_where_uv_cannot_be_had_the_reasons_are_shown(checkout):
    done = make(checkout, "build/uv/bin/uv", python=NOTHING)
    assert done.returncode != 0 and "no such module" in done.stdout and "uv could not be installed" in done.stdout


def test_the_environment_is_made_once_whatever_the_dates_and_anew_where_its_python_has_vanished(checkout):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    link = checkout / ".venv" / "bin" / "python"
    link.symlink_to(sys.executable)
    mark = next(word for word in make(checkout, "-n", "lint").stdout.split() if word.startswith(".venv/installed-"))
    (checkout / mark).write_text("")
    os.utime(checkout / "requirements.lock", (2_000_000_000, 2_000_000_000))  # in 2033
    assert "installing" not in make(checkout, "-n", "lint").stdout
    link.unlink()
    link.symlink_to("/nowhere/python")
    assert "installing" in make(checkout, "-n", "lint").stdout and (checkout / mark).exists()  # -n removes nothing
    link.unlink()
    link.symlink_to(sys.executable)
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("new==1.0\n")
    assert "installing" in make(checkout, "-n", "lint").stdout
