"""How much faster the ensemble of `relu_ensemble` is than a plain loop and than torch.func.vmap, side by side.

    python tests/bench/bench_dying_relu.py      about 3 min on two CPU cores; nothing else should run meanwhile

Ten-layer networks of width two, 3,000 points each, batches of 64, Adam: time for 1,000 networks x 100 epochs on two
cores. The plain loop is what one would write, in one process; it and all others are also timed with half of the
networks in each of two processes. The slow ways are timed on less and scaled. Writes
report/results/bench_dying_relu.json.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import multiprocessing
import os
import tempfile
import timeit
from functools import partial

import torch
from torch import nn

from coms6998_hw2.problem_2 import relu_ensemble as ensemble
from utils.provenance import environment
from utils.records import write_summary

PROCESSES = 2
WIDTH, HIDDEN, POINTS, BATCH_SIZE, EPOCHS, NETWORKS = 2, 9, 3000, 64, 100, 1000
CHOICES = {"slope": 0.0, "loss": "mse", "optimizer": "adam", "learning_rate": 1e-3, "batch_size": BATCH_SIZE, "seed": 0}


def plain_loop(networks: int) -> float:
    """Return the seconds for `networks` networks x 1 epoch, one nn.Sequential with its own Adam after another."""

    def run():
        for _ in range(networks):
            layers = [nn.Linear(1, WIDTH), nn.ReLU()]
            for _ in range(HIDDEN - 1):
                layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
            network = nn.Sequential(*layers, nn.Linear(WIDTH, 1))
            optimizer, criterion = torch.optim.Adam(network.parameters(), lr=1e-3), nn.MSELoss()
            x = (torch.rand(POINTS, 1) - 0.5) * 2 * ensemble.HALF_INTERVAL
            y = x.abs()
            for batch in torch.randperm(POINTS).split(BATCH_SIZE):
                optimizer.zero_grad()
                criterion(network(x[batch]), y[batch]).backward()
                optimizer.step()

    return timeit.timeit(run, "gc.enable()", number=1)


def vmapped(networks: int) -> float:
    """Return the seconds for `networks` networks x 1 epoch with torch.func's stacked state, vmap and grad."""
    models = [
        nn.Sequential(
            nn.Linear(1, WIDTH),
            nn.ReLU(),
            *(part for _ in range(HIDDEN - 1) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())),
            nn.Linear(WIDTH, 1),
        )
        for _ in range(networks)
    ]
    parameters, _ = torch.func.stack_module_state(models)
    template = models[0].to("meta")

    def loss(parameters, x, y):
        return (torch.func.functional_call(template, parameters, (x,)) - y).square().mean()

    gradient = torch.func.vmap(torch.func.grad(loss))
    parameters = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(list(parameters.values()), lr=1e-3, fused=True)
    x = (torch.rand(networks, POINTS, 1) - 0.5) * 2 * ensemble.HALF_INTERVAL
    y = x.abs()

    def run():
        for batch in torch.randperm(POINTS).split(BATCH_SIZE):
            for name, value in gradient(parameters, x[:, batch], y[:, batch]).items():
                parameters[name].grad = value
            optimizer.step()

    return timeit.timeit(run, "gc.enable()", number=1)


def ours(networks: int, epochs: int, compiled: bool) -> float:
    """Return the seconds for `networks` networks x `epochs` epochs, compilation included."""
    layers = [(w.float(), b.float()) for w, b in ensemble.draw_layers(WIDTH, HIDDEN, "he", 0, range(networks))]
    x = ensemble.draw_points(POINTS, 0, range(networks)).float()
    train = partial(ensemble.train, layers, x, x.abs(), **CHOICES, epochs=epochs, compiled=compiled)
    return timeit.timeit(train, "gc.enable()", number=1)


def prepare(cache: str) -> None:
    """Set a process up: one thread, a compiler cache of its own, and what every first call sets up."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(cache, str(os.getpid()))
    torch.set_num_threads(1)
    for way in (plain_loop, vmapped):
        way(2)


def main():
    """Time each way and write the summary."""
    half, loop_networks = NETWORKS // PROCESSES, 15
    context = multiprocessing.get_context("spawn")
    plain_loop(2)
    seconds = {"plain loop": plain_loop(2 * loop_networks) * NETWORKS / (2 * loop_networks) * EPOCHS}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache, context.Pool(PROCESSES, prepare, (cache,)) as pool:

        def slower(way, *arguments) -> float:
            """Return the seconds of the slower process where both do the same at once."""
            return max(pool.starmap(way, [arguments] * PROCESSES, chunksize=1))

        seconds["plain loop, two processes"] = slower(plain_loop, loop_networks) * half / loop_networks * EPOCHS
        seconds["vmap"] = slower(vmapped, half) * EPOCHS
        seconds["ours, eager"] = slower(ours, half, 2, False) * EPOCHS / 2
        seconds["ours, compilation included"] = slower(ours, half, EPOCHS, True)
        seconds["ours, compiled"] = slower(ours, half, EPOCHS, True)
    summary = {
        "seconds": seconds,
        "speedup": {name: seconds["plain loop"] / value for name, value in seconds.items()},
        "networks": NETWORKS,
        "epochs": EPOCHS,
        "timed": {"plain_loop_networks": 2 * loop_networks},
        "environment": environment(),
    }
    write_summary("bench_dying_relu", summary)


if __name__ == "__main__":
    main()
