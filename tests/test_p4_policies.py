"""Questions 4.3 to 4.7: the schedules are Smith's formulas, the plans compare what the questions ask to compare."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from coms6998_hw2 import p4_3_cyclical_learning_rate as p4_3
from coms6998_hw2 import p4_4_batch_size_range as p4_4
from coms6998_hw2 import p4_6_cyclical_batch_size as p4_6
from coms6998_hw2.fashion_training import MOMENTUM, Run, read_results
from coms6998_hw2.range_rules import batch_size_range, mirrored, share_travelled
from utils.cli import Options

LOW, HIGH = 1e-5, 1e-2


def updates_of(plan):
    return sum(len(sizes) for sizes, _ in plan)


@pytest.mark.parametrize("arm", ["cyclical", "triangular"])
def test_cyclical_rates_are_smiths_formula(arm):
    step, updates = 50, 300
    t = np.arange(updates)
    cycle = np.floor(1 + t / (2 * step))
    x = np.abs(t / step - 2 * cycle + 1)
    gamma = 0.05 ** (1 / updates) if arm == "cyclical" else 1.0
    expected = LOW + (HIGH - LOW) * np.maximum(0, 1 - x) * gamma**t
    np.testing.assert_allclose(p4_3.rates(arm, LOW, HIGH, step, updates), expected, rtol=1e-9)


def test_the_full_protocol_is_three_whole_cycles_of_16_epochs_that_end_at_lr_min():
    config = p4_3.configs("full", LOW, HIGH)[0]
    plan = p4_3.plan(config, 55_000)
    rates = np.concatenate([rates for _, rates in plan])
    assert config["arm"] == "cyclical" and len(plan) == 48 == 3 * 16 and updates_of(plan) == 48 * 860
    peaks = [int(np.argmax(part)) for part in np.split(rates, 3)]
    assert peaks == [8 * 860] * 3 and rates[0] == LOW and rates[-1] < 1.01 * LOW + 1e-5
    amplitude = (rates[40 * 860] - LOW) / (HIGH - LOW)  # the last peak, 40 of 48 epochs on
    assert amplitude == pytest.approx(0.05 ** (40 / 48), rel=1e-6)
    assert MOMENTUM == 0.9


def test_the_other_arms():
    assert set(p4_3.rates("constant_lr_min", LOW, HIGH, 10, 60)) == {LOW}
    assert set(p4_3.rates("constant_lr_max", LOW, HIGH, 10, 60)) == {HIGH}
    one = p4_3.rates("one_cycle", LOW, HIGH, 10, 60)
    assert one.max() == pytest.approx(HIGH) and np.argmax(one) == pytest.approx(18, abs=1) and one[-1] < one[0] < HIGH


def test_at_the_same_rate_per_image_a_mirrored_curve_has_no_gap():
    """A loss that is a function of rate / batch alone; one batch beyond the rates has nothing to compare."""

    def loss(ratio):
        return 1 - math.log10(ratio)

    rates = np.geomspace(1e-4, 1e-1, 7)
    curve = [{"rate": rate, "loss": {"mean": loss(rate / 64), "low": None, "high": None, "n": 1}} for rate in rates]
    sizes = [64, 128, 512, 8192]
    listed = [{"batch_size": size, "updates": 10**6, "loss": {"mean": loss(1e-3 / size)}} for size in sizes]
    summary = {"candidates": {"middle": listed}, "protocol": {"middle": 1e-3}}
    found = mirrored(summary, {"candidates": curve, "protocol": {"batch_size": 64}}, momentum=0.9)
    assert [row["rate"] for row in found] == pytest.approx([1e-3, 5e-4, 1.25e-4, 7.8125e-6])
    assert [row["loss_at_rate"] for row in found[:3]] == pytest.approx([row["loss"] for row in found[:3]])
    assert np.isnan(found[3]["loss_at_rate"])
    assert all(row["loss_at_distance"] == pytest.approx(row["loss"], abs=1e-4) for row in found[:3])


@pytest.mark.parametrize("updates", [1, 35, 4300])
def test_few_updates_travel_less_far_than_momentum_would_take_them(updates):
    optimizer = torch.optim.SGD([weight := torch.zeros(1, dtype=torch.float64)], lr=0.01, momentum=0.9)
    for _ in range(updates):
        weight.grad = torch.full_like(weight, -1.0)
        optimizer.step()
    assert share_travelled(updates, 0.9) == pytest.approx(weight.item() / (updates * 0.01 / (1 - 0.9)))


def config_46(arm, **changes):
    return {"arm": arm, "lr_min": LOW, "lr_max": HIGH, "b_min": 64, "b_max": 512, "cycle_epochs": 2, "epochs": 6,
            "batch_size": 64, "micro_batch": 64, **changes}  # fmt: skip


@pytest.mark.parametrize("arm", p4_6.ARMS)
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


def test_growing_and_shrinking_end_where_they_should():
    growing, shrinking = (p4_6.plan(config_46(arm), 50_000) for arm in ("cyclical_batch_size", "opposite"))
    assert growing[0][0][0] == 512 and shrinking[0][0][0] == 64
    assert growing[-1][0][:-1].min() > growing[0][0].min() and shrinking[-1][0].max() < 512
    assert updates_of(growing) < updates_of(shrinking)
    assert {rate for _, rates in growing for rate in rates} == {LOW}


def test_equal_updates_are_question_43s_policy_in_equally_many_updates():
    batch, rate = (p4_6.plan(config_46(arm, b_min=128), 50_000) for arm in ("cyclical_batch_size", "equal_updates"))
    assert updates_of(rate) == updates_of(batch) and len(rate) < len(batch)
    rates = np.concatenate([rates for _, rates in rate])
    assert {size for sizes, _ in rate for size in sizes[:-1]} == {64}
    expected = p4_3.rates("cyclical", LOW, HIGH, round(updates_of(batch) / 6), updates_of(batch))
    np.testing.assert_array_equal(rates, expected)


def test_shrinking_is_compared_at_lr_max_too():
    growing, shrinking = (p4_6.plan(config_46(arm), 50_000) for arm in ("matched", "matched_opposite"))
    assert shrinking[0][0][0] == 64 and growing[0][0][0] == 512
    assert {rate for _, rates in shrinking for rate in rates[:-1]} == {HIGH}


def test_the_distance_of_two_curves_is_a_factor_whichever_is_above():
    assert p4_6.curve_distance([1.0, 0.5], [1.0, 0.5]) == 1
    assert p4_6.curve_distance([2.0, 0.5, 9.0], [1.0, 1.0]) == pytest.approx(2)
    assert p4_6.curve_distance([4.0, 1.0], [1.0, 1.0]) == pytest.approx(2)


def test_the_batch_size_range_is_where_the_loss_rises():
    sizes = 2 ** np.arange(6, 14)
    losses = np.interp(np.log2(sizes), [7, 11], [0.5, 2.3])
    b_min, b_max = batch_size_range(sizes, losses)
    assert 2**7 < b_min < 2**7.5 and 2**10.5 < b_max < 2**11
    with pytest.raises(ValueError, match="never falls"):
        batch_size_range(sizes, np.full(8, 2.3))


@pytest.fixture(scope="module")
def small():
    config = {"dataset": "digits", "images": 100, "precision": "float32", "micro_batch": 8, "seed": 0}
    return Run(config, Options(preset="quick", device="cpu"))


def test_the_range_test_grows_geometrically_and_sees_every_image_once_an_epoch(small):
    config = {"epochs": 2, "smallest": 8, "largest": 32, "micro_batch": 8, "learning_rate": 1e-3}
    found = p4_4.range_test(small, config)
    assert found["sizes"].sum() == 2 * 90 and found["sizes"][0] == 8 and 16 < found["sizes"].max() <= 32
    assert np.all(found["asked"] >= found["sizes"])
    seen = np.cumsum(found["sizes"]) - found["sizes"]
    assert np.all(np.abs(found["asked"] - 8 * 4 ** (seen / 180)) <= 4)  # to the nearest micro-batch
    assert len(found["losses"]) == len(found["sizes"])


def test_measuring_gradients_changes_nothing_and_its_large_batch_is_the_mean(small):
    before = {name: value.clone() for name, value in small.trainer.model.state_dict().items()}
    lengths = p4_4.gradient_lengths(small, {"seed": 0, "steps": 2, "micro_batch": 8})
    assert all(torch.equal(value, before[name]) for name, value in small.trainer.model.state_dict().items())
    assert lengths["b_small"] == 8 and lengths["b_big"] == 88 and len(lengths["small"]) == 2
    torch.manual_seed(0)  # of dropout's masks
    small.trainer.generator.manual_seed(0)  # of the augmentation
    lengths = p4_4.gradient_lengths(small, {"seed": 0, "steps": 1, "micro_batch": 8})
    torch.manual_seed(0)
    small.trainer.generator.manual_seed(0)
    drawn = torch.as_tensor(np.random.default_rng([0, 2]).choice(small.training, 88, replace=False))
    parts = torch.stack([small.trainer.gradient(small.pixels, small.labels, part) for part in drawn.split(8)])
    assert lengths["small"][0] == pytest.approx(float(parts.square().sum(dim=1).mean()), rel=1e-4)
    assert lengths["big"][0] == pytest.approx(float(parts.mean(dim=0).square().sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: p4_3.rates("cyclical", HIGH, LOW, 10, 60), "from 0.01 to 1e-05"),
        (lambda: p4_3.rates("cyclical", 0, LOW, 10, 60), "must be positive"),
        (lambda: p4_3.rates("cyclical", LOW, HIGH, 0, 60), "half a cycle is 0"),
        (lambda: p4_3.rates("cosine", LOW, HIGH, 10, 60), "'cosine'.*cyclical, triangular"),
        (lambda: p4_3.rates("cyclical", LOW, HIGH, 10, 0), "there are 0 updates"),
        (lambda: p4_6.plan(config_46("matched", epochs=0), 5000), "5000 images and 0 epochs"),
        (lambda: p4_6.plan(config_46("matched"), 0), "0 images"),
        (lambda: p4_6.plan(config_46("matched", b_min=1024), 5000), "from 1024 to 512"),
        (lambda: p4_6.plan(config_46("matched", cycle_epochs=0), 5000), "a cycle is 0 samples"),
        (lambda: p4_6.plan(config_46("matched", b_max=8192), 5000), "a batch of 8192; there are 5000 training images"),
        (lambda: p4_6.plan(config_46("largest"), 5000), "'largest'.*cyclical_batch_size, opposite"),
        (lambda: p4_6.plan(config_46("matched", lr_min=-1), 5000), "from -1 to 0.01"),
        (lambda: p4_6.plan(config_46("opposite", lr_max=math.inf), 5000), "finite"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_the_accuracy_at_a_cycles_end_minus_that_at_its_peak():
    accuracies = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]
    assert p4_3._end_minus_peak(1, 0, accuracies) == pytest.approx(0.1)
    assert p4_3._end_minus_peak(1, 2, accuracies) == pytest.approx(0.2)
    assert math.isnan(p4_3._end_minus_peak(1, 2, accuracies[:5]))  # it stopped before


@pytest.mark.parametrize(("text", "named"), [("{}", "lacks complete, lr_min, planned"), ("[1]", "is not a summary")])
def test_a_summary_that_is_none_is_named(text, named, tmp_path):
    options = Options(output=tmp_path)
    options.results_dir.mkdir()
    (options.results_dir / "p4_2_learning_rate_range.json").write_text(text)
    with pytest.raises(SystemExit, match=named):
        read_results("p4_2_learning_rate_range", options, ("lr_min",))


def test_without_question_42s_summary_one_sentence_says_what_to_run(tmp_path):
    with pytest.raises(SystemExit, match=r"p4_2_learning_rate_range\.json is missing: run the script"):
        p4_3.main(["--preset", "quick", "--output", str(tmp_path)])


def stopped_frames(stopped):
    """Return the table of 4.3's arms, and of 4.6's, as run_all does: made-up curves, one run of each `stopped` arm."""
    frames = []
    ranges = {"lr_min": LOW, "lr_max": HIGH}, {"b_min": 16, "b_max": 64}
    fourth = p4_3.configs("full", LOW, HIGH)
    cyclical = [config for config in fourth if config["arm"] == "cyclical"]
    for configs in (fourth, p4_6.configs("full", *ranges, cyclical)):
        rows = []
        for config in configs:
            length = 3 if config["arm"] in stopped else config["epochs"]
            curve = np.linspace(1.0, 0.5, length).tolist()
            if config["arm"] in stopped:
                curve[-1] = None
            end = {"test_accuracy": curve[-1], "test_loss": curve[-1], "selected_test_accuracy": 0.5,
                   "selected_epoch": 1, "stopped": config["arm"] in stopped, "updates": 9 * length}  # fmt: skip
            kept = {"sizes": [16] * length, "rates": [LOW] * length, "epoch_updates": [9] * length}
            curves = dict.fromkeys(("batch_loss", *p4_3.CURVES), curve)
            rows.append({**config, **curves, **end, **kept, "seconds": 1.0,
                         "environment": {"device": "cpu", "precision": "float32"}})  # fmt: skip
        frames.append(pd.DataFrame(rows))
    return frames


@pytest.mark.parametrize("stopped", [*p4_3.ARMS, *p4_6.ARMS])
def test_a_run_that_stopped_early_is_summarised_and_drawn(stopped):
    rates, batches = stopped_frames({stopped})
    summary = p4_3.summarise(rates)
    assert sum(summary["stopped"].values()) == (stopped in p4_3.ARMS) * (rates.arm == stopped).sum()
    assert summary["updates"] == 48 * 860
    p4_3.draw(rates, summary)
    other = rates[rates.arm == "cyclical"]
    assert p4_6.summarise(batches, other)["protocol"]["arms"] == [*batches.arm.unique(), p4_6.OTHER]
    p4_6.draw(batches, other)
    plt.close("all")
