"""Records: written whole or not at all, valid for exactly their config, and the same bits whatever happened between."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sweep
from scipy import stats

from utils.cli import Options
from utils.intervals import fraction_interval, geometric_interval, holm, mean_interval
from utils.provenance import provenance
from utils.records import record_name, write_summary
from utils.runs import sweep

CPU = {"environment": {"precision": "float64", "device": "cpu"}}


def square(config, options):
    return {**CPU, "square": config["x"] ** 2}


def records(options, stem="stem"):
    return {path.name: json.loads(path.read_text()) for path in (options.results_dir / stem).iterdir()}


def test_a_row_for_each_config_in_order(options):
    frame = sweep("stem", square, [{"x": 3, "seed": 0}, {"x": 2, "seed": 1}], options, workers=1)
    assert frame.x.tolist() == [3, 2] and frame.square.tolist() == [9, 4] and (frame.seconds >= 0).all()
    sweep(
        "stem",
        lambda config, options: {"n": 1, "environment": {"precision": "bfloat16", "device": "cuda"}},
        [{"seed": 5}],
        options,
        workers=1,
    )
    used = records(options)["seed=5.json"]["environment"]
    assert (used["device"], used["precision"]) == ("cuda", "bfloat16")
    environment = records(options)["x=3_seed=0.json"]["environment"]
    assert {"device", "precision", "python", "numpy", "commit"} <= set(environment)


def test_a_recorded_run_is_not_run_again_and_a_changed_one_is(options):
    ran = []

    def run(config, options):
        ran.append(config)
        return {**CPU, "value": config["x"]}

    config = {"name": "a", "x": 1, "seed": 0}
    sweep("stem", run, [config], options, workers=1)
    sweep("stem", run, [config], options, workers=1)
    assert len(ran) == 1
    frame = sweep("stem", run, [{**config, "x": 2}], options, workers=1)
    assert len(ran) == 2 and frame.value.tolist() == [2] and len(records(options)) == 1


def test_an_interrupted_fresh_start_goes_on_without_it(options):
    configs, folder = [{"seed": seed} for seed in range(3)], options.results_dir / "stem"
    sweep("stem", lambda config, options: {**CPU, "code": "old"}, configs, options, workers=1)

    def interrupted(config, options):
        if config["seed"] == 1:
            raise KeyboardInterrupt
        return {**CPU, "code": "new"}

    with pytest.raises(SystemExit, match="130"):
        sweep("stem", interrupted, configs, replace(options, fresh=True), workers=1)
    names = sorted(path.name for path in folder.iterdir() if path.name.startswith("seed"))
    assert names == ["seed=0.json", "seed=1.json.replaced", "seed=2.json.replaced"]
    ran = []
    frame = sweep(
        "stem",
        lambda config, options: ran.append(config["seed"]) or {**CPU, "code": "new"},
        configs,
        options,
        workers=1,
    )
    assert ran == [1, 2] and frame.code.tolist() == ["new"] * 3 and not list(folder.glob("*.replaced"))


def test_fresh_runs_again_and_replot_never(options, tmp_path):
    calls = []
    run = lambda config, options: {**CPU, "n": calls.append(0) or len(calls)}  # noqa: E731
    sweep("stem", run, [{"seed": 0}], options, workers=1)
    fresh = Options(output=options.output, fresh=True)
    assert sweep("stem", run, [{"seed": 0}], fresh, workers=1).n.tolist() == [2]
    assert not list(tmp_path.rglob("*.replaced"))
    replot = Options(output=options.output, replot=True)
    assert sweep("stem", run, [{"seed": 0}], replot, workers=1).n.tolist() == [2] and len(calls) == 2
    with pytest.raises(SystemExit, match=r"1 of 2 runs are not recorded.*seed=1"):
        sweep("stem", run, [{"seed": 0}, {"seed": 1}], replot, workers=1)
    assert len(calls) == 2


def test_later_runs_depend_on_the_results_so_far_and_all_are_fresh_once(options):
    ran = []

    def run(config, options):
        ran.append(config["x"])
        return {**CPU, "square": config["x"] ** 2}

    def best_again(frame, options):
        return [{"x": int(frame.square.max()), "seed": 1}]

    for fresh in (False, False, True):
        configs = [{"x": 2, "seed": 0}, {"x": 3, "seed": 0}]
        frame = sweep("stem", run, configs, replace(options, fresh=fresh), [best_again, best_again], workers=1)
        assert frame.x.tolist() == [2, 3, 9, 81] and frame.square.tolist() == [4, 9, 81, 6561]
    assert ran == [2, 3, 9, 81] * 2 and not list((options.results_dir / "stem").glob("*.replaced"))


@pytest.mark.parametrize("folder", ["/dev/null/x", "/proc/x"])
def test_a_folder_that_cannot_be_written_is_named_before_anything_runs(folder):
    with pytest.raises(SystemExit, match=f"{folder}.*cannot be written"):
        sweep(
            "stem",
            lambda config, options: pytest.fail("it ran"),
            [{"seed": 0}],
            Options(output=Path(folder)),
            workers=1,
        )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_raises_does_not_take_the_others_along(options, capsys, workers):
    with pytest.raises(SystemExit) as stopped:
        sweep("stem", divide, [{"x": x, "seed": 0} for x in (1, 0, 2)], options, workers=workers)
    assert '{"x": 0, "seed": 0}' in str(stopped.value.code) and "1 of 3" in str(stopped.value.code)
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert sorted(records(options)) == ["x=1_seed=0.json", "x=2_seed=0.json"]


def divide(config, options):
    return {**CPU, "inverse": 1 / config["x"]}


NONSENSE = [
    "",
    "{",
    "[]",
    "null",
    "NaN",
    "\x00\xff",
    "[" * 100_000,
    '{"config": {"seed": 0}}',
    '{"seed": 0, "accuracy": 0.9}',
    '{"config": {"seed": 0}, "result": {"a": 1}, "seconds": 1}',
    '{"config": {"seed": 0}, "result": {"a": 1}, "seconds": "1", COMMIT}',
    '{"config": {"seed": 0}, "result": {"a": NaN}, "seconds": 1, COMMIT}',
    '{"config": {"seed": 0}, "result": {}, "seconds": 1, COMMIT}',
    '{"config": {"seed": 1}, ENVIRONMENT}',
    '{"config": {"seed": 0.0}, ENVIRONMENT}',
    '{"config": {"seed": false}, ENVIRONMENT}',
]


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_record_of_nonsense_is_run_again(options, nonsense):
    path = options.results_dir / "stem" / "seed=0.json"
    path.parent.mkdir(parents=True)
    commit = '"environment": {"commit": "unknown"}'
    rest = f'"result": {{"a": 1}}, "seconds": 1, {commit}'
    path.write_text(nonsense.replace("ENVIRONMENT", rest).replace("COMMIT", commit), encoding="latin-1")
    assert sweep(
        "stem", lambda config, options: {**CPU, "value": 7}, [{"seed": 0}], options, workers=1
    ).value.tolist() == [7]


def test_a_folder_in_a_records_place_is_named_before_anything_runs(options):
    (options.results_dir / "stem" / "seed=0.json").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"seed=0\.json is a folder"):
        sweep("stem", lambda config, options: pytest.fail("it ran"), [{"seed": 0}], options, workers=1)


def test_two_configs_with_one_name_are_refused(options):
    with pytest.raises(ValueError, match="one name"):
        sweep("stem", square, [{"name": "a", "x": 1}, {"name": "a", "x": 2}], options, workers=1)


def test_names_stay_inside_the_folder():
    assert record_name({"name": "../a b/ü"}) == "..-a-b-ü"


def test_several_workers_make_the_same_records(options):
    sweep("several", small_sweep.run, small_sweep.configs(5, 0.0), options, workers=2)
    sweep("one", small_sweep.run, small_sweep.configs(5, 0.0), options, workers=1)
    several, one = (
        {name: record["result"] for name, record in records(options, stem).items()} for stem in ("several", "one")
    )
    assert len(one) == 5 and several == one
    here = f"parent {os.getpid()}"
    assert {record["environment"]["device"] for record in records(options, "several").values()} == {here}
    assert here not in {record["environment"]["device"] for record in records(options, "one").values()}


def test_the_summary_has_sorted_keys_and_six_digits(options):
    path = write_summary("stem", {"b": 1 / 3, "a": [np.int64(2), np.nan, True]}, options)
    assert path.read_text() == '{\n "a": [\n  2,\n  null,\n  true\n ],\n "b": 0.333333\n}\n'


def test_intervals_are_those_of_the_textbooks():
    values = [4.1, 5.0, 6.3, 5.5]
    interval = mean_interval([*values, math.nan])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (interval["low"], interval["high"]) == pytest.approx(tuple(expected)) and interval["n"] == 4
    assert math.isnan(mean_interval([1.0])["low"])
    # Holm's own rule, by hand: 4 x 0.01, 3 x 0.015, 2 x 0.04, and no smaller than the one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.06, 0.015]), [0.08, 0.04, 0.08, 0.045])
    assert geometric_interval([1, 10, 100])["mean"] == pytest.approx(10)
    with pytest.raises(ValueError, match="positive"):
        geometric_interval([1, 0])
    wilson = fraction_interval(9, 10)  # Wilson (1927): (0.5958, 0.9821)
    assert (wilson["fraction"], wilson["low"], wilson["high"]) == pytest.approx((0.9, 0.5958, 0.9821), abs=1e-4)


def test_a_summary_says_where_its_runs_come_from(options):
    configs = [{"name": "half", "used": "bfloat16", "seed": 0}]
    configs += [{"name": f"single{seed}", "used": "float32", "seed": seed} for seed in range(2)]
    run = lambda config, options: {"x": 1, "environment": {"precision": config["used"], "device": "cpu"}}  # noqa: E731
    frame = sweep("stem", run, configs, options, workers=1)
    path = write_summary("stem", {"x": 1}, options, frame.assign(dataset="digits"))
    summary = json.loads(path.read_text())
    assert summary["preset"] == options.preset and summary["dataset"] == "digits" and summary["x"] == 1
    assert summary["provenance"]["runs"] == 3
    origin = provenance(frame)
    assert origin["runs"] == 3 and origin["seconds"] == pytest.approx(frame.seconds.sum())
    assert {row["precision"]: row["runs"] for row in origin["environments"]} == {"bfloat16": 1, "float32": 2}
    assert all({"python", "numpy", "device"} <= row.keys() and "commit" not in row for row in origin["environments"])
    assert sum(origin["commits"].values()) == 3 and origin == provenance(frame.iloc[::-1])


def test_a_config_with_a_long_name_is_recorded_under_a_shorter_one_of_its_own(options):
    configs = [{"text": "é" * 200 + end, "seed": 0} for end in "ab"]
    frame = sweep("stem", lambda config, options: {**CPU, "value": config["text"][-1]}, configs, options, workers=1)
    assert frame.value.tolist() == ["a", "b"] and len(records(options)) == 2
    again = sweep("stem", lambda config, options: pytest.fail("it ran again"), configs, options, workers=1)
    assert again.value.tolist() == ["a", "b"]


HALF_A_CHARACTER = "\udc80"
NO_CONFIGS = {
    "seconds": {"seconds": 60},
    "environment": {"environment": "x"},
    "number as key": {1: "a"},
    "half a character": {"x": HALF_A_CHARACTER},
    "two keys of one name": {"x": {1: "a", "1": "b"}},
    "object": {"x": object()},
}
NO_RESULTS = {
    "None": None,
    "a list": [1, 2],
    "a number": np.array(3.0),
    "nothing but where it ran": CPU,
    "a key of the config": {**CPU, "x": 5},
    "a key of the record": {**CPU, "seconds": 5},
    "a set": {**CPU, "value": {1, 2}},
    "half a character": {**CPU, "v": HALF_A_CHARACTER},
    "too long a number": {**CPU, "v": 10**5000},
    "no environment": {"v": 1},
    "no precision": {"v": 1, "environment": {"device": "cpu"}},
    "a device without a name": {"v": 1, "environment": {"precision": "float64", "device": {}}},
    "two keys of one name": {**CPU, 1: "a", "1": "b"},
}


@pytest.mark.parametrize("kind", NO_CONFIGS)
def test_a_config_that_a_record_cannot_hold_is_refused_before_anything_runs(options, kind):
    with pytest.raises(ValueError, match="config"):
        sweep(
            "stem",
            lambda config, options: pytest.fail("it ran"),
            [{"seed": 0}, {**NO_CONFIGS[kind], "seed": 1}],
            options,
            workers=1,
        )


@pytest.mark.parametrize("kind", NO_RESULTS)
def test_a_result_that_a_record_cannot_hold_does_not_take_the_others_along(options, kind):
    runs = [{"x": 1, "seed": seed} for seed in range(3)]
    with pytest.raises(SystemExit, match=r'1 of 3 runs failed, the others are recorded:\n.*"seed": 1'):
        sweep(
            "stem",
            lambda config, options: NO_RESULTS[kind] if config["seed"] == 1 else {**CPU, "value": 1},
            runs,
            options,
            workers=1,
        )
    assert set(records(options)) == {"x=1_seed=0.json", "x=1_seed=2.json"}


KEPT = [  # what a run returns, and what its record holds
    ([1.0, math.nan, np.float32("inf")], [1.0, None, None]),
    (np.ma.array([1.0, 2.0], mask=[0, 1]), [1.0, None]),
    (np.array(0.5), 0.5),
    (np.array(3), 3),
]


@pytest.mark.parametrize(("value", "kept"), KEPT)
def test_what_a_record_holds_is_strict_json(options, value, kept):
    frame = sweep("stem", lambda config, options: {**CPU, "value": value}, [{"seed": 0}], options, workers=1)
    (record,) = records(options).values()
    assert record["result"] == {"value": kept}
    assert frame["value"].tolist() == [kept] and "NaN" not in json.dumps(record)
