"""The figures of problem 1's comparison: accuracies, ReLUs, batch sizes, depth, and what is averaged over what.

figure = FIGURES[""](frame, summary)      frame: p1_compare_norms's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from ist597_norms.references import TWINS
from ist597_norms.summary import PROVIDED, TUNED, batch_size_runs, with_variants
from utils import plotting
from utils.records import floats, last

COLORS = {"none": plotting.BLACK, "batch": plotting.BLUE, "layer": plotting.VERMILION, "weight": plotting.GREEN}
STYLES = {"": "-", "after": "--", "data start": ":"}
LABELS = {
    "none": "none",
    "batch": "batch",
    "batch_after": "batch, after",
    "layer": "layer",
    "layer_after": "layer, after",
    "weight": "weight",
    "weight_data_start": "weight, data start",
    "keras_batch": "batch (Keras)",
    "keras_layer": "layer (Keras)",
    "tfp_weight": "weight (TFP)",
}
BY_HAND = [variant for variant in LABELS if variant not in TWINS.values()]
OURS = {twin: norm for norm, twin in TWINS.items()}
BINS = np.linspace(
    -24, 24, 121
)  # of the histogram of a ReLU's inputs; what lies beyond counts in the first and the last
FAILED = 0.16  # height of the strip in which steps without learning are marked, of the axes


def look(variant: str) -> dict:
    """Return a variant's color and line."""
    norm, *rest = LABELS[variant].split(", ")
    return {"color": COLORS[OURS.get(variant, norm)], "linestyle": STYLES[rest[0] if rest else ""]}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of accuracies: against the step, at each network's best step, and at the provided one."""
    figure, axes = plotting.subplots(1, 3, height=3.1, width_ratios=(1.1, 1, 1))
    steps, own, provided = axes[0]
    frame = with_variants(frame)
    grid = frame[frame.part.isin(TUNED)]
    for row, variant in enumerate(BY_HAND):
        rows = grid[grid.variant == variant]
        swept = rows[rows.seed == 0].sort_values("learning_rate")
        learned = swept.learning_rate <= summary["tuned"][variant]["largest_that_learns"]
        ends = np.where(learned, last(swept.validation_accuracy), np.nan)
        steps.plot(swept.learning_rate, ends, marker=".", linewidth=1, **look(variant))
        failed = swept.learning_rate[~learned]
        height = FAILED * (row + 0.7) / len(BY_HAND)
        marks = {"color": look(variant)["color"], "markersize": 3.5, "transform": steps.get_xaxis_transform()}
        steps.plot(failed, [height] * len(failed), "x", **marks)
    steps.axhspan(0, FAILED, color="0.93", transform=steps.transAxes)
    steps.text(0.03, FAILED / 2, "learns nothing:", transform=steps.transAxes, va="center", fontsize=7)
    bottom, top = steps.get_ylim()
    steps.set_ylim(top - (top - bottom) / (1 - FAILED), top)
    steps.set(xlabel="step size", ylabel="validation accuracy", xscale="log")
    for ax, level, parts in ((own, "tuned", TUNED), (provided, "provided", PROVIDED)):
        variants = [variant for variant in LABELS if variant in summary[level]]
        for row, variant in enumerate(variants):
            reached = summary[level][variant]
            rows = frame[frame.part.isin(parts) & (frame.variant == variant)]
            if level == "tuned":
                rows = rows[rows.learning_rate == reached["learning_rate"]]
            plotting.show_end(ax, row, rows.test_accuracy, reached["test_accuracy"], look(variant)["color"])
        ax.set(yticks=range(len(variants)), yticklabels=[LABELS[variant] for variant in variants])
        ax.invert_yaxis()
    own.set(xlabel="test accuracy\nat the best step")
    provided.set(xlabel="test accuracy\nat the provided step")
    for axis in (steps.yaxis, own.xaxis, provided.xaxis):
        plotting.in_percent(axis, 0)
    show_legend(figure, BY_HAND)
    plotting.label_panels(axes)
    return figure


