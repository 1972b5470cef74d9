"""Problems 4.4 and 4.5: the training loss against the batch size; b_min and b_max, also found automatically.

4.4 At the rate lr_min, batch sizes from 64 to 8192: does the training loss behave as it does against the rate?
4.5 Which are b_min and b_max? An algorithm that determines the batch size, as a block diagram.

    python coms6998_hw2/p4_4_batch_size_range.py                  the full protocol: a run takes half an hour on a CPU
                                                                  core that multiplies bfloat16, 1.5 h on others
    python coms6998_hw2/p4_4_batch_size_range.py --preset quick   fewer images, sizes and epochs, 30 to 40 s

Large batches are made of micro-batches of 64, whose gradients add up: what batch norm sees is the same for all sizes.
Reads lr_min and the candidates of p4_2_learning_rate_range's summary. Writes
report/results/p4_4_batch_size_range/*.json and their summary, and figures/p4_4_batch_size_range.png, _noise.png and
_algorithm.png; each also as .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from dataclasses import dataclass

import numpy as np
import pandas as pd

from coms6998_hw2.problem_4 import automatic_batch_size as algorithm
from coms6998_hw2.problem_4.batch_size_figures import draw, draw_algorithm, draw_noise
from coms6998_hw2.problem_4.range_rules import batch_size_range, loss_at
from coms6998_hw2.problem_4.training_run import (
    DATASET,
    MICRO_BATCH,
    QUICK_NETWORK,
    Training,
    after_the_last_epoch,
    batch_sizes,
    constant_plan,
)
from utils import plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.data import usable_name
from utils.intervals import geometric_interval, mean_interval
from utils.records import last, read_summary, write_summary
from utils.runs import sweep

STEM = "p4_4_batch_size_range"
RANGE_STEM = "p4_2_learning_rate_range"  # whose summary has lr_min, and the curve to compare with
BATCH_SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 8192]  # question 4.4
EPOCHS = 5  # as in question 4.2
NOISE_STEPS = 40  # gradients of each of the two batches, each time the noise scale is measured
LAST_SHARE = 0.2  # of the updates at which sizes are compared: the loss is the mean over these
# The powers of two nearest to what seed 0 reads at lr_min, fixed before question 4.6 was run: constants, so that no
# later reading invalidates its runs. A test says that seed 0 still reads them.
B_MIN, B_MAX = 64, 2048
# 4.2's candidate in the middle of its minimum: there rate / batch passes through the whole of that curve's valley.
LARGE_RATE = 0.7742636826811278
SEEDS = {"lr_min": 3, "large rate": 0}  # how many of each part are recorded


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: dict[str, int]
    sizes: list[int]
    micro_batch: int
    epochs: int
    images: int
    noise_steps: int
    range: tuple[int, int]
    network: dict


PRESETS = {
    "full": Preset(
        seeds=SEEDS,
        sizes=BATCH_SIZES,
        micro_batch=MICRO_BATCH,
        epochs=EPOCHS,
        images=60_000,
        noise_steps=NOISE_STEPS,
        range=(B_MIN, B_MAX),
        network={},
    ),
    "quick": Preset(
        seeds=SEEDS | {"lr_min": 1},
        sizes=[8, 16, 32, 64],
        micro_batch=8,
        epochs=2,
        images=150,
        noise_steps=2,
        range=(8, 64),  # so few updates need not show a rise to read it off
        network=QUICK_NETWORK,
    ),
}


def configs(preset: str, lr_min: float) -> list[dict]:
    """Return the batch sizes, the growing-batch tests and the noise scales, each with every seed.

    At lr_min and, where SEEDS says so, at LARGE_RATE: names and parts then say so, too.
    """
    size, runs = PRESETS[preset], []
    ends = {"smallest": size.sizes[0], "largest": size.sizes[-1]}
    measured = {"batch_size": size.micro_batch, "steps": size.noise_steps}
    for at, seeds in size.seeds.items():
        prefix, suffix = ("", "") if at == "lr_min" else ("large_rate_", ", large rate")
        base = {
            "dataset": DATASET,
            "images": size.images,
            "precision": "fastest",
            "epochs": size.epochs,
            "micro_batch": size.micro_batch,
            "learning_rate": lr_min if at == "lr_min" else LARGE_RATE,
            **size.network,
        }
        for seed in range(seeds):
            for batch_size in size.sizes:
                named = {"name": f"{prefix}batch{batch_size}_seed{seed}", "part": f"candidate{suffix}"}
                runs.append({**named, **base, "batch_size": batch_size, "seed": seed})
            named = {"name": f"{prefix}range_seed{seed}", "part": f"range{suffix}"}
            runs.append({**named, **base, **ends, "seed": seed})
            named = {"name": f"{prefix}noise_seed{seed}", "part": f"noise{suffix}"}
            runs.append({**named, **base, **measured, "seed": seed})
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train with one batch size, with a growing one, or measure the noise scale between epochs."""
    training = Training(config, options)
    kind = config["part"].removesuffix(", large rate")
    if kind == "range":
        return {**algorithm.growing_batch_test(training, config), "environment": training.environment}
    images = len(training.training_indices)
    plan = constant_plan(images, config["batch_size"], config["learning_rate"], config["epochs"])
    if kind == "candidate":
        return training.follow(plan, keep_updates=True)
    lengths = [algorithm.gradient_lengths(training, config)]
    for epoch in plan:
        training.epoch(*epoch)
        lengths.append(algorithm.gradient_lengths(training, config))
    return {"lengths": lengths, "environment": training.environment}


