"""Problem 4.3: the cyclical learning rate with exponential decay between question 4.2's lr_min and lr_max.

Train and validation loss and accuracy over 48 epochs (three cycles of 16), batch size 64, against constant rates, the
undamped cycle and one cycle at equal epochs.

    python coms6998_hw2/p4_3_cyclical_learning_rate.py                  the full protocol: 15 runs of 48 epochs, about
                                                                        a minute each on a GPU, 2 h on two CPU cores
                                                                        that multiply bfloat16, 8 h on others
    python coms6998_hw2/p4_3_cyclical_learning_rate.py --network lenet5 the same with LeNet-5, 1.5 h on two cores
    python coms6998_hw2/p4_3_cyclical_learning_rate.py --preset quick   fewer images, arms, seeds and epochs, about 25 s

Reads lr_min and lr_max from p4_2_learning_rate_range's summary, so that one runs first. Writes
report/results/p4_3_cyclical_learning_rate/*.json and their summary, and figures/p4_3_cyclical_learning_rate.png, .svg;
with LeNet-5 all of these are named ..._lenet5.
"""

import math
import sys
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from coms6998_hw2.fashion_training import (
    BATCH_SIZE,
    MOMENTUM,
    NETWORKS,
    Plan,
    Run,
    batch_sizes,
    best_of,
    of_network,
    read_results,
    sweep,
)
from coms6998_hw2.p4_2_learning_rate_range import RANGE
from coms6998_hw2.p4_2_learning_rate_range import STEM as RANGE_STEM
from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import mean_interval
from utils.provenance import provenance
from utils.records import write_summary

STEM = "p4_3_cyclical_learning_rate"
CURVES = ("validation_accuracy", "validation_loss", "train_accuracy", "train_loss")  # a value for each epoch
STEP_EPOCHS, CYCLES = 8, 3  # the post's: half a cycle, and 48 epochs in all
FINAL_AMPLITUDE = 0.05  # of the first cycle's, after the last update: what gamma is chosen for
ARMS = ["cyclical", "triangular", "one_cycle", "constant_lr_max", "constant_lr_min"]
LABELS = {"cyclical": "cyclical, decaying", "triangular": "cyclical", "one_cycle": "one cycle",
          "constant_lr_max": f"constant, {plotting.LR_MAX}",
          "constant_lr_min": f"constant, {plotting.LR_MIN}"}  # fmt: skip
PRESETS = {
    "full": {"seeds": 3, "arms": ARMS, "step_epochs": STEP_EPOCHS, "images": 60_000, "batch_size": BATCH_SIZE},
    "quick": {"seeds": 1, "arms": ARMS[:3], "step_epochs": 1, "images": 200, "batch_size": 16},
}


def configs(preset: str, lr_min: float, lr_max: float) -> list[dict]:
    """Return every arm with every seed: the cyclical arm first, then the others seed by seed."""
    size = PRESETS[preset]
    first, *others = size["arms"]
    order = [(first, seed) for seed in range(size["seeds"])]
    order += [(arm, seed) for seed in range(size["seeds"]) for arm in others]
    return [
        {
            "name": f"{arm}_seed{seed}",
            "dataset": "fashion_mnist",
            "images": size["images"],
            "batch_size": size["batch_size"],
            "precision": "fastest",
            "arm": arm,
            "lr_min": lr_min,
            "lr_max": lr_max,
            "step_epochs": size["step_epochs"],
            "epochs": 2 * size["step_epochs"] * CYCLES,
            "seed": seed,
        }
        for arm, seed in order
    ]


def rates(arm: str, lr_min: float, lr_max: float, step: int, updates: int) -> np.ndarray:
    """Return the learning rate (updates,) of each update; `step` is half a cycle, in updates.

    The schedules are torch's own: CyclicLR (Smith 2017; exp_range with the gamma that leaves 5% of the amplitude at the
    end, or triangular) and OneCycleLR. Raises ValueError unless 0 < lr_min < lr_max, step >= 1 and updates >= 1, and
    for an unknown arm.
    """
    if not 0 < lr_min < lr_max < np.inf:
        raise ValueError(f"the rates go from {lr_min} to {lr_max}; they must be positive, finite and increase")
    if updates < 1:
        raise ValueError(f"there are {updates} updates; a schedule needs at least one")
    if step < 1:
        raise ValueError(f"half a cycle is {step} updates; it must be at least one")
    if arm not in ARMS:
        raise ValueError(f"arm {arm!r} is unknown; choose from {', '.join(ARMS)}")
    if arm.startswith("constant"):
        return np.full(updates, lr_min if arm == "constant_lr_min" else lr_max)
    schedule = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr_min)
    if arm == "one_cycle":
        scheduler = schedule.OneCycleLR(optimizer, lr_max, total_steps=updates, cycle_momentum=False)
    else:
        mode = {"cyclical": "exp_range", "triangular": "triangular"}[arm]
        # cycle_momentum would swing the momentum against the rate; only the rate is under study here.
        scheduler = schedule.CyclicLR(
            optimizer, lr_min, lr_max, step, mode=mode, gamma=FINAL_AMPLITUDE ** (1 / updates), cycle_momentum=False
        )
    found = []
    for _ in range(updates):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        if len(found) < updates:
            scheduler.step()
    return np.array(found)


