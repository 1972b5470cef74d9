"""The figures of problem 1's comparison: accuracies, ReLUs, batch sizes, depth, and what is averaged over what.

figure = FIGURES[""](frame, summary)      frame: p1_compare_norms's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle

from ist597_norms.measurements import BINS
from ist597_norms.summary import PROVIDED, TUNED, batch_size_runs, with_variants
from ist597_norms.variants import COLORS, MARKERS
from utils import plotting
from utils.records import floats, last

FAILED = 0.2  # height of the strip in which steps without learning are marked, of the axes


def looks_of(summary: dict, level: str) -> dict[str, dict]:
    """Return, by variant in the rows' order, the "label", "mode", "color" and "line" of those on a level."""
    return {row["name"]: row for row in summary["variants"] if row["name"] in summary[level]}


def line(look: dict) -> dict:
    """Return a variant's color, line and marker as matplotlib takes them."""
    marks = {"marker": MARKERS[look["mode"]], "markersize": 3}
    return {"color": look["color"], "linestyle": look["line"], "linewidth": 1, **marks}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of accuracies: against the step, at each network's best step, and at the provided one."""
    figure, axes = plotting.subplots(1, 3, height=2.7, width_ratios=(1.1, 1, 1))
    steps, own, provided = axes[0]
    frame = with_variants(frame)
    grid = frame[frame.part.isin(TUNED)]
    looks = looks_of(summary, "tuned")
    for row, (variant, look) in enumerate(looks.items()):
        rows = grid[grid.variant == variant]
        swept = rows[rows.seed == 0].sort_values("learning_rate")
        learned = swept.learning_rate <= summary["tuned"][variant]["largest_that_learns"]
        ends = np.where(learned, last(swept.validation_accuracy), np.nan)
        steps.plot(swept.learning_rate, ends, **line(look))
        failed = swept.learning_rate[~learned]
        height = FAILED * (row + 0.7) / len(looks)
        marks = {**line(look), "linestyle": "none", "markerfacecolor": "none", "markersize": 3.5}
        steps.plot(failed, [height] * len(failed), transform=steps.get_xaxis_transform(), **marks)
    strip = {"facecolor": "0.93", "zorder": 0, "transform": steps.transAxes}
    steps.add_patch(Rectangle((0, 0), 1, FAILED, **strip))
    steps.text(0.03, FAILED / 2, "learns\nnothing:", transform=steps.transAxes, va="center", fontsize=7)
    bottom, top = steps.get_ylim()
    steps.set_ylim(top - (top - bottom) / (1 - FAILED), top)
    steps.set(xlabel="step size", ylabel="validation accuracy", xscale="log")
    for ax, level, parts in ((own, "tuned", TUNED), (provided, "provided", PROVIDED)):
        named = looks_of(summary, level)
        for row, (variant, look) in enumerate(named.items()):
            reached = summary[level][variant]
            rows = frame[frame.part.isin(parts) & (frame.variant == variant)]
            if level == "tuned":
                rows = rows[rows.learning_rate == reached["learning_rate"]]
            plotting.show_end(ax, row, rows.test_accuracy, reached["test_accuracy"], look["color"])
        ax.set(yticks=range(len(named)), yticklabels=[look["label"] for look in named.values()])
        ax.invert_yaxis()
    own.set(xlabel="test accuracy,\nbest step")
    provided.set(xlabel="test accuracy,\nprovided step")
    for axis in (steps.yaxis, own.xaxis, provided.xaxis):
        plotting.in_percent(axis, 0)
    show_legend(figure, looks)
    plotting.label_panels(axes)
    return figure


