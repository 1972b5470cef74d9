"""What is promised when things go wrong: a clear sentence, a failing status, and nothing lost or falsified.

The status is not 0 where the work is not done. Kills are in test_interruptions, damaged data in test_data, a lost node
in test_ray, a raising run in test_runs.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from sweeping import complete, everything, finish, readable, results, start, wait_for_records

from utils.cli import ROOT, Options
from utils.records import read_summary


def test_two_processes_on_one_folder(tmp_path):
    processes = [start(tmp_path / "shared", runs=30, pause=0.005, draw=True) for _ in range(2)]
    assert [finish(process)[0] for process in processes] == [0, 0]
    complete(tmp_path / "alone", runs=30, pause=0.005, draw=True)
    assert everything(tmp_path / "shared") == everything(tmp_path / "alone")


def test_a_full_disk_while_recording(tmp_path):
    before = complete(tmp_path, runs=2, size=100)
    status, said = finish(start(tmp_path, runs=4, size=20_000, limit=100_000))
    assert status == 1 and "could not be written (File too large)" in said and readable(said), said
    assert results(tmp_path) == before and not list(tmp_path.rglob(".*"))


def test_a_full_disk_while_drawing(tmp_path):
    complete(tmp_path, runs=2, size=1000, draw=True)
    before = everything(tmp_path)
    status, said = finish(start(tmp_path, "--replot", runs=2, size=1000, draw=True, limit=5000))
    assert status == 1 and "sweep.png could not be written (File too large)" in said and readable(said), said
    assert everything(tmp_path) == before


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


def test_a_folder_deleted_in_the_middle(tmp_path):
    process = start(tmp_path, runs=20, pause=0.05)
    wait_for_records(tmp_path, process)
    shutil.rmtree(tmp_path / "results")
    status, said = finish(process)
    assert status == 1 and "vanished" in said and readable(said), said
    assert len(complete(tmp_path, runs=20, pause=0.05)) == 20


def test_a_path_with_spaces_in_the_c_locale(tmp_path):
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for number, environment in enumerate(({}, plain)):
        output = tmp_path / f"größe und maß {number} 数据"
        status, said = finish(start(output, draw=True, runs=2, environment=environment))
        assert status == 0, said
        assert (output / "figures" / "sweep.png").exists() and len(results(output)) == 2


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


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "is missing"),
        ("", ""),
        ("{", ""),
        ('{"lr_min": NaN}', "NaN"),
        ('{"preset": "full", "dataset": "mnist"}', "lacks lr_min"),
        ('{"preset": "quick", "dataset": "mnist"}', "of the preset quick, and this run's is full"),
        ('{"preset": "full", "dataset": "digits"}', "of the dataset digits, and this run's is mnist"),
        ("[1]", ""),
    ],
)
def test_a_damaged_summary(tmp_path, content, named):
    (tmp_path / "results").mkdir()
    if content is not None:
        (tmp_path / "results" / "p4_2.json").write_text(content)
    with pytest.raises(SystemExit, match=rf"p4_2\.json .*{named}.*run the script p4_2\.py"):
        read_summary("p4_2", Options(output=tmp_path), "mnist", ("lr_min",))


def test_every_test_that_the_page_on_reliability_names_is_there():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / "machinery" / file).read_text(encoding="utf-8"), test
