"""What the COMS6998 report says of problems 1 to 3 and in its appendix, asserted from the committed summaries."""

import math

from claims import claim, summary

P1, P21, P22 = summary("p1_perceptron"), summary("p2_1_vanishing_gradients"), summary("p2_2_dying_relu")
P3, SPEED = summary("p3_lenet5"), summary("bench_precision_cpu")


def _dropouts(rate):
    return P3["validation_at_rate"]["dropout"][f"{rate:g}"]


def _error(value):
    share, n = value["fraction"], value["n"]
    return math.sqrt(max(share * (1 - share), 1 / n) / n)


# appendix
@claim("single precision is the fastest here")
def test_single_precision_is_the_fastest_here():
    assert SPEED["lenet5"]["float32, channels_last"]["low"] > SPEED["lenet5"]["float32, contiguous"]["high"]
    for network in ("lenet5", "mini_googlenet"):
        assert min((row["mean"] for name, row in SPEED[network].items() if "float32" in name)) > max(
            (row["mean"] for name, row in SPEED[network].items() if "bfloat16" in name)
        )


# 1.3, 1.4
@claim("the hinge is more accurate after the full budget")
def test_the_hinge_is_more_accurate_after_the_full_budget():
    assert P1["difference"]["low"] > 0


@claim("the main training set is among those on which it loses")
def test_the_main_training_set_is_among_those_on_which_it_loses():
    assert P1["hinge"]["main_accuracy"] < P1["perceptron"]["main_accuracy"]


@claim("with few passes or a small step the hinge is less accurate")
def test_with_few_passes_or_a_small_step_the_hinge_is_less_accurate():
    for name in ("1 pass", "10 passes", "100 passes", "step 0.01"):
        assert P1["variations"][name]["difference"]["high"] < 0


@claim("the hinge comes closer to the maximum margin")
def test_the_hinge_comes_closer_to_the_maximum_margin():
    assert P1["gap_to_maximum_margin"]["hinge"]["high"] < P1["gap_to_maximum_margin"]["perceptron"]["low"]


@claim("the hinge's classes change less")
def test_the_hinges_classes_change_less():
    assert P1["difference_disagreement"]["high"] < 0


@claim("after ten passes the hinge's classes change more")
def test_after_ten_passes_the_hinges_classes_change_more():
    assert P1["variations"]["10 passes"]["difference_disagreement"]["low"] > 0


@claim("from 200 points on the perceptron's change less")
def test_from_200_points_on_the_perceptrons_change_less():
    for n in ("200", "500", "1000"):
        assert P1["sizes"][n]["difference_disagreement"]["low"] > 0.001


@claim("the hinge needs far more updates")
def test_the_hinge_needs_far_more_updates():
    assert P1["hinge"]["updates"]["low"] > 10 * P1["perceptron"]["updates"]["high"]


@claim("with a step of one tenth the two are not told apart")
def test_with_a_step_of_one_tenth_the_two_are_not_told_apart():
    assert P1["variations"]["step 0.1"]["difference"]["low"] < 0 < P1["variations"]["step 0.1"]["difference"]["high"]


@claim("every training set is separated by the perceptron")
def test_every_training_set_is_separated_by_the_perceptron():
    assert P1["perceptron"]["converged"] == 1


@claim("no run exceeds Novikoff's bound")
def test_no_run_exceeds_novikoffs_bound():
    assert P1["largest_share_of_novikoff"] <= 1


# 2.1
@claim("theory predicts the gradient's ratio within a tenth")
def test_theory_predicts_the_gradients_ratio_within_a_tenth():
    for row in (P21[s["name"]] for s in P21["settings"] if s["depth"] == 5):
        assert abs(math.log(row["gradient_ratio_layer5_to_layer1"]["mean"] / row["gradient_ratio_theory"])) < 0.11


@claim("Glorot's tanh trains where small weights do not")
def test_glorots_tanh_trains_where_small_weights_do_not():
    assert P21["tanh_glorot"]["train_loss"]["high"] < 0.2 < 2 < P21["tanh_0.01"]["train_loss"]["low"]


