"""What the COMS6998 report says of problem 4, each sentence asserted from the committed summaries."""

import json

import numpy as np

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"
LITERATURE = json.loads((ROOT / "report" / "literature.json").read_text(encoding="utf-8"))


def summary(stem):
    return json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))


P41, P42 = summary("p4_1_fashion_mnist"), summary("p4_2_learning_rate_range")
P43, P44 = summary("p4_3_cyclical_learning_rate"), summary("p4_4_batch_size_range")
P46 = summary("p4_6_cyclical_batch_size")
REACHED = [row for row in P42["candidates"] if row["loss"]["n"] > 0]
LOSSES = [row["loss"]["mean"] for row in P44["candidates"]]
EQUAL = [row["mean"] for row in P44["equal_updates"][1]["loss"].values()]
NOISE = [row["mean"] for row in P44["noise_scale"]]


CLAIMS = {
    # 4.1
    "no test image is among the training images": lambda: P41["duplicates"]["test_in_training"] == 0,
    "the classes are balanced": lambda: all(len(set(counts)) == 1 for counts in P41["per_class"].values()),
    # 4.2
    "the range is about the post's": lambda: all(
        1 / 3 < P42[name] / LITERATURE["rosebrock"][name] < 3 for name in ("lr_min", "lr_max")
    ),
    "a mean since the epoch began leaves the plateau later": lambda: P42["continuous"]["shift_lr_min"]["low"] > 1,
    "the candidates' fall begins at lower rates than the range test's": lambda: (
        P42["candidates_reading"]["lr_min"] < P42["continuous"]["lr_min"]["low"]
    ),
    "at the candidates' reading nothing is learned": lambda: (
        _nearest(P42["candidates_reading"]["lr_min"])["validation_accuracy"]["mean"] < 0.12
        and _nearest(P42["lr_min"])["validation_accuracy"]["mean"] > 0.7
    ),
    "in evaluation mode a lower rate is best": lambda: _best_rate("evaluation_loss") < _best_rate("loss"),
    # 4.3
    "accuracy at a cycle's end is above that at its peak": lambda: all(
        cycle["mean"] > 0 for cycle in P43["end_minus_peak"]
    ),
    # 4.4, 4.5
    "the batch acts as the rate's inverse": lambda: (
        max(abs(row["loss"] - row["loss_at_rate"]) for row in P44["mirrored"]) < 0.1 * np.ptp(LOSSES)
    ),
    "there is no right branch": lambda: sorted(LOSSES) == LOSSES,
    "after equally many updates the batch hardly matters": lambda: np.ptp(EQUAL) < 0.1 * np.ptp(LOSSES),
    "the growing batch falls behind at once": lambda: P44["range_stop"]["mean"] == 2 * P44["protocol"]["micro_batch"],
    "the noise scale grows while the loss falls": lambda: sorted(NOISE) == NOISE,
    "the algorithm agrees with the figure": lambda: P44["automatic"] == {"b_min": P44["b_min"], "b_max": P44["b_max"]},
    # 4.6, 4.7
    "the cyclical rate wins as asked": lambda: all(
        P46["differences"][key]["cyclical_batch_size_minus_cyclical_learning_rate"]["mean"] < -0.3
        for key in ("test_accuracy", "selected_test_accuracy")
    ),
}


def _nearest(rate):
    return min(REACHED, key=lambda row: abs(np.log(row["rate"] / rate)))


def _best_rate(key):
    return min(REACHED, key=lambda row: row[key]["mean"])["rate"]
