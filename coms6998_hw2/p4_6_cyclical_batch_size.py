"""Problems 4.6 and 4.7: a cyclical batch size with decay, and which cyclical policy is the more accurate.

4.6 The batch cycles between b_min and b_max at the rate lr_min. What corresponds to a decaying rate: a batch that
    grows, or one that shrinks? Both are trained.
4.7 Against the cyclical learning rate: at equal epochs, at equal updates, and at equal noise (rate / batch) throughout.

    python coms6998_hw2/p4_6_cyclical_batch_size.py                  the full protocol: 28 runs of up to 48 epochs, a
                                                                     minute each on a GPU, 2 h each on two CPU cores
                                                                     that multiply bfloat16, 8 h on others
    python coms6998_hw2/p4_6_cyclical_batch_size.py --network lenet5 the same with LeNet-5, 2.5 h on two cores
    python coms6998_hw2/p4_6_cyclical_batch_size.py --preset quick   fewer images, seeds and epochs, about 25 s

Reads the summaries of p4_2_learning_rate_range and p4_4_batch_size_range, and the records of
p4_3_cyclical_learning_rate's cyclical arm. Writes report/results/p4_6_cyclical_batch_size/*.json and their summary, and
figures/p4_6_cyclical_batch_size.png and .svg; with LeNet-5 all of these are named ..._lenet5.
"""

