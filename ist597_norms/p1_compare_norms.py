"""Problem 1, the comparison: the network with and without normalization, by hand and by the library.

Which normalization helps on Fashion-MNIST, at its own best step and at the provided one, in a shallow network and in a
deep one, and does ours train as the library's does? How do they work with a ReLU, before it and after it? When is layer
normalization better than batch normalization, and why?

    python ist597_norms/p1_compare_norms.py                     the full protocol, about 4 h on two cores, resumable
    python ist597_norms/p1_compare_norms.py --preset quick      fewer images, seeds and epochs, about 1 min
    python ist597_norms/p1_compare_norms.py --dataset cifar10   the same on CIFAR-10, as p1_compare_norms_cifar10

Writes report/results/p1_compare_norms/*.json and their summary, and figures/p1_compare_norms.png (accuracy against the
step, at each network's best one and at the provided one), _axes.png (the network, and what is averaged over what),
_relu.png, _batch_size.png and _depth.png; each also as .svg.
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
import tensorflow as tf

from ist597_norms import summary
from ist597_norms.cnn import CNN, FILTERS, MOMENTUM, NORMALIZATIONS, POOL, WEIGHT_DEVIATION, accuracy_function
from ist597_norms.figures import FIGURES
from ist597_norms.measurements import Probed, relu_activity, surviving_shares
from ist597_norms.norms import NO_DIRECTION, NOT_FINITE
from ist597_norms.references import network
from ist597_norms.variants import OF_LIBRARIES, VARIANTS
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.records import write_summary
from utils.runs import sweep

STEM = "p1_compare_norms"
DATASETS = {"fashion_mnist": (60_000, 28), "cifar10": (50_000, 32)}  # training images, and their height
HIDDEN_SIZE, CLASSES = 100, 10  # the provided file's, like the next line
LEARNING_RATE, BATCH_SIZE, EPOCHS = 0.01, 64, 4
# One step size is unfair to some: each network also gets its best of these. The largest is beyond every best one.
RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]
BATCH_SIZES = [1, 2, 4, 8, 16, 64, 256]
SMALL_BATCHES = (2, 4, 8, 16)  # where layer and batch normalization may differ: more seeds of these two
DEPTHS = [0, 5, 10, 20]  # further affine layers
DEPTH_RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
SGD_MOMENTUM = 0.9  # of the public solutions that the report sets beside ours
WATCHED = 1000  # validation images on which the ReLUs' inputs are looked at


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: int
    epochs: int
    tuned_epochs: int
    rates: list[float]
    batch_sizes: list[int]
    batch_size_seeds: int
    small_batch_seeds: int
    momentum_seeds: int
    depths: list[int]
    depth_rates: list[float]
    depth_seeds: int
    gradient_batches: int
    images: int

    def __post_init__(self):
        if BATCH_SIZE not in self.batch_sizes:
            raise ValueError(f"the batch sizes {self.batch_sizes} lack the provided one, {BATCH_SIZE}")


PRESETS = {
    "full": Preset(
        seeds=5,
        epochs=EPOCHS,
        tuned_epochs=10,
        rates=RATES,
        batch_sizes=BATCH_SIZES,
        batch_size_seeds=3,
        small_batch_seeds=10,
        momentum_seeds=3,
        depths=DEPTHS,
        depth_rates=DEPTH_RATES,
        depth_seeds=3,
        gradient_batches=100,
        images=60_000,
    ),
    "quick": Preset(
        seeds=1,
        epochs=1,
        tuned_epochs=1,
        rates=[0.01, 0.1],
        batch_sizes=[2, 4, 8, 16, 64, 256],  # those that the report speaks of
        batch_size_seeds=1,
        small_batch_seeds=1,
        momentum_seeds=1,
        depths=[0, 20],
        depth_rates=[0.01],
        depth_seeds=1,
        gradient_batches=2,
        images=300,
    ),
}


def base_config(preset: str, dataset: str) -> dict:
    """Return what the runs have in common: the provided file's protocol."""
    return {
        "dataset": dataset,
        "mode": "none",
        "position": "before",
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH_SIZE,
        "epochs": PRESETS[preset].epochs,
        "images": min(PRESETS[preset].images, DATASETS[dataset][0]),
        "seed": 0,
    }


