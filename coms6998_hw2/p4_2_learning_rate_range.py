"""Problem 4.2: the training loss of MiniGoogLeNet against the learning rate; which are lr_min and lr_max?

Batch size 64; ten candidates between 1e-9 and 1e1, five epochs each from the same initial state; beside them the range
test of the reference post, in which the rate grows after every update.

    python coms6998_hw2/p4_2_learning_rate_range.py                  the full protocol; one seed is about 4.5 h on two
                                                                     CPU cores that multiply bfloat16, 12 h on others,
                                                                     three seeds are some minutes on a GPU
    python coms6998_hw2/p4_2_learning_rate_range.py --preset quick   fewer images, rates, seeds and epochs, about 25 s
    python coms6998_hw2/p4_2_learning_rate_range.py --network lenet5 the full protocol with LeNet-5, 20 min on two cores

Writes report/results/p4_2_learning_rate_range/*.json and their summary, which the next scripts read lr_min and lr_max
from, and figures/p4_2_learning_rate_range.png and .svg; with LeNet-5 all of these are named ..._lenet5.
"""

import copy
import math
import sys

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from coms6998_hw2.fashion_training import (
    BATCH_SIZE,
    MOMENTUM,
    NETWORKS,
    Run,
    assignments_network,
    batch_sizes,
    constant_plan,
    of_network,
    sweep,
)
from coms6998_hw2.range_rules import (
    BEGUN,
    DONE,
    DONE_DENSE,
    SMOOTHING,
    debiased_average,
    falling_range,
    running_mean_of_epoch,
    valley,
)
from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import geometric_interval, mean_interval
from utils.provenance import provenance
from utils.records import complete_seeds, write_summary

STEM = "p4_2_learning_rate_range"
RANGE = ("lr_min", "lr_max")  # of its summary, what the next questions build on
EPOCHS = 5  # question 4.2, like the next line
RATES = np.logspace(-9, 1, 10)
LOWEST, HIGHEST, RANGE_EPOCHS = 1e-10, 1e1, 3  # the range test's, as in the post's Figure 3
GUESSING = math.log(10)  # the loss of one who knows nothing; a final loss of more than twice that has diverged
PRESETS = {
    "full": {"seeds": 3, "rates": RATES.tolist(), "epochs": EPOCHS, "images": 60_000, "batch_size": BATCH_SIZE,
             "float32": RATES[[4, 5, 6]].tolist()},
    # Smaller batches: as many images make more updates.
    "quick": {"seeds": 1, "rates": [1e-6, 1e-4, 3e-3, 1e-2, 3e-2], "epochs": 3, "images": 240, "batch_size": 16,
              "float32": []},
}  # fmt: skip


