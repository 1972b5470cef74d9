"""What surrounds the project: other checkouts, other repositories, and what is installed."""

import re
import shutil
import sys

import pytest
from sweeping import run

from utils.cli import ROOT


@pytest.fixture
def checkout(tmp_path):
    """Return another checkout, with its own code and without an environment of its own."""
    for folder in ("coms6998_hw2", "ist597_norms", "utils"):
        shutil.copytree(ROOT / folder, tmp_path / "other" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "other"


def test_a_script_uses_the_modules_of_its_own_checkout(checkout, tmp_path):
    utils = tmp_path / "elsewhere" / "utils.py"
    utils.parent.mkdir()
    utils.write_text("raise ImportError('another utils')")
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "build" / "quick").rglob("*")}
    words = [checkout / "coms6998_hw2" / "p1_perceptron.py", "--preset", "quick"]
    done = run(sys.executable, *words, cwd=tmp_path, PYTHONPATH=str(utils.parent))
    assert done.returncode == 0, done.stderr
    assert (checkout / "build" / "quick" / "results" / "p1_perceptron.json").exists()
    assert before == {path: path.stat().st_mtime_ns for path in (ROOT / "build" / "quick").rglob("*")}


def test_the_files_to_hand_in_need_nothing_but_their_folder(tmp_path):
    shutil.copytree(ROOT / "ist597_norms", tmp_path / "ist597_norms", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from ist597_norms.cnn import CNN; import sys; print(CNN.__name__, 'utils' in sys.modules)"
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH="")
    assert done.stdout.split() == ["CNN", "False"], done.stderr


def committed_as(folder, **environment):
    code = "from utils.provenance import environment; print(environment()['commit'])"
    return run(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(folder), **environment).stdout.strip()


def test_another_repositorys_commit_is_not_ours(checkout):
    outer = checkout.parent
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "theirs")):
        assert run("git", *words, cwd=outer).returncode == 0
    theirs = run("git", "rev-parse", "HEAD", cwd=outer).stdout.strip()
    assert len(theirs) == 40 and committed_as(checkout) == "unknown"
    assert committed_as(checkout, GIT_DIR=str(outer / ".git")) == "unknown"
    shutil.move(outer / ".git", checkout / ".git")
    assert committed_as(checkout) == "unknown"  # unpacked at its root, and not tracked
    assert run("git", "add", "utils", cwd=checkout).returncode == 0
    assert committed_as(checkout) == f"{theirs}-modified"


@pytest.mark.parametrize("name", ["requirements", "requirements-ray"])
def test_the_lock_holds_what_the_list_asks_for_with_hashes_and_names_no_index(name):
    asked = {}
    for line in (ROOT / f"{name}.txt").read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9-]+)==(\S+)", line):
            asked[match.group(1)] = match.group(2)
    lock = (ROOT / f"{name}.lock").read_text()
    entries = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)(.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+)", lock, re.MULTILINE)
    locked = {package: version for package, version, _ in entries}
    assert asked and asked.items() <= locked.items(), "make lock, and commit it"
    assert len(entries) == len(re.findall("^[a-z]", lock, re.MULTILINE))  # each has a hash
    assert "://" not in lock and "--index" not in lock and "-e " not in lock


def test_the_lock_of_ray_is_the_other_and_more():
    plain, ray = (
        set((ROOT / f"{name}.lock").read_text().splitlines()) for name in ("requirements", "requirements-ray")
    )
    assert {line for line in plain if "==" in line} <= ray and any(line.startswith("ray==") for line in ray)
