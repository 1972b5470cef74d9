"""Problem 4.3: the cyclical learning rate with exponential decay between question 4.2's lr_min and lr_max.

Train and validation loss and accuracy over 12 epochs (three cycles of 4), batch size 64; beside it constant rates, the
cycle without decay and one cycle at equal epochs; and once the reference post's 48 epochs.

    python coms6998_hw2/p4_3_cyclical_learning_rate.py                  the full protocol: a run takes 1 to 2 h on a CPU
                                                                        core that multiplies bfloat16, 3 h on others,
                                                                        and the last one four times as long
    python coms6998_hw2/p4_3_cyclical_learning_rate.py --preset quick   fewer images and epochs, 30 to 40 s

Reads lr_min and lr_max from p4_2_learning_rate_range's summary, so that one runs first. Writes
report/results/p4_3_cyclical_learning_rate/*.json and their summary, and figures/p4_3_cyclical_learning_rate.png
and _long.png, each also as .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from coms6998_hw2.problem_4.batch_policies import cyclical_rates
from coms6998_hw2.problem_4.training_run import (
    BATCH_SIZE,
    DATASET,
    MOMENTUM,
    QUICK_NETWORK,
    Plan,
    Training,
    batch_sizes,
    recorded_plan,
)
from utils import plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.data import usable_name
from utils.intervals import mean_interval
from utils.records import floats, last, read_summary, write_summary
from utils.runs import sweep

STEM = "p4_3_cyclical_learning_rate"
RANGE_STEM = "p4_2_learning_rate_range"  # whose summary has lr_min and lr_max
# Smith (2017) asks for half cycles of 2 to 10 epochs and three cycles or more; the post has three of 16 epochs.
STEP_EPOCHS, LONG_STEP_EPOCHS, CYCLES = 2, 8, 3
# Of the amplitude, with each update: the value that the reference implementation of cyclical rates documents. It
# leaves 54% after these 12 epochs. Chosen after a first run, whose amplitude fell to 5%, had ended under-trained.
GAMMA = 0.99994
SEEDS = 3  # how many of each arm are recorded; of the long run one
ARMS = {  # the label, the color and the line of each
    "cyclical": ("cyclical, decaying", plotting.BLUE, "-"),
    "triangular": ("cyclical, not decaying", plotting.SKY, "--"),
    "one_cycle": ("one cycle", plotting.GREEN, "-."),
    "constant_lr_max": (f"constant, {plotting.LR_MAX}", plotting.VERMILION, ":"),
    "constant_lr_min": (f"constant, {plotting.LR_MIN}", plotting.BLACK, (0, (6, 2, 1, 2, 1, 2))),
}


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: int
    step_epochs: int
    long_step_epochs: int
    images: int
    batch_size: int
    network: dict


PRESETS = {
    "full": Preset(
        seeds=SEEDS,
        step_epochs=STEP_EPOCHS,
        long_step_epochs=LONG_STEP_EPOCHS,
        images=60_000,
        batch_size=BATCH_SIZE,
        network={},
    ),
    "quick": Preset(
        seeds=1,
        step_epochs=1,
        long_step_epochs=2,
        images=100,
        batch_size=16,
        network=QUICK_NETWORK,
    ),
}


def configs(preset: str, lr_min: float, lr_max: float) -> list[dict]:
    """Return the runs: every arm with every seed, then the decaying cycle once in the post's length."""
    size, runs = PRESETS[preset], []
    for arm in ARMS:
        for seed in range(size.seeds):
            config = {
                "name": f"{arm}_seed{seed}",
                "dataset": DATASET,
                "images": size.images,
                "batch_size": size.batch_size,
                "precision": "fastest",
                **size.network,
                "arm": arm,
                "lr_min": lr_min,
                "lr_max": lr_max,
                "gamma": GAMMA if arm == "cyclical" else 1.0,
                "step_epochs": size.step_epochs,
                "epochs": 2 * size.step_epochs * CYCLES,
                "seed": seed,
            }
            runs.append(config)
    long_step = size.long_step_epochs
    epochs = 2 * long_step * CYCLES
    long = {"name": f"cyclical_{epochs}_epochs_seed0", "step_epochs": long_step, "epochs": epochs}
    return [*runs, {**runs[0], **long}]  # the first is the decaying cycle's, of seed 0


