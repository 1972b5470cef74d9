"""Problem 3: batch normalization, dropout, and both, in LeNet-5 on MNIST.

3.1 What are co-adaptation and internal covariate shift?
3.2 Standardized input and batch norm in the hidden layers: what are the learned parameters of each layer?
3.3 Batch norm at the input instead of standardization: does it improve performance? Violin plots of the parameters.
3.4 Dropout (0.2 at the input, 0.5 in hidden layers) instead of batch norm: how do the test accuracies compare?
3.5 Both: how do they compare with either alone?

    python coms6998_hw2/p3_lenet5.py                  the full protocol, about 4 h on two CPU cores, resumable
    python coms6998_hw2/p3_lenet5.py --preset quick   fewer images, seeds, rates and epochs, about 40 s

Writes report/results/p3_lenet5/*.json and their summary, and figures/p3_lenet5.png (curves and test accuracy),
_violins.png (3.3), _causes.png (3.1: co-adaptation, covariate and variance shift) and _images.png; each also as .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from coms6998_hw2.models import HIDDEN_RATE, INPUT_RATE, LeNet5
from coms6998_hw2.problem_3.layer_statistics import (
    co_adaptation,
    drift,
    inputs_of,
    noise_of_running_mean,
    variance_shift,
)
from coms6998_hw2.problem_3.lenet5_figures import draw, draw_causes, draw_images, draw_violins
from coms6998_hw2.problem_3.lenet5_intervals import (
    at_rates,
    best_rates,
    by_layer,
    differences,
    few_images,
    final_validation,
    first_half,
    spread,
)
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import mean_interval
from utils.provenance import provenance
from utils.records import write_summary
from utils.runs import run_stages
from utils.training import Trainer, on_device, split_in_batches

STEM = "p3_lenet5"
VARIANTS = {
    "none": {},
    "bn": {"batch_norm": True},  # 3.2
    "bn_input": {"batch_norm": True, "batch_norm_input": True},  # 3.3
    "dropout": {"dropout": True},  # 3.4; rates 0.2 and 0.5, the assignment's
    "bn_dropout": {"batch_norm": True, "dropout": True},  # 3.5
    "dropout_bn": {"batch_norm": True, "dropout": True, "dropout_first": True},  # 3.5, Li et al.'s harder case
}
LONG = ("bn", "dropout", "bn_dropout", "dropout_bn")  # trained for more epochs, too: dropout's length is a nuisance
BATCH_SIZE, MOMENTUM = 64, 0.9
COMMON_RATE = 0.03
PADDING = 2  # 28 x 28 -> 32 x 32, as LeCun et al. (1998)
WATCHED = 10_000  # training images on which the training loss is measured after each epoch
MEASURED = 1000  # validation images on which the layers' statistics are measured
PRESETS: dict[str, Any] = {
    # images: how many training images, and for how many epochs; fewer images need more epochs for enough updates, and
    # dropout more than the others. beyond: tried where the best rate is the least, or the greatest, of the grid.
    "full": {"seeds": 5, "rates": [0.01, 0.03, 0.1, 0.3], "beyond": [0.003, 1.0],
             "images": {55_000: 20, 5500: 80, 550: 400}, "few_seeds": 3, "long_epochs": 40, "long_seeds": 3,
             "loaded": 60_000},
    "quick": {"seeds": 2, "rates": [0.03], "beyond": [], "images": {900: 2, 300: 2}, "few_seeds": 2, "long_epochs": 3,
              "long_seeds": 1, "loaded": 1300},
}  # fmt: skip


def config(preset: str, variant: str, rate: float, images: int, epochs: int, seed: int) -> dict:
    """Return the run of one network."""
    return {
        "name": f"{variant}_{images}images_rate{rate:g}_{epochs}epochs_seed{seed}",
        "dataset": "mnist",
        "loaded": PRESETS[preset]["loaded"],
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
    main, epochs = next(iter(size["images"].items()))
    runs = [
        config(preset, variant, COMMON_RATE, main, epochs, seed)
        for seed in range(size["seeds"])
        for variant in VARIANTS
    ]
    grid = [
        config(preset, variant, rate, images, epochs, 0)
        for images, epochs in size["images"].items()
        for rate in size["rates"]
        for variant in VARIANTS
    ]
    return runs + [run for run in grid if run not in runs]


def beyond_configs(preset: str, frame: pd.DataFrame) -> list[dict]:
    """Return one run past the end of the grid for each variant whose best rate with the first seed is at that end.

    `frame`: the runs of `configs`.
    """
    size = PRESETS[preset]
    beyond = dict(zip((size["rates"][0], size["rates"][-1]), size["beyond"], strict=False))
    return [
        config(preset, variant, beyond[rate], images, epochs, 0)
        for images, epochs in size["images"].items()
        for variant, rate in best_rates(frame, images, epochs, seeds=[0]).items()
        if rate in beyond
    ]


def repeated_configs(preset: str, frame: pd.DataFrame) -> list[dict]:
    """Return the runs with the other seeds at the rate that is each variant's best with the first, by number of images.

    `frame`: the runs of `configs` and `beyond_configs`.
    """
    size = PRESETS[preset]
    main = max(size["images"])
    return [
        config(preset, variant, rate, images, epochs, seed)
        for images, epochs in size["images"].items()
        for variant, rate in best_rates(frame, images, epochs, seeds=[0]).items()
        for seed in range(1, size["seeds" if images == main else "few_seeds"])
        if (images, rate) != (main, COMMON_RATE)
    ]


def long_configs(preset: str, frame: pd.DataFrame) -> list[dict]:
    """Return longer runs at each variant's own rate: is dropout not trained long enough? `frame`: all other runs."""
    size = PRESETS[preset]
    main, epochs = next(iter(size["images"].items()))
    rates = best_rates(frame, main, epochs, range(size["seeds"]))
    return [
        config(preset, variant, rates[variant], main, size["long_epochs"], seed)
        for seed in range(size["long_seeds"])
        for variant in LONG
    ]


