"""The figures of problem 3: curves and accuracies, learned parameters, what question 3.1 asks, and fewer images.

figure = draw(frame, summary)      frame: p3_lenet5's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from utils import plotting

FEW_UNITS = ("c1", "c3")  # whose units are shown as points on their violins
LAYERS = ("c1", "c3", "c5", "f6")


def chosen(
    frame: pd.DataFrame, summary: dict, variant: str, rate: float | None = None, images: int | None = None
) -> pd.DataFrame:
    """Return the runs of a variant at its own rate or another, on all images or fewer, for their usual epochs."""
    protocol = summary["protocol"]
    if images is None or images == protocol["images"]:
        images, epochs, rates = protocol["images"], protocol["epochs"], summary["learning_rate"]
    else:
        fewer = summary["images"][str(images)]
        epochs, rates = fewer["epochs"], fewer["learning_rate"]
    rows = frame[(frame.variant == variant) & (frame.images == images) & (frame.epochs == epochs)]
    return rows[rows.learning_rate == (rate or rates[variant])]


def looks_of(summary: dict) -> dict[str, dict]:
    """Return, by variant in the order of the rows, its "label", "color", "line" and "marker"."""
    return {row["name"]: row for row in summary["variants"]}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the main figure: training and validation loss, evaluation mode, and test accuracy, every seed."""
    figure, axes = plotting.subplots(1, 3, height=2.7)
    looks = looks_of(summary)
    axes[0, 1].sharey(axes[0, 0])
    for row, variant in enumerate(looks):
        rows, color = chosen(frame, summary, variant), looks[variant]["color"]
        for ax, key in zip(axes[0, :2], ("train_loss", "validation_loss"), strict=True):
            style = looks[variant]["marker"] + looks[variant]["line"]
            plotting.show_seeds(ax, rows[key], color, first=1, style=style, label=looks[variant]["label"])
        plotting.show_end(axes[0, 2], row, rows.test_accuracy, summary["test_accuracy"][variant], color)
    axes[0, 0].set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes[0, 1].set(xlabel="epoch", ylabel="validation loss", yscale="log")
    _name_rows(axes[0, 2], looks)
    axes[0, 2].set_xlabel("test accuracy")
    plotting.in_percent(axes[0, 2].xaxis, 1)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def _name_rows(ax: Axes, looks: dict) -> None:
    """Label a row for each variant, the first on top."""
    ax.set_yticks(range(len(looks)), [look["label"] for look in looks.values()], fontsize=6)
    ax.invert_yaxis()


def draw_violins(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return question 3.3's figure: the distribution of gamma and beta in each layer, with and without input norm."""
    figure, axes = plotting.subplots(2, 1, height=3.2, sharex=True)
    looks = looks_of(summary)
    layers = ("input", *LAYERS)
    for offset, variant in ((-0.2, "bn"), (0.2, "bn_input")):
        rows = chosen(frame, summary, variant)
        for ax, key in zip(axes[:, 0], ("gamma", "beta"), strict=True):
            for position, layer in enumerate(layers):
                values = [value for run in rows[key] for value in run.get(layer, [])]
                middle = position + offset
                if len(values) > len(rows):
                    plotting.show_violins(ax, [middle], [np.array(values)], looks[variant]["color"], width=0.36)
                    if layer in FEW_UNITS:
                        ax.plot([middle] * len(values), values, ".", color=plotting.BLACK, markersize=2)
                elif values:  # the input's norm has one gamma and one beta: a point for each seed
                    ax.plot([middle] * len(values), values, "o", color=looks[variant]["color"])
            ax.set_ylabel({"gamma": r"$\gamma$ (scale)", "beta": r"$\beta$ (shift)"}[key])
    for variant in ("bn", "bn_input"):
        axes[0, 0].plot([], [], "s", color=looks[variant]["color"], label=looks[variant]["label"])
    axes[0, 0].legend()
    axes[1, 0].set_xticks(range(len(layers)), [layer if layer == "input" else layer.upper() for layer in layers])
    axes[1, 0].set_xlim(-0.5, len(layers) - 0.5)
    plotting.label_panels(axes)
    return figure


def draw_causes(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return question 3.1's figure: accuracy without some of the units, drift of tanh's inputs, variance shift."""
    figure, axes = plotting.subplots(2, 2, height=4.4)
    looks, deletion = looks_of(summary), summary["deletion"]
    axes[0, 1].sharey(axes[0, 0])
    for variant, look in looks.items():
        color, style = look["color"], {"linestyle": look["line"], "marker": look["marker"], "markersize": 3}
        for ax, layer in zip(axes[0], ("c5", "f6"), strict=True):
            if variant in deletion:
                plotting.show_interval(
                    ax, summary["deletion"]["shares"], deletion[variant][layer]["accuracy"], color, **style
                )
        if variant in ("none", "bn", "dropout"):
            rows = chosen(frame, summary, variant, summary["protocol"]["common_rate"])
            drifts = [run["c5"] for run in rows.drift]
            plotting.show_seeds(axes[1, 0], drifts, color, first=2, style=look["marker"] + look["line"])
        shift = summary["variance_shift"][variant]
        if shift:  # of the variants with batch norm
            intervals = [shift[layer] for layer in LAYERS]
            plotting.show_interval(axes[1, 1], range(len(LAYERS)), intervals, color, **style)
        axes[1, 0].plot([], [], color=color, **style, label=look["label"])
    for ax, layer in zip(axes[0], ("C5 (120 units)", "F6 (84 units)"), strict=True):
        ax.set(xlabel=f"share of units deleted in {layer}", ylabel="test accuracy")
        plotting.in_percent(ax.xaxis, 0)
    plotting.in_percent(axes[0, 0].yaxis, 0)
    axes[1, 0].set(xlabel="epoch", ylabel="drift of C5's mean (s.d.)", yscale="log")
    axes[1, 1].set(ylabel="variance, evaluation / training", xticks=range(len(LAYERS)))
    axes[1, 1].set_xticklabels([layer.upper() for layer in LAYERS])
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def draw_images(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure of few images: test error against the number of training images, every seed beside its mean."""
    figure, axes = plotting.subplots(1, 1, height=2.6)
    looks = looks_of(summary)
    ax, protocol = axes[0, 0], summary["protocol"]
    scores = {int(n): row["test_accuracy"] for n, row in summary["images"].items()}
    scores[protocol["images"]] = summary["test_accuracy"]
    order = sorted(scores)
    for variant, beside in zip(looks, np.geomspace(0.75, 1 / 0.75, len(looks)), strict=True):
        color, x = looks[variant]["color"], np.array(order) * beside
        low, accuracy, high = plotting.bounds([scores[n][variant] for n in order])
        style = {
            "linestyle": looks[variant]["line"],
            "linewidth": 0.5,
            "elinewidth": 1.2,
            "marker": looks[variant]["marker"] or "x",
            "markersize": 3,
        }
        bars = [high - accuracy, accuracy - low]
        ax.errorbar(x, 1 - accuracy, bars, color=color, label=looks[variant]["label"], **style)
        for n, position in zip(order, x, strict=True):
            errors = 1 - chosen(frame, summary, variant, images=n).test_accuracy
            ax.plot([position * 1.04] * len(errors), errors, ".", color=color, alpha=0.6, markersize=3)
    ax.set(xlabel="training images", ylabel="test error", xscale="log", yscale="log")
    ax.set_xticks(order, [f"{n:,}" for n in order])
    ax.set_yticks([0.01, 0.02, 0.05, 0.1])
    ax.minorticks_off()
    plotting.in_percent(ax.yaxis, 0)
    ax.legend()
    return figure
