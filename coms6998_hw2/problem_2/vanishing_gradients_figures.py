"""The figures of question 2.1: signals, gradients and training with each initialization, and the layers' violins.

figure = draw(frame, summary)      frame: p2_1_vanishing_gradients's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd

from coms6998_hw2.problem_2.deep_network import DEPTH
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
LABELS = {scheme: rf"$\sigma$ = {scheme}" for scheme in COLORS}
LABELS |= {"glorot": "Glorot", "he": "He", "glorot_x4": r"4 $\times$ Glorot"}
WITH_VIOLINS = ["0.01", "0.1", "1", "glorot", "he"]  # too small, about right, too large, and the remedies


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the main figure, a column each activation: signal and gradient with the theory, and training loss.

    The training loss of the deep ReLU networks is dashed.
    """
    figure, axes = plotting.subplots(3, 3, height=5.0, sharey="row")
    shallow, deep = frame[frame.depth == DEPTH], frame[frame.depth > DEPTH]
    layers = np.arange(1, DEPTH + 1)
    for column, (activation, rows) in zip(axes.T, shallow.groupby("activation", sort=False), strict=True):
        signals, gradients, training = column
        for scheme, runs in rows.groupby("scheme", sort=False):
            color, numbers = COLORS[scheme], summary[f"{activation}_{scheme}"]
            style = {"color": color, "linestyle": "none", "marker": "o", "label": LABELS[scheme]}
            signals.plot(layers, [layer["mean"] for layer in numbers["rms_preactivation"]], **style)
            signals.plot(layers, numbers["rms_preactivation_theory"], color=color, linewidth=0.8)
            gradients.plot(layers, [layer["mean"] for layer in numbers["relative_gradient"]], **style)
            gradients.plot(layers, numbers["relative_gradient_theory"], color=color, linewidth=0.8)
            losses = floats(runs.train_loss)
            training.plot(losses.T, color=color, linewidth=0.5, alpha=0.5)
            training.plot(losses.mean(axis=0), color=color)
        title = "ReLU" if activation == "relu" else activation
        signals.set(title=title, yscale="log", xlabel="hidden layer", xticks=layers)
        gradients.set(yscale="log", xlabel="hidden layer", xticks=layers)
        training.set(xlabel="epoch", yscale="log", ylim=(1e-2, 20), xticks=range(losses.shape[1]))
    for scheme, runs in deep.groupby("scheme", sort=False):
        losses = floats(runs.train_loss)
        axes[2, 2].plot(losses.T, "--", color=COLORS[scheme], linewidth=0.5, alpha=0.5)
        axes[2, 2].plot(losses.mean(axis=0), "--", color=COLORS[scheme])
    for ax, label in zip(axes[:, 0], ("pre-activation (rms)", "gradient / layer 5's", "training loss"), strict=True):
        ax.set_ylabel(label)
    plotting.label_panels(axes)
    axes[0, 0].plot([], [], color="0.4", linewidth=0.8, label="theory")
    axes[0, 0].plot([], [], "--", color="0.4", label=f"{deep.depth.iloc[0]} layers")
    handles = {}  # by label: several panels show the same setting
    for ax in axes[0]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return figure


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