def cosine(rate: float, updates: int) -> np.ndarray:
    """Return the learning rate of each update: from `rate` to zero along half a cosine (Loshchilov and Hutter 2017)."""
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(updates) / updates))


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network; return its losses and accuracies, its batch norms' parameters, and what question 3.1 asks.

    "train_*" (on 10,000 training images), "validation_*": after each epoch (see `every`), in evaluation
    mode; "running_train_loss": that epoch's mean over minibatches, with dropout; "test_*" and the whole training set's
    "final_train_*": at the end.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    device = machine.torch_device(options.device)
    images, labels = data.load(config["dataset"], options.data_dir, train=True)
    images, labels = images[: config["loaded"]], labels[: config["loaded"]]
    training, validation = data.hold_out(labels)
    # With few images evaluations, not updates, would take the time: one for as many images as there are in all.
    every = max(1, len(training) // config["images"])
    if config["images"] < len(training):
        # Other images for each seed: with few of them, which they are is a large part of the spread.
        training = training[data.split(labels[training], config["images"], config["seed"])[1]]
    model = LeNet5(**VARIANTS[config["variant"]])
    prepare = preparation(images[training], standardized=not VARIANTS[config["variant"]].get("batch_norm_input"))
    trainer = Trainer(model, device, prepare, learning_rate=config["learning_rate"], momentum=MOMENTUM)
    pixels, targets = on_device(images, labels, device)
    watched, held = torch.as_tensor(training[:WATCHED]), torch.as_tensor(validation)
    rng = np.random.default_rng([config["seed"], 1])
    updates = len(training) // config["batch_size"]
    rates = cosine(config["learning_rate"], updates * config["epochs"]).reshape(config["epochs"], updates)
    curves = ("running_train_loss", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    result: dict[str, Any] = {key: [] for key in curves}
    statistics = []
    for epoch in range(config["epochs"]):
        batches = split_in_batches(rng.permutation(training), config["batch_size"])
        losses = trainer.train(pixels, targets, batches, rates[epoch])
        if (epoch + 1) % every and epoch + 1 < config["epochs"]:
            continue
        result["running_train_loss"].append(losses.mean())
        for part, indices in (("train", watched), ("validation", held)):
            loss, accuracy = trainer.evaluate(pixels[indices], targets[indices])
            result[f"{part}_loss"].append(loss)
            result[f"{part}_accuracy"].append(accuracy)
        inputs = inputs_of(trainer, pixels[held[:MEASURED]], nn.Tanh)
        statistics.append({layer: (x.mean(0), x.std(0)) for layer, x in inputs.items()})
    result["final_train_loss"], result["final_train_accuracy"] = trainer.evaluate(
        pixels[torch.as_tensor(training)], targets[torch.as_tensor(training)]
    )
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False)
    test = on_device(test_images[: config["loaded"]], test_labels[: config["loaded"]], device)
    result["test_loss"], result["test_accuracy"] = trainer.evaluate(*test)
    result["drift"], result["deviation_drift"] = drift(statistics), drift(statistics, of="deviation")
    outputs = inputs_of(trainer, pixels[held[:MEASURED]], nn.Linear)
    result["correlation"] = {layer: co_adaptation(outputs[name]) for layer, name in (("c5", "f6"), ("f6", "output"))}
    norms = model.batch_norms()
    result["gamma"] = {layer: norm.weight.tolist() for layer, norm in norms.items()}
    result["beta"] = {layer: norm.bias.tolist() for layer, norm in norms.items()}
    result["variance_shift"] = variance_shift(trainer, pixels[watched])
    return {"precision": "float32", "device": device.type, **result}


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
    main, main_epochs = frame.images.max(), frame[frame.images == frame.images.max()].epochs.min()
    whole = frame[(frame.images == main) & (frame.epochs == main_epochs)]
    seeds = sorted(frame.seed.unique())
    rates = best_rates(frame, main, main_epochs, seeds)
    tuned, common = at_rates(whole, rates), at_rates(whole, dict.fromkeys(VARIANTS, COMMON_RATE))
    test = {variant: rows.test_accuracy for variant, rows in tuned.items()}
    first, held = frame.iloc[0], data.held_out(frame.loaded.iloc[0])
    variants_at = whole.groupby("learning_rate").variant.nunique()
    summary = {
        "protocol": {"dataset": first.dataset, "seeds": len(seeds), "epochs": main_epochs, "images": main,
                     "rates": list(variants_at.index[variants_at == len(VARIANTS)]),
                     "beyond": list(variants_at.index[variants_at < len(VARIANTS)]),
                     "common_rate": COMMON_RATE, "batch_size": BATCH_SIZE,
                     "momentum": MOMENTUM, "validation": held, "measured": min(MEASURED, held),
                     "watched": min(WATCHED, main), "input_rate": INPUT_RATE, "hidden_rate": HIDDEN_RATE},
        "learning_rate": rates,
        "validation_at_rate": {variant: final_validation(rows) for variant, rows in whole.groupby("variant")},
        "common": {variant: mean_interval(rows.test_accuracy) for variant, rows in common.items()},
        "differences": differences(test),
        "common_differences": differences({variant: rows.test_accuracy for variant, rows in common.items()}),
        "input_norm_changes": {
            key: (tuned["bn_input"][key] - tuned["bn"][key]).abs().max() for key in ("test_accuracy", "test_loss")
        },
        "images": {},
        "long": {},
    }  # fmt: skip
    for key in ("test_accuracy", "test_loss", "final_train_accuracy", "final_train_loss"):
        summary[key] = {variant: mean_interval(rows[key]) for variant, rows in tuned.items()}
    summary["running_train_loss"] = {
        variant: mean_interval([losses[-1] for losses in rows.running_train_loss]) for variant, rows in tuned.items()
    }
    summary["variance_shift"] = {variant: by_layer(rows.variance_shift) for variant, rows in tuned.items()}
    # A larger step moves everything further: what a variant does to the units is compared at the common one, and
    # drift while the step is large.
    summary["correlation"] = {variant: by_layer(rows.correlation) for variant, rows in common.items()}
    for key in ("drift", "deviation_drift"):
        summary[key] = {v: by_layer(common[v][key].map(first_half)) for v in ("none", "bn")}
    summary["last_drift"] = {v: mean_interval([run["c5"][-1] for run in common[v].drift]) for v in ("none", "bn")}
    summary["last_drift"]["theory"] = noise_of_running_mean(BATCH_SIZE)
    for key in ("gamma", "beta"):
        summary[key] = {v: spread(tuned[v][key]) for v in ("bn", "bn_input", "bn_dropout", "dropout_bn")}
    for images, rows in frame[frame.images < main].groupby("images"):
        summary["images"][str(images)] = few_images(rows)
    longer = frame[(frame.images == main) & (frame.epochs > main_epochs)]
    for (variant, rate), rows in longer.groupby(["variant", "learning_rate"]):
        scores = rows.set_index("seed").test_accuracy
        shorter = whole[(whole.variant == variant) & (whole.learning_rate == rate)].set_index("seed").test_accuracy
        summary["long"][variant] = {
            "epochs": rows.epochs.iloc[0],
            "learning_rate": rate,
            "test_accuracy": mean_interval(scores),
            "train_accuracy": mean_interval(rows.final_train_accuracy),
            "minus_short": mean_interval((scores - shorter).dropna()),
        }
    return summary


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    stages = [
        lambda runs: configs(options.preset),
        lambda runs: beyond_configs(options.preset, runs),
        lambda runs: repeated_configs(options.preset, runs),
        lambda runs: long_configs(options.preset, runs),
    ]
    frame = run_stages(
        STEM,
        partial(run, options=options),
        [lambda runs, stage=stage: data.resolve(stage(runs), options) for stage in stages],
        options,
        workers=machine.workers(options.device),
        gpu_share=machine.GPU_SHARE,
    )
    summary = {**summarise(frame), "provenance": provenance(frame)}
    for suffix, drawn in (("", draw), ("_violins", draw_violins), ("_causes", draw_causes), ("_images", draw_images)):
        plotting.save(drawn(frame, summary), STEM + suffix, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options)


if __name__ == "__main__":
    main()
