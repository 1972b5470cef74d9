"""What problem 3 makes of its runs: each variant's rate, paired differences, intervals by rate and by layer.

scores = {variant: test accuracies (seeds,), ...};  differences(scores)["bn_minus_none"]   {"mean", "low", "high", "n"}
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from utils.intervals import mean_interval


def best_rates(frame: pd.DataFrame, images: int, epochs: int, seeds: Sequence[int]) -> dict[str, float]:
    """Return each variant's rate of the best mean validation accuracy, of those that were run with all the seeds.

    With one seed a few images would decide between close rates: with all training images, what one seed finds is only
    a candidate, which is then compared with the common rate over all seeds.
    """
    rows = frame[(frame.images == images) & (frame.epochs == epochs) & frame.seed.isin(seeds)]
    rows = rows.assign(score=[accuracies[-1] for accuracies in rows.validation_accuracy])
    table = rows.pivot(index=["variant", "learning_rate"], columns="seed", values="score").dropna()
    means = table.mean(axis=1)
    return {variant: float(means[variant].idxmax()) for variant in rows.variant.unique()}


def at_rates(frame: pd.DataFrame, rates: dict[str, float]) -> dict[str, pd.DataFrame]:
    """Return each variant's runs at its rate, by seed."""
    return {
        variant: frame[(frame.variant == variant) & (frame.learning_rate == rate)].set_index("seed")
        for variant, rate in rates.items()
    }


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
    pairs = (("bn", "none"), ("bn_input", "bn"), ("dropout", "none"), ("dropout", "bn"), ("dropout", "bn_input"),
             ("bn_dropout", "bn"), ("bn_dropout", "dropout"), ("dropout_bn", "bn"), ("dropout_bn", "dropout"),
             ("dropout_bn", "bn_dropout"))  # fmt: skip
    alone = test["bn"] + test["dropout"] - test["none"]
    return {
        **{f"{a}_minus_{b}": mean_interval(test[a] - test[b]) for a, b in pairs},
        "beyond_the_sum": {both: mean_interval(test[both] - alone) for both in ("bn_dropout", "dropout_bn")},
    }


def final_validation(rows: pd.DataFrame) -> dict:
    """Return, by learning rate, the interval of the validation accuracy after the last epoch: what it is chosen by."""
    return {
        f"{rate:g}": mean_interval([accuracies[-1] for accuracies in part.validation_accuracy])
        for rate, part in rows.groupby("learning_rate")
    }


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
