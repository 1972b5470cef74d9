"""Questions 2.2 and 2.3: how often a deep, narrow ReLU network collapses to a constant, and whether leaky ReLU helps.

2.2: train 1,000 ReLU networks of ten layers and width two on |x|, x uniform in [-sqrt 7, sqrt 7], 3,000 points each,
minibatches of 64. What fraction collapses; is it close to the 90% of Lu et al. (2020)? 2.3: the same with leaky ReLU.

    python coms6998_hw2/p2_2_dying_relu.py                  the full protocol, about 20 min on two CPU cores
    python coms6998_hw2/p2_2_dying_relu.py --preset quick   fewer networks and epochs, about 20 s

Writes report/results/p2_2_dying_relu/*.json and their summary, and figures/p2_2_dying_relu.png (collapse against
epochs, threshold, depth; examples), _map.png (born dead, width by depth), _values.png (where the collapsed sit) and
_fates.png (from birth to fate).
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
import torch

from coms6998_hw2.problem_2 import relu_ensemble as ensemble
from coms6998_hw2.problem_2.dying_relu_figures import draw, draw_fates, draw_map, draw_values
from utils import machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import fraction_interval, paired_shares
from utils.records import floats, write_summary
from utils.runs import sweep

STEM = "p2_2_dying_relu"
POINTS, BATCH_SIZE, NETWORKS, WIDTH = 3000, 64, 1000, 2  # the assignment's
# An L-layer network has L - 1 hidden layers in the paper; a later edition of the assignment says ten hidden layers.
HIDDEN, HIDDEN_TOO = 9, 10
SLOPE = 0.01  # leaky ReLU's, the assignment's
LEARNING_RATE = 1e-3  # Adam's default; the paper's optimizer, step size and number of epochs are not known
CHECKPOINTS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
EPSILONS = [1e-12, 1e-16]  # of Adam, beside its default, 1e-8: what a gradient this small is divided by
COLLAPSED_R2 = 0.01  # primary definition: the network explains less than 1% of the target's variance
THRESHOLDS = np.logspace(-8, 0, 33)  # on the output's range, relative to the target's
MAP_WIDTHS, MAP_HIDDEN = range(1, 11), 40


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    networks: int
    epochs: int
    seeds: int
    map_networks: int
    rai_networks: int
    slopes: list[float]
    widths: list[int]
    long: int


PRESETS = {
    "full": Preset(
        networks=NETWORKS,
        epochs=100,
        seeds=3,
        map_networks=1_000_000,
        rai_networks=100_000,
        slopes=[0.001, 0.003, 0.03, 0.1, 0.3],
        widths=[3, 4, 5, 10],
        long=1000,
    ),
    "quick": Preset(
        networks=100,
        epochs=5,
        seeds=1,
        map_networks=10_000,
        rai_networks=1000,
        slopes=[0.1],
        widths=[5],
        long=10,
    ),
}
FLAT = 1e-3  # of the target's range, on one side of zero: far below what a fitting network has there
WORTH_COMPILING = 20_000  # networks x epochs beyond which compilation (about 20 s) pays


def configs(preset: str) -> list[dict]:
    """Return the runs: the main protocol, each of its choices varied, and the born-dead simulations."""
    size = PRESETS[preset]
    main = {
        "kind": "train",
        "variation": "none",
        "target": "abs",
        "initialization": "he",
        "slope": 0.0,
        "width": WIDTH,
        "hidden": HIDDEN,
        "loss": "mse",
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "epochs": size.epochs,
        "batch_size": BATCH_SIZE,
        "points": POINTS,
        "networks": size.networks,
        "seed": 0,
    }
    variations: dict[str, dict] = {
        "x_sin_5x": {"target": "x_sin_5x"},
        "step_sin_5x": {"target": "step_sin_5x"},
        "x_sin_5x mae": {"target": "x_sin_5x", "loss": "mae"},
        "sgd 0.01": {"optimizer": "sgd", "learning_rate": 0.01},
        "adam 0.01": {"learning_rate": 0.01},
        "glorot": {"initialization": "glorot"},
        "pytorch": {"initialization": "pytorch"},
        **{f"width {width}": {"width": width} for width in size.widths},
        "rai": {"initialization": "rai"},
    }
    runs = []
    for hidden in (HIDDEN, HIDDEN_TOO):
        for name, slope in (("relu", 0.0), ("leaky", SLOPE)):
            for seed in range(size.seeds):
                change = {"hidden": hidden, "slope": slope, "seed": seed}
                runs.append({"name": f"{name}_{hidden}_hidden_seed{seed}", **main, **change})
    for variation, change in variations.items():
        runs.append({"name": f"relu_{variation}", **main, "variation": variation, **change})
    for slope in size.slopes:
        runs.append({"name": f"slope_{slope:g}", **main, "variation": f"slope {slope:g}", "slope": slope})
    leaky = {**main, "slope": SLOPE}
    for epsilon in EPSILONS:
        name = f"leaky_epsilon_{epsilon:g}"
        runs.append({"name": name, **leaky, "variation": f"leaky, epsilon {epsilon:g}", "epsilon": epsilon})
    runs.append({"name": "leaky_long", **leaky, "variation": "leaky, long", "epochs": size.long})
    for seed in range(size.seeds):
        runs.append({"name": f"birth_seed{seed}", **main, "kind": "birth", "epochs": 0, "seed": seed})
    for hidden in (HIDDEN, HIDDEN_TOO):
        born = {"initialization": "rai", "epochs": 0, "networks": size.rai_networks, "hidden": hidden}
        runs.append({"name": f"rai_born_{hidden}_hidden", **main, "variation": "rai born", **born})
    for width in MAP_WIDTHS:
        networks = size.map_networks
        born = {"kind": "born_dead", "width": width, "hidden": MAP_HIDDEN, "networks": networks, "seed": 0}
        runs.append({"name": f"born_dead_width_{width}", **born})
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Return a config's counts and, for its networks at the end, arrays; see `train_and_watch`."""
    torch.set_num_threads(1)  # the tensors of a chunk are small; the sweep uses the other cores
    if config["kind"] == "born_dead":
        dead = ensemble.count_born_dead(config["width"], config["hidden"], config["networks"], config["seed"])
        return {"dead": dead, "environment": {"precision": "float64", "device": "cpu"}}
    if config["kind"] == "birth":
        drawn = ensemble.draw_layers(
            config["width"], config["hidden"], config["initialization"], config["seed"], range(config["networks"])
        )
        counts = {"relu_dead_layers": ensemble.dead_layers(drawn, 0.0)}
        counts["leaky_dead_layers"] = ensemble.dead_layers(drawn, SLOPE)
        return {**counts, "environment": {"precision": "float64", "device": "cpu"}}
    return train_and_watch(config, machine.torch_device(options.device))


