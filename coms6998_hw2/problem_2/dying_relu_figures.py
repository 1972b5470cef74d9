"""The figures of questions 2.2 and 2.3: the collapse, the map of networks born dead, and where the constant ones sit.

figure = draw(frame, summary)      frame: p2_2_dying_relu's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from coms6998_hw2.problem_2.relu_ensemble import HALF_INTERVAL, TARGETS
from utils import plotting
from utils.records import floats

LABELS = {"relu": "ReLU", "leaky": "leaky ReLU (0.01)"}
COLORS = {"relu": plotting.BLUE, "leaky": plotting.VERMILION}
MARKERS = {"relu": "o", "leaky": "s"}
FATES = {  # where a network ends: the label, the color and the hatch of each
    "collapsed": ("collapsed", plotting.BLACK, ""),
    "half": ("flat on one side", plotting.ORANGE, "///"),
    "alive": ("in between", plotting.SKY, ""),
    "fitted": ("fitted", plotting.GREEN, "..."),
}
BIRTHS = {"both": "dead on both sides", "one": "on one side", "none": "on none"}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the main figure: collapse against epochs and threshold, born dead against depth, examples of each kind."""
    figure, axes = plotting.subplots(2, 2, height=4.3)
    draw_epochs(axes[0, 0], summary)
    draw_thresholds(axes[0, 1], summary)
    draw_depths(axes[1, 0], summary)
    draw_examples(axes[1, 1], frame[(frame.variation == "none") & (frame.slope == 0)].iloc[0].examples)
    plotting.label_panels(axes)
    return figure


def draw_epochs(ax: Axes, summary: dict) -> None:
    """Draw the share of networks that have collapsed, and that are exactly constant, against the epoch."""
    for name, label in LABELS.items():
        by_epoch = {int(epoch): shares for epoch, shares in summary[name]["epochs"].items() if epoch != "0"}
        for key, style in (("collapsed", "-"), ("constant", ":")):
            intervals = [shares[key] for shares in by_epoch.values()]
            plotting.show_interval(ax, list(by_epoch), intervals, COLORS[name], linestyle=style, marker=MARKERS[name])
        ax.plot([], [], color=COLORS[name], marker=MARKERS[name], label=label)
    ax.plot([], [], "-", color="0.4", label="$R^2 < 0.01$")
    ax.plot([], [], ":", color="0.4", label="exactly constant")
    ax.axhline(0.9, color=plotting.BLACK, linewidth=0.6, linestyle="--")
    ax.set(xlabel="epoch", ylabel="fraction of networks", xscale="log", ylim=(0, 1.02))
    ax.set_xticks(list(by_epoch), [str(epoch) for epoch in by_epoch], minor=False)
    ax.minorticks_off()
    ax.legend(loc="lower left")


def draw_thresholds(ax: Axes, summary: dict) -> None:
    """Draw the share of networks whose output's range is below a threshold, against the threshold."""
    for (name, label), line in zip(LABELS.items(), ("-", "--"), strict=True):
        ax.plot(summary["protocol"]["thresholds"], summary[name]["below"], line, color=COLORS[name], label=label)
    ax.set(xlabel="threshold on the output's relative range", ylabel="fraction below", xscale="log", ylim=(0, 1.02))
    ax.legend(loc="center left")


def draw_depths(ax: Axes, summary: dict) -> None:
    """Draw the probability to be born dead against the number of hidden layers, with the theory's bounds."""
    _, layers = simulated(summary)
    colors = (plotting.BLUE, plotting.VERMILION, plotting.GREEN, plotting.PURPLE)
    for width, color, line in zip((2, 3, 5, 10), colors, ("-", "--", "-.", ":"), strict=True):
        low, high = np.array([summary["bounds"][f"{width}x{hidden}"] for hidden in layers]).T
        shares = [summary["born_dead"][f"{width}x{hidden}"]["fraction"] for hidden in layers]
        ax.fill_between(layers, low, high, color=color, alpha=0.25, linewidth=0)
        ax.plot(layers, shares, line, color=color, label=f"width {width}")
    ax.set(xlabel="hidden layers", ylabel="probability to be born dead", ylim=(0, 1.02))
    ax.legend()


def draw_examples(ax: Axes, curves: dict) -> None:
    """Draw the target and the output of one network of each kind: `curves` by kind, on 101 points of the interval."""
    grid = np.linspace(-HALF_INTERVAL, HALF_INTERVAL, 101)
    ax.plot(grid, np.abs(grid), color=plotting.BLACK, linewidth=3, alpha=0.25, label="target $|x|$")
    kinds = (
        ("collapsed", "collapsed", plotting.BLUE, "-"),
        ("half", "half-collapsed", plotting.ORANGE, "-."),
        ("alive", "alive", plotting.BLACK, "--"),
    )
    for kind, label, color, style in kinds:
        if kind in curves:
            ax.plot(grid, curves[kind], style, color=color, label=label, linewidth=1)
    ax.set(xlabel="$x$", ylabel="output")
    ax.legend(loc="upper center")


