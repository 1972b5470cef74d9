"""How much faster the training loop of problems 3 and 4 is than a plain one, side by side.

    python tests/bench/bench_training.py      about 3 min on two CPU cores; nothing else should run meanwhile

LeNet-5: seconds for an epoch of MNIST, ours against torchvision's transforms in a DataLoader with two workers.
MiniGoogLeNet: the same with Fashion-MNIST (a part of it on a CPU), in the fastest precision against a plain loop in
single precision. Each in turn, several rounds. And what an update's time goes into.
Writes report/results/bench_training_<device>.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from coms6998_hw2.models import LeNet5, MiniGoogLeNet
from coms6998_hw2.p3_lenet5 import preparation
from coms6998_hw2.problem_4.training_run import resize
from coms6998_hw2.trainer import Trainer, fastest_precision, on_device, split_in_batches
from utils import data, machine
from utils.cli import Options
from utils.intervals import geometric_interval, mean_interval
from utils.provenance import environment
from utils.records import write_summary

BATCH_SIZE, ROUNDS, IMAGES = 64, 3, 55_000
WARM_UP, PROFILED = 3, 20
FLOPS_PER_IMAGE = 6 * 232.8e6  # a multiply-add is two; forward, and twice that backward
# What the names of torch's operations and of CUDA's kernels have in them; all others are "other".
KINDS = {"batch norm": ["batch_norm"], "convolution": ["conv", "gemm", "cutlass", "nvjet"]}


class PlainImages(Dataset):
    """Images one by one through torchvision's transforms, as torchvision's own data sets hand them out."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def plain_epoch(model, loader, device) -> float:
    """Return the seconds of an epoch of the loop that every tutorial shows."""
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), nn.CrossEntropyLoss()
    model.train()
    start = time.perf_counter()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - start


def our_epoch(trainer, pixels, labels, batches) -> float:
    start = time.perf_counter()
    trainer.train(pixels, labels, batches, [0.01] * len(batches))
    return time.perf_counter() - start


def epochs_of(name: str, model: type, prepare, transform, device, precision: str, workers: int, images: int) -> dict:
    """Return the seconds of an epoch, plain and ours, and the ratio, over the rounds."""
    pictures, targets = data.load(name, Options().data_dir, train=True)
    pictures, targets = pictures[:images], targets[:images]
    loader = DataLoader(
        PlainImages(pictures, targets, transform), BATCH_SIZE, shuffle=True, num_workers=workers, drop_last=True
    )
    plain = model().to(device)
    trainer = Trainer(model(), device, prepare, learning_rate=0.01, precision=precision)
    pixels, labels = on_device(pictures, targets, device)
    rng = np.random.default_rng(0)
    our_epoch(trainer, pixels, labels, split_in_batches(rng.permutation(images), BATCH_SIZE)[:WARM_UP])
    seconds = {"plain": [], "ours": []}
    for _ in range(ROUNDS):
        seconds["plain"].append(plain_epoch(plain, loader, device))
        batches = split_in_batches(rng.permutation(images), BATCH_SIZE)
        seconds["ours"].append(our_epoch(trainer, pixels, labels, batches))
    ratio = np.array(seconds["plain"]) / np.array(seconds["ours"])
    return {
        **{way: mean_interval(values) for way, values in seconds.items()},
        "speedup": geometric_interval(ratio),
        "images": images // BATCH_SIZE * BATCH_SIZE,
        "workers": workers,
        "precision": precision,
    }


def update_profile(device) -> dict:
    """Return the milliseconds and the number of operations, by kind, of one update of MiniGoogLeNet."""
    pictures, targets = data.load("fashion_mnist", Options().data_dir, train=True)
    trainer = Trainer(
        MiniGoogLeNet(), device, resize, learning_rate=0.01, precision=fastest_precision(device), largest_shift=3
    )
    pixels, labels = on_device(pictures, targets, device)
    batches = split_in_batches(np.random.default_rng(0).permutation(len(pictures)), BATCH_SIZE)[:PROFILED]
    our_epoch(trainer, pixels, labels, batches)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        our_epoch(trainer, pixels, labels, batches)
    kinds = {kind: {"milliseconds": 0.0, "operations": 0.0} for kind in (*KINDS, "other")}
    for row in profiler.key_averages():
        microseconds = row.self_device_time_total if cuda else row.self_cpu_time_total
        if microseconds and not row.is_user_annotation:  # an annotation's time is its operations'
            totals = kinds[kind_of(row.key)]
            totals["milliseconds"] += microseconds / 1000 / PROFILED
            totals["operations"] += row.count / PROFILED
    return kinds


def kind_of(name: str) -> str:
    """Return the kind of an operation or a kernel."""
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return "other"


def matrix_rate(device, dtype) -> float:
    """Return the floating-point operations per second of a 2048^3 matrix product."""
    a = torch.rand(2048, 2048, device=device).to(dtype)

    def products(n):
        start = time.perf_counter()
        for _ in range(n):
            b = a @ a
        float(b[0, 0])
        return (time.perf_counter() - start) / n

    products(3)
    return 2 * 2048**3 / products(10)


def main():
    """Time each way and write the summary."""
    device = machine.torch_device("auto")
    cores = machine.cores()
    pad = transforms.Compose([transforms.Pad(2), transforms.ToTensor(), transforms.Normalize((0.1,), (0.275,))])
    enlarge = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])
    standardize = preparation(data.load("mnist", Options().data_dir, train=True)[0], standardized=True)
    precision, few = fastest_precision(device), IMAGES if device.type == "cuda" else 2000
    summary = {
        "lenet5": epochs_of("mnist", LeNet5, standardize, pad, device, "float32", 2, IMAGES),
        "mini_googlenet": epochs_of(
            "fashion_mnist", MiniGoogLeNet, resize, enlarge, device, precision, min(8, cores), few
        ),
        "matrix_rate": matrix_rate(device, torch.bfloat16 if precision == "bfloat16" else torch.float32),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{cores} CPU cores",
        "environment": environment(),
    }
    mini = summary["mini_googlenet"]
    rate = mini["images"] / mini["ours"]["mean"]
    mini["share_of_matrix_rate"] = rate * FLOPS_PER_IMAGE / summary["matrix_rate"]
    mini["update"] = update_profile(device)
    write_summary(f"bench_training_{device.type}", summary)


if __name__ == "__main__":
    main()
