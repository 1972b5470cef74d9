"""Question 4.2: the rules read known ranges off curves, whatever noise does; the range test leaves no trace."""

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coms6998_hw2 import p4_2_learning_rate_range as p42
from coms6998_hw2.fashion_training import (
    MICRO_BATCH,
    Run,
    batch_sizes,
    best_of,
    constant_plan,
    of_network,
    read_results,
    sweep,
)
from coms6998_hw2.models import LeNet5
from coms6998_hw2.range_rules import debiased_average, falling_range, running_mean_of_epoch, valley
from utils.cli import Options
from utils.records import write_summary

RATES = np.logspace(-9, 1, 10)
DENSE = np.logspace(-10, 1, 1000)


def ramp(rates, begin=1e-5, end=1e-2, high=2.4, low=0.4):
    """Return a loss that is flat, falls linearly in log rate between two rates, and then rises."""
    x = np.log10(rates)
    fall = np.interp(x, [np.log10(begin), np.log10(end)], [high, low])
    return fall + 3 * np.clip(x - np.log10(end) - 1, 0, None)


def test_the_range_of_a_ramp_is_the_ramp():
    low, high = falling_range(DENSE, ramp(DENSE))
    # 5% and 95% of three decades
    assert np.log10(low) == pytest.approx(-5 + 0.05 * 3, abs=0.02)
    assert np.log10(high) == pytest.approx(-5 + 0.95 * 3, abs=0.02)


def test_an_optimum_of_a_single_candidate_is_not_smoothed_away():
    losses = [2.556, 2.555, 2.52, 2.25, 1.35, 0.65, 0.36, 0.30, 0.55, np.nan]
    low, high = falling_range(RATES, losses)
    assert RATES[2] < low < RATES[3] and 1e-2 < high < RATES[7]


def test_ten_candidates_give_the_range_to_within_their_spacing():
    low, high = falling_range(RATES, ramp(RATES))
    assert abs(np.log10(low) + 5) < 10 / 9 and abs(np.log10(high) + 2) < 10 / 9


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_smoothed_reading_by_less_than_half_a_decade(seed):
    noisy = ramp(DENSE) + np.random.default_rng(seed).normal(0, 0.15, len(DENSE))
    low, high = falling_range(DENSE, debiased_average(noisy, 0.9))
    assert abs(np.log10(low) + 4.85) < 0.6 and abs(np.log10(high) + 2.15) < 0.6


def test_an_early_spike_changes_nothing():
    spiked = ramp(DENSE)
    spiked[20], spiked[40] = 9.0, 0.0
    assert falling_range(DENSE, spiked) == pytest.approx(falling_range(DENSE, ramp(DENSE)))


def test_diverged_candidates_are_no_points():
    losses = ramp(RATES)
    losses[-2:] = np.nan, np.inf
    assert falling_range(RATES, losses) == falling_range(RATES[:-2], losses[:-2])


@pytest.mark.parametrize(
    "losses", [np.full(10, 2.3), np.linspace(2.3, 3, 10), np.where(np.arange(10) == 4, 1.0, 2.3), 2.3 - RATES * 1e-3]
)
def test_a_curve_that_never_falls_is_refused(losses):
    with pytest.raises(ValueError, match="never falls"):
        falling_range(RATES, losses)


@pytest.mark.parametrize(
    ("rates", "losses", "named"),
    [
        (RATES[::-1], ramp(RATES), "increase"),
        (-RATES, ramp(RATES), "positive"),
        (RATES, ramp(RATES)[:-1], "one for each"),
        (RATES, [np.nan] * 8 + [1.0, 0.5], "only 2 of 10"),
    ],
)
def test_bad_curves_are_named(rates, losses, named):
    with pytest.raises(ValueError, match=named):
        falling_range(rates, losses)


@settings(max_examples=50)
@given(st.floats(-7, -4), st.floats(1, 4), st.floats(0.1, 10))
def test_the_range_is_ordered_scales_with_the_rates_and_not_with_the_loss(begin, decades, scale):
    losses = ramp(DENSE, 10**begin, 10 ** min(begin + decades, -0.5))
    low, high = falling_range(DENSE, losses)
    assert DENSE[0] <= low <= high <= DENSE[-1]
    assert falling_range(DENSE * scale, losses * scale) == pytest.approx((low * scale, high * scale), rel=1e-6)


def test_the_valley_is_in_the_fall():
    assert 1e-5 < valley(DENSE, ramp(DENSE)) < 1e-2


@given(st.lists(st.floats(0, 3), min_size=4, max_size=9, unique=True))
def test_the_valley_is_half_way_through_the_second_third_of_the_longest_fall(losses):
    """The longest decreasing subsequence is found here by trying all; the first of the longest counts."""
    length, end = max(
        ((len(part), -part[-1]) for n in range(1, len(losses) + 1) for part in combinations(range(len(losses)), n)
         if all(losses[a] > losses[b] for a, b in pairwise(part))),
    )  # fmt: skip
    expected = -end - length + int(length / 3) + int(length / 6)
    assert valley(RATES[: len(losses)], losses) == RATES[: len(losses)][expected]


