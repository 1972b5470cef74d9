"""Problem 1, the proof: are the hand-written normalizations those of the library, beside floating-point error?

For batch, layer and weight normalization: the difference of outputs and of the gradients with respect to the input and
every parameter, ours against Keras's or TensorFlow Probability's layer, torch's, and central finite differences, in
float64 and float32; the difference along 300 steps of training; and the size of the differences that are not rounding.

    python ist597_norms/p1_check_gradients.py                  the full protocol, about 5 min on one CPU core
    python ist597_norms/p1_check_gradients.py --preset quick   fewer shapes, seeds and steps, about 30 s

Writes report/results/p1_check_gradients/*.json and their summary, and figures/p1_check_gradients.png and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ist597_norms import norms
from ist597_norms.cnn import CNN, EPS, TWINS
from ist597_norms.references import INPUTS, REFERENCES, SHAPES, case, ours, with_gradients
from utils import machine, plotting
from utils.cli import parse_args
from utils.provenance import provenance
from utils.records import write_summary
from utils.runs import run_all

STEM = "p1_check_gradients"
DTYPES = ("float64", "float32")
SYMBOLS = {
    f"d{name}": rf"$\partial L / \partial {symbol}$"
    for name, symbol in {"x": "x", "gamma": r"\gamma", "beta": r"\beta", "v": "v", "g": "g"}.items()
}
QUANTITIES = {"batch": ("output", "dx", "dgamma", "dbeta"), "layer": ("output", "dx", "dgamma", "dbeta"),
              "weight": ("output", "dx", "dv", "dg")}  # fmt: skip
DTYPE_COLORS = {"float64": plotting.PURPLE, "float32": plotting.ORANGE}
PRESETS: dict[str, Any] = {
    "full": {"shapes": list(SHAPES), "inputs": list(INPUTS), "seeds": 3, "steps": 300},
    "quick": {"shapes": ["dense", "convolution"], "inputs": ["standard"], "seeds": 1, "steps": 20},
}


def configs(preset: str) -> list[dict]:
    """Return the comparisons, the trajectories and the demonstrations."""
    size = PRESETS[preset]
    runs = []
    for norm in TWINS:
        for dtype in DTYPES:
            for reference in REFERENCES:
                if reference == "differences" and dtype == "float32":
                    continue  # rounding would swamp the difference
                for shape in size["shapes"]:
                    for values in size["inputs"]:
                        name = f"{norm}_{dtype}_{reference}_{shape}_{values}".replace(",", "").replace(" ", "-")
                        runs.append({"name": name, "kind": "gradients", "norm": norm, "dtype": dtype,
                                     "reference": reference, "shape": shape, "values": values, "seeds": size["seeds"],
                                     "seed": 0})  # fmt: skip
    for norm in TWINS:
        for dtype in DTYPES:
            runs.append({"name": f"trajectory_{norm}_{dtype}", "kind": "trajectory", "norm": norm, "dtype": dtype,
                         "steps": size["steps"], "seed": 0})  # fmt: skip
    runs += [
        {"name": f"demonstration_{name}", "kind": "demonstration", "demonstration": name, "seed": 0}
        for name in DEMONSTRATIONS
    ]
    return runs


def run(config: dict) -> dict:
    """Return the differences of one comparison, trajectory or demonstration."""
    machine.one_thread_each()  # in float32 the order of a sum decides where two trajectories part
    if config["kind"] == "trajectory":
        return trajectory(config)
    if config["kind"] == "demonstration":
        return {"difference": DEMONSTRATIONS[config["demonstration"]](np.random.default_rng(config["seed"]))}
    norm = config["norm"]
    worst: dict[str, dict] = {}
    names = [quantity[1:] for quantity in QUANTITIES[norm][1:]]
    for seed in range(config["seed"], config["seed"] + config["seeds"]):
        tensors = case(norm, config["shape"], config["values"], config["dtype"], seed)
        mine = with_gradients(lambda t: ours(norm, t), tensors, names)
        theirs = REFERENCES[config["reference"]](norm, tensors, names)
        for quantity in QUANTITIES[norm]:
            difference = np.max(np.abs(mine[quantity] - theirs[quantity]))
            if not np.isfinite(difference):
                raise ValueError(f"{config['name']}: the difference of {quantity} is {difference}")
            size = np.max(np.abs(theirs[quantity]))
            old = worst.get(quantity, {"maximum": 0.0, "relative": 0.0})
            worst[quantity] = {
                "maximum": max(old["maximum"], difference),
                "relative": max(old["relative"], difference / size),
            }
    return {"precision": config["dtype"], "worst": worst}


def trajectory(config: dict) -> dict:
    """Train the whole CNN and its twin on the same minibatches from the same weights; return the gap at each step.

    The gap is the largest difference of any trained number, relative to the largest of its tensor.
    """
    rng = np.random.default_rng(config["seed"])
    dtype = tf.as_dtype(config["dtype"])
    first, second = (CNN(100, 10, normalization=kind, dtype=dtype) for kind in (config["norm"], TWINS[config["norm"]]))
    gaps, losses = [], []
    for _ in range(config["steps"]):
        labels = rng.integers(0, 10, 32)
        images = rng.normal(size=(32, 28, 28, 1)) * 0.3
        # Each class is a bright band at its own height: the loss falls and the weights move.
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 6] += 1
        one_hot = np.eye(10)[labels]
        losses.append(float(first.backward(images, one_hot)))
        second.backward(images, one_hot)
        gaps.append(np.max([np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in matching(first, second)]))
    return {"precision": config["dtype"], "gap": gaps, "loss": losses}


def matching(first: CNN, second: CNN) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs of trained numbers, and of running statistics, of a hand-written network and of its twin.

    Only the biases in front of a batch norm are left out: their gradient is zero, and they stay zero.
    """
    if first.normalization == "weight":
        conv, dense = second.twins
        pairs = [(first.W1, conv.v), (first.g[0], conv.g), (first.b1, conv.layer.bias), (first.W2, dense.v),
                 (first.g[1], dense.g), (first.b2, dense.layer.bias)]  # fmt: skip
        names = ("W3", "b3")
    else:
        pairs = []
        names = ("W1", "W2", "W3", "b3") if first.normalization == "batch" else ("W1", "b1", "W2", "b2", "W3", "b3")
        for index, twin in enumerate(second.twins):
            pairs += [(first.gamma[index], twin.gamma.value), (first.beta[index], twin.beta.value)]
            if first.normalization == "batch":
                pairs += [(first.moving_mean[index], twin.moving_mean.value),
                          (first.moving_variance[index], twin.moving_variance.value)]  # fmt: skip
    pairs += [(getattr(first, name), getattr(second, name)) for name in names]
    return [(ours.numpy(), theirs.numpy()) for ours, theirs in pairs]


