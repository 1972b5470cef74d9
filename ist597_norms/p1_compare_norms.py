"""Problem 1, the comparison: the network with and without normalization, by hand and by the library.

Which normalization helps on Fashion-MNIST, and does ours train as the library's does? How do they work with a ReLU,
before it and after it? When is layer normalization better than batch normalization?

    python ist597_norms/p1_compare_norms.py                     the full protocol, about 2 h on two cores, resumable
    python ist597_norms/p1_compare_norms.py --preset quick      fewer images, seeds and epochs, about 40 s
    python ist597_norms/p1_compare_norms.py --dataset cifar10   the same on CIFAR-10, as p1_compare_norms_cifar10

Writes report/results/p1_compare_norms/*.json and their summary, and figures/p1_compare_norms.png (the provided file's
protocol), _rates.png (each mode's best step size), _relu.png (before and after the ReLU), _batch_size.png; also .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ist597_norms.cnn import (
    BY_HAND,
    CNN,
    FILTERS,
    MOMENTUM,
    NORMALIZATIONS,
    POOL,
    TWINS,
    WEIGHT_DEVIATION,
    accuracy_function,
)
from ist597_norms.norm_figures import (
    batch_size_runs,
    draw,
    draw_batch_sizes,
    draw_rates,
    draw_relu,
)
from ist597_norms.norms import NO_DIRECTION
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import mean_interval
from utils.provenance import provenance
from utils.records import write_summary
from utils.runs import run_stages

STEM = "p1_compare_norms"
DATASETS = {"fashion_mnist": (60_000, 28), "cifar10": (50_000, 32)}  # training images, and their height
HIDDEN_SIZE, CLASSES = 100, 10  # the provided file's, like the next line
LEARNING_RATE, BATCH_SIZE, EPOCHS = 0.01, 64, 4
# One step size is unfair to some: each mode also gets its best of these. The largest is beyond every best one.
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
BATCH_SIZES = [1, 2, 4, 8, 16, 64, 256]
LEARNED = 0.2  # accuracy: twice that of guessing
WATCHED = 1000  # validation images on which the shares of active units are measured
PRESETS: dict[str, Any] = {
    "full": {"seeds": 5, "epochs": EPOCHS, "tuned_epochs": 10, "rates": RATES, "batch_sizes": BATCH_SIZES,
             "batch_size_seeds": 3, "images": 60_000},
    # Two, the provided file's and the largest batch size: those that the report speaks of.
    "quick": {"seeds": 1, "epochs": 1, "tuned_epochs": 1, "rates": [0.01, 0.1], "batch_sizes": [2, 64, 256],
              "batch_size_seeds": 1, "images": 1000},
}  # fmt: skip


def base_config(preset: str, dataset: str) -> dict:
    """Return what the runs have in common: the provided file's protocol."""
    return {
        "dataset": dataset,
        "mode": "none",
        "position": "before",
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH_SIZE,
        "epochs": PRESETS[preset]["epochs"],
        "images": min(PRESETS[preset]["images"], DATASETS[dataset][0]),
        "seed": 0,
    }


