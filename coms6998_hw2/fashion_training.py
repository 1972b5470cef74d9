"""One training run on Fashion-MNIST, of MiniGoogLeNet or of LeNet-5: what the scripts of problem 4 share.

plan = constant_plan(images=55_000, batch_size=64, rate=0.01, epochs=5)    what each epoch's updates are
curves = Run(config, options).follow(plan)                                 losses and accuracies after each epoch
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from coms6998_hw2.models import LeNet5, MiniGoogLeNet
from utils import data
from utils.cli import GPU_SHARE, Options
from utils.files import warn
from utils.records import read_summary
from utils.runs import run_all
from utils.training import Trainer, fastest_precision, on_device

BATCH_SIZE = 64  # question 4.2
MOMENTUM = 0.9  # the reference post's
WATCHED = 10_000  # training images on which the training loss is measured in evaluation mode
SIDE = 32  # MiniGoogLeNet's pooling does not fit 28 x 28
LARGEST_SHIFT = 3  # pixels: the post's 10% of 32
# The assignment's network first. LeNet-5, with batch norm as that one has, trains a hundred times as fast: with it each
# question's protocol can be run in full, with all seeds, on two CPU cores.
NETWORKS = ("mini_googlenet", "lenet5")
# Of a run on the CPU. MiniGoogLeNet: as many images a second as one thread in each of two runs, in half the time.
THREADS = {"mini_googlenet": 2, "lenet5": 1}
MICRO_BATCH = 64  # what batch norm sees, whatever the batch size: larger batches add up gradients
# For each epoch (batch sizes, rates), one of each for every update. The sizes add up to all images; to fewer in a last
# epoch that ends early.
Plan = list[tuple[np.ndarray, np.ndarray]]


def assignments_network(options: Options) -> bool:
    """Return whether the assignment's own network is trained, and not LeNet-5."""
    return options.network in (None, NETWORKS[0])


def of_network(stem: str, options: Options) -> str:
    """Return the name of a script's results: the stem, with the network's name where that is not the assignment's."""
    return stem if assignments_network(options) else f"{stem}_{options.network}"


def read_results(stem: str, options: Options, keys: tuple[str, ...] = ()) -> dict:
    """Return the summary of another script of problem 4 for the same network.

    Ends the program with status 1 where there is none, where it lacks one of the `keys`, and where it stands for a
    sweep of which no seed has all its runs. What is read off one seed may move with the next, and the runs that build
    on it are then lost: it says so.
    """
    script = f"{stem}.py" + ("" if assignments_network(options) else f" --network {options.network}")
    name = of_network(stem, options)
    summary = read_summary(name, options, script)
    if missing := {"complete", "planned", "provenance", *keys} - set(summary):
        sys.exit(f"{name}.json lacks {', '.join(sorted(missing))}: run the script {script} again.")
    if not summary["complete"]:
        sys.exit(f"{name} lacks candidates, and what is read off them may still change: finish {script} first.")
    if summary["provenance"]["runs"] < summary["planned"]:
        warn(f"{name} lacks seeds: if they move what is read off it, the runs that build on it count no more.")
    return summary


def sweep(stem: str, run: Callable, configs: list[dict], options: Options) -> pd.DataFrame:
    """Return the table of the runs, `run(config, options)` each, after doing what is not recorded yet.

    The configs get the network's name if it is LeNet-5, and single precision, in which that trains fastest.
    --replot takes what is recorded so far: on a CPU the protocols of problem 4 take days.
    """
    run, network = partial(run, options=options), options.network or NETWORKS[0]
    if not assignments_network(options):
        configs = [{**config, "network": network, "precision": "float32"} for config in configs]
    threads = THREADS[network]
    resources = {"workers": options.workers(threads), "threads": threads, "gpu_share": GPU_SHARE}
    return run_all(of_network(stem, options), run, configs, options, **resources, allow_missing=True)


def batch_sizes(images: int, batch_size: int) -> np.ndarray:
    """Return the sizes of an epoch's batches: all `batch_size`, but for what is left for the last.

    Raises ValueError for a batch size that is not between 1 and the number of images.
    """
    if not 1 <= batch_size <= images:
        raise ValueError(f"the batch size is {batch_size}; it must be between 1 and the {images} training images")
    whole, rest = divmod(images, batch_size)
    return np.array([batch_size] * whole + [rest] * (rest > 0))


def constant_plan(images: int, batch_size: int, rate: float, epochs: int) -> Plan:
    """Return the plan of `epochs` passes over the images with one batch size and one learning rate."""
    if not 0 < rate < math.inf:
        raise ValueError(f"the learning rate is {rate}; it must be positive and finite")
    sizes = batch_sizes(images, batch_size)
    return [(sizes, np.full(len(sizes), rate))] * epochs


