"""Problem 1, the comparison: the network with and without normalization, by hand and by the library.

Which normalization helps on Fashion-MNIST, and does ours train as the library's does? How do they work with a ReLU,
before it and after it? When is layer normalization better than batch normalization?

    python ist597_norms/p1_compare_norms.py                     the full protocol, about 2 h on two cores, resumable
    python ist597_norms/p1_compare_norms.py --preset quick      fewer images, seeds and epochs, about 30 s
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

from ist597_norms import norm_intervals as intervals
from ist597_norms.cnn import BY_HAND, CNN, FILTERS, MOMENTUM, NORMALIZATIONS, POOL, WEIGHT_DEVIATION, accuracy_function
from ist597_norms.norm_figures import draw, draw_batch_sizes, draw_rates, draw_relu
from ist597_norms.norms import NO_DIRECTION, NOT_FINITE
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.records import write_summary
from utils.runs import sweep

STEM = "p1_compare_norms"
DATASETS = {"fashion_mnist": (60_000, 28), "cifar10": (50_000, 32)}  # training images, and their height
HIDDEN_SIZE, CLASSES = 100, 10  # the provided file's, like the next line
LEARNING_RATE, BATCH_SIZE, EPOCHS = 0.01, 64, 4
# One step size is unfair to some: each mode also gets its best of these. The largest is beyond every best one.
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
BATCH_SIZES = [1, 2, 4, 8, 16, 64, 256]
WATCHED = 1000  # validation images on which the shares of active units are measured
PRESETS: dict[str, Any] = {
    "full": {
        "seeds": 5,
        "epochs": EPOCHS,
        "tuned_epochs": 10,
        "rates": RATES,
        "batch_sizes": BATCH_SIZES,
        "batch_size_seeds": 3,
        "images": 60_000,
    },
    "quick": {
        "seeds": 1,
        "epochs": 1,
        "tuned_epochs": 1,
        "rates": [0.01, 0.1],
        "batch_sizes": [2, 64, 256],  # two, the provided file's and the largest: those that the report speaks of
        "batch_size_seeds": 1,
        "images": 200,
    },
}


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
        runs.append(tuned_config(base, preset, "weight", rate, seed=0, from_data=True))
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


def tuned_config(base: dict, preset: str, mode: str, rate: float, seed: int, from_data: bool = False) -> dict:
    """Return the run of the grid of learning rates for a mode, a rate and a seed; weight norm's may start from data."""
    change = {"mode": mode, "learning_rate": rate, "epochs": PRESETS[preset]["tuned_epochs"], "seed": seed}
    if from_data:
        name = f"{mode}_data_start_rate{rate:g}_seed{seed}"
        return {"name": name, "part": "data start, tuned", **base, **change, "start": "data"}
    return {"name": f"{mode}_rate{rate:g}_seed{seed}", "part": "tuned", **base, **change}


def repeated_configs(preset: str, dataset: str, frame: pd.DataFrame) -> list[dict]:
    """Return the runs of the best rate of each mode with the other seeds; `frame`: the runs of `configs`."""
    base, runs = base_config(preset, dataset), []
    rate_from_data = intervals.best_steps(frame, "data start, tuned")["weight"]
    for seed in range(1, PRESETS[preset]["seeds"]):
        for mode, rate in intervals.best_steps(frame).items():
            runs.append(tuned_config(base, preset, mode, rate, seed))
        runs.append(tuned_config(base, preset, "weight", rate_from_data, seed, from_data=True))
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
    images, labels = data.load(config["dataset"], options.data_dir, train=True, first=config["images"])
    training, validation = data.hold_out(labels)
    scaled, one_hot = scale(images), one_hot_labels(labels)
    watched = scaled[validation[:WATCHED]]
    choices = {key: config[key] for key in ("position", "learning_rate", "momentum", "seed") if key in config}
    model = CNN(HIDDEN_SIZE, CLASSES, normalization=config["mode"], image_shape=scaled.shape[1:], **choices)
    if config.get("start") == "data":
        drawn = np.random.default_rng([config["seed"], 2]).choice(training, config["batch_size"], replace=False)
        model.start_from_data(scaled[drawn])
    rng = np.random.default_rng([config["seed"], 1])
    result: dict[str, Any] = {key: [] for key in ("train_loss", "validation_loss", "validation_accuracy")}
    result["active"] = [model.active_shares(watched)]
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False, first=config["images"])
    try:
        for _ in range(config["epochs"]):
            losses = train_epoch(model, scaled, one_hot, rng.permutation(training), config["batch_size"])
            loss, accuracy = evaluate(model, scaled[validation], one_hot[validation])
            active = model.active_shares(watched)
            result["train_loss"].append(float(np.mean(losses)))
            result["validation_loss"].append(loss)
            result["validation_accuracy"].append(accuracy)
            result["active"].append(active)
        scores = evaluate(model, scale(test_images), one_hot_labels(test_labels))
    except tf.errors.InvalidArgumentError as error:
        if NO_DIRECTION not in error.message and NOT_FINITE not in error.message:
            raise
        result = diverged(result, config["epochs"] - len(result["train_loss"]))
        scores = np.nan, np.nan
    result["test_loss"], result["test_accuracy"] = scores
    return {**result, "precision": "float32", "device": "cpu"}