def configs(preset: str, dataset: str = "fashion_mnist") -> list[dict]:
    """Return the runs that depend on no others: the protocol, the ReLU's position, the grid of rates, batch sizes."""
    size, base, runs = PRESETS[preset], base_config(preset, dataset), []
    for seed in range(size["seeds"]):
        for mode in NORMALIZATIONS:
            runs.append({"name": f"{mode}_seed{seed}", "part": "protocol", **base, "mode": mode, "seed": seed})
    for seed in range(size["seeds"]):
        for mode in ("batch", "layer"):  # weight normalization stands at the weights, on neither side of the ReLU
            change = {"mode": mode, "position": "after", "seed": seed}
            runs.append({"name": f"{mode}_after_seed{seed}", "part": "after", **base, **change})
    for rate in size["rates"]:
        for mode in BY_HAND:
            runs.append(tuned_config(base, preset, mode, rate, seed=0))
    # Weight normalization from its paper's data-dependent start instead of g = ||v||.
    for seed in range(size["seeds"]):
        change = {"mode": "weight", "start": "data", "seed": seed}
        runs.append({"name": f"weight_data_start_seed{seed}", "part": "data start", **base, **change})
    for rate in size["rates"]:
        runs.append(tuned_config(base, preset, "weight", rate, seed=0, start="data"))
    for seed in range(size["batch_size_seeds"]):
        for batch_size in size["batch_sizes"]:
            for mode in BY_HAND:
                if mode == "batch" and batch_size == 1:
                    continue  # a dense batch norm of one example has no variance
                # One epoch each; the step size grows with the batch (Goyal et al. 2017), so that an epoch moves as far.
                change = {"mode": mode, "batch_size": batch_size, "epochs": 1, "seed": seed}
                change["learning_rate"] = LEARNING_RATE * batch_size / BATCH_SIZE
                runs.append({"name": f"{mode}_batch{batch_size}_seed{seed}", "part": "batch size", **base, **change})
                if mode == "batch" and batch_size != BATCH_SIZE:
                    # Its running statistics then average over as many images, and forget their start as far.
                    change["momentum"] = MOMENTUM ** (batch_size / BATCH_SIZE)
                    name = f"{mode}_batch{batch_size}_momentum_seed{seed}"
                    runs.append({"name": name, "part": "batch size, momentum", **base, **change})
    return runs


def tuned_config(base: dict, preset: str, mode: str, rate: float, seed: int, start: str | None = None) -> dict:
    """Return the run of the grid of learning rates for a mode, a rate and a seed; `start`: "data", or as usual."""
    change = {"mode": mode, "learning_rate": rate, "epochs": PRESETS[preset]["tuned_epochs"], "seed": seed}
    if start is None:
        return {"name": f"{mode}_rate{rate:g}_seed{seed}", "part": "tuned", **base, **change}
    name = f"{mode}_{start}_start_rate{rate:g}_seed{seed}"
    return {"name": name, "part": f"{start} start, tuned", **base, **change, "start": start}


def best_rates(frame: pd.DataFrame, part: str = "tuned") -> dict[str, float]:
    """Return for each mode the learning rate of the best validation accuracy after the last epoch, seed 0."""
    grid = frame[(frame.part == part) & (frame.seed == 0)]
    scored = grid.assign(score=[accuracies[-1] for accuracies in grid.validation_accuracy])
    return {mode: float(rows.loc[rows.score.idxmax()].learning_rate) for mode, rows in scored.groupby("mode")}


