"""What is promised when things go wrong: a clear sentence, a failing status, and nothing lost or falsified.

The status is not 0 where the work is not done. Damaged data is in test_data, a lost node in test_ray, a raising run in
test_runs.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from faults import BEGIN, END, PAGE, fault, with_table
from matplotlib import image

from utils.cli import ROOT, Options
from utils.records import read_record, read_summary
from utils.runs import run_all

SWEEP = Path(__file__).with_name("sweep.py")
RESUME = "the same command without --fresh goes on"


def start(output, *flags, draw=False, prefix=(), environment=(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
          limit=None, **settings):  # fmt: skip
    """Start sweep.py; settings: runs, size, pause, workers, fault; limit: the largest file it may write."""
    settings = {f"SWEEP_{key.upper()}": str(value) for key, value in settings.items()}
    settings |= {"SWEEP_DRAW": "1"} if draw else {}
    words = [*prefix, sys.executable, SWEEP, "--output", output, *flags]
    small_disk = limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    return subprocess.Popen(
        [str(word) for word in words], env={**os.environ, **settings, **dict(environment)}, stdout=stdout,
        stderr=stderr, text=True, preexec_fn=small_disk,
    )  # fmt: skip


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
    found = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    return {path: content for path, content in found.items() if path.parent.name != "sweep"} | results(output)


def wait_for_record(output, process):
    while not paths(output):
        time.sleep(0.02)
        assert process.poll() is None, finish(process)


def one_sentence(said):
    """Return whether a message is for people: no traceback."""
    return said.strip() and "Traceback" not in said


@fault("kill -9 at 20 random instants of a sweep", "every record is whole; the next start does what is missing")
def test_kill_9_at_random_instants_of_a_sweep(tmp_path):
    started = time.monotonic()
    whole = complete(tmp_path / "whole", pause=0.005)
    duration = time.monotonic() - started
    instants = random.Random(0)
    for _ in range(20):
        process = start(tmp_path / "killed", pause=0.005)
        time.sleep(instants.uniform(0.6, 1.1) * duration)
        process.kill()
        process.communicate()
        for path in paths(tmp_path / "killed"):
            assert read_record(path, json.loads(path.read_text())["config"]) is not None
            if instants.random() < 0.3:
                path.unlink()  # so that there is always something left to kill
    assert complete(tmp_path / "killed", pause=0.005) == whole
    assert not list((tmp_path / "killed").rglob(".*"))  # no temporary file is left


@fault("kill -9 while the summary and the figure are written", "each is the old one or the new one, whole")
def test_kill_9_while_a_figure_is_drawn(tmp_path):
    started = time.monotonic()
    complete(tmp_path, draw=True, runs=2, size=1000)
    duration = time.monotonic() - started
    whole, instants = everything(tmp_path), random.Random(1)
    for _ in range(10):
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


@fault("kill -9 while the PDFs are built", "each PDF is the old one or the new one, whole")
def test_kill_9_while_a_report_is_built(tmp_path):
    shutil.copytree(ROOT / "report", tmp_path / "report")
    shutil.copytree(ROOT / "figures", tmp_path / "report" / "figures")
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1] + '/report'); import build\n"
        "from utils.cli import Options\n"
        "root = pathlib.Path(sys.argv[1]); print('ready', flush=True)\n"
        "build.compile_report(root / 'report' / 'ist597.typ', Options(output=root / 'report'), root)"
    )
    pdf = tmp_path / "report" / "ist597.pdf"
    whole, instants = pdf.read_bytes(), random.Random(2)
    for attempt in range(6):
        if attempt % 2:
            pdf.unlink(missing_ok=True)
        words = [sys.executable, "-c", code, tmp_path]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(instants.uniform(0, 2))
        process.kill()
        process.communicate()
        assert not pdf.exists() or pdf.read_bytes() == whole


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@fault("Ctrl-C or SIGTERM during the runs, in one process or several", "status 130 or 143; a sentence how to resume")
def test_an_interrupted_sweep_says_how_to_resume(tmp_path, workers, number, status):
    process = start(tmp_path, runs=1000, pause=0.05, workers=workers)
    wait_for_record(tmp_path, process)
    process.send_signal(number)
    returned, said = finish(process)
    assert returned == status and RESUME in said, said
    assert workers > 1 or one_sentence(said)  # a worker that is stopped while it starts may leave a traceback
    assert "leaked" not in said


@fault("the sweep is killed while its workers compute", "the workers end too")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    process = start(tmp_path, runs=1000, pause=0.05, workers=2)
    wait_for_record(tmp_path, process)
    process.kill()
    process.communicate(timeout=20)  # returns only when every child has closed the shared pipes


@fault(
    "a worker is killed, for want of memory perhaps", "the run that kills it is named, status 1; the others are done"
)
def test_a_killed_worker_is_reported_and_the_others_go_on(tmp_path):
    status, said = finish(start(tmp_path, runs=6, size=100, workers=2, fault="kill"))
    assert status == 1 and "1 of 6 runs failed" in said and '"seed": 0' in said and "worker was killed" in said, said
    assert one_sentence(said) and '"seed": 1' not in said
    assert sorted(results(tmp_path)) == [f"run{seed}.json" for seed in range(1, 6)]


@fault("two people start the same sweep", "both end well, with the same records as one alone")
def test_two_processes_on_one_folder(tmp_path):
    processes = [start(tmp_path / "shared", runs=30, pause=0.005, draw=True) for _ in range(2)]
    assert [finish(process)[0] for process in processes] == [0, 0]
    complete(tmp_path / "alone", runs=30, pause=0.005, draw=True)
    assert everything(tmp_path / "shared") == everything(tmp_path / "alone")


@fault("the disk is full when a record is written", "a sentence, status 1; earlier records stay, no half file")
def test_a_full_disk_while_recording(tmp_path):
    before = complete(tmp_path, runs=2, size=100)
    status, said = finish(start(tmp_path, runs=4, size=20_000, limit=100_000))
    assert status == 1 and "could not be written (File too large)" in said and one_sentence(said), said
    assert results(tmp_path) == before and not list(tmp_path.rglob(".*"))


@fault("the disk is full when a figure is drawn", "a sentence, status 1; the old figure stays")
def test_a_full_disk_while_drawing(tmp_path):
    complete(tmp_path, runs=2, size=1000, draw=True)
    before = everything(tmp_path)
    status, said = finish(start(tmp_path, "--replot", runs=2, size=1000, draw=True, limit=5000))
    assert status == 1 and "sweep.png could not be written (File too large)" in said and one_sentence(said), said
    assert everything(tmp_path) == before


@fault("the results folder is read-only", "a sentence before anything is run, status 1")
def test_a_read_only_folder(tmp_path):
    complete(tmp_path, runs=1)
    before = everything(tmp_path)
    (tmp_path / "results" / "sweep").chmod(0o500)
    prefix = []
    if os.geteuid() == 0:  # root may write everywhere, unless it gives that up
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if not shutil.which("setpriv"):
            pytest.skip("root cannot be kept from writing here: setpriv is missing")
    status, said = finish(start(tmp_path, prefix=prefix, runs=3))
    assert status == 1 and "cannot be written (Permission denied); nothing was run" in said and one_sentence(said), said
    assert everything(tmp_path) == before


@fault("the results folder is deleted while the sweep runs", "it says how many records vanished, status 1")
def test_a_folder_deleted_in_the_middle(tmp_path):
    process = start(tmp_path, runs=20, pause=0.05)
    wait_for_record(tmp_path, process)
    shutil.rmtree(tmp_path / "results")
    status, said = finish(process)
    assert status == 1 and "vanished" in said and one_sentence(said), said
    assert len(complete(tmp_path, runs=20, pause=0.05)) == 20


@fault("the clock is set back, or forward, between two starts", "what is recorded counts, whatever its date")
def test_a_clock_that_is_set_back(tmp_path, monkeypatch):
    before = complete(tmp_path, runs=3)
    for path, year in zip(paths(tmp_path), (1971, 2100, 2038), strict=True):
        os.utime(path, ((year - 1970) * 31_556_952,) * 2)
    status, said = finish(start(tmp_path, runs=4))
    assert status == 0 and "1 runs to do" in said and before.items() <= results(tmp_path).items()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400 * time.perf_counter())  # a day back every second
    frame = run_all("stem", lambda config: {"slept": time.sleep(0.01)}, [{"seed": 0}], Options(output=tmp_path))
    assert frame.seconds.iloc[0] >= 0.01


@fault("a folder with spaces and letters of other alphabets, in a locale that has none", "as anywhere")
def test_a_path_with_spaces_in_the_c_locale(tmp_path):
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for number, environment in enumerate(({}, plain)):
        output = tmp_path / f"größe und maß {number} 数据"
        status, said = finish(start(output, draw=True, runs=2, environment=environment))
        assert status == 0, said
        assert (output / "figures" / "sweep.png").exists() and len(results(output)) == 2


@fault("HOME is not set, no cache can be written", "as anywhere")
@pytest.mark.parametrize("home", [None, "/proc/nowhere"])
def test_without_a_home_and_caches(tmp_path, home):
    folders = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in folders}
    environment |= dict.fromkeys(folders, home) if home else {}
    script = ROOT / "coms6998_hw2" / "p4_1_fashion_mnist.py"
    words = [sys.executable, script, "--preset", "quick", "--output", tmp_path]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "p4_1_fashion_mnist.png").exists()


@fault("stdout and stderr are closed, their reader leaves, or their disk is full", "the work is done, status 0")
@pytest.mark.parametrize("where", [">&-", ">&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_without_anyone_listening(tmp_path, where):
    process = start(tmp_path, prefix=["sh", "-c", f'exec "$@" {where}', "sh"], draw=True, runs=2)
    assert finish(process)[0] == 0
    assert len(results(tmp_path)) == 2 and (tmp_path / "figures" / "sweep.svg").exists()


@fault("`script 2>&1 | head -1`: both are pipes that nobody reads", "every run that can be done is recorded")
def test_when_the_reader_of_everything_leaves(tmp_path):
    reader, pipe = os.pipe()
    process = start(tmp_path, stdout=pipe, stderr=pipe, runs=14, pause=1, size=10, fault="raise")
    os.close(reader)
    os.close(pipe)
    assert process.wait(60) == 1
    assert len(results(tmp_path)) == 13  # of 14; the one that raises is the first


@fault("another script's summary is missing, empty or no JSON", "a sentence names the script to run, status 1")
@pytest.mark.parametrize("content", [None, "", "{", '{"lr_min": NaN}'])
def test_a_damaged_summary(tmp_path, content):
    (tmp_path / "results").mkdir()
    if content is not None:
        (tmp_path / "results" / "p4_2.json").write_text(content)
    with pytest.raises(SystemExit, match=r"p4_2\.json .*run the script p4_2\.py"):
        read_summary("p4_2", Options(output=tmp_path))


@fault("Ctrl-C while a figure is drawn or a summary written", "status 130; a sentence, and the records are kept")
def test_an_interruption_between_the_runs_is_one_sentence(tmp_path):
    code = (
        "import os, signal, sys, sweep; from utils import plotting\n"
        "save = plotting.save\n"
        "def interrupted(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGINT); return save(*arguments)\n"
        f"plotting.save = interrupted; sys.argv[1:] = ['--output', {str(tmp_path)!r}]; sweep.main()"
    )
    environment = {**os.environ, "SWEEP_DRAW": "1", "SWEEP_RUNS": "2", "PYTHONPATH": str(SWEEP.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert "the same command without --fresh goes on" in done.stderr and len(results(tmp_path)) == 2


def test_an_interruption_during_the_imports_is_one_sentence(tmp_path):
    script = ROOT / "coms6998_hw2" / "p1_perceptron.py"
    words = [sys.executable, "-X", "importtime", script, "--replot"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in process.stderr:
        if line.split("|")[-1].strip() == "utils":  # imported, and the libraries are not yet
            break
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    assert process.wait(60) == 130 and "Traceback" not in said and "goes on" in said


def test_the_page_on_reliability_holds_the_table_of_these_tests():
    page = PAGE.read_text(encoding="utf-8")
    assert BEGIN in page and END in page
    assert with_table(page) == page, "python tests/machinery/faults.py writes it"