def plan(config: dict, images: int) -> Plan:
    """Return a config's updates: equal batches, and the arm's rate for each."""
    sizes = batch_sizes(images, config["batch_size"])
    updates = len(sizes) * config["epochs"]
    all_rates = rates(config["arm"], config["lr_min"], config["lr_max"], len(sizes) * config["step_epochs"], updates)
    return [(sizes, part) for part in np.split(all_rates, config["epochs"])]


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network by its arm's schedule; "rates" are those at the beginning of each epoch."""
    training = Run(config, options)
    planned = plan(config, len(training.training))
    return {**training.follow(planned), "rates": [epoch_rates[0] for _, epoch_rates in planned]}


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies and losses with intervals, and paired differences to the cyclical arm."""
    first, seeds = frame.iloc[0], {arm: rows.set_index("seed") for arm, rows in frame.groupby("arm")}
    ends = {
        arm: rows[["test_accuracy", "test_loss"]].assign(**{key: [each[-1] for each in rows[key]] for key in CURVES})
        for arm, rows in seeds.items()
    }
    ends = {arm: rows.astype(float) for arm, rows in ends.items()}
    keys = ("dataset", "images", "batch_size", "epochs", "step_epochs", "lr_min", "lr_max")
    updates = first.epochs * math.ceil((first.images - data.held_out(first.images)) / first.batch_size)
    summary = {
        "protocol": {key: first[key] for key in keys}
        | {"final_amplitude": FINAL_AMPLITUDE, "momentum": MOMENTUM, "arms": list(seeds)},
        "epochs": first.epochs,
        "updates": updates,
        "gamma": FINAL_AMPLITUDE ** (1 / updates),
        "stopped": {arm: rows.stopped.sum() for arm, rows in seeds.items()},
        "against_cyclical": {
            key: {arm: mean_interval(ends[arm][key] - ends["cyclical"][key]) for arm in ends if arm != "cyclical"}
            for key in ("test_accuracy", "test_loss", "train_loss")
        },
        # By how much validation accuracy at the end of each cycle exceeds that at its peak.
        "end_minus_peak": [
            mean_interval(seeds["cyclical"].validation_accuracy.map(partial(_end_minus_peak, first.step_epochs, cycle)))
            for cycle in range(CYCLES)
        ],
    }
    for key in ("test_accuracy", "test_loss", *CURVES):
        summary[key] = {arm: mean_interval(rows[key]) for arm, rows in ends.items()}
    summary["best_validation_accuracy"] = {
        arm: mean_interval([best_of(values) for values in rows.validation_accuracy]) for arm, rows in seeds.items()
    }
    return summary


def _end_minus_peak(step_epochs: int, cycle: int, accuracies: list[float]) -> float:
    """Return the accuracy after a cycle minus the one after half of it; NaN where the run stopped before."""
    peak, end = ((2 * cycle + half) * step_epochs - 1 for half in (1, 2))
    values = np.array(accuracies, float)  # None, after a stop, is NaN
    return values[end] - values[peak] if end < len(values) else np.nan


def draw(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return the figure: the cyclical arm's losses and accuracies as in the post's Figure 4, its rate, and all arms."""
    figure, axes = plotting.subplots(2, 2, height=4.2)
    cyclical = frame[frame.arm == "cyclical"]
    for ax, key, name in ((axes[0, 0], "loss", "loss"), (axes[0, 1], "accuracy", "accuracy")):
        for part, color in (("train", plotting.BLUE), ("validation", plotting.VERMILION)):
            plotting.show_seeds(ax, cyclical[f"{part}_{key}"], color, first=1, style="-", label=part)
        ax.set(ylabel=name, xlabel="epoch")
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend()
    for arm, rows in frame.groupby("arm", sort=False):
        color = plotting.COLORS[arm]
        axes[1, 0].plot(np.arange(len(rows.iloc[0].rates)), rows.iloc[0].rates, color=color, label=LABELS[arm])
        plotting.show_seeds(axes[1, 1], rows.validation_accuracy, color, first=1, style="-")
    axes[1, 0].set(xlabel="epoch", ylabel="learning rate")
    axes[1, 1].set(xlabel="epoch", ylabel="validation accuracy")
    moving = frame[frame.arm != "constant_lr_min"]  # that arm hardly leaves the accuracy of guessing
    shown = np.array([accuracy for curve in moving.validation_accuracy for accuracy in curve], float)
    axes[1, 1].set_ylim(np.nanmin(shown) - 0.01, np.nanmax(shown) + 0.01)
    for ax in axes[:, 1]:
        plotting.in_percent(ax.yaxis, decimals=0)
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv, networks=NETWORKS)
    stem, found = of_network(STEM, options), read_results(RANGE_STEM, options, RANGE)
    runs = data.resolve(configs(options.preset, found["lr_min"], found["lr_max"]), options)
    frame = sweep(STEM, run, runs, options)
    if "cyclical" not in set(frame.arm):
        sys.exit(f"{stem}: no run of the cyclical arm is recorded, which the others are compared with; nothing drawn.")
    summary = {**summarise(frame), "planned": len(runs), "provenance": provenance(frame)}
    plotting.save(draw(frame, summary), stem, options, frame.dataset.iloc[0])
    write_summary(stem, summary, options)


if __name__ == "__main__":
    main()