@claim("about 0.14 keeps the gradient of tanh")
def test_about_0_14_keeps_the_gradient_of_tanh():
    assert 0.9 < P21["tanh_0.14"]["gradient_ratio_layer5_to_layer1"]["mean"] < 1.1


@claim("large weights make the gradient of tanh explode")
def test_large_weights_make_the_gradient_of_tanh_explode():
    assert P21["tanh_1"]["gradient_ratio_layer5_to_layer1"]["high"] < 0.1


@claim("hand-tuned deviations train as well as Glorot's")
def test_hand_tuned_deviations_train_as_well_as_glorots():
    for deviation in ("0.1", "0.14"):
        assert P21[f"tanh_{deviation}"]["train_loss"]["mean"] <= P21["tanh_glorot"]["train_loss"]["high"]


@claim("Glorot's sigmoid stays at the loss of guessing")
def test_glorots_sigmoid_stays_at_the_loss_of_guessing():
    assert P21["sigmoid_glorot"]["train_loss"]["low"] > 2.29


@claim("0.28 is the best of the sigmoid's")
def test_0_28_is_the_best_of_the_sigmoids():
    for s in P21["settings"]:
        if s["activation"] == "sigmoid" and s["scheme"] != "0.28":
            assert P21["sigmoid_0.28"]["train_loss"]["high"] < P21[s["name"]]["train_loss"]["low"]


@claim("five layers hardly tell He from Glorot")
def test_five_layers_hardly_tell_he_from_glorot():
    assert (
        P21["relu_glorot_over_he_5_layers"]["all_epochs"]["low"]
        < 1
        < P21["relu_glorot_over_he_5_layers"]["all_epochs"]["high"]
    )


@claim("twenty layers do")
def test_twenty_layers_do():
    assert P21["relu_glorot_over_he_20_layers"]["all_epochs"]["low"] > 1.5
    assert P21["relu_glorot_over_he_20_layers"]["first_epoch"]["low"] > 1.5


@claim("He keeps the gradient of ReLU")
def test_he_keeps_the_gradient_of_relu():
    assert 0.8 < P21["relu_he"]["gradient_ratio_layer5_to_layer1"]["mean"] < 1.2


@claim("twice He's deviation diverges")
def test_twice_hes_deviation_diverges():
    assert P21["relu_0.28"]["diverged"] == P21["protocol"]["seeds"]


@claim("it agrees with over 90%")
def test_it_agrees_with_over_90():
    assert P22["relu"]["collapsed"]["low"] > 0.9


@claim("most are born dead")
def test_most_are_born_dead():
    assert P22["relu"]["born_dead"]["low"] > 0.85


@claim("the absolute error has the largest fraction")
def test_the_absolute_error_has_the_largest_fraction():
    for row in P22["variations"].values():
        assert P22["variations"]["x_sin_5x mae"]["collapsed"]["fraction"] >= row["collapsed"]["fraction"]


@claim("squared error collapses to the mean, absolute error to the median")
def test_squared_error_collapses_to_the_mean_absolute_error_to_the_median():
    assert abs(P22["variations"]["x_sin_5x"]["median_value_of_constant"] + 0.148) < 0.01
    assert abs(P22["variations"]["x_sin_5x mae"]["median_value_of_constant"] - 0.0155) < 0.01


@claim("every simulated probability lies within the bounds")
def test_every_simulated_probability_lies_within_the_bounds():
    for key, value in P22["born_dead"].items():
        assert (
            P22["bounds"][key][0] - 4 * _error(value) <= value["fraction"] <= P22["bounds"][key][1] + 4 * _error(value)
        )


@claim("asymmetric initialization is born dead as rarely as computed")
def test_asymmetric_initialization_is_born_dead_as_rarely_as_computed():
    assert abs(P22["rai"]["born_dead"]["fraction"] - 0.219) < 0.006
    assert abs(P22["rai"]["born_dead_10_hidden"]["fraction"] - 0.254) < 0.006


