"""Problems 4.4 and 4.5: the training loss against the batch size; b_min and b_max, also found automatically.

4.4 At the rate lr_min, batch sizes from 64 to 8192: does the training loss behave as it does against the rate?
4.5 Which are b_min and b_max? An algorithm that determines the batch size, as a block diagram.

    python coms6998_hw2/p4_4_batch_size_range.py                  the full protocol: 54 runs of 5 epochs, ten minutes on
                                                                  a GPU, 13 min each on two CPU cores that multiply
                                                                  bfloat16, 1 h on others
    python coms6998_hw2/p4_4_batch_size_range.py --network lenet5 the same with LeNet-5, half an hour on two cores
    python coms6998_hw2/p4_4_batch_size_range.py --preset quick   fewer images, sizes, seeds and epochs, about 25 s

Large batches are made of micro-batches of 64, whose gradients add up: what batch norm sees is the same for all sizes.
Reads lr_min and lr_max from p4_2_learning_rate_range's summary. Writes report/results/p4_4_batch_size_range/*.json and
their summary, and figures/p4_4_batch_size_range.png, _noise.png and _algorithm.png; each also as .svg. With
LeNet-5 all of these, but the algorithm's picture, are named ..._lenet5.
"""

import math
import sys
import time

import numpy as np
import pandas as pd
import torch

from coms6998_hw2.batch_figures import draw, draw_algorithm, draw_noise
from coms6998_hw2.batch_policies import asked_sizes, sizes_by_epoch
from coms6998_hw2.fashion_training import (
    MICRO_BATCH,
    MOMENTUM,
    NETWORKS,
    Run,
    batch_sizes,
    constant_plan,
    of_network,
    read_results,
    sweep,
)
from coms6998_hw2.noise_scale import automatic_range, falling_behind, noise_scale, power_of_two
from coms6998_hw2.p4_2_learning_rate_range import RANGE
from coms6998_hw2.p4_2_learning_rate_range import STEM as RANGE_STEM
from coms6998_hw2.range_rules import batch_size_range, mirrored
from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import geometric_interval, mean_interval
from utils.provenance import provenance
from utils.records import complete_seeds, write_summary

STEM = "p4_4_batch_size_range"
BATCH_SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 8192]  # question 4.4
EPOCHS = 5
WINDOW = 0.2  # of the updates at which sizes are compared: the loss is the mean over the last of them
BIG_PARTS = 16  # micro-batches in the large batch of the noise scale
PRESETS = {
    "full": {
        "seeds": 3,
        "sizes": BATCH_SIZES,
        "micro_batch": MICRO_BATCH,
        "epochs": EPOCHS,
        "images": 60_000,
        "noise_steps": 40,
    },
    "quick": {"seeds": 1, "sizes": [8, 16, 32, 64], "micro_batch": 8, "epochs": 2, "images": 150, "noise_steps": 2},
}


