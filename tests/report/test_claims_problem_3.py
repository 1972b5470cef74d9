"""What the COMS6998 report says of problem 3 and of precision, asserted from the committed summaries."""

from claims import summary

P3, SPEED = summary("p3_lenet5"), summary("bench_precision_cpu")


def _dropouts(rate):
    return P3["validation_at_rate"]["dropout"][f"{rate:g}"]


# 3.1 to 3.5
def test_dropouts_running_training_loss_is_not_its_training_loss():
    assert P3["running_train_loss"]["dropout"]["low"] > 2 * P3["final_train_loss"]["dropout"]["high"]


def test_dropout_raises_the_correlation_between_units():
    for layer in ("c5", "f6"):
        assert P3["correlation"]["dropout"][layer]["low"] > P3["correlation"]["none"][layer]["high"]
        assert P3["correlation"]["bn"][layer]["high"] < P3["correlation"]["none"][layer]["low"]


def test_the_deep_layers_drift_less_with_batch_norm_c1s_mean_more():
    for layer in ("c5", "f6"):
        assert P3["drift"]["bn"][layer]["high"] < P3["drift"]["none"][layer]["low"]
    assert P3["drift"]["bn"]["c1"]["low"] > P3["drift"]["none"]["c1"]["high"]
    assert P3["drift"]["bn"]["c3"]["high"] > P3["drift"]["none"]["c3"]["low"]


def test_every_layers_deviation_drifts_less_with_batch_norm():
    for layer, low in P3["deviation_drift"]["none"].items():
        assert P3["deviation_drift"]["bn"][layer]["high"] < low["low"]


def test_what_drifts_at_the_end_with_batch_norm_is_its_running_means_noise():
    assert P3["last_drift"]["bn"]["low"] < P3["last_drift"]["theory"] < P3["last_drift"]["bn"]["high"]


def test_batch_norm_in_the_hidden_layers_helps():
    assert P3["differences"]["bn_minus_none"]["low"] > 0


def test_gamma_grows_above_1_everywhere_most_in_c3_beta_spreads_most_in_c1_least_in_f6():
    for layer in P3["gamma"]["bn"].values():
        assert layer["seeds_mean"]["low"] > 1
    assert max(P3["gamma"]["bn"], key=lambda layer: P3["gamma"]["bn"][layer]["mean"]) == "c3"
    assert [P3["beta"]["bn"][layer]["deviation"] for layer in ("c1", "c3", "c5", "f6")] == sorted(
        (layer["deviation"] for layer in P3["beta"]["bn"].values()), reverse=True
    )


def test_batch_norm_at_the_input_changes_nothing():
    assert P3["input_norm_changes"]["test_loss"] < 0.001
    assert P3["input_norm_changes"]["test_accuracy"] <= 0.0003


def test_the_network_with_dropout_under_fits():
    assert P3["final_train_accuracy"]["dropout"]["high"] < P3["final_train_accuracy"]["none"]["low"]
    assert P3["differences"]["dropout_minus_none"]["high"] < 0


def test_dropout_is_worse_than_batch_norm_with_the_input_or_without():
    assert P3["differences"]["dropout_minus_bn"]["high"] < 0
    assert P3["differences"]["dropout_minus_bn_input"]["high"] < 0


def test_both_stay_far_below_batch_norm_alone_at_either_rate():
    for key in ("differences", "common_differences"):
        for both in ("bn_dropout", "dropout_bn"):
            assert P3[key][f"{both}_minus_bn"]["high"] < -0.008


def test_twice_the_epochs_mend_little_of_what_dropout_costs():
    assert 0 < P3["long"]["dropout"]["minus_short"]["high"] < -0.5 * P3["differences"]["dropout_minus_none"]["mean"]


def test_twice_the_epochs_do_not_bring_both_to_batch_norm_alone():
    for both in ("bn_dropout", "dropout_bn"):
        assert P3["long"][both]["test_accuracy"]["high"] < P3["test_accuracy"]["bn"]["low"] - 0.005


def test_larger_rates_are_far_worse_for_dropout():
    for rate in (0.1, 0.3):
        assert _dropouts(rate)["mean"] < _dropouts(0.03)["low"] - 0.02
    for rate in (0.003, 0.01):
        assert _dropouts(rate)["mean"] < _dropouts(0.03)["mean"]


def test_no_best_rate_lies_at_an_end_of_what_was_tried():
    for variant, scores in P3["validation_at_rate"].items():
        tried = [float(rate) for rate in scores]
        assert min(tried) < P3["learning_rate"][variant] < max(tried)
    for row in P3["images"].values():
        for variant, tried in row["tried"].items():
            assert min(tried) < row["learning_rate"][variant] < max(tried)


def test_both_are_no_better_than_dropout_alone():
    difference = P3["differences"]["bn_dropout_minus_dropout"]
    assert difference["low"] < 0 < difference["high"]
    assert P3["common_differences"]["bn_dropout_minus_dropout"]["high"] < 0