def draw_map(summary: dict) -> plotting.Figure:
    """Return the map of the born-dead probability over width and depth, with contours."""
    figure, axes = plotting.subplots(height=2.3, width=plotting.NARROW)
    widths, layers = simulated(summary)
    fraction = np.array([[summary["born_dead"][f"{w}x{hidden}"]["fraction"] for w in widths] for hidden in layers])
    mesh = axes[0, 0].pcolormesh(widths, layers, fraction, cmap="cividis", vmin=0, vmax=1, rasterized=True)
    lines = axes[0, 0].contour(widths, layers, fraction, levels=[0.01, 0.1, 0.5, 0.9], colors="white", linewidths=1)
    axes[0, 0].clabel(lines, fmt=lambda level: f"{level:.0%}", fontsize=7)
    axes[0, 0].set(xlabel="width", ylabel="hidden layers", xticks=widths)
    axes[0, 0].grid(False)
    figure.colorbar(mesh, label="probability to be born dead")
    return figure


def draw_values(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return where the constant networks sit on three targets or losses, and the collapse against the leak's slope."""
    figure, axes = plotting.subplots(1, 4, height=2.2)
    titles = {"none": "$|x|$, MSE", "x_sin_5x": "$x\\,\\sin 5x$, MSE", "x_sin_5x mae": "$x\\,\\sin 5x$, MAE"}
    x = torch.linspace(-HALF_INTERVAL, HALF_INTERVAL, 100_001, dtype=torch.float64)
    for ax, (variation, title) in zip(axes[0, :3], titles.items(), strict=True):
        row = frame[(frame.variation == variation) & (frame.slope == 0)].iloc[0]
        constant = floats(row.range) == 0
        y = TARGETS[row.target](x).numpy()  # whose mean does not depend on torch's number of threads
        least, greatest = float(y.mean()) - 0.25, float(y.mean()) + 0.25
        values = np.clip(floats(row.value)[constant], least, greatest)
        ax.hist(values, bins=40, range=(least, greatest), color=plotting.BLUE)
        ax.axvline(y.mean(), color=plotting.BLACK, linewidth=0.8, label="mean")
        ax.axvline(np.median(y), color=plotting.BLACK, linewidth=0.8, linestyle="--", label="median")
        ax.set(title=title, xlabel="output", yscale="log")
    axes[0, 0].set_ylabel("constant networks")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    by_slope = {0.0: summary["relu"], summary["protocol"]["slope"]: summary["leaky"]}
    for name, numbers in summary["variations"].items():
        if name.startswith("slope "):
            by_slope[float(name.removeprefix("slope "))] = numbers
    slopes = sorted(by_slope)
    ax = axes[0, 3]
    for key, color, marker in (("collapsed", plotting.BLUE, "o"), ("fitted", plotting.GREEN, "s")):
        shares = [by_slope[slope][key]["fraction"] for slope in slopes]
        ax.plot(slopes, shares, marker=marker, color=color, label=key)
    ax.set(xlabel="slope", ylabel="fraction", ylim=(0, 1.02))
    ax.set_xscale("symlog", linthresh=1e-3)
    ax.set_xticks([0, 1e-3, 1e-2, 1e-1], ["0", ".001", ".01", ".1"])
    ax.minorticks_off()
    ax.set_xlim(-2e-4, 0.5)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    plotting.label_panels(axes)
    return figure


def simulated(summary: dict) -> tuple[list[int], list[int]]:
    """Return the widths and the numbers of hidden layers of the networks counted as born dead."""
    sizes = [[int(number) for number in key.split("x")] for key in summary["born_dead"]]
    widths, layers = (sorted(set(numbers)) for numbers in zip(*sizes, strict=True))
    return widths, layers


def draw_fates(summary: dict) -> plotting.Figure:
    """Return the figure of who dies when: from birth to fate, and leaky networks' collapse by dead layers at birth."""
    figure, axes = plotting.subplots(1, 3, height=2.3, width_ratios=(1, 1, 0.9))
    for ax, (name, label) in zip(axes[0], LABELS.items(), strict=False):
        for row, birth in enumerate(BIRTHS):
            counts, left = summary[name]["fates"][birth], 0
            total = sum(counts.values())
            for fate, (fate_label, color, hatch) in FATES.items():
                share = counts[fate] / max(total, 1)
                style = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
                ax.barh(row, share, left=left, label=fate_label if row == 0 else None, **style)
                left += share
            ax.annotate(f"{total:,}", (1.02, row), fontsize=6, va="center", annotation_clip=False)
        ax.set(title=label.split(" (")[0], xlabel="share of networks", xlim=(0, 1))
        ax.set_yticks(range(len(BIRTHS)), BIRTHS.values() if ax is axes[0, 0] else [""] * len(BIRTHS), fontsize=6)
        ax.invert_yaxis()
        plotting.in_percent(ax.xaxis, 0)
    rows = [row for row in summary["leaky"]["by_dead_layers"] if row["collapsed"]["n"] >= 10]
    low, share, high = plotting.bounds([row["collapsed"] for row in rows])
    numbers = [row["dead_layers"] for row in rows]
    last = axes[0, 2]
    last.errorbar(numbers, share, [share - low, high - share], color=COLORS["leaky"], marker="o", markersize=3)
    last.set(xlabel="dead layers at birth", ylabel="collapsed", title="leaky ReLU", xticks=numbers[::2])
    plotting.in_percent(last.yaxis, 0)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    plotting.label_panels(axes)
    return figure