def one_cycle_rates(updates: int, lr_max: float) -> np.ndarray:
    """Return the learning rates (updates,) of PyTorch's OneCycleLR: up to lr_max, then down to almost nothing."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    # cycle_momentum would swing the momentum against the rate; only the rate is under study here.
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr_max, total_steps=updates, cycle_momentum=False)
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(updates - 1):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    return np.array(rates)


def plan(config: dict, images: int) -> Plan:
    """Return a config's updates: equal batches, and the arm's rate for each. Raises ValueError for an unknown arm."""
    sizes = batch_sizes(images, config["batch_size"])
    updates = len(sizes) * config["epochs"]
    arm, lr_min, lr_max = config["arm"], config["lr_min"], config["lr_max"]
    if arm == "constant_lr_min":
        rates = np.full(updates, lr_min)
    elif arm == "constant_lr_max":
        rates = np.full(updates, lr_max)
    elif arm == "one_cycle":
        rates = one_cycle_rates(updates, lr_max)
    elif arm in ("cyclical", "triangular"):  # the latter's gamma is 1
        cycle = 2 * config["step_epochs"] * len(sizes)
        rates = cyclical_rates(updates, lr_min=lr_min, lr_max=lr_max, cycle=cycle, gamma=config["gamma"])
    else:
        raise ValueError(f"arm {arm!r} is unknown; choose from {', '.join(ARMS)}")
    return [(sizes, epoch_rates) for epoch_rates in np.split(rates, config["epochs"])]


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network by its arm's schedule; "rates" are those at the beginning of each epoch."""
    training = Training(config, options)
    planned = plan(config, len(training.training_indices))
    return {**training.follow(planned), "rates": [epoch_rates[0] for _, epoch_rates in planned]}


