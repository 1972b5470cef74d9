"""Problem 3: batch normalization, dropout, and both, in LeNet-5 on MNIST.

3.1 What are co-adaptation and internal covariate shift?
3.2 Standardized input and batch norm in the hidden layers: what are the learned parameters of each layer?
3.3 Batch norm at the input instead of standardization: does it improve performance? Violin plots of the parameters.
3.4 Dropout (0.2 at the input, 0.5 in hidden layers) instead of batch norm: how do the test accuracies compare?
3.5 Both: how do they compare with either alone?

    python coms6998_hw2/p3_lenet5.py                  the full protocol, about 5 h on two CPU cores, resumable
    python coms6998_hw2/p3_lenet5.py --preset quick   fewer images, seeds, rates and epochs, about 30 s

Writes report/results/p3_lenet5/*.json and their summary, and figures/p3_lenet5.png (curves and test accuracy),
_violins.png (3.3), _causes.png (3.1: co-adaptation, covariate and variance shift) and _images.png; each also as .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from coms6998_hw2.models import EVERYWHERE, HIDDEN_RATE, INPUT_RATE, LeNet5
from coms6998_hw2.problem_3 import layer_statistics, summary
from coms6998_hw2.problem_3.figures import draw, draw_causes, draw_images, draw_violins
from coms6998_hw2.trainer import Trainer, on_device, split_in_batches
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.records import write_summary
from utils.runs import sweep

STEM = "p3_lenet5"
CURVES = ("running_train_loss", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class Variant(NamedTuple):
    """How a variant is called and drawn, and what LeNet5 is told to make it."""

    label: str
    color: str
    line: str
    marker: str
    choices: dict[str, Any]


BOTH = {"batch_norm": True, "dropout": EVERYWHERE}
VARIANTS = {  # figures and report read them from the summary
    "none": Variant("plain", plotting.BLACK, "-", "o", {}),
    "bn": Variant("batch norm", plotting.BLUE, "-", "s", {"batch_norm": True}),  # 3.2
    # 3.3; its curves lie on those of "bn", which should be seen below them
    "bn_input": Variant(
        "batch norm, input too", plotting.SKY, "--", "", {"batch_norm": True, "batch_norm_input": True}
    ),
    "dropout": Variant("dropout", plotting.VERMILION, "-", "^", {"dropout": EVERYWHERE}),  # 3.4
    "bn_dropout": Variant("batch norm + dropout", plotting.GREEN, "-", "D", BOTH),  # 3.5
    "dropout_bn": Variant(  # 3.5, Li et al.'s harder case
        "dropout, then batch norm", plotting.PURPLE, "-", "v", {**BOTH, "dropout_first": True}
    ),
}
PLACES = {  # 3.5: batch norm, and dropout at one place: where no batch norm comes after it, and at the input
    "bn_dropout_last": {"batch_norm": True, "dropout": ("f6",)},
    "bn_dropout_input": {"batch_norm": True, "dropout": ("input",)},
}
CHOICES = {name: variant.choices for name, variant in VARIANTS.items()} | PLACES
LONG = ("bn", "dropout", "bn_dropout", "dropout_bn")  # trained for more epochs, too: dropout's length is a nuisance
BATCH_SIZE, MOMENTUM = 64, 0.9  # usual values, the same for all variants
COMMON_RATE = 0.03  # at which all variants train: what they do to the units is compared there
PADDING = 2  # 28 x 28 -> 32 x 32, as LeCun et al. (1998)
WATCHED = 10_000  # training images on which the training loss is measured after each epoch
MEASURED = 1000  # validation images on which the layers' statistics are measured


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    loaded: int
    images: dict[int, int]
    seeds: int
    few_seeds: int
    rates: list[float]
    beyond: list[float]
    long_epochs: int
    long_seeds: int


PRESETS = {
    "full": Preset(
        loaded=60_000,
        # How many training images, and for how many epochs: fewer images need more epochs for enough updates.
        images={55_000: 20, 5500: 80, 550: 400},
        seeds=5,
        few_seeds=3,
        rates=[0.01, 0.03, 0.1, 0.3],
        beyond=[0.003, 1.0],  # tried where the best rate is the least, or the greatest, of the grid
        long_epochs=40,  # dropout may need more epochs than the others
        long_seeds=3,
    ),
    "quick": Preset(
        loaded=900,
        images={600: 2, 200: 2},
        seeds=2,
        few_seeds=2,
        rates=[0.03],
        beyond=[],
        long_epochs=3,
        long_seeds=1,
    ),
}


def one_run(preset: str, variant: str, rate: float, images: int, epochs: int, seed: int) -> dict:
    """Return the run of one network."""
    return {
        "name": f"{variant}_{images}images_rate{rate:g}_{epochs}epochs_seed{seed}",
        "dataset": "mnist",
        "loaded": PRESETS[preset].loaded,
        "variant": variant,
        "learning_rate": rate,
        "images": images,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "seed": seed,
    }


def configs(preset: str) -> list[dict]:
    """Return the runs that depend on no others: the common rate with every seed, the grid of rates with the first."""
    size = PRESETS[preset]
    most = max(size.images)
    epochs = size.images[most]
    runs = []
    for seed in range(size.seeds):
        for variant in CHOICES:
            runs.append(one_run(preset, variant, COMMON_RATE, most, epochs, seed))
    for images, epochs in size.images.items():
        for rate in size.rates:
            for variant in CHOICES if images == most else VARIANTS:
                if (images, rate) != (most, COMMON_RATE):
                    runs.append(one_run(preset, variant, rate, images, epochs, seed=0))
    return runs


def beyond_configs(frame: pd.DataFrame, options: Options) -> list[dict]:
    """Return one run past the end of the grid for each variant whose best rate with the first seed is at that end.

    `frame`: the runs of `configs`.
    """
    size, runs = PRESETS[options.preset], []
    beyond = dict(zip((size.rates[0], size.rates[-1]), size.beyond, strict=False))
    for images, epochs in size.images.items():
        for variant, rate in summary.best_rates(frame, images, epochs, seeds=[0]).items():
            if rate in beyond:
                runs.append(one_run(options.preset, variant, beyond[rate], images, epochs, seed=0))
    return runs


def repeated_configs(frame: pd.DataFrame, options: Options) -> list[dict]:
    """Return the runs with the other seeds at the rate that is each variant's best with the first, by number of images.

    `frame`: the runs of `configs` and `beyond_configs`.
    """
    size, runs = PRESETS[options.preset], []
    most = max(size.images)
    for images, epochs in size.images.items():
        seeds = size.seeds if images == most else size.few_seeds
        for variant, rate in summary.best_rates(frame, images, epochs, seeds=[0]).items():
            if (images, rate) != (most, COMMON_RATE):  # which all seeds have already
                runs += [one_run(options.preset, variant, rate, images, epochs, seed) for seed in range(1, seeds)]
    return runs


def long_configs(frame: pd.DataFrame, options: Options) -> list[dict]:
    """Return longer runs at each variant's own rate: is dropout not trained long enough? `frame`: all other runs."""
    size, runs = PRESETS[options.preset], []
    most = max(size.images)
    epochs = size.images[most]
    rates = summary.best_rates(frame, most, epochs, range(size.seeds))
    for seed in range(size.long_seeds):
        for variant in LONG:
            runs.append(one_run(options.preset, variant, rates[variant], most, size.long_epochs, seed))
    return runs