def train_and_watch(config: dict, device: torch.device) -> dict:
    """Draw, train (on the device) and evaluate (in float64 on the CPU) the config's networks, a chunk at a time.

    Returns "epochs_seen" (c,), the checkpoints; for each of them how many networks have r2 < 0.01 ("collapsed"), r2 >
    0.99 ("fitted"), are exactly constant ("constant"), or have a relative range below each threshold ("below",
    (c, 33)); for every network at the end "r2", "range", "left_range", "right_range" and "value"; and "examples".
    """
    seen = [epoch for epoch in CHECKPOINTS if epoch <= config["epochs"]]
    counts = {key: np.zeros(len(seen), dtype=int) for key in ("collapsed", "fitted", "constant")}
    counts["below"] = np.zeros((len(seen), len(THRESHOLDS)), dtype=int)
    finals = []

    def watch(epoch, layers):
        if epoch not in seen:
            return
        networks = ensemble.evaluate(layers, config["slope"], config["target"])
        i = seen.index(epoch)
        counts["collapsed"][i] += np.sum(networks["r2"] < COLLAPSED_R2)
        counts["fitted"][i] += np.sum(networks["r2"] > 1 - COLLAPSED_R2)
        counts["constant"][i] += np.sum(networks["range"] == 0)
        counts["below"][i] += np.sum(networks["range"][:, None] < THRESHOLDS, axis=0)
        if epoch == seen[-1]:
            finals.append(networks)

    compiled = config["networks"] * config["epochs"] >= WORTH_COMPILING
    kept = ("slope", "loss", "optimizer", "learning_rate", "batch_size", "epochs", "seed")
    choices = {key: config[key] for key in kept} | {key: config[key] for key in ("epsilon",) if key in config}
    for first in range(0, config["networks"], ensemble.CHUNK):
        numbers = range(first, min(first + ensemble.CHUNK, config["networks"]))
        width, hidden, seed = config["width"], config["hidden"], config["seed"]
        layers = ensemble.draw_layers(width, hidden, config["initialization"], seed, numbers)
        watch(0, layers)
        if config["epochs"]:
            layers = [(weight.float().to(device), bias.float().to(device)) for weight, bias in layers]
            x = ensemble.draw_points(config["points"], seed, numbers).float().to(device)
            y = ensemble.TARGETS[config["target"]](x)
            compiled = ensemble.train(layers, x, y, **choices, compiled=compiled, after_epoch=watch)
    precision = "float32, compiled" if compiled else "float32"
    result: dict[str, Any] = {
        "environment": {"precision": precision, "device": device.type},
        "epochs_seen": seen,
        **counts,
    }
    if config["epochs"]:
        final = {key: np.concatenate([networks[key] for networks in finals]) for key in finals[0]}
        result["examples"] = examples(final)
        for key in ("r2", "range", "left_range", "right_range", "value"):
            result[key] = [float(f"{number:.4g}") for number in final[key]]
    return result