def by_length(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of all arms, which have one length, and the long one."""
    common = frame.epochs == frame.epochs.min()
    return frame[common], frame[~common]


def summarise(frame: pd.DataFrame) -> dict:
    """Return the arms' accuracies and losses with intervals, differences to the cyclical arm, and the long run."""
    frame, long = by_length(frame)
    cyclical = frame[frame.arm == "cyclical"]
    first = cyclical.iloc[0]
    keys = ("dataset", "images", "batch_size", "epochs", "step_epochs", "lr_min", "lr_max", "gamma")
    ends = {arm: last_values(rows) for arm, rows in frame.groupby("arm", sort=False)}
    summary: dict[str, Any] = {
        "protocol": {key: first[key] for key in keys},
        "momentum": MOMENTUM,
        "epochs": first.epochs,
        "updates": cyclical.updates.max(),
        "final_amplitude": first.gamma ** cyclical.updates.max(),
        "around_peaks": [around_peak(cyclical, cycle) for cycle in range(CYCLES)],
        "accuracy_by_seed": {arm: rows.test_accuracy.tolist() for arm, rows in ends.items()},
        "against_cyclical": {},
        "long": summarise_long(long.iloc[0]),
    }
    for arm, rows in ends.items():
        for key, interval in intervals(rows).items():
            summary.setdefault(key, {})[arm] = interval
        if arm != "cyclical":  # seed by seed
            summary["against_cyclical"][arm] = intervals(rows - ends["cyclical"])
    return summary


def summarise_long(row: pd.Series) -> dict:
    """Return where the long run ended, and its curves after each cycle, as far as it got."""
    cycle = 2 * row.step_epochs
    curves = ("train_loss", "validation_loss", "validation_accuracy")
    return {
        "epochs": row.epochs,
        "step_epochs": row.step_epochs,
        "final_amplitude": row.gamma**row.updates,
        "test_accuracy": row.test_accuracy,
        "cycle_ends": {key: row[key][cycle - 1 :: cycle] for key in curves},
    }


def intervals(rows: pd.DataFrame) -> dict:
    """Return each column's mean and interval."""
    return {key: mean_interval(rows[key]) for key in rows}


def last_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Return an arm's numbers by seed: after the last epoch, "selected" after that of the best validation accuracy."""
    ends = rows.set_index("seed")[["test_accuracy", "test_loss", "selected_test_accuracy"]].astype(float)
    ends["train_accuracy"] = last(rows.train_accuracy)
    return ends


def around_peak(rows: pd.DataFrame, cycle: int) -> list[float | None]:
    """Return the mean validation accuracy before a cycle, after half of it (at the peak), and after it.

    Before the first there is none; runs that stopped before the cycle's end do not count.
    """
    step = int(rows.step_epochs.iloc[0])
    done = [2 * cycle * step, (2 * cycle + 1) * step, (2 * cycle + 2) * step]  # epochs
    # (seeds, epochs)
    whole = floats(values[: done[-1]] for values in rows.validation_accuracy if len(values) >= done[-1])
    if not len(whole):
        return [None, None, None]
    means = whole.mean(axis=0)
    return [float(means[epochs - 1]) if epochs else None for epochs in done]


def draw(frame: pd.DataFrame) -> plotting.Figure:
    """Return the figure: the cyclical arm's losses and accuracies as in the post's Figure 4, its rate, and all arms.

    Above, at full width, what the question asks for, training dashed and validation solid; below, all arms.
    """
    frame, _ = by_length(frame)
    figure, axes = plotting.mosaic("aa;bb;cd", height=5.4)
    above, (schedules, errors) = axes[:2], axes[2:]
    cyclical = frame[frame.arm == "cyclical"]
    show_curves(above, cyclical)
    for arm, rows in frame.groupby("arm", sort=False):
        label, color, line = ARMS[arm]
        planned = recorded_plan(plan, rows.iloc[0])
        rates = np.concatenate([epoch_rates for _, epoch_rates in planned])
        schedules.plot(np.linspace(0, len(planned), len(rates)), rates, color=color, linestyle=line, label=label)
        curves = 1 - floats(rows.validation_accuracy)  # (seeds, epochs)
        epochs = np.arange(1, curves.shape[1] + 1)
        errors.plot(epochs, curves.T, color=color, linewidth=0.3, alpha=0.5)
        errors.plot(epochs, curves.mean(axis=0), color=color, linestyle=line)
    schedules.set_ylabel("learning rate")
    errors.set(ylabel="validation error", yscale="log")
    errors.set_ylim(bottom=0.05)  # the labeled tick below the least of the full protocol
    plotting.in_ones_twos_and_fives(errors.yaxis)
    plotting.in_percent(errors.yaxis, decimals=0)
    for ax in (schedules, errors):
        mark_cycles(ax, cyclical)
    figure.legend(*schedules.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def draw_long(frame: pd.DataFrame) -> plotting.Figure:
    """Return the figure of the long run's losses and accuracies."""
    _, long = by_length(frame)
    figure, axes = plotting.subplots(1, 2, height=1.7)
    show_curves(axes[0], long)
    plotting.label_panels(axes)
    return figure


def show_curves(axes: np.ndarray, rows: pd.DataFrame) -> None:
    """Draw the losses of cyclical runs on the first of two axes and their accuracies on the second."""
    for ax, name in zip(axes, ("loss", "accuracy"), strict=True):
        for part, style in (("train", "--"), ("validation", "-")):
            curves = rows[f"{part}_{name}"]
            plotting.show_seeds(ax, curves, ARMS["cyclical"][1], first=1, style=style, label=part)
        ax.set_ylabel(name)
        mark_cycles(ax, rows)
    axes[0].set_yscale("log")
    plotting.in_ones_twos_and_fives(axes[0].yaxis)
    axes[0].legend()
    plotting.in_percent(axes[1].yaxis, decimals=0)


def mark_cycles(ax: Any, rows: pd.DataFrame) -> None:
    """Put a tick where each cycle of these runs begins and ends."""
    cycle = 2 * rows.step_epochs.iloc[0]
    ends = range(0, cycle * CYCLES + 1, cycle)
    ax.set(xlabel="epoch", xticks=ends, xlim=(ends[0], ends[-1]))


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    rate_range = read_summary(RANGE_STEM, options, usable_name(DATASET, options), ("lr_min", "lr_max"))
    frame = sweep(STEM, run, configs(options.preset, rate_range["lr_min"], rate_range["lr_max"]), options)
    summary = summarise(frame)
    plotting.save(draw(frame), STEM, options, frame.dataset.iloc[0])
    plotting.save(draw_long(frame), f"{STEM}_long", options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
