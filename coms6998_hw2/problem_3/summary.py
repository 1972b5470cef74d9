"""What problem 3 makes of its runs: each variant's rate, paired differences, intervals by rate and by layer.

scores = {variant: test accuracies (seeds,), ...};  differences(scores)["bn_minus_none"]   {"mean", "low", "high", "n"}
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from coms6998_hw2.problem_3 import layer_statistics
from utils.intervals import holm_by_name, mean_interval, p_of_mean
from utils.records import last

PAIRS = [  # whose differences the report gives
    ("bn", "none"),
    ("bn_input", "bn"),
    ("dropout", "none"),
    ("dropout", "bn"),
    ("dropout", "bn_input"),
    ("bn_dropout", "bn"),
    ("bn_dropout", "dropout"),
    ("dropout_bn", "bn"),
    ("dropout_bn", "dropout"),
    ("dropout_bn", "bn_dropout"),
]


def best_rates(frame: pd.DataFrame, images: int, epochs: int, seeds: Sequence[int]) -> dict[str, float]:
    """Return each variant's rate of the best mean validation accuracy, of those that were run with all the seeds.

    A single seed would let a few validation images decide between close rates: with all training images its choice is
    only a candidate, which is then compared with the common rate over all seeds.
    """
    rows = frame[(frame.images == images) & (frame.epochs == epochs) & frame.seed.isin(seeds)]
    rows = rows.assign(score=last(rows.validation_accuracy))
    table = rows.pivot(index=["variant", "learning_rate"], columns="seed", values="score").dropna()
    means = table.mean(axis=1)
    return {variant: float(means[variant].idxmax()) for variant in rows.variant.unique()}


def at_rates(frame: pd.DataFrame, rates: dict[str, float]) -> dict[str, pd.DataFrame]:
    """Return each variant's runs at its rate, by seed."""
    runs = {}
    for variant, rate in rates.items():
        runs[variant] = frame[(frame.variant == variant) & (frame.learning_rate == rate)].set_index("seed")
    return runs


def at_own_rates(tuned: dict[str, pd.DataFrame]) -> dict:
    """Return what the variants reach, each at its own rate, and what their batch norms have learned."""
    numbers: dict[str, Any] = {"differences": differences({name: rows.test_accuracy for name, rows in tuned.items()})}
    for key in ("test_accuracy", "test_loss", "final_train_accuracy", "final_train_loss"):
        numbers[key] = {variant: mean_interval(rows[key]) for variant, rows in tuned.items()}
    numbers["running_train_loss"] = {name: mean_interval(last(rows.running_train_loss)) for name, rows in tuned.items()}
    numbers["variance_shift"] = {variant: by_layer(rows.variance_shift) for variant, rows in tuned.items()}
    for key in ("gamma", "beta"):
        numbers[key] = {v: spread(tuned[v][key]) for v in ("bn", "bn_input", "bn_dropout", "dropout_bn")}
    first = tuned["bn"].iloc[0]
    numbers["c1_first_seed"] = {"gamma": first.gamma["c1"], "beta": first.beta["c1"]}
    keys = ["test_accuracy", "test_loss"]
    numbers["input_norm_changes"] = (tuned["bn_input"][keys] - tuned["bn"][keys]).abs().max().to_dict()
    return numbers


def at_the_common_rate(common: dict[str, pd.DataFrame]) -> dict:
    """Return what the variants reach at one rate, and what they do to the units: a larger step moves all further."""
    scores = {variant: rows.test_accuracy for variant, rows in common.items()}
    numbers: dict[str, Any] = {
        "common": {variant: mean_interval(score) for variant, score in scores.items()},
        "common_differences": differences(scores),
        "last_drift": {
            "bn": mean_interval([run["c5"][-1] for run in common["bn"].drift]),
            "theory": layer_statistics.noise_of_running_mean(common["bn"].batch_size.iloc[0]),
        },
    }
    for key in ("drift", "deviation_drift"):  # of the first half, while the step is large
        numbers[key] = {variant: by_layer(common[variant][key].map(first_half)) for variant in ("none", "bn")}
    return numbers


def deletion(tuned: dict[str, pd.DataFrame]) -> dict:
    """Return, for C5 and F6, the test accuracies with each share of the units deleted, and what half of them cost.

    "lost": accuracy with all units minus that with half of them; "lost_more_than_none": paired with the plain network.
    """
    shares = layer_statistics.SHARES
    numbers: dict[str, Any] = {"shares": shares, "draws": layer_statistics.DRAWS}
    lost: dict[str, dict] = {}
    for variant in ("none", "bn", "dropout", "bn_dropout"):
        numbers[variant], lost[variant] = {}, {}
        for layer in ("c5", "f6"):
            accuracies = pd.DataFrame([run[layer] for run in tuned[variant].deletion], tuned[variant].index, shares)
            lost[variant][layer] = accuracies[0.0] - accuracies[0.5]
            numbers[variant][layer] = {
                "accuracy": [mean_interval(accuracies[share]) for share in shares],
                "lost": mean_interval(lost[variant][layer]),
                "lost_more_than_none": mean_interval(lost[variant][layer] - lost["none"][layer]),
            }
    return numbers


