"""What the COMS6998 report says of problem 4, asserted from the committed summaries."""

import json

import numpy as np
from claims import LITERATURE, RESULTS, summary

P41, P42 = summary("p4_1_fashion_mnist"), summary("p4_2_learning_rate_range")
P43, P44 = summary("p4_3_cyclical_learning_rate"), summary("p4_4_batch_size_range")
P46 = summary("p4_6_cyclical_batch_size")
REACHED = [row for row in P42["candidates"] if row["loss"]["n"] > 0]
LOSSES = [row["loss"]["mean"] for row in P44["candidates"]]
NOISE = [row["mean"] for row in P44["noise_scale"]]


def _nearest(rate):
    return min(REACHED, key=lambda row: abs(np.log(row["rate"] / rate)))


def _best_rate(key):
    return min(REACHED, key=lambda row: row[key]["mean"])["rate"]


def _leads(summary, arm, other):
    """Return by how much an arm is more accurate than another after the last epoch, seed by seed."""
    return np.subtract(summary["accuracy_by_seed"][arm], summary["accuracy_by_seed"][other])


# 4.1
def test_no_test_image_is_among_the_training_images():
    assert P41["duplicates"] == {"test_in_training": 0, "within_training": 0}


def test_the_classes_are_balanced():
    for counts in P41["per_class"].values():
        assert len(set(counts)) == 1


# 4.2
def test_the_range_is_about_the_posts():
    for name in ("lr_min", "lr_max"):
        assert 1 / 3 < P42[name] / LITERATURE["rosebrock"][name] < 3


def test_a_mean_since_the_epoch_began_leaves_the_plateau_later():
    assert P42["continuous"]["shift_lr_min"]["low"] > 1


def test_the_candidates_fall_begins_at_lower_rates_than_the_range_tests():
    assert P42["candidates_reading"]["lr_min"] < P42["continuous"]["lr_min"]["low"]


def test_at_the_candidates_reading_nothing_is_learned():
    assert _nearest(P42["candidates_reading"]["lr_min"])["validation_accuracy"]["mean"] < 0.12
    assert _nearest(P42["lr_min"])["validation_accuracy"]["mean"] > 0.7


def test_three_candidates_and_a_range_test_ran_in_single_precision():
    records = [json.loads(path.read_text()) for path in (RESULTS / "p4_2_learning_rate_range").glob("*.json")]
    single = [record["config"] for record in records if record["environment"]["precision"] == "float32"]
    rates = sorted(config["learning_rate"] for config in single if config["part"] == "candidate")
    np.testing.assert_allclose(rates, [row["rate"] for row in P42["candidates"][:3]], rtol=1e-5)
    assert [config["seed"] for config in single if config["part"] == "continuous"] == [0]


def test_in_evaluation_mode_a_lower_rate_is_best():
    assert _best_rate("evaluation_loss") < _best_rate("loss")


# 4.3
def test_in_the_second_and_third_cycle_accuracy_falls_at_the_peak_and_recovers():
    for before, peak, end in P43["around_peaks"][1:]:
        assert peak < before and peak < end


def test_in_the_first_cycle_it_rises():
    _, peak, end = P43["around_peaks"][0]
    assert peak < end


def test_after_the_last_epoch_no_other_schedule_up_to_lr_max_is_resolved():
    for arm in ("triangular", "one_cycle", "constant_lr_max"):
        difference = P43["against_cyclical"][arm]["test_accuracy"]
        assert difference["n"] == 3
        assert difference["low"] < 0 < difference["high"]


def test_one_cycle_has_the_lower_test_loss():
    assert P43["against_cyclical"]["one_cycle"]["test_loss"]["high"] < 0


def test_the_constant_lr_max_is_behind_with_every_seed():
    assert np.all(_leads(P43, "cyclical", "constant_lr_max") > 0)


def test_at_its_best_validation_epoch_the_constant_lr_max_is_behind():
    assert P43["against_cyclical"]["constant_lr_max"]["selected_test_accuracy"]["high"] < 0


def test_the_long_run_is_above_the_short_ones():
    assert P43["long"]["test_accuracy"] > max(P43["accuracy_by_seed"]["cyclical"])


def test_a_constant_lr_min_falls_far_behind():
    assert P43["against_cyclical"]["constant_lr_min"]["test_accuracy"]["high"] < -0.15


def test_after_the_first_long_cycle_it_is_the_training_loss_that_falls():
    ends = P43["long"]["cycle_ends"]
    assert ends["train_loss"][2] < 0.6 * ends["train_loss"][0]
    assert ends["validation_loss"][2] > 0.9 * ends["validation_loss"][0]
    assert sorted(ends["validation_accuracy"]) == ends["validation_accuracy"]


