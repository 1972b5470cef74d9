"""What the COMS6998 report says of its results, each sentence asserted from the committed summaries."""

import math

from claims_problem_4 import CLAIMS as PROBLEM_4
from claims_problem_4 import summary

P1, P21, P22 = (summary(stem) for stem in ("p1_perceptron", "p2_1_vanishing_gradients", "p2_2_dying_relu"))
P3, SPEED = summary("p3_lenet5"), summary("bench_precision_cpu")

CLAIMS = PROBLEM_4 | {
    # appendix
    "single precision is the fastest here": lambda: (
        SPEED["lenet5"]["float32, channels_last"]["low"] > SPEED["lenet5"]["float32, contiguous"]["high"]
        and all(
            min(row["mean"] for name, row in SPEED[network].items() if "float32" in name)
            > max(row["mean"] for name, row in SPEED[network].items() if "bfloat16" in name)
            for network in ("lenet5", "mini_googlenet")
        )
    ),
    # 1.3, 1.4
    "the hinge is more accurate after the full budget": lambda: P1["difference"]["low"] > 0,
    "the main training set is among those on which it loses": lambda: (
        P1["hinge"]["main_accuracy"] < P1["perceptron"]["main_accuracy"]
    ),
    "with few passes or a small step the hinge is less accurate": lambda: all(
        P1["variations"][name]["difference"]["high"] < 0 for name in ("1 pass", "10 passes", "100 passes", "step 0.01")
    ),
    "the hinge comes closer to the maximum margin": lambda: (
        P1["gap_to_maximum_margin"]["hinge"]["high"] < P1["gap_to_maximum_margin"]["perceptron"]["low"]
    ),
    "the hinge's classes change less": lambda: P1["difference_disagreement"]["high"] < 0,
    "after ten passes the hinge's classes change more": lambda: (
        P1["variations"]["10 passes"]["difference_disagreement"]["low"] > 0
    ),
    "from 200 points on the perceptron's change less": lambda: all(
        P1["sizes"][n]["difference_disagreement"]["low"] > 0.001 for n in ("200", "500", "1000")
    ),
    "the hinge needs far more updates": lambda: (
        P1["hinge"]["updates"]["low"] > 10 * P1["perceptron"]["updates"]["high"]
    ),
    "with a step of one tenth the two are not told apart": lambda: (
        P1["variations"]["step 0.1"]["difference"]["low"] < 0 < P1["variations"]["step 0.1"]["difference"]["high"]
    ),
    "every training set is separated by the perceptron": lambda: P1["perceptron"]["converged"] == 1,
    "no run exceeds Novikoff's bound": lambda: P1["largest_share_of_novikoff"] <= 1,
    # 2.1
    "theory predicts the gradient's ratio within a tenth": lambda: all(
        abs(math.log(row["gradient_ratio_layer5_to_layer1"]["mean"] / row["gradient_ratio_theory"])) < 0.11
        for row in (P21[s["name"]] for s in P21["settings"] if s["depth"] == 5)
    ),
    "Glorot's tanh trains where small weights do not": lambda: (
        P21["tanh_glorot"]["train_loss"]["high"] < 0.2 < 2 < P21["tanh_0.01"]["train_loss"]["low"]
    ),
    "about 0.14 keeps the gradient of tanh": lambda: (
        0.9 < P21["tanh_0.14"]["gradient_ratio_layer5_to_layer1"]["mean"] < 1.1
    ),
    "large weights make the gradient of tanh explode": lambda: (
        P21["tanh_1"]["gradient_ratio_layer5_to_layer1"]["high"] < 0.1
    ),
    "hand-tuned deviations train as well as Glorot's": lambda: all(
        P21[f"tanh_{deviation}"]["train_loss"]["mean"] <= P21["tanh_glorot"]["train_loss"]["high"]
        for deviation in ("0.1", "0.14")
    ),
    "Glorot's sigmoid stays at the loss of guessing": lambda: P21["sigmoid_glorot"]["train_loss"]["low"] > 2.29,
    "0.28 is the best of the sigmoid's": lambda: all(
        P21["sigmoid_0.28"]["train_loss"]["high"] < P21[s["name"]]["train_loss"]["low"]
        for s in P21["settings"]
        if s["activation"] == "sigmoid" and s["scheme"] != "0.28"
    ),
    "five layers hardly tell He from Glorot": lambda: (
        P21["relu_glorot_over_he_5_layers"]["all_epochs"]["low"]
        < 1
        < P21["relu_glorot_over_he_5_layers"]["all_epochs"]["high"]
    ),
    "twenty layers do": lambda: (
        P21["relu_glorot_over_he_20_layers"]["all_epochs"]["low"] > 1.5
        and P21["relu_glorot_over_he_20_layers"]["first_epoch"]["low"] > 1.5
    ),
    "He keeps the gradient of ReLU": lambda: 0.8 < P21["relu_he"]["gradient_ratio_layer5_to_layer1"]["mean"] < 1.2,
    "twice He's deviation diverges": lambda: P21["relu_0.28"]["diverged"] == P21["protocol"]["seeds"],
    "it agrees with over 90%": lambda: P22["relu"]["collapsed"]["low"] > 0.9,
    "most are born dead": lambda: P22["relu"]["born_dead"]["low"] > 0.85,
    "the absolute error has the largest fraction": lambda: all(
        P22["variations"]["x_sin_5x mae"]["collapsed"]["fraction"] >= row["collapsed"]["fraction"]
        for row in P22["variations"].values()
    ),
    "squared error collapses to the mean, absolute error to the median": lambda: (
        abs(P22["variations"]["x_sin_5x"]["median_value_of_constant"] + 0.148) < 0.01
        and abs(P22["variations"]["x_sin_5x mae"]["median_value_of_constant"] - 0.0155) < 0.01
    ),
    "every simulated probability lies within the bounds": lambda: all(
        P22["bounds"][key][0] - 4 * _error(value) <= value["fraction"] <= P22["bounds"][key][1] + 4 * _error(value)
        for key, value in P22["born_dead"].items()
    ),
    "asymmetric initialization is born dead as rarely as computed": lambda: (
        abs(P22["rai"]["born_dead"]["fraction"] - 0.219) < 0.006
        and abs(P22["rai"]["born_dead_10_hidden"]["fraction"] - 0.254) < 0.006
    ),
    "leaky ReLU helps": lambda: P22["rescued"]["difference"]["low"] > 0.8,
    "after one epoch it has hardly helped": lambda: P22["leaky"]["epochs"]["1"]["collapsed"]["low"] > 0.98,
    "a larger slope helps more": lambda: (
        P22["variations"]["slope 0.3"]["collapsed"]["high"] < P22["leaky"]["collapsed"]["low"]
    ),
    # 3.1 to 3.5
    "dropout's running training loss is not its training loss": lambda: (
        P3["running_train_loss"]["dropout"]["low"] > 2 * P3["final_train_loss"]["dropout"]["high"]
    ),
    "dropout raises the correlation between units": lambda: all(
        P3["correlation"]["dropout"][layer]["low"] > P3["correlation"]["none"][layer]["high"]
        and P3["correlation"]["bn"][layer]["high"] < P3["correlation"]["none"][layer]["low"]
        for layer in ("c5", "f6")
    ),
    "the deep layers drift less with batch norm, C1's mean more": lambda: (
        all(P3["drift"]["bn"][layer]["high"] < P3["drift"]["none"][layer]["low"] for layer in ("c5", "f6"))
        and P3["drift"]["bn"]["c1"]["low"] > P3["drift"]["none"]["c1"]["high"]
        and P3["drift"]["bn"]["c3"]["high"] > P3["drift"]["none"]["c3"]["low"]
    ),
    "every layer's deviation drifts less with batch norm": lambda: all(
        P3["deviation_drift"]["bn"][layer]["high"] < low["low"] for layer, low in P3["deviation_drift"]["none"].items()
    ),
    "what drifts at the end with batch norm is its running mean's noise": lambda: (
        P3["last_drift"]["bn"]["low"] < P3["last_drift"]["theory"] < P3["last_drift"]["bn"]["high"]
    ),
    "batch norm in the hidden layers helps": lambda: P3["differences"]["bn_minus_none"]["low"] > 0,
    "gamma grows above 1 everywhere, most in C3; beta spreads most in C1, least in F6": lambda: (
        all(layer["seeds_mean"]["low"] > 1 for layer in P3["gamma"]["bn"].values())
        and max(P3["gamma"]["bn"], key=lambda layer: P3["gamma"]["bn"][layer]["mean"]) == "c3"
        and [P3["beta"]["bn"][layer]["deviation"] for layer in ("c1", "c3", "c5", "f6")]
        == sorted((layer["deviation"] for layer in P3["beta"]["bn"].values()), reverse=True)
    ),
    "batch norm at the input changes nothing": lambda: (
        P3["input_norm_changes"]["test_loss"] < 1e-3 and P3["input_norm_changes"]["test_accuracy"] <= 3e-4
    ),
    "the network with dropout under-fits": lambda: (
        P3["final_train_accuracy"]["dropout"]["high"] < P3["final_train_accuracy"]["none"]["low"]
        and P3["differences"]["dropout_minus_none"]["high"] < 0
    ),
    "dropout is worse than batch norm, with the input or without": lambda: (
        P3["differences"]["dropout_minus_bn"]["high"] < 0 and P3["differences"]["dropout_minus_bn_input"]["high"] < 0
    ),
    "both stay far below batch norm alone at either rate": lambda: all(
        P3[key][f"{both}_minus_bn"]["high"] < -0.008
        for key in ("differences", "common_differences")
        for both in ("bn_dropout", "dropout_bn")
    ),
    "twice the epochs mend little of what dropout costs": lambda: (
        0 < P3["long"]["dropout"]["minus_short"]["high"] < -0.5 * P3["differences"]["dropout_minus_none"]["mean"]
    ),
    "twice the epochs do not bring both to batch norm alone": lambda: all(
        P3["long"][both]["test_accuracy"]["high"] < P3["test_accuracy"]["bn"]["low"] - 0.005
        for both in ("bn_dropout", "dropout_bn")
    ),
    "larger rates are far worse for dropout": lambda: (
        all(_dropouts(rate)["mean"] < _dropouts(0.03)["low"] - 0.02 for rate in (0.1, 0.3))
        and all(_dropouts(rate)["mean"] < _dropouts(0.03)["mean"] for rate in (0.003, 0.01))
    ),
    "no best rate lies at an end of what was tried": lambda: all(
        min(tried) < best < max(tried)
        for best, tried in [
            *((P3["learning_rate"][v], [float(rate) for rate in at]) for v, at in P3["validation_at_rate"].items()),
            *((row["learning_rate"][v], at) for row in P3["images"].values() for v, at in row["tried"].items()),
        ]
    ),
    "both are no better than dropout alone": lambda: (
        P3["differences"]["bn_dropout_minus_dropout"]["low"] < 0 < P3["differences"]["bn_dropout_minus_dropout"]["high"]
        and P3["common_differences"]["bn_dropout_minus_dropout"]["high"] < 0
    ),
    "dropout first is better than dropout alone at its own rate": lambda: (
        P3["differences"]["dropout_bn_minus_dropout"]["low"] > 0
        and P3["common_differences"]["dropout_bn_minus_dropout"]["mean"] > 0
        and P3["common_differences"]["dropout_bn_minus_dropout"]["low"] < 0
    ),
    "batch norm's gain grows with fewer images": lambda: (
        0 < P3["differences"]["bn_minus_none"]["high"] < P3["images"]["5500"]["minus_none"]["bn"]["low"]
        and P3["images"]["5500"]["minus_none"]["bn"]["mean"] < P3["images"]["550"]["minus_none"]["bn"]["mean"]
        and 0 < P3["images"]["550"]["minus_none"]["bn"]["low"] < P3["images"]["5500"]["minus_none"]["bn"]["high"]
    ),
    "dropout turns from a cost into a gain on average": lambda: (
        P3["differences"]["dropout_minus_none"]["high"] < 0
        and P3["images"]["5500"]["minus_none"]["dropout"]["mean"] < 0
        and P3["images"]["550"]["minus_none"]["dropout"]["low"] < 0
        and P3["images"]["550"]["minus_none"]["dropout"]["mean"] > 0
    ),
    "with few images and many epochs dropout fits them": lambda: (
        P3["images"]["550"]["train_accuracy"]["dropout"]["low"] > 0.99
        and P3["images"]["5500"]["train_accuracy"]["dropout"]["mean"] < 0.98
    ),
    "nothing is better than batch norm alone with few images either": lambda: all(
        accuracies["bn"]["mean"] >= max(interval["mean"] for interval in accuracies.values()) - 1e-4
        for accuracies in (P3["test_accuracy"], *(row["test_accuracy"] for row in P3["images"].values()))
    ),
    "with fewer images no difference between the orders is resolved": lambda: all(
        row["dropout_bn_minus_bn_dropout"]["low"] < 0 < row["dropout_bn_minus_bn_dropout"]["high"]
        for row in P3["images"].values()
    ),
    "with the fewest images both are not told from batch norm alone": lambda: all(
        P3["images"]["550"]["minus_bn"][both]["low"] < 0 < P3["images"]["550"]["minus_bn"][both]["high"]
        for both in ("bn_dropout", "dropout_bn")
    ),
    "the benefits do not add up": lambda: all(
        P3[key]["dropout_minus_none"]["high"] < 0 and P3[key][f"{both}_minus_bn"]["high"] < 0
        for key in ("differences", "common_differences")
        for both in ("bn_dropout", "dropout_bn")
    ),
    "of the interactions one is resolved": lambda: (
        [
            (key, both)
            for key in ("differences", "common_differences")
            for both, interval in P3[key]["beyond_the_sum"].items()
            if not interval["low"] < 0 < interval["high"]
        ]
        == [("common_differences", "bn_dropout")]
        and P3["common_differences"]["beyond_the_sum"]["bn_dropout"]["high"] < 0
    ),
    "right before batch norm dropout shifts the variance": lambda: (
        0.4 < P3["variance_shift"]["dropout_bn"]["c1"]["mean"] < 0.55
        and P3["variance_shift"]["dropout_bn"]["c5"]["low"] > 1.3
        and abs(P3["variance_shift"]["bn"]["c5"]["mean"] - 1) < 0.02
    ),
    "and yet that order is the more accurate one here": lambda: all(
        P3[key]["dropout_bn_minus_bn_dropout"]["low"] > 0 for key in ("differences", "common_differences")
    ),
    "the noise is weaker in that order": lambda: (
        P3["running_train_loss"]["dropout_bn"]["high"] < 0.7 * P3["running_train_loss"]["bn_dropout"]["low"]
        and abs(P3["final_train_loss"]["dropout_bn"]["mean"] / P3["final_train_loss"]["bn_dropout"]["mean"] - 1) < 0.1
    ),
    "that order has the higher training accuracy, and no lower loss": lambda: (
        P3["final_train_accuracy"]["dropout_bn"]["low"] > P3["final_train_accuracy"]["bn_dropout"]["high"]
        and P3["final_train_loss"]["dropout_bn"]["mean"] > P3["final_train_loss"]["bn_dropout"]["mean"]
        and P3["test_loss"]["dropout_bn"]["mean"] > P3["test_loss"]["bn_dropout"]["mean"]
    ),
    "none and the best variant are as accurate as others report": lambda: (
        P3["test_accuracy"]["none"]["mean"] >= 0.989 and P3["test_accuracy"]["bn"]["mean"] >= 0.992
    ),
}

# What the text does not say, but what would make it doubtful: numbers computed independently.
CHECKS = {
    # 2.2, 2.3: the reference fractions were computed independently, with a standard error of about 0.008
    "the collapsed fraction is the independently computed one": lambda: (
        abs(P22["relu"]["collapsed"]["fraction"] - 0.926) < 4 * 0.008
        and abs(P22["relu_10_hidden"]["collapsed"]["fraction"] - 0.940) < 4 * 0.008
        and abs(P22["leaky_10_hidden"]["collapsed"]["fraction"] - 0.11) < 4 * 0.01
    ),
}


def _dropouts(rate):
    return P3["validation_at_rate"]["dropout"][f"{rate:g}"]


def _error(value):
    share, n = value["fraction"], value["n"]
    return math.sqrt(max(share * (1 - share), 1 / n) / n)