def summarise(frame: pd.DataFrame, rate_summary: dict, settled: tuple[int, int]) -> dict:
    """Return the losses by batch size beside question 4.2's curve, and b_min and b_max: settled, read, by algorithm."""
    swept, noises = frame[frame.part == "candidate"], frame[frame.part == "noise"]
    first = swept.iloc[0]
    smallest, largest = int(swept.batch_size.min()), int(swept.batch_size.max())
    candidates = [candidate(size, rows) for size, rows in swept.groupby("batch_size")]
    readings = [reading(rows) for _, rows in swept.groupby("seed")]
    b_min, b_max = settled
    noise = [noise_over_seeds(lengths, first.images) for lengths in zip(*noises.lengths, strict=True)]
    stop = geometric_interval(stops(frame[frame.part == "range"], swept[swept.batch_size == smallest]))
    automatic = algorithm.automatic_range(stop["mean"], noise[-1]["mean"], smallest, largest)
    return {
        "protocol": {
            "dataset": first.dataset,
            "epochs": first.epochs,
            "lr_min": first.learning_rate,
            "micro_batch": first.micro_batch,
            "largest": largest,
            "windows": algorithm.WINDOWS,
            "behind": algorithm.BEHIND,
            "noise_batch": noises.lengths.iloc[0][0]["b_big"],
        },
        "candidates": candidates,
        "equal_updates": [at_equal_updates(swept, updates) for updates in update_levels(swept)],
        "mirrored": mirrored(swept, first.learning_rate, rate_summary),
        "readings": {  # each seed's
            "b_min": [low for low, _ in readings],
            "b_max": [high for _, high in readings],
        },
        "b_min": b_min,
        "b_max": b_max,
        "noise_scale": noise,
        "range_stop": stop,
        "automatic": {"b_min": automatic[0], "b_max": automatic[1]},
    }


def candidate(size: int, rows: pd.DataFrame) -> dict:
    """Return what a batch size reaches after its last epoch."""
    return {"batch_size": int(size), **after_the_last_epoch(rows), "updates": int(rows.updates.iloc[0])}


def reading(rows: pd.DataFrame) -> tuple[float, float]:
    """Return b_min and b_max as the rule reads them off one seed's curve; NaN where the loss never falls."""
    rows = rows.sort_values("batch_size")
    try:
        return batch_size_range(rows.batch_size, last(rows.batch_loss))
    except ValueError:
        return np.nan, np.nan