def test_the_average_is_debiased_and_the_running_mean_starts_anew_each_epoch():
    losses = np.random.default_rng(0).normal(2, 0.1, 12)
    weights = 0.98 ** np.arange(12)[::-1]
    assert debiased_average(losses)[-1] == pytest.approx(np.average(losses, weights=weights))
    assert debiased_average(losses)[0] == pytest.approx(losses[0])
    shown = running_mean_of_epoch(losses, 4)
    assert shown[3] == pytest.approx(losses[:4].mean()) and shown[4] == losses[4]
    assert shown[-1] == pytest.approx(losses[8:].mean())


def test_a_running_mean_shifts_the_curve_to_larger_rates():
    losses = ramp(DENSE)
    assert falling_range(DENSE, running_mean_of_epoch(losses, 334))[1] > 1.5 * falling_range(DENSE, losses)[1]


def test_a_run_that_diverged_has_the_best_of_what_it_reached():
    assert best_of([0.1, 0.3, None]) == 0.3 and np.isnan(best_of([None, None]))


@pytest.fixture(scope="module")
def small():
    config = {"dataset": "digits", "images": 100, "precision": "float32", "seed": 0}
    return Run(config, Options(preset="quick", device="cpu"))


def test_the_range_test_leaves_the_network_as_it_was(small):
    small.epoch(batch_sizes(90, 30), [0.01] * 3)  # momentum and statistics are no longer at their start
    before = {name: value.clone() for name, value in small.trainer.model.state_dict().items()}
    momenta = [s["momentum_buffer"].clone() for s in small.trainer.optimizer.state_dict()["state"].values()]
    rates, losses = p42.range_test(small, 1e-4, 1.0, 30, 2)
    assert len(rates) == len(losses) == 6 and rates[0] == pytest.approx(1e-4) and rates[-1] == pytest.approx(1.0)
    assert np.diff(np.log(rates)) == pytest.approx(np.log(1e4) / 5)
    after = small.trainer.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    now = small.trainer.optimizer.state_dict()["state"].values()
    assert all(torch.equal(a, b["momentum_buffer"]) for a, b in zip(momenta, now, strict=True))


def test_every_candidate_of_a_seed_starts_from_the_same_network(small):
    config = {"dataset": "digits", "images": 100, "precision": "float32", "seed": 3}
    first, second = (Run(config, Options(preset="quick", device="cpu")) for _ in range(2))
    for (name, a), b in zip(first.trainer.model.state_dict().items(), second.trainer.model.state_dict().values(),
                            strict=True):  # fmt: skip
        assert torch.equal(a, b), name
    assert not first.trainer.optimizer.state_dict()["state"]
    assert not torch.equal(first.trainer.model.stages[0][0].weight, small.trainer.model.stages[0][0].weight)


def test_lenet5_takes_the_same_protocol_under_a_name_of_its_own(options, small):
    config = {"name": "a", "dataset": "digits", "images": 100, "precision": "fastest", "seed": 0}
    lenet = replace(options, network="lenet5")
    frame = sweep("stem", lambda config, options: {"given": config["network"]}, [config], lenet)
    assert frame.given[0] == "lenet5" and frame.precision[0] == "float32"
    assert (options.output / "results" / "stem_lenet5" / "a.json").exists() and of_network("stem", options) == "stem"
    run = Run({**config, "network": "lenet5"}, lenet)
    assert isinstance(run.trainer.model, LeNet5) and set(run.trainer.model.batch_norms()) == {"c1", "c3", "c5", "f6"}
    # The same images in the same order, augmented alike.
    assert np.array_equal(run.training, small.training) and run.trainer.largest_shift == small.trainer.largest_shift
    again = Run(config, options)
    assert np.array_equal(run.rng.permutation(50), again.rng.permutation(50))
    assert torch.equal(run.trainer._draws(9), again.trainer._draws(9))