def repeated_configs(preset: str, dataset: str, frame: pd.DataFrame) -> list[dict]:
    """Return the runs of the best rate of each mode with the other seeds; `frame`: the runs of `configs`."""
    base, runs = base_config(preset, dataset), []
    from_data = best_rates(frame, "data start, tuned")["weight"]
    for seed in range(1, PRESETS[preset]["seeds"]):
        for mode, rate in best_rates(frame).items():
            runs.append(tuned_config(base, preset, mode, rate, seed))
        runs.append(tuned_config(base, preset, "weight", from_data, seed, start="data"))
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network; return losses and accuracies after each epoch, and the share of active units.

    "train_loss" is the mean over the epoch's minibatches; "validation_*" after each epoch, "test_*" after the last,
    all with running statistics; "active" (epochs + 1, 2): the shares of positive outputs of the two ReLUs on
    validation images, before training and after each epoch.
    """
    machine.one_thread_each()
    tf.config.set_visible_devices([], "GPU")  # a CPU sweep, a core to a run; the record says so
    tf.get_logger().setLevel("ERROR")  # TensorFlow takes every run's new network for one that is traced again
    images, labels = data.load(config["dataset"], options.data_dir, train=True)
    images, labels = images[: config["images"]], labels[: config["images"]]
    training, validation = data.hold_out(labels)
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False)
    scaled, one_hot = _scale(images), _one_hot(labels)
    watched = scaled[validation[:WATCHED]]
    model = CNN(
        HIDDEN_SIZE,
        CLASSES,
        normalization=config["mode"],
        position=config["position"],
        image_shape=scaled.shape[1:],
        learning_rate=config["learning_rate"],
        momentum=config.get("momentum", MOMENTUM),
        seed=config["seed"],
    )
    if config.get("start") == "data":
        drawn = np.random.default_rng([config["seed"], 2]).choice(training, config["batch_size"], replace=False)
        model.start_from_data(scaled[drawn])
    rng = np.random.default_rng([config["seed"], 1])
    result: dict[str, Any] = {key: [] for key in ("train_loss", "validation_loss", "validation_accuracy")}
    result["active"] = [_shares(model, watched)]
    for epoch in range(config["epochs"]):
        order = rng.permutation(training)
        losses = []
        try:
            # A last, smaller batch would have statistics of its own: its images are left out of this epoch.
            for start in range(0, len(order) - config["batch_size"] + 1, config["batch_size"]):
                batch = order[start : start + config["batch_size"]]
                losses.append(model.backward(scaled[batch], one_hot[batch]))
        except tf.errors.InvalidArgumentError as error:
            if NO_DIRECTION not in error.message:
                raise
            return {"precision": "float32", **_diverged(result, config["epochs"] - epoch)}
        result["train_loss"].append(float(np.mean(losses)))
        loss, accuracy = evaluate(model, scaled[validation], one_hot[validation])
        result["validation_loss"].append(loss)
        result["validation_accuracy"].append(accuracy)
        result["active"].append(_shares(model, watched))
    result["test_loss"], result["test_accuracy"] = evaluate(
        model, _scale(test_images[: config["images"]]), _one_hot(test_labels[: config["images"]])
    )
    return {"precision": "float32", **result}


def _diverged(result: dict, epochs: int) -> dict:
    """Return a result whose last epochs, and test, are NaN."""
    ends = {key: [*values, *[[np.nan] * 2 if key == "active" else np.nan] * epochs] for key, values in result.items()}
    return {**ends, "test_loss": np.nan, "test_accuracy": np.nan}


def _scale(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w, c), float32 between 0 and 1."""
    images = images if images.ndim == 4 else images[..., None]
    return images.astype(np.float32) / 255


def _one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.float32)[labels]


def _shares(model: CNN, images: np.ndarray) -> list[float]:
    return [float(share) for share in model.active_shares(images)]


