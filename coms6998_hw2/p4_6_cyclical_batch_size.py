"""Problems 4.6 and 4.7: a cyclical batch size with decay, and which cyclical policy is the more accurate.

4.6 The batch cycles between b_min and b_max at the rate lr_min. What corresponds to a decaying rate: a batch that
    grows, or one that shrinks? Both are trained.
4.7 Against the cyclical learning rate: at equal epochs, at equal updates, and at equal noise (rate / batch) throughout.

    python coms6998_hw2/p4_6_cyclical_batch_size.py                  the full protocol: a run takes 1 to 2 h on a CPU
                                                                     core that multiplies bfloat16, 3 h on others
    python coms6998_hw2/p4_6_cyclical_batch_size.py --preset quick   fewer images and epochs, 30 to 40 s

Reads the summaries of p4_3_cyclical_learning_rate and p4_4_batch_size_range, and the records of the former's cyclical
arm. Writes report/results/p4_6_cyclical_batch_size/*.json and their summary, and figures/p4_6_cyclical_batch_size.png
and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from coms6998_hw2.problem_4.batch_policies import asked_sizes, cyclical_batch_size, cyclical_rates, sizes_by_epoch
from coms6998_hw2.problem_4.training_run import (
    DATASET,
    MICRO_BATCH,
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
from utils.records import floats, last, read_runs, read_summary, write_summary
from utils.runs import sweep

STEM = "p4_6_cyclical_batch_size"
RATE_STEM, BATCH_STEM = "p4_3_cyclical_learning_rate", "p4_4_batch_size_range"
RATE_ARM = "cyclical_learning_rate"  # question 4.3's cyclical arm, as it is called here


class Arm(NamedTuple):
    """How an arm is called and drawn; of a batch policy its trajectory, its interpolation, and which rate it keeps."""

    label: str
    color: str
    line: str
    trajectory: str = ""
    interpolation: str = ""
    rate: str = ""


ARMS = {
    RATE_ARM: Arm("rate, Question 4.3", plotting.BLUE, "-"),
    # The rate's mirror: at lr_max, rate / batch is question 4.3's triangle but for its lowest value; at lr_min that
    # triangle times lr_min / lr_max.
    "mirrored": Arm("batch, growing, in 1 / B", plotting.VERMILION, "-", "growing", "harmonic", "lr_min"),
    "mirrored_at_lr_max": Arm("batch, growing, in 1 / B", plotting.VERMILION, "-", "growing", "harmonic", "lr_max"),
    "mirrored_shrinking": Arm("batch, shrinking, in 1 / B", plotting.BLACK, ":", "shrinking", "harmonic", "lr_min"),
    "mirrored_shrinking_at_lr_max": Arm(
        "batch, shrinking, in 1 / B", plotting.BLACK, ":", "shrinking", "harmonic", "lr_max"
    ),
    # Another interpolation.
    "cyclical_batch_size": Arm("batch, growing", plotting.ORANGE, "--", "growing", "geometric", "lr_min"),
    "opposite": Arm("batch, shrinking", plotting.PURPLE, "-.", "shrinking", "geometric", "lr_min"),
    "matched": Arm("batch, growing", plotting.ORANGE, "--", "growing", "geometric", "lr_max"),
    "matched_opposite": Arm("batch, shrinking", plotting.PURPLE, "-.", "shrinking", "geometric", "lr_max"),
    "matched_rate": Arm("rate, equal noise", plotting.SKY, "-"),  # the noise of "matched" at every sample
    "equal_updates": Arm(
        "rate, squeezed", plotting.GREEN, "-"
    ),  # 4.3's policy in as few updates as the growing batch's
}
# How many seeds of each are recorded.
SEEDS = {
    "mirrored": 0,
    "mirrored_at_lr_max": 0,
    "mirrored_shrinking": 0,
    "mirrored_shrinking_at_lr_max": 0,
    "cyclical_batch_size": 3,
    "opposite": 3,
    "matched": 3,
    "matched_opposite": 3,
    "matched_rate": 3,
    "equal_updates": 3,
}
# Of question 4.3's protocol, whose runs are read; all but the last also stand in the configs here.
SHARED = ("images", "epochs", "lr_min", "lr_max", "gamma", "batch_size", "step_epochs")


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: dict[str, int]
    micro_batch: int
    network: dict


PRESETS = {
    "full": Preset(seeds=SEEDS, micro_batch=MICRO_BATCH, network={}),
    "quick": Preset(seeds=dict.fromkeys(SEEDS, 1), micro_batch=8, network=QUICK_NETWORK),
}
# Whose accuracies and losses are compared, seed by seed.
PAIRS = [
    ("mirrored_at_lr_max", RATE_ARM),
    ("mirrored", RATE_ARM),
    ("mirrored", "cyclical_batch_size"),
    ("cyclical_batch_size", RATE_ARM),
    ("cyclical_batch_size", "opposite"),
    ("matched", "matched_rate"),
    ("matched", "matched_opposite"),
]


def configs(preset: str, rate_policy: dict, b_min: int, b_max: int) -> list[dict]:
    """Return the runs, every arm but question 4.3's with every seed; `rate_policy`: the protocol of that question."""
    size, runs = PRESETS[preset], []
    common = {"dataset": DATASET, "precision": "fastest", "micro_batch": size.micro_batch, **size.network}
    common |= {"b_min": b_min, "b_max": b_max, "cycle_epochs": 2 * rate_policy["step_epochs"]}
    # As in question 4.3; its batch size is that of the squeezed rate.
    common |= {key: rate_policy[key] for key in SHARED if key != "step_epochs"}
    for seed in range(max(size.seeds.values())):
        for arm, seeds in size.seeds.items():
            if seed < seeds:
                runs.append({"name": f"{arm}_seed{seed}", "arm": arm, **common, "seed": seed})
    return runs


