"""What the COMS6998 report says of its results, each sentence asserted from the committed summaries."""

import json
import math

import numpy as np

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"


def summary(stem):
    return json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))


P1, P21, P22 = (summary(stem) for stem in ("p1_perceptron", "p2_1_vanishing_gradients", "p2_2_dying_relu"))
FOURTH = ("p4_2_learning_rate_range", "p4_3_cyclical_learning_rate", "p4_4_batch_size_range",
          "p4_6_cyclical_batch_size")  # fmt: skip
# As the report does: MiniGoogLeNet's results once all four are there, until then LeNet-5's.
NETWORK = "" if all((RESULTS / f"{stem}.json").exists() for stem in FOURTH) else "_lenet5"
P3, P41 = (summary(stem) for stem in ("p3_lenet5", "p4_1_fashion_mnist"))
P42, P43, P44, P46 = (summary(stem + NETWORK) for stem in FOURTH)
SPEED = summary("bench_precision_cpu")


CLAIMS = {
    # 4.2
    "a mean since the epoch began leaves the plateau later": lambda: P42["continuous"]["shift_lr_min"]["low"] > 1,
    "the candidates' fall begins at lower rates than the range test's": lambda: (
        P42["reading"]["lr_min"] < P42["continuous"]["lr_min"]["low"]
    ),
    "of MiniGoogLeNet's candidates so far the least loss is at LeNet-5's rate": lambda: (
        _rate_of_least_loss(summary(FOURTH[0])) == _rate_of_least_loss(P42)
    ),
    # 4.3
    "the cycle without decay is more accurate": lambda: _against_cyclical("test_accuracy", "triangular")["low"] > 0,
    "one cycle and the constant lr_max are not told from the cyclical rate": lambda: all(
        _against_cyclical("test_accuracy", arm)["low"] < 0 < _against_cyclical("test_accuracy", arm)["high"]
        for arm in ("one_cycle", "constant_lr_max")
    ),
    "one cycle has the smaller test loss": lambda: _against_cyclical("test_loss", "one_cycle")["high"] < 0,
    "the decaying cycle fits the training images less": lambda: all(
        _against_cyclical("train_loss", arm)["high"] < 0 for arm in ("triangular", "one_cycle")
    ),
    "accuracy at a cycle's end is above that at its peak": lambda: (
        all(cycle["mean"] > 0 for cycle in P43["end_minus_peak"]) and P43["end_minus_peak"][1]["low"] > 0
    ),
    "at the constant lr_min little is learned": lambda: P43["test_accuracy"]["constant_lr_min"]["high"] < 0.35,
    # 4.4
    "the batch acts as the rate's inverse": lambda: (
        max(abs(row["loss"] - row["loss_at_rate"]) for row in P44["mirrored"])
        < 0.1 * (P44["mirrored"][-1]["loss"] - P44["mirrored"][0]["loss"])
    ),
    "the noise scale is larger after training than after the first epoch": lambda: (
        P44["noise_scale"][-1]["low"] > P44["noise_scale"][1]["high"]
        and P44["candidates"]["middle"][0]["loss"]["high"] < P44["equal_updates"][1]["middle"]["64"]["low"]
    ),
    "after equally many updates the batch hardly matters": lambda: (
        np.ptp([row["mean"] for row in P44["equal_updates"][1]["middle"].values()])
        < 0.03 * np.ptp([row["loss"]["mean"] for row in P44["candidates"]["middle"]])
    ),
    # 4.6, 4.7
    "at lr_min shrinking gets further": lambda: _lead("cyclical_batch_size_minus_opposite") < 0,
    "the growing batch trains as the decaying rate, the shrinking one does not": lambda: (
        P46["curve_distance"]["matched_to_matched_rate"]["most"]
        < P46["curve_distance"]["matched_opposite_to_matched_rate"]["least"]
        and P46["curve_distance"]["matched_to_matched_rate"]["least"] < P46["curve_distance"]["seed_to_seed"]["most"]
    ),
    "the growing batch ends less trained": lambda: (
        P46["differences"]["train_loss"]["matched_minus_matched_opposite"]["low"] > 0
    ),
    "growing is not ahead at lr_max either": lambda: (
        P46["differences"]["selected_test_accuracy"]["matched_minus_matched_opposite"]["high"] < 0
        and P46["differences"]["test_accuracy"]["matched_minus_matched_opposite"]["mean"] < 0
    ),
    "the cyclical rate wins as asked": lambda: _lead("cyclical_batch_size_minus_cyclical_learning_rate") < -0.5,
    "updates alone do not explain it": lambda: _lead("cyclical_batch_size_minus_equal_updates") < -0.5,
    "the rate's noise rises higher in every cycle": lambda: all(
        p["lr_max"] * amplitude / p["b_min"] > p["lr_max"] / (p["b_max"] * (p["b_min"] / p["b_max"]) ** amplitude)
        for p in [P46["protocol"]]
        for amplitude in (P43["protocol"]["final_amplitude"] ** (peak / 6) for peak in (1, 3, 5))
    ),
    "but the batch's training loss ends a little higher": lambda: (
        0
        < P46["differences"]["train_loss"]["matched_minus_matched_rate"]["low"]
        < P46["differences"]["train_loss"]["matched_minus_matched_rate"]["high"]
        < P46["differences"]["train_loss"]["matched_minus_matched_opposite"]["mean"]
    ),
    "at equal noise no difference is resolved": lambda: all(
        difference["matched_minus_matched_rate"]["low"] < 0 < difference["matched_minus_matched_rate"]["high"]
        for difference in (P46["differences"][key] for key in ("test_accuracy", "selected_test_accuracy"))
    ),
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
    "from 100 points on the perceptron's change less": lambda: all(
        P1["sizes"][n]["difference_disagreement"]["low"] > 0 for n in ("100", "200", "500", "1000")
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
        P21["relu_glorot_over_he_5_layers"]["all_epochs"]["low"] < 1.05
        and P21["relu_glorot_over_he_5_layers"]["all_epochs"]["mean"] < 1.2
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
    "dropout raises the correlation between units": lambda: (
        P3["correlation"]["dropout"]["f6"]["low"] > P3["correlation"]["none"]["f6"]["high"]
        and P3["correlation"]["bn"]["f6"]["high"] < P3["correlation"]["none"]["f6"]["low"]
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
        P3[key]["bn_dropout_minus_bn"]["high"] < -0.015 for key in ("differences", "common_differences")
    ),
    "twice the epochs mend about a quarter of what dropout costs": lambda: (
        0.15 < -P3["long"]["dropout"]["minus_short"]["mean"] / P3["differences"]["dropout_minus_none"]["mean"] < 0.35
    ),
    "both are no better than dropout alone": lambda: (
        P3["differences"]["bn_dropout_minus_dropout"]["mean"] < 0
        and P3["common_differences"]["bn_dropout_minus_dropout"]["high"] < 0
    ),
    "batch norm's gain grows with fewer images": lambda: (
        0 < P3["differences"]["bn_minus_none"]["mean"] < P3["images"]["5500"]["minus_none"]["bn"]["low"]
        and P3["images"]["5500"]["minus_none"]["bn"]["mean"] < P3["images"]["550"]["minus_none"]["bn"]["mean"]
        and P3["images"]["550"]["minus_none"]["bn"]["low"] > 0
    ),
    "dropout turns from a cost into a gain on average": lambda: (
        P3["differences"]["dropout_minus_none"]["high"] < 0
        and P3["images"]["5500"]["minus_none"]["dropout"]["mean"] < 0
        and P3["images"]["550"]["minus_none"]["dropout"]["low"] < 0
        and P3["images"]["550"]["minus_none"]["dropout"]["mean"] > 0
    ),
    "with few images and many epochs dropout fits them": lambda: (
        P3["images"]["550"]["train_accuracy"]["dropout"]["low"] > 0.99
    ),
    "nothing is better than batch norm alone with few images either": lambda: all(
        accuracies["bn"]["mean"] >= max(interval["mean"] for interval in accuracies.values()) - 1e-4
        for accuracies in (P3["test_accuracy"], *(row["test_accuracy"] for row in P3["images"].values()))
    ),
    "with fewer images no difference between the orders is resolved": lambda: all(
        row["dropout_bn_minus_bn_dropout"]["low"] < 0 < row["dropout_bn_minus_bn_dropout"]["high"]
        for row in P3["images"].values()
    ),
    "the benefits do not add up": lambda: all(
        P3[key]["beyond_the_sum"]["mean"] < 0 and P3[key]["dropout_minus_none"]["high"] < 0
        for key in ("differences", "common_differences")
    ),
    "right before batch norm dropout shifts the variance": lambda: (
        0.4 < P3["variance_shift"]["dropout_bn"]["c1"]["mean"] < 0.55
        and P3["variance_shift"]["dropout_bn"]["c5"]["low"] > 1.3
        and abs(P3["variance_shift"]["bn"]["c5"]["mean"] - 1) < 0.02
    ),
    "and yet that order is the more accurate one here": lambda: all(
        P3[key]["dropout_bn_minus_bn_dropout"]["low"] > 0 for key in ("differences", "common_differences")
    ),
    "that order fits the training images better": lambda: (
        P3["final_train_accuracy"]["dropout_bn"]["low"] > P3["final_train_accuracy"]["bn_dropout"]["high"]
    ),
    "none and the best variant are as accurate as others report": lambda: (
        P3["test_accuracy"]["none"]["mean"] >= 0.989 and P3["test_accuracy"]["bn"]["mean"] >= 0.992
    ),
    # 4.1
    "no test image is among the training images": lambda: P41["duplicates"]["test_in_training"] == 0,
    "the classes are balanced": lambda: all(len(set(counts)) == 1 for counts in P41["per_class"].values()),
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


def _rate_of_least_loss(range_summary):
    finite = [row for row in range_summary["candidates"] if row["loss"]["n"]]
    return min(finite, key=lambda row: row["loss"]["mean"])["rate"]


def _against_cyclical(key, arm):
    return P43["against_cyclical"][key][arm]


def _lead(name):
    """Return the upper end of a difference of question 4.7, the higher of the two ways to select the epoch."""
    return max(P46["differences"][key][name]["high"] for key in ("test_accuracy", "selected_test_accuracy"))


def _error(value):
    share, n = value["fraction"], value["n"]
    return math.sqrt(max(share * (1 - share), 1 / n) / n)
