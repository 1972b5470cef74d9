"""The figures of question 2.1: gradients and training with each initialization, and the layers' violins.

figure = draw(frame, summary)      frame: p2_1_vanishing_gradients's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd

from coms6998_hw2.problem_2.deep_network import DEPTH, WIDTH, standard_deviation
from utils import plotting
from utils.records import floats

COLORS = {
    "glorot": plotting.BLACK,
    "he": plotting.PURPLE,
    "glorot_x4": plotting.PURPLE,  # He's is not used with the sigmoid
    "0.01": plotting.SKY,
    "0.05": plotting.BLUE,
    "0.1": plotting.GREEN,
    "0.14": plotting.ORANGE,
    "0.28": plotting.VERMILION,
    "1": "#7F3C00",  # brown: the palette has one color too few
}
MARKERS = dict(zip(COLORS, "oDDsv^<>x", strict=True))
LABELS = {scheme: rf"$\sigma$ = {scheme}" for scheme in COLORS}
LABELS |= {"glorot": "Glorot", "he": "He", "glorot_x4": r"4 $\times$ Glorot"}
NAMES = {"tanh": "tanh", "sigmoid": "sigmoid", "relu": "ReLU"}
OF_ACTIVATIONS = {"tanh": (plotting.BLUE, "-", "o"), "sigmoid": (plotting.ORANGE, "--", "s"), "relu": ("0.3", ":", "^")}
WITH_VIOLINS = ["0.01", "0.1", "1", "glorot", "he"]  # too small, about right, too large, and the remedies


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the main figure: gradient against the weights' deviation, Glorot beside He for ReLU, training losses."""
    figure, axes = plotting.mosaic("aab;aac;def", height=5.2)
    _draw_against_deviation(axes[0], summary)
    for ax, depth in zip(axes[1:3], (DEPTH, frame.depth.max()), strict=True):
        _draw_glorot_beside_he(ax, summary, depth)
    handles = {}  # by label: several panels show the same setting
    for ax, (activation, rows) in zip(axes[3:], frame.groupby("activation", sort=False), strict=True):
        _draw_training(ax, activation, rows)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    axes[3].set_ylabel("training loss")
    for ax in axes[4:]:
        ax.sharey(axes[3])
        ax.tick_params(labelleft=False)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    plotting.label_panels(axes)
    return figure


def _draw_against_deviation(ax: plotting.Axes, summary: dict) -> None:
    """Draw the gradient of layer 1 over layer 5's against the hidden weights' deviation: theory and networks."""
    for activation, (color, line, marker) in OF_ACTIVATIONS.items():
        numbers = summary["theory"][activation]
        ax.plot(numbers["deviations"], numbers["gradient"], line, color=color)
        for setting in summary["settings"]:
            if setting["activation"] == activation and setting["depth"] == DEPTH:
                low, ratio, high = plotting.bounds(summary[setting["name"]]["relative_gradient"][:1])
                x = standard_deviation(setting["scheme"], WIDTH, WIDTH)
                ax.errorbar(x, ratio, [ratio - low, high - ratio], color=color, marker=marker, markersize=4)
        ax.plot([], [], line, color=color, marker=marker, markersize=4, label=NAMES[activation])
    ax.axhline(1, color="0.6", linewidth=0.6, zorder=0)
    for scheme in ("glorot", "he", "glorot_x4"):
        x = standard_deviation(scheme, WIDTH, WIDTH)
        ax.axvline(x, color="0.6", linewidth=0.6, zorder=0)
        ax.text(x, 0.02, LABELS[scheme], transform=ax.get_xaxis_transform(), rotation=90, ha="right", fontsize=6)
    ax.set(xscale="log", yscale="log", xlabel=r"standard deviation $\sigma$ of the hidden weights")
    ax.set_ylabel("gradient, layer 1 / layer 5")
    ax.legend(loc="upper left")