def configs(preset: str) -> list[dict]:
    """Return the candidates, the continuous range tests, and three candidates in single precision; seed by seed."""
    size = PRESETS[preset]
    base = {"dataset": "fashion_mnist", "images": size["images"], "batch_size": size["batch_size"],
            "precision": "fastest"}  # fmt: skip
    runs = []
    for seed in range(size["seeds"]):
        for rate in size["rates"]:
            runs.append({"name": f"rate{rate:.2e}_seed{seed}", "part": "candidate", **base, "learning_rate": rate,
                         "epochs": size["epochs"], "seed": seed})  # fmt: skip
        runs.append({"name": f"continuous_seed{seed}", "part": "continuous", **base, "lowest": LOWEST,
                     "highest": HIGHEST, "epochs": RANGE_EPOCHS, "seed": seed})  # fmt: skip
    for rate in size["float32"]:
        runs.append({"name": f"rate{rate:.2e}_float32_seed0", "part": "float32", **base, "precision": "float32",
                     "learning_rate": rate, "epochs": size["epochs"], "seed": 0})  # fmt: skip
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one candidate, or do one range test ("rates", "losses": one of each for every update)."""
    training = Run(config, options)
    images = len(training.training)
    if config["part"] == "continuous":
        rates, losses = range_test(
            training, config["lowest"], config["highest"], config["batch_size"], config["epochs"]
        )
        return {"rates": rates, "losses": losses, **training.environment}
    plan = constant_plan(images, config["batch_size"], config["learning_rate"], config["epochs"])
    result = training.follow(plan)
    diverged = result["stopped"] or result["batch_loss"][-1] > 2 * GUESSING
    return {**result, "candidate_diverged": bool(diverged)}


def range_test(
    training: Run, lowest: float, highest: float, batch_size: int, epochs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rates, losses), one of each for every update, while the rate grows exponentially from lowest to highest.

    Afterwards the network and its momentum are what they were. Raises ValueError unless 0 < lowest < highest.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"the rates go from {lowest} to {highest}; they must be positive and increase")
    model, optimizer = training.trainer.model, training.trainer.optimizer
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    sizes = batch_sizes(len(training.training), batch_size)
    rates = np.geomspace(lowest, highest, epochs * len(sizes))
    plan = [(sizes, part) for part in np.split(rates, epochs)]
    losses = np.concatenate([training.epoch(*epoch) for epoch in plan])
    model.load_state_dict(before[0])
    optimizer.load_state_dict(before[1])
    return rates, losses


def summarise(frame: pd.DataFrame, planned: list[float]) -> dict:
    """Return the candidates with intervals, lr_min and lr_max by rule, and the range test's readings.

    `planned`: the protocol's rates. Where some are not recorded yet, lr_min and lr_max are read off the
    range test, as the candidates' curve has gaps, and "complete" is false. Raises ValueError where neither tells.
    """
    candidates = frame[frame.part == "candidate"]
    if candidates.empty:
        raise ValueError("no candidate of the first seed is recorded")
    first = candidates.iloc[0]
    listed = []
    for rate, rows in candidates.groupby("learning_rate"):
        finite = rows[~rows.candidate_diverged.astype(bool)]
        listed.append({
            "rate": rate,
            "loss": mean_interval([losses[-1] for losses in finite.batch_loss]),
            "evaluation_loss": mean_interval([losses[-1] for losses in finite.train_loss]),
            "validation_accuracy": mean_interval([values[-1] for values in finite.validation_accuracy]),
            "diverged": len(rows) - len(finite),
            "n": len(rows),
        })  # fmt: skip
    rates, losses = np.array([row["rate"] for row in listed]), [row["loss"]["mean"] for row in listed]
    continuous = _readings(frame[frame.part == "continuous"])
    untrained = sorted(set(planned) - set(rates))
    complete = not untrained
    if complete:
        low, high = falling_range(rates, losses)
    elif continuous["lr_min"]["n"] > 0:
        low, high = continuous["lr_min"]["mean"], continuous["lr_max"]["mean"]
    else:
        raise ValueError(f"neither all {len(planned)} candidates are recorded nor a range test in which the loss falls")
    single = frame[frame.part == "float32"]
    return {
        "protocol": {"dataset": first.dataset, "epochs": first.epochs, "batch_size": first.batch_size,
                     "images": first.images, "seeds": candidates.seed.nunique(), "range_epochs": RANGE_EPOCHS,
                     "lowest": LOWEST, "highest": HIGHEST, "momentum": MOMENTUM, "begun": BEGUN, "done": DONE,
                     "done_dense": DONE_DENSE, "smoothing": SMOOTHING},
        "candidates": listed,
        "complete": complete,
        "planned_candidates": len(planned),
        "untrained": untrained,
        "reading": {"lr_min": low, "lr_max": high},
        "reading_by_seed": _readings_by_seed(candidates) if complete else None,
        # One digit, as one reads a figure: a range is no finer, and the next questions' runs depend on it.
        "lr_min": float(f"{low:.0e}"),
        "lr_max": float(f"{high:.0e}"),
        "valley": valley(rates, losses) if complete else math.nan,
        "continuous": continuous,
        "float32": [pair for _, row in single.iterrows() for pair in _compared(row, candidates)],
    }  # fmt: skip


def _readings_by_seed(candidates: pd.DataFrame) -> dict:
    """Return the intervals of lr_min and lr_max, each seed's read off its own candidates."""
    readings = []
    for _, rows in candidates.sort_values("learning_rate").groupby("seed"):
        losses = np.array([losses[-1] for losses in rows.batch_loss], float)
        losses[rows.candidate_diverged.astype(bool)] = math.nan
        readings.append(_falling_range(rows.learning_rate.to_numpy(), losses))
    return {name: geometric_interval(values) for name, values in zip(RANGE, np.transpose(readings), strict=True)}


def _falling_range(rates, losses) -> tuple[float, float]:
    """Return what the rule reads, NaN where the loss never falls."""
    try:
        return falling_range(rates, losses)
    except ValueError:
        return math.nan, math.nan


