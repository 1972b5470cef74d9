"""What problem 1's comparison makes of its runs: best steps, paired differences, intervals.

everything = numbers(frame, protocol)        frame: runs of `p1_compare_norms.py`, a row each; protocol: what they share

A variant is a normalization with its place or its start: none, batch, batch_after, layer, layer_after, weight,
weight_data_start, or a library's layer. A difference is paired by seed.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from ist597_norms.references import TWINS
from utils.intervals import holm, holm_by_name, mean_interval, p_of_mean
from utils.records import floats, last

PROVIDED = ("protocol", "after", "data start")  # parts of the runs
TUNED = ("tuned", "after, tuned", "data start, tuned")
LEARNED = 0.2  # accuracy: twice that of guessing


def with_variants(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a column "variant"."""
    after = np.where(frame.position == "after", "_after", "")
    start = np.where(frame.get("start") == "data", "_data_start", "")
    return frame.assign(variant=frame["mode"] + after + start)


def best_steps(rows: pd.DataFrame) -> dict[str, float]:
    """Return for each variant the step size of the best validation accuracy after the last epoch, seed 0.

    A variant that diverged at all of them is left out.
    """
    grid = rows[rows.seed == 0]
    scored = grid.assign(score=last(grid.validation_accuracy)).dropna(subset="score")
    return {variant: float(same.loc[same.score.idxmax()].learning_rate) for variant, same in scored.groupby("variant")}


def at_steps(rows: pd.DataFrame, steps: dict[str, float]) -> dict[str, pd.DataFrame]:
    """Return the runs of each variant at its step, by seed."""
    chosen = {}
    for variant, step in steps.items():
        same = rows[(rows.variant == variant) & (rows.learning_rate == step)]
        chosen[variant] = same.set_index("seed").sort_index()
    return chosen


def numbers(frame: pd.DataFrame, protocol: dict) -> dict:
    """Return everything that the figures' captions and the report say of the runs."""
    frame = with_variants(frame)
    grid = frame[frame.part.isin(TUNED)]
    provided = {
        variant: rows.set_index("seed").sort_index()
        for variant, rows in frame[frame.part.isin(PROVIDED)].groupby("variant")
    }
    steps = best_steps(grid)
    tuned = at_steps(grid, steps)
    return {
        "provided": levels(provided, protocol["epochs"]),
        "tuned": with_steps(levels(tuned, protocol["epochs"]), steps, grid, protocol["learning_rate"]),
        "best": {"provided": the_best(provided), "tuned": the_best(tuned)},
        "holm": after_holm({"provided": provided, "tuned": tuned}),
        "layer_against_batch": {
            step: mean_interval(runs["layer"].test_accuracy - runs["batch"].test_accuracy)
            for step, runs in (("provided", provided), ("tuned", tuned))
        },
        "against_twin": {
            mode: mean_interval(provided[mode].test_accuracy - provided[twin].test_accuracy)
            for mode, twin in TWINS.items()
        },
        "batch_size": by_batch_size(frame, protocol["images"] - protocol["validation"]),
        "batch_size_holm": batch_sizes_after_holm(frame),
        "gradient": by_group_size(frame[frame.part == "gradient"], protocol["hidden_size"]),
        "depth": by_depth(frame[frame.part == "depth"]),
        "depth_holm": depths_after_holm(frame[frame.part == "depth"]),
        "sgd_momentum": {
            mode: mean_interval(rows.test_accuracy)
            for mode, rows in frame[frame.part == "sgd momentum"].groupby("mode")
        },
    }


def levels(runs: dict[str, pd.DataFrame], early: int) -> dict:
    """Return what each variant reaches, and its differences to none, and before it where it stands after the ReLU.

    "validation_as_early": after so many epochs only.
    """
    none, reached = runs["none"], {}
    for variant, rows in runs.items():
        row: dict[str, Any] = {}
        for key in ("test_accuracy", "test_loss"):
            row[key] = mean_interval(rows[key])
        for key in ("validation_accuracy", "validation_loss", "train_loss"):
            row[key] = mean_interval(last(rows[key]))
        row["validation_as_early"] = mean_interval([curve[early - 1] for curve in rows.validation_accuracy])
        losses = np.nanmean(floats(rows.validation_loss), axis=0)
        row["epoch_of_least_validation_loss"] = int(np.nanargmin(losses)) + 1
        if variant != "none":
            row["minus_none"] = {key: mean_interval(rows[key] - none[key]) for key in ("test_accuracy", "test_loss")}
            fitted = pd.Series(last(rows.train_loss), rows.index) - pd.Series(last(none.train_loss), none.index)
            row["minus_none"]["train_loss"] = mean_interval(fitted)
        if variant.endswith("_after"):
            row["minus_before"] = mean_interval(rows.test_accuracy - runs[variant.removesuffix("_after")].test_accuracy)
        if variant.endswith("_start"):
            row["minus_usual"] = mean_interval(rows.test_accuracy - runs["weight"].test_accuracy)
        if variant not in TWINS.values():
            row["training_accuracy"] = mean_interval(rows.training_accuracy)
            row["active"], row["dead"] = ends(rows.active), ends(rows.dead)
        reached[variant] = row
    return reached


def ends(column: pd.Series) -> dict:
    """Return the intervals of what was measured of each layer's ReLU, before training ("first") and after it."""
    measured = floats(column)  # (seeds, epochs + 1, layers)
    return {
        "first": [mean_interval(layer) for layer in measured[:, 0].T],
        "last": [mean_interval(layer) for layer in measured[:, -1].T],
    }