@claim("leaky ReLU helps")
def test_leaky_relu_helps():
    assert P22["rescued"]["difference"]["low"] > 0.8


@claim("after one epoch it has hardly helped")
def test_after_one_epoch_it_has_hardly_helped():
    assert P22["leaky"]["epochs"]["1"]["collapsed"]["low"] > 0.98


@claim("a larger slope helps more")
def test_a_larger_slope_helps_more():
    assert P22["variations"]["slope 0.3"]["collapsed"]["high"] < P22["leaky"]["collapsed"]["low"]


# 3.1 to 3.5
@claim("dropout's running training loss is not its training loss")
def test_dropouts_running_training_loss_is_not_its_training_loss():
    assert P3["running_train_loss"]["dropout"]["low"] > 2 * P3["final_train_loss"]["dropout"]["high"]


@claim("dropout raises the correlation between units")
def test_dropout_raises_the_correlation_between_units():
    for layer in ("c5", "f6"):
        assert P3["correlation"]["dropout"][layer]["low"] > P3["correlation"]["none"][layer]["high"]
        assert P3["correlation"]["bn"][layer]["high"] < P3["correlation"]["none"][layer]["low"]


@claim("the deep layers drift less with batch norm, C1's mean more")
def test_the_deep_layers_drift_less_with_batch_norm_c1s_mean_more():
    for layer in ("c5", "f6"):
        assert P3["drift"]["bn"][layer]["high"] < P3["drift"]["none"][layer]["low"]
    assert P3["drift"]["bn"]["c1"]["low"] > P3["drift"]["none"]["c1"]["high"]
    assert P3["drift"]["bn"]["c3"]["high"] > P3["drift"]["none"]["c3"]["low"]


@claim("every layer's deviation drifts less with batch norm")
def test_every_layers_deviation_drifts_less_with_batch_norm():
    for layer, low in P3["deviation_drift"]["none"].items():
        assert P3["deviation_drift"]["bn"][layer]["high"] < low["low"]


@claim("what drifts at the end with batch norm is its running mean's noise")
def test_what_drifts_at_the_end_with_batch_norm_is_its_running_means_noise():
    assert P3["last_drift"]["bn"]["low"] < P3["last_drift"]["theory"] < P3["last_drift"]["bn"]["high"]


@claim("batch norm in the hidden layers helps")
def test_batch_norm_in_the_hidden_layers_helps():
    assert P3["differences"]["bn_minus_none"]["low"] > 0


@claim("gamma grows above 1 everywhere, most in C3; beta spreads most in C1, least in F6")
def test_gamma_grows_above_1_everywhere_most_in_c3_beta_spreads_most_in_c1_least_in_f6():
    for layer in P3["gamma"]["bn"].values():
        assert layer["seeds_mean"]["low"] > 1
    assert max(P3["gamma"]["bn"], key=lambda layer: P3["gamma"]["bn"][layer]["mean"]) == "c3"
    assert [P3["beta"]["bn"][layer]["deviation"] for layer in ("c1", "c3", "c5", "f6")] == sorted(
        (layer["deviation"] for layer in P3["beta"]["bn"].values()), reverse=True
    )


@claim("batch norm at the input changes nothing")
def test_batch_norm_at_the_input_changes_nothing():
    assert P3["input_norm_changes"]["test_loss"] < 0.001
    assert P3["input_norm_changes"]["test_accuracy"] <= 0.0003


@claim("the network with dropout under-fits")
def test_the_network_with_dropout_under_fits():
    assert P3["final_train_accuracy"]["dropout"]["high"] < P3["final_train_accuracy"]["none"]["low"]
    assert P3["differences"]["dropout_minus_none"]["high"] < 0


@claim("dropout is worse than batch norm, with the input or without")
def test_dropout_is_worse_than_batch_norm_with_the_input_or_without():
    assert P3["differences"]["dropout_minus_bn"]["high"] < 0
    assert P3["differences"]["dropout_minus_bn_input"]["high"] < 0