def _readings(tests: pd.DataFrame) -> dict:
    """Return what the rules read off the range tests: smoothed, and as Keras's callback would show them.

    "shift_*": by what factor the latter moves a reading. "lag": by what factor the rate grows over the age of what the
    smoothed loss averages, weight / (1 - weight) updates, so that its readings are late by about that much.
    A test whose loss never falls has no reading: n counts the others.
    """
    readings = {"lr_min": [], "lr_max": [], "valley": [], "keras_lr_min": [], "keras_lr_max": [], "lag": []}
    for _, test in tests.iterrows():
        rates, smoothed = np.array(test.rates), debiased_average(np.array(test.losses, float))
        keras = running_mean_of_epoch(np.array(test.losses, float), len(rates) // RANGE_EPOCHS)
        for prefix, losses in (("", smoothed), ("keras_", keras)):
            low, high = _falling_range(rates, losses)
            readings[f"{prefix}lr_min"].append(low)
            readings[f"{prefix}lr_max"].append(high)
        readings["valley"].append(valley(rates, smoothed))
        readings["lag"].append((rates[1] / rates[0]) ** (SMOOTHING / (1 - SMOOTHING)))
    for name in ("lr_min", "lr_max"):
        readings[f"shift_{name}"] = np.divide(readings[f"keras_{name}"], readings[name])
    return {name: geometric_interval(values) for name, values in readings.items()}


def _compared(row, candidates) -> list[dict]:
    """Return a single-precision run beside the fast one of the same rate, seed and device; [] if there is none."""
    twins = candidates[(candidates.learning_rate == row.learning_rate) & (candidates.seed == row.seed)]
    if twins.empty:
        return []
    fast = twins.iloc[0]
    if fast.environment["precision"] == "float32" or fast.environment["device"] != row.environment["device"]:
        return []
    return [{
        "rate": row.learning_rate,
        "loss": row.batch_loss[-1],
        "fast_loss": fast.batch_loss[-1],
        "validation_accuracy": row.validation_accuracy[-1],
        "fast_validation_accuracy": fast.validation_accuracy[-1],
        "seconds": row.seconds,
        "fast_seconds": fast.seconds,
        "fast_precision": fast.environment["precision"],
    }]  # fmt: skip


def usable(frame: pd.DataFrame, configs: list[dict]) -> pd.DataFrame:
    """Return the runs of the seeds that are recorded in full; where there is none yet, the first seed's runs so far.

    Single-precision runs, which only the first seed has, go along with its others.
    """
    swept = [config for config in configs if config["part"] != "float32"]
    whole = complete_seeds(frame[frame.part != "float32"], swept)
    return frame[frame.seed.isin(set(whole.seed) or {swept[0]["seed"]})]


def draw(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return the figure: loss against rate of the candidates, and of the range test, raw and smoothed two ways."""
    figure, axes = plotting.subplots(1, 2, height=2.9)
    left, right = axes[0]
    candidates, listed = frame[frame.part == "candidate"], summary["candidates"]
    nothing = {"loss": mean_interval([]), "evaluation_loss": mean_interval([])}
    untrained = [{"rate": rate, **nothing} for rate in summary["untrained"]]  # gaps of the line
    shown = sorted([*(row for row in listed if row["loss"]["n"] > 0), *untrained], key=lambda row: row["rate"])
    rates = [row["rate"] for row in shown]
    plotting.show_interval(left, rates, [row["loss"] for row in shown], plotting.BLUE, "last epoch's mean", marker=".")
    plotting.show_interval(left, rates, [row["evaluation_loss"] for row in shown], plotting.ORANGE, "evaluation mode")
    fine = candidates[~candidates.candidate_diverged.astype(bool)]
    left.plot(fine.learning_rate, [losses[-1] for losses in fine.batch_loss], ".", color=plotting.BLUE, alpha=0.5)
    gone = [row["rate"] for row in listed if row["diverged"]]
    if gone:
        left.plot(gone, [0.97] * len(gone), "x", color=plotting.VERMILION, transform=left.get_xaxis_transform(),
                  label="diverged")  # fmt: skip
    for test_number, (_, test) in enumerate(frame[frame.part == "continuous"].iterrows()):
        losses = np.array(test.losses, float)
        label = {0: "every update"}.get(test_number)
        right.plot(test.rates[::4], losses[::4], ".", color="0.8", markersize=1, label=label)
        right.plot(test.rates, debiased_average(losses), color=plotting.BLUE, linewidth=0.8,
                   label=label and "debiased average")  # fmt: skip
        right.plot(test.rates, running_mean_of_epoch(losses, len(losses) // RANGE_EPOCHS), color=plotting.PURPLE,
                   linewidth=0.8, label=label and "mean since the epoch began")  # fmt: skip
    for ax in axes[0]:
        ax.axvspan(summary["lr_min"], summary["lr_max"], color=plotting.GREEN, alpha=0.12, linewidth=0)
        ax.set(xlabel="learning rate", xscale="log", ylim=(0, 2 * GUESSING * 0.75))
        ax.legend(fontsize=6)
    left.set_ylabel("training loss")
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv, networks=NETWORKS)
    stem = of_network(STEM, options)
    runs = data.resolve(configs(options.preset), options)
    if not assignments_network(options):
        runs = [config for config in runs if config["part"] != "float32"]  # the others already are
    frame = usable(sweep(STEM, run, runs, options), runs)
    try:
        summary = summarise(frame, planned=PRESETS[options.preset]["rates"])
    except ValueError as error:
        sys.exit(f"{stem}: {error}; lr_min and lr_max cannot be read off.")
    summary |= {"planned": len(runs), "provenance": provenance(frame)}
    plotting.save(draw(frame, summary), stem, options, frame.dataset.iloc[0])
    write_summary(stem, summary, options)


if __name__ == "__main__":
    main()
