"""One training run of MiniGoogLeNet on Fashion-MNIST: what the scripts of problem 4 share.

plan = constant_plan(images=55_000, batch_size=64, rate=0.01, epochs=5)    what each epoch's updates are
curves = Training(config, options).follow(plan)                            losses and accuracies after each epoch
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from coms6998_hw2.models import MiniGoogLeNet
from coms6998_hw2.trainer import Trainer, fastest_precision, on_device
from utils import data, machine
from utils.cli import Options
from utils.intervals import mean_interval
from utils.records import last

NETWORK, DATASET = MiniGoogLeNet, "fashion_mnist"  # the assignment's
BATCH_SIZE = 64  # question 4.2
MOMENTUM = 0.9  # the reference post's
WATCHED = 10_000  # training images on which the training loss is measured in evaluation mode
SIDE = 32  # MiniGoogLeNet's pooling does not fit 28 x 28
LARGEST_SHIFT = 3  # pixels: the post's 10% of 32
QUICK_NETWORK = {"share": 0.25}  # of the filters, on the quick preset: a tenth of the time
MICRO_BATCH = 64  # what batch norm sees, whatever the batch size: larger batches add up gradients
CURVES = ("batch_loss", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
# For each epoch (batch sizes, rates), one of each for every update. The sizes add up to all images; to fewer in a last
# epoch that ends early.
Plan = list[tuple[np.ndarray, np.ndarray]]


def batch_sizes(images: int, batch_size: int) -> np.ndarray:
    """Return the sizes of an epoch's batches: all `batch_size`, but for what is left for the last.

    A single image that would be left joins the batch before: alone it has no batch statistics. Raises ValueError for a
    batch size that is not between 1 and the number of images.
    """
    if not 1 <= batch_size <= images:
        raise ValueError(f"the batch size is {batch_size}; it must be between 1 and the {images} training images")
    whole, rest = divmod(images, batch_size)
    sizes = [batch_size] * whole
    if rest > 1:
        sizes.append(rest)
    sizes[-1] += rest == 1
    return np.array(sizes)


def constant_plan(images: int, batch_size: int, rate: float, epochs: int) -> Plan:
    """Return the plan of `epochs` passes over the images with one batch size and one learning rate.

    Raises ValueError as `batch_sizes` does, and for a rate that is not positive and finite.
    """
    if not 0 < rate < math.inf:
        raise ValueError(f"the learning rate is {rate}; it must be positive and finite")
    sizes = batch_sizes(images, batch_size)
    return [(sizes, np.full(len(sizes), rate))] * epochs


def recorded_plan(plan: Callable[[dict, int], Plan], row: pd.Series) -> Plan:
    """Return what `plan(config, images)` gave a recorded run: a row of its table, whose numbers are NumPy's."""
    config = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return plan(config, config["images"] - data.validation_size(config["images"]))


def after_the_last_epoch(rows: pd.DataFrame) -> dict:
    """Return the intervals, over runs, of losses and accuracy after the last epoch; "loss" is the one trained on."""
    columns = {"loss": "batch_loss", "evaluation_loss": "train_loss", "validation_accuracy": "validation_accuracy"}
    return {name: mean_interval(last(rows[column])) for name, column in columns.items()}


def resize(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (n, 1, 32, 32), between 0 and 1, of pixels (n, 1, 28, 28), uint8: bilinear, as the post."""
    return functional.interpolate(pixels.float() / 255, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


class Training:
    """A config's data, on the device, and its freshly drawn network: equal seeds start from equal networks."""

    def __init__(self, config: dict, options: Options):
        """Load, split and move the data; `config` has dataset, images, seed and precision ("fastest" or a name).

        It may have a micro_batch other than 64, and a share of the network's filters.
        """
        device = machine.torch_device(options.device)
        torch.set_num_threads(1)  # two runs of one thread train a tenth to a third more images than one run of two
        images, labels = data.load(config["dataset"], options.data_dir, train=True, first=config["images"])
        self.pixels, self.labels = on_device(images, labels, device)
        test = data.load(config["dataset"], options.data_dir, train=False, first=config["images"])
        self.test_pixels, self.test_labels = on_device(*test, device)
        self.training_indices, validation_indices = data.hold_out(labels)
        self.watched_indices = torch.as_tensor(self.training_indices[:WATCHED])
        self.validation_indices = torch.as_tensor(validation_indices)
        self.rng = np.random.default_rng([config["seed"], 1])  # of the images' order
        precision = fastest_precision(device) if config["precision"] == "fastest" else config["precision"]
        torch.manual_seed(config["seed"])  # of the weights and of dropout
        self.trainer = Trainer(
            NETWORK(config.get("share", 1.0)),
            device,
            resize,
            learning_rate=1.0,  # each update brings its own
            momentum=MOMENTUM,
            precision=precision,
            largest_shift=LARGEST_SHIFT,
            micro_batch=config.get("micro_batch", MICRO_BATCH),
            seed=config["seed"],
        )
        self.environment = {"precision": precision, "device": device.type}

    def epoch(self, sizes: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Train on all images once, in a new order, in batches of these sizes; return each update's loss."""
        order = self.rng.permutation(self.training_indices)
        batches = np.split(order, np.cumsum(sizes))[: len(sizes)]
        return self.trainer.train(self.pixels, self.labels, batches, rates)

    def evaluate(self, indices: torch.Tensor) -> tuple[float, float]:
        """Return loss and accuracy in evaluation mode on these of the training set's images."""
        return self.trainer.evaluate(self.pixels[indices], self.labels[indices])

    def follow(self, plan: Plan, keep_updates: bool = False) -> dict:
        """Train as planned; return losses and accuracies after each epoch, and at the end on the test set.

        "batch_loss": the epoch's mean over its images, augmented and with dropout; "train_*", on the first 10,000
        training images, and "validation_*": in evaluation mode. Training stops after the epoch in which a loss
        ceases to be finite: "stopped" says so, and what it would have measured from there is NaN.
        "test_*": with the last weights; "selected_test_*": with those of the epoch of the best validation accuracy.
        "update_losses": of each update, if they are to be kept (a long run has tens of thousands).
        """
        result: dict = {name: [] for name in CURVES}
        best_accuracy, best_epoch, best_weights = -1.0, math.nan, None
        update_losses: list[float] = []
        stopped = False
        for epoch, (sizes, rates) in enumerate(plan, 1):
            losses = self.epoch(sizes, rates)
            update_losses.extend(losses)
            train = self.evaluate(self.watched_indices)
            validation = self.evaluate(self.validation_indices)
            values = [np.average(losses, weights=sizes), *train, *validation]
            stopped = not np.all(np.isfinite(values))
            for name, value in zip(CURVES, values, strict=True):
                result[name].append(math.nan if stopped else value)
            if stopped:
                break
            if validation[1] > best_accuracy:
                best_accuracy, best_epoch = validation[1], epoch
                best_weights = copy.deepcopy(self.trainer.model.state_dict())
        result["stopped"], result["updates"] = stopped, len(update_losses)
        if keep_updates:
            result["update_losses"] = update_losses
        result["test_loss"], result["test_accuracy"] = (math.nan, math.nan) if stopped else self._test()
        result["selected_epoch"] = best_epoch
        result["selected_test_loss"], result["selected_test_accuracy"] = math.nan, math.nan
        if best_weights is not None:
            self.trainer.model.load_state_dict(best_weights)
            result["selected_test_loss"], result["selected_test_accuracy"] = self._test()
        return {**result, "environment": self.environment}

    def _test(self):
        return self.trainer.evaluate(self.test_pixels, self.test_labels)