def train_epoch(model: CNN, images: np.ndarray, one_hot: np.ndarray, order: np.ndarray, batch_size: int) -> list:
    """Train on the images once, in this order; return the loss of each minibatch before its step.

    A last, smaller batch would have statistics of its own: its images are left out of this epoch.
    """
    losses = []
    for start in range(0, len(order) - batch_size + 1, batch_size):
        batch = order[start : start + batch_size]
        losses.append(model.backward(images[batch], one_hot[batch]))
    return losses


def diverged(result: dict, epochs: int) -> dict:
    """Return a result whose last `epochs` are NaN."""
    ends: dict[str, Any] = {}
    for key, values in result.items():
        missing = [np.nan, np.nan] if key == "active" else np.nan
        ends[key] = [*values, *[missing] * epochs]
    return ends


def scale(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w, c), float32 between 0 and 1."""
    images = images if images.ndim == 4 else images[..., None]
    return images.astype(np.float32) / 255


def one_hot_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels (n,) as rows (n, 10) with a one at the label."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


def evaluate(model: CNN, images: np.ndarray, one_hot: np.ndarray) -> tuple[float, float]:
    """Return the model's loss and accuracy at test time on images (n, h, w, c)."""
    logits = model.compute_output(images)
    return float(model.loss(logits, one_hot)), float(accuracy_function(logits, one_hot))


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies with intervals, paired differences, tuned rates, positions of the ReLU and batch sizes."""
    protocol, grid = frame[frame.part == "protocol"], frame[frame.part == "tuned"]
    first = protocol.iloc[0]
    side = 28 if first.dataset == "digits" else DATASETS[first.dataset][1]
    validation = data.validation_size(first.images)
    return {
        "protocol": {
            **{key: first[key] for key in ("dataset", "images", "epochs")},
            "learning_rate": LEARNING_RATE,
            "batch_size": BATCH_SIZE,
            "validation": validation,
            "rates": sorted(set(grid.learning_rate)),
            "tuned_epochs": grid.epochs.iloc[0],
            "momentum": MOMENTUM,
            "norm_of_v": WEIGHT_DEVIATION * (FILTERS * (side // POOL) ** 2) ** 0.5,
            "watched": min(WATCHED, validation),
        },
        **intervals.at_the_provided_step(protocol),
        "after": intervals.after_the_relu(frame[frame.part == "after"], protocol),
        **intervals.at_each_best_step(grid, LEARNING_RATE),
        "data_start": intervals.from_data(frame),
        "batch_size": intervals.by_batch_size(frame, first.images - validation),
    }


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv, datasets=tuple(DATASETS))
    stem = STEM if options.dataset == "fashion_mnist" else f"{STEM}_{options.dataset}"
    preset, dataset = options.preset, str(options.dataset)
    later = [partial(repeated_configs, preset, dataset)]
    frame = sweep(stem, run, configs(preset, dataset), options, later, workers=machine.cores())  # on the CPU
    summary = summarise(frame)
    for suffix, drawn in (("", draw), ("_rates", draw_rates), ("_relu", draw_relu), ("_batch_size", draw_batch_sizes)):
        plotting.save(drawn(frame, summary), stem + suffix, options, frame.dataset.iloc[0])
    write_summary(stem, summary, options, frame)


if __name__ == "__main__":
    main()
