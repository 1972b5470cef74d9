"""What a normalization costs: the time of a training step without, with ours and with the library's, side by side.

    python tests/bench/bench_norms.py      about 1 min on one CPU core; nothing else should run meanwhile

The whole CNN on batches of 64, on one thread, every kind in turn in each round, so that a busy moment hits all alike.
Once also the provided file's convolution, which cuts out its 784 windows one by one. Writes
report/results/bench_norms.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import time

import numpy as np
import tensorflow as tf

from ist597_norms.cnn import CNN, NORMALIZATIONS
from ist597_norms.p1_compare_norms import BATCH_SIZE, CLASSES, HIDDEN_SIZE
from ist597_norms.references import TWINS, network
from utils import machine
from utils.intervals import geometric_interval, mean_interval
from utils.provenance import environment
from utils.records import write_summary

ROUNDS, STEPS, WARM_UP = 40, 10, 5


class SlicedCNN(CNN):
    """The network with the provided file's way to convolve: a slice for each window, then one matrix product."""

    def convolution(self, X, W, b, padding, stride):
        """Return what CNN.convolution returns."""
        X = tf.pad(X, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        size, height, width = W.shape[0], X.shape[1], X.shape[2]
        corners = [(i, j) for i in range(0, height - size + 1, stride) for j in range(0, width - size + 1, stride)]
        windows = [tf.reshape(X[:, i : i + size, j : j + size], [len(X), -1]) for i, j in corners]
        rows = tf.stack(windows, axis=1)  # (n, 784, 25)
        out = (height - size) // stride + 1
        return tf.reshape(rows @ tf.reshape(W, [-1, W.shape[-1]]), [len(X), out, out, W.shape[-1]]) + b


def seconds_per_step(model: CNN, images: np.ndarray, labels: np.ndarray, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        loss = model.backward(images, labels)
    float(loss)
    return (time.perf_counter() - start) / steps


def main():
    """Time every kind in every round and write the summary."""
    machine.one_thread_each()
    rng = np.random.default_rng(0)
    images = rng.random((BATCH_SIZE, 28, 28, 1), dtype=np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, BATCH_SIZE)]
    modes = (*NORMALIZATIONS, *TWINS.values())
    models = {mode: network(mode, HIDDEN_SIZE, CLASSES) for mode in modes}
    models["sliced"] = SlicedCNN(HIDDEN_SIZE, CLASSES)
    for model in models.values():
        seconds_per_step(model, images, labels, WARM_UP)
    rounds = [
        {name: seconds_per_step(model, images, labels, STEPS) for name, model in models.items()} for _ in range(ROUNDS)
    ]
    seconds = {name: np.array([times[name] for times in rounds]) for name in models}
    summary = {
        "milliseconds": {name: mean_interval(values * 1000) for name, values in seconds.items()},
        "over_library": {mode: geometric_interval(seconds[mode] / seconds[twin]) for mode, twin in TWINS.items()},
        "over_none": {name: geometric_interval(values / seconds["none"]) for name, values in seconds.items()},
        "protocol": {"rounds": ROUNDS, "steps": STEPS, "batch_size": BATCH_SIZE},
        "environment": environment(),
    }
    write_summary("bench_norms", summary)


if __name__ == "__main__":
    main()
