"""In which precision and memory order do LeNet-5 and MiniGoogLeNet train fastest here? Measured, not assumed.

    python tests/bench/bench_precision.py      about 3 min on two CPU cores; nothing else should run meanwhile

Images a second in training steps of 64 images of problem 3's LeNet-5, without batch norm and dropout, and of problem
4's MiniGoogLeNet, with its augmentation; each setting in turn, several rounds. Writes
report/results/bench_precision_<cpu or cuda>.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import time

import numpy as np
import torch

from coms6998_hw2.models import LeNet5, MiniGoogLeNet
from coms6998_hw2.p3_lenet5 import BATCH_SIZE, preparation
from coms6998_hw2.problem_4.training_run import LARGEST_SHIFT, resize
from coms6998_hw2.trainer import Trainer, on_device, split_in_batches
from utils import data, machine
from utils.cli import Options
from utils.intervals import mean_interval
from utils.provenance import environment
from utils.records import write_summary

IMAGES = {"lenet5": 1920, "mini_googlenet": 192}
ROUNDS = 20
HOPELESS = 20  # images a second: a setting that starts slower is not timed any longer
ORDERS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def images_per_second(trainer: Trainer, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """Train on all the images once and return how many of them a second."""
    batches = split_in_batches(np.arange(len(pixels)), BATCH_SIZE)
    start = time.perf_counter()
    trainer.train(pixels, labels, batches, [0.01] * len(batches))
    return len(pixels) / (time.perf_counter() - start)


def settings(model: type, prepare, largest_shift: int | None, pixels, labels, device: torch.device) -> dict:
    """Return, by precision and memory order, the interval of the images a second."""
    trainers = {}
    for precision in ("float32", "bfloat16"):
        for order, memory_format in ORDERS.items():
            trainer = Trainer(
                model(), device, prepare, learning_rate=0.01, precision=precision, largest_shift=largest_shift
            )
            trainer.model.to(memory_format=memory_format)
            trainers[f"{precision}, {order}"] = trainer
    first = {name: images_per_second(t, pixels[:BATCH_SIZE], labels) for name, t in trainers.items()}  # warms up
    rates = {name: [rate] if rate < HOPELESS else [] for name, rate in first.items()}
    for _ in range(ROUNDS):
        for name, trainer in trainers.items():
            if first[name] >= HOPELESS:
                rates[name].append(images_per_second(trainer, pixels, labels))
    return {name: mean_interval(values) for name, values in rates.items()}


def main():
    """Time every setting and write the summary."""
    device = machine.torch_device("auto")
    summary = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU cores",
        "batch_size": BATCH_SIZE,
        "environment": environment(),
    }
    mnist, fashion = (data.load(name, Options().data_dir, train=True) for name in ("mnist", "fashion_mnist"))
    networks = {
        "lenet5": (LeNet5, preparation(mnist[0], standardized=True), None, mnist),
        "mini_googlenet": (MiniGoogLeNet, resize, LARGEST_SHIFT, fashion),
    }
    for name, (model, prepare, largest_shift, (images, labels)) in networks.items():
        on = on_device(images[: IMAGES[name]], labels[: IMAGES[name]], device)
        summary[name] = settings(model, prepare, largest_shift, *on, device)
    write_summary(f"bench_precision_{device.type}", summary)


if __name__ == "__main__":
    main()
