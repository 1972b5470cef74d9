"""Questions 4.3 to 4.7: the schedules are Smith's, the plans compare what the questions ask to compare."""

import json
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from coms6998_hw2 import p4_2_learning_rate_range as p4_2
from coms6998_hw2 import p4_3_cyclical_learning_rate as p4_3
from coms6998_hw2 import p4_4_batch_size_range as p4_4
from coms6998_hw2 import p4_6_cyclical_batch_size as p4_6
from coms6998_hw2.problem_4.automatic_batch_size import power_of_two
from coms6998_hw2.problem_4.range_rules import batch_size_range
from coms6998_hw2.problem_4.training_run import CURVES
from utils.cli import ROOT, Options
from utils.records import read_runs, write_summary
from utils.runs import sweep

LOW, HIGH, GAMMA = 1e-5, 1e-2, 0.99994


def updates_of(plan):
    return sum(len(sizes) for sizes, _ in plan)


def rates_of(plan):
    return np.concatenate([rates for _, rates in plan])


@pytest.mark.parametrize(("mode", "gamma"), [("exp_range", 0.99), ("triangular", 1.0)])
def test_cyclical_rates_are_pytorchs(mode, gamma):
    step, updates = 50, 330
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LOW)
    scheduler = torch.optim.lr_scheduler.CyclicLR(
        optimizer, LOW, HIGH, step, mode=mode, gamma=gamma, cycle_momentum=False
    )
    theirs = []
    for _ in range(updates):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    ours = p4_3.cyclical_rates(updates, lr_min=LOW, lr_max=HIGH, cycle=2 * step, gamma=gamma)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def config_43(arm, **changes):
    policy = {"lr_min": LOW, "lr_max": HIGH, "gamma": GAMMA if arm == "cyclical" else 1.0}
    return {"arm": arm, **policy, "batch_size": 64, "step_epochs": 2, "epochs": 12, **changes}


def test_the_protocol_is_three_cycles_of_4_epochs_that_end_at_lr_min_with_half_of_the_amplitude():
    (config, *_) = p4_3.configs("full", LOW, HIGH)
    assert config["arm"] == "cyclical" and config_43("cyclical").items() <= config.items()
    plan = p4_3.plan(config, 55_000)
    rates = rates_of(plan)
    assert len(plan) == 12 and len(rates) == 12 * 860
    peaks = [int(np.argmax(part)) for part in np.split(rates, 3)]
    # The decay moves a peak's maximum by nothing: it is a corner. It takes 46% of the amplitude in 12 epochs.
    assert peaks == [2 * 860] * 3 and rates[0] == LOW and rates[-1] < LOW + 2e-5
    assert 0.5 < GAMMA ** len(rates) < 0.55
    assert (rates[10 * 860] - LOW) / (HIGH - LOW) == pytest.approx(GAMMA ** (10 * 860))


def test_the_last_run_is_the_posts_three_cycles_of_16_epochs():
    *_, config = p4_3.configs("full", LOW, HIGH)
    assert config["name"] == "cyclical_48_epochs_seed0"
    assert config_43("cyclical", step_epochs=8, epochs=48).items() <= config.items()
    rates = rates_of(p4_3.plan(config, 640))
    assert [int(np.argmax(part)) for part in np.split(rates, 3)] == [8 * 10] * 3


def test_the_other_arms():
    for arm, rate in (("constant_lr_min", LOW), ("constant_lr_max", HIGH)):
        assert set(rates_of(p4_3.plan(config_43(arm), 640))) == {rate}
    triangular = rates_of(p4_3.plan(config_43("triangular"), 640))
    assert triangular[20] == triangular[60] == triangular[100] == pytest.approx(HIGH)
    one = rates_of(p4_3.plan(config_43("one_cycle", epochs=6), 640))
    assert one.max() == pytest.approx(HIGH) and np.argmax(one) == pytest.approx(18, abs=1) and one[-1] < one[0] < HIGH


