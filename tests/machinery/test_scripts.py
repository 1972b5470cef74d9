"""Every script end to end: on the quick preset shrunk further, from another folder; and its committed results."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from utils.cli import ROOT

SCRIPTS = sorted([*(ROOT / "ist597_norms").glob("p*.py"), *(ROOT / "coms6998_hw2").glob("p*.py")])
RESULTS = ROOT / "report" / "results"
ONE_PROCESS = "from utils import machine; machine.cores = lambda: 1"
# Problem 4 with a network that is a hundred times as fast; MiniGoogLeNet has tests of its own.
FAST_NETWORK = """
from functools import partial; from coms6998_hw2.models import LeNet5; from coms6998_hw2.problem_4 import training
training.NETWORK = partial(LeNet5, batch_norm=True)
"""
# What makes each script's quick preset smaller still; a script without an entry fails.
SMALLEST = {
    "p1_check_gradients": "m.PRESETS['quick'].update(shapes=['dense'], steps=2)",
    "p1_compare_norms": ("m.PRESETS['quick'].update(images=400, rates=[0.01], batch_sizes=[1, 64])"),
    "p1_perceptron": "m.PRESETS['quick'].update(training_sets=20, passes=9, sizes=[5, 20])",
    "p2_1_vanishing_gradients": (
        "m.PRESETS['quick'].update(seeds=1, train_images=200, test_images=100); m.STANDARD_DEVIATIONS.clear()"
    ),
    "p2_2_dying_relu": ("m.PRESETS['quick'].update(networks=20, epochs=1, map_networks=500, rai_networks=9)"),
    "p3_lenet5": ("m.PRESETS['quick'].update(images={200: 2, 80: 2}, long_epochs=3, loaded=400)"),
    "p4_1_fashion_mnist": "m.PRESETS['quick'].update(images=300)",
    "p4_2_learning_rate_range": FAST_NETWORK + "m.PRESETS['quick'].update(batch_size=4, images=1000)",
    "p4_3_cyclical_learning_rate": FAST_NETWORK + "m.PRESETS['quick'].update(images=110)",
    "p4_4_batch_size_range": (
        FAST_NETWORK + "m.PRESETS['quick'].update(sizes=[4, 8, 16, 32, 64], micro_batch=4, epochs=3)"
    ),
    "p4_6_cyclical_batch_size": FAST_NETWORK,
}
# The summaries of other scripts that a script reads, and their records.
RATE_RANGE = {
    "lr_min": 0.003,
    "lr_max": 0.03,
    "protocol": {"batch_size": 64},
    "candidates": [{"rate": rate, "loss": {"mean": 1.0, "low": None, "high": None, "n": 1}} for rate in (0.01, 0.1)],
}
RATE_POLICY = {
    "lr_min": 0.003,
    "lr_max": 0.03,
    "images": 110,
    "batch_size": 16,
    "gamma": 0.999,
    "step_epochs": 1,
    "epochs": 6,
}
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
# Runs three of the recorded configs again, in another process, and compares the results bit for bit.
AGAIN = """
import json, pathlib
from utils.records import to_json
paths = sorted(pathlib.Path('out/results/{stem}').iterdir())
for path in (paths[0], paths[len(paths) // 2], paths[-1]):
    record = json.loads(path.read_text())
    result, diverged = to_json(m.run(record['config']))
    used = {{key: result.pop(key) for key in ('precision', 'device') if key in result}}
    assert result | ({{'diverged': True}} if diverged else {{}}) == record['result'], path
"""


def python(*words, cwd):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    words = [sys.executable, *map(str, words)]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".json", ".svg")
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_from_another_folder_redraws_the_same_and_repeats_its_records(script, tmp_path, dataset):
    module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    flags = ["--preset", "quick", "--output", str(tmp_path / "out")]
    setup = f"{ONE_PROCESS}\nimport {module} as m; {SMALLEST[script.stem]}\n"
    for stem, summary in NEEDED.get(script.stem, {}).items():
        path = tmp_path / "out" / "results" / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary))
    python("-c", f"{setup}m.main({flags!r})", cwd=tmp_path)
    first = contents(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "results" / f"{script.stem}.json").read_text())
    records = sorted((tmp_path / "out" / "results" / script.stem).iterdir())
    assert summary and records and all(path.suffix == ".json" for path in records)
    for record in (json.loads(path.read_text()) for path in records):
        assert (record["config"].get("dataset", dataset) == "digits") == (dataset == "digits")
    assert (tmp_path / "out" / "figures" / f"{script.stem}.png").stat().st_size > 5000
    python("-c", f"{setup}m.main({[*flags, '--replot']!r})\n{AGAIN.format(stem=script.stem)}", cwd=tmp_path)
    assert contents(tmp_path / "out") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_without_data_the_digits_are_named_everywhere(tmp_path):
    flags = ["--preset", "quick", "--output", str(tmp_path / "out"), "--data-dir", str(tmp_path / "empty")]
    code = (
        "from torchvision.datasets import MNIST; MNIST.mirrors = ['http://127.0.0.1:9/']\n"
        "from coms6998_hw2 import p2_1_vanishing_gradients as m; from utils import plotting\n"
        f"{ONE_PROCESS}; {SMALLEST['p2_1_vanishing_gradients']}\n"
        "save = plotting.save\n"
        "def check(figure, *rest, **named):\n"
        "    path = save(figure, *rest, **named); assert 'digits' in figure.get_suptitle(); return path\n"
        f"plotting.save = check; m.main({flags!r})"
    )
    done = python("-c", code, cwd=tmp_path)
    assert "WARNING" in done.stderr and "digits" in done.stderr
    summary = json.loads((tmp_path / "out/results/p2_1_vanishing_gradients.json").read_text())
    records = [json.loads(path.read_text()) for path in (tmp_path / "out/results/p2_1_vanishing_gradients").iterdir()]
    assert summary["protocol"]["dataset"] == "digits" and {r["config"]["dataset"] for r in records} == {"digits"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_summary_is_what_the_committed_records_say(script, tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")  # a script may read the summaries of others
    (tmp_path / "results" / f"{script.stem}.json").unlink()
    python(script, "--replot", "--output", tmp_path, cwd=tmp_path)
    ours = json.loads((tmp_path / "results" / f"{script.stem}.json").read_text())
    assert approximately(ours, json.loads((RESULTS / f"{script.stem}.json").read_text()))


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


def approximately(a, b):
    """Compare two summaries; the last of six digits may differ between versions of the libraries."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(approximately(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(approximately, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=2e-5, abs=1e-12)
    return a == b