def configs(preset: str, dataset: str = "fashion_mnist") -> list[dict]:
    """Return the runs that depend on no others: the provided step, the grids of steps, batch sizes, depths."""
    size, base = PRESETS[preset], base_config(preset, dataset)
    runs = []
    for seed in range(size.seeds):
        for name, network_of in (VARIANTS | OF_LIBRARIES).items():
            choices = {"mode": network_of.mode, **network_of.change, "seed": seed}
            runs.append({"name": f"{name}_seed{seed}", "part": network_of.part, **base, **choices})
    for variant in VARIANTS:
        for rate in size.rates:
            runs.append(tuned_config(base, preset, variant, rate, seed=0))
    for seed in range(size.momentum_seeds):
        for mode in NORMALIZATIONS:
            descent = {"sgd_momentum": SGD_MOMENTUM, "mode": mode, "seed": seed}
            runs.append({"name": f"{mode}_sgd_momentum_seed{seed}", "part": "sgd momentum", **base, **descent})
    for mode in ("batch", "layer"):
        for batch_size in sorted(set(size.batch_sizes) - {1}):
            probe = {"mode": mode, "batch_size": batch_size, "batches": size.gradient_batches, "epochs": 0}
            runs.append({"name": f"{mode}_gradient_batch{batch_size}", "part": "gradient", **base, **probe})
    return runs + batch_size_configs(preset, dataset) + depth_configs(preset, dataset)


def batch_size_configs(preset: str, dataset: str) -> list[dict]:
    """Return the runs with several batch sizes: one epoch each, with a step that grows with the batch.

    An epoch then moves the weights as far (Goyal et al. 2017). The running statistics of batch normalization average
    over as many images at every size; at the largest there are also runs with Keras's momentum, which forgets its start
    too slowly there.
    """
    size, base = PRESETS[preset], base_config(preset, dataset)
    runs = []
    for batch_size in size.batch_sizes:
        for mode in NORMALIZATIONS:
            if mode == "batch" and batch_size == 1:
                continue  # a dense batch norm of one example has no variance
            few = mode in ("batch", "layer") and batch_size in SMALL_BATCHES
            for seed in range(size.small_batch_seeds if few else size.batch_size_seeds):
                change = {"mode": mode, "batch_size": batch_size, "epochs": 1, "seed": seed}
                change["learning_rate"] = LEARNING_RATE * batch_size / BATCH_SIZE
                plain = {"name": f"{mode}_batch{batch_size}_seed{seed}", "part": "batch size", **base, **change}
                if mode != "batch" or batch_size in (BATCH_SIZE, max(size.batch_sizes)):
                    runs.append(plain)
                if mode == "batch" and batch_size != BATCH_SIZE:
                    name = f"{mode}_batch{batch_size}_momentum_seed{seed}"
                    momentum = {"momentum": MOMENTUM ** (batch_size / BATCH_SIZE)}
                    runs.append({**plain, "name": name, "part": "batch size, momentum", **momentum})
    return runs


def depth_configs(preset: str, dataset: str) -> list[dict]:
    """Return the grid of steps of networks with further affine layers, one epoch each."""
    size, base = PRESETS[preset], base_config(preset, dataset)
    runs = []
    for depth in size.depths:
        for variant in (*NORMALIZATIONS, "weight_data_start"):
            for rate in size.depth_rates:
                runs.append(depth_config(base, variant, depth, rate, seed=0))
    return runs


