"""What is promised when things go wrong: a clear sentence, a failing status, and nothing lost or falsified.

The status is not 0 where the work is not done. Kills are in test_interruptions, damaged data in test_data, a lost node
in test_ray, a raising run in test_runs.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest
from faults import BEGIN, END, PAGE, fault, with_table
from sweeping import complete, everything, finish, paths, readable, results, start, wait_for_records

from utils.cli import ROOT, Options
from utils.records import read_summary
from utils.runs import run_all


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
    assert status == 1 and "could not be written (File too large)" in said and readable(said), said
    assert results(tmp_path) == before and not list(tmp_path.rglob(".*"))


@fault("the disk is full when a figure is drawn", "a sentence, status 1; the old figure stays")
def test_a_full_disk_while_drawing(tmp_path):
    complete(tmp_path, runs=2, size=1000, draw=True)
    before = everything(tmp_path)
    status, said = finish(start(tmp_path, "--replot", runs=2, size=1000, draw=True, limit=5000))
    assert status == 1 and "sweep.png could not be written (File too large)" in said and readable(said), said
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
    assert status == 1 and "cannot be written (Permission denied); nothing was run" in said and readable(said), said
    assert everything(tmp_path) == before


@fault("the results folder is deleted while the sweep runs", "it says how many records vanished, status 1")
def test_a_folder_deleted_in_the_middle(tmp_path):
    process = start(tmp_path, runs=20, pause=0.05)
    wait_for_records(tmp_path, process)
    shutil.rmtree(tmp_path / "results")
    status, said = finish(process)
    assert status == 1 and "vanished" in said and readable(said), said
    assert len(complete(tmp_path, runs=20, pause=0.05)) == 20


@fault("the clock is set back, or forward, between two starts", "what is recorded counts, whatever its date")
def test_a_clock_that_is_set_back(tmp_path, monkeypatch):
    before = complete(tmp_path, runs=3)
    for path, year in zip(paths(tmp_path), (1971, 2100, 2038), strict=True):
        os.utime(path, ((year - 1970) * 31_556_952,) * 2)
    status, said = finish(start(tmp_path, runs=4))
    assert status == 0 and "runs to do: 1," in said and before.items() <= results(tmp_path).items()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400 * time.perf_counter())  # a day back every second

    def run(config):
        time.sleep(0.01)
        return {"slept": 0.01, "precision": "float64", "device": "cpu"}

    frame = run_all("stem", run, [{"seed": 0}], Options(output=tmp_path))
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
@pytest.mark.parametrize(
    ("content", "named"),
    [(None, "is missing"), ("", ""), ("{", ""), ('{"lr_min": NaN}', "NaN"), ("{}", "lacks lr_min"), ("[1]", "")],
)
def test_a_damaged_summary(tmp_path, content, named):
    (tmp_path / "results").mkdir()
    if content is not None:
        (tmp_path / "results" / "p4_2.json").write_text(content)
    with pytest.raises(SystemExit, match=rf"p4_2\.json .*{named}.*run the script p4_2\.py"):
        read_summary("p4_2", Options(output=tmp_path), ("lr_min",))


def test_the_page_on_reliability_holds_the_table_of_these_tests():
    page = PAGE.read_text(encoding="utf-8")
    assert BEGIN in page and END in page
    assert with_table(page) == page, "python tests/machinery/faults.py writes it"