def test_at_the_same_rate_per_image_a_mirrored_curve_has_no_gap():
    """A loss that is a function of rate / batch alone; rates beyond the batches have nothing to compare."""

    def loss(ratio):
        return 1 - math.log10(ratio)

    rates = np.geomspace(1e-4, 1e-1, 7)
    curve = [{"rate": rate, "loss": {"mean": loss(rate / 64), "n": 1}} for rate in rates]
    sizes = [64, 128, 512, 8192]
    swept = pd.DataFrame([{"batch_size": size, "seed": 0, "batch_loss": [3.0, loss(1e-3 / size)]} for size in sizes])
    further = swept.assign(seed=1, batch_loss=[[3.0, 2.0]] * 4)  # a seed that the rates do not have
    rows = p4_4.mirrored(pd.concat([swept, further]), 1e-3, {"candidates": curve, "protocol": {"batch_size": 64}})
    assert [row["rate"] for row in rows] == pytest.approx([1e-4, 10**-3.5, 1e-3])
    assert [row["batch_size"] for row in rows] == pytest.approx([640, 64 * 10**0.5, 64])
    assert [row["loss_at_rate"] for row in rows] == pytest.approx([row["loss"] for row in rows])


def test_the_batch_size_range_is_where_the_loss_rises():
    sizes = 2 ** np.arange(6, 14)
    losses = np.interp(np.log2(sizes), [7, 11], [0.5, 2.3])
    b_min, b_max = batch_size_range(sizes, losses)
    assert 2**7 < b_min < 2**7.5 and 2**10.5 < b_max < 2**11
    with pytest.raises(ValueError, match="never falls"):
        batch_size_range(sizes, np.full(8, 2.3))


def test_the_large_rate_is_a_candidate_of_question_4_2_and_its_runs_are_named_apart(monkeypatch):
    assert p4_4.LARGE_RATE in p4_2.RATES
    assert np.argmin(np.abs(np.log(p4_2.RATES / 0.77))) == list(p4_2.RATES).index(p4_4.LARGE_RATE)
    full = p4_4.PRESETS["full"]
    monkeypatch.setitem(p4_4.PRESETS, "full", replace(full, seeds={"lr_min": 1, "large rate": 1}))
    runs = p4_4.configs("full", 2e-5)
    small, large = runs[:10], runs[10:]
    assert [run["batch_size"] for run in large[:8]] == p4_4.BATCH_SIZES
    for here, there in zip(small, large, strict=True):
        assert (there["name"], there["part"]) == (f"large_rate_{here['name']}", f"{here['part']}, large rate")
        assert {**there, "name": here["name"], "part": here["part"], "learning_rate": 2e-5} == here
        assert there["learning_rate"] == p4_4.LARGE_RATE