def configs(preset: str, lr_min: float, lr_max: float) -> list[dict]:
    """Return the batch sizes at lr_min and at the geometric middle, the range tests and the noise scales; by seed."""
    size, runs = PRESETS[preset], []
    middle = float(f"{math.sqrt(lr_min * lr_max):.1e}")
    base = {"dataset": "fashion_mnist", "images": size["images"], "precision": "fastest", "epochs": size["epochs"],
            "micro_batch": size["micro_batch"]}  # fmt: skip
    for seed in range(size["seeds"]):
        for rate_name, rate in (("lr_min", lr_min), ("middle", middle)):
            for batch_size in size["sizes"]:
                runs.append({"name": f"{rate_name}_batch{batch_size}_seed{seed}", "part": rate_name, **base,
                             "learning_rate": rate, "batch_size": batch_size, "seed": seed})  # fmt: skip
        common = {**base, "learning_rate": middle, "seed": seed}
        runs.append({"name": f"range_seed{seed}", "part": "range", **common, "smallest": size["sizes"][0],
                     "largest": size["sizes"][-1]})  # fmt: skip
        runs.append({"name": f"noise_seed{seed}", "part": "noise", **common, "batch_size": size["micro_batch"],
                     "steps": size["noise_steps"]})  # fmt: skip
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train with one batch size, with a growing one, or measure the noise scale between epochs."""
    training = Run(config, options)
    images = len(training.training)
    if config["part"] == "range":
        return {**range_test(training, config), **training.environment}
    plan = constant_plan(images, config["batch_size"], config["learning_rate"], config["epochs"])
    if config["part"] == "noise":
        measured = [gradient_lengths(training, config)]
        for epoch in plan:
            training.epoch(*epoch)
            measured.append(gradient_lengths(training, config))
        return {"lengths": measured, **training.environment}
    return training.follow(plan, keep_updates=True)


def range_test(training: Run, config: dict) -> dict:
    """Train while the batch grows exponentially with the images seen; return "sizes" and "losses" of each update.

    As many epochs as planned, at a fixed rate; sizes are multiples of the micro-batch. "asked": the sizes of the
    policy, of which an epoch's last batch may be what was left. The time of each epoch is in the record's environment.
    """
    images, epochs = len(training.training), config["epochs"]
    growth = math.log(config["largest"] / config["smallest"]) / (images * epochs)

    def policy(samples):
        # Geometric in the samples seen: each doubling takes as many samples as the one before.
        size = config["smallest"] * math.exp(growth * samples)
        return max(1, round(size / config["micro_batch"])) * config["micro_batch"]

    sizes, losses, seconds = sizes_by_epoch(policy, images, epochs), [], []
    for epoch in sizes:
        start = time.perf_counter()
        losses.append(training.epoch(epoch, np.full(len(epoch), config["learning_rate"])))
        seconds.append(time.perf_counter() - start)
    return {
        "sizes": np.concatenate(sizes),
        "asked": np.concatenate(asked_sizes(policy, sizes)),
        "losses": np.concatenate(losses),
        "epoch_seconds": seconds,
    }


def gradient_lengths(training: Run, config: dict) -> dict:
    """Return the squared lengths of gradients: "small", of micro-batches (the mean of 16), and "big", of all together.

    The network's running statistics are left as they were.
    """
    trainer, rng, size = training.trainer, np.random.default_rng([config["seed"], 2]), config["micro_batch"]
    buffers = {name: value.clone() for name, value in trainer.model.named_buffers()}
    parts = min(BIG_PARTS, len(training.training) // size)
    lengths = {"small": [], "big": [], "b_small": size, "b_big": parts * size}
    for _ in range(config["steps"]):
        drawn = torch.as_tensor(rng.choice(training.training, parts * size, replace=False))
        total, small = 0, []
        for part in drawn.split(size):
            gradient = trainer.gradient(training.pixels, training.labels, part)
            small.append(float(gradient.square().sum()))
            total = total + gradient
        lengths["small"].append(np.mean(small))
        lengths["big"].append(float((total / parts).square().sum()))
    with torch.no_grad():
        for name, value in trainer.model.named_buffers():
            value.copy_(buffers[name])
    return lengths


def at_equal_updates(rows: pd.DataFrame, updates: int) -> dict:
    """Return, by batch size, the interval of the mean loss just before so many updates; sizes that make fewer lack."""
    last, found = max(1, round(updates * WINDOW)), {}
    for size, runs in rows.groupby("batch_size"):
        if min(len(losses) for losses in runs.update_losses) >= updates:
            before = [np.array(losses[updates - last : updates], float) for losses in runs.update_losses]
            found[str(int(size))] = mean_interval([losses.mean() for losses in before])
    return found


def update_levels(rows: pd.DataFrame) -> list[int]:
    """Return the numbers of updates at which sizes are compared: what the largest makes, and what an eighth of it does.

    After the few updates of the largest hardly anything has moved.
    """
    made = {size: min(len(losses) for losses in runs.update_losses) for size, runs in rows.groupby("batch_size")}
    return [made[max(made)], made[max(size for size in made if size <= max(made) / 8)]]


def summarise(frame: pd.DataFrame) -> dict:
    """Return losses by batch size at both rates, b_min and b_max by rule, and what the algorithm finds.

    Raises ValueError where the rule finds none.
    """
    swept = {part: frame[frame.part == part] for part in ("lr_min", "middle")}
    sizes = sorted({int(size) for size in swept["middle"].batch_size})
    candidates = {part: _candidates(rows, sizes) for part, rows in swept.items()}
    means = {part: [row["loss"]["mean"] for row in listed] for part, listed in candidates.items()}
    found = {part: _reading(sizes, losses) for part, losses in means.items()}
    if found["middle"] is None:
        raise ValueError("b_min and b_max cannot be read off these batch sizes: the loss does not depend on them")
    b_min, b_max = (power_of_two(size, sizes[0], sizes[-1]) for size in found["middle"])
    noise = _noise(frame[frame.part == "noise"])
    constant = swept["middle"][swept["middle"].batch_size == sizes[0]].set_index("seed")
    stops = [_stop(row, constant.loc[row.seed], sizes[0]) for _, row in frame[frame.part == "range"].iterrows()]
    stop = geometric_interval(stops)
    levels = update_levels(swept["middle"])
    automatic = automatic_range(stop["mean"], noise[-1]["mean"], sizes[0], sizes[-1])
    first = frame.iloc[0]
    return {
        "protocol": {"dataset": first.dataset, "images": first.images, "epochs": first.epochs,
                     "lr_min": swept["lr_min"].learning_rate.iloc[0], "middle": swept["middle"].learning_rate.iloc[0],
                     "micro_batch": first.micro_batch, "seeds": frame.seed.nunique(), "largest": sizes[-1],
                     "noise_batch": frame[frame.part == "noise"].lengths.iloc[0][0]["b_big"]},
        "candidates": candidates,
        "equal_updates": [
            {"updates": level, **{part: at_equal_updates(rows, level) for part, rows in swept.items()}}
            for level in levels
        ],
        "reading": found,
        "reading_by_seed": _readings_by_seed(swept["middle"]),
        "reading_without_largest": _reading(sizes[:-1], means["middle"][:-1]),
        "b_min": b_min,
        "b_max": b_max,
        "noise_scale": noise,
        "range_stop": stop,
        "automatic": {"b_min": automatic[0], "b_max": automatic[1]},
    }  # fmt: skip


def _candidates(swept: pd.DataFrame, sizes: list[int]) -> list[dict]:
    """Return what each batch size reaches; "minus_smallest": its loss minus the smallest's of the same seed."""
    last = pd.Series([losses[-1] for losses in swept.batch_loss], [swept.batch_size, swept.seed], dtype=float)
    found = []
    for size in sizes:
        rows = swept[swept.batch_size == size]
        found.append({
            "batch_size": size,
            "loss": mean_interval(last[size]),
            "minus_smallest": mean_interval(last[size] - last[sizes[0]]),
            "evaluation_loss": mean_interval([losses[-1] for losses in rows.train_loss]),
            "validation_accuracy": mean_interval([values[-1] for values in rows.validation_accuracy]),
            "updates": int(rows.updates.iloc[0]),
            "n": len(rows),
        })  # fmt: skip
    return found