@claim("both stay far below batch norm alone at either rate")
def test_both_stay_far_below_batch_norm_alone_at_either_rate():
    for key in ("differences", "common_differences"):
        for both in ("bn_dropout", "dropout_bn"):
            assert P3[key][f"{both}_minus_bn"]["high"] < -0.008


@claim("twice the epochs mend little of what dropout costs")
def test_twice_the_epochs_mend_little_of_what_dropout_costs():
    assert 0 < P3["long"]["dropout"]["minus_short"]["high"] < -0.5 * P3["differences"]["dropout_minus_none"]["mean"]


@claim("twice the epochs do not bring both to batch norm alone")
def test_twice_the_epochs_do_not_bring_both_to_batch_norm_alone():
    for both in ("bn_dropout", "dropout_bn"):
        assert P3["long"][both]["test_accuracy"]["high"] < P3["test_accuracy"]["bn"]["low"] - 0.005


@claim("larger rates are far worse for dropout")
def test_larger_rates_are_far_worse_for_dropout():
    for rate in (0.1, 0.3):
        assert _dropouts(rate)["mean"] < _dropouts(0.03)["low"] - 0.02
    for rate in (0.003, 0.01):
        assert _dropouts(rate)["mean"] < _dropouts(0.03)["mean"]


@claim("no best rate lies at an end of what was tried")
def test_no_best_rate_lies_at_an_end_of_what_was_tried():
    for best, tried in [
        *((P3["learning_rate"][v], [float(rate) for rate in at]) for v, at in P3["validation_at_rate"].items()),
        *((row["learning_rate"][v], at) for row in P3["images"].values() for v, at in row["tried"].items()),
    ]:
        assert min(tried) < best < max(tried)


@claim("both are no better than dropout alone")
def test_both_are_no_better_than_dropout_alone():
    assert (
        P3["differences"]["bn_dropout_minus_dropout"]["low"] < 0 < P3["differences"]["bn_dropout_minus_dropout"]["high"]
    )
    assert P3["common_differences"]["bn_dropout_minus_dropout"]["high"] < 0


@claim("dropout first is better than dropout alone at its own rate")
def test_dropout_first_is_better_than_dropout_alone_at_its_own_rate():
    assert P3["differences"]["dropout_bn_minus_dropout"]["low"] > 0
    assert P3["common_differences"]["dropout_bn_minus_dropout"]["mean"] > 0
    assert P3["common_differences"]["dropout_bn_minus_dropout"]["low"] < 0


@claim("batch norm's gain grows with fewer images")
def test_batch_norms_gain_grows_with_fewer_images():
    assert 0 < P3["differences"]["bn_minus_none"]["high"] < P3["images"]["5500"]["minus_none"]["bn"]["low"]
    assert P3["images"]["5500"]["minus_none"]["bn"]["mean"] < P3["images"]["550"]["minus_none"]["bn"]["mean"]
    assert 0 < P3["images"]["550"]["minus_none"]["bn"]["low"] < P3["images"]["5500"]["minus_none"]["bn"]["high"]


@claim("dropout turns from a cost into a gain on average")
def test_dropout_turns_from_a_cost_into_a_gain_on_average():
    assert P3["differences"]["dropout_minus_none"]["high"] < 0
    assert P3["images"]["5500"]["minus_none"]["dropout"]["mean"] < 0
    assert P3["images"]["550"]["minus_none"]["dropout"]["low"] < 0
    assert P3["images"]["550"]["minus_none"]["dropout"]["mean"] > 0


@claim("with few images and many epochs dropout fits them")
def test_with_few_images_and_many_epochs_dropout_fits_them():
    assert P3["images"]["550"]["train_accuracy"]["dropout"]["low"] > 0.99
    assert P3["images"]["5500"]["train_accuracy"]["dropout"]["mean"] < 0.98


@claim("nothing is better than batch norm alone with few images either")
def test_nothing_is_better_than_batch_norm_alone_with_few_images_either():
    for accuracies in (P3["test_accuracy"], *(row["test_accuracy"] for row in P3["images"].values())):
        assert accuracies["bn"]["mean"] >= max(interval["mean"] for interval in accuracies.values()) - 0.0001