def made_up_candidates(losses):
    rows = []
    for size, loss in zip((64, 128, 256, 512), losses, strict=True):
        updates = np.linspace(3, loss, 2048 // size)
        rows.append({"batch_size": size, "seed": 0, "batch_loss": [3.0, loss], "update_losses": updates})
    return pd.DataFrame(rows)


def test_the_batch_size_range_is_read_off_the_last_losses():
    swept = made_up_candidates([0.5, 1.0, 2.0, 2.3])
    assert p4_4.reading(swept[::-1]) == batch_size_range([64, 128, 256, 512], [0.5, 1.0, 2.0, 2.3])
    assert np.isnan(p4_4.reading(made_up_candidates([2.3, 2.3, 2.3, 2.3]))).all()


def test_seed_0_still_reads_the_batch_sizes_that_question_46_trains_with():
    summary = json.loads((ROOT / "report" / "results" / f"{p4_4.STEM}.json").read_text())
    read = [power_of_two(summary["readings"][name][0], 64, 8192) for name in ("b_min", "b_max")]
    assert read == [p4_4.B_MIN, p4_4.B_MAX] == [summary["b_min"], summary["b_max"]]


def test_sizes_are_compared_after_the_updates_that_they_have_made():
    swept = made_up_candidates([0.5, 1.0, 2.0, 2.3])
    assert p4_4.update_levels(swept) == [4, 8, 16]  # what 512, 256 and 128 make; 64 alone makes 32
    level = p4_4.at_equal_updates(swept, 8)
    assert set(level["loss"]) == {"64", "128", "256"} and level["updates"] == 8
    expected = np.linspace(3, 0.5, 32)[6:8].mean()  # the last fifth of 8, rounded
    assert level["loss"]["64"]["mean"] == pytest.approx(expected)


def config_46(arm, **changes):
    policy = {"lr_min": LOW, "lr_max": HIGH, "gamma": GAMMA, "b_min": 64, "b_max": 512}
    return {"arm": arm, **policy, "batch_size": 64, "micro_batch": 64, "cycle_epochs": 2, "epochs": 6, **changes}


TRAINED = list(p4_6.SEEDS)


@pytest.mark.parametrize("arm", TRAINED)
def test_every_plan_sees_every_image_once_an_epoch(arm):
    plan = p4_6.plan(config_46(arm), 5000)
    whole = plan[:-1] if arm == "equal_updates" else plan  # that one ends where its updates are made
    assert all(sizes.sum() == 5000 and len(sizes) == len(rates) for sizes, rates in whole)
    assert len(plan) == 6 or arm == "equal_updates"
    # all but an epoch's last batch are whole micro-batches
    assert all(size % 64 == 0 for sizes, _ in plan for size in sizes[:-1])


def noise(plan):
    """Return rate / batch at every sample."""
    return np.concatenate([np.repeat(rates / sizes, sizes) for sizes, rates in plan])


def test_the_matched_arms_have_the_same_noise_at_every_sample_up_to_one_batch():
    batch, rate = (noise(p4_6.plan(config_46(arm), 50_000)) for arm in ("matched", "matched_rate"))
    assert len(batch) == len(rate) == 6 * 50_000
    difference = np.abs(np.log(batch / rate))
    # They differ where the growing batch changes within a batch of the other, by what it changes.
    assert np.median(difference) < 1e-9 and difference.max() < 0.4 and np.mean(difference > 0.2) < 0.02
    assert batch.max() / batch.min() > 3  # and it does change


def test_the_mirrored_batch_at_lr_max_has_the_noise_of_the_cyclical_rate_that_starts_at_the_least_of_it():
    """Rate / batch at the start of each update: 4.3's triangle from lr_max / 8 at batch 64, for b_max = 8 b_min."""
    config = config_46("mirrored_at_lr_max", micro_batch=1)
    images, cycle = 50_000, 100_000
    decay = GAMMA ** (782 / images)  # 782 updates of 64 in an epoch
    for epoch, (sizes, rates) in enumerate(p4_6.plan(config, images)):
        seen = epoch * images + np.cumsum(sizes) - sizes
        height = (1 - np.abs(2 * (seen / cycle % 1) - 1)) * decay**seen
        wanted = (HIGH / 8 + (HIGH - HIGH / 8) * height) / 64
        np.testing.assert_allclose(rates / sizes, wanted, rtol=1 / 128)  # sizes are whole: half an image of 64


def test_each_arm_of_a_batch_policy_is_what_its_row_says():
    updates = {}
    for arm in ("mirrored", "mirrored_at_lr_max", "mirrored_shrinking", "mirrored_shrinking_at_lr_max"):
        plan = p4_6.plan(config_46(arm), 50_000)
        whole = np.concatenate([rates[:-1] for _, rates in plan])
        assert set(whole) == {HIGH if arm.endswith("lr_max") else LOW}
        assert plan[0][0][0] == (64 if "shrinking" in arm else 512)
        updates[arm] = updates_of(plan)
    geometric = updates_of(p4_6.plan(config_46("cyclical_batch_size"), 50_000))
    assert updates["mirrored"] == updates["mirrored_at_lr_max"] > 1.3 * geometric


def test_growing_and_shrinking_end_where_they_should():
    growing, shrinking = (p4_6.plan(config_46(arm), 50_000) for arm in ("cyclical_batch_size", "opposite"))
    assert growing[0][0][0] == 512 and shrinking[0][0][0] == 64
    assert growing[-1][0][:-1].min() > growing[0][0].min() and shrinking[-1][0].max() < 512
    assert updates_of(growing) < updates_of(shrinking)
    assert {rate for _, rates in growing for rate in rates} == {LOW}


def test_the_batch_decays_in_an_epoch_as_the_rate_does():
    """At the middle of a cycle the batch is b_max (b_min / b_max)^amplitude, the amplitude that of 4.3's rate."""
    config = config_46("cyclical_batch_size", micro_batch=1, cycle_epochs=4, epochs=12)
    sizes = [epoch_sizes[0] for epoch_sizes, _ in p4_6.plan(config, 55_000)]
    for peak in (2, 6, 10):
        assert sizes[peak] == pytest.approx(512 * (64 / 512) ** (GAMMA ** (860 * peak)), rel=0.01)


def test_the_squeezed_rate_has_question_43s_cycles_and_decay_in_equally_many_updates():
    batch, rate = (p4_6.plan(config_46(arm, b_min=128), 50_000) for arm in ("cyclical_batch_size", "equal_updates"))
    assert updates_of(rate) == updates_of(batch) and len(rate) < len(batch)
    assert {size for sizes, _ in rate for size in sizes[:-1]} == {64}
    rates = rates_of(rate)
    peaks = [int(np.argmax(part)) for part in np.array_split(rates, 3)]
    assert peaks == pytest.approx([updates_of(rate) / 6] * 3, abs=3)
    whole = 6 * 782  # the updates of question 4.3's policy, over which its amplitude decays as much
    assert rates.max() - LOW == pytest.approx((HIGH - LOW) * GAMMA ** (whole / 6), rel=1e-3)


def test_shrinking_is_compared_at_lr_max_too():
    growing, shrinking = (p4_6.plan(config_46(arm), 50_000) for arm in ("matched", "matched_opposite"))
    assert shrinking[0][0][0] == 64 and growing[0][0][0] == 512
    assert {rate for _, rates in shrinking for rate in rates[:-1]} == {HIGH}


def rates(**changes):
    return p4_3.cyclical_rates(60, **{"lr_min": LOW, "lr_max": HIGH, "cycle": 20, **changes})


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: rates(lr_min=HIGH, lr_max=LOW), "from 0.01 to 1e-05"),
        (lambda: rates(lr_min=0), "must be positive"),
        (lambda: rates(lr_max=math.inf), "finite"),
        (lambda: rates(cycle=0), "a cycle is 0 updates"),
        (lambda: rates(gamma=1.01), "gamma is 1.01"),
        (lambda: p4_6.plan(config_46("largest"), 5000), "'largest'.*cyclical_batch_size, opposite"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_the_accuracy_around_the_peak_of_a_cycle():
    runs = pd.DataFrame({"step_epochs": [1, 1], "validation_accuracy": [[0.1, 0.2, 0.3, 0.4, 0.5, 0.7], [0.5] * 5]})
    assert p4_3.around_peak(runs[:1], 0) == [None, 0.1, 0.2]
    assert p4_3.around_peak(runs[:1], 1) == [0.2, 0.3, 0.4]
    assert p4_3.around_peak(runs, 2) == [0.4, 0.5, 0.7]  # which the second run, stopped before, does not reach


def made_up_runs(stopped):
    """Return the table of all arms of 4.3 and of 4.6, as sweep does: made-up curves, the `stopped` arm ends early.

    4.3's last row is the long run.
    """
    frames = []
    for arms in (p4_3.ARMS, p4_6.ARMS):
        rows = []
        for arm in arms:
            length = 3 if arm == stopped else 12
            curve = np.linspace(1.0, 0.5, length).tolist()
            if arm == stopped:
                curve[-1] = None
            config = config_46(arm) | config_43(arm) | {"dataset": "fashion_mnist", "images": 60_000, "seed": 0}
            curves = dict.fromkeys(CURVES, curve)
            kept = {"sizes": [16] * length, "rates": [LOW] * length, "epoch_updates": [9] * length}
            end = {"test_accuracy": curve[-1], "test_loss": curve[-1], "selected_test_accuracy": 0.5}
            rows.append({**config, **curves, **kept, **end, "stopped": arm == stopped, "updates": 9 * length})
        frames.append(pd.DataFrame(rows))
    rates, batches = frames
    whole = [np.arange(1.0, 49.0).tolist()]  # one row's
    long = rates.iloc[:1].assign(
        epochs=48, step_epochs=8, updates=480, test_accuracy=0.9, **dict.fromkeys(CURVES, whole)
    )
    return pd.concat([rates, long], ignore_index=True), batches


@pytest.mark.parametrize("stopped", [*p4_3.ARMS, *TRAINED])
def test_a_run_that_stopped_early_is_summarised_and_drawn(stopped):
    rates, batches = made_up_runs(stopped)
    summary = p4_3.summarise(rates)
    assert {arm for arm, row in summary["test_accuracy"].items() if row["n"] == 0} == {stopped} & set(p4_3.ARMS)
    assert summary["long"]["cycle_ends"]["validation_loss"] == [16, 32, 48]
    assert summary["long"]["test_accuracy"] == 0.9 and summary["long"]["final_amplitude"] == GAMMA**480
    p4_3.draw(rates)
    p4_3.draw_long(rates)
    summary = p4_6.summarise(batches)
    assert {arm for arm, row in summary["test_accuracy"].items() if row["n"] == 0} == {stopped} & set(TRAINED)
    assert summary["differences"]["test_accuracy"]["matched_minus_matched_rate"]["n"] == (
        stopped not in ("matched", "matched_rate")
    )
    of_the_rate = batches.arm == p4_6.RATE_ARM
    p4_6.draw(batches[~of_the_rate], batches[of_the_rate])
    plt.close("all")


def test_the_rates_runs_that_46_reads_are_those_of_the_protocol(tmp_path):
    """A longer run of the same arm lies in the same folder; and without any run one sentence says what to do."""
    options = Options(output=tmp_path)
    configs = [{"arm": "cyclical", "epochs": epochs, "seed": seed} for epochs in (12, 48) for seed in (1, 0)]
    sweep(
        p4_3.STEM,
        lambda config, options: {"value": config["epochs"], "environment": {"precision": "float32", "device": "cpu"}},
        configs,
        options,
        workers=1,
    )
    runs = read_runs(p4_3.STEM, options, arm="cyclical", epochs=12)
    assert runs.value.tolist() == [12, 12] and runs.seed.tolist() == [0, 1]
    with pytest.raises(SystemExit, match=rf"no record of .*'epochs': 24.*run the script {p4_3.STEM}\.py"):
        read_runs(p4_3.STEM, options, arm="cyclical", epochs=24)


def test_a_summarys_rounded_number_finds_the_record_of_the_exact_one(tmp_path):
    options = Options(output=tmp_path)
    config = {"arm": "cyclical", "gamma": 0.99994321, "seed": 0}  # 0.999943 in a summary
    sweep(
        p4_3.STEM,
        lambda config, options: {"value": 1, "environment": {"precision": "float32", "device": "cpu"}},
        [config],
        options,
        workers=1,
    )
    assert len(read_runs(p4_3.STEM, options, gamma=0.999943)) == 1


def test_a_key_of_43s_protocol_that_is_no_configs_is_not_looked_for(tmp_path):
    """With a summary that says more than it did, the runs are found and 4.6's configs are the same."""
    policy = config_43("cyclical") | {"dataset": "fashion_mnist", "images": 60_000}
    wanted = p4_6.configs("full", policy, 64, 2048)
    assert p4_6.configs("full", policy | {"momentum_of_the_optimizer": 0.9}, 64, 2048) == wanted
    options = Options(output=tmp_path, replot=True)
    about = {"preset": "full", "dataset": "fashion_mnist"}
    write_summary(p4_3.STEM, {"protocol": policy | {"momentum_of_the_optimizer": 0.9}, **about}, options)
    write_summary(p4_4.STEM, {"b_min": 64, "b_max": 2048, **about}, options)
    answer = {"value": 1, "environment": {"precision": "float32", "device": "cpu"}}
    sweep(p4_3.STEM, lambda config, options: answer, [policy | {"seed": 0}], Options(output=tmp_path), workers=1)
    with pytest.raises(SystemExit, match=rf"^{p4_6.STEM}: {len(wanted)} of {len(wanted)} runs are not recorded"):
        p4_6.main(["--replot", "--output", str(tmp_path)])  # and not: no record of the rate's runs


@pytest.mark.parametrize("script", [p4_3, p4_4, p4_6])
@pytest.mark.parametrize(("key", "other"), [("preset", "quick"), ("dataset", "digits")])
def test_a_summary_of_another_preset_or_data_set_is_refused_before_anything_runs(script, key, other, tmp_path):
    about = {"preset": "full", "dataset": "fashion_mnist", key: other}
    for stem in ("p4_2_learning_rate_range", p4_3.STEM, p4_4.STEM):
        write_summary(stem, about, Options(output=tmp_path))
    with pytest.raises(SystemExit, match=rf"is of the {key} {other}, and this run's is .*Nothing was run\.$"):
        script.main(["--replot", "--output", str(tmp_path)])
    assert not (tmp_path / "results" / script.STEM).exists()