def by_place(places: pd.DataFrame, tuned: dict[str, pd.DataFrame], images: int, epochs: int) -> dict:
    """Return what batch norm with dropout at one place reaches, at its own rate, beside batch norm without any."""
    rates = best_rates(places, images, epochs, sorted(places.seed.unique()))
    numbers = {}
    for place, rows in at_rates(places, rates).items():
        numbers[place] = {
            "learning_rate": rates[place],
            "test_accuracy": mean_interval(rows.test_accuracy),
            "minus_bn": mean_interval(rows.test_accuracy - tuned["bn"].test_accuracy),
            "minus_bn_dropout": mean_interval(rows.test_accuracy - tuned["bn_dropout"].test_accuracy),
        }
    return numbers


def longer(long: pd.DataFrame, short: pd.DataFrame) -> dict:
    """Return, by variant, what more epochs change at the same rate, seed by seed."""
    numbers = {}
    for (variant, rate), rows in long.groupby(["variant", "learning_rate"]):
        scores = rows.set_index("seed").test_accuracy
        before = short[(short.variant == variant) & (short.learning_rate == rate)].set_index("seed").test_accuracy
        numbers[variant] = {
            "epochs": rows.epochs.iloc[0],
            "test_accuracy": mean_interval(scores),
            "train_accuracy": mean_interval(rows.final_train_accuracy),
            "minus_short": mean_interval((scores - before).dropna()),
        }
    return numbers


def few_images(rows: pd.DataFrame) -> dict:
    """Return what the variants reach, each at its own rate, with the few training images of these runs."""
    epochs = rows.epochs.iloc[0]
    rates = best_rates(rows, rows.images.iloc[0], epochs, sorted(rows.seed.unique()))
    runs = at_rates(rows, rates)
    scores = {variant: own.test_accuracy for variant, own in runs.items()}
    return {
        "epochs": epochs,
        "learning_rate": rates,
        "tried": {variant: sorted(rows[rows.variant == variant].learning_rate.unique()) for variant in rates},
        "train_accuracy": {variant: mean_interval(own.final_train_accuracy) for variant, own in runs.items()},
        "test_accuracy": {variant: mean_interval(score) for variant, score in scores.items()},
        "minus_none": {variant: mean_interval(score - scores["none"]) for variant, score in scores.items()},
        "minus_bn": {variant: mean_interval(score - scores["bn"]) for variant, score in scores.items()},
        "dropout_bn_minus_bn_dropout": mean_interval(scores["dropout_bn"] - scores["bn_dropout"]),
    }


def differences(test: dict) -> dict:
    """Return intervals of paired differences of the variants' test accuracies (seeds,), and of the interactions.

    "beyond_the_sum": what batch norm and dropout together change, in each order, beyond the sum of what each changes
    alone.
    """
    numbers = {"beyond_the_sum": {both: mean_interval(change) for both, change in interactions(test).items()}}
    for a, b in PAIRS:
        numbers[f"{a}_minus_{b}"] = mean_interval(test[a] - test[b])
    return numbers


def interactions(test: dict) -> dict:
    """Return, for both orders, what both change beyond the sum of what each changes alone, by seed."""
    alone = test["bn"] + test["dropout"] - test["none"]
    return {both: test[both] - alone for both in ("bn_dropout", "dropout_bn")}


def interactions_after_holm(by_rate: dict[str, dict[str, pd.DataFrame]]) -> dict[str, float]:
    """Return the interactions' p values, such as "own bn_dropout", corrected for all choices of rates together."""
    p_values = {}
    for choice, runs in by_rate.items():
        for both, change in interactions({name: rows.test_accuracy for name, rows in runs.items()}).items():
            p_values[f"{choice} {both}"] = p_of_mean(change)
    return holm_by_name(p_values)


def final_validation(rows: pd.DataFrame) -> dict:
    """Return, by learning rate, the interval of the validation accuracy after the last epoch: what it is chosen by."""
    return {f"{rate:g}": mean_interval(last(part.validation_accuracy)) for rate, part in rows.groupby("learning_rate")}


def by_layer(column: pd.Series) -> dict:
    """Return, by layer, the interval over seeds of a number, or of the mean of a list of numbers."""
    return {layer: mean_interval([np.mean(run[layer]) for run in column]) for layer in column.iloc[0]}


def first_half(curves: dict) -> dict:
    """Return each layer's list of numbers, cut to the first half of its epochs."""
    return {layer: values[: (len(values) + 1) // 2] for layer, values in curves.items()}


def spread(column: pd.Series) -> dict:
    """Return, by layer, how the parameters of all units and seeds are distributed, and the seeds' means."""
    summary = {}
    for layer in column.iloc[0]:
        values = np.array([run[layer] for run in column], float)  # (seeds, units)
        summary[layer] = {
            "units": values.shape[1],
            "mean": values.mean(),
            "deviation": values.std(),
            "least": values.min(),
            "greatest": values.max(),
            "seeds_mean": mean_interval(values.mean(axis=1)),
        }
    return summary
