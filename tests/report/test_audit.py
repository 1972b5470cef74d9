"""The audit: a falsified record is found, another machine's rounding is not mistaken for one."""

import copy
import importlib.util
import json
import shutil

import pytest

from utils.cli import ROOT
from utils.machine import cpu_kind

specification = importlib.util.spec_from_file_location("audit", ROOT / "report" / "audit.py")
audit = importlib.util.module_from_spec(specification)
specification.loader.exec_module(audit)
RESULTS = ROOT / "report" / "results"


def record(accuracy, seed=0, cpu=None, **result):
    environment = {"device": "cpu", "commit": "unknown"} | ({"cpu": cpu} if cpu else {})
    result = {"test_accuracy": accuracy, "train_loss": [2.0, 0.5], **result}
    config = {"name": f"run{seed}", "variant": "none", "seed": seed}
    return {"config": config, "result": result, "environment": environment, "seconds": 1.0}


SEEDS = [record(0.90, 0), record(0.93, 1), record(0.91, 2)]


@pytest.mark.parametrize(
    ("then", "now", "good", "words"),
    [
        (record(0.90), record(0.90, cpu="mine"), True, "identical"),
        (record(0.90), record(0.92, cpu="mine"), True, "seeds differ by up to 0.03"),
        (record(0.90), record(0.94, cpu="mine"), False, "0.9 then, 0.94 now"),
        (record(0.90), record(None, cpu="mine"), False, "0.9 then, nan now"),
        (record(0.90), record(0.90, cpu="mine", loss=1.0), True, "rounding: loss"),
        (record(0.90, cpu="mine"), record(0.90000001, cpu="mine"), False, "on the same kind of CPU"),
        (record(0.90, cpu="other"), record(0.90000001, cpu="mine"), True, "seeds differ"),
    ],
)
def test_what_a_machine_explains(then, now, good, words):
    if "loss" in now["result"]:
        then = copy.deepcopy(then)
        then["result"]["loss"] = 1.0000001
    verdict, line = audit.verdict("p3_lenet5", then, now, SEEDS)
    assert verdict == good and words in line


def test_before_training_only_rounding_is_explained():
    then = record(0.9, rms_activation=[1.0, 2.0])
    for change, good in ((1e-6, True), (1e-3, False)):
        now = record(0.9, cpu="mine", rms_activation=[1.0, 2.0 * (1 + change)])
        assert audit.verdict("p2_1_vanishing_gradients", then, now, SEEDS)[0] == good
    dead = {"config": {"seed": 0}, "result": {"dead": [5, 9]}, "environment": {"device": "cpu"}}
    again = {"config": {"seed": 0}, "result": {"dead": [5, 8]}, "environment": {"device": "cpu", "cpu": "mine"}}
    assert not audit.verdict("p2_2_dying_relu", dead, again, [])[0]


@pytest.fixture
def results(tmp_path):
    """Return a folder of two scripts' records, of which a few take seconds."""
    for stem, names in (("p4_1_fashion_mnist", "*.json"), ("p1_perceptron", "perceptron_1-pass*.json")):
        (tmp_path / "results" / stem).mkdir(parents=True)
        for path in (RESULTS / stem).glob(names):
            shutil.copy(path, tmp_path / "results" / stem)
    return tmp_path


def test_records_are_repeated_and_a_falsified_one_is_found(results, dataset, capsys):
    if dataset == "digits":
        pytest.skip("the data sets are not on this machine")
    flags = ["--minutes", "5", "--output", str(results)]
    with pytest.raises(SystemExit) as stopped:
        audit.main(flags)
    said = capsys.readouterr().out
    assert not stopped.value.code and "2 runs repeated" in said and "0 unexplained" in said, said
    path = results / "results" / "p4_1_fashion_mnist" / "full.json"
    content = json.loads(path.read_text())
    content["result"]["mean"] *= 1.0001
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stopped:
        audit.main(flags)
    said = capsys.readouterr().out
    assert stopped.value.code and "UNEXPLAINED p4_1_fashion_mnist/full: mean" in said, said
    assert "1 unexplained" in said and cpu_kind() in said


def test_every_script_has_a_rule():
    stems = {path.name for path in RESULTS.iterdir() if path.is_dir()}
    assert stems == {*audit.BEFORE_TRAINING, *audit.AFTER_TRAINING}
