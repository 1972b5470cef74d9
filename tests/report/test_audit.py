"""The audit: a falsified record is found, whichever number it is; another machine's rounding is not taken for one."""

import copy
import importlib.util
import json
import shutil

import pytest

from utils.cli import ROOT
from utils.machine import cpu_kind
from utils.records import read_record

specification = importlib.util.spec_from_file_location("audit", ROOT / "report" / "audit.py")
audit = importlib.util.module_from_spec(specification)
specification.loader.exec_module(audit)
RESULTS = ROOT / "report" / "results"


def record(accuracy, seed=0, cpu=None, **result):
    environment = {"device": "cpu", "commit": "unknown", "precision": "float32"} | ({"cpu": cpu} if cpu else {})
    result = {"test_accuracy": accuracy, "train_loss": [2.0, 0.5], **result}
    config = {"name": f"run{seed}", "variant": "none", "seed": seed}
    return {"config": config, "result": result, "environment": environment, "seconds": 1.0}


SEEDS = [record(0.90, 0), record(0.93, 1), record(0.91, 2)]


@pytest.mark.parametrize(
    ("then", "now", "good", "words"),
    [
        (record(0.90), record(0.90, cpu="mine"), True, "identical"),
        (record(0.90), record(0.92, cpu="mine"), True, "within what seeds explain"),
        (record(0.90), record(0.99, cpu="mine"), True, "within what seeds explain"),  # 0.91 to 0.99, three times
        (record(0.10), record(0.91, cpu="mine"), False, "0.1 then, 0.91 now; seeds explain 0.06"),
        (record(0.90), record(None, cpu="mine"), False, "0.9 then, nan now"),
        (record(0.90, loss=1.0), record(0.90, cpu="mine", loss=1.0000001), True, "rounding"),
        (record(0.90, cpu="mine"), record(0.90000001, cpu="mine"), False, "on the same kind of CPU"),
        (record(0.90, cpu="other"), record(0.90000001, cpu="mine"), True, "rounding"),
        (record(0.90, gamma=[1.0, 2.0]), record(0.90, cpu="mine", gamma=[1.0]), False, "5 then, 4 now"),
        (record(0.90, extra=1.0), record(0.90, cpu="mine"), False, "gives no extra any more"),
    ],
)
def test_what_a_machine_explains(then, now, good, words):
    verdict, line = audit.verdict("p3_lenet5", then, now, SEEDS)
    assert verdict == good and words in line, line


# What a falsifier might change in a record of each script: a key, and what becomes of its numbers.
FALSIFIED = [
    ("p1_check_gradients", "trajectory_batch_float64", "gap", lambda x: [1e6 * y for y in x]),
    ("p1_compare_norms", "batch_after_seed0", "test_accuracy", lambda x: 0.10),
    ("p1_perceptron", "hinge_20_points", "accuracy", lambda x: [y + 0.01 for y in x]),
    ("p2_1_vanishing_gradients", "tanh_glorot_seed0", "quantiles_activation", lambda x: [[9.0] * len(y) for y in x]),
    ("p2_1_vanishing_gradients", "tanh_glorot_seed0", "train_loss", lambda x: [*x[:-1], 0.9]),
    ("p2_2_dying_relu", "relu_9_hidden_seed0", "r2", lambda x: [0.0] * len(x)),
    ("p2_2_dying_relu", "relu_9_hidden_seed0", "collapsed", lambda x: [0] * (len(x) - 1) + x[-1:]),
    ("p2_2_dying_relu", "born_dead_width_2", "dead", lambda x: [x[0] + 1, *x[1:]]),
    (
        "p3_lenet5",
        "bn_55000images_rate0.1_20epochs_seed1",
        "gamma",
        lambda x: {key: [-5.0] * len(y) for key, y in x.items()},
    ),
    ("p3_lenet5", "bn_55000images_rate0.1_20epochs_seed1", "train_loss", lambda x: [100 * y for y in x]),
    ("p4_1_fashion_mnist", "full", "mean", lambda x: x * 1.0001),
    ("p4_2_learning_rate_range", "continuous_seed0", "losses", lambda x: [0.1 * y for y in x]),
    ("p4_3_cyclical_learning_rate", "constant_lr_max_seed0", "test_accuracy", lambda x: 0.99),
    ("p4_4_batch_size_range", "range_seed0", "losses", lambda x: [10 * y for y in x]),
    ("p4_6_cyclical_batch_size", "matched_seed0", "selected_test_accuracy", lambda x: 0.999),
]


@pytest.mark.parametrize(
    ("stem", "name", "key", "falsify"), FALSIFIED, ids=[f"{stem}-{key}" for stem, _, key, _ in FALSIFIED]
)
def test_a_falsified_number_is_found_on_another_kind_of_cpu(stem, name, key, falsify):
    records = [read_record(path) for path in sorted((RESULTS / stem).glob("*.json"))]
    (true,) = [record for record in records if record["config"].get("name") == name or name == "full"]
    again = copy.deepcopy(true)
    again["environment"] = {**again["environment"], "device": "cpu", "cpu": "mine"}
    assert audit.verdict(stem, true, again, records) == (True, "identical")
    true["result"] = {**true["result"], key: falsify(true["result"][key])}  # as it lies among the others
    good, line = audit.verdict(stem, true, again, records)
    assert not good, line


@pytest.fixture
def results(tmp_path):
    """Return a folder of two scripts' records, which take seconds."""
    for stem, names in (("p4_1_fashion_mnist", "*.json"), ("p1_perceptron", "perceptron_1-pass*.json")):
        (tmp_path / "results" / stem).mkdir(parents=True)
        for path in (RESULTS / stem).glob(names):
            shutil.copy(path, tmp_path / "results" / stem)
    return tmp_path


def audited(results, capsys, *flags):
    """Return the status and what was said of an audit."""
    with pytest.raises(SystemExit) as stopped:
        audit.main(["--minutes", "5", "--output", str(results), *flags])
    return stopped.value.code, capsys.readouterr().out


def test_records_are_repeated_and_a_falsified_one_is_found(results, dataset, capsys):
    if dataset == "digits":
        pytest.skip("the data sets are not on this machine")
    status, said = audited(results, capsys)
    assert status == 0 and "2 runs: 2 identical" in said and cpu_kind() in said, said
    path = results / "results" / "p4_1_fashion_mnist" / "full.json"
    content = json.loads(path.read_text())
    content["result"]["mean"] *= 1.0001
    path.write_text(json.dumps(content))
    (results / "results" / "p1_perceptron" / "broken.json").write_text("{")
    status, said = audited(results, capsys)
    assert status == 1 and "UNEXPLAINED p4_1_fashion_mnist/full: mean" in said, said
    assert "UNEXPLAINED p1_perceptron/broken.json: it is no record" in said and "2 unexplained" in said


def test_a_run_that_raises_is_unexplained_and_the_others_go_on(results, dataset, capsys):
    if dataset == "digits":
        pytest.skip("the data sets are not on this machine")
    path = results / "results" / "p1_perceptron" / "perceptron_1-pass.json"
    content = json.loads(path.read_text())
    content["config"]["train_size"] = -1
    path.write_text(json.dumps(content))
    status, said = audited(results, capsys)
    assert status == 1 and "UNEXPLAINED p1_perceptron/perceptron_1 pass: it raises ValueError" in said, said


def test_without_records_or_with_no_time_one_sentence(tmp_path, capsys):
    assert "has no records to repeat" in audited(tmp_path, capsys)[0]
    with pytest.raises(SystemExit, match="it must be positive"):
        audit.main(["--minutes", "0"])
