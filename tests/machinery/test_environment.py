"""What surrounds the project: other checkouts, other repositories, data behind links."""

import json
import os
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
    done = run(sys.executable, "-m", "ist597_norms.norms", cwd=utils.parent, PYTHONPATH=f"{utils.parent}:{checkout}")
    assert done.returncode == 0, done.stderr  # as a module, too, from where the other one lies
    words = [checkout / "coms6998_hw2" / "p1_perceptron.py", "--preset", "quick"]
    done = run(sys.executable, *words, cwd=tmp_path, PYTHONPATH=str(utils.parent))
    assert done.returncode == 0, done.stderr
    assert (checkout / "build" / "quick" / "results" / "p1_perceptron.json").exists()
    assert before == {path: path.stat().st_mtime_ns for path in (ROOT / "build" / "quick").rglob("*")}


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


ARCHIVES = [
    f"{name}/raw/{part}-{kind}-ubyte.gz"
    for name in ("MNIST", "FashionMNIST")
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


# Which parts of the source are links: the folder itself, the folders in it, or the files.
LINKED = {"plain": [], "folder": [""], "sets": ["MNIST", "FashionMNIST"], "files": ARCHIVES, "relative": ARCHIVES}


@pytest.fixture
def source(tmp_path):
    """Return a folder of archives, read-only, as another project's."""
    for archive in ARCHIVES:
        path = tmp_path / "source" / archive
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(archive)
        path.chmod(0o444)
    return tmp_path / "source"


def make_data(tmp_path, source):
    folder = tmp_path / "project"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "Makefile", folder)
    return folder / "data", run("make", "data", f"DATA_SOURCE={source}", cwd=folder)


def is_copied(data, archives=ARCHIVES):
    paths = [data / archive for archive in archives]
    return all(path.is_file() and not path.is_symlink() and path.parent in path.resolve().parents for path in paths)


@pytest.mark.parametrize("kind", LINKED)
def test_data_is_copied_as_regular_files_and_its_source_left_alone(kind, source, tmp_path):
    links = tmp_path / "links" if LINKED[kind] else source
    for part in LINKED[kind]:
        link = links / part
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(source / part, link.parent) if kind == "relative" else source / part)
    modes = {path: path.stat().st_mode for path in source.rglob("*")}
    data, done = make_data(tmp_path, os.path.relpath(links, tmp_path / "project") if kind == "relative" else links)
    assert done.returncode == 0 and is_copied(data), done.stderr
    assert all((data / archive).read_text() == archive for archive in ARCHIVES)
    assert all(os.access(data / archive, os.W_OK) for archive in ARCHIVES)
    assert modes == {path: path.stat().st_mode for path in source.rglob("*")}


def test_what_is_missing_is_copied_and_what_is_there_is_kept(source, tmp_path):
    """Also where the folder is there but empty; what the source lacks, or a link that leads nowhere, is named."""
    (tmp_path / "project" / "data" / "MNIST" / "raw").mkdir(parents=True)
    kept = tmp_path / "project" / "data" / ARCHIVES[4]
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    (source / ARCHIVES[5]).unlink()
    (source / ARCHIVES[5]).symlink_to("../../annex/objects/x")
    (source / ARCHIVES[6]).unlink()
    data, done = make_data(tmp_path, source)
    assert done.returncode == 0 and "leads to no file" in done.stdout and "is not there" in done.stdout
    assert kept.read_text() == "mine" and not os.path.lexists(data / ARCHIVES[5])
    assert is_copied(data, [*ARCHIVES[:5], ARCHIVES[7]])


def test_a_link_to_a_folder_that_lacks_some_is_replaced_and_the_folder_left_alone(source, tmp_path):
    others = tmp_path / "others"
    (others / "MNIST" / "raw").mkdir(parents=True)
    (others / ARCHIVES[0]).write_text("theirs")
    (others / ARCHIVES[1]).symlink_to("../../annex/objects/x")
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "project" / "data" / "MNIST").symlink_to(others / "MNIST")
    (tmp_path / "project" / "data" / "FashionMNIST").symlink_to(tmp_path / "nowhere")
    data, done = make_data(tmp_path, source)
    assert done.returncode == 0 and is_copied(data), done.stderr
    assert (others / ARCHIVES[0]).read_text() == "theirs" and (others / ARCHIVES[1]).is_symlink()
    assert len(list((others / "MNIST" / "raw").iterdir())) == 2


def test_without_a_main_guard_several_workers_are_one_sentence(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from utils.cli import Options; from utils.runs import run_all\n"
        "def run(config): return {'value': 1, 'precision': 'float64', 'device': 'cpu'}\n"
        "run_all('stem', run, [{'seed': seed} for seed in range(3)], Options(output=Path('out')), workers=2)\n"
    )
    done = run(sys.executable, script, cwd=tmp_path)
    assert done.returncode == 1 and "__main__" in done.stderr and "memory" not in done.stderr
    assert "Traceback" not in done.stderr and json.dumps({"seed": 0}) not in done.stdout
