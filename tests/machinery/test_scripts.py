"""Every script end to end: on the quick preset shrunk further, from another folder; and its committed results."""

import importlib
import json
import re
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from smallest import OF_OTHERS, SCRIPTS
from sweeping import run

from utils import plotting
from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"
SMALLEST = Path(__file__).with_name("smallest.py")
# The summaries of other scripts that a script reads, and their records.
RATES = {"lr_min": 0.003, "lr_max": 0.03}
RATE_RANGE = {
    **RATES,
    "protocol": {"batch_size": 64},
    "candidates": [{"rate": rate, "loss": {"mean": 1.0, "low": None, "high": None, "n": 1}} for rate in (0.01, 0.1)],
}
RATE_POLICY = {**RATES, "images": 110, "batch_size": 16, "gamma": 0.999, "step_epochs": 1, "epochs": 6}
RATE_CURVES = ("batch_loss", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
RATE_END = {"test_loss": 0.5, "test_accuracy": 0.5, "selected_test_accuracy": 0.5, "stopped": False, "updates": 42}
NEEDED = {
    "p4_3_cyclical_learning_rate": {"p4_2_learning_rate_range": RATE_RANGE},
    "p4_4_batch_size_range": {"p4_2_learning_rate_range": RATE_RANGE},
    "p4_6_cyclical_batch_size": {
        "p4_3_cyclical_learning_rate": {"protocol": RATE_POLICY},
        "p4_4_batch_size_range": {"b_min": 4, "b_max": 16},
        "p4_3_cyclical_learning_rate/cyclical_seed0": {
            "config": {"arm": "cyclical", "seed": 0, **RATE_POLICY},
            "result": {key: [0.5] * 6 for key in RATE_CURVES} | RATE_END,
            "environment": {"commit": "unknown"},
            "seconds": 1,
        },
    },
}


def python(*words, cwd, **environment):
    done = run(sys.executable, *words, cwd=cwd, **{"TF_CPP_MIN_LOG_LEVEL": "2", **environment})
    assert done.returncode == 0, done.stderr
    return done


def contents(folder):
    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".png", ".svg")]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_from_another_folder_redraws_the_same_and_repeats_its_records(script, tmp_path, dataset):
    flags = ["--output", tmp_path / "out"]
    for stem, summary in NEEDED.get(script.stem, {}).items():
        path = tmp_path / "out" / "results" / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        stands_for_it = "digits" if dataset == "digits" else "fashion_mnist"
        if "config" in summary:
            summary["config"]["dataset"] = stands_for_it
        else:
            summary = {**summary, "preset": "quick", "dataset": stands_for_it}
        path.write_text(json.dumps(summary))
    python(SMALLEST, script.stem, *flags, cwd=tmp_path, **OF_OTHERS)
    first = contents(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "results" / f"{script.stem}.json").read_text())
    records = sorted((tmp_path / "out" / "results" / script.stem).iterdir())
    assert summary and records and all(path.suffix == ".json" for path in records)
    for record in (json.loads(path.read_text()) for path in records):
        assert (record["config"].get("dataset", dataset) == "digits") == (dataset == "digits")
    assert (tmp_path / "out" / "figures" / f"{script.stem}.png").stat().st_size > 5000
    python(SMALLEST, "again", script.stem, *flags, "--replot", cwd=tmp_path)
    assert contents(tmp_path / "out") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_without_data_the_digits_are_named_everywhere(tmp_path):
    no_network = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    no_network["DATA_SOURCE"] = ""
    out, stem = tmp_path / "out", "p2_1_vanishing_gradients"
    done = python(SMALLEST, stem, "--output", out, "--data-dir", tmp_path / "empty", cwd=tmp_path, **no_network)
    assert "WARNING" in done.stderr and "digits" in done.stderr
    records = [json.loads(path.read_text()) for path in (out / "results" / stem).iterdir()]
    assert {record["config"]["dataset"] for record in records} == {"digits"}
    assert json.loads((out / "results" / f"{stem}.json").read_text())["protocol"]["dataset"] == "digits"
    figures = [path.read_text() for path in (out / "figures").glob("*.svg")]
    assert figures and all("digits" in figure for figure in figures)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_summary_is_what_the_committed_records_say(path, tmp_path, monkeypatch):
    script = importlib.import_module(f"{path.parent.name}.{path.stem}")
    drawn = []
    monkeypatch.setattr(plotting, "save", lambda figure, *_: drawn.append(figure))  # writing the files takes seconds
    shutil.copytree(RESULTS, tmp_path / "results")  # a script may read the summaries of others
    (tmp_path / "results" / f"{script.STEM}.json").unlink()
    script.main(["--replot", "--output", str(tmp_path)])
    plt.close("all")
    assert drawn
    ours = json.loads((tmp_path / "results" / f"{script.STEM}.json").read_text())

    def near(text):
        return pytest.approx(float(text), rel=2e-5, abs=1e-12)  # the last of six digits may differ between libraries

    assert ours == json.loads((RESULTS / f"{script.STEM}.json").read_text(), parse_float=near)


def test_the_example_of_a_new_problem_works(tmp_path):
    page = (ROOT / "docs" / "adding_a_problem.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    script = tmp_path / "p5_walk.py"
    script.write_text(code)
    python(script, "--output", tmp_path / "out", cwd=tmp_path)
    summary = json.loads((tmp_path / "out" / "results" / "p5_walk.json").read_text())
    assert summary["distance"]["n"] == 20 == len(list((tmp_path / "out" / "results" / "p5_walk").iterdir()))
    assert 5 < summary["distance"]["mean"] < 12  # theory: sqrt(2 n / pi), 8.0
    assert (tmp_path / "out" / "figures" / "p5_walk.svg").exists()