def test_with_candidates_missing_the_range_test_answers_and_the_summary_says_so():
    """The frame is what run_all returns; only the curves are made up."""
    rates = np.geomspace(p42.LOWEST, p42.HIGHEST, 3 * 860)
    environment = {"device": "cpu", "precision": "float32"}
    common = {"dataset": "fashion_mnist", "batch_size": 64, "images": 60_000, "seed": 0, "environment": environment}
    curve = {"train_loss": [1.0], "validation_accuracy": [0.5], "candidate_diverged": False, "epochs": 5}
    rows = [{**common, **curve, "part": "candidate", "learning_rate": rate, "batch_loss": [float(loss)]}
            for rate, loss in zip(RATES, ramp(RATES), strict=True)]  # fmt: skip
    rows.append({**common, "part": "continuous", "epochs": 3, "rates": rates.tolist(), "losses": ramp(rates).tolist()})
    whole = p42.summarise(pd.DataFrame(rows), planned=RATES.tolist())
    part = p42.summarise(pd.DataFrame(rows[3:]), planned=RATES.tolist())
    assert whole["complete"] and not part["complete"] and len(part["candidates"]) == 7
    assert {key: whole["reading_by_seed"][key]["mean"] for key in p42.RANGE} == pytest.approx(whole["reading"])
    assert whole["reading"] == dict(zip(("lr_min", "lr_max"), falling_range(RATES, ramp(RATES)), strict=True))
    assert part["reading"] == {key: part["continuous"][key]["mean"] for key in ("lr_min", "lr_max")}
    assert part["lr_min"] < part["lr_max"] and np.isnan(part["valley"])
    assert part["untrained"] == RATES[:3].tolist() and whole["untrained"] == [] and part["reading_by_seed"] is None
    with pytest.raises(ValueError, match="neither all 10 candidates are recorded nor a range test"):
        p42.summarise(pd.DataFrame(rows[3:-1]), planned=RATES.tolist())
    with pytest.raises(ValueError, match="no candidate"):
        p42.summarise(pd.DataFrame(rows[-1:]), planned=RATES.tolist())


def test_precisions_are_compared_on_one_device_only():
    def candidate(precision, device, loss):
        environment = {"device": device, "precision": precision}
        values = {"train_loss": [loss], "validation_accuracy": [1 - loss], "batch_loss": [loss]}
        return {"learning_rate": 0.01, "seed": 0, "seconds": 60.0, "environment": environment, **values}

    fast = pd.DataFrame([candidate("bfloat16", "cpu", 0.30), {**candidate("bfloat16", "cpu", 0.9), "seed": 1}])
    (pair,) = p42._compared(pd.Series(candidate("float32", "cpu", 0.31)), fast)
    assert (pair["fast_loss"], pair["loss"], pair["fast_precision"]) == (0.30, 0.31, "bfloat16")
    assert pair["fast_validation_accuracy"] == 0.7 and pair["validation_accuracy"] == 0.69
    assert p42._compared(pd.Series(candidate("float32", "cuda", 0.31)), fast) == []
    assert p42._compared(pd.Series({**candidate("float32", "cpu", 0.31), "learning_rate": 1.0}), fast) == []
    alike = pd.DataFrame([candidate("float32", "cpu", 0.3)])
    assert p42._compared(pd.Series(candidate("float32", "cpu", 0.31)), alike) == []


def test_seeds_recorded_in_full_count_and_else_what_there_is_of_the_first():
    configs = [{"seed": seed, "part": part} for seed in range(2) for part in ("candidate", "continuous")]
    frame = pd.DataFrame([*configs, {"seed": 0, "part": "float32"}])
    assert p42.usable(frame, configs).equals(frame)
    assert p42.usable(frame.drop(index=2), configs).index.tolist() == [0, 1, 4]
    assert p42.usable(frame.drop(index=0), configs).index.tolist() == [2, 3]
    assert p42.usable(frame.drop(index=[0, 2]), configs).index.tolist() == [1, 4]


def test_nothing_is_built_on_a_range_that_may_still_change(options, capsys):
    lenet = replace(options, network="lenet5")
    with pytest.raises(SystemExit, match=r"is missing: run the script p4_2_.*\.py --network lenet5"):
        read_results(p42.STEM, lenet)
    found = {"complete": True, "planned": 3, "provenance": {"runs": 3}}
    for summary, said in ((found, ""), (found | {"planned": 9}, "lacks seeds")):
        write_summary(of_network(p42.STEM, lenet), summary, lenet)
        assert read_results(p42.STEM, lenet) == summary
        said_now = capsys.readouterr().err
        assert said in said_now and bool(said) == bool(said_now)
    write_summary(of_network(p42.STEM, lenet), found | {"complete": False}, lenet)
    with pytest.raises(SystemExit, match=r"lacks candidates.*finish p4_2"):
        read_results(p42.STEM, lenet)


def test_an_epoch_sees_every_image_once_in_batches_of_which_batch_norm_sees_64():
    sizes = batch_sizes(55_000, 64)
    assert sizes.sum() == 55_000 and set(sizes[:-1]) == {64} == {MICRO_BATCH} and sizes[-1] == 24
    assert sum(len(sizes) for sizes, _ in constant_plan(1000, 64, 0.1, 3)) == 3 * 16


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: batch_sizes(100, 0), "batch size is 0.*between 1 and the 100"),
        (lambda: batch_sizes(100, 101), "batch size is 101"),
        (lambda: constant_plan(100, 10, 0, 1), "learning rate is 0; it must be positive"),
        (lambda: constant_plan(100, 10, np.inf, 1), "learning rate is inf; it must be positive and finite"),
        (lambda: p42.range_test(None, 1.0, 0.1, 64, 1), "from 1.0 to 0.1"),
        (lambda: p42.range_test(None, 0, 0.1, 64, 1), "must be positive"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