def cosine(rate: float, updates: int) -> np.ndarray:
    """Return the learning rate of each update: from `rate` to zero along half a cosine (Loshchilov and Hutter 2017)."""
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(updates) / updates))


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network; return its losses and accuracies, its batch norms' parameters, and what question 3.1 asks.

    "train_*" (on 10,000 training images), "validation_*": after each epoch (see `every`), in evaluation
    mode; "running_train_loss": that epoch's mean over minibatches, with dropout; "test_*" and the whole training set's
    "final_train_*": at the end; "deletion": test accuracies with units deleted, see
    `layer_statistics.without_units`.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    device = machine.torch_device(options.device)
    choices = CHOICES[config["variant"]]
    images, labels = data.load(config["dataset"], options.data_dir, train=True, first=config["loaded"])
    training, validation = data.hold_out(labels)
    # With few images evaluations, not updates, would take the time: one for as many images as there are in all.
    every = max(1, len(training) // config["images"])
    if config["images"] < len(training):
        # Other images for each seed: with few of them, which they are is a large part of the spread.
        _, chosen = data.split(labels[training], config["images"], config["seed"])
        training = training[chosen]
    prepare = preparation(images[training], standardized=not choices.get("batch_norm_input"))
    trainer = Trainer(LeNet5(**choices), device, prepare, learning_rate=config["learning_rate"], momentum=MOMENTUM)
    pixels, targets = on_device(images, labels, device)
    watched, measured = training[:WATCHED], validation[:MEASURED]
    rng = np.random.default_rng([config["seed"], 1])
    updates = len(training) // config["batch_size"]
    rates = cosine(config["learning_rate"], updates * config["epochs"]).reshape(config["epochs"], updates)
    result: dict[str, Any] = {key: [] for key in CURVES}
    moments = []  # of each layer's inputs, after each evaluated epoch
    for epoch in range(config["epochs"]):
        batches = split_in_batches(rng.permutation(training), config["batch_size"])
        losses = trainer.train(pixels, targets, batches, rates[epoch])
        if (epoch + 1) % every and epoch + 1 < config["epochs"]:
            continue
        result["running_train_loss"].append(losses.mean())
        for part, indices in (("train", watched), ("validation", validation)):
            loss, accuracy = trainer.evaluate(pixels[indices], targets[indices])
            result[f"{part}_loss"].append(loss)
            result[f"{part}_accuracy"].append(accuracy)
        inputs = layer_statistics.inputs_of(trainer, pixels[measured], nn.Tanh)
        moments.append({layer: (x.mean(0), x.std(0)) for layer, x in inputs.items()})
    whole = trainer.evaluate(pixels[training], targets[training])
    result["final_train_loss"], result["final_train_accuracy"] = whole
    test = on_device(*data.load(config["dataset"], options.data_dir, train=False, first=config["loaded"]), device)
    result["test_loss"], result["test_accuracy"] = trainer.evaluate(*test)
    result["deletion"] = layer_statistics.without_units(trainer, *test, np.random.default_rng([config["seed"], 2]))
    result |= layer_statistics.of_units(trainer, pixels[watched], moments)
    return {"environment": {"precision": "float32", "device": device.type}, **result}


def preparation(images: np.ndarray, standardized: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from pixels (n, 1, 28, 28), uint8, to the network's input (n, 1, 32, 32).

    Pixels are divided by 255 and padded with the background; `standardized`: with one mean and one standard deviation,
    those of the padded training `images` (n, 28, 28).
    """
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    mean, deviation = (padded.mean() / 255, padded.std() / 255) if standardized else (0.0, 1.0)
    return lambda pixels: (functional.pad(pixels, [PADDING] * 4).float() / 255 - mean) / deviation


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies and losses with intervals, paired differences, the norms' parameters, and 3.1's measures."""
    most = frame.images.max()
    places, frame = frame[frame.variant.isin(PLACES)], frame[frame.variant.isin(VARIANTS)]
    epochs = frame[frame.images == most].epochs.min()
    whole = frame[(frame.images == most) & (frame.epochs == epochs)]
    rates = summary.best_rates(frame, most, epochs, sorted(frame.seed.unique()))
    tuned = summary.at_rates(whole, rates)
    common = summary.at_rates(whole, dict.fromkeys(VARIANTS, COMMON_RATE))
    validation = data.validation_size(frame.loaded.iloc[0])
    tried = whole.groupby("learning_rate").variant.nunique()
    looks = []
    for name, variant in VARIANTS.items():
        looks.append({"name": name, **{key: getattr(variant, key) for key in ("label", "color", "line", "marker")}})
    return {
        "variants": looks,
        "protocol": {
            "dataset": frame.dataset.iloc[0],
            "seeds": frame.seed.nunique(),
            "epochs": epochs,
            "images": most,
            "rates": list(tried.index[tried == len(VARIANTS)]),
            "beyond": list(tried.index[tried < len(VARIANTS)]),
            "common_rate": COMMON_RATE,
            "batch_size": BATCH_SIZE,
            "momentum": MOMENTUM,
            "validation": validation,
            "measured": min(MEASURED, validation),
            "watched": min(WATCHED, most),
            "input_rate": INPUT_RATE,
            "hidden_rate": HIDDEN_RATE,
        },
        "learning_rate": rates,
        "validation_at_rate": {name: summary.final_validation(rows) for name, rows in whole.groupby("variant")},
        **summary.at_own_rates(tuned),
        "deletion": summary.deletion(tuned),
        "places": summary.by_place(places, tuned, most, epochs),
        **summary.at_the_common_rate(common),
        "interactions_holm": summary.interactions_after_holm({"own": tuned, "common": common}),
        "images": {
            str(images): summary.few_images(rows) for images, rows in frame[frame.images < most].groupby("images")
        },
        "long": summary.longer(frame[(frame.images == most) & (frame.epochs > epochs)], whole),
    }


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options, later=(beyond_configs, repeated_configs, long_configs))
    numbers = summarise(frame)
    for suffix, drawn in (("", draw), ("_violins", draw_violins), ("_causes", draw_causes), ("_images", draw_images)):
        plotting.save(drawn(frame, numbers), STEM + suffix, options, frame.dataset.iloc[0])
    write_summary(STEM, numbers, options, frame)


if __name__ == "__main__":
    main()