def depth_config(base: dict, variant: str, depth: int, rate: float, seed: int) -> dict:
    """Return the run of a network with `depth` further layers."""
    name = f"{variant}_depth{depth}_rate{rate:g}_seed{seed}"
    change = {"mode": VARIANTS[variant].mode, **VARIANTS[variant].change, "further_layers": depth, "epochs": 1}
    return {"name": name, "part": "depth", **base, **change, "learning_rate": rate, "seed": seed}


def tuned_config(base: dict, preset: str, variant: str, rate: float, seed: int) -> dict:
    """Return the run of the grid of learning rates for a variant, a rate and a seed."""
    mode, change, part = VARIANTS[variant].mode, VARIANTS[variant].change, VARIANTS[variant].part
    part = "tuned" if part == "protocol" else f"{part}, tuned"
    choices = {"mode": mode, "learning_rate": rate, "epochs": PRESETS[preset].tuned_epochs, "seed": seed}
    return {"name": f"{variant}_rate{rate:g}_seed{seed}", "part": part, **base, **choices, **change}


def repeated_configs(frame: pd.DataFrame, options: Options) -> list[dict]:
    """Return the runs of each network's best rate with the other seeds; `frame`: the runs of `configs`."""
    preset, runs = options.preset, []
    size, base = PRESETS[preset], base_config(preset, str(options.dataset))
    grids = summary.with_variants(frame)
    tuned, deep = grids[grids.part.isin(summary.TUNED)], grids[grids.part == "depth"]
    for seed in range(1, size.seeds):
        for variant, rate in summary.best_steps(tuned).items():
            runs.append(tuned_config(base, preset, variant, rate, seed))
    for seed in range(1, size.depth_seeds):
        for depth, rows in deep.groupby("further_layers"):
            for variant, rate in summary.best_steps(rows).items():
                runs.append(depth_config(base, variant, int(depth), rate, seed))
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network; return losses and accuracies, and what its ReLUs get.

    "train_loss" is the mean over the epoch's minibatches; "validation_*" after each epoch, "test_*" and "training_*"
    after the last, all with running statistics. For each layer's ReLU, on validation images before training and after
    each epoch (epochs + 1, layers): "active", the share of its inputs that are positive, and "dead", the number of its
    units that are positive on none. Of its inputs before and after training: "histogram" (2, layers, bins), over BINS,
    and "deviation" (2, layers), their standard deviation.
    """
    machine.one_thread_each()
    tf.get_logger().setLevel("ERROR")  # TensorFlow takes every run's new network for one that is traced again
    images, labels = data.load(config["dataset"], options.data_dir, train=True, first=config["images"])
    training, validation = data.hold_out(labels)
    scaled, one_hot = scale(images), one_hot_labels(labels)
    where = {"environment": {"precision": "float32", "device": "cpu"}}
    rng = np.random.default_rng([config["seed"], 1])
    if config["part"] == "gradient":
        batches = [rng.choice(training, config["batch_size"], replace=False) for _ in range(config["batches"])]
        probed = Probed(HIDDEN_SIZE, CLASSES, normalization=config["mode"], image_shape=scaled.shape[1:])
        return {"surviving": surviving_shares(probed, scaled, one_hot, batches), **where}
    watched = scaled[validation[:WATCHED]]
    known = ("position", "learning_rate", "momentum", "sgd_momentum", "further_layers", "seed")
    choices = {key: config[key] for key in known if key in config}
    model = network(config["mode"], HIDDEN_SIZE, CLASSES, image_shape=scaled.shape[1:], **choices)
    if config.get("start") == "data":
        drawn = np.random.default_rng([config["seed"], 2]).choice(training, config["batch_size"], replace=False)
        model.start_from_data(scaled[drawn])
    result: dict[str, Any] = {key: [] for key in ("train_loss", "validation_loss", "validation_accuracy")}
    activity = [relu_activity(model, watched)]
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False, first=config["images"])
    scores = {key: np.nan for key in ("test_loss", "test_accuracy", "training_loss", "training_accuracy")}
    try:
        for _ in range(config["epochs"]):
            losses = train_epoch(model, scaled, one_hot, rng.permutation(training), config["batch_size"])
            loss, accuracy = evaluate(model, scaled[validation], one_hot[validation])
            activity.append(relu_activity(model, watched))
            result["train_loss"].append(float(np.mean(losses)))
            result["validation_loss"].append(loss)
            result["validation_accuracy"].append(accuracy)
        tested = evaluate(model, scale(test_images), one_hot_labels(test_labels))
        fitted = evaluate(model, scaled[training], one_hot[training])
        scores = dict(zip(scores, (*tested, *fitted), strict=True))
    except tf.errors.InvalidArgumentError as error:
        if NO_DIRECTION not in error.message and NOT_FINITE not in error.message:
            raise
        for curve in result.values():
            curve.extend([np.nan] * (config["epochs"] - len(curve)))
        nothing = {key: np.full_like(value, np.nan, float) for key, value in activity[0].items()}
        activity.extend([nothing] * (config["epochs"] + 1 - len(activity)))
    result["active"] = [measured["active"] for measured in activity]
    result["dead"] = [measured["dead"] for measured in activity]
    for key in ("histogram", "deviation"):
        result[key] = [measured[key] for measured in (activity[0], activity[-1])]
    return {**result, **scores, **where}


def train_epoch(model: CNN, images: np.ndarray, one_hot: np.ndarray, order: np.ndarray, batch_size: int) -> list:
    """Train on the images once, in this order; return the loss of each minibatch before its step.

    A last, smaller batch would have statistics of its own: its images are left out of this epoch.
    """
    losses = []
    for start in range(0, len(order) - batch_size + 1, batch_size):
        batch = order[start : start + batch_size]
        losses.append(model.backward(images[batch], one_hot[batch]))
    return losses


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
    """Return what the report says of the runs; see `summary`."""
    first, grid = frame[frame.part == "protocol"].iloc[0], frame[frame.part == "tuned"]
    side = 28 if first.dataset == "digits" else DATASETS[first.dataset][1]
    validation = data.validation_size(first.images)
    protocol = {
        **{key: first[key] for key in ("dataset", "images", "epochs")},
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH_SIZE,
        "validation": validation,
        "rates": sorted(set(grid.learning_rate)),
        "depth_rates": sorted(set(frame[frame.part == "depth"].learning_rate)),
        "tuned_epochs": grid.epochs.iloc[0],
        "momentum": MOMENTUM,
        "sgd_momentum": SGD_MOMENTUM,
        "affine_inputs": FILTERS * (side // POOL) ** 2,
        "weight_deviation": WEIGHT_DEVIATION,
        "watched": min(WATCHED, validation),
        "hidden_size": HIDDEN_SIZE,
        "filters": FILTERS,
        "side": side,
        "fading": (WEIGHT_DEVIATION**2 * HIDDEN_SIZE / 2) ** 0.5,  # of a ReLU layer's deviation in the next: see 2.1
    }
    variants = []
    for name, variant in (VARIANTS | OF_LIBRARIES).items():
        looks = {key: getattr(variant, key) for key in ("label", "color", "line", "mode")}
        variants.append({"name": name, **looks})
    return {"protocol": protocol, "variants": variants, **summary.numbers(frame, protocol)}


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv, datasets=tuple(DATASETS))
    stem = STEM if options.dataset == "fashion_mnist" else f"{STEM}_{options.dataset}"
    runs = configs(options.preset, str(options.dataset))
    frame = sweep(stem, run, runs, options, later=[repeated_configs], workers=machine.cores())  # on the CPU
    numbers = summarise(frame)
    for suffix, draw in FIGURES.items():
        plotting.save(draw(frame, numbers), stem + suffix, options, frame.dataset.iloc[0])
    write_summary(stem, numbers, options, frame)


if __name__ == "__main__":
    main()
