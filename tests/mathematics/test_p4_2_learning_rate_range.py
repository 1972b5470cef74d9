"""Question 4.2: the rules read known ranges off curves, whatever noise does; runs start alike and see all images."""

import json
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coms6998_hw2 import p4_2_learning_rate_range as p42
from coms6998_hw2.models import EVERYWHERE, LeNet5
from coms6998_hw2.problem_4 import training_run
from coms6998_hw2.problem_4.range_rules import debiased_average, falling_range, running_mean_of_epoch, valley
from coms6998_hw2.problem_4.training_run import MICRO_BATCH, Training, batch_sizes, constant_plan
from utils.cli import ROOT, Options

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


def test_what_a_dead_network_gives_after_a_divergence_is_no_part_of_the_fall():
    """A network whose units have all died has the loss of guessing, less than what these learned."""
    learned = [2.6, 2.6, 2.6, 2.58, 2.5, 2.4, 2.34]
    low, high = falling_range(RATES, [*learned, 2.9, 7, 2.303])
    assert (low, high) == falling_range(RATES[:7], learned)
    assert RATES[2] < low < RATES[4] and RATES[5] < high <= RATES[6]
    dense = ramp(DENSE, end=1e-3)
    dead = np.where(DENSE > 1, 0.3, dense)  # below the least of the ramp, after its rise
    assert falling_range(DENSE, dead) == pytest.approx(falling_range(DENSE, dense))


def test_diverged_candidates_are_no_points():
    losses = ramp(RATES)
    losses[-2:] = np.nan, np.inf
    assert falling_range(RATES, losses) == falling_range(RATES[:-2], losses[:-2])


@pytest.mark.parametrize("rule", [falling_range, valley])
@pytest.mark.parametrize(
    "losses", [np.full(10, 2.3), np.linspace(2.3, 3, 10), np.where(np.arange(10) == 4, 1.0, 2.3), 2.3 - RATES * 1e-3]
)
def test_a_curve_that_never_falls_is_refused(rule, losses):
    with pytest.raises(ValueError, match="never falls"):
        rule(RATES, losses)


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


@given(st.lists(st.floats(0, 3), min_size=4, max_size=9, unique=True))
@example([1.0, 0.5, 0.55, 0.6, 0.7, 0.8])  # falls from its first point: fastai's index would be -1, the last rate
def test_the_valley_is_half_way_through_the_second_third_of_the_longest_fall(losses):
    """The longest decreasing subsequence is found here by trying all; the first of the longest counts."""
    rates = RATES[: len(losses)]
    try:
        falling_range(rates, losses)
    except ValueError:
        with pytest.raises(ValueError, match="never falls"):
            valley(rates, losses)
        return
    indices = range(len(losses))
    subsequences = [part for n in range(1, len(losses) + 1) for part in combinations(indices, n)]
    decreasing = [part for part in subsequences if all(losses[a] > losses[b] for a, b in pairwise(part))]
    longest = max(decreasing, key=lambda part: (len(part), -part[-1]))
    length, end = len(longest), longest[-1]
    assert valley(rates, losses) == rates[max(0, end - length + int(length / 3) + int(length / 6))]


def test_the_average_is_debiased_and_the_running_mean_starts_anew_each_epoch():
    losses = np.random.default_rng(0).normal(2, 0.1, 12)
    weights = 0.98 ** np.arange(12)[::-1]
    assert debiased_average(losses)[-1] == pytest.approx(np.average(losses, weights=weights))
    assert debiased_average(losses)[0] == pytest.approx(losses[0])
    running = running_mean_of_epoch(losses, 5)
    assert running[4] == pytest.approx(losses[:5].mean()) and running[5] == losses[5]
    assert running[-1] == pytest.approx(losses[10:].mean())