def test_dropout_first_is_better_than_dropout_alone_at_its_own_rate():
    assert P3["differences"]["dropout_bn_minus_dropout"]["low"] > 0
    assert P3["common_differences"]["dropout_bn_minus_dropout"]["mean"] > 0
    assert P3["common_differences"]["dropout_bn_minus_dropout"]["low"] < 0


def test_batch_norms_gain_grows_with_fewer_images():
    assert 0 < P3["differences"]["bn_minus_none"]["high"] < P3["images"]["5500"]["minus_none"]["bn"]["low"]
    assert P3["images"]["5500"]["minus_none"]["bn"]["mean"] < P3["images"]["550"]["minus_none"]["bn"]["mean"]
    assert 0 < P3["images"]["550"]["minus_none"]["bn"]["low"] < P3["images"]["5500"]["minus_none"]["bn"]["high"]


def test_dropout_turns_from_a_cost_into_a_gain_on_average():
    assert P3["differences"]["dropout_minus_none"]["high"] < 0
    assert P3["images"]["5500"]["minus_none"]["dropout"]["mean"] < 0
    assert P3["images"]["550"]["minus_none"]["dropout"]["low"] < 0
    assert P3["images"]["550"]["minus_none"]["dropout"]["mean"] > 0


def test_with_few_images_and_many_epochs_dropout_fits_them():
    assert P3["images"]["550"]["train_accuracy"]["dropout"]["low"] > 0.99
    assert P3["images"]["5500"]["train_accuracy"]["dropout"]["mean"] < 0.98


def test_nothing_is_better_than_batch_norm_alone_with_few_images_either():
    for accuracies in (P3["test_accuracy"], *(row["test_accuracy"] for row in P3["images"].values())):
        assert accuracies["bn"]["mean"] >= max(interval["mean"] for interval in accuracies.values()) - 0.0001


def test_with_fewer_images_no_difference_between_the_orders_is_resolved():
    for row in P3["images"].values():
        assert row["dropout_bn_minus_bn_dropout"]["low"] < 0 < row["dropout_bn_minus_bn_dropout"]["high"]


def test_with_the_fewest_images_both_are_not_told_from_batch_norm_alone():
    for both in ("bn_dropout", "dropout_bn"):
        assert P3["images"]["550"]["minus_bn"][both]["low"] < 0 < P3["images"]["550"]["minus_bn"][both]["high"]


def test_the_benefits_do_not_add_up():
    for key in ("differences", "common_differences"):
        for both in ("bn_dropout", "dropout_bn"):
            assert P3[key]["dropout_minus_none"]["high"] < 0
            assert P3[key][f"{both}_minus_bn"]["high"] < 0


def test_of_the_interactions_one_is_resolved():
    assert [
        (key, both)
        for key in ("differences", "common_differences")
        for both, interval in P3[key]["beyond_the_sum"].items()
        if not interval["low"] < 0 < interval["high"]
    ] == [("common_differences", "bn_dropout")]
    assert P3["common_differences"]["beyond_the_sum"]["bn_dropout"]["high"] < 0


def test_right_before_batch_norm_dropout_shifts_the_variance():
    assert 0.4 < P3["variance_shift"]["dropout_bn"]["c1"]["mean"] < 0.55
    assert P3["variance_shift"]["dropout_bn"]["c5"]["low"] > 1.3
    assert abs(P3["variance_shift"]["bn"]["c5"]["mean"] - 1) < 0.02


def test_and_yet_that_order_is_the_more_accurate_one_here():
    for key in ("differences", "common_differences"):
        assert P3[key]["dropout_bn_minus_bn_dropout"]["low"] > 0


def test_the_noise_is_weaker_in_that_order():
    assert P3["running_train_loss"]["dropout_bn"]["high"] < 0.7 * P3["running_train_loss"]["bn_dropout"]["low"]
    assert abs(P3["final_train_loss"]["dropout_bn"]["mean"] / P3["final_train_loss"]["bn_dropout"]["mean"] - 1) < 0.1


def test_that_order_has_the_higher_training_accuracy_and_no_lower_loss():
    assert P3["final_train_accuracy"]["dropout_bn"]["low"] > P3["final_train_accuracy"]["bn_dropout"]["high"]
    assert P3["final_train_loss"]["dropout_bn"]["mean"] > P3["final_train_loss"]["bn_dropout"]["mean"]
    assert P3["test_loss"]["dropout_bn"]["mean"] > P3["test_loss"]["bn_dropout"]["mean"]


def test_none_and_the_best_variant_are_as_accurate_as_others_report():
    assert P3["test_accuracy"]["none"]["mean"] >= 0.989
    assert P3["test_accuracy"]["bn"]["mean"] >= 0.992


# appendix
def test_bfloat16_is_twice_as_fast_for_minigooglenet_and_slower_for_lenet_5():
    for order in ("channels_last", "contiguous"):
        lenet, google = (
            SPEED[network][f"bfloat16, {order}"]["mean"] / SPEED[network][f"float32, {order}"]["mean"]
            for network in ("lenet5", "mini_googlenet")
        )
        assert lenet < 1 and 1.7 < google < 2.3
