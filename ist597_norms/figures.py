"""The figures of problem 1's comparison: accuracies, ReLUs, batch sizes, depth, and what is averaged over what.

figure = FIGURES[""](frame, summary)      frame: p1_compare_norms's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd

from ist597_norms.references import TWINS
from ist597_norms.summary import PROVIDED, TUNED, batch_size_runs, with_variants
from utils import plotting
from utils.records import last

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


FIGURES = {"": draw, "_batch_size": draw_batch_sizes}