def show_legend(figure: plotting.Figure, looks: dict[str, dict]) -> None:
    """Name the variants' colors and lines under a figure."""
    ax = figure.axes[0]
    handles = [ax.plot([], [], label=look["label"], **line(look))[0] for look in looks.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def draw_batch_sizes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of batch sizes: layer's lead over batch, and what is left of the gradient."""
    figure, axes = plotting.subplots(1, 2, height=2.0)
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
    gradient.set(xlabel="batch size", ylabel="share of the gradient", ylim=(-0.05, 1.1))
    gradient.legend(loc="lower right")
    for ax in (lead, gradient):
        ax.set_xscale("log")
        ax.set_xticks(order, order)
        ax.minorticks_off()
    plotting.label_panels(axes)
    return figure


def draw_relu(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of the ReLUs: active shares of both layers against the step, histograms of the inputs."""
    figure, axes = plotting.mosaic("aabb;cdef", height=3.0)
    frame = with_variants(frame)
    grid, provided = frame[frame.part.isin(TUNED)], frame[frame.part.isin(PROVIDED)]
    looks = looks_of(summary, "tuned")
    for layer, ax in enumerate(axes[:2]):
        for variant, look in looks.items():
            rows = grid[(grid.variant == variant) & (grid.seed == 0)].sort_values("learning_rate")
            ends = [layers[-1][layer] for layers in rows.active]
            ax.plot(rows.learning_rate, np.array(ends, float), **line(look))
        ax.axvline(summary["protocol"]["learning_rate"], color="0.8", linewidth=0.8, zorder=0)
        ax.set(xlabel="step size", xscale="log", ylim=(-0.03, 1.03), title=("convolution", "affine layer")[layer])
    axes[0].set_ylabel("share active")
    centers = (BINS[1:] + BINS[:-1]) / 2
    for ax, mode in zip(axes[2:], COLORS, strict=True):
        for variant in (name for name, look in looks.items() if mode == look["mode"]):
            (histogram,) = provided[(provided.variant == variant) & (provided.seed == 0)].histogram
            start, end = floats(histogram)[:, 1]  # (2, layers, bins): of the affine layer
            if variant == mode:
                ax.fill_between(centers, start / start.sum(), color="0.85", linewidth=0)
            ax.plot(centers, end / end.sum(), **line(looks[variant]), markevery=[])
        ax.axvline(0, color="0.6", linewidth=0.6)
        ax.set(xlabel="input of the ReLU", yticks=[], title=mode, ylim=(0, None))
    axes[2].set_ylabel("share")
    show_legend(figure, looks)
    plotting.label_panels(axes)
    return figure


def draw_depth(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of depth: accuracy at each network's best step, and how the signal fades on its way."""
    figure, axes = plotting.subplots(1, 2, height=2.0)
    accuracy, signal = axes[0]
    deep = with_variants(frame[frame.part == "depth"])
    depths = sorted(map(int, summary["depth"]))
    looks = looks_of(summary, "tuned")
    looks = {variant: look for variant, look in looks.items() if variant in set(deep.variant)}
    for number, (variant, look) in enumerate(looks.items()):
        same, means = deep[deep.variant == variant], []
        for depth in depths:
            reached = summary["depth"][str(depth)].get(variant)
            means.append(reached["test_accuracy"]["mean"] if reached else np.nan)
            if reached:
                rows = same[(same.further_layers == depth) & (same.learning_rate == reached["learning_rate"])]
                beside = depth + 0.3 * (number - len(looks) / 2)
                accuracy.plot([beside] * len(rows), rows.test_accuracy, ".", markersize=3, color=look["color"])
        accuracy.plot(depths, means, **line(look))
        if variant != "batch":  # before training its running statistics hold their initial values and normalize nothing
            deviations = floats(same[same.further_layers == depths[-1]].iloc[0].deviation[0])[1:]
            signal.plot(range(len(deviations)), deviations, **line(look))
        if variant == "none":
            layers = np.arange(len(deviations))
            predicted = deviations[0] * summary["protocol"]["fading"] ** layers
            signal.plot(layers, predicted, "o", color="0.6", markersize=2, label="predicted")
    accuracy.set(xlabel="further affine layers", ylabel="test accuracy", xticks=depths)
    plotting.in_percent(accuracy.yaxis, 0)
    signal.set(xlabel="further affine layer", ylabel="s.d. of its ReLU's inputs", yscale="log")
    signal.legend()
    show_legend(figure, looks)
    plotting.label_panels(axes)
    return figure


def draw_axes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the sketch of the network, and the cubes of what is averaged over what."""
    figure, axes = plotting.mosaic("aaa;bcd", height=2.2, height_ratios=(0.4, 1))
    network, *cubes = axes
    side = summary["protocol"]["side"]
    boxes = [
        f"images\n{side} x {side}",
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
        network.text(place, 0, name, ha="center", va="center", fontsize=6.5, bbox=box)
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
        ax.text(*place, name, ha="center", va="center", fontsize=7, rotation=90 if name == "channels" else 0)
    ax.set(xlim=(-0.25, 1.6), ylim=(-0.25, 1.35), aspect="equal")


FIGURES = {"_axes": draw_axes, "": draw, "_relu": draw_relu, "_batch_size": draw_batch_sizes, "_depth": draw_depth}