@claim("with fewer images no difference between the orders is resolved")
def test_with_fewer_images_no_difference_between_the_orders_is_resolved():
    for row in P3["images"].values():
        assert row["dropout_bn_minus_bn_dropout"]["low"] < 0 < row["dropout_bn_minus_bn_dropout"]["high"]


@claim("with the fewest images both are not told from batch norm alone")
def test_with_the_fewest_images_both_are_not_told_from_batch_norm_alone():
    for both in ("bn_dropout", "dropout_bn"):
        assert P3["images"]["550"]["minus_bn"][both]["low"] < 0 < P3["images"]["550"]["minus_bn"][both]["high"]


@claim("the benefits do not add up")
def test_the_benefits_do_not_add_up():
    for key in ("differences", "common_differences"):
        for both in ("bn_dropout", "dropout_bn"):
            assert P3[key]["dropout_minus_none"]["high"] < 0
            assert P3[key][f"{both}_minus_bn"]["high"] < 0


@claim("of the interactions one is resolved")
def test_of_the_interactions_one_is_resolved():
    assert [
        (key, both)
        for key in ("differences", "common_differences")
        for both, interval in P3[key]["beyond_the_sum"].items()
        if not interval["low"] < 0 < interval["high"]
    ] == [("common_differences", "bn_dropout")]
    assert P3["common_differences"]["beyond_the_sum"]["bn_dropout"]["high"] < 0


@claim("right before batch norm dropout shifts the variance")
def test_right_before_batch_norm_dropout_shifts_the_variance():
    assert 0.4 < P3["variance_shift"]["dropout_bn"]["c1"]["mean"] < 0.55
    assert P3["variance_shift"]["dropout_bn"]["c5"]["low"] > 1.3
    assert abs(P3["variance_shift"]["bn"]["c5"]["mean"] - 1) < 0.02


@claim("and yet that order is the more accurate one here")
def test_and_yet_that_order_is_the_more_accurate_one_here():
    for key in ("differences", "common_differences"):
        assert P3[key]["dropout_bn_minus_bn_dropout"]["low"] > 0


@claim("the noise is weaker in that order")
def test_the_noise_is_weaker_in_that_order():
    assert P3["running_train_loss"]["dropout_bn"]["high"] < 0.7 * P3["running_train_loss"]["bn_dropout"]["low"]
    assert abs(P3["final_train_loss"]["dropout_bn"]["mean"] / P3["final_train_loss"]["bn_dropout"]["mean"] - 1) < 0.1


@claim("that order has the higher training accuracy, and no lower loss")
def test_that_order_has_the_higher_training_accuracy_and_no_lower_loss():
    assert P3["final_train_accuracy"]["dropout_bn"]["low"] > P3["final_train_accuracy"]["bn_dropout"]["high"]
    assert P3["final_train_loss"]["dropout_bn"]["mean"] > P3["final_train_loss"]["bn_dropout"]["mean"]
    assert P3["test_loss"]["dropout_bn"]["mean"] > P3["test_loss"]["bn_dropout"]["mean"]


@claim("none and the best variant are as accurate as others report")
def test_none_and_the_best_variant_are_as_accurate_as_others_report():
    assert P3["test_accuracy"]["none"]["mean"] >= 0.989
    assert P3["test_accuracy"]["bn"]["mean"] >= 0.992


# 2.2, 2.3: the reference fractions were computed independently, with a standard error of about 0.008
def test_the_collapsed_fraction_is_the_independently_computed_one():
    assert abs(P22["relu"]["collapsed"]["fraction"] - 0.926) < 4 * 0.008
    assert abs(P22["relu_10_hidden"]["collapsed"]["fraction"] - 0.94) < 4 * 0.008
    assert abs(P22["leaky_10_hidden"]["collapsed"]["fraction"] - 0.11) < 4 * 0.01