def test_in_a_test_of_few_updates_the_average_reaches_less_far():
    assert p42.smoothing(np.zeros(3 * 860)) == p42.SMOOTHING and p42.smoothing(np.zeros(50)) == pytest.approx(0.8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_average_is_no_number_from_where_a_loss_is_none(bad):
    average = debiased_average([2.0, 1.0, bad, 1.0])
    assert np.isfinite(average[:2]).all() and np.isnan(average[2:]).all()


def test_a_running_mean_shifts_the_curve_to_larger_rates():
    losses = ramp(DENSE)
    assert falling_range(DENSE, running_mean_of_epoch(losses, 334))[1] > 1.5 * falling_range(DENSE, losses)[1]


@pytest.fixture(scope="module")
def small():
    config = {"dataset": "digits", "images": 100, "precision": "float32", "seed": 0}
    return Training(config, Options(preset="quick", device="cpu"))


def test_the_rates_of_a_range_test_grow_geometrically_to_its_ends(small):
    test = p42.range_test(small, {"lowest": 1e-4, "highest": 1.0, "batch_size": 30, "epochs": 2})
    assert len(test["rates"]) == len(test["losses"]) == 6
    assert test["rates"][0] == pytest.approx(1e-4) and test["rates"][-1] == pytest.approx(1.0)
    assert np.diff(np.log(test["rates"])) == pytest.approx(np.log(1e4) / 5)


def test_every_candidate_of_a_seed_starts_from_the_same_network(small):
    config = {"dataset": "digits", "images": 100, "precision": "float32", "seed": 3}
    first, second = (Training(config, Options(preset="quick", device="cpu")) for _ in range(2))
    others = second.trainer.model.state_dict()
    for name, value in first.trainer.model.state_dict().items():
        assert torch.equal(value, others[name]), name
    assert not first.trainer.optimizer.state_dict()["state"]
    assert not torch.equal(first.trainer.model.stages[0][0].weight, small.trainer.model.stages[0][0].weight)


def test_the_test_set_is_evaluated_with_the_last_weights_and_with_those_of_the_best_epoch(monkeypatch):
    """The second epoch is made the best of three; a run that ends with it has its weights."""
    faster = {"batch_norm": True, "dropout": EVERYWHERE}
    monkeypatch.setattr(training_run, "NETWORK", lambda share: LeNet5(**faster))
    config = {"dataset": "digits", "images": 120, "precision": "float32", "seed": 0}
    options = Options(preset="quick", device="cpu")
    accuracies = iter([0.5, 0.9, 0.1])

    def run(epochs):
        fresh = Training(config, options)
        sizes = batch_sizes(len(fresh.training_indices), 36)
        return fresh, [(sizes, np.full(len(sizes), 0.01))] * epochs

    first, plan = run(3)
    evaluate = first.evaluate

    def ranked(indices):
        loss, accuracy = evaluate(indices)
        return loss, next(accuracies) if indices is first.validation_indices else accuracy

    monkeypatch.setattr(first, "evaluate", ranked)
    result = first.follow(plan)
    assert result["selected_epoch"] == 2 and not result["stopped"] and result["updates"] == 9
    for epochs, kind in ((3, "test"), (2, "selected_test")):
        again, plan = run(epochs)
        for sizes, rates in plan:
            again.epoch(sizes, rates)
        loss, accuracy = again.trainer.evaluate(again.test_pixels, again.test_labels)
        assert (result[f"{kind}_loss"], result[f"{kind}_accuracy"]) == pytest.approx((loss, accuracy), rel=1e-6)
    assert result["test_loss"] != result["selected_test_loss"]


def made_up_runs(rates):
    """Return the table of candidates at these rates and of one range test, as sweep does; the curves are made up."""
    tested = np.geomspace(p42.LOWEST, p42.HIGHEST, 3 * 860)
    common = {"dataset": "fashion_mnist", "batch_size": 64, "images": 60_000, "seed": 0}
    curve = {"train_loss": [1.0], "validation_accuracy": [0.5], "candidate_diverged": False, "epochs": 5}
    rows = []
    for rate, loss in zip(rates, ramp(rates), strict=True):
        rows.append({**common, **curve, "part": "candidate", "learning_rate": rate, "batch_loss": [float(loss)]})
    test = {"epochs": 3, "lowest": p42.LOWEST, "rates": tested.tolist(), "losses": ramp(tested).tolist()}
    rows.append({**common, **test, "part": "continuous"})
    return pd.DataFrame(rows)


def test_the_range_is_the_settled_one_and_the_readings_stand_beside_it():
    summary = p42.summarise(made_up_runs(RATES), settled=(1e-6, 0.5))
    assert (summary["lr_min"], summary["lr_max"]) == (1e-6, 0.5)
    tested = made_up_runs(RATES).iloc[-1]
    low, high = falling_range(tested.rates, debiased_average(tested.losses))
    continuous = summary["continuous"]
    assert (continuous["lr_min"]["mean"], continuous["lr_max"]["mean"]) == pytest.approx((low, high))
    reading = summary["candidates_reading"]
    assert (reading["lr_min"], reading["lr_max"]) == falling_range(RATES, ramp(RATES))


def test_the_recorded_range_tests_still_give_the_range_that_the_later_questions_train_with():
    summary = json.loads((ROOT / "report" / "results" / f"{p42.STEM}.json").read_text())
    read = [float(f"{summary['continuous'][name]['mean']:.0e}") for name in ("lr_min", "lr_max")]
    assert read == [p42.LR_MIN, p42.LR_MAX] == [summary["lr_min"], summary["lr_max"]]


def test_without_a_fall_there_is_no_reading():
    frame = made_up_runs(RATES)
    frame["losses"] = [np.full(3 * 860, 2.3)] * len(frame)
    assert p42.summarise(frame, settled=(1e-6, 0.5))["continuous"]["lr_min"]["n"] == 0


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
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