def _reading(sizes, losses) -> tuple[float, float] | None:
    """Return b_min and b_max by rule; None where the loss does not depend on the batch size enough to tell."""
    try:
        return batch_size_range(sizes, losses)
    except ValueError:
        return None


def _readings_by_seed(swept: pd.DataFrame) -> dict:
    """Return the intervals of b_min and b_max, each seed's read off its own curve."""
    readings = []
    for _, rows in swept.sort_values("batch_size").groupby("seed"):
        found = _reading(rows.batch_size, [losses[-1] for losses in rows.batch_loss])
        readings.append(found or (math.nan, math.nan))
    names = ("b_min", "b_max")
    return {name: geometric_interval(values) for name, values in zip(names, np.transpose(readings), strict=True)}


def _noise(rows: pd.DataFrame) -> list[dict]:
    """Return the noise scale before training and after each epoch: the seeds' geometric mean and its interval.

    One beyond the number of images, infinity too, counts as that number: no batch is larger.
    """
    found, images = [], rows.images.iloc[0]
    for measured in zip(*rows.lengths, strict=True):
        scales = [noise_scale(*(lengths[key] for key in ("small", "big", "b_small", "b_big"))) for lengths in measured]
        found.append(geometric_interval(np.minimum(scales, images)))
    return found


def _stop(test, constant, smallest: int) -> float:
    """Return where a range test falls behind the run of the same seed with the smallest batch."""
    losses = np.array(constant.update_losses, float)
    epochs = len(constant.batch_loss)
    equal = np.tile(batch_sizes(sum(test.sizes) // epochs, smallest), epochs)
    return falling_behind(np.array(test.sizes), np.array(test.losses, float), np.array(test.asked), equal, losses)


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv, networks=NETWORKS)
    stem = of_network(STEM, options)
    rate_summary = read_results(RANGE_STEM, options, (*RANGE, "candidates", "protocol"))
    runs = data.resolve(configs(options.preset, rate_summary["lr_min"], rate_summary["lr_max"]), options)
    frame = complete_seeds(sweep(STEM, run, runs, options), runs)
    if frame.empty:
        sys.exit(f"{stem}: of no seed all runs are recorded; nothing drawn.")
    try:
        summary = summarise(frame)
    except ValueError as error:
        sys.exit(f"{stem}: {error}; nothing drawn.")
    summary |= {
        "complete": True,  # of the seeds that are here: one that lacks runs is left out
        "planned": len(runs),
        "provenance": provenance(frame),
        "mirrored": mirrored(summary, rate_summary, MOMENTUM),
    }
    dataset = frame.dataset.iloc[0]
    plotting.save(draw(frame, summary, rate_summary), stem, options, dataset)
    plotting.save(draw_noise(frame, summary), f"{stem}_noise", options, dataset)
    write_summary(stem, summary, options)
    diagram = draw_algorithm(*(summary["protocol"][key] for key in ("micro_batch", "largest", "noise_batch")))
    plotting.save(diagram, f"{STEM}_algorithm", options)  # last: the next script can do without schemdraw


if __name__ == "__main__":
    main()