def _features(rng):
    return tf.constant(rng.normal(0.5, 1.0, (64, 6, 6, 8)))


def _eps(rng):
    x = tf.constant(rng.normal(0.5, 0.02, (64, 8)))
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    return float(tf.reduce_max(tf.abs(norms.batch_norm(x, one, zero, axes=(0,), eps=1e-5)[0]
                                      - norms.batch_norm(x, one, zero, axes=(0,), eps=1e-3)[0])))  # fmt: skip


def _eps_outside(rng):
    x = rng.normal(0.5, 0.02, (64, 8))
    centered = x - x.mean(axis=0)
    return float(np.abs(centered / np.sqrt(x.var(axis=0) + EPS) - centered / (np.sqrt(x.var(axis=0)) + EPS)).max())


def _running_variance(rng):
    import torch

    x = _features(rng)[:2, :1, :1]  # a batch of two values for each channel: N / (N - 1) = 2
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    ours = norms.batch_norm(x, one, zero, axes=(0, 1, 2), eps=EPS)[2].numpy()
    theirs = torch.nn.BatchNorm2d(8, momentum=1.0, dtype=torch.float64)  # torch's momentum is the new value's weight
    theirs(torch.tensor(x.numpy()).permute(0, 3, 1, 2))
    return float(np.max(np.abs(theirs.running_var.numpy() - ours) / ours))


