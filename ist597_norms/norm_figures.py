"""The figures of problem 1's comparison: the protocol, the step sizes, the ReLUs, and the batch sizes.

figure = draw(frame, summary)      frame: p1_compare_norms's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd

from ist597_norms.cnn import BY_HAND, TWINS
from ist597_norms.norm_intervals import batch_size_runs
from utils import plotting
from utils.records import last

LABELS = {
    "none": "none",
    "batch": "batch",
    "keras_batch": "batch (Keras)",
    "layer": "layer",
    "keras_layer": "layer (Keras)",
    "weight": "weight",
    "tfp_weight": "weight (TFP)",
}
COLORS = {"none": plotting.BLACK, "batch": plotting.BLUE, "layer": plotting.VERMILION, "weight": plotting.GREEN}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the protocol's figure: training loss, validation accuracy, and test accuracy of all.

    In the last panel also the library's, those after the ReLU, and weight normalization started from data.
    """
    figure, axes = plotting.subplots(1, 3, height=2.8)
    protocol = frame[frame.part == "protocol"]
    for mode in BY_HAND:
        rows = protocol[protocol["mode"] == mode]
        plotting.show_seeds(axes[0, 0], rows.train_loss, COLORS[mode], first=1, label=LABELS[mode])
        plotting.show_seeds(axes[0, 1], rows.validation_accuracy, COLORS[mode], first=1)
    axes[0, 0].set(xlabel="epoch", ylabel="training loss")
    axes[0, 0].legend()
    axes[0, 1].set(xlabel="epoch", ylabel="validation accuracy")
    for ax in axes[0, :2]:
        ax.set_xticks(range(1, int(summary["protocol"]["epochs"]) + 1))
    colors = COLORS | {twin: COLORS[mode] for mode, twin in TWINS.items()}
    labels: list[str] = []
    for mode, label in LABELS.items():
        scores = protocol[protocol["mode"] == mode].test_accuracy
        plotting.show_end(axes[0, 2], len(labels), scores, summary["test_accuracy"][mode], colors[mode])
        labels.append(label)
    for mode, numbers in summary["after"].items():
        scores = frame[(frame.part == "after") & (frame["mode"] == mode)].test_accuracy
        plotting.show_end(axes[0, 2], len(labels), scores, numbers["test_accuracy"], COLORS[mode])
        labels.append(f"{mode}, after")
    scores, numbers = frame[frame.part == "data start"].test_accuracy, summary["data_start"]["provided"]
    plotting.show_end(axes[0, 2], len(labels), scores, numbers["test_accuracy"], COLORS["weight"])
    labels.append("weight, data")
    axes[0, 2].set(xlabel="test accuracy", yticks=range(len(labels)), yticklabels=labels)
    for axis in (axes[0, 1].yaxis, axes[0, 2].xaxis):
        plotting.in_percent(axis, 1)
    axes[0, 2].invert_yaxis()
    plotting.label_panels(axes)
    return figure


def draw_rates(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of the step sizes: accuracy against them, and the curves and ends at each mode's best."""
    figure, axes = plotting.subplots(1, 3, height=2.4)
    grid = frame[frame.part == "tuned"]
    for row, mode in enumerate(BY_HAND):
        rows = grid[grid["mode"] == mode]
        swept = rows[rows.seed == 0].sort_values("learning_rate")
        ends = last(swept.validation_accuracy)
        learned = swept.learning_rate <= summary["tuned"][mode]["largest_that_learns"]
        axes[0, 0].plot(swept.learning_rate, np.where(learned, ends, np.nan), ".-", color=COLORS[mode], label=mode)
        # Where nothing is learned: a cross on the axis, one mode's above the other's.
        failed = swept.learning_rate[~learned]
        cross = {"color": COLORS[mode], "markersize": 4, "transform": axes[0, 0].get_xaxis_transform()}
        axes[0, 0].plot(failed, [0.03 + 0.05 * row] * len(failed), "x", **cross)
        best = rows[rows.learning_rate == summary["tuned"][mode]["learning_rate"]]
        plotting.show_seeds(axes[0, 1], best.validation_accuracy, COLORS[mode], first=1)
        interval = summary["tuned"][mode]["test_accuracy"]
        plotting.show_end(axes[0, 2], row, best.test_accuracy, interval, COLORS[mode])
    axes[0, 0].set(xlabel="step size", ylabel="validation accuracy", xscale="log")
    axes[0, 0].legend()
    axes[0, 1].set(xlabel="epoch", ylabel="validation accuracy")
    axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 2].set(xlabel="test accuracy", yticks=range(len(BY_HAND)), yticklabels=BY_HAND)
    for axis in (axes[0, 0].yaxis, axes[0, 1].yaxis, axes[0, 2].xaxis):
        plotting.in_percent(axis, 1)
    axes[0, 2].invert_yaxis()
    plotting.label_panels(axes)
    return figure


