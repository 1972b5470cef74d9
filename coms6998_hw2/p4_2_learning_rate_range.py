"""Problem 4.2: the training loss of MiniGoogLeNet against the learning rate; which are lr_min and lr_max?

Batch size 64; ten candidates between 1e-9 and 1e1, five epochs each from the same initial state; beside them the range
test of the reference post, in which the rate grows after every update.

    python coms6998_hw2/p4_2_learning_rate_range.py                  the full protocol: about 3 h on two CPU cores that
                                                                     multiply bfloat16, 12 h on others
    python coms6998_hw2/p4_2_learning_rate_range.py --preset quick   fewer images, rates, seeds and epochs, 30 to 40 s

Writes report/results/p4_2_learning_rate_range/*.json and their summary, which the next scripts read lr_min and lr_max
from, and figures/p4_2_learning_rate_range.png and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from coms6998_hw2.problem_4.range_rules import (
    BEGUN,
    DONE,
    DONE_DENSE,
    SMOOTHING,
    debiased_average,
    falling_range,
    running_mean_of_epoch,
    valley,
)
from coms6998_hw2.problem_4.training_run import (
    BATCH_SIZE,
    MOMENTUM,
    QUICK_NETWORK,
    Training,
    after_the_last_epoch,
    batch_sizes,
    constant_plan,
)
from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import geometric_interval
from utils.records import write_summary
from utils.runs import sweep

STEM = "p4_2_learning_rate_range"
EPOCHS = 5  # question 4.2, like the next line
RATES = np.logspace(-9, 1, 10)
LOWEST, HIGHEST, RANGE_EPOCHS = 1e-10, 1e1, 3  # the range test's, as in the post's Figure 3
# What the range tests read, to one digit, as one reads a figure: constants, so that a further seed's reading
# invalidates no run that trained with them. A test says that the recorded reading still gives them.
LR_MIN, LR_MAX = 2e-5, 0.01
GUESSING = math.log(10)  # the loss of one who knows nothing; a final loss of more than twice that has diverged
SEEDS = {"candidate": 1, "continuous": 3}  # how many are recorded: the range is read off the range tests


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: dict[str, int]
    rates: list[float]
    epochs: int
    lowest: float
    images: int
    batch_size: int
    range: tuple[float, float]
    network: dict


PRESETS = {
    "full": Preset(
        seeds=SEEDS,
        rates=RATES.tolist(),
        epochs=EPOCHS,
        lowest=LOWEST,
        images=60_000,
        batch_size=BATCH_SIZE,
        range=(LR_MIN, LR_MAX),
        network={},
    ),
    # Smaller batches: as many images make more updates.
    "quick": Preset(
        seeds=dict.fromkeys(SEEDS, 1),
        rates=[1e-6, 1e-4, 3e-3, 3e-2],
        epochs=2,
        lowest=1e-6,
        images=300,
        batch_size=8,
        range=(1e-4, 1e-2),  # so few updates need not show a fall to read it off
        network=QUICK_NETWORK,
    ),
}


def configs(preset: str) -> list[dict]:
    """Return the candidates and the range tests, as many seeds of each as `SEEDS` says."""
    size = PRESETS[preset]
    base = {
        "dataset": "fashion_mnist",
        "images": size.images,
        "batch_size": size.batch_size,
        "precision": "fastest",
        **size.network,
    }
    runs = []
    for seed in range(size.seeds["candidate"]):
        for rate in size.rates:
            choices = {"learning_rate": rate, "epochs": size.epochs, "seed": seed}
            runs.append({"name": f"rate{rate:.2e}_seed{seed}", "part": "candidate", **base, **choices})
    for seed in range(size.seeds["continuous"]):
        choices = {"lowest": size.lowest, "highest": HIGHEST, "epochs": RANGE_EPOCHS, "seed": seed}
        runs.append({"name": f"continuous_seed{seed}", "part": "continuous", **base, **choices})
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one candidate, or do one range test ("rates", "losses": one of each for every update)."""
    training = Training(config, options)
    if config["part"] == "continuous":
        return {**range_test(training, config), "environment": training.environment}
    images = len(training.training_indices)
    plan = constant_plan(images, config["batch_size"], config["learning_rate"], config["epochs"])
    result = training.follow(plan)
    diverged = result["stopped"] or result["batch_loss"][-1] > 2 * GUESSING
    return {**result, "candidate_diverged": bool(diverged)}


def range_test(training: Training, config: dict) -> dict:
    """Train while the rate grows exponentially from update to update; return "rates" and "losses" (updates,).

    config: "lowest" and "highest" rate, "batch_size", "epochs".
    """
    sizes = batch_sizes(len(training.training_indices), config["batch_size"])
    rates = np.geomspace(config["lowest"], config["highest"], config["epochs"] * len(sizes))
    losses = [training.epoch(sizes, epoch_rates) for epoch_rates in np.split(rates, config["epochs"])]
    return {"rates": rates, "losses": np.concatenate(losses)}


