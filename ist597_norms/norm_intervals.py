"""What problem 1's comparison makes of its runs: each mode's best step, paired differences, intervals.

numbers = at_each_best_step(grid, 0.01)["tuned"]["batch"]["minus_none"]      {"mean", "low", "high", "n"}

frame, protocol, grid, ...: runs of `p1_compare_norms.py`, a row each.
"""

from typing import Any

import pandas as pd

from ist597_norms.cnn import BY_HAND, TWINS
from utils.intervals import mean_interval
from utils.records import floats, last

LEARNED = 0.2  # accuracy: twice that of guessing


def best_steps(frame: pd.DataFrame, part: str = "tuned") -> dict[str, float]:
    """Return for each mode the step size of the best validation accuracy after the last epoch, seed 0."""
    grid = frame[(frame.part == part) & (frame.seed == 0)]
    scored = grid.assign(score=last(grid.validation_accuracy))
    return {mode: float(rows.loc[rows.score.idxmax()].learning_rate) for mode, rows in scored.groupby("mode")}


def scores_at_best_steps(frame: pd.DataFrame, part: str) -> dict[str, pd.Series]:
    """Return the test accuracies (seeds,) of each mode in a part of the runs, at its best step there."""
    scores = {}
    for mode, step in best_steps(frame, part).items():
        rows = frame[(frame.part == part) & (frame["mode"] == mode) & (frame.learning_rate == step)]
        scores[mode] = rows.set_index("seed").test_accuracy
    return scores


def by_seed(frame: pd.DataFrame, key: str = "test_accuracy") -> pd.DataFrame:
    """Return a number of each run: a row for each seed, a column for each mode."""
    return frame.pivot(index="seed", columns="mode", values=key)


def at_the_provided_step(protocol: pd.DataFrame) -> dict:
    """Return what every mode reaches by the provided file's protocol, and the differences to none and to its twin."""
    accuracy, loss = by_seed(protocol), by_seed(protocol, "test_loss")
    gains = {mode: accuracy[mode] - accuracy["none"] for mode in TWINS}
    return {
        "test_accuracy": {mode: mean_interval(accuracy[mode]) for mode in accuracy},
        "test_loss": {mode: mean_interval(loss[mode]) for mode in loss},
        "active": {mode: active(protocol[protocol["mode"] == mode]) for mode in BY_HAND},
        "layer_against_batch": mean_interval(accuracy["layer"] - accuracy["batch"]),
        "against_none": {mode: mean_interval(gain) for mode, gain in gains.items()},
        "against_twin": {mode: mean_interval(accuracy[mode] - accuracy[twin]) for mode, twin in TWINS.items()},
        "least_gain": {mode: gain.min() for mode, gain in gains.items()},
        "greatest_gain": {mode: gain.max() for mode, gain in gains.items()},
    }


def after_the_relu(after: pd.DataFrame, protocol: pd.DataFrame) -> dict:
    """Return what batch and layer normalization reach after the ReLU, and the differences to before it and to none."""
    before, numbers = by_seed(protocol), {}
    for mode, rows in after.groupby("mode"):
        scores = rows.set_index("seed").test_accuracy
        numbers[mode] = {
            "test_accuracy": mean_interval(scores),
            "minus_before": mean_interval(scores - before[mode]),
            "minus_none": mean_interval(scores - before["none"]),
            "active": active(rows),
        }
    return numbers


def active(rows: pd.DataFrame) -> dict:
    """Return the intervals of the active shares (convolution, affine layer), before training and after it."""
    shares = floats(rows.active)  # (seeds, epochs + 1, 2)
    return {
        "first": [mean_interval(layer) for layer in shares[:, 0].T],
        "last": [mean_interval(layer) for layer in shares[:, -1].T],
    }


def at_each_best_step(grid: pd.DataFrame, provided: float) -> dict:
    """Return what each mode reaches at its best step, and what the step itself does against the `provided` one."""
    steps, tuned = best_steps(grid), scores_at_best_steps(grid, "tuned")
    numbers = {}
    for mode in BY_HAND:
        swept = grid[(grid["mode"] == mode) & (grid.seed == 0)].sort_values("learning_rate")
        ends = pd.Series(last(swept.validation_accuracy), index=swept.learning_rate)
        largest = ends[ends > LEARNED].index.max()
        beyond = swept.active[swept.learning_rate > largest]
        numbers[mode] = {
            "learning_rate": steps[mode],
            "largest_that_learns": largest,
            "active_beyond": [beyond.iloc[0][-1]] if len(beyond) else [],  # at the end, with the next step of the grid
            "test_accuracy": mean_interval(tuned[mode]),
            "minus_none": mean_interval(tuned[mode] - tuned["none"]),
            "first_seed_minus_none": tuned[mode].loc[0] - tuned["none"].loc[0],  # what a single seed would have said
            "gain_of_the_step": ends[steps[mode]] - ends[provided],  # of validation accuracy: same seed, same epochs
        }
    return {"tuned": numbers, "tuned_layer_against_batch": mean_interval(tuned["layer"] - tuned["batch"])}


def from_data(frame: pd.DataFrame) -> dict:
    """Return what weight normalization reaches from its data-dependent start, beside its usual start and none.

    At the provided step ("provided") and each at its own best step ("tuned").
    """
    numbers: dict[str, Any] = {}
    for name, part, usual in (("provided", "data start", "protocol"), ("tuned", "data start, tuned", "tuned")):
        scores, others = scores_at_best_steps(frame, part)["weight"], scores_at_best_steps(frame, usual)
        numbers[name] = {
            "test_accuracy": mean_interval(scores),
            "minus_usual": mean_interval(scores - others["weight"]),
            "minus_none": mean_interval(scores - others["none"]),
        }
    numbers["learning_rate"] = best_steps(frame, "data start, tuned")["weight"]
    numbers["test_loss"] = mean_interval(frame[frame.part == "data start"].test_loss)
    return numbers


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
    numbers = {}
    for batch_size, rows in batch_size_runs(frame).groupby("batch_size"):
        scores = by_seed(rows)
        row = {mode: mean_interval(scores[mode]) for mode in scores}
        row["none_minus_layer"] = mean_interval(scores["none"] - scores["layer"])
        if "batch" in scores:
            row["layer_minus_batch"] = mean_interval(scores["layer"] - scores["batch"])
        row["updates"] = images // batch_size
        numbers[str(batch_size)] = row
    return numbers
