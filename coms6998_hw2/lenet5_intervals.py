"""What problem 3 makes of its runs' columns: paired differences, and intervals and spreads by rate and by layer.

scores = {variant: test accuracies (seeds,), ...};  differences(scores)["bn_minus_none"]   {"mean", "low", "high", "n"}
"""

import numpy as np
import pandas as pd

from utils.intervals import mean_interval


def differences(test: dict) -> dict:
    """Return intervals of paired differences of the variants' test accuracies (seeds,), and of the interaction.

    "beyond_the_sum": what batch norm and dropout together change beyond the sum of what each changes alone.
    """
    pairs = (("bn", "none"), ("bn_input", "bn"), ("dropout", "none"), ("dropout", "bn"), ("dropout", "bn_input"),
             ("bn_dropout", "bn"), ("bn_dropout", "dropout"), ("bn_dropout", "none"),
             ("dropout_bn", "bn_dropout"))  # fmt: skip
    interaction = test["bn_dropout"] - test["bn"] - test["dropout"] + test["none"]
    return {
        **{f"{a}_minus_{b}": mean_interval(test[a] - test[b]) for a, b in pairs},
        "beyond_the_sum": mean_interval(interaction),
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