def summarise(frame: pd.DataFrame, settled: tuple[float, float]) -> dict:
    """Return the candidates, what the rule reads off them and off the range tests, and (lr_min, lr_max) as settled."""
    candidates, tests = frame[frame.part == "candidate"], frame[frame.part == "continuous"]
    protocol = {key: candidates[key].iloc[0] for key in ("dataset", "images", "batch_size", "epochs")}
    protocol["training_images"] = protocol["images"] - data.validation_size(protocol["images"])
    protocol |= {"momentum": MOMENTUM, "smoothing": SMOOTHING, "range_epochs": int(tests.epochs.iloc[0])}
    protocol |= {"begun": BEGUN, "done": DONE, "done_dense": DONE_DENSE}
    continuous = readings(tests)
    lr_min, lr_max = settled
    listed = [candidate(rate, rows) for rate, rows in candidates.groupby("learning_rate")]
    low, high = falling_range_or_nan([row["rate"] for row in listed], [row["loss"]["mean"] for row in listed])
    return {
        "protocol": protocol,
        "candidates": listed,
        "candidates_reading": {"lr_min": low, "lr_max": high},
        "continuous": continuous,
        "lr_min": lr_min,
        "lr_max": lr_max,
    }


def candidate(rate: float, rows: pd.DataFrame) -> dict:
    """Return what a rate reaches after its last epoch, over the seeds that did not diverge."""
    finite = rows[~rows.candidate_diverged.astype(bool)]
    return {"rate": rate, **after_the_last_epoch(finite), "diverged": len(rows) - len(finite), "n": len(rows)}


def readings(tests: pd.DataFrame) -> dict:
    """Return what the rules read off the range tests: smoothed, and as Keras's callback would show them.

    "shift_*": by what factor the latter moves a reading. "lag": by what factor the rate grows over the age of what the
    smoothed loss averages, weight / (1 - weight) updates, so that its readings are late by about that much.
    A test whose loss never falls has no reading: n counts the others.
    """
    rows = []
    for _, test in tests.iterrows():
        rates, losses = np.array(test.rates), np.array(test.losses, float)
        weight = smoothing(losses)
        smoothed = debiased_average(losses, weight)
        low, high = falling_range_or_nan(rates, smoothed)
        keras_low, keras_high = falling_range_or_nan(rates, running_mean_of_epoch(losses, len(rates) // RANGE_EPOCHS))
        row = {"lr_min": low, "lr_max": high, "keras_lr_min": keras_low, "keras_lr_max": keras_high}
        row |= {"shift_lr_min": keras_low / low, "shift_lr_max": keras_high / high}
        row["valley"] = math.nan if math.isnan(low) else valley(rates, smoothed)
        row["lag"] = (rates[1] / rates[0]) ** (weight / (1 - weight))
        rows.append(row)
    return {str(name): geometric_interval(values) for name, values in pd.DataFrame(rows).items()}


def smoothing(losses: np.ndarray) -> float:
    """Return the weight of the old average; in a test of few updates, the quick preset's, it reaches less far."""
    return min(SMOOTHING, 1 - 10 / len(losses))


def falling_range_or_nan(rates: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Return what the rule reads, NaN where the loss never falls."""
    try:
        return falling_range(rates, losses)
    except ValueError:
        return math.nan, math.nan


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure: loss against rate of the candidates, and of the range tests, raw and smoothed two ways."""
    figure, axes = plotting.subplots(1, 2, height=2.9)
    left, right = axes[0]
    reached = [row for row in summary["candidates"] if row["loss"]["n"] > 0]
    rates = [row["rate"] for row in reached]
    plotting.show_interval(
        left, rates, [row["loss"] for row in reached], plotting.BLUE, "as trained on", marker="o", markersize=3
    )
    evaluated = [row["evaluation_loss"] for row in reached]
    style = {"linestyle": "--", "marker": "s", "markersize": 3}
    plotting.show_interval(left, rates, evaluated, plotting.ORANGE, "in evaluation", **style)
    diverged = [row["rate"] for row in summary["candidates"] if row["diverged"]]
    if diverged:
        at_the_top = left.get_xaxis_transform()
        left.plot(diverged, [0.97] * len(diverged), "x", color=plotting.VERMILION, transform=at_the_top)
    tests = frame[frame.part == "continuous"]
    for number, (_, test) in enumerate(tests.iterrows()):
        losses = np.array(test.losses, float)
        if number == 0:
            keras = running_mean_of_epoch(losses, len(losses) // RANGE_EPOCHS)
            right.plot(test.rates[::4], losses[::4], ".", color="0.8", markersize=1, label="every fourth update")
            right.plot(
                test.rates,
                keras,
                color=plotting.PURPLE,
                linewidth=1.0,
                linestyle="--",
                label="mean since the epoch began",
            )
        label = "debiased average" if number == 0 else None
        right.plot(
            test.rates, debiased_average(losses, smoothing(losses)), color=plotting.BLUE, linewidth=0.8, label=label
        )
    for ax in axes[0]:
        ax.axvspan(summary["lr_min"], summary["lr_max"], color=plotting.GREEN, alpha=0.12, linewidth=0)
        # The plateau fits; what has diverged does not.
        ax.set(xlabel="learning rate", xscale="log", ylim=(0, 1.6 * GUESSING))
        ax.legend(fontsize=6, loc="lower left")
    low, high = summary["candidates_reading"].values()
    left.axvline(low, color="0.4", linestyle=":", label="the rule's reading")
    left.axvline(high, color="0.4", linestyle=":")
    left.legend(fontsize=6, loc="lower left", frameon=True, edgecolor="none", framealpha=0.9)
    left.set_ylabel("training loss")
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options)
    summary = summarise(frame, PRESETS[options.preset].range)
    plotting.save(draw(frame, summary), STEM, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