def evaluate(model: CNN, images: np.ndarray, one_hot: np.ndarray) -> tuple[float, float]:
    """Return the model's loss and accuracy at test time on images (n, h, w, c)."""
    logits = model.compute_output(images)
    return float(model.loss(logits, one_hot)), float(accuracy_function(logits, one_hot))


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies with intervals, paired differences, tuned rates, positions of the ReLU and batch sizes."""
    protocol, after, grid = (frame[frame.part == part] for part in ("protocol", "after", "tuned"))
    accuracy = protocol.pivot(index="seed", columns="mode", values="test_accuracy")
    loss = protocol.pivot(index="seed", columns="mode", values="test_loss")
    first = protocol.iloc[0]
    side = 28 if first.dataset == "digits" else DATASETS[first.dataset][1]
    summary = {
        "protocol": {key: first[key] for key in ("dataset", "images", "epochs", "learning_rate", "batch_size")}
        | {
            "validation": data.validation_size(first.images),
            "rates": sorted(set(grid.learning_rate)),
            "tuned_epochs": grid.epochs.iloc[0],
            "momentum": MOMENTUM,
            "norm_of_v": WEIGHT_DEVIATION * (FILTERS * (side // POOL) ** 2) ** 0.5,
            "watched": min(WATCHED, data.validation_size(first.images)),
        },
        "test_accuracy": {mode: mean_interval(accuracy[mode]) for mode in NORMALIZATIONS},
        "test_loss": {mode: mean_interval(loss[mode]) for mode in NORMALIZATIONS},
        "train_loss": {
            mode: mean_interval([losses[-1] for losses in rows.train_loss]) for mode, rows in protocol.groupby("mode")
        },
        "against_none": {mode: mean_interval(accuracy[mode] - accuracy["none"]) for mode in TWINS},
        "against_twin": {mode: mean_interval(accuracy[mode] - accuracy[twin]) for mode, twin in TWINS.items()},
        "layer_against_batch": mean_interval(accuracy["layer"] - accuracy["batch"]),
        "active": {mode: _intervals_of_shares(protocol[protocol["mode"] == mode]) for mode in BY_HAND},
        "after": {},
        "tuned": {},
        "batch_size": {},
    }
    for mode, rows in after.groupby("mode"):
        scores = rows.set_index("seed").test_accuracy
        summary["after"][mode] = {
            "test_accuracy": mean_interval(scores),
            "minus_before": mean_interval(scores - accuracy[mode]),
            "minus_none": mean_interval(scores - accuracy["none"]),
            "active": _intervals_of_shares(rows),
        }
    rates = best_rates(frame)
    best = {mode: grid[(grid["mode"] == mode) & (grid.learning_rate == rates[mode])] for mode in BY_HAND}
    tuned = {mode: rows.set_index("seed").test_accuracy for mode, rows in best.items()}
    for mode in BY_HAND:
        swept = grid[(grid["mode"] == mode) & (grid.seed == 0)].sort_values("learning_rate")
        ends = np.array([accuracies[-1] for accuracies in swept.validation_accuracy], float)
        largest = swept.learning_rate[ends > LEARNED].max()
        summary["tuned"][mode] = {
            "learning_rate": rates[mode],
            "largest_that_learns": largest,
            # At the next step of the grid, the shares of active units at the end.
            "active_beyond": [active[-1] for active in swept.active[swept.learning_rate > largest]][:1],
            "test_accuracy": mean_interval(tuned[mode]),
            "minus_none": mean_interval(tuned[mode] - tuned["none"]),
            "first_seed_minus_none": tuned[mode].loc[0] - tuned["none"].loc[0],  # what a single seed would have said
        }
    provided = grid[(grid.learning_rate == LEARNING_RATE) & (grid.seed == 0)].set_index("mode").validation_accuracy
    chosen = {mode: best[mode][best[mode].seed == 0].iloc[0].validation_accuracy for mode in BY_HAND}
    for mode in BY_HAND:  # what the step alone does: the same seed and epochs
        summary["tuned"][mode]["gain_of_the_step"] = chosen[mode][-1] - provided[mode][-1]
    summary["least_gain"] = {mode: (accuracy[mode] - accuracy["none"]).min() for mode in TWINS}
    summary["greatest_gain"] = {mode: (accuracy[mode] - accuracy["none"]).max() for mode in TWINS}
    summary["tuned_layer_against_batch"] = mean_interval(tuned["layer"] - tuned["batch"])
    for batch_size, rows in batch_size_runs(frame).groupby("batch_size"):
        scores = rows.pivot(index="seed", columns="mode", values="test_accuracy")
        row = {mode: mean_interval(scores[mode]) for mode in scores}
        row["none_minus_layer"] = mean_interval(scores["none"] - scores["layer"])
        if "batch" in scores:
            row["layer_minus_batch"] = mean_interval(scores["layer"] - scores["batch"])
        row["updates"] = (first.images - data.validation_size(first.images)) // batch_size
        summary["batch_size"][str(batch_size)] = row
    return summary


def _intervals_of_shares(rows: pd.DataFrame) -> dict:
    """Return the intervals of the active shares (convolution, affine layer), before training and after it."""
    shares = np.array(rows.active.tolist(), float)  # (seeds, epochs + 1, 2)
    return {when: [mean_interval(layer) for layer in shares[:, i].T] for when, i in (("first", 0), ("last", -1))}


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv, datasets=tuple(DATASETS))
    stem = STEM if options.dataset == "fashion_mnist" else f"{STEM}_{options.dataset}"
    stages = [
        lambda runs: data.resolve(configs(options.preset, options.dataset), options),
        lambda runs: data.resolve(repeated_configs(options.preset, options.dataset, runs), options),
    ]
    frame = run_stages(stem, partial(run, options=options), stages, options, workers=machine.cores())
    summary = {**summarise(frame), "provenance": provenance(frame)}
    for suffix, drawn in (("", draw), ("_rates", draw_rates), ("_relu", draw_relu), ("_batch_size", draw_batch_sizes)):
        plotting.save(drawn(frame, summary), stem + suffix, options, frame.dataset.iloc[0])
    write_summary(stem, summary, options)


if __name__ == "__main__":
    main()
