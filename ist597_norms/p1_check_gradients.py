"""Problem 1, the proof: are the hand-written normalizations those of the library, beside floating-point error?

For batch, layer and weight normalization: the difference of outputs and of the gradients with respect to the input and
every parameter, ours against Keras's or TensorFlow Probability's layer, torch's, and central finite differences, in
float64 and float32; in float32 also the error of each against float64; the difference along 300 steps of training,
beside what one unit in the last place makes of the library's own; and the size of the differences that are no rounding.

    python ist597_norms/p1_check_gradients.py                  the full protocol, about 20 min on one CPU core
    python ist597_norms/p1_check_gradients.py --preset quick   fewer shapes, seeds and steps, about 30 s

Writes report/results/p1_check_gradients/*.json and their summary, and figures/p1_check_gradients.png and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from ist597_norms.cnn import CNN, EPS
from ist597_norms.other_definitions import DEMONSTRATIONS, SMALL_DEVIATION
from ist597_norms.references import INPUTS, REFERENCES, SHAPES, TWINS, case, network, ours, with_gradients
from ist597_norms.variants import COLORS
from utils import machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.records import write_summary
from utils.runs import sweep

STEM = "p1_check_gradients"
DTYPES = ("float64", "float32")
SYMBOLS = {
    f"d{name}": rf"$\partial L / \partial {symbol}$"
    for name, symbol in {"x": "x", "gamma": r"\gamma", "beta": r"\beta", "v": "v", "g": "g"}.items()
}
SCALED = ("output", "dx", "dgamma", "dbeta")
QUANTITIES = {"batch": SCALED, "layer": SCALED, "weight": ("output", "dx", "dv", "dg")}
DTYPE_COLORS = dict(zip(DTYPES, (plotting.PURPLE, plotting.ORANGE), strict=True))
EQUAL = 1e-17  # in the figure, where two numbers are equal to the last bit


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    shapes: list[str]
    inputs: list[str]
    seeds: int
    steps: int


PRESETS = {
    "full": Preset(shapes=list(SHAPES), inputs=list(INPUTS), seeds=3, steps=300),
    "quick": Preset(shapes=["dense", "convolution"], inputs=["standard"], seeds=1, steps=6),
}


def configs(preset: str) -> list[dict]:
    """Return the comparisons, the trajectories and the demonstrations."""
    size = PRESETS[preset]
    runs = []
    for norm in TWINS:
        for dtype in DTYPES:
            which = {"norm": norm, "dtype": dtype, "seed": 0}
            cases = {"shapes": size.shapes, "inputs": size.inputs, "seeds": size.seeds}
            runs.append({"name": f"gradients_{norm}_{dtype}", "kind": "gradients", **which, **cases})
            path = {**which, "steps": size.steps}
            runs.append({"name": f"trajectory_{norm}_{dtype}", "kind": "trajectory", **path})
            runs.append({"name": f"control_{norm}_{dtype}", "kind": "control", **path})
        single = {"norm": norm, "dtype": "float32", "seed": 0, **cases}
        runs.append({"name": f"errors_{norm}", "kind": "errors", **single})
    for name in DEMONSTRATIONS:
        runs.append({"name": f"demonstration_{name}", "kind": "demonstration", "demonstration": name, "seed": 0})
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Return the differences of one comparison, trajectory or demonstration."""
    machine.one_thread_each()  # in float32 the order of a sum decides where two trajectories part
    if config["kind"] in ("trajectory", "control"):
        return {**trajectory(config), "environment": {"precision": config["dtype"], "device": "cpu"}}
    if config["kind"] == "errors":
        return {"errors": largest_errors(config), "environment": {"precision": "float32", "device": "cpu"}}
    if config["kind"] == "gradients":
        return {"worst": largest_differences(config), "environment": {"precision": config["dtype"], "device": "cpu"}}
    difference = DEMONSTRATIONS[config["demonstration"]](np.random.default_rng(config["seed"]))
    return {"difference": difference, "environment": {"precision": "float64", "device": "cpu"}}


def largest_differences(config: dict) -> dict:
    """Return, by reference and quantity, the largest difference to ours over all shapes, inputs and seeds.

    Relative to the reference's largest entry. Raises ValueError for a difference that is no number.
    """
    norm = config["norm"]
    names = [quantity[1:] for quantity in QUANTITIES[norm][1:]]
    worst: dict[str, dict] = {}
    for shape, values, seed in product(config["shapes"], config["inputs"], range(config["seeds"])):
        tensors = case(norm, shape, values, config["dtype"], config["seed"] + seed)
        mine = with_gradients(lambda t: ours(norm, t), tensors, names)
        for reference, gradients_by in REFERENCES.items():
            if reference == "differences" and config["dtype"] == "float32":
                continue  # rounding would swamp the difference
            theirs = gradients_by(norm, tensors, names)
            for quantity in QUANTITIES[norm]:
                difference = np.max(np.abs(mine[quantity] - theirs[quantity]))
                if not np.isfinite(difference):
                    raise ValueError(f"{norm}, {shape}, {reference}: the difference of {quantity} is {difference}")
                relative = difference / np.max(np.abs(theirs[quantity]))
                largest = worst.setdefault(reference, {})
                largest[quantity] = max(largest.get(quantity, 0.0), relative)
    return worst