# 4.4, 4.5
def test_they_agree_where_both_were_measured():
    assert len(P44["mirrored"]) == 2
    for row in P44["mirrored"]:
        assert abs(row["loss"] - row["loss_at_rate"]) < 0.01


def test_there_is_no_right_branch():
    assert sorted(LOSSES) == LOSSES


def test_after_equally_many_updates_the_batch_hardly_matters():
    levels = [[row["mean"] for row in level["loss"].values()] for level in P44["equal_updates"]]
    assert max(np.ptp(losses) for losses in levels) < 0.05
    assert levels[0][0] - levels[-1][0] > 0.5 * np.ptp(LOSSES)  # most of the way down


def test_further_seeds_read_the_same_powers_of_two():
    for name, readings in P44["readings"].items():
        assert {2 ** round(np.log2(reading)) for reading in readings} == {P44[name]}


def test_the_growing_batch_falls_behind_at_once():
    assert P44["range_stop"] == {"n": 3, **dict.fromkeys(("low", "mean", "high"), 2 * P44["protocol"]["micro_batch"])}


def test_the_noise_scale_grows_while_the_loss_falls():
    assert sorted(NOISE) == NOISE


def test_the_algorithm_agrees_with_the_figure():
    assert P44["automatic"] == {"b_min": P44["b_min"], "b_max": P44["b_max"]}
    assert P44["b_min"] == P44["candidates"][0]["batch_size"]


# 4.6, 4.7
def test_at_equal_noise_the_batch_ends_with_the_higher_training_loss():
    assert P46["differences"]["train_loss"]["matched_minus_matched_rate"]["low"] > 0


def test_at_lr_min_shrinking_gets_further():
    for key in ("test_accuracy", "selected_test_accuracy"):
        assert P46["differences"][key]["cyclical_batch_size_minus_opposite"]["high"] < -0.05
    assert P46["updates"]["opposite"] > 2 * P46["updates"]["cyclical_batch_size"]


def test_after_equally_many_updates_the_two_are_as_far():
    shrinking, growing = P46["opposite_at_equal_updates"], P46["updates"]["cyclical_batch_size"]
    assert abs(shrinking["updates"] - growing) < 0.01 * growing
    assert abs(shrinking["train_loss"]["mean"] - P46["train_loss"]["cyclical_batch_size"]["mean"]) < 0.01


def test_at_lr_max_growing_ends_ahead_with_every_seed():
    assert np.all(_leads(P46, "matched", "matched_opposite") > 0)
    assert P46["updates"]["matched_opposite"] > 2 * P46["updates"]["matched"]


def test_the_lead_at_lr_max_is_not_resolved():
    difference = P46["differences"]["test_accuracy"]["matched_minus_matched_opposite"]
    assert difference["low"] < 0 < difference["high"]


def test_at_the_best_epoch_no_difference_is_resolved():
    difference = P46["differences"]["selected_test_accuracy"]["matched_minus_matched_opposite"]
    assert difference["low"] < 0 < difference["high"]


def test_updates_alone_do_not_explain_it():
    accuracy = P46["selected_test_accuracy"]
    rate, squeezed, batch = (
        accuracy[arm]["mean"] for arm in ("cyclical_learning_rate", "equal_updates", "cyclical_batch_size")
    )
    assert rate - squeezed < (squeezed - batch) / 2
    assert P46["updates"]["equal_updates"] == P46["updates"]["cyclical_batch_size"]


def test_at_lr_min_a_larger_batch_saves_no_updates():
    losses = next(level for level in P44["equal_updates"] if level["updates"] == 270)["loss"]
    means = {int(size): row["mean"] for size, row in losses.items()}
    assert set(means) == {64, 128, 256, 512, 1024}
    assert max(means.values()) - min(means.values()) < 0.01  # of a fall of more than one
    for noise in NOISE[0], NOISE[-1]:
        assert (1 + noise / 64) / (1 + noise / 1024) > 4  # what the model promises


def test_at_equal_noise_the_two_are_within_one_point():
    difference = P46["differences"]["selected_test_accuracy"]["matched_minus_matched_rate"]
    assert -0.01 < difference["low"] < 0 < difference["high"] < 0.01


def test_the_cyclical_rate_wins_as_asked():
    for key in ("test_accuracy", "selected_test_accuracy"):
        assert P46["differences"][key]["cyclical_batch_size_minus_cyclical_learning_rate"]["high"] < -0.25


def test_with_lr_max_the_same_batches_come_near():
    accuracy = P46["selected_test_accuracy"]
    assert accuracy["cyclical_learning_rate"]["mean"] - 0.02 < accuracy["matched"]["mean"]
    assert accuracy["cyclical_batch_size"]["mean"] + 0.3 < accuracy["matched"]["mean"]