def best_of(values: Sequence[float | None]) -> float:
    """Return the greatest of the epochs' values, of which those after a stop are None or NaN; NaN if all are."""
    numbers = np.array(values, dtype=float)
    return float(np.nanmax(numbers)) if np.isfinite(numbers).any() else math.nan


def resize(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (n, 1, 32, 32), between 0 and 1, of pixels (n, 1, 28, 28), uint8: bilinear, as the post."""
    return functional.interpolate(pixels.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


class Run:
    """A config's data, on the device, and its freshly drawn network: equal seeds start from equal networks."""

    def __init__(self, config: dict, options: Options, augmented: bool = True):
        """Load, split and move the data; `config` has dataset, images, seed and precision ("fastest" or a name).

        It may have a micro_batch other than 64, and a network other than MiniGoogLeNet.
        """
        device, network = options.torch_device(), config.get("network", NETWORKS[0])
        if device.type == "cpu":
            torch.set_num_threads(THREADS[network])
        images, labels = (part[: config["images"]] for part in data.load(config["dataset"], options.data_dir, True))
        test = (part[: config["images"]] for part in data.load(config["dataset"], options.data_dir, False))
        self.training, validation = data.hold_out(labels)
        self.pixels, self.labels = on_device(images, labels, device)
        self.test = on_device(*test, device)
        self.watched, self.validation = (torch.as_tensor(part) for part in (self.training[:WATCHED], validation))
        torch.manual_seed(config["seed"])
        self.rng = np.random.default_rng([config["seed"], 1])
        precision = fastest_precision(device) if config["precision"] == "fastest" else config["precision"]
        self.trainer = Trainer(
            {"mini_googlenet": MiniGoogLeNet, "lenet5": partial(LeNet5, batch_norm=True)}[network](),
            device,
            resize,
            learning_rate=1.0,  # each update brings its own
            momentum=MOMENTUM,
            precision=precision,
            largest_shift=LARGEST_SHIFT if augmented else None,
            micro_batch=config.get("micro_batch", MICRO_BATCH),
            seed=config["seed"],
        )
        self.environment = {"precision": precision, "device": device.type}

    def epoch(self, sizes: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Train on all images once, in a new order, in batches of these sizes; return each update's loss."""
        order = self.rng.permutation(self.training)
        batches = np.split(order, np.cumsum(sizes))[: len(sizes)]
        return self.trainer.train(self.pixels, self.labels, batches, rates)

    def evaluate(self, part: torch.Tensor) -> tuple[float, float]:
        """Return loss and accuracy in evaluation mode on the images with these indices."""
        return self.trainer.evaluate(self.pixels[part], self.labels[part])

    def follow(self, plan: Plan, keep_updates: bool = False) -> dict:
        """Train as planned; return losses and accuracies after each epoch, and at the end on the test set.

        "batch_loss": the epoch's mean over its images, augmented and with dropout; "train_*", on the first 10,000
        training images, and "validation_*": in evaluation mode. Training stops after the epoch in which a loss
        ceases to be finite: "stopped" says so, and what it would have measured from there is NaN.
        "selected_*": after the epoch of the best validation accuracy, on the test set. "update_losses": of each
        update, if they are to be kept (a long run has tens of thousands).
        """
        names = ("batch_loss", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
        result = {name: [] for name in names}
        selected = {"selected_epoch": math.nan, "selected_test_loss": math.nan, "selected_test_accuracy": math.nan}
        best, updates, made = -1.0, [], 0
        for epoch, (sizes, rates) in enumerate(plan, 1):
            losses = self.epoch(sizes, rates)
            updates.extend(losses)
            made += len(losses)
            values = [np.average(losses, weights=sizes), *self.evaluate(self.watched), *self.evaluate(self.validation)]
            if not np.all(np.isfinite(values)):
                values = [math.nan] * len(values)
            for name, value in zip(names, values, strict=True):
                result[name].append(value)
            if math.isnan(values[0]):
                break
            if values[-1] > best:
                best = values[-1]
                loss, accuracy = self.trainer.evaluate(*self.test)
                selected = {"selected_epoch": epoch, "selected_test_loss": loss, "selected_test_accuracy": accuracy}
        result["stopped"] = len(result["batch_loss"]) < len(plan) or math.isnan(values[0])
        failed = (math.nan, math.nan)
        result["test_loss"], result["test_accuracy"] = (
            failed if result["stopped"] else self.trainer.evaluate(*self.test)
        )
        kept = {"update_losses": updates} if keep_updates else {}
        return {**result, **selected, **kept, "updates": made, **self.environment}