def largest_errors(config: dict) -> dict:
    """Return, by implementation, inputs and quantity, the largest error of float32 against float64 on the same inputs.

    Relative to the largest entry in float64, in which all agree (`largest_differences`).
    """
    norm = config["norm"]
    names = [quantity[1:] for quantity in QUANTITIES[norm][1:]]
    errors: dict[str, dict] = {}
    for shape, values, seed in product(config["shapes"], config["inputs"], range(config["seeds"])):
        tensors = case(norm, shape, values, "float32", config["seed"] + seed)
        exact = {name: value.astype("float64") for name, value in tensors.items()}
        truth = with_gradients(lambda t: ours(norm, t), exact, names)
        computed = {"ours": with_gradients(lambda t: ours(norm, t), tensors, names)}
        for reference in ("library", "torch"):
            computed[reference] = REFERENCES[reference](norm, tensors, names)
        for implementation, quantities in computed.items():
            largest = errors.setdefault(implementation, {}).setdefault(values, {})
            for quantity, value in quantities.items():
                error = np.max(np.abs(value - truth[quantity])) / np.max(np.abs(truth[quantity]))
                largest[quantity] = max(largest.get(quantity, 0.0), float(error))
    return errors


def trajectory(config: dict) -> dict:
    """Train the whole CNN and its twin on the same minibatches from the same weights; return the gap at each step.

    The gap is the largest difference of any trained number, relative to the largest of its tensor. A "control" has
    two networks with the library's layers instead, of which one starts with a single weight one unit in the last place
    larger: what rounding alone makes of the gap.
    """
    rng = np.random.default_rng(config["seed"])
    dtype = tf.as_dtype(config["dtype"])
    control = config["kind"] == "control"
    twin = TWINS[config["norm"]]
    first = network(twin if control else config["norm"], 100, 10, dtype=dtype)
    second = network(twin, 100, 10, dtype=dtype)
    if control:
        weights = second.variables[2].numpy()  # the affine layer's
        weights[0, 0] = np.nextafter(weights[0, 0], weights.dtype.type(np.inf))
        second.variables[2].assign(weights)
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
        gaps.append(max(np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in matching(first, second)))
    idle = [np.max(np.abs(bias.numpy())) for model in (first, second) for bias in idle_biases(model)]
    return {"gap": gaps, "loss": losses, "largest_idle_bias": max(idle, default=0.0)}


def matching(first: CNN, second: CNN) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs of trained numbers, and of running statistics, of two networks of one normalization.

    The biases in front of a batch norm are left out: their gradient is zero but for rounding, and so are they.
    """
    pairs = zip([*first.variables, *first.moving], [*second.variables, *second.moving], strict=True)
    idle = idle_biases(first)
    return [(mine.numpy(), theirs.numpy()) for mine, theirs in pairs if all(mine is not bias for bias in idle)]


def idle_biases(model: CNN) -> list[tf.Variable]:
    """Return the biases whose shift a batch norm takes out again (Ioffe and Szegedy 2015, section 3.2)."""
    return model.b if model.normalization == "batch" and model.position == "before" else []


def summarise(frame: pd.DataFrame) -> dict:
    """Return the largest differences by dtype, norm, reference and quantity, the errors, and the trajectories' ends."""
    summary: dict[str, Any] = {
        "protocol": {"eps": EPS, "small_deviation": SMALL_DEVIATION},
        "trajectory": {},
        "control": {},
    }
    for dtype, rows in frame[frame.kind == "gradients"].groupby("dtype"):
        summary[str(dtype)] = {"max_relative_difference": dict(zip(rows["norm"], rows.worst, strict=True))}
    errors = frame[frame.kind == "errors"]
    summary["errors"] = dict(zip(errors["norm"], errors.errors, strict=True))
    for kind in ("trajectory", "control"):
        for row in frame[frame.kind == kind].itertuples():
            summary[kind][f"{row.norm}_{row.dtype}"] = {
                "steps": len(row.gap),
                "largest": max(row.gap),
                "first_loss": row.loss[0],
                "last_loss": row.loss[-1],
                "largest_idle_bias": row.largest_idle_bias,
            }
    demonstrations = frame[frame.kind == "demonstration"]
    summary["demonstrations"] = dict(zip(demonstrations.demonstration, demonstrations.difference, strict=True))
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
                    bars.plot(max(value, EQUAL), len(labels), marker, color=color, markersize=3.5)
            labels.append(f"{norm}, {SYMBOLS.get(quantity, quantity)}")
    bars.set_yticks(range(len(labels)), labels)
    bars.set(xscale="log", xlabel="largest relative difference", xlim=(EQUAL / 2, 1e-2))
    bars.set_xticks([EQUAL, 1e-14, 1e-10, 1e-6, 1e-2], ["0", "$10^{-14}$", "$10^{-10}$", "$10^{-6}$", "$10^{-2}$"])
    bars.minorticks_off()
    bars.invert_yaxis()
    for dtype, color in DTYPE_COLORS.items():
        for marker, reference in (("o", "Keras, TFP"), ("x", "torch")):
            bars.plot([], [], marker, color=color, markersize=3.5, label=f"{reference}, {dtype}")
    for kind, style in (("trajectory", "-"), ("control", ":")):
        for row in frame[frame.kind == kind].itertuples():
            gaps = np.maximum(row.gap, EQUAL)
            path.plot(np.arange(1, len(gaps) + 1), gaps, style, color=COLORS[row.norm], linewidth=1)
    for dtype, height in (("float32", 1e-2), ("float64", 1e-11)):
        path.text(0.98, height, dtype, transform=path.get_yaxis_transform(), ha="right", fontsize=7)
    for norm in TWINS:
        path.plot([], [], color=COLORS[norm], label=norm)
    path.plot([], [], ":", color="0.4", label="control")
    path.set(yscale="log", xlabel="step", ylabel="largest relative gap", ylim=(EQUAL, 1))
    for ax in (bars, path):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    tf.get_logger().setLevel("ERROR")  # TensorFlow Probability's layer is traced anew for every shape, and says so
    frame = sweep(STEM, run, configs(options.preset), options, workers=1)
    summary = summarise(frame)
    plotting.save(draw(frame, summary), STEM, options)
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