def show_legend(figure: plotting.Figure, variants: list[str]) -> None:
    """Name the variants' colors and lines under a figure."""
    ax = figure.axes[0]
    handles = [ax.plot([], [], label=LABELS[variant], **look(variant))[0] for variant in variants]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def draw_batch_sizes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of batch sizes: layer's lead over batch, and what is left of the gradient."""
    figure, axes = plotting.subplots(1, 2, height=2.5)
    lead, gradient = axes[0]
    runs = batch_size_runs(frame)
    by_size = {int(size): row for size, row in summary["batch_size"].items() if "layer_minus_batch" in row}
    order = sorted(by_size)
    for size in order:
        scores = runs[runs.batch_size == size].pivot(index="seed", columns="mode", values="test_accuracy")
        differences = (scores["layer"] - scores["batch"]).dropna() * 100
        lead.plot([size * 1.12] * len(differences), differences, ".", color="0.6", markersize=3)
    low, mean, high = 100 * np.array(plotting.bounds([by_size[size]["layer_minus_batch"] for size in order]))
    lead.errorbar(order, mean, [mean - low, high - mean], fmt="o", color=plotting.BLACK, markersize=3, elinewidth=1)
    lead.axhline(0, color="0.6", linewidth=0.6)
    lead.set(xlabel="batch size", ylabel="layer minus batch, points")
    for mode, shares in summary["gradient"].items():
        sizes = sorted(map(int, shares))
        predicted = [shares[str(size)]["predicted"] for size in sizes]
        gradient.plot(sizes, predicted, "-", color=COLORS[mode], linewidth=1, label=f"{mode}: predicted")
        measured = [shares[str(size)]["measured"]["mean"] for size in sizes]
        gradient.plot(sizes, measured, "o", color=COLORS[mode], markersize=3.5, label=f"{mode}: measured")
    gradient.set(xlabel="batch size", ylabel="surviving share of the gradient", ylim=(-0.05, 1.1))
    gradient.legend(loc="lower right")
    for ax in (lead, gradient):
        ax.set_xscale("log")
        ax.set_xticks(order, order)
        ax.minorticks_off()
    plotting.label_panels(axes)
    return figure