def _draw_glorot_beside_he(ax: plotting.Axes, summary: dict, depth: int) -> None:
    """Draw the gradient by layer over the last one's in a ReLU network of `depth` layers, measured and predicted."""
    layers = np.arange(1, depth + 1)
    for scheme in ("glorot", "he"):
        numbers = summary[f"relu_{scheme}" if depth == DEPTH else f"relu_{scheme}_{depth}_layers"]
        low, ratio, high = plotting.bounds(numbers["relative_gradient"])
        fmt = {"glorot": "o", "he": "D"}[scheme]
        bars = [ratio - low, high - ratio]
        ax.errorbar(layers, ratio, bars, fmt=fmt, color=COLORS[scheme], markersize=3, label=LABELS[scheme])
        ax.plot(layers, numbers["relative_gradient_theory"], color=COLORS[scheme], linewidth=0.8)
    ax.set(title=f"ReLU, {depth} layers", xlabel="hidden layer", yscale="log")
    ax.set_xticks(layers if depth == DEPTH else [1, depth // 2, depth])
    ax.set_ylabel(f"gradient / layer {depth}'s")
    if depth == DEPTH:
        ax.set_yticks([1 / 4, 1 / 2, 1], ["1/4", "1/2", "1"])
        ax.minorticks_off()
    else:
        ax.legend(loc="lower right")


def _draw_training(ax: plotting.Axes, activation: str, rows: pd.DataFrame) -> None:
    """Draw one activation's training losses, every seed and the mean; those of deep networks are dashed."""
    for (depth, scheme), runs in rows.groupby(["depth", "scheme"], sort=False):
        losses, line = floats(runs.train_loss), "-" if depth == DEPTH else "--"
        label = LABELS[scheme] if depth == DEPTH else f"{LABELS[scheme]}, {depth} layers"
        ax.plot(losses.T, line, color=COLORS[scheme], linewidth=0.5, alpha=0.5)
        ax.plot(losses.mean(axis=0), line, color=COLORS[scheme], marker=MARKERS[scheme], markersize=3, label=label)
    ax.set(title=NAMES[activation], xlabel="epoch", yscale="log", ylim=(1e-2, 20), xticks=range(losses.shape[1]))


def draw_violins(frame: pd.DataFrame, activation: str) -> plotting.Figure:
    """Return one activation's violins of the first seed, layers 1 to 5: a row for each telling initialization.

    A column has one scale: linear for the activations of tanh and sigmoid, which are bounded, and else that of the
    logarithm of the values' size, of which the figure shows the distribution; values of zero are left out of it.
    """
    rows = frame[(frame.activation == activation) & (frame.depth == DEPTH) & (frame.seed == frame.seed.min())]
    rows = rows[rows.scheme.isin(WITH_VIOLINS)]
    figure, axes = plotting.subplots(len(rows), 4, height=0.5 * len(rows) + 0.5, sharex=True, sharey="col")
    layers = np.arange(1, DEPTH + 1)
    bounded = activation != "relu"
    for line, row in zip(axes, rows.itertuples(), strict=True):
        columns = [
            ("|pre-activation|", row.quantiles_preactivation, True),
            ("activation" if bounded else "|activation|", row.quantiles_activation, not bounded),
            ("|gradient| (activation)", row.quantiles_gradient_activation, True),
            ("|gradient| (weight)", row.quantiles_gradient_weight, True),
        ]
        for ax, (title, quantiles, logarithmic) in zip(line, columns, strict=True):
            there, values = list(layers), list(floats(quantiles))  # by layer, each (quantiles,)
            if logarithmic:
                there = [layer for layer, numbers in zip(layers, values, strict=True) if numbers.any()]
                values = [np.log10(np.abs(numbers[numbers != 0])) for numbers in values if numbers.any()]
                plotting.in_powers_of_ten(ax.yaxis)
            plotting.show_violins(ax, there, values, COLORS[row.scheme])
            if ax in axes[0]:
                ax.set_title(title)
        line[0].set_ylabel(LABELS[row.scheme], fontsize=7)
    for ax in axes.flat:
        ax.tick_params(labelsize=6)
    axes[-1, 0].set_xticks(layers)
    figure.align_ylabels(axes[:, 0])
    figure.supxlabel("hidden layer", fontsize=8)
    return figure