def kinds(r2: np.ndarray, left_range: np.ndarray, right_range: np.ndarray) -> np.ndarray:
    """Return each network's kind (R,): "collapsed" (r2 < 0.01), "half" (else, flat on one side of zero), or "alive".

    A network whose output is no number is "diverged".
    """
    flat = np.minimum(left_range, right_range) < FLAT
    return np.select([np.isnan(r2), r2 < COLLAPSED_R2, flat], ["diverged", "collapsed", "half"], "alive")


def examples(final: dict) -> dict:
    """Return the output, at 101 points of the interval, of the first network of each kind."""
    kind = kinds(final["r2"], final["left_range"], final["right_range"])
    return {name: np.round(final["curve"][list(kind).index(name), ::10], 4) for name in sorted({*kind} - {"diverged"})}


def summarise(frame: pd.DataFrame) -> dict:
    """Return the report's numbers; fractions of the main protocol are pooled over the seeds."""
    trained = frame[(frame.kind == "train") & (frame.epochs > 0)]
    main = trained[trained.variation == "none"]
    protocol = {key: int(main[key].iloc[0]) for key in ("epochs", "networks")} | {"seeds": main.seed.nunique()}
    protocol |= {"learning_rate": LEARNING_RATE, "slope": SLOPE, "collapsed_r2": COLLAPSED_R2, "thresholds": THRESHOLDS}
    summary: dict[str, Any] = {"protocol": protocol, "variations": {}, **born_dead(frame[frame.kind == "born_dead"])}
    for hidden in (HIDDEN, HIDDEN_TOO):
        suffix = "" if hidden == HIDDEN else f"_{hidden}_hidden"
        relu = main[(main.hidden == hidden) & (main.slope == 0)].sort_values("seed")
        leaky = main[(main.hidden == hidden) & (main.slope == SLOPE)].sort_values("seed")
        summary["relu" + suffix], summary["leaky" + suffix] = describe(relu), describe(leaky)
        if hidden == HIDDEN:
            leaky_runs = leaky
            before, after = joined(relu.r2), joined(leaky.r2)
            both = np.isfinite(before) & np.isfinite(after)
            summary["rescued"] = paired_shares(before[both] < COLLAPSED_R2, after[both] < COLLAPSED_R2)
    births = frame[frame.kind == "birth"].sort_values("seed")
    for name, slope in (("relu", 0.0), ("leaky", SLOPE)):
        rows = main[(main.hidden == HIDDEN) & (main.slope == slope)].sort_values("seed")
        summary[name]["fates"] = fates(rows, np.concatenate([floats(run) for run in births.relu_dead_layers], axis=1))
    counted = np.concatenate([floats(run) for run in births.leaky_dead_layers], axis=1).min(axis=0)
    summary["leaky"]["by_dead_layers"] = by_dead_layers(joined(leaky_runs.r2), counted)
    for name, rows in trained[trained.variation != "none"].groupby("variation", sort=False):
        summary["variations"][name] = describe(rows)
    rai = frame[frame.variation == "rai born"].set_index("hidden")
    summary["rai"] = {
        "born_dead": fraction_interval(rai.constant[HIDDEN][0], rai.networks[HIDDEN]),
        f"born_dead_{HIDDEN_TOO}_hidden": fraction_interval(rai.constant[HIDDEN_TOO][0], rai.networks[HIDDEN_TOO]),
    }
    return summary