def with_steps(reached: dict, steps: dict[str, float], grid: pd.DataFrame, provided: float) -> dict:
    """Return the levels at the best steps with what the grid of seed 0 says of each variant's steps."""
    for variant, row in reached.items():
        swept = grid[(grid.variant == variant) & (grid.seed == 0)].sort_values("learning_rate")
        accuracies = pd.Series(last(swept.validation_accuracy), index=swept.learning_rate)
        largest = accuracies[accuracies > LEARNED].index.max()
        beyond = swept.active[swept.learning_rate > largest]
        row |= {
            "learning_rate": steps[variant],
            "largest_that_learns": largest,
            "active_beyond": [beyond.iloc[0][-1]] if len(beyond) else [],  # at the end, with the grid's next step
            "gain_of_the_step": accuracies[steps[variant]] - accuracies[provided],
            "ahead_of_the_next_step": accuracies.max() - accuracies.drop(steps[variant]).max(),
        }
    return reached


def the_best(runs: dict[str, pd.DataFrame]) -> dict:
    """Return the variants by hand, ordered by validation accuracy, and by how much each leads the next in test."""
    own = {variant: rows for variant, rows in runs.items() if variant not in TWINS.values()}
    order = sorted(own, key=lambda variant: -last(own[variant].validation_accuracy).mean())
    leads = [mean_interval(own[first].test_accuracy - own[second].test_accuracy) for first, second in pairwise(order)]
    return {"order": order, "leads": leads}


def after_holm(both: dict[str, dict[str, pd.DataFrame]]) -> list[dict]:
    """Return the comparisons of test accuracies with none's at both steps, corrected together (Holm 1979)."""
    comparisons, p_values = [], []
    for step, runs in both.items():
        for variant, rows in runs.items():
            if variant != "none" and variant not in TWINS.values():
                comparisons.append({"step": step, "variant": variant})
                p_values.append(p_of_mean(rows.test_accuracy - runs["none"].test_accuracy))
    return [{**row, "p": p} for row, p in zip(comparisons, holm(p_values), strict=True)]


def batch_size_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with several batch sizes; "batch" has the momentum that goes with the size.

    Those with Keras's momentum whatever the size have the mode "batch_fixed".
    """
    fixed, scaled = (frame[frame.part == part] for part in ("batch size", "batch size, momentum"))
    usual = frame[frame.part == "protocol"].batch_size.iloc[0]
    other = (fixed["mode"] == "batch") & (fixed.batch_size != usual)
    return pd.concat([fixed.assign(mode=fixed["mode"].mask(other, "batch_fixed")), scaled], ignore_index=True)


def by_batch_size(frame: pd.DataFrame, images: int) -> dict:
    """Return what the modes reach after one epoch of so many training images, by batch size."""
    by_size = {}
    for batch_size, rows in batch_size_runs(frame).groupby("batch_size"):
        scores = rows.pivot(index="seed", columns="mode", values="test_accuracy")
        row = {mode: mean_interval(scores[mode]) for mode in scores}
        row["none_minus_layer"] = mean_interval(scores["none"] - scores["layer"])
        if "batch" in scores:
            row["layer_minus_batch"] = mean_interval(scores["layer"] - scores["batch"])
        row["updates"] = images // batch_size
        by_size[str(batch_size)] = row
    return by_size


def batch_sizes_after_holm(frame: pd.DataFrame) -> dict[str, float]:
    """Return the p values of layer minus batch normalization by batch size, corrected for their number (Holm 1979)."""
    p_values = {}
    for batch_size, rows in batch_size_runs(frame).groupby("batch_size"):
        scores = rows.pivot(index="seed", columns="mode", values="test_accuracy")
        if "batch" in scores:
            p_values[str(batch_size)] = p_of_mean(scores["layer"] - scores["batch"])
    return holm_by_name(p_values)


def depths_after_holm(runs: pd.DataFrame) -> dict[str, float]:
    """Return the p values of batch and layer normalization minus none by depth, such as "batch 10", corrected."""
    p_values = {}
    for depth, rows in runs.groupby("further_layers"):
        chosen = at_steps(rows, best_steps(rows))
        for variant in ("batch", "layer"):
            gains = chosen[variant].test_accuracy - chosen["none"].test_accuracy
            p_values[f"{variant} {int(depth)}"] = p_of_mean(gains)
    return holm_by_name(p_values)


def by_group_size(runs: pd.DataFrame, features: int) -> dict:
    """Return which share of the gradient survives the affine normalization, by batch size, measured and predicted.

    Of m values that share their statistics m - 2 dimensions survive: batch norm's are the minibatch's, layer norm's
    the image's features.
    """
    shares: dict[str, dict] = {"batch": {}, "layer": {}}
    for row in runs.itertuples():
        together = row.batch_size if row.mode == "batch" else features
        measured = mean_interval(floats(row.surviving))
        shares[row.mode][str(row.batch_size)] = {"measured": measured, "predicted": (together - 2) / together}
    return shares


def by_depth(runs: pd.DataFrame) -> dict:
    """Return what each variant reaches at its best step after one epoch, by the number of further layers."""
    by_layers = {}
    for depth, rows in runs.groupby("further_layers"):
        steps = best_steps(rows)
        chosen = at_steps(rows, steps)
        row = {}
        for variant, same in chosen.items():
            swept = rows[(rows.variant == variant) & (rows.seed == 0)]
            learned = swept.learning_rate[last(swept.validation_accuracy) > LEARNED]
            row[variant] = {"learning_rate": steps[variant], "largest_that_learns": learned.max()}
            row[variant]["test_accuracy"] = mean_interval(same.test_accuracy)
            row[variant]["by_seed"] = list(same.test_accuracy)
            if variant != "none":
                row[variant]["minus_none"] = mean_interval(same.test_accuracy - chosen["none"].test_accuracy)
        by_layers[str(int(depth))] = row
    return by_layers