def update_levels(swept: pd.DataFrame) -> list[int]:
    """Return the numbers of updates at which sizes are compared: what each makes, but for the smallest size."""
    made = {size: rows.update_losses.map(len).min() for size, rows in swept.groupby("batch_size")}
    return [int(made[size]) for size in sorted(made, reverse=True)[:-1]]


def at_equal_updates(swept: pd.DataFrame, updates: int) -> dict:
    """Return {"updates", "loss": {batch size: mean loss just before so many updates}}; sizes that make fewer lack."""
    first, losses_by_size = updates - max(1, round(updates * LAST_SHARE)), {}
    for size, rows in swept.groupby("batch_size"):
        if rows.update_losses.map(len).min() >= updates:
            means = [np.mean(np.array(losses[first:updates], float)) for losses in rows.update_losses]
            losses_by_size[str(int(size))] = mean_interval(means)
    return {"updates": updates, "loss": losses_by_size}


def mirrored(swept: pd.DataFrame, learning_rate: float, rate_summary: dict) -> list[dict]:
    """Return question 4.2's candidates whose rate / batch is that of a batch between the smallest and the largest.

    Each with the loss at its rate and, read between two sizes, that at the batch of equal ratio, over the seeds that
    4.2 has. Read the other way round, between rates that lie further apart, the chord would stray from the curve.
    """
    same = swept[swept.seed < max(row["loss"]["n"] for row in rate_summary["candidates"])]  # 4.2's seeds are 0, 1, ...
    losses = last(same.batch_loss)
    curve = pd.Series(losses, index=same.batch_size).groupby("batch_size").mean()
    pairs = []
    for row in rate_summary["candidates"]:
        size = learning_rate * rate_summary["protocol"]["batch_size"] / row["rate"]
        if curve.index.min() <= size <= curve.index.max():
            pair = {"loss_at_rate": row["loss"]["mean"], "loss": float(loss_at(curve.index, curve, size))}
            pairs.append({"rate": row["rate"], "batch_size": size, **pair})
    return pairs


def noise_over_seeds(lengths: tuple[dict, ...], images: int) -> dict:
    """Return the interval of the noise scale at one time, from each seed's lengths of gradients.

    One beyond the number of images, infinity too, counts as that number: no batch is larger.
    """
    scales = [algorithm.noise_scale(seed["small"], seed["big"], seed["b_small"], seed["b_big"]) for seed in lengths]
    return geometric_interval(np.minimum(scales, images))


def stops(tests: pd.DataFrame, constant: pd.DataFrame) -> list[float]:
    """Return where each growing-batch test falls behind the run of the same seed with the smallest batch."""
    constant = constant.set_index("seed")
    batches = []
    for _, test in tests.iterrows():
        beside = constant.loc[test.seed]
        sizes = np.tile(batch_sizes(sum(test.sizes) // test.epochs, int(beside.batch_size)), test.epochs)
        losses = np.array(test.losses, float)
        batches.append(algorithm.falling_behind(test.sizes, losses, np.array(test.asked), sizes, beside.update_losses))
    return batches


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    keys = ("lr_min", "candidates", "protocol")
    rate_summary = read_summary(RANGE_STEM, options, usable_name(DATASET, options), keys)
    frame = sweep(STEM, run, configs(options.preset, rate_summary["lr_min"]), options)
    try:
        summary = summarise(frame, rate_summary, PRESETS[options.preset].range)
    except ValueError as error:
        sys.exit(f"{STEM}: {error}; nothing drawn.")
    dataset, protocol = frame.dataset.iloc[0], summary["protocol"]
    plotting.save(draw(frame, summary, rate_summary), STEM, options, dataset)
    plotting.save(draw_noise(frame, summary), f"{STEM}_noise", options, dataset)
    write_summary(STEM, summary, options, frame)
    diagram = draw_algorithm(protocol["micro_batch"], protocol["largest"], protocol["noise_batch"])
    plotting.save(diagram, f"{STEM}_algorithm", options)  # last: the next script can do without schemdraw


if __name__ == "__main__":
    main()