def born_dead(frame: pd.DataFrame) -> dict:
    """Return, by width and depth ("2x9"), the share of networks that are born dead, and the bounds of Lu et al."""
    shares, bounds = {}, {}
    for row in frame.itertuples():
        for hidden in range(1, row.hidden + 1):
            shares[f"{row.width}x{hidden}"] = fraction_interval(row.dead[hidden - 1], row.networks)
            bounds[f"{row.width}x{hidden}"] = ensemble.born_dead_bounds(row.width, hidden)
    return {"born_dead": shares, "bounds": bounds}


def fates(rows: pd.DataFrame, dead: np.ndarray) -> dict:
    """Return how many networks went from each state at birth to each at the end.

    dead (2, networks): the dead ReLU layers on either side of zero, of all networks of the runs `rows`, one run after
    the other. At birth: dead on both sides, on one, on none. At the end: collapsed, flat on one side ("half"), fitted
    (r2 > 0.99), in between.
    """
    kind = kinds(joined(rows.r2), joined(rows.left_range), joined(rows.right_range))
    end = np.where((kind == "alive") & (joined(rows.r2) > 1 - COLLAPSED_R2), "fitted", kind)
    sides = np.sum(dead > 0, axis=0)
    table = {}
    for birth, number in (("both", 2), ("one", 1), ("none", 0)):
        ends = end[sides == number]
        table[birth] = {name: int(np.sum(ends == name)) for name in ("collapsed", "half", "alive", "fitted")}
    return table


def by_dead_layers(r2: np.ndarray, dead: np.ndarray) -> list[dict]:
    """Return the share of networks that collapsed, by how many dead layers they were born with on their better side."""
    rows = []
    for number in range(int(dead.max()) + 1):
        chosen = r2[dead == number]
        if len(chosen):
            collapsed = fraction_interval(np.sum(chosen < COLLAPSED_R2), len(chosen))
            rows.append({"dead_layers": number, "collapsed": collapsed})
    return rows


def joined(column: pd.Series) -> np.ndarray:
    """Return the numbers of all networks of several runs, one run after the other."""
    return np.concatenate([floats(values) for values in column])


def describe(runs: pd.DataFrame) -> dict:
    """Return the pooled fractions of runs that differ in their seed only."""
    # A network whose output is no number has neither collapsed nor not.
    n = int(runs.networks.sum()) - int(np.isnan(joined(runs.r2)).sum())
    counts = {key: np.sum(runs[key].tolist(), axis=0) for key in ("collapsed", "fitted", "constant", "below")}
    kind = kinds(joined(runs.r2), joined(runs.left_range), joined(runs.right_range))
    values_of_constant = joined(runs.value)[joined(runs.range) == 0]
    by_epoch = {}
    for i, epoch in enumerate(runs.epochs_seen.iloc[0]):
        by_epoch[str(epoch)] = {
            "collapsed": fraction_interval(counts["collapsed"][i], n),
            "constant": fraction_interval(counts["constant"][i], n),
        }
    return {
        "collapsed": fraction_interval(counts["collapsed"][-1], n),
        "collapsed_by_seed": [run.collapsed[-1] / run.networks for run in runs.itertuples()],
        "born_dead": fraction_interval(counts["constant"][0], n),
        "constant": fraction_interval(counts["constant"][-1], n),
        "fitted": fraction_interval(counts["fitted"][-1], n),
        "half": fraction_interval(np.sum(kind == "half"), n),
        "epochs": by_epoch,
        "below": counts["below"][-1] / n,
        "median_value_of_constant": float(np.median(values_of_constant)) if len(values_of_constant) else None,
    }


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options)
    summary = summarise(frame)
    figures = {
        STEM: draw(frame, summary),
        f"{STEM}_map": draw_map(summary),
        f"{STEM}_values": draw_values(frame, summary),
        f"{STEM}_fates": draw_fates(summary),
    }
    for name, figure in figures.items():
        plotting.save(figure, name, options)
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