def draw_relu(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of the ReLUs: active shares and dead units against the step, histograms of the inputs."""
    figure, axes = plotting.mosaic("aabb;cdef", height=4.0)
    active, dead, *histograms = axes
    frame = with_variants(frame)
    grid, provided = frame[frame.part.isin(TUNED)], frame[frame.part.isin(PROVIDED)]
    for variant in BY_HAND:
        rows = grid[(grid.variant == variant) & (grid.seed == 0)].sort_values("learning_rate")
        for ax, column in ((active, rows.active), (dead, rows.dead)):
            ends = [np.nan if np.isscalar(layers) else layers[-1][1] for layers in column]
            ax.plot(rows.learning_rate, np.array(ends, float), marker=".", linewidth=1, **look(variant))
    active.set(ylabel="share of active outputs", ylim=(-0.03, 1.03))
    dead.set(ylabel="dead units")
    for ax in (active, dead):
        ax.set(xlabel="step size", xscale="log")
        ax.axvline(summary["protocol"]["learning_rate"], color="0.8", linewidth=0.8, zorder=0)
    centers = (BINS[1:] + BINS[:-1]) / 2
    for ax, mode in zip(histograms, COLORS, strict=True):
        for variant in (name for name in BY_HAND if LABELS[name].split(",")[0] == mode):
            counts = floats(provided[provided.variant == variant].histogram)[:, :, 1].mean(axis=0)  # (2, bins)
            start, end = counts / counts.sum(axis=1, keepdims=True)
            if variant == mode:
                ax.fill_between(centers, start, color="0.85", linewidth=0)
            ax.plot(centers, end, linewidth=1, **look(variant))
        ax.axvline(0, color="0.6", linewidth=0.6)
        ax.set(xlabel="input of the ReLU", yticks=[], title=mode, ylim=(0, None))
    histograms[0].set_ylabel("share of the inputs")
    show_legend(figure, BY_HAND)
    plotting.label_panels(axes)
    return figure


def draw_depth(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of depth: accuracy at each network's best step, and how the signal fades on its way."""
    figure, axes = plotting.subplots(1, 2, height=2.7)
    accuracy, signal = axes[0]
    deep = with_variants(frame[frame.part == "depth"])
    depths = sorted(map(int, summary["depth"]))
    for number, variant in enumerate(variant for variant in BY_HAND if variant in set(deep.variant)):
        means = []
        for depth in depths:
            reached = summary["depth"][str(depth)].get(variant)
            means.append(reached["test_accuracy"]["mean"] if reached else np.nan)
            if reached:
                same = deep[(deep.variant == variant) & (deep.further_layers == depth)]
                scores = same[same.learning_rate == reached["learning_rate"]].test_accuracy
                accuracy.plot(
                    [depth + 0.3 * number - 0.6] * len(scores), scores, ".", markersize=3, color=look(variant)["color"]
                )
        accuracy.plot(depths, means, linewidth=1, **look(variant))
        if variant != "batch":  # before training its running statistics hold their initial values and normalize nothing
            first = deep[(deep.variant == variant) & (deep.further_layers == depths[-1])].iloc[0]
            deviations = np.array(first.deviation[0], float)[1:]
            signal.plot(range(len(deviations)), deviations, linewidth=1, **look(variant))
    layers = np.arange(depths[-1] + 1)
    start = deep[(deep.variant == "none") & (deep.further_layers == depths[-1])].iloc[0].deviation[0][1]
    signal.plot(
        layers, start * summary["protocol"]["fading"] ** layers, "o", color="0.6", markersize=2, label="predicted"
    )
    accuracy.set(xlabel="further affine layers", ylabel="test accuracy after one epoch", xticks=depths)
    plotting.in_percent(accuracy.yaxis, 0)
    signal.set(xlabel="further affine layer", ylabel="deviation of the ReLU's inputs", yscale="log")
    signal.legend()
    show_legend(figure, [variant for variant in BY_HAND if not variant.endswith("after")])
    plotting.label_panels(axes)
    return figure


def draw_axes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the sketch of the network, and the cubes of what is averaged over what."""
    figure, axes = plotting.mosaic("aaa;bcd", height=2.7, height_ratios=(0.45, 1))
    network, *cubes = axes
    boxes = [
        "images\n28 x 28",
        "conv 5 x 5\n30 filters",
        "norm",
        "ReLU",
        "norm,\nafter",
        "max-pool\n2 x 2",
        "affine\n100 units",
        "norm",
        "ReLU",
        "norm,\nafter",
        "affine\n10 classes",
    ]
    for place, name in enumerate(boxes):
        color = plotting.SKY if "norm" in name else "0.92"
        box = {"boxstyle": "round,pad=0.3", "facecolor": color, "edgecolor": "0.4", "linewidth": 0.6}
        box["linestyle"] = "--" if "after" in name else "-"
        network.text(place, 0, name, ha="center", va="center", fontsize=5.5, bbox=box)
    network.plot([0, len(boxes) - 1], [0, 0], color="0.4", linewidth=0.8, zorder=0)
    network.set(xlim=(-0.5, len(boxes) - 0.5), ylim=(-1, 1))
    titles = ("batch norm: a channel", "layer norm: an image", "Keras's default: a pixel")
    for ax, title, averaged in zip(cubes, titles, ("hw n", "hw c", "c"), strict=True):
        draw_cube(ax, averaged)
        ax.set_title(title, fontsize=7)
    for ax in axes:
        ax.axis("off")
    return figure


def draw_cube(ax: Axes, averaged: str) -> None:
    """Draw a minibatch as a cube of images (n, to the right), channels (c, upward) and pixels (hw, away from us).

    What shares one mean and one variance is shaded: the cube's first slice along every axis that is not averaged.
    """
    right, up, away = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.35, 0.3])
    counts = {"n": 4, "c": 4, "hw": 4}
    size = {axis: 1.0 if axis in averaged.split() else 1 / counts[axis] for axis in counts}
    for shape, color, alpha in ((dict.fromkeys(counts, 1.0), "0.95", 1.0), (size, plotting.SKY, 0.9)):
        n, c, hw = shape["n"] * right, shape["c"] * up, shape["hw"] * away
        top = (1 - shape["c"]) * up  # the shaded part is the uppermost channel, where it can be seen
        for face in ([0 * n, n, n + c, c], [c, n + c, n + c + hw, c + hw], [n, n + hw, n + hw + c, n + c]):
            corners = [corner + top for corner in face]
            ax.add_patch(Polygon(corners, facecolor=color, edgecolor="0.3", linewidth=0.6, alpha=alpha))
    for place, name in (((0.5, -0.12), "images"), ((-0.12, 0.5), "channels"), ((1.3, 0.05), "pixels")):
        ax.text(*place, name, ha="center", va="center", fontsize=6, rotation=90 if name == "channels" else 0)
    ax.set(xlim=(-0.25, 1.6), ylim=(-0.25, 1.35), aspect="equal")


FIGURES = {"_axes": draw_axes, "": draw, "_relu": draw_relu, "_batch_size": draw_batch_sizes, "_depth": draw_depth}
