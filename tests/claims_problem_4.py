"""What the COMS6998 report says of problem 4, each sentence asserted from the committed summaries."""

import json

import numpy as np

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"


def summary(stem):
    return json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))


FOURTH = ("p4_2_learning_rate_range", "p4_3_cyclical_learning_rate", "p4_4_batch_size_range",
          "p4_6_cyclical_batch_size")  # fmt: skip
# As the report does: MiniGoogLeNet's results once all four are there, until then LeNet-5's.
NETWORK = "" if all((RESULTS / f"{stem}.json").exists() for stem in FOURTH) else "_lenet5"
P41 = summary("p4_1_fashion_mnist")
P42, P43, P44, P46 = (summary(stem + NETWORK) for stem in FOURTH)


CLAIMS = {
    # 4.1
    "no test image is among the training images": lambda: P41["duplicates"]["test_in_training"] == 0,
    "the classes are balanced": lambda: all(len(set(counts)) == 1 for counts in P41["per_class"].values()),
    # 4.2
    "a mean since the epoch began leaves the plateau later": lambda: P42["continuous"]["shift_lr_min"]["low"] > 1,
    "the candidates' fall begins at lower rates than the range test's": lambda: (
        P42["reading"]["lr_min"] < P42["continuous"]["lr_min"]["low"]
    ),
    "not even one digit of lr_min is resolved": lambda: (
        P42["reading_by_seed"]["lr_min"]["high"] > 2 * P42["reading_by_seed"]["lr_min"]["low"]
    ),
    "MiniGoogLeNet's range test reads about what the post reads": lambda: all(
        1 / 3 < summary(FOURTH[0])["continuous"][name]["mean"] / posts < 3
        for name, posts in (("lr_min", 1e-5), ("lr_max", 1e-2))
    ),
    "of MiniGoogLeNet's candidates so far the least loss is at LeNet-5's rate": lambda: (
        _rate_of_least_loss(summary(FOURTH[0])) == _rate_of_least_loss(P42)
    ),
    "in evaluation mode MiniGoogLeNet is best at a lower rate": lambda: (
        _rate_of_least_loss(summary(FOURTH[0]), "evaluation_loss") < _rate_of_least_loss(summary(FOURTH[0]))
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
        all(cycle["mean"] > 0 for cycle in P43["end_minus_peak"])
        and [cycle["low"] > 0 for cycle in P43["end_minus_peak"]] == [False, True, False]
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
        and P46["differences"]["test_accuracy"]["matched_minus_matched_opposite"]["low"] < 0
        and P46["differences"]["test_accuracy"]["matched_minus_matched_opposite"]["high"] > 0
    ),
    "at lr_min the growing batch learns nothing": lambda: all(
        P46[key]["cyclical_batch_size"]["high"] < 0.15 for key in ("test_accuracy", "selected_test_accuracy")
    ),
    "an epoch takes about as long with any policy": lambda: all(
        max(times) < 1.5 * min(times)
        for by_arm in P46["seconds"].values()
        for times in [[row["mean"] / P46["epochs"][arm] for arm, row in by_arm.items()]]
    ),
    "the growing batch falls behind at once": lambda: (
        P44["range_stop"]["low"] == P44["range_stop"]["high"] == 2 * P44["protocol"]["micro_batch"]
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
}


def _rate_of_least_loss(range_summary, key="loss"):
    finite = [row for row in range_summary["candidates"] if row[key]["n"]]
    return min(finite, key=lambda row: row[key]["mean"])["rate"]


def _against_cyclical(key, arm):
    return P43["against_cyclical"][key][arm]


def _lead(name):
    """Return the upper end of a difference of question 4.7, the higher of the two ways to select the epoch."""
    return max(P46["differences"][key][name]["high"] for key in ("test_accuracy", "selected_test_accuracy"))