def plan(config: dict, images: int) -> Plan:
    """Return a config's updates: the sizes and rates of each epoch.

    Raises ValueError for an unknown arm and for sizes that make no sense.
    """
    arm = config["arm"]
    if arm not in SEEDS:
        raise ValueError(f"arm {arm!r} is unknown; choose from {', '.join(SEEDS)}")
    if arm == "matched_rate":
        return matched_rates(config["lr_max"], config["b_min"], *policy_sizes(ARMS["matched"], config, images))
    if arm == "equal_updates":
        sizes, _ = policy_sizes(ARMS["cyclical_batch_size"], config, images)
        return squeezed(config, images, updates=sum(len(epoch_sizes) for epoch_sizes in sizes))
    sizes, asked = policy_sizes(ARMS[arm], config, images)
    if ARMS[arm].rate == "lr_min":
        return [(epoch_sizes, np.full(len(epoch_sizes), config["lr_min"])) for epoch_sizes in sizes]
    # An epoch's last batch may be smaller than planned; its rate is, too, so that rate / batch is as planned.
    return [(epoch_sizes, config["lr_max"] * epoch_sizes / due) for epoch_sizes, due in zip(sizes, asked, strict=True)]


def policy_sizes(arm: Arm, config: dict, images: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return a batch policy's sizes in each epoch, and those it asks for, of which the last may be what was left."""
    updates_of_an_epoch = len(batch_sizes(images, config["batch_size"]))

    def policy(samples):
        return cyclical_batch_size(
            samples,
            b_min=config["b_min"],
            b_max=config["b_max"],
            cycle=config["cycle_epochs"] * images,
            decay=config["gamma"] ** (updates_of_an_epoch / images),  # for each sample: as much in an epoch as the rate
            trajectory=arm.trajectory,
            interpolation=arm.interpolation,
            multiple=config["micro_batch"],
        )

    sizes = sizes_by_epoch(policy, images, config["epochs"])
    return sizes, asked_sizes(policy, sizes)


def matched_rates(rate: float, batch_size: int, sizes: list[np.ndarray], asked: list[np.ndarray]) -> Plan:
    """Return the plan of batches of `batch_size` whose noise, rate / batch, is at every sample that of another plan.

    The other has batches of these `sizes` and the ratio rate / `asked`. The rate of an update is its own size times the
    other plan's ratio at its first sample.
    """
    equal = batch_sizes(int(sizes[0].sum()), batch_size)
    starts = np.cumsum(equal) - equal
    epochs = []
    for epoch_sizes, epoch_asked in zip(sizes, asked, strict=True):
        others = epoch_asked[np.searchsorted(np.cumsum(epoch_sizes), starts, side="right")]
        epochs.append((equal, rate * equal / others))
    return epochs


def squeezed(config: dict, images: int, updates: int) -> Plan:
    """Return question 4.3's plan, its cycles and their decay, in so many updates; a last epoch may end early."""
    cycles = config["epochs"] // config["cycle_epochs"]
    equal = batch_sizes(images, config["batch_size"])
    rates = cyclical_rates(
        updates,
        lr_min=config["lr_min"],
        lr_max=config["lr_max"],
        cycle=2 * max(1, round(updates / (2 * cycles))),
        gamma=config["gamma"] ** (len(equal) * config["epochs"] / updates),
    )
    parts = [rates[start : start + len(equal)] for start in range(0, updates, len(equal))]
    return [(equal[: len(part)], part) for part in parts]


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network by its arm's plan; "sizes" and "rates" are those at the beginning of each epoch."""
    training = Training(config, options)
    planned = plan(config, len(training.training_indices))
    return {
        **training.follow(planned),
        "sizes": [sizes[0] for sizes, _ in planned],
        "rates": [rates[0] for _, rates in planned],
        "epoch_updates": [len(sizes) for sizes, _ in planned],
    }


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies, losses and updates with intervals, and paired differences."""
    opposite, asked = frame[frame.arm == "opposite"], frame[frame.arm == "cyclical_batch_size"]
    equal = at_equal_updates(opposite, asked.updates.iloc[0])
    frame = frame.assign(epochs_done=frame.batch_loss.map(len), final_train_loss=last(frame.train_loss))
    runs = {arm: rows.set_index("seed") for arm, rows in frame.groupby("arm", sort=False)}
    first = runs["cyclical_batch_size"].iloc[0]
    keys = ("dataset", "images", "micro_batch", "lr_min", "lr_max", "gamma", "b_min", "b_max", "cycle_epochs")
    cycle = int(first.cycle_epochs)
    summary: dict[str, Any] = {
        "protocol": {key: first[key] for key in keys},
        "epochs": {arm: rows.epochs_done.max() for arm, rows in runs.items()},
        "updates": {arm: rows.updates.max() for arm, rows in runs.items()},
        "dips": first.sizes[cycle // 2 :: cycle],  # the batch at the middle of each cycle
        "planned_updates": planned_updates(first),
        "opposite_at_equal_updates": equal,
        "accuracy_by_seed": {arm: rows.test_accuracy.tolist() for arm, rows in runs.items()},
        "differences": {},
    }
    for key in ("train_loss", "test_accuracy", "selected_test_accuracy"):
        column = "final_train_loss" if key == "train_loss" else key
        values = {arm: rows[column].astype(float) for arm, rows in runs.items()}
        summary[key] = {arm: mean_interval(rows) for arm, rows in values.items()}
        summary["differences"][key] = {}
        for a, b in PAIRS:  # over the seeds that both have
            if a not in values or b not in values:
                continue  # not recorded: see SEEDS
            summary["differences"][key][f"{a}_minus_{b}"] = mean_interval((values[a] - values[b]).dropna())
    return summary


def planned_updates(row: pd.Series) -> dict[str, int]:
    """Return how many updates the mirrored policies would make in the place of a recorded run."""
    made = {}
    for arm in ("mirrored", "mirrored_shrinking"):
        planned = recorded_plan(plan, pd.Series({**row, "arm": arm}))
        made[arm] = sum(len(sizes) for sizes, _ in planned)
    return made


def at_equal_updates(rows: pd.DataFrame, updates: int) -> dict:
    """Return the training loss after the epoch that ends nearest to so many updates, and how many those are."""
    made = np.cumsum(rows.epoch_updates.iloc[0])[: rows.train_loss.map(len).min()]  # as far as no run has stopped
    epoch = int(np.argmin(np.abs(made - updates)))
    return {"updates": made[epoch], "train_loss": mean_interval([losses[epoch] for losses in rows.train_loss])}


def draw(frame: pd.DataFrame, rate_runs: pd.DataFrame) -> plotting.Figure:
    """Return the figure: batch policies at lr_min and at lr_max beside question 4.3's rate, their batches and updates.

    rate_runs: question 4.3's.
    """
    figure, axes = plotting.subplots(3, 2, height=5.0)
    runs = {arm: rows.set_index("seed") for arm, rows in frame.groupby("arm", sort=False)}
    runs[RATE_ARM] = rate_runs.set_index("seed")
    for row, rate in enumerate(("lr_min", "lr_max")):
        name = {"lr_min": plotting.LR_MIN, "lr_max": plotting.LR_MAX}[rate]
        losses, accuracies = axes[row]
        for arm, about in ARMS.items():
            if arm in runs and (arm == RATE_ARM or about.rate == rate):
                for ax, key in ((losses, "train_loss"), (accuracies, "validation_accuracy")):
                    curves = [floats(curve) for curve in runs[arm][key]]
                    plotting.show_seeds(ax, curves, about.color, first=1, style=about.line, label=about.label)
        losses.set(yscale="log", ylabel="training loss", title=f"batch policies at {name}")
        plotting.in_ones_twos_and_fives(losses.yaxis)
        accuracies.set(ylabel="validation accuracy", title=f"batch policies at {name}")
        plotting.in_percent(accuracies.yaxis, decimals=0)
    for arm, rows in runs.items():
        if ARMS[arm].rate == "lr_min":
            epochs, sizes, numbers = by_update(rows.iloc[0])
            style = {"color": ARMS[arm].color, "linestyle": ARMS[arm].line}
            axes[2, 0].plot(epochs, sizes, label=ARMS[arm].label, **style)
            axes[2, 1].plot(epochs, numbers, **style)
    first = rate_runs.iloc[0]
    axes[2, 1].plot([0, first.epochs], [0, first.updates], color=ARMS[RATE_ARM].color, label=ARMS[RATE_ARM].label)
    axes[2, 0].set(ylabel="batch size")
    axes[2, 0].set_yscale("log", base=2)
    axes[2, 1].set(ylabel="updates so far")
    asked = runs["cyclical_batch_size"].iloc[0]
    legends: dict[str, Any] = {}
    for ax in axes.flat:
        ax.set_xticks(range(0, int(asked.epochs) + 1, int(asked.cycle_epochs)))
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            legends.setdefault(label, handle)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    figure.legend(list(legends.values()), list(legends), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def by_update(row: pd.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, of a run's updates as planned, when each begins, in epochs, its batch size and its number from one.

    An epoch's last batch, which takes what is left, is left out.
    """
    sizes = [epoch_sizes for epoch_sizes, _ in recorded_plan(plan, row)]
    whole = np.concatenate([np.arange(len(epoch_sizes)) < len(epoch_sizes) - 1 for epoch_sizes in sizes])
    every = np.concatenate(sizes)
    starts = (np.cumsum(every) - every) / sum(sizes[0])
    return starts[whole], every[whole], np.arange(1, len(every) + 1)[whole]


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    dataset = usable_name(DATASET, options)
    rate_policy = read_summary(RATE_STEM, options, dataset, ("protocol",))["protocol"]
    batch_range = read_summary(BATCH_STEM, options, dataset, ("b_min", "b_max"))
    same = {key: rate_policy[key] for key in SHARED}
    rate_runs = read_runs(RATE_STEM, options, arm="cyclical", dataset=dataset, **same)
    frame = sweep(STEM, run, configs(options.preset, rate_policy, batch_range["b_min"], batch_range["b_max"]), options)
    both = pd.concat([rate_runs.assign(arm=RATE_ARM), frame], ignore_index=True)
    summary = summarise(both)
    plotting.save(draw(frame, rate_runs), STEM, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