def draw_relu(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of the ReLU: shares of active units in both layers, normalized before and after the ReLU."""
    figure, axes = plotting.subplots(1, 2, height=2.6, sharey=True)
    for index, layer in enumerate(("convolution", "affine layer")):
        ax = axes[0, index]
        for mode in BY_HAND:
            for part, style in (("protocol", ".-"), ("after", ".--")):
                rows = frame[(frame.part == part) & (frame["mode"] == mode)]
                if len(rows):
                    # Before training the running statistics are 0 and 1 and normalize nothing: no point for batch.
                    start = 1 if mode == "batch" else 0
                    shares = np.array(rows.active.tolist(), float)[:, start:, index]  # (seeds, epochs)
                    plotting.show_seeds(ax, shares, COLORS[mode], first=start, style=style)
        ax.set(xlabel="epoch", title=layer, xticks=range(int(summary["protocol"]["epochs"]) + 1))
    axes[0, 0].set_ylabel("share of active units")
    for mode in BY_HAND:
        axes[0, 0].plot([], [], color=COLORS[mode], label=mode)
    for label, style in (("normalized before the ReLU", "-"), ("after it", "--")):
        axes[0, 0].plot([], [], style, color="0.4", label=label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    plotting.label_panels(axes)
    return figure


def draw_batch_sizes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the fourth figure: test accuracy after one epoch against batch size, every seed and the interval."""
    figure, axes = plotting.subplots(1, 1, height=2.6, width=plotting.NARROW)
    ax, sizes = axes[0, 0], batch_size_runs(frame)
    for number, mode in enumerate(BY_HAND):
        beside = 1.1 ** (number - 1.5)  # so that intervals stand side by side
        by_size = {int(size): modes[mode] for size, modes in summary["batch_size"].items() if mode in modes}
        order = sorted(by_size)
        low, mean, high = plotting.bounds([by_size[size] for size in order])
        style = {"color": COLORS[mode], "label": mode, "elinewidth": 0.8, "linewidth": 1}
        ax.errorbar(np.array(order) * beside, mean, [mean - low, high - mean], **style)
        rows = sizes[sizes["mode"] == mode]
        ax.plot(rows.batch_size * beside, rows.test_accuracy, ".", color=COLORS[mode])
    usual = str(summary["protocol"]["batch_size"])  # where the momentum that goes with the size is the fixed one
    fixed = {int(size): modes["batch_fixed"] for size, modes in summary["batch_size"].items() if "batch_fixed" in modes}
    fixed[int(usual)] = summary["batch_size"][usual]["batch"]
    order = sorted(fixed)
    means = [fixed[size]["mean"] for size in order]
    ax.plot(order, means, ":", color=COLORS["batch"], label="batch, fixed momentum")
    ax.set(xlabel="batch size", ylabel="test accuracy after one epoch", xscale="log")
    ax.set_xticks(sorted(set(sizes.batch_size)), sorted(set(sizes.batch_size)))
    ax.minorticks_off()
    plotting.in_percent(ax.yaxis, 0)
    ax.legend()
    return figure