import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from coms6998_hw2 import p4_3_cyclical_learning_rate as p4_3
from coms6998_hw2.batch_policies import asked_sizes, cyclical_batch_size, sizes_by_epoch
from coms6998_hw2.fashion_training import (
    MICRO_BATCH,
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
from coms6998_hw2.p4_4_batch_size_range import STEM as BATCH_STEM
from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import mean_interval
from utils.provenance import provenance
from utils.records import write_summary

STEM = "p4_6_cyclical_batch_size"
ARMS = {
    "cyclical_batch_size": "batch, growing",  # the assignment's: at lr_min
    "opposite": "batch, shrinking",
    "matched": f"batch, growing, at {plotting.LR_MAX}",  # with the noise of the next one at every sample
    "matched_rate": "rate, equal noise",
    "matched_opposite": f"batch, shrinking, at {plotting.LR_MAX}",  # at lr_min the number of updates alone decides
    "equal_updates": "rate, equal updates",  # question 4.3's policy, cut to as many updates as the first arm makes
}
FIRST = 4  # arms: those that answer the questions; every seed of them comes before the others
PAIR = ("matched", "matched_rate")  # they differ so little that it takes more seeds to say by how much
AT_LR_MIN = ("cyclical_batch_size", "opposite")
OTHER = "cyclical_learning_rate"  # question 4.3's cyclical arm
PRESETS = {
    "full": {"seeds": 3, "pair_seeds": 8, "micro_batch": MICRO_BATCH, "images": 60_000, "arms": list(ARMS)},
    "quick": {"seeds": 1, "pair_seeds": 1, "micro_batch": 8, "images": 150, "arms": ["cyclical_batch_size", *PAIR]},
}


def configs(preset: str, rate_range: dict, batch_range: dict, cyclical: list[dict]) -> list[dict]:
    """Return every arm with every seed, the arms that answer the questions first; `cyclical`: 4.3's cyclical arm."""
    size, other = PRESETS[preset], cyclical[0]
    order = [(arm, seed) for arms in (size["arms"][:FIRST], size["arms"][FIRST:]) for seed in range(size["seeds"])
             for arm in arms]  # fmt: skip
    order += [(arm, seed) for seed in range(size["seeds"], size["pair_seeds"]) for arm in PAIR]
    return [
        {
            "name": f"{arm}_seed{seed}",
            "dataset": "fashion_mnist",
            "images": size["images"],
            "micro_batch": size["micro_batch"],
            "precision": "fastest",
            "arm": arm,
            "lr_min": rate_range["lr_min"],
            "lr_max": rate_range["lr_max"],
            "b_min": batch_range["b_min"],
            "b_max": batch_range["b_max"],
            "batch_size": other["batch_size"],  # of the arm with equal updates, as in question 4.3
            "cycle_epochs": 2 * other["step_epochs"],
            "epochs": other["epochs"],
            "seed": seed,
        }
        for arm, seed in order
    ]


def plan(config: dict, images: int) -> Plan:
    """Return a config's updates: the sizes and rates of each epoch.

    Raises ValueError for an unknown arm, rates that are not positive and increasing, no images or epochs, and sizes
    that make no sense.
    """
    if images < 1 or config["epochs"] < 1:
        raise ValueError(f"there are {images} images and {config['epochs']} epochs; both must be at least one")
    if config["arm"] not in ARMS:
        raise ValueError(f"arm {config['arm']!r} is unknown; choose from {', '.join(ARMS)}")
    if not 0 < config["lr_min"] < config["lr_max"] < np.inf:
        raise ValueError(
            f"the rates go from {config['lr_min']} to {config['lr_max']}; they must be positive, finite and increase"
        )
    epochs, cycle = config["epochs"], config["cycle_epochs"] * images
    decay = p4_3.FINAL_AMPLITUDE ** (1 / (epochs * images))  # for each sample
    choices = {"b_min": config["b_min"], "b_max": config["b_max"], "cycle": cycle, "decay": decay}

    arm = config["arm"]
    trajectory = "shrinking" if "opposite" in arm else "growing"

    def policy(samples):
        return cyclical_batch_size(samples, **choices, trajectory=trajectory, multiple=config["micro_batch"])

    batches = sizes_by_epoch(policy, images, epochs)
    if arm in AT_LR_MIN:
        return [(sizes, np.full(len(sizes), config["lr_min"])) for sizes in batches]
    if arm in ("matched", "matched_opposite"):
        # An epoch's last batch may be smaller than planned; its rate is, too, so that rate / batch is as planned.
        asked = asked_sizes(policy, batches)
        return [(sizes, config["lr_max"] * sizes / due) for sizes, due in zip(batches, asked, strict=True)]
    if arm == "matched_rate":
        return matched_rates(config["lr_max"], config["b_min"], batches, asked_sizes(policy, batches))
    return cut_short(config, images, updates=sum(len(sizes) for sizes in batches))


def matched_rates(rate: float, batch_size: int, sizes: list[np.ndarray], asked: list[np.ndarray]) -> Plan:
    """Return the plan of batches of `batch_size` whose noise, rate / batch, is at every sample that of another plan.

    The other has batches of these `sizes` and the ratio rate / `asked`. The rate of an update is its own size times the
    other plan's ratio at its first sample.
    """
    equal, found = batch_sizes(int(sizes[0].sum()), batch_size), []
    starts = np.cumsum(equal) - equal
    for epoch_sizes, epoch_asked in zip(sizes, asked, strict=True):
        others = epoch_asked[np.searchsorted(np.cumsum(epoch_sizes), starts, side="right")]
        found.append((equal, rate * equal / others))
    return found


def cut_short(config: dict, images: int, updates: int) -> Plan:
    """Return question 4.3's plan, all three cycles of it, in exactly so many updates; its last epoch may end early."""
    equal = batch_sizes(images, config["batch_size"])
    step = max(1, round(updates / (2 * p4_3.CYCLES)))
    rates = p4_3.rates("cyclical", config["lr_min"], config["lr_max"], step, updates)
    parts = [rates[start : start + len(equal)] for start in range(0, updates, len(equal))]
    return [(equal[: len(part)], part) for part in parts]


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network by its arm's plan; "sizes" and "rates" are those at the beginning of each epoch."""
    training = Run(config, options)
    planned = plan(config, len(training.training))
    return {
        **training.follow(planned),
        "sizes": [sizes[0] for sizes, _ in planned],
        "rates": [rates[0] for _, rates in planned],
        "epoch_updates": [len(sizes) for sizes, _ in planned],
    }


def summarise(frame: pd.DataFrame, other: pd.DataFrame) -> dict:
    """Return accuracies, updates and seconds with intervals, and paired differences; `other`: 4.3's cyclical arm."""
    curves = {arm: rows.set_index("seed") for arm, rows in frame.groupby("arm", sort=False)}
    curves[OTHER] = other.set_index("seed")
    runs = {arm: rows.assign(train_loss=[losses[-1] for losses in rows.train_loss]) for arm, rows in curves.items()}
    first = frame.iloc[0]
    keys = ("dataset", "images", "micro_batch", "lr_min", "lr_max", "b_min", "b_max", "cycle_epochs", "epochs")
    pairs = [("cyclical_batch_size", OTHER), ("cyclical_batch_size", "opposite"), ("matched", "matched_rate"),
             ("matched", "matched_opposite"), ("cyclical_batch_size", "equal_updates"), ("matched", OTHER),
             ("matched_opposite", OTHER)]  # fmt: skip
    summary = {
        "protocol": {key: first[key] for key in keys} | {"arms": list(runs)},
        "epochs": {arm: rows.batch_loss.map(len).max() for arm, rows in runs.items()},
        "updates": {arm: rows.updates.max() for arm, rows in runs.items()},
        "stopped": {arm: rows.stopped.sum() for arm, rows in runs.items()},
        "seconds": _seconds(runs),
        "differences": {
            key: {
                f"{a}_minus_{b}": mean_interval((runs[a][key] - runs[b][key]).astype(float).dropna())
                for a, b in pairs
                if a in runs and b in runs
            }
            for key in ("test_accuracy", "selected_test_accuracy", "train_loss")
        },
        # What the policy came to, as an epoch begins: its dips decay from the start, so they do not reach b_min.
        "sizes": {arm: [min(map(min, rows.sizes)), max(map(max, rows.sizes))] for arm, rows in frame.groupby("arm")},
        "curve_distance": _distances({arm: rows.train_loss for arm, rows in curves.items()}),
    }
    for key in ("test_accuracy", "selected_test_accuracy", "selected_epoch", "test_loss", "train_loss"):
        summary[key] = {arm: mean_interval(rows[key].astype(float)) for arm, rows in runs.items()}
    summary["best_validation_accuracy"] = {
        arm: mean_interval([best_of(values) for values in rows.validation_accuracy]) for arm, rows in runs.items()
    }
    return summary


def curve_distance(losses: list[float], others: list[float]) -> float:
    """Return the factor, at least 1, by which two curves of losses differ: its geometric mean over the epochs of both.

    An epoch after a run has stopped (its loss is None) counts in neither.
    """
    both = min(len(losses), len(others))
    ratios = np.divide(np.array(losses[:both], float), np.array(others[:both], float))
    return float(np.exp(np.nanmean(np.abs(np.log(ratios)))))


def _distances(curves: dict[str, pd.Series]) -> dict:
    """Return {"mean", "least", "most", "n"} of the distances of training curves: of two arms, and of an arm's seeds."""
    found = {}
    for a, b in (("matched", "matched_rate"), ("matched_opposite", "matched_rate")):
        if a in curves and b in curves:
            seeds = curves[a].index.intersection(curves[b].index)
            found[f"{a}_to_{b}"] = [curve_distance(curves[a][seed], curves[b][seed]) for seed in seeds]
    found["seed_to_seed"] = [curve_distance(*pair) for pair in combinations(curves.get("matched_rate", ()), 2)]
    return {
        name: {"mean": np.mean(values), "least": min(values), "most": max(values), "n": len(values)}
        for name, values in found.items()
        if values
    }


def _seconds(runs: dict) -> dict:
    """Return, by device and precision, the seconds of each arm's runs: those of different machines do not mix."""
    found = {}
    for arm, rows in runs.items():
        used = rows.environment.map(lambda environment: f"{environment['device']}, {environment['precision']}")
        for kind, part in rows.seconds.groupby(used):
            found.setdefault(kind, {})[arm] = mean_interval(part)
    return found


def draw(frame: pd.DataFrame, other: pd.DataFrame) -> Figure:
    """Return the figure: loss, accuracy, batch size and updates over the epochs, every arm and seed."""
    figure, axes = plotting.subplots(3, 2, height=6.0)
    for arm, rows in pd.concat([frame, other.assign(arm=OTHER)], ignore_index=True).groupby("arm", sort=False):
        color, label = plotting.COLORS[arm], ARMS.get(arm, "rate, Question 4.3")
        slow = arm in AT_LR_MIN  # these hardly learn: beside them the others could not be told apart
        for ax, curves in zip(axes[0 if slow else 1], (rows.train_loss, rows.validation_accuracy), strict=True):
            plotting.show_seeds(ax, curves, color, first=1, style="-", label=label)
        if arm != OTHER:
            row = rows.iloc[0]
            style = "--" if arm.startswith("matched") else "-"  # some lie on others
            axes[2, 0].plot(range(len(row.sizes)), row.sizes, style, color=color)
            axes[2, 1].plot(range(1, len(row.sizes) + 1), np.cumsum(row.epoch_updates), style, color=color)
    for row, where in enumerate((f"at {plotting.LR_MIN}", "the others")):
        axes[row, 0].set(xlabel="epoch", ylabel="training loss", title=where)
        axes[row, 1].set(xlabel="epoch", ylabel="validation accuracy", title=where)
        plotting.in_percent(axes[row, 1].yaxis, decimals=0)
    axes[1, 0].set_yscale("log")
    axes[2, 0].set(xlabel="epoch", ylabel="batch size at its beginning")
    axes[2, 0].set_yscale("log", base=2)
    axes[2, 1].set(xlabel="epoch", ylabel="updates so far", yscale="log")
    drawn = [*axes[0, 0].get_legend_handles_labels()[0], *axes[1, 0].get_legend_handles_labels()[0]]
    figure.legend(handles=drawn, loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv, networks=NETWORKS)
    stem = of_network(STEM, options)
    rate_range = read_results(RANGE_STEM, options, RANGE)
    batch_range = read_results(BATCH_STEM, options, ("b_min", "b_max"))
    arms = p4_3.configs(options.preset, rate_range["lr_min"], rate_range["lr_max"])
    cyclical = data.resolve([config for config in arms if config["arm"] == "cyclical"], options)
    other = sweep(p4_3.STEM, p4_3.run, cyclical, replace(options, fresh=False))  # another script's runs
    runs = data.resolve(configs(options.preset, rate_range, batch_range, cyclical), options)
    frame = sweep(STEM, run, runs, options)
    if "cyclical_batch_size" not in set(frame.arm):
        sys.exit(f"{stem}: no run of question 4.6's own policy is recorded; nothing drawn.")
    summary = {**summarise(frame, other), "planned": len(runs), "provenance": provenance(frame)}
    plotting.save(draw(frame, other), stem, options, frame.dataset.iloc[0])
    write_summary(stem, summary, options)


if __name__ == "__main__":
    main()