def _layer_axes(rng):
    x = _features(rng)
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    over_channels = norms.layer_norm(x, one, zero, axes=(3,), eps=EPS)
    shape = x.shape[1:]
    return float(tf.reduce_max(tf.abs(over_channels - norms.layer_norm(
        x, tf.ones(shape, tf.float64), tf.zeros(shape, tf.float64), axes=(1, 2, 3), eps=EPS))))  # fmt: skip


# Differences that are no rounding: largest difference of outputs, or (running variance) relative difference.
DEMONSTRATIONS = {
    "eps 1e-5 against 1e-3": _eps,
    "eps outside the root": _eps_outside,
    "unbiased running variance, batch of 2": _running_variance,
    "layer norm over C against H, W, C": _layer_axes,
}


def summarise(frame: pd.DataFrame) -> dict:
    """Return for each dtype, norm, reference and quantity the largest differences; the trajectories' ends."""
    summary: dict[str, Any] = {"protocol": {"eps": EPS}}
    compared = frame[frame.kind == "gradients"]
    for dtype in DTYPES:
        summary[dtype] = {"max_relative_difference": {}, "max_difference": {}}
        for kind, key in (("relative", "max_relative_difference"), ("maximum", "max_difference")):
            for (norm, reference), rows in compared[compared.dtype == dtype].groupby(["norm", "reference"]):
                worst = {q: max(row[q][kind] for row in rows.worst) for q in QUANTITIES[norm]}
                summary[dtype][key].setdefault(norm, {})[reference] = worst
    summary["trajectory"] = {
        f"{row.norm}_{row.dtype}": {
            "steps": len(row.gap),
            "first": row.gap[0],
            "last": row.gap[-1],
            "largest": max(row.gap),
            "first_loss": row.loss[0],
            "last_loss": row.loss[-1],
        }
        for row in frame[frame.kind == "trajectory"].itertuples()
    }
    shown = frame[frame.kind == "demonstration"]
    summary["demonstrations"] = dict(zip(shown.demonstration, shown.difference, strict=True))
    return summary


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure: largest relative differences by quantity, and the gap along training."""
    figure, axes = plotting.subplots(1, 2, height=2.8)
    bars, path = axes[0]
    labels: list[str] = []
    for norm in TWINS:
        for quantity in QUANTITIES[norm]:
            for dtype, color in DTYPE_COLORS.items():
                for reference, marker in (("library", "o"), ("torch", "x")):
                    value = summary[dtype]["max_relative_difference"][norm][reference][quantity]
                    if value > 0:  # equal to the last bit: no point on a logarithmic axis
                        bars.plot(value, len(labels), marker, color=color, markersize=3.5)
            labels.append(f"{norm}, {SYMBOLS.get(quantity, quantity)}")
    bars.set_yticks(range(len(labels)), labels)
    bars.set(xscale="log", xlabel="largest relative difference", xlim=(1e-17, 1e-2))
    bars.invert_yaxis()
    for marker, label in (("o", "Keras / TFP"), ("x", "torch")):
        bars.plot([], [], marker, color="0.4", label=label)
    for dtype, color in DTYPE_COLORS.items():
        bars.plot([], [], "s", color=color, label=f"a: {dtype}")
    for row in frame[frame.kind == "trajectory"].itertuples():
        style = "-" if row.dtype == "float64" else "--"
        color, label = plotting.COLORS[row.norm], f"b: {row.norm}, {row.dtype}"
        steps = np.arange(1, len(row.gap) + 1)
        path.plot(steps, np.maximum(row.gap, 1e-17), style, color=color, linewidth=1, label=label)
    path.set(yscale="log", xlabel="step", ylabel="largest relative gap of a weight")
    handles = [*bars.get_legend_handles_labels()[0], *path.get_legend_handles_labels()[0]]
    figure.legend(handles, [handle.get_label() for handle in handles], loc="outside lower center", ncols=4)
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    tf.get_logger().setLevel("ERROR")  # TensorFlow Probability's layer is traced anew for every shape, and says so
    frame = run_all(STEM, run, configs(options.preset), options)
    summary = {**summarise(frame), "provenance": provenance(frame)}
    plotting.save(draw(frame, summary), STEM, options)
    write_summary(STEM, summary, options)


if __name__ == "__main__":
    main()
